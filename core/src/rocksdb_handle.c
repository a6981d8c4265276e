/* SPDX-License-Identifier: Apache-2.0 */
#include "rocksdb_handle.h"

#include "buffer.h"
#include "error.h"
#include "store_dir.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    CACHE_BYTES = 64 << 20,
    OPEN_FILES = 256,
    BLOCK_BYTES = 4 << 10,
    BULK_MEMTABLE = 64 << 20,
    INDEX_MEMTABLE = 16 << 20,
    SMALL_MEMTABLE = 2 << 20,
    LOG_BYTES = 64 << 20, /* of write-ahead log at most: what a reader may have to replay */
    LOG_NAME_MOST = 200,  /* of a database's path, which becomes the name of a file; a longer one keeps its info log */
};

static const char *const cf_names[CM_CF_COUNT] = {"default", "index", CM_BULK_NAME, "refs"};

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* RocksDB gives strings only: "<class>: <subcode: ><what>: <strerror>". */
static int errno_of(const char *error)
{
    static const int known[] = {ENOSPC, EDQUOT, EROFS, EACCES, EPERM, EMFILE, ENFILE, EFBIG, ENOMEM, ENOENT, EIO};
    bool io = strncmp(error, "IO error", 8) == 0;
    if (io && (strstr(error, "lock hold by current process") || strstr(error, "While lock file")))
        return EBUSY;
    if (strncmp(error, "Corruption", 10) == 0)
        return EILSEQ;
    if (strncmp(error, "Resource busy", 13) == 0)
        return EBUSY;
    if (strncmp(error, "Shutdown in progress", 20) == 0)
        return ESHUTDOWN;
    if (strncmp(error, "Operation timed out", 19) == 0)
        return ETIMEDOUT;
    if (strstr(error, "Space limit reached"))
        return ENOSPC;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char local[128]; /* RocksDB speaks the locale's language here */
        if (strstr(error, strerrordesc_np(known[i])) || strstr(error, strerror_r(known[i], local, sizeof local)))
            return known[i] == EDQUOT ? ENOSPC : known[i] == ENOENT ? EIO : known[i];
    }
    /* "Invalid argument" is not what the user gave: it is a database made by something else, or by a newer RocksDB. */
    return strncmp(error, "Invalid argument", 16) == 0 ? EPROTONOSUPPORT : EIO;
}

static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
        return "; the disk is full: free some space and try again";
    case EILSEQ:
        return "; the store is damaged: run 'chipmink verify'";
    case EROFS:
    case EACCES:
    case EPERM:
        return "; check the permissions of the directory";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files (ulimit -n)";
    case EPROTONOSUPPORT:
        return "; it may have been made by a newer version";
    default:
        return "";
    }
}

int cm_rocksdb_check(const cm_rocksdb *rocks, const char *doing, char *text)
{
    if (!text)
        return 0;
    int error = errno_of(text);
    cm_fail(error, "%s store %s failed: %.400s%s", doing, rocks->store, text, advice(error));
    rocksdb_free(text);
    return -error;
}

/* ---- options ------------------------------------------------------------------------------------------------------ */

/* What the C API has no setter for. */
static const char more_options[] =
    "avoid_flush_during_shutdown=true;" /* what is not committed need not be written when closing */
    "allow_fallocate=false;"            /* preallocated logs would be counted as used, and fill a small disk */
    "manifest_preallocation_size=4096;"
    "max_bgerror_resume_count=0;"           /* this side reopens after an error */
    "ttl=0;periodic_compaction_seconds=0;"; /* age is no reason to rewrite */

static rocksdb_options_t *options_base(void)
{
    rocksdb_options_t *plain = rocksdb_options_create(), *options = rocksdb_options_create();
    char *error = NULL;
    rocksdb_get_options_from_string(plain, more_options, options, &error);
    rocksdb_options_destroy(plain);
    if (error) {
        cm_fail(ENOTSUP, "this RocksDB does not know an option: %.200s; build with RocksDB 7 or newer", error);
        rocksdb_free(error);
        rocksdb_options_destroy(options);
        return NULL;
    }
    rocksdb_options_set_max_open_files(options, OPEN_FILES);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_total_wal_size(options, LOG_BYTES);
    rocksdb_options_set_info_log_level(options, 4 /* fatal errors */);
    rocksdb_options_set_wal_recovery_mode(options, rocksdb_skip_any_corrupted_records_recovery);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_advise_random_on_open(options, 0); /* a buffer's chunks lie one after the other */
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    return options;
}

/*
 * In bulk each record is a block of its own, so that a wrong bit takes away one record and not its neighbours too. (Reading
 * without the block's checksum and trusting the record's would end the process: RocksDB's assertions, again.) The index of
 * blocks is then long, and read in pieces.
 */
static void set_table(cm_rocksdb *rocks, rocksdb_options_t *options, int family)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, rocks->cache);
    rocksdb_block_based_options_set_block_size(table, family == CM_CF_BULK ? 1 : BLOCK_BYTES);
    if (family == CM_CF_BULK)
        rocksdb_block_based_options_set_index_type(table, rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_checksum(table, 4 /* XXH3: faster than the default, and verified on every read */);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    if (family == CM_CF_INDEX)
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

/*
 * Keys of bulk ascend, so the files of level 0 do not overlap, nor does one of them overlap level 1: RocksDB then moves
 * them down without rewriting (a trivial move). With two levels each is moved once and stays for good.
 */
static void set_bulk(rocksdb_options_t *options)
{
    rocksdb_options_set_write_buffer_size(options, BULK_MEMTABLE);
    rocksdb_options_set_max_write_buffer_number(options, 3);
    rocksdb_options_set_num_levels(options, 2);
    rocksdb_options_set_level0_file_num_compaction_trigger(options, 4);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, 64);
    rocksdb_options_set_level0_stop_writes_trigger(options, 128);
}

int cm_rocksdb_init(cm_rocksdb *rocks, const char *store)
{
    *rocks = (cm_rocksdb){.store = strdup(store)};
    if (!rocks->store || asprintf(&rocks->path, "%s/db", store) < 0) {
        rocks->path = NULL;
        cm_rocksdb_clear(rocks);
        return cm_fail(ENOMEM, "out of memory");
    }
    rocks->cache = rocksdb_cache_create_lru(CACHE_BYTES);
    for (int i = 0; i < CM_CF_COUNT; i++) {
        rocks->options[i] = options_base();
        if (!rocks->options[i]) {
            cm_rocksdb_clear(rocks);
            return -ENOTSUP;
        }
        rocksdb_options_set_write_buffer_size(rocks->options[i], i == CM_CF_INDEX ? INDEX_MEMTABLE : SMALL_MEMTABLE);
        set_table(rocks, rocks->options[i], i);
    }
    set_bulk(rocks->options[CM_CF_BULK]);
    rocks->read = rocksdb_readoptions_create();
    rocks->read_once = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(rocks->read_once, 0);
    rocks->write_quick = rocksdb_writeoptions_create();
    rocks->write_synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(rocks->write_synced, 1);
    rocks->write_unlogged = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(rocks->write_unlogged, 1);
    rocks->flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(rocks->flush, 1);
    return 0;
}

/* ---- opening and closing ------------------------------------------------------------------------------------------- */

/*
 * RocksDB insists on an info log. Debian's is built with its assertions, and one of them ends the process when that
 * log cannot be written, as on a full disk. So it goes to a private directory elsewhere, where there is room, which is
 * removed as soon as the log is open: nobody reads it, and nothing is left behind whatever becomes of the process.
 */
static int open_database(cm_rocksdb *rocks, const char *private_dir)
{
    const rocksdb_options_t *options[CM_CF_COUNT];
    bool create = rocks->mode == CM_ROCKSDB_CREATE;
    for (int i = 0; i < CM_CF_COUNT; i++) {
        if (strlen(rocks->path) <= LOG_NAME_MOST) /* of which RocksDB makes the name of a file there */
            rocksdb_options_set_db_log_dir(rocks->options[i], private_dir);
        rocksdb_options_set_create_if_missing(rocks->options[i], create);
        rocksdb_options_set_create_missing_column_families(rocks->options[i], create);
        options[i] = rocks->options[i];
    }
    char *error = NULL;
    switch (rocks->mode) {
    case CM_ROCKSDB_CREATE:
    case CM_ROCKSDB_WRITE:
        rocks->db =
            rocksdb_open_column_families(options[0], rocks->path, CM_CF_COUNT, cf_names, options, rocks->cf, &error);
        break;
    case CM_ROCKSDB_SECONDARY:
        rocks->db = rocksdb_open_as_secondary_column_families(options[0], rocks->path, private_dir, CM_CF_COUNT,
                                                              cf_names, options, rocks->cf, &error);
        break;
    case CM_ROCKSDB_STATIC:
        rocks->db = rocksdb_open_for_read_only_column_families(options[0], rocks->path, CM_CF_COUNT, cf_names, options,
                                                               rocks->cf, 0, &error);
        break;
    }
    if (error)
        rocks->db = NULL;
    return cm_rocksdb_check(rocks, "opening", error);
}

/*
 * RocksDB's thread pools are globals of the process. A child made by fork inherits them without their threads, and
 * would wait for a flush for ever: it can read, which needs no threads, but not write. Hence this one variable.
 */
static int check_threads(const cm_rocksdb *rocks)
{
    static _Atomic pid_t first_user;
    pid_t user = 0, self = getpid();
    bool reads = rocks->mode == CM_ROCKSDB_SECONDARY || rocks->mode == CM_ROCKSDB_STATIC;
    if (atomic_compare_exchange_strong(&first_user, &user, self) || user == self || reads)
        return 0;
    return cm_fail(EPERM,
                   "store %s cannot be written by process %ld: it was forked by one (%ld) that had used a store, which "
                   "RocksDB does not survive; start a new process instead (with multiprocessing: method 'spawn')",
                   rocks->store, (long)self, (long)user);
}

static void leave(int status, void *first_user)
{
    if (getpid() == (pid_t)(intptr_t)first_user)
        return;
    fflush(NULL);
    _exit(status);
}

/*
 * When a process ends, RocksDB joins a thread of its own. In a child made by fork there is none to join, and it crashes: so
 * children end before that. Handlers run in reverse order, and RocksDB's is there since its first database was opened.
 */
static void guard_exit(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&done))
        on_exit(leave, (void *)(intptr_t)getpid());
}

int cm_rocksdb_open(cm_rocksdb *rocks, enum cm_rocksdb_mode mode)
{
    rocks->mode = mode;
    int result = check_threads(rocks);
    if (result < 0)
        return result;
    if (mode == CM_ROCKSDB_CREATE && mkdir(rocks->path, 0700) == 0)
        (void)!chmod(rocks->path, 0700); /* whatever the umask; if it cannot be used, the next lines say so */
    char *private_dir cm_cleanup(cm_cleanup_free) = NULL;
    result = cm_private_dir_make(&private_dir);
    if (result < 0)
        return result;
    result = open_database(rocks, private_dir);
    guard_exit();
    cm_private_dir_remove(private_dir);
    return result;
}

void cm_rocksdb_settle(cm_rocksdb *rocks)
{
    char *error = NULL;
    for (int i = 0; i < CM_CF_COUNT && !error; i++)
        rocksdb_flush_cf(rocks->db, rocks->flush, rocks->cf[i], &error);
    rocksdb_free(error); /* it is all in the log anyway */
}

void cm_rocksdb_close(cm_rocksdb *rocks)
{
    if (!rocks->db)
        return;
    for (int i = 0; i < CM_CF_COUNT; i++)
        rocksdb_column_family_handle_destroy(rocks->cf[i]);
    rocksdb_close(rocks->db);
    rocks->db = NULL;
}

void cm_rocksdb_clear(cm_rocksdb *rocks)
{
    cm_rocksdb_close(rocks);
    for (int i = 0; i < CM_CF_COUNT; i++)
        if (rocks->options[i])
            rocksdb_options_destroy(rocks->options[i]);
    if (rocks->cache)
        rocksdb_cache_destroy(rocks->cache);
    if (rocks->flush) { /* the last to be made */
        rocksdb_readoptions_destroy(rocks->read);
        rocksdb_readoptions_destroy(rocks->read_once);
        rocksdb_writeoptions_destroy(rocks->write_quick);
        rocksdb_writeoptions_destroy(rocks->write_synced);
        rocksdb_writeoptions_destroy(rocks->write_unlogged);
        rocksdb_flushoptions_destroy(rocks->flush);
    }
    free(rocks->path);
    free(rocks->store);
    *rocks = (cm_rocksdb){0};
}
