/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend_rocksdb.c - a store in RocksDB: opening, closing, reading. Writing is in rocksdb_txn.c.
 *
 * A reader is a RocksDB secondary. What it sees of the writer is put together from the manifest (flushed tables) and the
 * log, read one after the other while the writer goes on, and tables it has not opened yet may be removed under it. So
 * a reader may meet an index entry whose record it cannot see yet, or a missing file: it then catches up and looks again.
 */
#include "rocksdb_backend.h"

#include "codec.h"
#include "error.h"
#include "store_dir.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum {
    FIND_GROUP = 64,         /* ids looked up by one call of RocksDB */
    READER_ATTEMPTS = 4,     /* catch-ups before a reader believes in a failure */
    CACHED_RECORD = 32 << 10 /* records up to this size go through the block cache */
};

static cm_rocksdb_backend *of(cm_backend *backend)
{
    return (cm_rocksdb_backend *)backend;
}

/* ---- the gate ---------------------------------------------------------------------------------------------------- */

static int check_process(const cm_rocksdb_backend *store)
{
    if (store->pid == getpid())
        return 0;
    return cm_fail(EPERM,
                   "store %s was opened by process %ld before it forked this one (%ld), and cannot be used here; "
                   "open it again there for reading, or start a new process",
                   store->rocks.store, (long)store->pid, (long)getpid());
}

int cm_rocksdb_enter(cm_rocksdb_backend *store)
{
    int result = check_process(store);
    if (result < 0)
        return result;
    /* Shared first: glibc lets readers in while a writer waits, so a visitor may use the store it is listing. */
    pthread_rwlock_rdlock(&store->gate);
    if (store->rocks.db)
        return 0;
    pthread_rwlock_unlock(&store->gate);
    return cm_fail(EIO, "store %s could not be reopened after a failure; close it and open it again",
                   store->rocks.store);
}

void cm_rocksdb_leave(cm_rocksdb_backend *store)
{
    pthread_rwlock_unlock(&store->gate);
}

int cm_rocksdb_reopen(cm_rocksdb_backend *store)
{
    pthread_rwlock_wrlock(&store->gate);
    int result = 0;
    if (atomic_load(&store->broken)) {
        store->generation++;
        cm_rocksdb_close(&store->rocks);
        result = cm_rocksdb_open(&store->rocks, CM_ROCKSDB_WRITE);
        if (result == 0)
            result = cm_rocksdb_recover(store);
        if (result == 0) {
            atomic_store(&store->broken, false);
        } else if (!store->rocks.db) {
            char why[400];
            snprintf(why, sizeof why, "%s", cm_error_message());
            if (cm_rocksdb_open(&store->rocks, CM_ROCKSDB_STATIC) == 0)
                cm_fail(-result, "%s", why);
        }
    }
    pthread_rwlock_unlock(&store->gate);
    return result;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static int catch_up(cm_rocksdb_backend *store)
{
    char *error = NULL;
    pthread_mutex_lock(&store->refresh_lock);
    rocksdb_try_catch_up_with_primary(store->rocks.db, &error);
    pthread_mutex_unlock(&store->refresh_lock);
    return cm_rocksdb_check(&store->rocks, "refreshing", error);
}

/* Whether to look again after `result`: only readers do, see the top of this file. */
static bool look_again(cm_rocksdb_backend *store, int result, unsigned *attempts)
{
    return result < 0 && result != -ENOMEM && store->rocks.mode == CM_ROCKSDB_SECONDARY &&
           ++*attempts < READER_ATTEMPTS && catch_up(store) == 0;
}

/* The numbers of the oldest and the newest log file of the writer, 0: none. */
static void find_logs(const cm_rocksdb_backend *store, uint64_t *oldest, uint64_t *newest)
{
    *oldest = *newest = 0;
    DIR *dir = opendir(store->rocks.path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        if (end == entry->d_name || strcmp(end, ".log") != 0)
            continue;
        if (*oldest == 0 || number < *oldest)
            *oldest = number;
        if (number > *newest)
            *newest = number;
    }
    if (dir)
        closedir(dir);
}

static bool log_exists(const cm_rocksdb_backend *store, uint64_t number)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s/%06llu.log", store->rocks.path, (unsigned long long)number);
    return number == 0 || access(name, F_OK) == 0;
}

/*
 * A secondary refuses a log with a damaged record. What is not damaged can still be read, from the state of the store
 * as it is now: the damaged record is passed over, and objects that were in it are missed when they are asked for.
 */
static int open_once(cm_rocksdb_backend *store, uint64_t *oldest)
{
    cm_rocksdb_close(&store->rocks);
    find_logs(store, oldest, &store->last_log);
    int result = cm_rocksdb_open(&store->rocks, CM_ROCKSDB_SECONDARY);
    if (result == -EILSEQ)
        result = cm_rocksdb_open(&store->rocks, CM_ROCKSDB_STATIC);
    return result;
}

/* A log that was there and is not any more may have gone between the manifest, which did not have it yet, and its turn to be read. */
static int open_reader(cm_rocksdb_backend *store)
{
    uint64_t oldest;
    int result = open_once(store, &oldest);
    for (int i = 1; i < READER_ATTEMPTS && result == 0 && !log_exists(store, oldest); i++)
        result = open_once(store, &oldest);
    return result;
}

/*
 * A secondary keeps what it has read of the log in memory, and looks there first. If the writer has flushed and removed
 * a log that the secondary had not read to its end, what it has in memory hides the newer values in the tables, until
 * more is logged: refs would stand still. (Objects never change, so they are not concerned.) Logs are removed oldest
 * first, so as long as the newest one of the last time is there, none was missed. Else the reader is opened afresh.
 */
static int follow(cm_rocksdb_backend *store, bool *missed)
{
    pthread_mutex_lock(&store->refresh_lock);
    uint64_t before = store->last_log, oldest, now;
    find_logs(store, &oldest, &now);
    pthread_mutex_unlock(&store->refresh_lock);
    int result = catch_up(store);
    *missed = !log_exists(store, before) || !log_exists(store, now);
    pthread_mutex_lock(&store->refresh_lock);
    store->last_log = now;
    pthread_mutex_unlock(&store->refresh_lock);
    return result;
}

static int backend_refresh(cm_backend *backend)
{
    bool missed = false;
    cm_rocksdb_backend *store = of(backend);
    int result = cm_rocksdb_enter(store);
    if (result < 0 && result != -EIO)
        return result;
    if (result == 0) {
        bool follows = store->rocks.mode == CM_ROCKSDB_SECONDARY;
        result = follows ? follow(store, &missed) : -EILSEQ;
        cm_rocksdb_leave(store);
    }
    if (result == -EILSEQ || result == -EIO || missed) {
        pthread_rwlock_wrlock(&store->gate);
        result = open_reader(store);
        pthread_rwlock_unlock(&store->gate);
    }
    return result;
}

static int parse_entry(const cm_rocksdb_backend *store, const void *data, size_t size, cm_object_info *info,
                       uint64_t *sequence)
{
    cm_reader reader = cm_reader_of(data, size);
    *sequence = cm_read_varint(&reader);
    info->kind = (uint8_t)cm_read_bounded(&reader, UINT8_MAX);
    info->size = cm_read_varint(&reader);
    info->stored = cm_read_varint(&reader);
    info->depth = reader.at != reader.end ? (uint8_t)cm_read_bounded(&reader, CM_DELTA_DEPTH) : 0;
    if (reader.bad || reader.at != reader.end || info->kind == 0)
        return cm_fail(EILSEQ, "store %s is damaged: an entry of its index is malformed; run 'chipmink verify'",
                       store->rocks.store);
    return 0;
}

static int find_group(cm_rocksdb_backend *store, const cm_id *ids, size_t count, cm_object_info *infos,
                      uint64_t *sequences)
{
    const char *keys[FIND_GROUP];
    size_t sizes[FIND_GROUP];
    rocksdb_pinnableslice_t *values[FIND_GROUP] = {0};
    char *errors[FIND_GROUP] = {0};
    for (size_t i = 0; i < count; i++) {
        keys[i] = (const char *)ids[i].bytes;
        sizes[i] = sizeof ids[i].bytes;
    }
    rocksdb_batched_multi_get_cf(store->rocks.db, store->rocks.read, store->rocks.cf[CM_CF_INDEX], count, keys, sizes,
                                 values, errors, false);
    int result = 0;
    for (size_t i = 0; i < count; i++) {
        infos[i] = (cm_object_info){0};
        uint64_t sequence = 0;
        int failed = cm_rocksdb_check(&store->rocks, "reading the index of", errors[i]);
        if (failed == 0 && values[i]) {
            size_t size;
            const char *data = rocksdb_pinnableslice_value(values[i], &size);
            failed = parse_entry(store, data, size, &infos[i], &sequence);
        }
        if (values[i])
            rocksdb_pinnableslice_destroy(values[i]);
        if (sequences)
            sequences[i] = sequence;
        result = result < 0 ? result : failed;
    }
    return result;
}

int cm_rocksdb_find(cm_rocksdb_backend *store, const cm_id *ids, size_t count, cm_object_info *infos,
                    uint64_t *sequences)
{
    for (size_t at = 0; at < count; at += FIND_GROUP) {
        size_t n = count - at < FIND_GROUP ? count - at : FIND_GROUP;
        unsigned attempts = 0;
        int result;
        do
            result = find_group(store, ids + at, n, infos + at, sequences ? sequences + at : NULL);
        while (look_again(store, result, &attempts));
        if (result < 0)
            return result;
    }
    return 0;
}

static int backend_find(cm_backend *backend, const cm_id *ids, size_t count, cm_object_info *infos)
{
    int result = cm_rocksdb_enter(of(backend));
    if (result < 0)
        return result;
    result = cm_rocksdb_find(of(backend), ids, count, infos, NULL);
    cm_rocksdb_leave(of(backend));
    return result;
}

/* The record at a sequence, which the caller destroys. */
static int read_record(cm_rocksdb_backend *store, const cm_id *id, const cm_object_info *info, uint64_t sequence,
                       rocksdb_pinnableslice_t **record)
{
    uint8_t key[8];
    cm_sequence_pack(sequence, key);
    char *error = NULL;
    *record = rocksdb_get_pinned_cf(store->rocks.db,
                                    info->stored <= CACHED_RECORD ? store->rocks.read : store->rocks.read_once,
                                    store->rocks.cf[CM_CF_BULK], (const char *)key, sizeof key, &error);
    int result = cm_rocksdb_check(&store->rocks, "reading an object of", error);
    if (result < 0 || *record)
        return result;
    char hex[CM_ID_HEX + 1];
    cm_id_hex(id, hex);
    return cm_fail(EILSEQ, "store %s is damaged: the record of object %s is missing; run 'chipmink verify'",
                   store->rocks.store, hex);
}

/* Lends one; its index entry was looked up just before, and is again when a reader has to catch up. */
static int lend(cm_rocksdb_backend *store, const cm_id *id, cm_object_info *info, uint64_t sequence,
                rocksdb_pinnableslice_t **record)
{
    unsigned attempts = 0;
    int result;
    do {
        result = attempts ? find_group(store, id, 1, info, &sequence) : 0;
        if (!result)
            result = info->kind ? read_record(store, id, info, sequence, record) : -ENOENT;
    } while (look_again(store, result, &attempts));
    return result;
}

/* Inside the gate. */
static int get_stored(cm_rocksdb_backend *store, const cm_id *id, cm_buffer *record, cm_object_info *info)
{
    uint64_t sequence;
    rocksdb_pinnableslice_t *pinned = NULL;
    size_t size = 0;
    int result = cm_rocksdb_find(store, id, 1, info, &sequence);
    if (!result)
        result = lend(store, id, info, sequence, &pinned);
    if (result)
        return result;
    cm_buffer_clear(record);
    const void *data = rocksdb_pinnableslice_value(pinned, &size);
    cm_buffer_append(record, data, size);
    rocksdb_pinnableslice_destroy(pinned);
    return record->error ? cm_fail(ENOMEM, "out of memory for a record of %zu bytes", size) : 0;
}

static int backend_get_stored(cm_backend *backend, const cm_id *id, cm_buffer *record, cm_object_info *info)
{
    cm_rocksdb_backend *store = of(backend);
    int result = cm_rocksdb_enter(store);
    if (result < 0)
        return result;
    result = get_stored(store, id, record, info);
    cm_rocksdb_leave(store);
    return result;
}

static int fetch_base(void *store, const cm_id *id, cm_buffer *record)
{
    cm_object_info info;
    return get_stored(store, id, record, &info);
}

/* Makes a lent difference whole, in `own`. */
static int resolve(cm_rocksdb_backend *store, const void **data, size_t *size, cm_buffer *own)
{
    cm_buffer_clear(own);
    cm_buffer_append(own, *data, *size);
    if (own->error)
        return cm_fail(ENOMEM, "out of memory for a record of %zu bytes", *size);
    int result = cm_record_resolve(fetch_base, store, own);
    *data = own->data;
    *size = own->size;
    return result;
}

static int get_group(cm_rocksdb_backend *store, const cm_id *ids, size_t count, size_t start, cm_record_visitor visit,
                     void *arg)
{
    cm_object_info infos[FIND_GROUP];
    uint64_t sequences[FIND_GROUP];
    cm_buffer own cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = cm_rocksdb_find(store, ids, count, infos, sequences);
    for (size_t i = 0; i < count && !result; i++) {
        rocksdb_pinnableslice_t *record = NULL;
        size_t size = 0;
        result = lend(store, &ids[i], &infos[i], sequences[i], &record);
        const void *data = record ? rocksdb_pinnableslice_value(record, &size) : NULL;
        if (!result && infos[i].depth)
            result = resolve(store, &data, &size, &own);
        if (!result || result == -ENOENT)
            result = visit(arg, start + i, data, size, &infos[i]);
        if (record)
            rocksdb_pinnableslice_destroy(record);
    }
    return result;
}

static int backend_get(cm_backend *backend, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg)
{
    cm_rocksdb_backend *store = of(backend);
    int result = cm_rocksdb_enter(store);
    if (result < 0)
        return result;
    for (size_t at = 0; at < count && !result; at += FIND_GROUP)
        result = get_group(store, ids + at, count - at < FIND_GROUP ? count - at : FIND_GROUP, at, visit, arg);
    cm_rocksdb_leave(store);
    return result;
}

/* ---- walks ------------------------------------------------------------------------------------------------------- */

/* Calls `visit` for the entries of a column family from the key in `from` on; 1 from it ends the walk well. */
typedef int (*entry_visitor)(void *arg, const char *key, size_t key_size, const char *value, size_t size);

/* `at` holds the key to start from, and afterwards the last one visited; *visited says that it was. */
static int walk_once(cm_rocksdb_backend *store, int family, cm_buffer *at, bool *visited, entry_visitor visit,
                     void *arg, bool *stopped)
{
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->rocks.db, store->rocks.read_once, store->rocks.cf[family]);
    int result = 0;
    rocksdb_iter_seek(iterator, (const char *)at->data, at->size);
    for (; rocksdb_iter_valid(iterator); rocksdb_iter_next(iterator)) {
        size_t key_size, size;
        const char *key = rocksdb_iter_key(iterator, &key_size);
        const char *value = rocksdb_iter_value(iterator, &size);
        if (*visited && key_size == at->size && memcmp(key, at->data, key_size) == 0)
            continue;
        cm_buffer_clear(at);
        cm_buffer_append(at, key, key_size);
        if (at->error) {
            result = cm_fail(ENOMEM, "out of memory");
            break;
        }
        *visited = true;
        result = visit(arg, key, key_size, value, size);
        if (result != 0) {
            *stopped = true;
            break;
        }
    }
    if (result == 0) {
        char *error = NULL;
        rocksdb_iter_get_error(iterator, &error);
        result = cm_rocksdb_check(&store->rocks, "listing", error);
    }
    rocksdb_iter_destroy(iterator);
    return result;
}

static int walk(cm_rocksdb_backend *store, int family, const void *from, size_t from_size, entry_visitor visit,
                void *arg)
{
    int result = cm_rocksdb_enter(store);
    if (result < 0)
        return result;
    cm_buffer at cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    cm_buffer_append(&at, from, from_size);
    bool visited = false, stopped = false;
    unsigned attempts = 0;
    do
        result =
            at.error ? cm_fail(ENOMEM, "out of memory") : walk_once(store, family, &at, &visited, visit, arg, &stopped);
    while (!stopped && look_again(store, result, &attempts));
    cm_rocksdb_leave(store);
    return result;
}

typedef struct each_visit {
    cm_rocksdb_backend *store;
    cm_rocksdb_entry_visitor visit;
    void *arg;
} each_visit;

static int each_entry(void *arg, const char *key, size_t key_size, const char *value, size_t size)
{
    const each_visit *each = arg;
    cm_object_info info;
    cm_id id;
    uint64_t sequence;
    if (key_size != sizeof id.bytes)
        return cm_fail(EILSEQ, "store %s is damaged: its index has a malformed key", each->store->rocks.store);
    memcpy(id.bytes, key, sizeof id.bytes);
    int result = parse_entry(each->store, value, size, &info, &sequence);
    return result < 0 ? result : each->visit(each->arg, &id, &info, sequence);
}

int cm_rocksdb_each(cm_rocksdb_backend *store, const cm_id *from, cm_rocksdb_entry_visitor visit, void *arg)
{
    each_visit each = {store, visit, arg};
    return walk(store, CM_CF_INDEX, from ? from->bytes : NULL, from ? sizeof from->bytes : 0, each_entry, &each);
}

typedef struct list_visit {
    cm_object_visitor visit;
    void *arg;
} list_visit;

static int list_entry(void *arg, const cm_id *id, const cm_object_info *info, uint64_t sequence)
{
    (void)sequence;
    const list_visit *list = arg;
    return list->visit(list->arg, id, info);
}

static int backend_list(cm_backend *backend, const cm_id *from, cm_object_visitor visit, void *arg)
{
    list_visit list = {visit, arg};
    return cm_rocksdb_each(of(backend), from, list_entry, &list);
}

/* ---- refs -------------------------------------------------------------------------------------------------------- */

int cm_rocksdb_ref(cm_rocksdb_backend *store, const char *key, cm_buffer *value)
{
    char *error = NULL;
    size_t size = 0;
    char *data = rocksdb_get_cf(store->rocks.db, store->rocks.read, store->rocks.cf[CM_CF_REFS], key, strlen(key),
                                &size, &error);
    int result = cm_rocksdb_check(&store->rocks, "reading a ref of", error);
    if (result < 0)
        return result;
    if (!data)
        return -ENOENT;
    cm_buffer_clear(value);
    cm_buffer_append(value, data, size);
    rocksdb_free(data);
    return value->error ? cm_fail(ENOMEM, "out of memory") : 0;
}

static int backend_ref_get(cm_backend *backend, const char *key, cm_buffer *value)
{
    cm_rocksdb_backend *store = of(backend);
    int result = cm_rocksdb_enter(store);
    if (result < 0)
        return result;
    unsigned attempts = 0;
    do
        result = cm_rocksdb_ref(store, key, value);
    while (result != -ENOENT && look_again(store, result, &attempts));
    cm_rocksdb_leave(store);
    return result == -ENOENT ? cm_fail(ENOENT, "store %s has no ref '%s'", store->rocks.store, key) : result;
}

typedef struct ref_visit {
    const char *prefix;
    size_t prefix_size;
    cm_ref_visitor visit;
    void *arg;
    cm_buffer key;
    int result;
} ref_visit;

static int ref_entry(void *arg, const char *key, size_t key_size, const char *value, size_t size)
{
    ref_visit *refs = arg;
    if (key_size < refs->prefix_size || memcmp(key, refs->prefix, refs->prefix_size) != 0)
        return 1;
    cm_buffer_clear(&refs->key);
    cm_buffer_append(&refs->key, key, key_size);
    cm_buffer_append(&refs->key, "", 1);
    refs->result = refs->key.error ? cm_fail(ENOMEM, "out of memory")
                                   : refs->visit(refs->arg, (const char *)refs->key.data, value, size);
    return refs->result != 0;
}

static int backend_ref_list(cm_backend *backend, const char *prefix, cm_ref_visitor visit, void *arg)
{
    ref_visit refs = {.prefix = prefix, .prefix_size = strlen(prefix), .visit = visit, .arg = arg};
    int result = walk(of(backend), CM_CF_REFS, prefix, refs.prefix_size, ref_entry, &refs);
    cm_buffer_free(&refs.key);
    return result < 0 ? result : refs.result;
}

static int backend_disk_bytes(cm_backend *backend, uint64_t *bytes)
{
    int result = check_process(of(backend));
    return result < 0 ? result : cm_dir_disk_bytes(of(backend)->rocks.store, bytes);
}

/* ---- opening and closing ------------------------------------------------------------------------------------------- */

static void backend_close(cm_backend *backend)
{
    cm_rocksdb_backend *store = of(backend);
    if (!store)
        return;
    if (store->pid != getpid()) {
        /* The database's threads did not come along and its files are the parent's: all that can be given back here
         * is the descriptor of the lock, which stays the parent's too. */
        if (store->lock_fd >= 0)
            close(store->lock_fd);
        store->lock_fd = -1;
        return;
    }
    if (store->rocks.db && store->base.ops->writable && !atomic_load(&store->broken))
        cm_rocksdb_settle(&store->rocks);
    cm_rocksdb_clear(&store->rocks);
    if (store->lock_fd >= 0)
        cm_writer_lock_leave(store->lock_fd);
    pthread_rwlock_destroy(&store->gate);
    pthread_mutex_destroy(&store->refresh_lock);
    pthread_mutex_destroy(&store->commit_lock);
    pthread_cond_destroy(&store->idle);
    free(store->fresh);
    free(store);
}

static int refuse_begin(cm_backend *backend, cm_backend_txn **txn, uint64_t *epoch)
{
    (void)txn;
    (void)epoch;
    return cm_fail(EROFS, "store %s is open for reading only; open it for writing", of(backend)->rocks.store);
}

static const cm_backend_ops writer_ops = {
    .close = backend_close,
    .writable = true,
    .find = backend_find,
    .get = backend_get,
    .get_stored = backend_get_stored,
    .list = backend_list,
    .begin = cm_rocksdb_begin,
    .put = cm_rocksdb_put,
    .commit = cm_rocksdb_commit,
    .abort = cm_rocksdb_abort,
    .ref_get = backend_ref_get,
    .ref_list = backend_ref_list,
    .disk_bytes = backend_disk_bytes,
    .collect = cm_rocksdb_collect,
};

static const cm_backend_ops reader_ops = {
    .close = backend_close,
    .refresh = backend_refresh,
    .find = backend_find,
    .get = backend_get,
    .get_stored = backend_get_stored,
    .list = backend_list,
    .begin = refuse_begin,
    .put = cm_rocksdb_put, /* never reached: there is no transaction */
    .commit = cm_rocksdb_commit,
    .abort = cm_rocksdb_abort,
    .ref_get = backend_ref_get,
    .ref_list = backend_ref_list,
    .disk_bytes = backend_disk_bytes,
};

static int open_writer(cm_rocksdb_backend *store, const char *path, bool fresh, bool serves)
{
    int result = cm_writer_lock_take(path, &store->lock_fd);
    if (result < 0)
        return result;
    result = cm_rocksdb_open(&store->rocks, fresh ? CM_ROCKSDB_CREATE : CM_ROCKSDB_WRITE);
    if (result == -EBUSY)
        return cm_writer_lock_refuse(path);
    if (result < 0)
        return result;
    cm_writer_lock_sign(store->lock_fd, serves);
    result = cm_rocksdb_recover(store);
    return result == 0 && fresh ? cm_store_dir_seal(path) : result;
}

int cm_backend_rocksdb_open(const char *path, unsigned flags, cm_backend **backend)
{
    bool fresh, writable = flags & CM_OPEN_WRITE;
    if (flags & CM_OPEN_CREATE && !writable)
        return cm_fail(EINVAL, "a store that is open for reading only cannot be created");
    char *absolute cm_cleanup(cm_cleanup_free) = NULL;
    int result = cm_store_dir_prepare(path, flags, &absolute, &fresh);
    if (result < 0)
        return result;
    cm_rocksdb_backend *store = calloc(1, sizeof *store);
    if (!store)
        return cm_fail(ENOMEM, "out of memory");
    result = cm_rocksdb_init(&store->rocks, absolute);
    if (result < 0) {
        free(store);
        return result;
    }
    store->base.ops = writable ? &writer_ops : &reader_ops;
    store->pid = getpid();
    store->lock_fd = -1;
    pthread_rwlock_init(&store->gate, NULL);
    pthread_mutex_init(&store->refresh_lock, NULL);
    pthread_mutex_init(&store->commit_lock, NULL);
    pthread_cond_init(&store->idle, NULL);
    result = writable ? open_writer(store, absolute, fresh, flags & CM_OPEN_SERVE) : open_reader(store);
    if (result < 0) {
        backend_close(&store->base);
        return result;
    }
    *backend = &store->base;
    return 0;
}
