/* SPDX-License-Identifier: Apache-2.0 */
/* backend_support.h - transactions of made-up records for the suites of the backend. */
#ifndef CM_TESTS_BACKEND_SUPPORT_H
#define CM_TESTS_BACKEND_SUPPORT_H

#include "backend.h"
#include "id.h"
#include "support.h"

/* The record number `n`: its bytes follow from n, its id is their SHA-256. `size` may be 0. */
static inline void *made_record(uint64_t n, size_t size, cm_record *record)
{
    uint8_t *data = malloc(size + 8);
    must(data);
    memcpy(data, &n, 8);
    seeded_fill(n, data + 8, size);
    *record = (cm_record){
        .info = {.kind = CM_KIND_CHUNK, .size = size + 1000, .stored = size + 8}, .data = data, .size = size + 8};
    must(cm_id_of(data, size + 8, &record->id) == 0);
    return data;
}

static inline int put_made(cm_backend *backend, cm_backend_txn *txn, uint64_t n, size_t size)
{
    cm_record record;
    void *data = made_record(n, size, &record);
    int result = backend->ops->put(txn, &record, 1);
    free(data);
    return result;
}

/* Commits, or aborts when the ref is not as expected. */
static inline int set_ref(cm_backend *backend, cm_backend_txn *txn, const char *key, const char *expected,
                          const char *value)
{
    cm_ref_update update = {.key = key,
                            .expected = expected,
                            .expected_size = expected ? strlen(expected) : 0,
                            .value = value,
                            .value_size = value ? strlen(value) : 0};
    int result = backend->ops->commit(txn, &update, 1);
    if (result == -EEXIST) /* then it would go on */
        backend->ops->abort(txn);
    return result;
}

typedef struct copied {
    cm_buffer *record;
    cm_object_info *info;
} copied;

static inline int copy_record(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    const copied *c = arg;
    must(index == 0);
    cm_buffer_clear(c->record);
    cm_buffer_append(c->record, record, size);
    *c->info = *info;
    return info->kind ? 0 : -ENOENT;
}

/* Replaces `record`. -ENOENT: not there. */
static inline int get_record(cm_backend *backend, const cm_id *id, cm_buffer *record, cm_object_info *info)
{
    copied c = {record, info};
    return backend->ops->get(backend, id, 1, copy_record, &c);
}

/* Whether the record is there; if so it must be right. */
static inline bool has_made(cm_backend *backend, uint64_t n, size_t size)
{
    cm_record record;
    void *data = made_record(n, size, &record);
    cm_object_info found, got = {0};
    ck_ok(backend->ops->find(backend, &record.id, 1, &found));
    cm_buffer bytes = CM_BUFFER_INIT;
    int result = get_record(backend, &record.id, &bytes, &got);
    if (result == -ENOENT) {
        ck_assert_uint_eq(found.kind, 0);
    } else {
        ck_assert_msg(result == 0, "get: %d (%s)", result, cm_error_message());
        ck_assert_uint_eq(bytes.size, size + 8);
        ck_assert_int_eq(memcmp(bytes.data, data, size + 8), 0);
        ck_assert_uint_eq(got.kind, CM_KIND_CHUNK);
        ck_assert_uint_eq(got.size, size + 1000);
        ck_assert_uint_eq(got.stored, size + 8);
        if (backend->ops->writable) /* a reader may have caught up in between */
            ck_assert_uint_eq(found.kind, CM_KIND_CHUNK);
    }
    cm_buffer_free(&bytes);
    free(data);
    return result == 0;
}

static inline cm_backend *open_backend(const char *path, unsigned flags)
{
    cm_backend *backend = NULL;
    ck_ok(cm_backend_rocksdb_open(path, flags, &backend));
    return backend;
}

/* The number in a ref, 0 when there is none. */
static inline uint64_t ref_number(cm_backend *backend, const char *key)
{
    cm_buffer value = CM_BUFFER_INIT;
    int result = backend->ops->ref_get(backend, key, &value);
    uint64_t number = 0;
    if (result == 0) {
        cm_buffer_append(&value, "", 1);
        number = strtoull((const char *)value.data, NULL, 10);
    } else {
        must(result == -ENOENT);
    }
    cm_buffer_free(&value);
    return number;
}

#endif
