/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - from contents to records: what is new is compressed, or stored as a difference from what it was before.
 *
 * A difference is tried first, because it is cheap: against a base of 64 kB that has one byte changed zstd finds everything
 * in 40 microseconds, and what it writes is some dozen bytes. If that is not clearly less than the content compressed by itself, it is
 * not worth the chain.
 */
#include "codec.h"
#include "store.h"

enum {
    LEVEL = 3,
    ENCODE_AT_ONCE = 64,
    DELTA_CLEAR = 8,         /* a difference under 1/8 of the content is taken without trying to compress the content */
    DELTA_WORTH = 2,         /* else it must be under 1/2 of the content compressed */
    SEND_UNASKED = 64 << 10, /* bytes that are sent to a server faster than it is asked which of them it has */
};

static int fetch_record(void *arg, const cm_id *id, cm_buffer *record)
{
    const cm_store *store = arg;
    cm_object_info info;
    return store->backend->ops->get_stored(store->backend, id, record, &info);
}

/* The object that a content may be a difference from. False: there is none that could be used, whyever. */
static bool load_base(cm_store *store, const cm_content *content, cm_buffer *record, cm_base *base)
{
    cm_object_info info;
    const cm_backend_ops *ops = store->backend->ops;
    if (!cm_content_has_base(content) || content->size < CM_DELTA_MIN || content->size > CM_DELTA_MOST ||
        !ops->get_stored)
        return false;
    return ops->get_stored(store->backend, &content->base, record, &info) == 0 && info.size <= CM_DELTA_MOST &&
           info.kind == content->kind && cm_base_load(fetch_record, store, &content->base, record, base) == 0;
}

/* What one thread needs for encoding, used again and again. */
typedef struct encoder {
    cm_base base;
    cm_buffer record, delta;
} encoder;

static void clear_encoder(encoder *e)
{
    cm_buffer_free(&e->base.content);
    cm_buffer_free(&e->record);
    cm_buffer_free(&e->delta);
}

/* Replaces `record`. */
static int encode(cm_store *store, encoder *e, cm_content *content, cm_buffer *record, uint8_t *depth)
{
    *depth = 0;
    cm_buffer_clear(&e->delta);
    if (load_base(store, content, &e->record, &e->base)) {
        int result =
            cm_record_encode_delta(&e->base, content->data, content->size, content->size / DELTA_WORTH, &e->delta);
        if (result)
            return result;
    }
    size_t delta = e->delta.size;
    if (delta == 0 || delta > content->size / DELTA_CLEAR) {
        int result = cm_record_encode(LEVEL, content->data, content->size, record);
        if (result || delta == 0 || delta > record->size / DELTA_WORTH)
            return result;
    }
    cm_buffer_clear(record);
    cm_buffer_append(record, e->delta.data, delta);
    *depth = (uint8_t)(e->base.depth + 1);
    content->different = true;
    return record->error ? cm_fail(ENOMEM, "out of memory for a record of %zu bytes", delta) : 0;
}

/* Encodes and puts up to ENCODE_AT_ONCE contents. */
static int put_some(cm_store *store, cm_backend_txn *txn, encoder *e, cm_content *const *contents, size_t count)
{
    cm_buffer encoded[ENCODE_AT_ONCE] = {CM_BUFFER_INIT};
    cm_record records[ENCODE_AT_ONCE];
    int result = 0;
    for (size_t i = 0; i < count && !result; i++) {
        uint8_t depth;
        result = encode(store, e, contents[i], &encoded[i], &depth);
        contents[i]->stored = encoded[i].size;
        records[i] = (cm_record){
            .id = contents[i]->id,
            .info = {.kind = contents[i]->kind, .size = contents[i]->size, .stored = encoded[i].size, .depth = depth},
            .data = encoded[i].data,
            .size = encoded[i].size,
        };
    }
    if (!result)
        result = store->backend->ops->put(txn, records, count);
    for (size_t i = 0; i < count; i++)
        cm_buffer_free(&encoded[i]);
    return result;
}

static int put_unknown(cm_store *store, cm_backend_txn *txn, cm_known *pending, cm_content **unknown, size_t count)
{
    int result = 0;
    if (store->backend->ops->put_contents) {
        result = store->backend->ops->put_contents(txn, unknown, count);
    } else {
        encoder e cm_cleanup(clear_encoder) = {.record = CM_BUFFER_INIT};
        for (size_t i = 0; i < count && !result; i += ENCODE_AT_ONCE)
            result = put_some(store, txn, &e, unknown + i, count - i < ENCODE_AT_ONCE ? count - i : ENCODE_AT_ONCE);
    }
    for (size_t i = 0; i < count && !result; i++)
        cm_known_add(pending, &unknown[i]->id, unknown[i]->stored);
    return result;
}

/* What the store says of each content; nothing, if it is told with the putting. */
static int ask(cm_store *store, const cm_content *contents, size_t count, cm_id *ids, cm_object_info *infos)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        ids[i] = contents[i].id;
        bytes += contents[i].size;
    }
    if (store->backend->ops->put_contents && bytes <= SEND_UNASKED)
        return 0;
    return store->backend->ops->find(store->backend, ids, count, infos);
}

int cm_contents_put(cm_store *store, cm_backend_txn *txn, cm_known *pending, cm_content *contents, size_t count)
{
    cm_cleanup(cm_cleanup_free) cm_id *ids = calloc(count, sizeof *ids);
    cm_cleanup(cm_cleanup_free) cm_object_info *infos = calloc(count, sizeof *infos);
    cm_cleanup(cm_cleanup_free) cm_content **unknown = calloc(count, sizeof *unknown);
    if (!ids || !infos || !unknown)
        return cm_fail(ENOMEM, "out of memory");
    int result = ask(store, contents, count, ids, infos);
    if (result)
        return result;
    size_t unknown_count = 0;
    for (size_t i = 0; i < count; i++) {
        contents[i].stored = infos[i].stored;
        contents[i].fresh = contents[i].different = false;
        if (infos[i].kind) {
            cm_known_add(pending, &ids[i], infos[i].stored);
        } else if (cm_known_add(pending, &ids[i], 0)) {
            contents[i].fresh = true;
            unknown[unknown_count++] = &contents[i];
        } else { /* another worker is putting it, or did */
            (void)cm_known_find(pending, &ids[i], &contents[i].stored);
        }
    }
    return put_unknown(store, txn, pending, unknown, unknown_count);
}

int cm_content_commit(cm_store *store, cm_backend_txn *txn, cm_known *pending, cm_content *content,
                      const cm_ref_update *refs, size_t count)
{
    const cm_backend_ops *ops = store->backend->ops;
    int result;
    if (ops->commit_contents) {
        result = ops->commit_contents(txn, &content, 1, refs, count);
        if (!result)
            cm_known_add(pending, &content->id, content->stored);
        return result;
    }
    result = cm_contents_put(store, txn, pending, content, 1);
    if (!result)
        return ops->commit(txn, refs, count);
    ops->abort(txn);
    return result;
}
