/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend_remote.c - a store that a server owns, as a backend.
 *
 * When the server has gone, reads are repeated and nobody notices; a transaction is lost with it, and its calls fail with
 * -ECONNRESET, on which the whole save is to be repeated (what it puts is content-addressed, so repeating is safe).
 */
#include "remote.h"

#include <chipmink/serve.h>

#include "error.h"
#include "remote_call.h"
#include "store.h"

#include <sys/random.h>
#include <unistd.h>

struct cm_backend_txn {
    cm_remote *store;
    uint64_t id;
};

/* ---- objects ----------------------------------------------------------------------------------------------------- */

typedef struct finding {
    const cm_id *ids;
    size_t count;
    cm_object_info *infos;
} finding;

static void fill_ids(cm_area *area, void *arg)
{
    const finding *f = arg;
    memcpy(area->bytes, f->ids, f->count * sizeof *f->ids);
}

static int take_infos(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)answer;
    (void)passed;
    const finding *f = arg;
    for (size_t i = 0; i < f->count; i++)
        cm_wire_get_info(area->bytes + i * CM_WIRE_INFO, &f->infos[i]);
    return 0;
}

static int remote_find(cm_backend *backend, const cm_id *ids, size_t count, cm_object_info *infos)
{
    enum { AT_ONCE = CM_WIRE_AREA / sizeof(cm_id) };
    int result = 0;
    for (size_t done = 0; done < count && !result; done += AT_ONCE) {
        finding f = {ids + done, count - done < AT_ONCE ? count - done : AT_ONCE, infos + done};
        cm_call c = cm_call_make(CM_WIRE_FIND, &f);
        cm_buffer_varint(&c.request, f.count);
        c.fill = fill_ids;
        c.take = take_infos;
        result = cm_call_again((cm_remote *)backend, &c);
    }
    return result;
}

typedef struct getting {
    const cm_id *ids;
    size_t count, done;
    cm_record_visitor visit;
    void *arg;
} getting;

/* The records of an answer, one after the other in the area, lent as they lie there. */
static int lend_records(getting *g, cm_reader *answer, const cm_area *from)
{
    uint64_t count = cm_read_bounded(answer, g->count - g->done), at = 0;
    int result = count ? 0 : cm_call_senseless();
    while (count-- && !result) {
        cm_object_info info = {.kind = (uint8_t)cm_read_bounded(answer, UINT8_MAX)};
        info.size = info.kind ? cm_read_varint(answer) : 0;
        info.stored = info.kind ? cm_read_varint(answer) : 0;
        uint64_t size = info.kind ? cm_read_varint(answer) : 0;
        if (answer->bad || size > from->size - at)
            return cm_call_senseless();
        result = g->visit(g->arg, g->done, info.kind ? from->bytes + at : NULL, size, &info);
        g->done++;
        at += size;
    }
    return result;
}

static int take_records(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    if (passed < 0)
        return lend_records(arg, answer, area);
    cm_area own = {0};
    int result = cm_area_map(passed, SIZE_MAX / 2, &own);
    if (!result)
        result = lend_records(arg, answer, &own);
    cm_area_clear(&own);
    return result;
}

/* The server answers as many as fit into the area; the rest is asked for again. */
static int remote_get(cm_backend *backend, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg)
{
    getting g = {ids, count, 0, visit, arg};
    int result = 0;
    while (g.done < count && !result) {
        size_t some = count - g.done < CM_WIRE_GET_MOST ? count - g.done : CM_WIRE_GET_MOST;
        cm_call c = cm_call_make(CM_WIRE_GET, &g);
        cm_buffer_varint(&c.request, some);
        cm_buffer_append(&c.request, ids + g.done, some * sizeof *ids);
        g.count = g.done + some;
        c.take = take_records;
        result = cm_call_again((cm_remote *)backend, &c);
    }
    return result;
}

typedef struct listing {
    uint8_t *items;
    uint64_t most, count; /* asked for, got */
    bool more;
} listing;

static int take_listed(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)passed;
    listing *l = arg;
    l->count = cm_read_bounded(answer, l->most);
    l->more = cm_read_bounded(answer, 1);
    if (!answer->bad)
        memcpy(l->items, area->bytes, l->count * CM_WIRE_LISTED);
    return 0;
}

/* The id that follows directly; false: there is none. */
static bool next_id(cm_id *id)
{
    for (size_t i = sizeof id->bytes; i-- > 0;)
        if (++id->bytes[i] != 0)
            return true;
    return false;
}

static int remote_list(cm_backend *backend, const cm_id *from, cm_object_visitor visit, void *arg)
{
    enum { FIRST = 16, AT_ONCE = 4096 }; /* few at first: often one id, or those with a prefix, are wanted */
    cm_id at = from ? *from : (cm_id){{0}};
    listing l = {.more = true};
    l.items = malloc((size_t)AT_ONCE * CM_WIRE_LISTED);
    int result = l.items ? 0 : cm_fail(ENOMEM, "out of memory");
    for (uint64_t most = FIRST; l.more && !result; most = most * 4 < AT_ONCE ? most * 4 : AT_ONCE) {
        cm_call c = cm_call_make(CM_WIRE_LIST, &l);
        cm_buffer_append(&c.request, &at, sizeof at);
        cm_buffer_varint(&c.request, most);
        l.most = most;
        c.take = take_listed;
        result = cm_call_again((cm_remote *)backend, &c);
        for (uint64_t i = 0; i < l.count && !result; i++) {
            cm_object_info info;
            memcpy(&at, l.items + i * CM_WIRE_LISTED, sizeof at);
            cm_wire_get_info(l.items + i * CM_WIRE_LISTED + sizeof at, &info);
            result = visit(arg, &at, &info);
        }
        l.more = l.more && l.count && next_id(&at);
    }
    free(l.items);
    return result;
}

/* ---- transactions ------------------------------------------------------------------------------------------------ */

typedef struct begun {
    uint64_t id, epoch;
    size_t count;
    cm_buffer *values; /* of refs */
} begun;

static int take_number(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)area;
    (void)passed;
    *(uint64_t *)arg = cm_read_varint(answer);
    return 0;
}

static int take_begun(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)area;
    (void)passed;
    begun *b = arg;
    b->id = cm_read_varint(answer);
    b->epoch = cm_read_u64(answer);
    bool full = false;
    for (size_t i = 0; i < b->count; i++) {
        uint64_t size = cm_read_bounded(answer, 1) ? cm_read_varint(answer) : 0;
        const uint8_t *bytes = cm_read_bytes(answer, size);
        cm_buffer_clear(&b->values[i]);
        if (bytes)
            cm_buffer_append(&b->values[i], bytes, size);
        full = full || b->values[i].error;
    }
    return full ? cm_fail(ENOMEM, "out of memory") : 0;
}

static int remote_begin_reading(cm_backend *backend, const char *const *keys, size_t count, cm_buffer *values,
                                cm_backend_txn **out, uint64_t *epoch)
{
    cm_backend_txn *txn = calloc(1, sizeof *txn);
    if (!txn)
        return cm_fail(ENOMEM, "out of memory");
    txn->store = (cm_remote *)backend;
    begun b = {.count = count, .values = values};
    cm_call c = cm_call_make(CM_WIRE_BEGIN, &b);
    cm_buffer_varint(&c.request, count);
    for (size_t i = 0; i < count; i++)
        cm_buffer_string(&c.request, keys[i]);
    c.take = take_begun;
    int result = cm_call_again(txn->store, &c);
    txn->id = b.id;
    if (epoch)
        *epoch = b.epoch;
    if (result)
        free(txn);
    else
        *out = txn;
    return result;
}

static int remote_begin(cm_backend *backend, cm_backend_txn **txn, uint64_t *epoch)
{
    return remote_begin_reading(backend, NULL, 0, NULL, txn, epoch);
}

typedef struct putting {
    cm_content *const *contents;
    size_t count;
} putting;

static void fill_contents(cm_area *area, void *arg)
{
    const putting *p = arg;
    uint64_t offset = p->count * CM_WIRE_CONTENT;
    for (size_t i = 0; i < p->count; i++) {
        const cm_content *content = p->contents[i];
        uint8_t *item = area->bytes + i * CM_WIRE_CONTENT;
        memcpy(item, &content->id, sizeof content->id);
        cm_put_u64(item + 32, content->kind);
        cm_put_u64(item + 40, content->size);
        cm_put_u64(item + 48, offset);
        memcpy(item + 56, &content->base, sizeof content->base);
        if (content->size)
            memcpy(area->bytes + offset, content->data, content->size);
        offset += content->size;
    }
}

static int take_stored(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)answer;
    (void)passed;
    const putting *p = arg;
    for (size_t i = 0; i < p->count; i++) {
        uint64_t done = cm_get_u64(area->bytes + i * CM_WIRE_PUT_DONE);
        p->contents[i]->stored = done & ~(CM_WIRE_DIFFERENT | CM_WIRE_THERE);
        p->contents[i]->different = (done & CM_WIRE_DIFFERENT) != 0;
        p->contents[i]->fresh = (done & CM_WIRE_THERE) == 0;
    }
    return 0;
}

static int put_together(cm_backend_txn *txn, cm_content *const *contents, size_t count, uint64_t bytes)
{
    putting p = {contents, count};
    cm_call c = cm_call_make(CM_WIRE_PUT, &p);
    cm_buffer_varint(&c.request, txn->id);
    cm_buffer_varint(&c.request, count);
    c.take = take_stored;
    cm_area own = {0};
    int result = 0;
    if (bytes > CM_WIRE_AREA) {
        result = cm_area_make(bytes, &c.pass, &own);
        if (!result)
            fill_contents(&own, &p);
    } else {
        c.fill = fill_contents;
    }
    if (!result)
        result = cm_call_in_transaction(txn->store, &c);
    else
        cm_buffer_free(&c.request);
    cm_area_clear(&own);
    if (c.pass >= 0)
        close(c.pass);
    return result;
}

/* As many at a time as the area holds. */
static int remote_put_contents(cm_backend_txn *txn, cm_content *const *contents, size_t count)
{
    int result = 0;
    for (size_t start = 0; start < count && !result;) {
        uint64_t bytes = 0;
        size_t end = start;
        while (end < count && (end == start || bytes + CM_WIRE_CONTENT + contents[end]->size <= CM_WIRE_AREA))
            bytes += CM_WIRE_CONTENT + contents[end++]->size;
        result = put_together(txn, contents + start, end - start, bytes);
        start = end;
    }
    return result;
}

static void add_optional(cm_buffer *request, const void *bytes, size_t size)
{
    cm_buffer_varint(request, bytes != NULL);
    if (bytes) {
        cm_buffer_varint(request, size);
        cm_buffer_append(request, bytes, size);
    }
}

/* Contents that fit into the area. */
static int commit_together(cm_backend_txn *txn, cm_content *const *contents, size_t content_count,
                           const cm_ref_update *refs, size_t count)
{
    putting p = {contents, content_count};
    cm_call c = cm_call_make(CM_WIRE_COMMIT, &p);
    c.fill = fill_contents;
    c.take = take_stored;
    cm_buffer_varint(&c.request, txn->id);
    cm_buffer_varint(&c.request, content_count);
    cm_buffer_varint(&c.request, count);
    for (size_t i = 0; i < count; i++) {
        cm_buffer_string(&c.request, refs[i].key);
        add_optional(&c.request, refs[i].expected, refs[i].expected_size);
        add_optional(&c.request, refs[i].value, refs[i].value_size);
    }
    int result = cm_call_in_transaction(txn->store, &c);
    if (result != -EEXIST)
        free(txn);
    return result;
}

static int remote_commit(cm_backend_txn *txn, const cm_ref_update *refs, size_t count)
{
    return commit_together(txn, NULL, 0, refs, count);
}

static void remote_abort(cm_backend_txn *txn)
{
    if (getpid() == txn->store->pid) {
        cm_call c = cm_call_make(CM_WIRE_ABORT, NULL);
        cm_buffer_varint(&c.request, txn->id);
        (void)!cm_call_in_transaction(txn->store, &c); /* a server that has gone has aborted it */
    }
    free(txn);
}

static int remote_commit_contents(cm_backend_txn *txn, cm_content *const *contents, size_t content_count,
                                  const cm_ref_update *refs, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < content_count; i++)
        bytes += CM_WIRE_CONTENT + contents[i]->size;
    if (bytes <= CM_WIRE_AREA)
        return commit_together(txn, contents, content_count, refs, count);
    int result = remote_put_contents(txn, contents, content_count);
    if (!result)
        return remote_commit(txn, refs, count);
    remote_abort(txn);
    return result;
}

/* ---- refs -------------------------------------------------------------------------------------------------------- */

static int take_value(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)area;
    (void)passed;
    cm_buffer *value = arg;
    uint64_t size = cm_read_varint(answer);
    const uint8_t *bytes = cm_read_bytes(answer, size);
    cm_buffer_clear(value);
    if (bytes)
        cm_buffer_append(value, bytes, size);
    return value->error ? cm_fail(ENOMEM, "out of memory") : 0;
}

static int remote_ref_get(cm_backend *backend, const char *key, cm_buffer *value)
{
    cm_call c = cm_call_make(CM_WIRE_REF_GET, value);
    cm_buffer_string(&c.request, key);
    c.take = take_value;
    return cm_call_again((cm_remote *)backend, &c);
}

/* A reply of refs, copied so that the connection is free while the visitor runs. */
static int take_refs(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)area;
    (void)passed;
    cm_buffer *refs = arg;
    cm_buffer_clear(refs);
    cm_buffer_append(refs, answer->at, (size_t)(answer->end - answer->at));
    return refs->error ? cm_fail(ENOMEM, "out of memory") : 0;
}

static int visit_refs(const cm_buffer *refs, char **last, bool *more, cm_ref_visitor visit, void *arg)
{
    cm_reader reader = cm_reader_of(refs->data, refs->size);
    int result = 0;
    while (!result && cm_read_bounded(&reader, 1)) {
        char *key = cm_read_string(&reader);
        uint64_t size = cm_read_varint(&reader);
        const uint8_t *value = cm_read_bytes(&reader, size);
        if (!key || !value) {
            free(key);
            break;
        }
        result = visit(arg, key, value, size);
        free(*last);
        *last = key;
    }
    *more = !result && cm_read_bounded(&reader, 1);
    return !result && reader.bad ? cm_call_senseless() : result;
}

static int remote_ref_list(cm_backend *backend, const char *prefix, cm_ref_visitor visit, void *arg)
{
    cm_cleanup(cm_cleanup_free) char *last = strdup("");
    cm_cleanup(cm_buffer_free) cm_buffer refs = CM_BUFFER_INIT;
    int result = last ? 0 : cm_fail(ENOMEM, "out of memory");
    for (bool more = true; more && !result;) {
        cm_call c = cm_call_make(CM_WIRE_REF_LIST, &refs);
        cm_buffer_string(&c.request, prefix);
        cm_buffer_string(&c.request, last);
        c.take = take_refs;
        result = cm_call_again((cm_remote *)backend, &c);
        if (!result)
            result = visit_refs(&refs, &last, &more, visit, arg);
    }
    return result;
}

static int remote_disk(cm_backend *backend, uint64_t *bytes)
{
    cm_call c = cm_call_make(CM_WIRE_DISK, bytes);
    c.take = take_number;
    return cm_call_again((cm_remote *)backend, &c);
}

/* ---- collections ------------------------------------------------------------------------------------------------- */

/* The packets of an answer: progress, then the report. */
static int follow_gc(cm_link *l, cm_progress_visitor progress, void *arg, cm_gc_report *report)
{
    for (;;) {
        cm_reader answer;
        int passed = -1;
        int result = cm_link_receive(l, &answer, &passed);
        if (passed >= 0)
            close(passed);
        if (result)
            return result;
        uint64_t more = cm_read_bounded(&answer, 1);
        uint64_t *const fields[] = {&report->kept,          &report->kept_bytes,  &report->removed,
                                    &report->removed_bytes, &report->disk_before, &report->disk_after};
        uint64_t done = more ? cm_read_varint(&answer) : 0, total = more ? cm_read_varint(&answer) : 0;
        for (size_t i = 0; !more && i < sizeof fields / sizeof *fields; i++)
            *fields[i] = cm_read_varint(&answer);
        if (answer.bad)
            return cm_call_senseless();
        if (!more)
            return 0;
        result = progress ? progress(arg, done, total) : 0;
        if (result)
            return result;
    }
}

/* Who stops waiting drops the connection, and with it the collection. */
static int remote_gc(cm_backend *backend, bool dry_run, cm_progress_visitor progress, void *arg, cm_gc_report *report)
{
    cm_remote *r = (cm_remote *)backend;
    cm_link *l;
    cm_cleanup(cm_buffer_free) cm_buffer request = CM_BUFFER_INIT;
    cm_buffer_varint(&request, CM_WIRE_GC);
    cm_buffer_varint(&request, dry_run);
    cm_links_drop(r); /* one of them might be to a server that has gone, and this is not repeated */
    int result = request.error ? cm_fail(ENOMEM, "out of memory") : cm_link_acquire(r, &l);
    if (result)
        return result;
    result = cm_wire_send(l->socket, &request, -1);
    if (!result)
        result = follow_gc(l, progress, arg, report);
    cm_link_release(r, l, result ? -ECONNRESET : 0);
    return result;
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static int take_text(const cm_area *area, cm_reader *answer, int passed, void *arg)
{
    (void)area;
    (void)passed;
    *(char **)arg = cm_read_string(answer);
    return 0;
}

static cm_call make_control(int argc, const char *const *argv, char **reply)
{
    cm_call c = cm_call_make(CM_WIRE_CONTROL, reply);
    *reply = NULL;
    cm_buffer_varint(&c.request, (uint64_t)argc);
    for (int i = 0; i < argc; i++)
        cm_buffer_string(&c.request, argv[i]);
    c.take = take_text;
    return c;
}

int cm_remote_control(cm_backend *backend, int argc, const char *const *argv, char **reply)
{
    cm_call c = make_control(argc, argv, reply);
    int result = cm_call_once((cm_remote *)backend, &c);
    cm_buffer_free(&c.request);
    return result;
}

/* ---- the backend ------------------------------------------------------------------------------------------------- */

static void remote_close(cm_backend *backend)
{
    cm_remote *r = (cm_remote *)backend;
    cm_links_drop(r);
    pthread_mutex_destroy(&r->lock);
    free(r->path);
    free(r->command);
    free(r);
}

static const cm_backend_ops remote_ops = {
    .close = remote_close,
    .writable = true,
    .find = remote_find,
    .get = remote_get,
    .list = remote_list,
    .begin = remote_begin,
    .begin_reading = remote_begin_reading,
    .put_contents = remote_put_contents,
    .commit = remote_commit,
    .commit_contents = remote_commit_contents,
    .abort = remote_abort,
    .ref_get = remote_ref_get,
    .ref_list = remote_ref_list,
    .disk_bytes = remote_disk,
    .gc = remote_gc,
};

bool cm_backend_is_remote(const cm_backend *backend)
{
    return backend->ops == &remote_ops;
}

int cm_backend_remote_open(const char *path, unsigned flags, const char *command, cm_backend **out)
{
    cm_remote *r = calloc(1, sizeof *r);
    if (!r)
        return cm_fail(ENOMEM, "out of memory");
    r->base.ops = &remote_ops;
    r->path = strdup(path);
    r->command = command ? strdup(command) : NULL;
    r->flags = flags;
    r->pid = getpid();
    pthread_mutex_init(&r->lock, NULL);
    cm_link *first = NULL;
    int result = r->path && (r->command || !command) ? 0 : cm_fail(ENOMEM, "out of memory");
    if (!result && getrandom(&r->token, sizeof r->token, 0) != sizeof r->token)
        result = cm_fail(errno, "no random numbers from the kernel");
    if (!result)
        result = cm_link_acquire(r, &first);
    if (result) {
        remote_close(&r->base);
        return result;
    }
    cm_link_release(r, first, 0);
    *out = &r->base;
    return 0;
}

int cm_serve_ask(const char *store, int argc, const char *const *argv, char **reply)
{
    cm_backend *backend;
    int result = cm_backend_remote_open(store, CM_OPEN_READ, NULL, &backend);
    if (result)
        return result;
    result = cm_remote_control(backend, argc, argv, reply);
    remote_close(backend);
    return result;
}
