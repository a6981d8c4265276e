/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rocksdb_txn.c - writing to a store in RocksDB.
 *
 * A small transaction keeps its records in memory and writes them, their index entries and the refs as one synced batch.
 * A big one spills: its records go to bulk as they come, past the log. Why that is durable:
 *   - Commit first flushes bulk: when that returns, the tables with the records are synced and the manifest names them.
 *     Only then are index entries and refs written, in one batch, with the log synced. A crash before that batch is
 *     whole leaves records without index entries, which do not exist for anyone; a crash after it finds both.
 *   - Flushing one column family does not lose what others have in the log: RocksDB keeps a log file until every family
 *     with data in it was flushed, and syncs closed logs before it installs a table of a store with several families.
 *     So no atomic flush is needed. A synced write syncs all logs before it, and with them earlier unsynced writes.
 *   - The batch in the log carries a checksum and is applied whole or not at all.
 * Spilled records that were never committed are found again through their runs: sequences are taken in runs, and a
 * run's bounds are in the log (unsynced: after a power failure they may be missing, and then the records stay behind as
 * unused space) before the first record of it is written. Abort and opening remove such runs.
 *
 * After a failed write (a full disk, say) RocksDB refuses more. The next transaction then reopens the database. If the
 * failure was that of syncing the last batch, it is not known whether it is on disk; reopening decides that.
 */
#include "error.h"
#include "rocksdb_backend.h"

#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    SPILL_BYTES = 4 << 20, /* of records in memory */
    RUN_LENGTH = 4096,     /* sequences taken at a time */
    RECORD_OVERHEAD = 32,  /* of a record in a batch, about */
    ENTRY_BYTES = 64,      /* an index entry at most: id and four varints need less */
};

typedef struct entry {
    cm_id id;
    uint64_t sequence;
    cm_object_info info;
} entry;

typedef struct run {
    uint64_t first, end;
} run;

struct cm_backend_txn {
    cm_rocksdb_backend *store;
    uint64_t generation;                       /* of the database it began with */
    uint64_t commits;                          /* of the store when it began */
    uint64_t epoch;                            /* likewise */
    cm_backend_txn *next_open, *previous_open; /* in the store's list */
    pthread_mutex_t lock;
    rocksdb_writebatch_t *pending; /* records not written yet */
    size_t pending_bytes;
    bool spilled;
    int failed; /* sticky -errno, with its sentence */
    char failure[512];
    entry *entries;
    size_t count, capacity;
    size_t *table; /* open addressing by id: index of the entry + 1; a power of two of slots, at most half full */
    size_t slots;
    run *runs;
    size_t run_count;
    uint64_t next; /* within the last run */
};

/* ---- helpers ------------------------------------------------------------------------------------------------------ */

static int out_of_memory(void)
{
    return cm_fail(ENOMEM, "out of memory");
}

/* Notes that the database takes no more writes after some errors, and passes the error on. */
static int check_write(cm_rocksdb_backend *store, const char *doing, char *error)
{
    int result = cm_rocksdb_check(&store->rocks, doing, error);
    if (result < 0)
        atomic_store(&store->broken, true);
    return result;
}

int cm_rocksdb_write(cm_rocksdb_backend *store, rocksdb_writeoptions_t *options, rocksdb_writebatch_t *batch)
{
    char *error = NULL;
    rocksdb_write(store->rocks.db, options, batch, &error);
    return check_write(store, "writing to", error);
}

static size_t *find_slot(const cm_backend_txn *txn, const cm_id *id)
{
    uint64_t key;
    memcpy(&key, id->bytes, sizeof key); /* ids are uniformly distributed already */
    for (size_t i = key & (txn->slots - 1);; i = (i + 1) & (txn->slots - 1))
        if (!txn->table[i] || cm_id_equal(&txn->entries[txn->table[i] - 1].id, id))
            return &txn->table[i];
}

/* Makes room for one more entry. */
static int grow(cm_backend_txn *txn)
{
    if (txn->count < txn->capacity)
        return 0;
    size_t capacity = txn->capacity ? txn->capacity * 2 : 64;
    entry *entries = realloc(txn->entries, capacity * sizeof *entries);
    if (!entries)
        return out_of_memory();
    txn->entries = entries;
    size_t *table = calloc(capacity * 2, sizeof *table);
    if (!table)
        return out_of_memory();
    free(txn->table);
    txn->table = table;
    txn->slots = capacity * 2;
    txn->capacity = capacity;
    for (size_t i = 0; i < txn->count; i++)
        *find_slot(txn, &txn->entries[i].id) = i + 1;
    return 0;
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

static void batch_run(const cm_rocksdb_backend *store, rocksdb_writebatch_t *batch, const run *r)
{
    uint8_t key[8], value[8];
    cm_sequence_pack(r->first, key);
    cm_sequence_pack(r->end, value);
    rocksdb_writebatch_put_cf(batch, store->rocks.cf[CM_CF_RUNS], (const char *)key, sizeof key, (const char *)value,
                              sizeof value);
}

static void batch_run_done(const cm_rocksdb_backend *store, rocksdb_writebatch_t *batch, const run *r)
{
    uint8_t key[8];
    cm_sequence_pack(r->first, key);
    rocksdb_writebatch_delete_cf(batch, store->rocks.cf[CM_CF_RUNS], (const char *)key, sizeof key);
}

static int note_runs(cm_backend_txn *txn, size_t from)
{
    rocksdb_writebatch_t *batch cm_cleanup(cm_cleanup_batch) = rocksdb_writebatch_create();
    for (size_t i = from; i < txn->run_count; i++)
        batch_run(txn->store, batch, &txn->runs[i]);
    return cm_rocksdb_write(txn->store, txn->store->rocks.write_quick, batch);
}

static int take_sequence(cm_backend_txn *txn, uint64_t *sequence)
{
    if (txn->run_count == 0 || txn->next == txn->runs[txn->run_count - 1].end) {
        run *runs = realloc(txn->runs, (txn->run_count + 1) * sizeof *runs);
        if (!runs)
            return out_of_memory();
        txn->runs = runs;
        uint64_t first = atomic_fetch_add(&txn->store->next_sequence, RUN_LENGTH);
        if (txn->run_count > 0 && txn->next == first)
            runs[txn->run_count - 1].end += RUN_LENGTH; /* no other transaction in between, as a rule */
        else
            runs[txn->run_count++] = (run){first, first + RUN_LENGTH};
        txn->next = first;
        if (txn->spilled) {
            int result = note_runs(txn, txn->run_count - 1);
            if (result < 0)
                return result;
        }
    }
    *sequence = txn->next++;
    return 0;
}

/*
 * Removes the records of a run that was never committed: first for readers, by a range tombstone; then whole files, which
 * gives their space back at once; what is left goes when it is compacted.
 */
static int remove_run(cm_rocksdb_backend *store, const run *r)
{
    uint8_t first[8], end[8];
    cm_sequence_pack(r->first, first);
    cm_sequence_pack(r->end, end);
    rocksdb_writebatch_t *batch cm_cleanup(cm_cleanup_batch) = rocksdb_writebatch_create();
    rocksdb_writebatch_delete_range_cf(batch, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                                       (const char *)end, sizeof end);
    batch_run_done(store, batch, r);
    return cm_rocksdb_write(store, store->rocks.write_quick, batch);
}

static int remove_files(cm_rocksdb_backend *store, const run *r, bool wait)
{
    uint8_t first[8], last[8]; /* these functions include the upper bound */
    cm_sequence_pack(r->first, first);
    cm_sequence_pack(r->end - 1, last);
    char *error = NULL;
    rocksdb_delete_file_in_range_cf(store->rocks.db, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                                    (const char *)last, sizeof last, &error);
    int result = check_write(store, "removing uncommitted records of", error);
    if (result < 0)
        return result;
    if (wait) { /* no error is reported; what could not be compacted now will be later */
        rocksdb_compact_range_cf(store->rocks.db, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                                 (const char *)last, sizeof last);
        return 0;
    }
    rocksdb_suggest_compact_range_cf(store->rocks.db, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                                     (const char *)last, sizeof last, &error);
    return check_write(store, "removing uncommitted records of", error);
}

/* Reads the runs of dead transactions; the caller frees *runs. */
static int read_runs(cm_rocksdb_backend *store, run **runs, size_t *count)
{
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->rocks.db, store->rocks.read_once, store->rocks.cf[CM_CF_RUNS]);
    int result = 0;
    for (rocksdb_iter_seek_to_first(iterator); rocksdb_iter_valid(iterator); rocksdb_iter_next(iterator)) {
        size_t key_size, size;
        const char *key = rocksdb_iter_key(iterator, &key_size);
        const char *value = rocksdb_iter_value(iterator, &size);
        if (key_size == strlen(CM_EPOCH_KEY) && memcmp(key, CM_EPOCH_KEY, key_size) == 0)
            continue;
        if (key_size != 8 || size != 8 || cm_sequence_unpack(key) >= cm_sequence_unpack(value)) {
            result = cm_fail(EILSEQ, "store %s is damaged: a run of its bulk is malformed", store->rocks.store);
            break;
        }
        run *more = realloc(*runs, (*count + 1) * sizeof *more);
        if (!more) {
            result = out_of_memory();
            break;
        }
        *runs = more;
        more[(*count)++] = (run){cm_sequence_unpack(key), cm_sequence_unpack(value)};
    }
    if (result == 0) {
        char *error = NULL;
        rocksdb_iter_get_error(iterator, &error);
        result = cm_rocksdb_check(&store->rocks, "reading", error);
    }
    rocksdb_iter_destroy(iterator);
    return result;
}

static int last_sequence(cm_rocksdb_backend *store, uint64_t *last)
{
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->rocks.db, store->rocks.read_once, store->rocks.cf[CM_CF_BULK]);
    rocksdb_iter_seek_to_last(iterator);
    int result = 0;
    *last = 0;
    char *error = NULL;
    rocksdb_iter_get_error(iterator, &error);
    result = cm_rocksdb_check(&store->rocks, "reading", error);
    if (result == 0 && rocksdb_iter_valid(iterator)) {
        size_t size;
        const char *key = rocksdb_iter_key(iterator, &size);
        if (size == 8)
            *last = cm_sequence_unpack(key);
        else
            result = cm_fail(EILSEQ, "store %s is damaged: its bulk has a malformed key", store->rocks.store);
    }
    rocksdb_iter_destroy(iterator);
    return result;
}

void cm_rocksdb_batch_epoch(const cm_rocksdb_backend *store, rocksdb_writebatch_t *batch, uint64_t epoch)
{
    uint8_t value[8];
    cm_put_u64(value, epoch);
    rocksdb_writebatch_put_cf(batch, store->rocks.cf[CM_CF_RUNS], CM_EPOCH_KEY, strlen(CM_EPOCH_KEY),
                              (const char *)value, sizeof value);
}

/*
 * A store that has none gets a random one: a client that keeps what it knows of a store cannot mistake another one, made later in the
 * same place, for it.
 */
static int make_epoch(cm_rocksdb_backend *store)
{
    uint8_t random[8];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return cm_fail(errno, "no random numbers from the kernel");
    store->epoch = cm_get_u64(random);
    rocksdb_writebatch_t *batch cm_cleanup(cm_cleanup_batch) = rocksdb_writebatch_create();
    cm_rocksdb_batch_epoch(store, batch, store->epoch);
    return cm_rocksdb_write(store, store->rocks.write_synced, batch);
}

static int read_epoch(cm_rocksdb_backend *store)
{
    char *error = NULL;
    size_t size = 0;
    char *value = rocksdb_get_cf(store->rocks.db, store->rocks.read, store->rocks.cf[CM_CF_RUNS], CM_EPOCH_KEY,
                                 strlen(CM_EPOCH_KEY), &size, &error);
    int result = cm_rocksdb_check(&store->rocks, "reading", error);
    if (result == 0 && value && size == sizeof store->epoch)
        store->epoch = cm_get_u64((const uint8_t *)value);
    else if (result == 0 && value)
        result = cm_fail(EILSEQ, "the epoch of store %s is damaged", store->rocks.store);
    else if (result == 0)
        result = make_epoch(store);
    rocksdb_free(value);
    return result;
}

int cm_rocksdb_recover(cm_rocksdb_backend *store)
{
    uint64_t last;
    run *runs cm_cleanup(cm_cleanup_free) = NULL;
    size_t count = 0;
    int result = last_sequence(store, &last);
    if (result == 0)
        result = read_runs(store, &runs, &count);
    uint64_t next = last + 1;
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (runs[i].end > next)
            next = runs[i].end;
        result = remove_run(store, &runs[i]);
    }
    if (result < 0)
        return result;
    atomic_store(&store->next_sequence, next);
    result = read_epoch(store);
    for (size_t i = 0; result == 0 && i < count; i++)
        result = remove_files(store, &runs[i], true);
    return result;
}

/* ---- the transaction ----------------------------------------------------------------------------------------------- */

/* In the order of nothing: whoever looks at them looks at all. */
static void link_txn(cm_backend_txn *txn)
{
    txn->next_open = txn->store->open;
    if (txn->next_open)
        txn->next_open->previous_open = txn;
    txn->store->open = txn;
}

static void unlink_txn(cm_backend_txn *txn)
{
    cm_rocksdb_backend *store = txn->store;
    if (store->pid != getpid())
        return; /* a thread that did not come along may hold the lock */
    pthread_mutex_lock(&store->commit_lock);
    if (txn->next_open)
        txn->next_open->previous_open = txn->previous_open;
    if (txn->previous_open)
        txn->previous_open->next_open = txn->next_open;
    else
        store->open = txn->next_open;
    if (!store->open)
        pthread_cond_broadcast(&store->idle);
    pthread_mutex_unlock(&store->commit_lock);
}

/* One that has no sequences yet takes them from next_sequence, which was read before. */
uint64_t cm_rocksdb_horizon(cm_rocksdb_backend *store)
{
    uint64_t horizon = atomic_load(&store->next_sequence);
    pthread_mutex_lock(&store->commit_lock);
    for (cm_backend_txn *txn = store->open; txn; txn = txn->next_open) {
        pthread_mutex_lock(&txn->lock);
        if (txn->run_count && txn->runs[0].first < horizon)
            horizon = txn->runs[0].first;
        pthread_mutex_unlock(&txn->lock);
    }
    pthread_mutex_unlock(&store->commit_lock);
    return horizon;
}

static void free_txn(cm_backend_txn *txn)
{
    unlink_txn(txn);
    cm_cleanup_batch(&txn->pending);
    pthread_mutex_destroy(&txn->lock);
    free(txn->entries);
    free(txn->table);
    free(txn->runs);
    free(txn);
}

int cm_rocksdb_be_ready(cm_rocksdb_backend *store)
{
    int result = cm_rocksdb_enter(store);
    if (result < 0 && result != -EIO) /* -EIO: closed after a failed write; it may be possible to open it again now */
        return result;
    if (result == 0)
        cm_rocksdb_leave(store);
    return atomic_load(&store->broken) ? cm_rocksdb_reopen(store) : 0;
}

int cm_rocksdb_begin(cm_backend *backend, cm_backend_txn **out, uint64_t *epoch)
{
    cm_rocksdb_backend *store = (cm_rocksdb_backend *)backend;
    int result = cm_rocksdb_be_ready(store);
    if (result < 0)
        return result;
    cm_backend_txn *txn = calloc(1, sizeof *txn);
    if (!txn)
        return out_of_memory();
    txn->store = store;
    pthread_mutex_init(&txn->lock, NULL);
    txn->pending = rocksdb_writebatch_create();
    pthread_rwlock_rdlock(&store->gate);
    txn->generation = store->generation;
    pthread_rwlock_unlock(&store->gate);
    pthread_mutex_lock(&store->commit_lock);
    while (store->sweeping)
        pthread_cond_wait(&store->idle, &store->commit_lock);
    txn->commits = store->commits;
    txn->epoch = store->epoch;
    link_txn(txn);
    pthread_mutex_unlock(&store->commit_lock);
    if (epoch)
        *epoch = txn->epoch;
    *out = txn;
    return 0;
}

/* Enters the gate for a transaction. */
static int enter_txn(cm_backend_txn *txn)
{
    int result = cm_rocksdb_enter(txn->store);
    if (result < 0)
        return result;
    if (txn->generation == txn->store->generation)
        return 0;
    cm_rocksdb_leave(txn->store);
    return cm_fail(EIO, "store %s had to be reopened after a failed write while this was written to it; try again",
                   txn->store->rocks.store);
}

static int remember_failure(cm_backend_txn *txn, int result)
{
    if (result < 0 && !txn->failed) {
        txn->failed = result;
        snprintf(txn->failure, sizeof txn->failure, "%s", cm_error_message());
    }
    return result;
}

static int spill(cm_backend_txn *txn)
{
    if (!txn->spilled) {
        int result = note_runs(txn, 0);
        if (result < 0)
            return result;
        txn->spilled = true;
    }
    int result = cm_rocksdb_write(txn->store, txn->store->rocks.write_unlogged, txn->pending);
    rocksdb_writebatch_clear(txn->pending);
    txn->pending_bytes = 0;
    return result;
}

/* Under the lock, so that what is written ascends: bulk stays free of rewriting compactions that way. */
static int put_one(cm_backend_txn *txn, const cm_record *record)
{
    int result = grow(txn);
    if (result < 0)
        return result;
    size_t *slot = find_slot(txn, &record->id);
    if (*slot)
        return 0;
    uint64_t sequence = 0;
    result = take_sequence(txn, &sequence);
    if (result < 0)
        return result;
    uint8_t key[8];
    cm_sequence_pack(sequence, key);
    rocksdb_writebatch_put_cf(txn->pending, txn->store->rocks.cf[CM_CF_BULK], (const char *)key, sizeof key,
                              record->data, record->size);
    txn->pending_bytes += record->size + RECORD_OVERHEAD;
    txn->entries[txn->count] = (entry){record->id, sequence, record->info};
    txn->entries[txn->count].info.stored = record->size;
    *slot = ++txn->count;
    return txn->pending_bytes > SPILL_BYTES ? spill(txn) : 0;
}

static int put_group(cm_backend_txn *txn, const cm_record *records, size_t count)
{
    cm_id ids[64];
    cm_object_info infos[64];
    for (size_t i = 0; i < count; i++)
        ids[i] = records[i].id;
    int result = cm_rocksdb_find(txn->store, ids, count, infos, NULL);
    if (result < 0)
        return result;
    pthread_mutex_lock(&txn->lock);
    if (txn->failed)
        result = cm_fail(-txn->failed, "%s", txn->failure);
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (!infos[i].kind)
            result = remember_failure(txn, put_one(txn, &records[i]));
    }
    pthread_mutex_unlock(&txn->lock);
    return result;
}

int cm_rocksdb_put(cm_backend_txn *txn, const cm_record *records, size_t count)
{
    int result = enter_txn(txn);
    if (result < 0)
        return result;
    for (size_t at = 0; result == 0 && at < count; at += 64)
        result = put_group(txn, records + at, count - at < 64 ? count - at : 64);
    cm_rocksdb_leave(txn->store);
    return result;
}

static void batch_index(const cm_rocksdb_backend *store, rocksdb_writebatch_t *batch, const entry *e, cm_buffer *value)
{
    cm_buffer_clear(value);
    cm_buffer_varint(value, e->sequence);
    cm_buffer_varint(value, e->info.kind);
    cm_buffer_varint(value, e->info.size);
    cm_buffer_varint(value, e->info.stored);
    if (e->info.depth)
        cm_buffer_varint(value, e->info.depth);
    rocksdb_writebatch_put_cf(batch, store->rocks.cf[CM_CF_INDEX], (const char *)e->id.bytes, sizeof e->id.bytes,
                              (const char *)value->data, value->size);
}

static int check_ref(cm_rocksdb_backend *store, const cm_ref_update *ref)
{
    cm_buffer now cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = cm_rocksdb_ref(store, ref->key, &now);
    if (result < 0 && result != -ENOENT)
        return result;
    bool as_expected = ref->expected ? result == 0 && now.size == ref->expected_size &&
                                           (now.size == 0 || memcmp(now.data, ref->expected, now.size) == 0)
                                     : result == -ENOENT;
    return as_expected ? 0
                       : cm_fail(EEXIST, "ref '%s' of store %s was moved by someone else meanwhile; try again",
                                 ref->key, store->rocks.store);
}

/* Under commit_lock: for a collection that is in progress. */
static void note_fresh(cm_backend_txn *txn)
{
    cm_rocksdb_backend *store = txn->store;
    for (size_t i = 0; store->collecting && i < txn->count; i++) {
        if (cm_grow(&store->fresh, store->fresh_count, &store->fresh_capacity, sizeof *store->fresh))
            store->fresh[store->fresh_count++] = (cm_object_entry){txn->entries[i].id, txn->entries[i].info};
        else
            store->fresh_lost = true;
    }
}

/* Under commit_lock: everything of the transaction that readers go by, in one batch. */
static int write_commit(cm_backend_txn *txn, const cm_ref_update *refs, size_t count)
{
    cm_rocksdb_backend *store = txn->store;
    if (txn->count && txn->epoch != store->epoch)
        return cm_fail(ESTALE,
                       "objects were removed from store %s while this was written to it, by 'chipmink gc'; try again",
                       store->rocks.store);
    for (size_t i = 0; i < count; i++) {
        int result = check_ref(store, &refs[i]);
        if (result < 0)
            return result;
    }
    cm_buffer value cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    if (!cm_buffer_extend(&value, ENTRY_BYTES)) /* enough for all entries, so that none can fail */
        return out_of_memory();
    bool alone = store->commits == txn->commits; /* nobody else can have indexed one of the ids */
    for (size_t i = 0; i < txn->count; i++) {
        cm_object_info there = {0};
        int result = alone ? 0 : cm_rocksdb_find(store, &txn->entries[i].id, 1, &there, NULL);
        if (result < 0)
            return result;
        if (!there.kind)
            batch_index(store, txn->pending, &txn->entries[i], &value);
    }
    for (size_t i = 0; i < count; i++) {
        const cm_ref_update *ref = &refs[i];
        if (ref->value)
            rocksdb_writebatch_put_cf(txn->pending, store->rocks.cf[CM_CF_REFS], ref->key, strlen(ref->key), ref->value,
                                      ref->value_size);
        else
            rocksdb_writebatch_delete_cf(txn->pending, store->rocks.cf[CM_CF_REFS], ref->key, strlen(ref->key));
    }
    for (size_t i = 0; txn->spilled && i < txn->run_count; i++)
        batch_run_done(store, txn->pending, &txn->runs[i]);
    if (rocksdb_writebatch_count(txn->pending) == 0)
        return 0;
    store->commits++;
    note_fresh(txn);
    return cm_rocksdb_write(store, store->rocks.write_synced, txn->pending);
}

/* Inside the gate. */
static int commit_txn(cm_backend_txn *txn, const cm_ref_update *refs, size_t count)
{
    cm_rocksdb_backend *store = txn->store;
    if (txn->failed)
        return cm_fail(-txn->failed, "%s", txn->failure);
    if (txn->spilled) {
        int result = spill(txn);
        if (result < 0)
            return result;
        char *error = NULL;
        rocksdb_flush_cf(store->rocks.db, store->rocks.flush, store->rocks.cf[CM_CF_BULK], &error);
        result = check_write(store, "flushing", error);
        if (result < 0)
            return result;
    }
    pthread_mutex_lock(&store->commit_lock);
    int result = write_commit(txn, refs, count);
    pthread_mutex_unlock(&store->commit_lock);
    return result;
}

/* Inside the gate: takes back what was spilled. A database that takes no writes does that when it is reopened. */
static void take_back(cm_backend_txn *txn)
{
    if (!txn->spilled || atomic_load(&txn->store->broken))
        return;
    char why[512]; /* the caller's failure is the one to tell */
    snprintf(why, sizeof why, "%s", cm_error_message());
    int result = 0;
    for (size_t i = 0; result == 0 && i < txn->run_count; i++)
        result = remove_run(txn->store, &txn->runs[i]);
    for (size_t i = 0; result == 0 && i < txn->run_count; i++)
        result = remove_files(txn->store, &txn->runs[i], false);
    cm_fail(EIO, "%s", why);
}

int cm_rocksdb_commit(cm_backend_txn *txn, const cm_ref_update *refs, size_t count)
{
    int result = enter_txn(txn);
    if (result == 0) {
        result = commit_txn(txn, refs, count);
        if (result < 0 && result != -EEXIST)
            take_back(txn);
        cm_rocksdb_leave(txn->store);
    }
    if (result != -EEXIST)
        free_txn(txn);
    return result;
}

void cm_rocksdb_abort(cm_backend_txn *txn)
{
    if (!txn)
        return;
    if (enter_txn(txn) == 0) {
        take_back(txn);
        cm_rocksdb_leave(txn->store);
    }
    free_txn(txn);
}
