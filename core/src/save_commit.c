/* SPDX-License-Identifier: Apache-2.0 */
/* save_commit.c - from finished pods to a durable checkpoint: the committer's thread. */
#include "save_internal.h"

#include "checkpoint.h"
#include "plan.h"

#include <time.h>

enum { STREAM_FRAME = 3 /* PROTO 5 and STOP */ };

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- what a variable consists of ------------------------------------------------------------------------------------ */

/* A set of pods by id: equal pods are stored once. */
typedef struct id_set {
    const cm_pod **slots;
    size_t count, capacity;
} id_set;

static bool set_add(id_set *set, const cm_pod *pod, bool *added)
{
    if (set->count * 3 >= set->capacity * 2) {
        id_set larger = {.capacity = set->capacity ? set->capacity * 2 : 64};
        larger.slots = calloc(larger.capacity, sizeof *larger.slots);
        if (!larger.slots)
            return false;
        bool ignored;
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i])
                (void)set_add(&larger, set->slots[i], &ignored); /* cannot grow: it is large enough */
        free(set->slots);
        *set = larger;
    }
    size_t at = (size_t)cm_id_key(&pod->id) & (set->capacity - 1);
    while (set->slots[at] && !cm_id_equal(&set->slots[at]->id, &pod->id))
        at = (at + 1) & (set->capacity - 1);
    *added = !set->slots[at];
    set->slots[at] = pod;
    set->count += *added;
    return true;
}

/* Its record, and its buffers'. */
static uint64_t stored_of(const cm_pod *pod)
{
    uint64_t stored = atomic_load_explicit(&pod->stored, memory_order_relaxed);
    for (const cm_source *source = pod->sources; source; source = source->next)
        stored += atomic_load_explicit(&source->stored, memory_order_relaxed);
    return stored;
}

static int count_pod(id_set *set, const cm_pod *pod, cm_variable *v)
{
    bool added;
    if (!set_add(set, pod, &added))
        return cm_fail(ENOMEM, "out of memory");
    v->pods++;
    if (added)
        v->stored += stored_of(pod);
    return 0;
}

/* No reference leaves the tree of the pod: it is linked from itself alone. */
static bool closed(const cm_pod *pod)
{
    return pod->kind == CM_POD_OBJECT && pod->lowest_target >= pod->sequence;
}

static int measure_closed(const cm_save *save, const cm_pod *root, id_set *set, cm_variable *v)
{
    v->size = STREAM_FRAME + root->tree_size;
    int result = 0;
    uint64_t left = root->tree_pods; /* the pods of a tree are made one after the other */
    for (uint32_t i = root->sequence; !result && left && i < save->pod_count; i++)
        if (save->pods[i]->finished && left--)
            result = count_pod(set, save->pods[i], v);
    v->content = root->id; /* link.c takes this as the sign of a closed variable */
    return result;
}

static int fetch(void *arg, const cm_id *id, uint64_t page, cm_pod_view *view, cm_buffer *content)
{
    (void)id;
    (void)content;
    const cm_pod *pod = cm_save_page_find(arg, page);
    return pod ? cm_pod_skeleton(pod, view) : cm_fail(EILSEQ, "no pod at page %016llx", (unsigned long long)page);
}

static void page_of(const cm_pod *pod, cm_page *out)
{
    *out = (cm_page){.pod = pod->id, .parent = pod->parent ? pod->parent->page : CM_PAGE_NONE, .kind = pod->kind};
}

static int locate(void *arg, uint64_t page, cm_page *out)
{
    const cm_pod *pod = cm_save_page_find(arg, page);
    if (!pod)
        return cm_fail(EILSEQ, "no pod at page %016llx", (unsigned long long)page);
    page_of(pod, out);
    return 0;
}

static cm_plan_root plan_root(const cm_saved_variable *v)
{
    return (cm_plan_root){v->name, {v->pod->id, v->pod->page, v->index}};
}

/* A variable that shares objects with others: its stream is planned as a reader would. */
static int measure_shared(cm_save *save, size_t i, id_set *set, cm_variable *v)
{
    cm_cleanup(cm_cleanup_free) cm_plan_root *all = malloc(save->variable_count * sizeof *all);
    if (!all)
        return cm_fail(ENOMEM, "out of memory");
    for (size_t k = 0; k < save->variable_count; k++)
        all[k] = plan_root(&save->variables[k]);
    const cm_plan_source source = {.fetch = fetch, .locate = locate, .arg = save};
    cm_plan plan;
    int result = cm_plan_make(&source, &all[i], 1, all, save->variable_count, 0, &plan);
    if (!result) {
        v->size = plan.size;
        result = cm_plan_content(&plan, &all[i], &v->content);
    }
    for (size_t k = 0; !result && k < plan.instance_count; k++)
        result = count_pod(set, cm_save_page_find(save, plan.instances[k].page), v);
    cm_plan_clear(&plan);
    return result;
}

static int measure(cm_save *save, size_t i, cm_variable *v)
{
    const cm_saved_variable *saved = &save->variables[i];
    id_set set = {0};
    int result = closed(saved->pod) && saved->index == saved->pod->root ? measure_closed(save, saved->pod, &set, v)
                                                                        : measure_shared(save, i, &set, v);
    free(set.slots);
    return result;
}

/* ---- the record -------------------------------------------------------------------------------------------------- */

static int order_by_name(const void *a, const void *b)
{
    return strcmp(((const cm_variable *)a)->name, ((const cm_variable *)b)->name);
}

/*
 * Fills `variables`, by rank and then sorted by name. Ranks are kept from the parent where the order allows, so that a
 * variable more or less does not touch the records of the others.
 */
static int describe(cm_save *save, uint64_t number, int64_t time, cm_variable *variables)
{
    uint64_t next = 0;
    for (size_t i = 0; i < save->variable_count; i++) {
        const cm_saved_variable *saved = &save->variables[i];
        cm_variable *v = &variables[i];
        *v = (cm_variable){.name = saved->name,
                           .type = saved->type,
                           .summary = saved->summary,
                           .changed = number,
                           .changed_time = time,
                           .root = plan_root(saved).address};
        int result = measure(save, i, v);
        const cm_variable *before = NULL;
        if (!result && save->parent) {
            result = cm_checkpoint_variable(save->parent, v->name, &before);
            if (result == -ENOENT)
                result = 0;
        }
        if (result)
            return cm_fail_in(result, "variable '%s'", v->name);
        if (before && cm_id_equal(&before->content, &v->content)) {
            v->changed = before->changed;
            v->changed_time = before->changed_time;
        }
        v->rank = before && before->rank >= next ? before->rank : next;
        next = v->rank + 1;
    }
    qsort(variables, save->variable_count, sizeof *variables, order_by_name);
    for (size_t i = 1; i < save->variable_count; i++)
        if (strcmp(variables[i - 1].name, variables[i].name) == 0)
            return cm_fail(EINVAL, "variable '%s' was saved twice", variables[i].name);
    return 0;
}

static int put_node(void *arg, const cm_buffer *content, cm_id *id)
{
    return cm_save_put_object(arg, CM_KIND_MAP, content, id);
}

static int put_variables(cm_save *save, const cm_variable *variables, cm_id *root)
{
    size_t count = save->variable_count;
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
    return cm_map_build(entries, count, put_node, save, root);
}

enum { PAGE_KEY = 8, PAGE_VALUE = 41, PAGE_ENTRY = PAGE_KEY + PAGE_VALUE };

static int order_pages(const void *a, const void *b)
{
    return memcmp(a, b, PAGE_KEY);
}

/* The pages that references from other pods lead to, and those above them: how a load finds them and their places. */
static int put_pages(cm_save *save, cm_id *root)
{
    for (size_t i = 0; i < save->variable_count; i++) {
        cm_pod *pod = save->pods[save->variables[i].pod->sequence];
        pod->exported |= pod->kind == CM_POD_FRAGMENT; /* such a variable is found through what the fragment is of */
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
        page_of(pod, &page);
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
    return cm_map_build(entries, count, put_node, save, root);
}

static void count_stats(const cm_save *save, cm_save_stats *stats)
{
    for (size_t i = 0; i < save->variable_count; i++) {
        const cm_saved_variable *v = &save->variables[i];
        if (v->pod->sequence < v->first_pod || v->pod->sequence >= v->end_pod)
            continue; /* an earlier variable's object under a second name */
        stats->logical_bytes += STREAM_FRAME + v->pod->tree_size;
        stats->pods += v->pod->tree_pods;
    }
    stats->pods_new = atomic_load(&save->pods_new);
    stats->bytes_written = atomic_load(&save->bytes_written);
    stats->walk_ns = (uint64_t)(save->commit_ns - save->begin_ns);
    stats->write_ns = (uint64_t)(clock_ns(CLOCK_MONOTONIC) - save->commit_ns);
}

static int put_checkpoint(cm_save *save, const cm_variable *variables, uint64_t number, int64_t time, cm_id *id)
{
    cm_parent parent = {0};
    cm_cleanup(cm_cleanup_free) char **unsaved = malloc((2 * save->unsaved_count + 1) * sizeof *unsaved);
    if (!unsaved)
        return cm_fail(ENOMEM, "out of memory");
    for (size_t i = 0; i < save->unsaved_count; i++) {
        unsaved[2 * i] = save->unsaved[i].name;
        unsaved[2 * i + 1] = save->unsaved[i].reason;
    }
    cm_checkpoint c = {.session = save->session, /* borrows everything, for encoding only */
                       .number = number,
                       .time = time,
                       .message = save->message,
                       .code = save->code,
                       .variable_count = save->variable_count,
                       .unsaved = unsaved,
                       .unsaved_count = save->unsaved_count};
    if (save->parent) {
        parent = (cm_parent){save->parent->id, save->parent->number};
        c.parents = &parent;
        c.parent_count = 1;
    }
    int result = put_variables(save, variables, &c.variable_map);
    if (!result)
        result = put_pages(save, &c.page_map);
    if (result)
        return result;
    count_stats(save, &c.stats);
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    result = cm_checkpoint_encode(&c, &content);
    return result ? result : cm_save_put_object(save, CM_KIND_CHECKPOINT, &content, id);
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

static int commit(cm_save *save)
{
    uint64_t number = save->head->last + 1;
    int64_t time = clock_ns(CLOCK_REALTIME);
    if (save->parent && time <= save->parent->time)
        time = save->parent->time + 1; /* a clock set back does not turn history round */
    cm_cleanup(cm_cleanup_free) cm_variable *variables = malloc((save->variable_count + 1) * sizeof *variables);
    if (!variables)
        return cm_fail(ENOMEM, "out of memory");
    cm_id id;
    int result = describe(save, number, time, variables);
    if (!result)
        result = put_checkpoint(save, variables, number, time, &id);
    if (!result && !point_of_no_return(save))
        result = -ECANCELED;
    if (result)
        return result;
    cm_backend_txn *txn = save->txn;
    save->txn = NULL; /* committing frees it */
    result = cm_head_advance(save->store, txn, save->session, save->head, number, &id);
    return result ? result : cm_checkpoint_open_id(save->store, &id, &save->checkpoint);
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
    pthread_mutex_unlock(&save->lock);
    return NULL;
}
