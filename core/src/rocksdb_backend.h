/* SPDX-License-Identifier: Apache-2.0 */
/* rocksdb_backend.h - what reading (backend_rocksdb.c), writing (rocksdb_txn.c) and removing (rocksdb_sweep.c) share. */
#ifndef CM_ROCKSDB_BACKEND_H
#define CM_ROCKSDB_BACKEND_H

#include "backend.h"
#include "rocksdb_handle.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

typedef struct cm_rocksdb_backend {
    cm_backend base;
    cm_rocksdb rocks;
    pid_t pid; /* of the process that opened it; no other may use it */
    int lock_fd;
    pthread_rwlock_t gate; /* shared to use rocks.db, exclusive to replace it */
    pthread_mutex_t refresh_lock;
    uint64_t last_log;   /* of a reader: the newest log when it last caught up; see backend_refresh */
    atomic_bool broken;  /* a write failed: RocksDB takes no more until it is reopened */
    uint64_t generation; /* of rocks.db, under the gate */
    atomic_uint_fast64_t next_sequence;
    pthread_mutex_t commit_lock; /* compare and swap of refs, and all below */
    uint64_t commits;
    uint64_t epoch;       /* as the database has it under CM_EPOCH_KEY, in the family of runs */
    pthread_cond_t idle;  /* no transaction is open any more, or begins need wait no longer */
    bool sweeping;        /* begins wait */
    cm_backend_txn *open; /* transactions that were begun and are not freed */
    bool collecting;      /* then what is committed is noted: */
    bool fresh_lost;      /* not all: out of memory */
    cm_object_entry *fresh;
    size_t fresh_count, fresh_capacity;
} cm_rocksdb_backend;

/* Enters the gate, shared: 0, or why the backend cannot be used (-EPERM in a forked child, -EIO when it is closed). */
CM_MUST_USE int cm_rocksdb_enter(cm_rocksdb_backend *store);
void cm_rocksdb_leave(cm_rocksdb_backend *store);

/* Inside the gate; as find of the table, sequences to *sequences if that is not NULL. */
CM_MUST_USE int cm_rocksdb_find(cm_rocksdb_backend *store, const cm_id *ids, size_t count, cm_object_info *infos,
                                uint64_t *sequences);
/* Visits the index from an id on (NULL: the first); a visitor's non-zero ends it and is returned. */
typedef int (*cm_rocksdb_entry_visitor)(void *arg, const cm_id *id, const cm_object_info *info, uint64_t sequence);
CM_MUST_USE int cm_rocksdb_each(cm_rocksdb_backend *store, const cm_id *from, cm_rocksdb_entry_visitor visit,
                                void *arg);
/* Inside the gate; as ref_get of the table, but without a sentence for -ENOENT. */
CM_MUST_USE int cm_rocksdb_ref(cm_rocksdb_backend *store, const char *key, cm_buffer *value);

/* Removes what transactions that died have left in bulk, and sets next_sequence and epoch. Single-threaded: after opening. */
CM_MUST_USE int cm_rocksdb_recover(cm_rocksdb_backend *store);
/* Closes and opens the database after a failed write. On failure the store can still be read. */
CM_MUST_USE int cm_rocksdb_reopen(cm_rocksdb_backend *store);

/* Opens the database again if that is needed before it can be written to. */
CM_MUST_USE int cm_rocksdb_be_ready(cm_rocksdb_backend *store);
/* Inside the gate: writes a batch; a failure is noted, and the next be_ready opens the database again. */
CM_MUST_USE int cm_rocksdb_write(cm_rocksdb_backend *store, rocksdb_writeoptions_t *options,
                                 rocksdb_writebatch_t *batch);
void cm_rocksdb_batch_epoch(const cm_rocksdb_backend *store, rocksdb_writebatch_t *batch, uint64_t epoch);
/* Any thread: no transaction in progress, or to come, writes to bulk below this. */
uint64_t cm_rocksdb_horizon(cm_rocksdb_backend *store);

static inline void cm_cleanup_batch(rocksdb_writebatch_t **batch)
{
    if (*batch)
        rocksdb_writebatch_destroy(*batch);
}

/* The writing functions of the table. */
int cm_rocksdb_begin(cm_backend *backend, cm_backend_txn **txn, uint64_t *epoch);
int cm_rocksdb_put(cm_backend_txn *txn, const cm_record *records, size_t count);
int cm_rocksdb_commit(cm_backend_txn *txn, const cm_ref_update *refs, size_t count);
void cm_rocksdb_abort(cm_backend_txn *txn);
int cm_rocksdb_collect(cm_backend *backend, const cm_collector *collector); /* rocksdb_sweep.c */

#endif
