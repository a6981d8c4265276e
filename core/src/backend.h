/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - what a store keeps its bytes in: a small table of functions.
 *
 * A backend knows objects (immutable records under content ids) and refs (small mutable values under string keys). It does
 * not look into records, but for those that are differences; the codec (codec.h) makes and checks them. All functions may be
 * called from several threads. They return 0 or -errno and set the error sentence (error.h).
 */
#ifndef CM_BACKEND_H
#define CM_BACKEND_H

#include <chipmink/chipmink.h>

#include "buffer.h"

typedef struct cm_backend cm_backend;
typedef struct cm_backend_txn cm_backend_txn;

struct cm_content; /* store.h */

typedef struct cm_record {
    cm_id id;
    cm_object_info info; /* info.stored == size */
    const void *data;    /* borrowed for the call */
    size_t size;
} cm_record;

/* Refs move by compare-and-swap: an update applies only if the key's value is `expected` (NULL: absent). */
typedef struct cm_ref_update {
    const char *key;
    const void *expected;
    size_t expected_size;
    const void *value; /* NULL: delete */
    size_t value_size;
} cm_ref_update;

typedef int (*cm_ref_visitor)(void *arg, const char *key, const void *value, size_t size);

/*
 * Lends the record of the id with that index; it is gone after the call. NULL, and info->kind 0: there is no such object. Non-zero
 * stops, and is returned. May use the backend.
 */
typedef int (*cm_record_visitor)(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info);

/* An object without its record. */
typedef struct cm_object_entry {
    cm_id id;
    cm_object_info info;
} cm_object_entry;

/*
 * A collection, as the backend carries it out. Ids are removed with nothing else being committed meanwhile, so what `choose` is
 * told is all there is. Objects that are differences must be listed before their bases: what is left after a crash is whole.
 */
typedef struct cm_collector {
    /* Marks what is to stay, beside whatever else goes on. */
    int (*mark)(void *arg);
    /* Marks what was committed since the marking began, `fresh` among it, and lists what is to go; the list is the collector's. */
    int (*choose)(void *arg, const cm_object_entry *fresh, size_t fresh_count, const cm_id **ids, size_t *count);
    void *arg;
} cm_collector;

typedef struct cm_backend_ops {
    void (*close)(cm_backend *backend);
    bool writable;
    /* A reader catches up with the writer. NULL: nothing to do. */
    int (*refresh)(cm_backend *backend);
    /* infos[i].kind = 0 for ids that are not there; that is no error. */
    int (*find)(cm_backend *backend, const cm_id *ids, size_t count, cm_object_info *infos);
    /* Visits each once, in their order. A failure of the backend is about the one after the last visited. Differences from
     * other objects are made whole here; info->stored stays what a record takes on disk. */
    int (*get)(cm_backend *backend, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg);
    /* One record as it is stored: it may be a difference (cm_record_base). NULL where no records are kept. -ENOENT: not there. */
    int (*get_stored)(cm_backend *backend, const cm_id *id, cm_buffer *record, cm_object_info *info);
    /* By id, from the first id >= *from (NULL: from the start); stops at a non-zero visitor, which is returned. */
    int (*list)(cm_backend *backend, const cm_id *from, cm_object_visitor visit, void *arg);
    /* Writing. Puts become visible, and durable, with commit, together with the refs: all or nothing. Puts of one txn may come
     * from several threads. Commit and abort free the txn, whatever they return; but when commit returns -EEXIST, a ref was not as
     * expected, nothing was done, and the txn goes on: commit it with other refs, or abort it. -ESTALE: it has put something, and
     * the epoch is not that of its begin: what was found in the store since may be gone. */
    /* *epoch (may be NULL): the store's; it is another one after each collection that removed something. */
    int (*begin)(cm_backend *backend, cm_backend_txn **txn, uint64_t *epoch);
    /* May be NULL. Reads a few refs, as ref_get does, and begins then, in one go: values[i] is empty where there is no such ref. */
    int (*begin_reading)(cm_backend *backend, const char *const *keys, size_t count, cm_buffer *values,
                         cm_backend_txn **txn, uint64_t *epoch);
    int (*put)(cm_backend_txn *txn, const cm_record *records, size_t count);
    /* May be NULL. A backend that encodes records itself takes contents instead, also some that it has; fills in what is out. */
    int (*put_contents)(cm_backend_txn *txn, struct cm_content *const *contents, size_t count);
    int (*commit)(cm_backend_txn *txn, const cm_ref_update *refs, size_t count);
    /* May be NULL. As put_contents and then commit, in one go; what it returns is about both. */
    int (*commit_contents)(cm_backend_txn *txn, struct cm_content *const *contents, size_t content_count,
                           const cm_ref_update *refs, size_t count);
    void (*abort)(cm_backend_txn *txn);
    /* Replaces `value`. -ENOENT: no such ref. */
    int (*ref_get)(cm_backend *backend, const char *key, cm_buffer *value);
    /* All refs whose key begins with `prefix`, by key. */
    int (*ref_list)(cm_backend *backend, const char *prefix, cm_ref_visitor visit, void *arg);
    /* Bytes on disk. */
    int (*disk_bytes)(cm_backend *backend, uint64_t *bytes);
    /* [blocks; commits and begins wait while objects are removed] NULL where nothing can be. -EBUSY: one is in progress. */
    int (*collect)(cm_backend *backend, const cm_collector *collector);
    /* The whole of cm_gc, where that is done elsewhere; NULL: here. */
    int (*gc)(cm_backend *backend, bool dry_run, cm_progress_visitor progress, void *arg, cm_gc_report *report);
} cm_backend_ops;

struct cm_backend {
    const cm_backend_ops *ops;
};

/* flags: enum cm_open_flags. */
CM_MUST_USE int cm_backend_rocksdb_open(const char *path, unsigned flags, cm_backend **backend);
/* A directory of files named by id (`<directory>/pods/<64 hex digits>`, each the raw content): read-only, no refs. */
CM_MUST_USE int cm_backend_snapshot_open(const char *directory, cm_backend **backend);

#endif
