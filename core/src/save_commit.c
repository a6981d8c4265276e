/* SPDX-License-Identifier: Apache-2.0 */
/* save_commit.c - from finished pods to a durable checkpoint: the committer's thread. */
#include "save_put.h"

#include "checkpoint.h"

#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the record -------------------------------------------------------------------------------------------------- */

static uint64_t hash(const cm_save *save, const void *bytes, size_t size)
{
    return cm_fingerprint_of(save->store->places, bytes, size).high;
}

/* What the checkpoint consists of besides pods, collected until all of it can be put at once. */
typedef struct record {
    cm_save *save;
    cm_batch batch;
    atomic_uint_fast64_t stored; /* that nobody asks for */
    cm_buffer content;           /* the checkpoint itself, which is put with the commit */
    cm_id id;
} record;

static void clear_record(record *r)
{
    cm_batch_clear(&r->batch);
    cm_buffer_free(&r->content);
}

/* A node's place is the session, its level and its first key: nodes end where keys say so, and thus begin where they did. */
static int put_node(void *arg, const cm_buffer *content, cm_id *id)
{
    record *r = arg;
    cm_reader reader = cm_reader_of(content->data + 4, content->size - 4); /* behind the magic */
    uint64_t level = cm_read_varint(&reader), count = cm_read_varint(&reader), size = cm_read_varint(&reader);
    const uint8_t *key = count ? cm_read_bytes(&reader, size) : NULL;
    cm_offer node = {.kind = CM_KIND_MAP,
                     .nowhere = !key,
                     .data = content->data,
                     .size = content->size,
                     .id = id,
                     .stored = &r->stored};
    if (key)
        node.place = (cm_place){.page = hash(r->save, key, size),
                                .level = (uint32_t)level,
                                .index = hash(r->save, r->save->session, strlen(r->save->session))};
    return cm_batch_put(&r->batch, node);
}

static int put_variables(record *r, const cm_variable *variables, size_t count, cm_id *root)
{
    cm_cleanup(cm_cleanup_free) cm_map_entry *entries = malloc((count + 1) * sizeof *entries);
    cm_cleanup(cm_cleanup_free) size_t *ends = malloc((count + 1) * sizeof *ends);
    cm_cleanup(cm_buffer_free) cm_buffer values = CM_BUFFER_INIT;
    for (size_t i = 0; ends && i < count; i++) {
        cm_variable_encode(&variables[i], &values);
        ends[i] = values.size;
    }
    if (!entries || !ends || values.error)
        return cm_fail(ENOMEM, "out of memory");
    for (size_t i = 0, start = 0; i < count; start = ends[i++])
        entries[i] = (cm_map_entry){.key = (const uint8_t *)variables[i].name,
                                    .key_size = strlen(variables[i].name),
                                    .value = values.data + start,
                                    .value_size = ends[i] - start};
    return cm_map_build(entries, count, put_node, r, root);
}

enum { PAGE_KEY = 8, PAGE_VALUE = 41, PAGE_ENTRY = PAGE_KEY + PAGE_VALUE };

static int order_pages(const void *a, const void *b)
{
    return memcmp(a, b, PAGE_KEY);
}

/*
 * The pages that references from other pods lead to, and those above them: how a load finds them and their places. An
 * edit keeps the head's: what it adds has no such references.
 */
static int put_pages(record *r, cm_id *root)
{
    cm_save *save = r->save;
    if (save->edit && save->parent) {
        *root = save->parent->page_map;
        return 0;
    }
    for (size_t i = 0; i < save->variable_count; i++) {
        const cm_saved_variable *v = &save->variables[i];
        cm_pod *pod = save->pods[v->pod->sequence];
        /* Found through what the fragment is of; and an object of another variable through that one. */
        pod->exported |= pod->kind == CM_POD_FRAGMENT || pod->sequence < v->first_pod;
    }
    for (uint32_t i = 0; i < save->pod_count; i++)
        for (cm_pod *pod = save->pods[i]; pod->exported && pod->parent && !pod->parent->exported; pod = pod->parent)
            pod->parent->exported = true;
    cm_cleanup(cm_buffer_free) cm_buffer bytes = CM_BUFFER_INIT;
    size_t count = 0;
    for (uint32_t i = 0; i < save->pod_count; i++) {
        const cm_pod *pod = save->pods[i];
        if (!pod->exported || !pod->finished)
            continue;
        uint8_t key[PAGE_KEY];
        cm_page page;
        cm_save_page_of(pod, &page);
        cm_page_key(pod->page, key);
        cm_buffer_append(&bytes, key, sizeof key);
        cm_page_encode(&page, &bytes);
        count++;
    }
    cm_cleanup(cm_cleanup_free) cm_map_entry *entries = malloc((count + 1) * sizeof *entries);
    if (!entries || bytes.error)
        return cm_fail(ENOMEM, "out of memory");
    if (count)
        qsort(bytes.data, count, PAGE_ENTRY, order_pages);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = bytes.data + i * PAGE_ENTRY;
        entries[i] = (cm_map_entry){.key = at, .key_size = PAGE_KEY, .value = at + PAGE_KEY, .value_size = PAGE_VALUE};
    }
    return cm_map_build(entries, count, put_node, r, root);
}

static int by_name(const void *name, const void *variable)
{
    return strcmp(name, ((const cm_variable *)variable)->name);
}

/* An edit that changed nothing: the checkpoint has the parent's variables. */
static bool untouched(const cm_save *save)
{
    return save->edit && save->parent && !save->variable_count && !save->carried_count;
}

/* Objects that several variables share are counted with the one that they were built for. */
static void count_stats(const cm_save *save, const cm_variable *variables, size_t count, cm_save_stats *stats)
{
    stats->pods_new = atomic_load(&save->pods_new);
    stats->bytes_written = atomic_load(&save->bytes_written);
    stats->walk_ns = (uint64_t)(save->commit_ns - save->begin_ns);
    stats->write_ns = (uint64_t)(clock_ns(CLOCK_MONOTONIC) - save->commit_ns);
    if (untouched(save)) {
        stats->logical_bytes = save->parent->stats.logical_bytes;
        stats->pods = save->parent->stats.pods;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        stats->logical_bytes += variables[i].size;
        stats->pods += variables[i].pods;
    }
    for (size_t i = 0; i < save->variable_count; i++) {
        const cm_saved_variable *v = &save->variables[i];
        if (cm_save_is_closed(v) && v->pod->sequence >= v->first_pod)
            continue; /* it is counted as what it is */
        const cm_variable *in = count ? bsearch(v->name, variables, count, sizeof *variables, by_name) : NULL;
        if (!in || in->root.page != v->pod->page)
            continue; /* the merge took theirs */
        bool own = v->pod->sequence >= v->first_pod && v->pod->sequence < v->end_pod;
        stats->logical_bytes -= in->size - (own ? CM_STREAM_FRAME + v->pod->tree_size : 0);
        stats->pods -= in->pods - (own ? v->pod->tree_pods : 0);
    }
}

/*
 * The stream of the whole namespace has every pod just once, in the place where it was walked; a variable that is an object of an
 * earlier one is a LONG_BINGET. That holds as long as nothing was taken over from elsewhere.
 */
static uint64_t namespace_size(const cm_save *save)
{
    uint64_t size = CM_STREAM_FRAME + 1; /* EMPTY_DICT */
    if (untouched(save))
        return save->parent->namespace_size;
    if (save->edit || save->arrived_count || save->carried_count)
        return 0;
    for (size_t i = 0; i < save->variable_count; i++) {
        const cm_saved_variable *v = &save->variables[i];
        bool own = v->pod->sequence >= v->first_pod && v->pod->sequence < v->end_pod;
        if (own && (v->index != v->pod->root || v->pod->kind != CM_POD_OBJECT))
            return 0;
        size += 5 + strlen(v->name) + (own ? v->pod->tree_size : CM_GET_SIZE) + 1; /* BINUNICODE, value, SETITEM */
    }
    return size;
}

/* What a reader would find in `c`, the parent has. */
static bool as_parent(const cm_save *save, const cm_checkpoint *c)
{
    const cm_checkpoint *p = save->parent;
    if (!p || !cm_id_equal(&p->variable_map, &c->variable_map) || !cm_id_equal(&p->page_map, &c->page_map))
        return false;
    size_t known = 0; /* what could not be saved may be gone: it cannot be brought back */
    for (size_t i = 0; i < c->unsaved_count; i++)
        for (size_t k = 0; k < p->unsaved_count; k++)
            known += strcmp(p->unsaved[2 * k], c->unsaved[2 * i]) == 0 &&
                     strcmp(p->unsaved[2 * k + 1], c->unsaved[2 * i + 1]) == 0;
    return known == c->unsaved_count;
}

/* What is unsaved, names and reasons by turns; an edit keeps what the parent says of names that it gave nothing. Borrows. */
static char **list_unsaved(const cm_save *save, const cm_variable *variables, size_t count, size_t *listed)
{
    const cm_checkpoint *parent = save->edit ? save->parent : NULL;
    size_t n = 0, most = save->unsaved_count + (parent ? parent->unsaved_count : 0);
    char **unsaved = malloc((2 * most + 1) * sizeof *unsaved);
    if (!unsaved)
        return NULL;
    for (size_t i = 0; i < save->unsaved_count; i++, n++) {
        unsaved[2 * n] = save->unsaved[i].name;
        unsaved[2 * n + 1] = save->unsaved[i].reason;
    }
    for (size_t i = 0; parent && i < parent->unsaved_count; i++) {
        if (count && bsearch(parent->unsaved[2 * i], variables, count, sizeof *variables, by_name))
            continue;
        unsaved[2 * n] = parent->unsaved[2 * i];
        unsaved[2 * n + 1] = parent->unsaved[2 * i + 1];
        n++;
    }
    *listed = n;
    return unsaved;
}

/* All but the checkpoint itself, which is encoded; unless nothing has changed. */
static int put_record(record *r, const cm_variable *variables, size_t count, uint64_t number, int64_t time)
{
    cm_save *save = r->save;
    cm_parent parent = {0};
    size_t unsaved_count;
    cm_cleanup(cm_cleanup_free) char **unsaved = list_unsaved(save, variables, count, &unsaved_count);
    if (!unsaved)
        return cm_fail(ENOMEM, "out of memory");
    cm_checkpoint c = {.session = save->session, /* borrows everything, for encoding only */
                       .number = number,
                       .time = time,
                       .message = save->message,
                       .code = save->code,
                       .cell = save->cell,
                       .variable_count = count,
                       .namespace_size = namespace_size(save),
                       .unsaved = unsaved,
                       .unsaved_count = unsaved_count};
    for (size_t i = 0; i < count && !c.previews; i++)
        c.previews = variables[i].preview_size != 0;
    if (save->parent) {
        parent = (cm_parent){save->parent->id, save->parent->number};
        c.parents = &parent;
        c.parent_count = 1;
    }
    int result = put_variables(r, variables, count, &c.variable_map);
    if (!result)
        result = put_pages(r, &c.page_map);
    if (result)
        return result;
    save->unchanged = save->if_changed && as_parent(save, &c);
    if (save->unchanged)
        return 0;
    result = cm_batch_flush(&r->batch);
    if (result)
        return result;
    count_stats(save, variables, count, &c.stats);
    result = cm_checkpoint_encode(&c, &r->content);
    return result ? result : cm_id_of(r->content.data, r->content.size, &r->id);
}

/* ---- committing -------------------------------------------------------------------------------------------------- */

/* From here on a cancel comes too late. */
static bool point_of_no_return(cm_save *save)
{
    pthread_mutex_lock(&save->lock);
    save->irrevocable = !save->cancelled;
    pthread_mutex_unlock(&save->lock);
    return save->irrevocable;
}

/* The checkpoint, with what it consists of put, as a child of the head as we know it. */
static int commit_record(record *r, const cm_variable *variables, size_t count, uint64_t number)
{
    cm_save *save = r->save;
    cm_content content = {.id = r->id, .kind = CM_KIND_CHECKPOINT, .data = r->content.data, .size = r->content.size};
    int result = cm_head_advance(save->store, &save->txn, save->pending, save->session, save->head, number, &content,
                                 save->conflict);
    if (!result)
        result = cm_checkpoint_make(save->store, &r->id, &r->content, content.stored, &save->checkpoint);
    if (!result)
        cm_checkpoint_remember(save->store, save->checkpoint, save->head->branch, variables, count);
    return result;
}

/* One try. -EEXIST: the head has moved. */
static int commit_once(record *r, const cm_variable *ours)
{
    cm_save *save = r->save;
    uint64_t number = save->head->last + 1;
    int64_t time = clock_ns(CLOCK_REALTIME);
    if (save->parent && time <= save->parent->time)
        time = save->parent->time + 1; /* a clock set back does not turn history round */
    cm_cleanup(cm_cleanup_free) cm_variable *variables = NULL;
    size_t count;
    int result = cm_save_merge(save, ours, &variables, &count);
    for (size_t i = 0; i < count && !result; i++)
        if (variables[i].changed == 0) { /* new or changed here */
            variables[i].changed = number;
            variables[i].changed_time = time;
        }
    if (!result)
        result = put_record(r, variables, count, number, time);
    if (!result && save->unchanged)
        return cm_checkpoint_copy(save->parent, &save->checkpoint);
    if (!result && !point_of_no_return(save))
        result = -ECANCELED;
    return result ? result : commit_record(r, variables, count, number);
}

static int follow_head(cm_save *save)
{
    cm_checkpoint_unref(save->parent);
    save->parent = NULL;
    cm_head_clear(save->head);
    return cm_save_open_head(save, NULL);
}

enum { TRIES = 100 }; /* each lost try is somebody else's commit */

cm_variable cm_save_given(const cm_saved_variable *v)
{
    return (cm_variable){.name = v->name,
                         .type = v->type,
                         .summary = v->summary,
                         .preview = v->preview,
                         .preview_size = v->preview_size};
}

/* A chunk of its own, whatever its size: it is read whole. */
static int put_preview(record *r, cm_saved_variable *v)
{
    if (!v->picture.size)
        return 0;
    v->preview_size = v->picture.size;
    return cm_batch_put(&r->batch, (cm_offer){.kind = CM_KIND_CHUNK,
                                              .nowhere = true,
                                              .data = v->picture.data,
                                              .size = v->picture.size,
                                              .id = &v->preview,
                                              .stored = &r->stored});
}

static int commit(cm_save *save)
{
    cm_cleanup(cm_cleanup_free) cm_variable *ours = calloc(save->variable_count + 1, sizeof *ours);
    if (!ours)
        return cm_fail(ENOMEM, "out of memory");
    cm_cleanup(clear_record) record r = {.save = save, .batch = {.save = save}};
    int result = 0;
    save->own_variables = save->variable_count;
    save->own_carried = save->carried_count;
    for (size_t i = 0; i < save->variable_count && !result; i++) {
        result = put_preview(&r, &save->variables[i]);
        ours[i] = cm_save_given(&save->variables[i]);
        if (!result)
            result = cm_save_measure(save, i, &ours[i]);
    }
    if (!result)
        result = commit_once(&r, ours);
    for (unsigned i = 0; result == -EEXIST && i < TRIES; i++) {
        result = follow_head(save);
        if (!result)
            result = commit_once(&r, ours);
    }
    return result;
}

void *cm_save_committer(void *arg)
{
    cm_save *save = arg;
    int result = cm_save_drain(save);
    if (!result)
        result = commit(save);
    if (result)
        cm_save_set_error(save, result);
    pthread_mutex_lock(&save->lock);
    save->state = CM_SAVE_DONE;
    pthread_cond_broadcast(&save->finished);
    pthread_cond_broadcast(&save->progress);
    pthread_mutex_unlock(&save->lock);
    return NULL;
}
