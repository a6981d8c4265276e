/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rocksdb_handle.h - an open RocksDB: its column families and options, and its errors as errno and sentence.
 *
 * Column families
 *     index     content id -> varints: sequence, kind, size, stored
 *     bulk      sequence, 8 bytes big endian -> record
 *     refs      key -> value
 *     default   first sequence of a run of bulk, 8 bytes big endian -> the sequence after its last: what a transaction
 *               in progress may have written there; found when opening, it died and its run is removed. And under the key
 *               "epoch" 8 bytes, little endian, that change with each collection that removes something
 */
#ifndef CM_ROCKSDB_HANDLE_H
#define CM_ROCKSDB_HANDLE_H

#include <chipmink/chipmink.h>
#include <rocksdb/c.h>

enum { CM_CF_RUNS, CM_CF_INDEX, CM_CF_BULK, CM_CF_REFS, CM_CF_COUNT };

#define CM_BULK_NAME "bulk"
#define CM_EPOCH_KEY "epoch"

enum cm_rocksdb_mode {
    CM_ROCKSDB_CREATE,    /* write; make what is missing */
    CM_ROCKSDB_WRITE,     /* the one writer */
    CM_ROCKSDB_SECONDARY, /* beside a writer or alone; writes nothing in the directory */
    CM_ROCKSDB_STATIC, /* the state at the time of opening, without writing: when the disk is full or the log damaged */
};

typedef struct cm_rocksdb {
    char *store; /* the store's directory, for sentences */
    char *path;  /* the database's */
    rocksdb_options_t *options[CM_CF_COUNT];
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read, *read_once; /* the second leaves no blocks in the cache */
    rocksdb_writeoptions_t *write_quick;     /* in the log, not synced */
    rocksdb_writeoptions_t *write_synced;    /* in the log, synced with all that went before */
    rocksdb_writeoptions_t *write_unlogged;  /* durable with the next flush */
    rocksdb_flushoptions_t *flush;
    rocksdb_t *db; /* NULL: closed */
    enum cm_rocksdb_mode mode;
    rocksdb_column_family_handle_t *cf[CM_CF_COUNT];
} cm_rocksdb;

/* Allocates options; does not open. `store` is copied. */
CM_MUST_USE int cm_rocksdb_init(cm_rocksdb *rocks, const char *store);
void cm_rocksdb_clear(cm_rocksdb *rocks); /* closes first */
CM_MUST_USE int cm_rocksdb_open(cm_rocksdb *rocks, enum cm_rocksdb_mode mode);
void cm_rocksdb_close(cm_rocksdb *rocks);
/* Before closing a database that takes writes: leaves nothing in the log, which readers would have to replay. */
void cm_rocksdb_settle(cm_rocksdb *rocks);

/* Takes ownership of RocksDB's error string and returns its -errno with a sentence. NULL: 0. */
CM_MUST_USE int cm_rocksdb_check(const cm_rocksdb *rocks, const char *doing, char *error);

/* Big-endian sequences, so that they sort. */
static inline void cm_sequence_pack(uint64_t sequence, uint8_t key[8])
{
    uint64_t big = __builtin_bswap64(sequence);
    __builtin_memcpy(key, &big, sizeof big);
}

static inline uint64_t cm_sequence_unpack(const void *key)
{
    uint64_t big;
    __builtin_memcpy(&big, key, sizeof big);
    return __builtin_bswap64(big);
}

#endif
