/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint.h"

#include "codec.h"
#include "pod.h"
#include "tree.h"

/*
 * Version 2 is version 1 that tells of a cell, version 3 one whose variables have previews: they are written only where there are such,
 * so that who does not know of them is told to use a newer Chipmink.
 */
enum { VERSION_CELL = 2, VERSION_PREVIEWS = 3 };
enum { HAS_MESSAGE = 1, HAS_CODE = 2, HAS_CELL = 4, HAS_PREVIEWS = 8 };
enum { IS_PLAIN = 1, HAS_PREVIEW = 2 }; /* of a variable */

static uint8_t version_of(uint64_t has)
{
    return has & HAS_PREVIEWS ? VERSION_PREVIEWS : has & HAS_CELL ? VERSION_CELL : 1;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

int cm_checkpoint_encode(const cm_checkpoint *c, cm_buffer *out)
{
    cm_buffer_clear(out);
    const uint64_t has = (c->message ? HAS_MESSAGE : 0U) | (c->code ? HAS_CODE : 0U) | (c->cell ? HAS_CELL : 0U) |
                         (c->previews ? HAS_PREVIEWS : 0U);
    const uint8_t version = version_of(has);
    cm_buffer_append(out, CM_MAGIC_CHECKPOINT, 3);
    cm_buffer_append(out, &version, 1);
    cm_buffer_string(out, c->session);
    cm_buffer_varint(out, c->number);
    cm_buffer_u64(out, (uint64_t)c->time);
    cm_buffer_varint(out, c->parent_count);
    for (size_t i = 0; i < c->parent_count; i++) {
        cm_buffer_append(out, &c->parents[i].id, sizeof(cm_id));
        cm_buffer_varint(out, c->parents[i].number);
    }
    cm_buffer_varint(out, has);
    if (c->message)
        cm_buffer_string(out, c->message);
    if (c->code)
        cm_buffer_string(out, c->code);
    if (c->cell) {
        cm_buffer_varint(out, c->cell->execution);
        cm_buffer_varint(out, c->cell->duration_ns);
        cm_buffer_string(out, c->cell->error);
    }
    cm_buffer_varint(out, c->variable_count);
    cm_buffer_varint(out, c->namespace_size);
    cm_buffer_append(out, &c->variable_map, sizeof(cm_id));
    cm_buffer_append(out, &c->page_map, sizeof(cm_id));
    cm_buffer_varint(out, c->unsaved_count);
    for (size_t i = 0; i < 2 * c->unsaved_count; i++)
        cm_buffer_string(out, c->unsaved[i]);
    const cm_save_stats *s = &c->stats;
    const uint64_t stats[] = {s->logical_bytes, s->bytes_written, s->pods, s->pods_new, s->walk_ns, s->write_ns};
    for (size_t i = 0; i < sizeof stats / sizeof *stats; i++)
        cm_buffer_varint(out, stats[i]);
    return out->error ? cm_fail(ENOMEM, "out of memory encoding a checkpoint") : 0;
}

static void read_id(cm_reader *reader, cm_id *id)
{
    const uint8_t *bytes = cm_read_bytes(reader, sizeof *id);
    if (bytes)
        memcpy(id, bytes, sizeof *id);
}

static int read_cell(cm_reader *reader, cm_cell **cell)
{
    *cell = calloc(1, sizeof **cell);
    if (!*cell)
        return cm_fail(ENOMEM, "out of memory");
    (*cell)->execution = cm_read_varint(reader);
    (*cell)->duration_ns = cm_read_bounded(reader, INT64_MAX);
    (*cell)->error = cm_read_string(reader); /* NULL where reader->bad */
    if (reader->bad)
        return 0; /* told of at the end */
    if (!*(*cell)->error) {
        free((char *)(*cell)->error);
        (*cell)->error = NULL;
    }
    return 0;
}

int cm_checkpoint_decode(const void *content, size_t size, cm_checkpoint *c)
{
    cm_reader reader = cm_reader_of(content, size);
    const uint8_t *magic = cm_read_bytes(&reader, 4);
    if (!magic || memcmp(magic, CM_MAGIC_CHECKPOINT, 3) != 0)
        return cm_fail(EILSEQ, "not a checkpoint");
    if (magic[3] < 1 || magic[3] > VERSION_PREVIEWS)
        return cm_fail(EPROTONOSUPPORT,
                       "a checkpoint of format %u: this Chipmink reads formats 1 to %d; use a newer one", magic[3],
                       VERSION_PREVIEWS);
    c->session = cm_read_string(&reader);
    c->number = cm_read_varint(&reader);
    c->time = (int64_t)cm_read_u64(&reader);
    c->parent_count = cm_read_bounded(&reader, size / sizeof(cm_id));
    if (!reader.bad && c->parent_count && !(c->parents = calloc(c->parent_count, sizeof *c->parents)))
        return cm_fail(ENOMEM, "out of memory");
    for (size_t i = 0; !reader.bad && i < c->parent_count; i++) {
        read_id(&reader, &c->parents[i].id);
        c->parents[i].number = cm_read_varint(&reader);
    }
    uint64_t has = cm_read_bounded(&reader, HAS_MESSAGE | HAS_CODE | HAS_CELL | HAS_PREVIEWS);
    if (!reader.bad && magic[3] != version_of(has))
        return cm_fail(EILSEQ, "damaged checkpoint: what its flags tell of would be format %u, not %u", version_of(has),
                       magic[3]);
    c->previews = has & HAS_PREVIEWS;
    c->message = has & HAS_MESSAGE ? cm_read_string(&reader) : NULL;
    c->code = has & HAS_CODE ? cm_read_string(&reader) : NULL;
    if (has & HAS_CELL && read_cell(&reader, &c->cell))
        return -ENOMEM;
    c->variable_count = cm_read_varint(&reader);
    c->namespace_size = cm_read_bounded(&reader, INT64_MAX);
    read_id(&reader, &c->variable_map);
    read_id(&reader, &c->page_map);
    c->unsaved_count = cm_read_bounded(&reader, size / 2);
    if (reader.bad)
        c->unsaved_count = 0;
    else if (c->unsaved_count && !(c->unsaved = calloc(2 * c->unsaved_count, sizeof *c->unsaved)))
        return cm_fail(ENOMEM, "out of memory");
    for (size_t i = 0; !reader.bad && i < 2 * c->unsaved_count; i++)
        c->unsaved[i] = cm_read_string(&reader);
    cm_save_stats *s = &c->stats;
    uint64_t *const stats[] = {&s->logical_bytes, &s->bytes_written, &s->pods, &s->pods_new, &s->walk_ns, &s->write_ns};
    for (size_t i = 0; i < sizeof stats / sizeof *stats; i++)
        *stats[i] = cm_read_varint(&reader);
    if (reader.bad || reader.at != reader.end)
        return cm_fail(EILSEQ, "damaged checkpoint: its fields make no sense");
    return 0;
}

void cm_checkpoint_clear(cm_checkpoint *c)
{
    free(c->session);
    free(c->message);
    free(c->code);
    if (c->cell)
        free((char *)c->cell->error);
    free(c->cell);
    free(c->parents);
    for (size_t i = 0; c->unsaved && i < 2 * c->unsaved_count; i++)
        free(c->unsaved[i]);
    free(c->unsaved);
    for (size_t i = 0; c->variables && !c->texts && i < c->variable_count; i++)
        cm_variable_clear(&c->variables[i]);
    free(c->variables);
    free(c->texts);
}

void cm_variable_encode(const cm_variable *v, cm_buffer *out)
{
    cm_buffer_string(out, v->type);
    cm_buffer_string(out, v->summary);
    cm_buffer_varint(out, v->rank);
    cm_buffer_varint(out, v->size);
    cm_buffer_varint(out, v->stored);
    cm_buffer_varint(out, v->pods);
    cm_buffer_varint(out, (v->plain ? IS_PLAIN : 0U) | (v->preview_size ? HAS_PREVIEW : 0U));
    cm_buffer_varint(out, v->changed);
    cm_buffer_u64(out, (uint64_t)v->changed_time);
    cm_buffer_append(out, &v->root.pod, sizeof(cm_id));
    cm_buffer_u64(out, v->root.page);
    cm_buffer_varint(out, v->root.index == CM_INDEX_ROOT ? 0 : (uint64_t)v->root.index + 1);
    cm_buffer_append(out, &v->content, sizeof(cm_id));
    if (!v->preview_size)
        return;
    cm_buffer_varint(out, v->preview_size);
    cm_buffer_append(out, &v->preview, sizeof(cm_id));
}

int cm_variable_decode(const void *value, size_t size, cm_variable *v)
{
    cm_reader reader = cm_reader_of(value, size);
    v->type = cm_read_string(&reader);
    v->summary = cm_read_string(&reader);
    v->rank = cm_read_varint(&reader);
    v->size = cm_read_bounded(&reader, INT64_MAX);
    v->stored = cm_read_varint(&reader);
    v->pods = cm_read_varint(&reader);
    uint64_t flags = cm_read_bounded(&reader, IS_PLAIN | HAS_PREVIEW);
    v->plain = flags & IS_PLAIN;
    v->changed = cm_read_varint(&reader);
    v->changed_time = (int64_t)cm_read_u64(&reader);
    read_id(&reader, &v->root.pod);
    v->root.page = cm_read_u64(&reader);
    uint64_t index = cm_read_bounded(&reader, UINT32_MAX);
    v->root.index = index ? (uint32_t)(index - 1) : CM_INDEX_ROOT;
    read_id(&reader, &v->content);
    if (flags & HAS_PREVIEW) {
        v->preview_size = cm_read_bounded(&reader, CM_PREVIEW_MOST);
        read_id(&reader, &v->preview);
        reader.bad |= v->preview_size == 0;
    }
    if (reader.bad || reader.at != reader.end)
        return cm_fail(EILSEQ, "damaged variable record");
    return 0;
}

void cm_variable_clear(cm_variable *v)
{
    free((char *)v->name);
    free((char *)v->type);
    free((char *)v->summary);
}

void cm_page_key(uint64_t page, uint8_t key[8])
{
    for (int i = 0; i < 8; i++)
        key[i] = (uint8_t)(page >> (56 - 8 * i));
}

void cm_page_encode(const cm_page *page, cm_buffer *value)
{
    cm_buffer_append(value, &page->pod, sizeof(cm_id));
    cm_buffer_u64(value, page->parent);
    cm_buffer_append(value, &page->kind, 1);
}

static int decode_page(const void *value, size_t size, cm_page *out)
{
    cm_reader reader = cm_reader_of(value, size);
    read_id(&reader, &out->pod);
    out->parent = cm_read_u64(&reader);
    out->kind = (uint8_t)cm_read_bounded(&reader, CM_POD_FRAGMENT);
    return reader.bad || reader.at != reader.end ? cm_fail(EILSEQ, "damaged page record") : 0;
}

int cm_checkpoint_page_find(cm_checkpoint *c, uint64_t page, cm_page *out)
{
    uint8_t key[8];
    cm_page_key(page, key);
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    int result = cm_map_find(c->store, &c->page_map, key, sizeof key, &value);
    return result ? result : decode_page(value.data, value.size, out);
}

int cm_checkpoint_page(cm_checkpoint *c, uint64_t page, cm_page *out)
{
    int result = cm_checkpoint_page_find(c, page, out);
    if (result == -ENOENT)
        return cm_fail(EILSEQ, "checkpoint %s@%llu refers to page %016llx, which it does not have", c->session,
                       (unsigned long long)c->number, (unsigned long long)page);
    return result;
}

/* ---- handles ----------------------------------------------------------------------------------------------------- */

int cm_checkpoint_make(cm_store *store, const cm_id *id, const cm_buffer *content, uint64_t stored, cm_checkpoint **out)
{
    cm_checkpoint *c = calloc(1, sizeof *c);
    if (!c)
        return cm_fail(ENOMEM, "out of memory");
    int result = cm_checkpoint_decode(content->data, content->size, c);
    if (result) {
        char hex[CM_ID_HEX + 1];
        cm_id_hex(id, hex);
        cm_checkpoint_clear(c);
        free(c);
        return cm_fail_in(result, "checkpoint %.16s in %s", hex, store->path);
    }
    atomic_init(&c->references, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->id = *id;
    c->store = cm_store_ref(store);
    c->stats.bytes_written += stored; /* its own record, which cannot state its size */
    *out = c;
    return 0;
}

int cm_checkpoint_copy(const cm_checkpoint *checkpoint, cm_checkpoint **out)
{
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    int result = cm_checkpoint_encode(checkpoint, &content);
    if (!result)
        result = cm_checkpoint_make(checkpoint->store, &checkpoint->id, &content, 0, out);
    return result;
}

int cm_checkpoint_open_id(cm_store *store, const cm_id *id, cm_checkpoint **out)
{
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    cm_object_info info = {0};
    int result = cm_object_get_info(store, id, CM_KIND_CHECKPOINT, &content, &info);
    if (result && info.kind == 0) { /* not there, perhaps: that is no damage here, and has a sentence of its own */
        int missing = cm_object_stat(store, id, &info);
        return missing ? missing : result;
    }
    if (result)
        return result;
    return cm_checkpoint_make(store, id, &content, info.stored, out);
}

cm_checkpoint *cm_checkpoint_ref(cm_checkpoint *c)
{
    atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
    return c;
}

void cm_checkpoint_unref(cm_checkpoint *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
        return;
    cm_checkpoint_clear(c);
    pthread_mutex_destroy(&c->lock);
    if (!c->borrows)
        cm_store_unref(c->store);
    free(c);
}

cm_store *cm_checkpoint_store(const cm_checkpoint *c)
{
    return c->store;
}

const cm_id *cm_checkpoint_id(const cm_checkpoint *c)
{
    return &c->id;
}

const char *cm_checkpoint_session(const cm_checkpoint *c)
{
    return c->session;
}

uint64_t cm_checkpoint_number(const cm_checkpoint *c)
{
    return c->number;
}

int64_t cm_checkpoint_time(const cm_checkpoint *c)
{
    return c->time;
}

const char *cm_checkpoint_message(const cm_checkpoint *c)
{
    return c->message;
}

const char *cm_checkpoint_code(const cm_checkpoint *c)
{
    return c->code;
}

const cm_cell *cm_checkpoint_cell(const cm_checkpoint *c)
{
    return c->cell;
}

const cm_save_stats *cm_checkpoint_stats(const cm_checkpoint *c)
{
    return &c->stats;
}

size_t cm_checkpoint_parent_count(const cm_checkpoint *c)
{
    return c->parent_count;
}

const cm_id *cm_checkpoint_parent(const cm_checkpoint *c, size_t i)
{
    return &c->parents[i].id;
}

uint64_t cm_checkpoint_parent_number(const cm_checkpoint *c, size_t i)
{
    return c->parents[i].number;
}

size_t cm_checkpoint_unsaved_count(const cm_checkpoint *c)
{
    return c->unsaved_count;
}

const char *cm_checkpoint_unsaved_name(const cm_checkpoint *c, size_t i)
{
    return c->unsaved[2 * i];
}

const char *cm_checkpoint_unsaved_reason(const cm_checkpoint *c, size_t i)
{
    return c->unsaved[2 * i + 1];
}

uint64_t cm_checkpoint_namespace_size(const cm_checkpoint *c)
{
    return c->namespace_size;
}

size_t cm_checkpoint_variable_count(const cm_checkpoint *c)
{
    return c->variable_count;
}

/* ---- the recent one ---------------------------------------------------------------------------------------------- */

static void count_pods(cm_checkpoint *c)
{
    for (size_t i = 0; i < c->variable_count; i++)
        c->pods_most =
            c->variables[i].pods > UINT64_MAX - c->pods_most ? UINT64_MAX : c->pods_most + c->variables[i].pods;
    c->loaded = true;
}

static const char *copy_text(char **to, const char *text)
{
    char *copy = *to;
    size_t size = strlen(text) + 1;
    memcpy(copy, text, size);
    *to += size;
    return copy;
}

/* False: out of memory. */
static bool copy_variables(cm_checkpoint *c, const cm_variable *variables, size_t count)
{
    size_t size = 1; /* so that there is some */
    for (size_t i = 0; i < count; i++)
        size += strlen(variables[i].name) + strlen(variables[i].type) + strlen(variables[i].summary) + 3;
    c->variables = malloc((count + 1) * sizeof *c->variables);
    char *to = c->texts = malloc(size);
    if (!c->variables || !c->texts)
        return false;
    for (size_t i = 0; i < count; i++) {
        cm_variable *v = &c->variables[i];
        *v = variables[i];
        v->name = copy_text(&to, v->name);
        v->type = copy_text(&to, v->type);
        v->summary = copy_text(&to, v->summary);
    }
    count_pods(c);
    return true;
}

void cm_checkpoint_forget(cm_store *store)
{
    cm_checkpoint_unref(store->recent);
    free(store->recent_branch);
    store->recent = NULL;
    store->recent_branch = NULL;
}

void cm_checkpoint_remember(cm_store *store, const cm_checkpoint *checkpoint, const char *branch,
                            const cm_variable *variables, size_t count)
{
    cm_checkpoint *c = NULL;
    cm_checkpoint_forget(store);
    if (cm_checkpoint_copy(checkpoint, &c))
        return;
    c->borrows = true;
    store->recent_branch = branch ? strdup(branch) : NULL; /* only for a guess */
    if (copy_variables(c, variables, count))
        store->recent = c;
    else
        cm_checkpoint_unref(c);
    cm_store_unref(store); /* whoever saves keeps it open */
}

/* ---- variables --------------------------------------------------------------------------------------------------- */

typedef struct loading {
    cm_variable *variables;
    size_t count, capacity;
} loading;

static int load_variable(void *arg, const cm_map_entry *entry)
{
    loading *l = arg;
    if (!cm_grow(&l->variables, l->count, &l->capacity, sizeof *l->variables))
        return cm_fail(ENOMEM, "out of memory");
    cm_variable *v = &l->variables[l->count++];
    *v = (cm_variable){0};
    if (memchr(entry->key, 0, entry->key_size))
        return cm_fail(EILSEQ, "damaged checkpoint: a variable's name holds a zero byte");
    v->name = strndup((const char *)entry->key, entry->key_size);
    if (!v->name)
        return cm_fail(ENOMEM, "out of memory");
    return cm_variable_decode(entry->value, entry->value_size, v);
}

int cm_checkpoint_variables(cm_checkpoint *c, const cm_variable **variables, size_t *count)
{
    int result = 0;
    pthread_mutex_lock(&c->lock);
    if (!c->loaded) {
        loading l = {0};
        result = cm_map_each(c->store, &c->variable_map, load_variable, &l);
        if (!result && l.count != c->variable_count)
            result = cm_fail(EILSEQ, "damaged checkpoint: %zu variables where %llu should be", l.count,
                             (unsigned long long)c->variable_count);
        if (result) {
            for (size_t i = 0; i < l.count; i++)
                cm_variable_clear(&l.variables[i]);
            free(l.variables);
            cm_fail_in(result, "%s@%llu", c->session, (unsigned long long)c->number);
        } else {
            c->variables = l.variables;
            count_pods(c);
        }
    }
    *variables = c->variables;
    *count = result ? 0 : c->variable_count;
    pthread_mutex_unlock(&c->lock);
    return result;
}

static int by_name(const void *name, const void *variable)
{
    return strcmp(name, ((const cm_variable *)variable)->name);
}

int cm_checkpoint_variable(cm_checkpoint *c, const char *name, const cm_variable **variable)
{
    const cm_variable *all;
    size_t count;
    int result = cm_checkpoint_variables(c, &all, &count);
    if (result)
        return result;
    *variable = count ? bsearch(name, all, count, sizeof *all, by_name) : NULL;
    if (!*variable)
        return cm_fail(ENOENT, "%s@%llu has no variable '%s'", c->session, (unsigned long long)c->number, name);
    return 0;
}

int cm_checkpoint_preview(cm_checkpoint *c, const char *name, void **data, size_t *size)
{
    const cm_variable *v;
    *data = NULL;
    *size = 0;
    int result = cm_checkpoint_variable(c, name, &v);
    if (result || !v->preview_size)
        return result;
    cm_buffer content = CM_BUFFER_INIT;
    result = cm_object_get(c->store, &v->preview, CM_KIND_CHUNK, &content);
    if (!result && content.size != v->preview_size)
        result = cm_fail(EILSEQ, "it has %zu bytes, not %llu", content.size, (unsigned long long)v->preview_size);
    if (result) {
        cm_buffer_free(&content);
        return cm_fail_in(result, "the preview of '%s' in %s@%llu", name, c->session, (unsigned long long)c->number);
    }
    *data = content.data;
    *size = content.size;
    return 0;
}

int cm_checkpoint_diff(cm_checkpoint *before, cm_checkpoint *after, cm_diff_visitor visit, void *arg)
{
    const cm_variable *a = NULL, *b;
    size_t a_count = 0, b_count;
    int result = before ? cm_checkpoint_variables(before, &a, &a_count) : 0;
    if (!result)
        result = cm_checkpoint_variables(after, &b, &b_count);
    for (size_t i = 0, j = 0; !result && (i < a_count || j < b_count);) {
        int order = i == a_count ? 1 : j == b_count ? -1 : strcmp(a[i].name, b[j].name);
        if (order < 0) {
            result = visit(arg, CM_REMOVED, &a[i++], NULL);
        } else if (order > 0) {
            result = visit(arg, CM_ADDED, NULL, &b[j++]);
        } else {
            if (!cm_id_equal(&a[i].content, &b[j].content))
                result = visit(arg, CM_CHANGED, &a[i], &b[j]);
            i++;
            j++;
        }
    }
    return result;
}
