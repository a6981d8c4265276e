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
        return cm_fail(EILSEQ, "object %.16s is missing from %s%s", hex, store->path,
                       store->is_snapshot ? ": copy the directory with all of its pods/" : "");
    return cm_fail_in(result, "object %.16s in %s", hex, store->path);
}

typedef struct reading {
    cm_store *store;
    const cm_id *ids;
    size_t done;
    cm_record_visitor visit;
    void *arg;
} reading;

static int visit_one(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    reading *r = arg;
    int result = info->kind ? r->visit(r->arg, index, record, size, info) : -ENOENT;
    r->done = index + (result == 0);
    return result;
}

int cm_objects_get(cm_store *store, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg)
{
    reading r = {.store = store, .ids = ids, .visit = visit, .arg = arg};
    int result = store->backend->ops->get(store->backend, ids, count, visit_one, &r);
    return result < 0 && r.done < count ? named(result, store, &ids[r.done]) : result;
}

typedef struct one {
    cm_buffer *content;
    cm_object_info *info;
} one;

static int decode_one(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    (void)index;
    const one *o = arg;
    *o->info = *info;
    return cm_record_decode(record, size, o->content);
}

int cm_object_check_kind(const cm_store *store, const cm_object_info *info, unsigned kind)
{
    bool any_bytes = kind == CM_KIND_CHUNK || info->kind == CM_KIND_CHUNK;
    if (!kind || store->is_snapshot || info->kind == kind || any_bytes)
        return 0;
    return cm_fail(EILSEQ, "it is a %s where a %s is referred to", cm_kind_name(info->kind), cm_kind_name(kind));
}

int cm_object_get_info(cm_store *store, const cm_id *id, unsigned kind, cm_buffer *content, cm_object_info *info)
{
    one o = {content, info};
    int result = cm_objects_get(store, id, 1, decode_one, &o);
    if (!result && cm_object_check_kind(store, info, kind))
        result = named(-EILSEQ, store, id);
    return result;
}

int cm_object_get(cm_store *store, const cm_id *id, unsigned kind, cm_buffer *content)
{
    cm_object_info info;
    return cm_object_get_info(store, id, kind, content, &info);
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

/* ---- listing ----------------------------------------------------------------------------------------------------- */

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
