/* SPDX-License-Identifier: Apache-2.0 */
/* objects.c - reading objects: every read is checked against the record's checksum. */
#include "codec.h"
#include "store.h"

const char *cm_kind_name(unsigned kind)
{
    static const char *const names[] = {"?", "pod", "chunk", "tree", "map", "checkpoint"};
    return kind < sizeof names / sizeof *names ? names[kind] : names[0];
}

static int named(int result, const cm_store *store, const cm_id *id)
{
    char hex[CM_ID_HEX + 1];
    cm_id_hex(id, hex);
    if (result == -ENOENT)
        return cm_fail(EILSEQ, "object %.16s is missing from %s", hex, store->path);
    return cm_fail_in(result, "object %.16s in %s", hex, store->path);
}

int cm_object_get(cm_store *store, const cm_id *id, unsigned kind, cm_buffer *content)
{
    cm_cleanup(cm_buffer_free) cm_buffer record = CM_BUFFER_INIT;
    cm_object_info info;
    int result = store->backend->ops->get(store->backend, id, &record, &info);
    if (result)
        return named(result, store, id);
    result = cm_record_decode(record.data, record.size, content);
    if (result)
        return named(result, store, id);
    if (kind && !store->is_snapshot && info.kind != kind) {
        cm_fail(EILSEQ, "it is a %s where a %s is referred to", cm_kind_name(info.kind), cm_kind_name(kind));
        return named(-EILSEQ, store, id);
    }
    return 0;
}

int cm_object_get_into(cm_store *store, const cm_id *id, void *memory, size_t size, cm_buffer *scratch)
{
    cm_object_info info;
    int result = store->backend->ops->get(store->backend, id, scratch, &info);
    if (!result)
        result = cm_record_decode_into(scratch->data, scratch->size, memory, size);
    return result ? named(result, store, id) : 0;
}

int cm_object_stat(cm_store *store, const cm_id *id, cm_object_info *info)
{
    int result = store->backend->ops->find(store->backend, id, 1, info);
    if (result)
        return result;
    if (info->kind == 0) {
        char hex[CM_ID_HEX + 1];
        cm_id_hex(id, hex);
        return cm_fail(ENOENT, "no object %s in %s", hex, store->path);
    }
    return 0;
}

int cm_object_read(cm_store *store, const cm_id *id, void **data, size_t *size)
{
    cm_buffer content = CM_BUFFER_INIT;
    cm_object_info info;
    int result = cm_object_stat(store, id, &info);
    if (!result)
        result = cm_object_get(store, id, 0, &content);
    if (!result && !content.data && !(content.data = malloc(1)))
        result = cm_fail(ENOMEM, "out of memory");
    if (result) {
        cm_buffer_free(&content);
        return result;
    }
    *data = content.data;
    *size = content.size;
    return 0;
}

typedef struct listing {
    const cm_id *prefix;
    unsigned bits;
    cm_object_visitor visit;
    void *arg;
    int result;
} listing;

static bool begins_with(const cm_id *id, const cm_id *prefix, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(id->bytes, prefix->bytes, whole) != 0)
        return false;
    return rest == 0 || ((id->bytes[whole] ^ prefix->bytes[whole]) >> (8 - rest)) == 0;
}

enum { STOPPED = 1 };

static int list_one(void *arg, const cm_id *id, const cm_object_info *info)
{
    listing *l = arg;
    if (l->bits && !begins_with(id, l->prefix, l->bits))
        return STOPPED;
    l->result = l->visit(l->arg, id, info);
    return l->result ? STOPPED : 0;
}

int cm_object_list(cm_store *store, const cm_id *prefix, unsigned bits, cm_object_visitor visit, void *arg)
{
    if (bits > 256 || (bits && !prefix))
        return cm_fail(EINVAL, "an id prefix has at most 256 bits");
    cm_id from = {{0}};
    if (bits) { /* the prefix followed by zero bits */
        memcpy(from.bytes, prefix->bytes, (bits + 7) / 8);
        if (bits % 8)
            from.bytes[bits / 8] &= (uint8_t)(0xff << (8 - bits % 8));
    }
    listing l = {.prefix = prefix, .bits = bits, .visit = visit, .arg = arg};
    int result = store->backend->ops->list(store->backend, &from, list_one, &l);
    return result == STOPPED ? l.result : result;
}
