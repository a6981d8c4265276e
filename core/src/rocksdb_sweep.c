/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rocksdb_sweep.c - removing objects from a store in RocksDB, and giving their space back.
 *
 * Removing is done in the index alone: a record without an index entry does not exist for anyone. The space is then given back
 * table by table of bulk, by what the index says is alive in each: a table with nothing alive is removed as a file; one with
 * much that is dead is compacted, with tombstones for all between the living. That also finds what was left behind by
 * crashes. Other tables stay as they are; at most 1/DEAD_PART of them is dead.
 *
 * Tables that a transaction in progress may still write into the range of (the horizon) are left alone.
 */
#include "error.h"
#include "rocksdb_backend.h"

#include <stdlib.h>
#include <time.h>

enum {
    ENTRIES_AT_ONCE = 1 << 14, /* removed from the index in one batch */
    GRACE_S = 2,               /* for transactions in progress to end, and for RocksDB's own work */
    ASK_AGAIN_NS = 1000000,    /* whether RocksDB is at work */
    DEAD_PART = 8,             /* a table is compacted if more than 1/8 of it is dead */
    RECORD_OVERHEAD = 64,      /* bytes of a table per record, about: key, block, and the block's place in the index */
};

static int out_of_memory(void)
{
    return cm_fail(ENOMEM, "out of memory");
}

/* ---- removing from the index ----------------------------------------------------------------------------------------- */

static int remove_some(cm_rocksdb_backend *store, const cm_id *ids, size_t count, bool last, const uint64_t *epoch)
{
    rocksdb_writebatch_t *batch cm_cleanup(cm_cleanup_batch) = rocksdb_writebatch_create();
    if (epoch)
        cm_rocksdb_batch_epoch(store, batch, *epoch);
    for (size_t i = 0; i < count; i++)
        rocksdb_writebatch_delete_cf(batch, store->rocks.cf[CM_CF_INDEX], (const char *)ids[i].bytes,
                                     sizeof ids[i].bytes);
    return cm_rocksdb_write(store, last ? store->rocks.write_synced : store->rocks.write_quick, batch);
}

/*
 * Under commit_lock. The epoch moves with the first batch; the log keeps the order of batches, so that after a crash the first ones are
 * gone and the others there.
 */
static int remove_entries(cm_rocksdb_backend *store, const cm_id *ids, size_t count)
{
    uint64_t epoch = store->epoch + 1;
    int result = 0;
    for (size_t at = 0; at < count && !result; at += ENTRIES_AT_ONCE) {
        size_t some = count - at < ENTRIES_AT_ONCE ? count - at : ENTRIES_AT_ONCE;
        result = remove_some(store, ids + at, some, at + some == count, at == 0 ? &epoch : NULL);
        store->epoch = epoch; /* also if that failed: it may be on disk */
    }
    return result;
}

/*
 * Under commit_lock, which is given up meanwhile: lets transactions in progress end, and none begin. Those that take too long are
 * refused when they commit.
 */
static void await_transactions(cm_rocksdb_backend *store)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GRACE_S;
    while (store->open && pthread_cond_timedwait(&store->idle, &store->commit_lock, &until) == 0)
        ;
}

static int sweep(cm_rocksdb_backend *store, const cm_collector *collector, uint64_t generation, size_t *removed)
{
    const cm_id *ids;
    if (generation != store->generation)
        return cm_fail(EIO, "store %s had to be reopened after a failed write meanwhile; try again",
                       store->rocks.store);
    pthread_mutex_lock(&store->commit_lock);
    store->sweeping = true;
    await_transactions(store);
    int result = store->fresh_lost ? out_of_memory()
                                   : collector->choose(collector->arg, store->fresh, store->fresh_count, &ids, removed);
    if (!result)
        result = remove_entries(store, ids, *removed);
    store->sweeping = false;
    pthread_cond_broadcast(&store->idle);
    pthread_mutex_unlock(&store->commit_lock);
    return result;
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

/* A table of bulk in the last level, where they do not overlap. */
typedef struct table {
    uint64_t first, last; /* sequences */
    uint64_t size, records;
    uint64_t live, live_bytes;
    bool chosen;
} table;

typedef struct tables {
    table *items;
    size_t count, capacity;
    uint64_t *live; /* sequences that are alive in chosen ones */
    size_t live_count, live_capacity;
} tables;

static void clear_tables(tables *t)
{
    free(t->items);
    free(t->live);
}

static int by_first(const void *a, const void *b)
{
    const table *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static int add_table(tables *t, const rocksdb_livefiles_t *files, int i, uint64_t horizon)
{
    size_t first_size, last_size;
    const char *first = rocksdb_livefiles_smallestkey(files, i, &first_size);
    const char *last = rocksdb_livefiles_largestkey(files, i, &last_size);
    if (strcmp(rocksdb_livefiles_column_family_name(files, i), CM_BULK_NAME) != 0 ||
        rocksdb_livefiles_level(files, i) == 0 || first_size != 8 || last_size != 8 ||
        cm_sequence_unpack(last) >= horizon)
        return 0;
    if (!cm_grow(&t->items, t->count, &t->capacity, sizeof *t->items))
        return out_of_memory();
    t->items[t->count++] = (table){.first = cm_sequence_unpack(first),
                                   .last = cm_sequence_unpack(last),
                                   .size = rocksdb_livefiles_size(files, i),
                                   .records = rocksdb_livefiles_entries(files, i)};
    return 0;
}

static int read_tables(cm_rocksdb_backend *store, uint64_t horizon, tables *t)
{
    const rocksdb_livefiles_t *files = rocksdb_livefiles(store->rocks.db);
    int result = 0;
    for (int i = 0; i < rocksdb_livefiles_count(files) && !result; i++)
        result = add_table(t, files, i, horizon);
    rocksdb_livefiles_destroy(files);
    if (t->count)
        qsort(t->items, t->count, sizeof *t->items, by_first);
    return result;
}

static int by_range(const void *sequence, const void *one)
{
    uint64_t wanted = *(const uint64_t *)sequence;
    const table *t = one;
    return wanted < t->first ? -1 : wanted > t->last;
}

static table *table_of(const tables *t, uint64_t sequence)
{
    return t->count ? bsearch(&sequence, t->items, t->count, sizeof *t->items, by_range) : NULL;
}

static int count_live(void *arg, const cm_id *id, const cm_object_info *info, uint64_t sequence)
{
    (void)id;
    table *one = table_of(arg, sequence);
    if (one) {
        one->live++;
        one->live_bytes += info->stored;
    }
    return 0;
}

static int list_live(void *arg, const cm_id *id, const cm_object_info *info, uint64_t sequence)
{
    (void)id;
    (void)info;
    tables *t = arg;
    const table *one = table_of(t, sequence);
    if (!one || !one->chosen)
        return 0;
    if (!cm_grow(&t->live, t->live_count, &t->live_capacity, sizeof *t->live))
        return out_of_memory();
    t->live[t->live_count++] = sequence;
    return 0;
}

static int by_sequence(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* ---- giving space back ----------------------------------------------------------------------------------------------- */

static bool is_worth_it(const table *one)
{
    uint64_t needed = one->live_bytes + one->records * RECORD_OVERHEAD;
    return one->records > one->live && one->size > needed && (one->size - needed) * DEAD_PART > one->size;
}

/*
 * Compacting reads all of a table. If that fails RocksDB takes no more writes, and tries again for ever; so a damaged one is left as
 * it is.
 */
static bool is_readable(const cm_rocksdb_backend *store, const table *one)
{
    uint8_t key[8];
    char *error = NULL;
    cm_sequence_pack(one->first, key);
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->rocks.db, store->rocks.read_once, store->rocks.cf[CM_CF_BULK]);
    for (rocksdb_iter_seek(iterator, (const char *)key, sizeof key); rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t size;
        const char *at = rocksdb_iter_key(iterator, &size);
        if (size != sizeof key || cm_sequence_unpack(at) > one->last)
            break;
    }
    rocksdb_iter_get_error(iterator, &error);
    rocksdb_iter_destroy(iterator);
    bool readable = !error;
    rocksdb_free(error);
    return readable;
}

static void bury(const cm_rocksdb_backend *store, rocksdb_writebatch_t *batch, uint64_t from, uint64_t end)
{
    uint8_t first[8], last[8];
    cm_sequence_pack(from, first);
    cm_sequence_pack(end, last);
    if (from < end)
        rocksdb_writebatch_delete_range_cf(batch, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                                           (const char *)last, sizeof last);
}

/* Tables `from` to `end` follow each other, all chosen; `live` are the living of all chosen ones. */
static int rewrite(cm_rocksdb_backend *store, const tables *t, size_t from, size_t end, size_t *live)
{
    rocksdb_writebatch_t *batch cm_cleanup(cm_cleanup_batch) = rocksdb_writebatch_create();
    for (size_t i = from; i < end; i++) {
        const table *one = &t->items[i];
        uint64_t at = one->first;
        for (; *live < t->live_count && t->live[*live] <= one->last; ++*live) {
            bury(store, batch, at, t->live[*live]);
            at = t->live[*live] + 1;
        }
        bury(store, batch, at, one->last + 1);
    }
    int result = cm_rocksdb_write(store, store->rocks.write_unlogged, batch);
    if (result)
        return result;
    uint8_t first[8], last[8];
    cm_sequence_pack(t->items[from].first, first);
    cm_sequence_pack(t->items[end - 1].last, last);
    rocksdb_compact_range_cf(store->rocks.db, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                             (const char *)last, sizeof last); /* flushes; what fails is done by the next collection */
    return 0;
}

/* A whole table, if none shares a bound with it. */
static int remove_table(cm_rocksdb_backend *store, const table *one)
{
    uint8_t first[8], last[8];
    char *error = NULL;
    cm_sequence_pack(one->first, first);
    cm_sequence_pack(one->last, last);
    rocksdb_delete_file_in_range_cf(store->rocks.db, store->rocks.cf[CM_CF_BULK], (const char *)first, sizeof first,
                                    (const char *)last, sizeof last, &error);
    return cm_rocksdb_check(&store->rocks, "removing a table of", error);
}

static bool stands_alone(const tables *t, size_t i)
{
    return (i == 0 || t->items[i - 1].last < t->items[i].first) &&
           (i + 1 == t->count || t->items[i].last < t->items[i + 1].first);
}

static int reclaim_tables(cm_rocksdb_backend *store, tables *t)
{
    int result = cm_rocksdb_each(store, NULL, count_live, t);
    for (size_t i = 0; i < t->count && !result; i++) {
        table *one = &t->items[i];
        if (one->live == 0 && stands_alone(t, i))
            result = remove_table(store, one);
        else
            one->chosen = is_worth_it(one) && is_readable(store, one);
    }
    if (!result)
        result = cm_rocksdb_each(store, NULL, list_live, t);
    if (t->live_count)
        qsort(t->live, t->live_count, sizeof *t->live, by_sequence);
    size_t live = 0;
    for (size_t i = 0, end; i < t->count && !result; i = end) {
        for (end = i; end < t->count && t->items[end].chosen; end++)
            ;
        if (end > i)
            result = rewrite(store, t, i, end, &live);
        else
            end++;
    }
    return result;
}

static bool is_at_work(const cm_rocksdb *rocks)
{
    static const char *const properties[] = {"rocksdb.num-running-flushes", "rocksdb.num-running-compactions",
                                             "rocksdb.compaction-pending"};
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof properties / sizeof *properties && !value; i++)
        for (int family = 0; family < CM_CF_COUNT && !value; family++)
            if (rocksdb_property_int_cf(rocks->db, rocks->cf[family], properties[i], &value))
                value = 0;
    return value > 0;
}

/*
 * A compaction is done before RocksDB's thread has removed the files it replaced, and flushing may begin another one. Until
 * that is over they take space, which would be told as not given back. Others may keep RocksDB busy: not for ever.
 */
static void await_removal(const cm_rocksdb *rocks)
{
    struct timespec pause = {.tv_nsec = ASK_AGAIN_NS};
    for (long waited = 0; is_at_work(rocks) && waited < GRACE_S * 1000000000L; waited += ASK_AGAIN_NS)
        nanosleep(&pause, NULL);
}

/* Inside the gate. */
static int reclaim(cm_rocksdb_backend *store, bool index)
{
    tables t cm_cleanup(clear_tables) = {0};
    char *error = NULL;
    uint64_t horizon = cm_rocksdb_horizon(store);
    rocksdb_flush_cf(store->rocks.db, store->rocks.flush, store->rocks.cf[CM_CF_BULK], &error);
    int result = cm_rocksdb_check(&store->rocks, "flushing", error);
    if (result)
        return result;
    rocksdb_compact_range_cf(store->rocks.db, store->rocks.cf[CM_CF_BULK], NULL, 0, NULL,
                             0); /* all to the last level */
    result = read_tables(store, horizon, &t);
    if (!result)
        result = reclaim_tables(store, &t);
    if (result)
        return result;
    if (index)
        rocksdb_compact_range_cf(store->rocks.db, store->rocks.cf[CM_CF_INDEX], NULL, 0, NULL, 0);
    cm_rocksdb_settle(&store->rocks); /* the log goes */
    await_removal(&store->rocks);
    return 0;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static int start(cm_rocksdb_backend *store)
{
    pthread_mutex_lock(&store->commit_lock);
    bool busy = store->collecting;
    store->collecting = true;
    pthread_mutex_unlock(&store->commit_lock);
    return busy ? cm_fail(EBUSY, "a collection of store %s is in progress: wait for it", store->rocks.store) : 0;
}

static void stop(cm_rocksdb_backend *store)
{
    pthread_mutex_lock(&store->commit_lock);
    store->collecting = store->fresh_lost = false;
    free(store->fresh);
    store->fresh = NULL;
    store->fresh_count = store->fresh_capacity = 0;
    pthread_mutex_unlock(&store->commit_lock);
}

static int collect(cm_rocksdb_backend *store, const cm_collector *collector)
{
    size_t removed = 0;
    pthread_rwlock_rdlock(&store->gate);
    uint64_t generation = store->generation;
    pthread_rwlock_unlock(&store->gate);
    int result = collector->mark(collector->arg);
    if (!result)
        result = cm_rocksdb_enter(store);
    if (result)
        return result;
    result = sweep(store, collector, generation, &removed);
    if (!result)
        result = reclaim(store, removed > 0);
    cm_rocksdb_leave(store);
    return result;
}

int cm_rocksdb_collect(cm_backend *backend, const cm_collector *collector)
{
    cm_rocksdb_backend *store = (cm_rocksdb_backend *)backend;
    int result = cm_rocksdb_be_ready(store);
    if (!result)
        result = start(store);
    if (result)
        return result;
    result = collect(store, collector);
    stop(store);
    return result;
}
