/* SPDX-License-Identifier: Apache-2.0 */
/* The RocksDB backend when things go wrong or on at once: kills, a full disk, readers beside a writer, compaction. */
#include "backend_support.h"
#include "rocksdb_backend.h"
#include "store_dir.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = CM_OPEN_WRITE, CREATE = CM_OPEN_WRITE | CM_OPEN_CREATE };

static void nap(long nanoseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
}

/* ---- a deterministic sequence of transactions ------------------------------------------------------------------------- */

/*
 * Transaction number t puts records t * 1000 + i of sizes that follow from t; every seventh is big enough to spill
 * (12 x 600 kB), and moves the ref "n" from t - 1 to t.
 */
static uint64_t txn_records(uint64_t t)
{
    return t % 7 == 0 ? 12 : t % 5;
}

static size_t txn_size(uint64_t t)
{
    return t % 7 == 0 ? 600000 : 50 + t % 3 * 2000;
}

static int write_txn(cm_backend *backend, uint64_t t)
{
    cm_backend_txn *txn;
    int result = backend->ops->begin(backend, &txn, NULL);
    if (result < 0)
        return result;
    for (uint64_t i = 0; i < txn_records(t); i++) {
        result = put_made(backend, txn, t * 1000 + i, txn_size(t));
        if (result < 0) {
            backend->ops->abort(txn);
            return result;
        }
    }
    char before[24], after[24];
    snprintf(before, sizeof before, "%llu", (unsigned long long)t - 1);
    snprintf(after, sizeof after, "%llu", (unsigned long long)t);
    return set_ref(backend, txn, "n", t > 1 ? before : NULL, after);
}

static void check_txn(cm_backend *backend, uint64_t t)
{
    for (uint64_t i = 0; i < txn_records(t); i++)
        ck_assert_msg(has_made(backend, t * 1000 + i, txn_size(t)), "record %d of transaction %d is missing", (int)i,
                      (int)t);
}

/* ---- kill -9 ----------------------------------------------------------------------------------------------------- */

/* Writes transactions from where the store is and tells each committed one through `fd`, until it is killed. */
static int write_until_killed(const char *path, int fd)
{
    cm_backend *backend;
    int result = cm_backend_rocksdb_open(path, CREATE, &backend);
    uint64_t t = result < 0 ? 0 : ref_number(backend, "n");
    while (result == 0 && write(fd, &t, sizeof t) == sizeof t)
        result = write_txn(backend, ++t);
    fprintf(stderr, "the writer failed: %s\n", cm_error_message());
    return 1;
}

static int count_all(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)id, (void)info;
    ++*(uint64_t *)arg;
    return 0;
}

/* Sixty kills at random moments, beginning with the creation: what was acknowledged is there, whole and alone. */
START_TEST(kills_lose_nothing_acknowledged)
{
    const char *path = scratch_path("killed");
    ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", scratch_dir(), 1), 0); /* what dies while opening leaves a directory */
    seeded random = {.state = 7};
    uint64_t checked = 0, opened = 0, in_flight = 0;
    for (int kills = 0; kills < 60; kills++) {
        int acknowledged[2];
        ck_assert_int_eq(pipe(acknowledged), 0);
        pid_t writer = start_role("write", path, acknowledged[1]);
        close(acknowledged[1]);
        uint64_t last = 0, t;
        if (kills >= 10) /* the first ones meet creation and opening, the others saving */
            ck_assert_int_eq(read(acknowledged[0], &last, sizeof last), sizeof last);
        for (uint64_t more = kills < 10 ? 0 : 1 + seeded_next(&random) % 4; more > 0; more--)
            ck_assert_int_eq(read(acknowledged[0], &last, sizeof last), sizeof last);
        nap(1000000 + (long)(seeded_next(&random) % 60000000));
        kill(writer, SIGKILL);
        int status;
        ck_assert_int_eq(waitpid(writer, &status, 0), writer);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        while (read(acknowledged[0], &t, sizeof t) == sizeof t)
            last = t;
        close(acknowledged[0]);

        cm_backend *backend = open_backend(path, CREATE);
        uint64_t reached = ref_number(backend, "n");
        opened++;
        in_flight += last > 0 && reached == last + 1; /* durable, but it died before it could say so */
        if (last > 0)
            ck_assert_uint_ge(reached, last);
        ck_assert_uint_ge(reached, checked);
        for (t = checked + 1; t <= reached; t++)
            check_txn(backend, t);
        for (uint64_t i = 0; i < txn_records(reached + 1); i++)
            ck_assert(!has_made(backend, (reached + 1) * 1000 + i, txn_size(reached + 1)));
        checked = reached;
        backend->ops->close(backend);
    }
    cm_backend *backend = open_backend(path, WRITE);
    uint64_t count = 0, expected = 0;
    for (uint64_t t = 1; t <= checked; t++) {
        check_txn(backend, t);
        expected += txn_records(t);
    }
    ck_ok(backend->ops->list(backend, NULL, count_all, &count));
    ck_assert_uint_eq(count, expected);
    backend->ops->close(backend);
    printf("  60 kills, %d openings, %d transactions, %d durable but not yet acknowledged\n", (int)opened, (int)checked,
           (int)in_flight);
    ck_assert_uint_gt(checked, 60);
}
END_TEST

static uint64_t disk_bytes(cm_backend *backend)
{
    uint64_t bytes;
    ck_ok(backend->ops->disk_bytes(backend, &bytes));
    return bytes;
}

static int write_without_commit(const char *path, int fd)
{
    cm_backend *backend;
    cm_backend_txn *txn;
    if (cm_backend_rocksdb_open(path, WRITE, &backend) < 0 || backend->ops->begin(backend, &txn, NULL) < 0)
        return 1;
    for (uint64_t i = 0; i < 400; i++)
        if (put_made(backend, txn, 1000000 + i, 1000000) < 0)
            return 1;
    if (write(fd, "x", 1) != 1)
        return 1;
    for (;;)
        pause();
}

/* What a killed big transaction has written is removed by the next opening. */
START_TEST(space_of_a_killed_transaction_is_reclaimed)
{
    const char *path = scratch_path("reclaim");
    cm_backend *backend = open_backend(path, CREATE);
    ck_ok(write_txn(backend, 1));
    backend->ops->close(backend);
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t writer = start_role("spill", path, ready[1]);
    char x;
    ck_assert_int_eq(read(ready[0], &x, 1), 1);
    kill(writer, SIGKILL);
    ck_assert_int_eq(waitpid(writer, NULL, 0), writer);
    uint64_t before, after;
    ck_ok(cm_dir_disk_bytes(path, &before));
    ck_assert_uint_gt(before, 100 << 20); /* several memtables were flushed */
    backend = open_backend(path, WRITE);
    for (int i = 0; i < 500 && disk_bytes(backend) > 4 << 20; i++)
        nap(20000000); /* obsolete files are removed in the background */
    after = disk_bytes(backend);
    ck_assert_msg(after <= 4 << 20, "%llu bytes before, %llu after", (unsigned long long)before,
                  (unsigned long long)after);
    ck_ok(write_txn(backend, 2));
    check_txn(backend, 1);
    check_txn(backend, 2);
    backend->ops->close(backend);
}
END_TEST

/* ---- a full disk -------------------------------------------------------------------------------------------------- */

START_TEST(full_disk_fails_and_recovers)
{
    const char *disk = small_disk("disk", _i == 0 ? "24m" : "200m");
    if (!disk)
        return;
    char path[9000], ballast[9000];
    snprintf(path, sizeof path, "%s/store", disk);
    snprintf(ballast, sizeof ballast, "%s/ballast", disk);
    cm_backend *backend = open_backend(path, CREATE);
    ck_ok(write_txn(backend, 1));
    static const size_t sizes[] = {100000, 100};
    for (int round = 0; round < 4; round++) {
        uint64_t first = (uint64_t)(round + 1) * 10000000;
        struct statvfs fs;
        ck_assert_int_eq(statvfs(disk, &fs), 0);
        size_t fill = (size_t)(fs.f_bavail * fs.f_bsize);
        bool filled = round % 2; /* else the transaction itself fills the disk */
        if (filled) {
            void *zeros = calloc(1, fill);
            write_file(ballast, zeros, fill);
            free(zeros);
        }
        int result = 0, failures = 0;
        for (uint64_t n = 0; n < 100000 && failures < 2; n++) {
            cm_backend_txn *txn;
            result = backend->ops->begin(backend, &txn, NULL);
            for (uint64_t i = 0; result == 0 && i < 5000; i++) {
                result = put_made(backend, txn, first + n * 10000 + i, sizes[round / 2]);
                if (result < 0)
                    backend->ops->abort(txn);
            }
            if (result == 0)
                result = backend->ops->commit(txn, NULL, 0);
            if (result < 0) {
                ck_assert_msg(result == -ENOSPC, "%d: %s", result, cm_error_message());
                ck_assert_msg(strstr(cm_error_message(), "free some space"), "%s", cm_error_message());
                ck_assert_msg(strstr(cm_error_message(), path), "%s", cm_error_message());
                failures++;
            }
            check_txn(backend, 1); /* what was saved can be read on a full disk */
            if (!filled && failures)
                break;
        }
        ck_assert_int_gt(failures, 0);
        if (filled)
            ck_assert_int_eq(unlink(ballast), 0);
        if (!filled && sizes[round / 2] == 100)
            break; /* small transactions were committed and keep the disk full, rightly */
        int again = write_txn(backend, (uint64_t)round + 2);
        ck_assert_msg(again == 0, "after there is room in round %d: %s", round, cm_error_message());
        for (uint64_t t = 1; t <= (uint64_t)round + 2; t++)
            check_txn(backend, t);
        backend->ops->close(backend);
        backend = open_backend(path, WRITE);
        for (uint64_t t = 1; t <= (uint64_t)round + 2; t++)
            check_txn(backend, t);
    }
    backend->ops->close(backend);
}
END_TEST

/* A reader needs no room, and writes nothing: a read-only file system will do. */
START_TEST(reader_on_a_read_only_disk)
{
    const char *disk = small_disk("readonly", "64m");
    if (!disk)
        return;
    char path[9000];
    snprintf(path, sizeof path, "%s/store", disk);
    cm_backend *backend = open_backend(path, CREATE);
    for (uint64_t t = 1; t <= 8; t++)
        ck_ok(write_txn(backend, t));
    backend->ops->close(backend);
    ck_assert_int_eq(mount(NULL, disk, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    cm_backend *other;
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EROFS, path);
    backend = open_backend(path, CM_OPEN_READ);
    for (uint64_t t = 1; t <= 8; t++)
        check_txn(backend, t);
    ck_ok(backend->ops->refresh(backend));
    backend->ops->close(backend);
}
END_TEST

/* ---- readers beside a writer ---------------------------------------------------------------------------------------- */

static size_t count_files(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

enum { FOLLOWED = 250 };

/* Files come and go under the reader. */
static int write_flush_compact(const char *path)
{
    cm_backend *backend;
    if (cm_backend_rocksdb_open(path, WRITE, &backend) < 0)
        return 1;
    cm_rocksdb *rocks = &((cm_rocksdb_backend *)backend)->rocks;
    for (uint64_t t = 2; t <= FOLLOWED; t++) {
        if (write_txn(backend, t) < 0)
            return 2;
        char *error = NULL;
        if (t % 10 == 0)
            rocksdb_flush_cf(rocks->db, rocks->flush, rocks->cf[CM_CF_INDEX], &error);
        if (t % 15 == 0)
            rocksdb_flush_cf(rocks->db, rocks->flush, rocks->cf[CM_CF_REFS], &error);
        if (t % 50 == 0)
            for (int i = 0; i < CM_CF_COUNT; i++)
                rocksdb_compact_range_cf(rocks->db, rocks->cf[i], NULL, 0, NULL, 0);
        if (error)
            return 3;
        if (t % 3 == 0)
            nap(3000000);
    }
    backend->ops->close(backend);
    return 0;
}

/* A writer in another process commits, flushes and compacts; a reader follows and misses nothing it has been promised. */
START_TEST(reader_follows_a_writer)
{
    const char *path = scratch_path("followed"), *runtime = scratch_path("runtime");
    ck_assert_int_eq(mkdir(runtime, 0700), 0);
    ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", runtime, 1), 0);
    cm_backend *backend = open_backend(path, CREATE);
    ck_ok(write_txn(backend, 1));
    backend->ops->close(backend);
    pid_t writer = start_role("follow", path, -1);
    cm_backend *reader = open_backend(path, CM_OPEN_READ);
    uint64_t seen = 0, refreshes = 0, since_end = 0;
    int status = -1;
    bool ended = false;
    while (seen < FOLLOWED) {
        /* RocksDB may need a second look at a manifest or log that ended in the midst of a record when it looked first. */
        ck_assert_msg(since_end < 20, "the writer is done, the reader has seen %d", (int)seen);
        since_end += ended;
        ended = ended || waitpid(writer, &status, WNOHANG) == writer;
        ck_ok(reader->ops->refresh(reader));
        refreshes++;
        uint64_t now = ref_number(reader, "n");
        ck_assert_uint_ge(now, seen);
        for (uint64_t t = seen + 1; t <= now; t++)
            check_txn(reader, t);
        seen = now;
        if (refreshes % 40 == 0) { /* beginning in the midst of it is as good */
            reader->ops->close(reader);
            reader = open_backend(path, CM_OPEN_READ);
        }
        if (seen > 20)
            check_txn(reader, seen - 20); /* files read before may be gone */
    }
    if (!ended)
        ck_assert_int_eq(waitpid(writer, &status, 0), writer);
    ck_assert_int_eq(status, 0);
    for (uint64_t t = 1; t <= FOLLOWED; t++)
        check_txn(reader, t);
    uint64_t count = 0, expected = 0;
    for (uint64_t t = 1; t <= FOLLOWED; t++)
        expected += txn_records(t);
    ck_ok(reader->ops->list(reader, NULL, count_all, &count));
    ck_assert_uint_eq(count, expected);
    reader->ops->close(reader);
    ck_assert_uint_eq(count_files(runtime), 2); /* ".", "..": nothing private is left */
    printf("  %d refreshes while %d transactions were written\n", (int)refreshes, FOLLOWED);
}
END_TEST

/* ---- compaction --------------------------------------------------------------------------------------------------- */

static uint64_t property(cm_rocksdb *rocks, int family, const char *name)
{
    char *text = rocksdb_property_value_cf(rocks->db, rocks->cf[family], name);
    ck_assert_ptr_nonnull(text);
    uint64_t value = strtoull(text, NULL, 10);
    rocksdb_free(text);
    return value;
}

static uint64_t bytes_written_by_this_process(void)
{
    size_t size = 0;
    char text[1024];
    FILE *file = fopen("/proc/self/io", "re");
    if (file) {
        size = fread(text, 1, sizeof text - 1, file);
        fclose(file);
    }
    text[size] = 0;
    char *at = strstr(text, "wchar:");
    ck_assert_ptr_nonnull(at);
    return strtoull(at + 6, NULL, 10);
}

/*
 * Bulk is written once: 600 MB in transactions of several kinds, several threads' worth of records out of order, end up in
 * level 1 without having been rewritten, and past the log.
 */
START_TEST(bulk_is_never_rewritten)
{
    cm_backend *backend = open_backend(scratch_path("compacted"), CREATE);
    cm_rocksdb *rocks = &((cm_rocksdb_backend *)backend)->rocks;
    uint64_t before = bytes_written_by_this_process(), payload = 0, n = 0;
    for (int t = 0; t < 40; t++) {
        size_t size = t % 4 == 3 ? 3000 : 500000;
        uint64_t records = t % 4 == 3 ? 3000 : 40;
        cm_backend_txn *txn;
        ck_ok(backend->ops->begin(backend, &txn, NULL));
        for (uint64_t i = 0; i < records; i++)
            ck_ok(put_made(backend, txn, ++n, size));
        ck_ok(backend->ops->commit(txn, NULL, 0));
        payload += records * size;
    }
    for (int i = 0; i < 500 && (property(rocks, CM_CF_BULK, "rocksdb.compaction-pending") ||
                                property(rocks, CM_CF_BULK, "rocksdb.num-running-compactions") ||
                                property(rocks, CM_CF_BULK, "rocksdb.num-files-at-level0") >= 4);
         i++)
        nap(20000000);
    uint64_t written = bytes_written_by_this_process() - before;
    printf("  %d MB of records, %d MB written, %d files in level 0, %d in level 1\n", (int)(payload >> 20),
           (int)(written >> 20), (int)property(rocks, CM_CF_BULK, "rocksdb.num-files-at-level0"),
           (int)property(rocks, CM_CF_BULK, "rocksdb.num-files-at-level1"));
    ck_assert_uint_lt(property(rocks, CM_CF_BULK, "rocksdb.num-files-at-level0"), 4);
    ck_assert_uint_gt(property(rocks, CM_CF_BULK, "rocksdb.num-files-at-level1"), 4);
    ck_assert_uint_lt(written, payload + payload / 20);
    backend->ops->close(backend);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "write") == 0)
        return write_until_killed(argv[2], atoi(argv[3]));
    if (argc == 4 && strcmp(argv[1], "spill") == 0)
        return write_without_commit(argv[2], atoi(argv[3]));
    if (argc == 4 && strcmp(argv[1], "follow") == 0)
        return write_flush_compact(argv[2]);
    Suite *suite = suite_create("core.backend_crash");
    TCase *tcase = tcase_create("crash");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, kills_lose_nothing_acknowledged);
    tcase_add_test(tcase, space_of_a_killed_transaction_is_reclaimed);
    tcase_add_loop_test(tcase, full_disk_fails_and_recovers, 0, 2);
    tcase_add_test(tcase, reader_on_a_read_only_disk);
    tcase_add_test(tcase, reader_follows_a_writer);
    tcase_add_test(tcase, bulk_is_never_rewritten);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
