/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of backend.h, by the RocksDB backend and, as far as it reads, the snapshot directory. */
#include "backend_support.h"
#include "codec.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITE = CM_OPEN_WRITE, CREATE = CM_OPEN_WRITE | CM_OPEN_CREATE };

static cm_backend *backend;
static const char *path;

static void setup(void)
{
    path = scratch_path("store");
    backend = open_backend(path, CREATE);
}

static void teardown(void)
{
    if (backend)
        backend->ops->close(backend);
    backend = NULL;
    remove_tree(path);
}

static void reopen(unsigned flags)
{
    backend->ops->close(backend);
    backend = open_backend(path, flags);
}

static void commit_made(uint64_t first, uint64_t count, size_t size)
{
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    for (uint64_t i = 0; i < count; i++)
        ck_ok(put_made(backend, txn, first + i, size));
    ck_ok(backend->ops->commit(txn, NULL, 0));
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

START_TEST(created_private_and_found_again)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_assert_int_eq(stat(scratch_path("store/CHIPMINK"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    size_t size;
    char *text = read_file(scratch_path("store/CHIPMINK"), &size);
    ck_assert_uint_eq(size, strlen("chipmink store 1\n"));
    ck_assert_int_eq(memcmp(text, "chipmink store 1\n", size), 0);
    free(text);
    commit_made(1, 100, 100);
    reopen(WRITE);
    commit_made(101, 100, 100);
    reopen(CREATE);
    for (uint64_t n = 1; n <= 200; n++)
        ck_assert(has_made(backend, n, 100));
    ck_assert(!has_made(backend, 201, 100));
}
END_TEST

START_TEST(created_private_under_any_umask)
{
    mode_t before = umask(0377);
    cm_backend *other = NULL;
    int result = cm_backend_rocksdb_open(scratch_path("umask"), CREATE, &other);
    umask(before);
    ck_assert_msg(result == 0, "%s", cm_error_message());
    other->ops->close(other);
    struct stat st;
    ck_assert_int_eq(stat(scratch_path("umask"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_assert_int_eq(mkdir(scratch_path("wide"), 0777), 0);
    ck_assert_int_eq(chmod(scratch_path("wide"), 01777), 0);
    other = open_backend(scratch_path("wide"), CREATE);
    other->ops->close(other);
    ck_assert_int_eq(stat(scratch_path("wide"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
}
END_TEST

START_TEST(refused_when_absent)
{
    cm_backend *other;
    ck_fails(cm_backend_rocksdb_open(scratch_path("none"), CM_OPEN_READ, &other), ENOENT, "none");
    ck_fails(cm_backend_rocksdb_open(scratch_path("none"), WRITE, &other), ENOENT, "there is no store");
    ck_fails(cm_backend_rocksdb_open(scratch_path("none/below"), CREATE, &other), ENOENT, "parent");
    ck_fails(cm_backend_rocksdb_open(scratch_path("none"), CM_OPEN_CREATE, &other), EINVAL, "reading");
    ck_assert_int_eq(access(scratch_path("none"), F_OK), -1);
    ck_assert_int_eq(mkdir(scratch_path("other"), 0700), 0);
    ck_fails(cm_backend_rocksdb_open(scratch_path("other"), CM_OPEN_READ, &other), ENOENT, "not a Chipmink store");
    write_file(scratch_path("other/thesis.tex"), "x", 1);
    ck_fails(cm_backend_rocksdb_open(scratch_path("other"), CREATE, &other), ENOTEMPTY, "thesis.tex");
    ck_fails(cm_backend_rocksdb_open(scratch_path("other/thesis.tex"), CREATE, &other), ENOTDIR, "thesis.tex");
}
END_TEST

/* Creation dies after each of its steps: the next one goes on from there. */
START_TEST(interrupted_creation_is_finished)
{
    backend->ops->close(backend);
    backend = NULL;
    ck_assert_int_eq(unlink(scratch_path("store/CHIPMINK")), 0);
    write_file(scratch_path("store/CHIPMINK.new"), "chip", 4);
    cm_backend *other;
    ck_fails(cm_backend_rocksdb_open(path, CM_OPEN_READ, &other), ENOENT, "not a Chipmink store");
    backend = open_backend(path, CREATE);
    commit_made(1, 1, 1);
    backend->ops->close(backend);
    backend = NULL;
    remove_tree(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(mkdir(scratch_path("store/db"), 0700), 0);
    write_file(scratch_path("store/writer.lock"), "", 0);
    backend = open_backend(path, CREATE);
    commit_made(1, 1, 1);
    ck_assert(has_made(backend, 1, 1));
}
END_TEST

static const struct {
    const char *text;
    int error;
    const char *says;
} seals[] = {
    {"chipmink store 2\n", EPROTONOSUPPORT, "version 2, but this Chipmink supports versions up to 1"},
    {"chipmink store 18446744073709551615\n", EPROTONOSUPPORT, "supports versions up to 1"},
    {"chipmink store 0\n", EINVAL, "does not say"},
    {"chipmink store 1", EINVAL, "does not say"},
    {"chipmink store 1\n\n", EINVAL, "does not say"},
    {"chipmink store 01\n", EINVAL, "does not say"},
    {"chipmink store -1\n", EINVAL, "does not say"},
    {"chipmink store 99999999999999999999999999\n", EINVAL, "does not say"},
    {"chipmink  store 1\n", EINVAL, "does not say"},
    {"", EINVAL, "does not say"},
    {"\377\377\377\377", EINVAL, "does not say"},
    {"chipmink store 1\nchipmink store 1\nchipmink store 1\nchipmink store 1\nchipmink store 1\n", EINVAL, "does not"},
};

START_TEST(foreign_seal_is_refused)
{
    backend->ops->close(backend);
    backend = NULL;
    write_file(scratch_path("store/CHIPMINK"), seals[_i].text, strlen(seals[_i].text));
    static const unsigned flags[] = {CM_OPEN_READ, WRITE, CREATE};
    for (size_t i = 0; i < 3; i++) {
        cm_backend *other;
        ck_fails(cm_backend_rocksdb_open(path, flags[i], &other), seals[_i].error, seals[_i].says);
        ck_assert(strstr(cm_error_message(), path));
    }
}
END_TEST

START_TEST(relative_path_survives_chdir)
{
    char before[4096];
    ck_assert_ptr_nonnull(getcwd(before, sizeof before));
    ck_assert_int_eq(chdir(scratch_dir()), 0);
    cm_backend *other = open_backend("relative", CREATE);
    ck_assert_int_eq(chdir("/"), 0);
    cm_backend_txn *txn;
    ck_ok(other->ops->begin(other, &txn, NULL));
    ck_ok(put_made(other, txn, 1, 10));
    ck_ok(other->ops->commit(txn, NULL, 0));
    uint64_t bytes;
    ck_ok(other->ops->disk_bytes(other, &bytes));
    ck_assert_uint_gt(bytes, 0);
    other->ops->close(other);
    ck_assert_int_eq(chdir(before), 0);
    ck_assert_int_eq(access(scratch_path("relative/CHIPMINK"), F_OK), 0);
}
END_TEST

/* ---- the writer's lock ------------------------------------------------------------------------------------------- */

START_TEST(second_writer_is_told_who_writes)
{
    cm_backend *other = NULL;
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EBUSY, "already open for writing in this process");
    char holder[64];
    snprintf(holder, sizeof holder, "process %ld (", (long)getpid());
    pid_t child = fork();
    if (child == 0) {
        bool told = cm_backend_rocksdb_open(path, WRITE, &other) == -EBUSY && strstr(cm_error_message(), holder) &&
                    strstr(cm_error_message(), "test_");
        if (!told)
            fprintf(stderr, "%s\n", cm_error_message());
        _exit(told ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    commit_made(1, 1, 1); /* the refusals did no harm, nor did the lock go with them */
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EBUSY, path);
    reopen(WRITE);
    ck_assert(has_made(backend, 1, 1));
}
END_TEST

/* A killed writer leaves the lock file, and a child of its that still lives holds the lock's descriptor. */
static int open_and_fork(const char *store, int fd)
{
    if (cm_backend_rocksdb_open(store, WRITE, &backend) < 0)
        return 1;
    pid_t orphan = fork();
    if (orphan > 0 && write(fd, &orphan, sizeof orphan) != sizeof orphan)
        return 1;
    for (;;)
        pause();
}

START_TEST(lock_of_a_dead_writer_is_passed_over)
{
    backend->ops->close(backend);
    backend = NULL;
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t orphan, writer = start_role("open-and-fork", path, ready[1]);
    ck_assert_int_eq(read(ready[0], &orphan, sizeof orphan), sizeof orphan);
    cm_backend *other;
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EBUSY, "being written by process");
    kill(writer, SIGKILL);
    ck_assert_int_eq(waitpid(writer, NULL, 0), writer);
    backend = open_backend(path, WRITE);
    commit_made(1, 1, 1);
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EBUSY, "already open");
    kill(orphan, SIGKILL);
    ck_assert_int_eq(waitpid(orphan, NULL, 0), orphan);
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EBUSY, "already open");
    ck_assert(has_made(backend, 1, 1));
}
END_TEST

START_TEST(lock_that_was_given_back_is_not_held_by_children)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    backend->ops->close(backend);
    backend = open_backend(path, WRITE);
    commit_made(1, 1, 1);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert(has_made(backend, 1, 1));
}
END_TEST

/* What a child cannot do it does not hang on; reading it can. */
START_TEST(forked_child_may_read_a_store_of_its_own)
{
    commit_made(1, 100, 100000);
    pid_t child = fork();
    if (child == 0) {
        cm_backend *mine = NULL;
        bool well = cm_backend_rocksdb_open(scratch_path("mine"), CREATE, &mine) == -EPERM &&
                    strstr(cm_error_message(), "start a new process") &&
                    cm_backend_rocksdb_open(path, CM_OPEN_READ, &mine) == 0;
        for (uint64_t n = 1; well && n <= 100; n++)
            well = has_made(mine, n, 100000) && mine->ops->refresh(mine) == 0;
        if (!well)
            fprintf(stderr, "%s\n", cm_error_message());
        if (mine)
            mine->ops->close(mine);
        _exit(well ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    commit_made(101, 100, 100000);
    ck_assert(has_made(backend, 150, 100000));
}
END_TEST

START_TEST(forked_child_is_refused_and_harmless)
{
    commit_made(1, 1, 1);
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    ck_ok(put_made(backend, txn, 2, 1));
    pid_t child = fork();
    if (child == 0) {
        cm_object_info info;
        cm_id id = {{0}};
        cm_buffer buffer = CM_BUFFER_INIT;
        cm_backend_txn *mine;
        cm_record record = {.info.kind = CM_KIND_CHUNK};
        uint64_t bytes;
        bool refused =
            backend->ops->find(backend, &id, 1, &info) == -EPERM && strstr(cm_error_message(), "before it forked") &&
            get_record(backend, &id, &buffer, &info) == -EPERM &&
            backend->ops->list(backend, NULL, NULL, NULL) == -EPERM &&
            backend->ops->begin(backend, &mine, NULL) == -EPERM && backend->ops->put(txn, &record, 1) == -EPERM &&
            backend->ops->ref_get(backend, "x", &buffer) == -EPERM &&
            backend->ops->ref_list(backend, "", NULL, NULL) == -EPERM &&
            backend->ops->disk_bytes(backend, &bytes) == -EPERM && strstr(cm_error_message(), path) &&
            backend->ops->commit(txn, NULL, 0) == -EPERM;
        backend->ops->close(backend);
        _exit(refused ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_ok(put_made(backend, txn, 3, 1));
    ck_ok(backend->ops->commit(txn, NULL, 0));
    cm_backend *other;
    ck_fails(cm_backend_rocksdb_open(path, WRITE, &other), EBUSY, "already open");
    reopen(WRITE);
    for (uint64_t n = 1; n <= 3; n++)
        ck_assert(has_made(backend, n, 1));
}
END_TEST

/* ---- transactions ------------------------------------------------------------------------------------------------- */

/* Small ones keep their records in memory, big ones spill them: the same holds for both. */
static const size_t record_sizes[] = {100, 300000};

START_TEST(nothing_is_seen_before_commit)
{
    size_t size = record_sizes[_i];
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    for (uint64_t n = 1; n <= 40; n++)
        ck_ok(put_made(backend, txn, n, size));
    for (uint64_t n = 1; n <= 40; n++)
        ck_assert(!has_made(backend, n, size));
    ck_ok(set_ref(backend, txn, "r", NULL, "1"));
    ck_assert_uint_eq(ref_number(backend, "r"), 1);
    for (uint64_t n = 1; n <= 40; n++)
        ck_assert(has_made(backend, n, size));
    reopen(WRITE);
    for (uint64_t n = 1; n <= 40; n++)
        ck_assert(has_made(backend, n, size));
}
END_TEST

START_TEST(aborted_leaves_nothing)
{
    size_t size = record_sizes[_i];
    commit_made(1, 40, size);
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    for (uint64_t n = 21; n <= 60; n++)
        ck_ok(put_made(backend, txn, n, size));
    backend->ops->abort(txn);
    commit_made(61, 40, size);
    for (int again = 0; again < 2; again++) {
        for (uint64_t n = 1; n <= 100; n++)
            ck_assert_int_eq(has_made(backend, n, size), n <= 40 || n > 60);
        reopen(WRITE);
    }
    backend->ops->abort(NULL);
}
END_TEST

START_TEST(first_of_duplicates_stays)
{
    size_t size = record_sizes[_i];
    commit_made(1, 1, size);
    cm_record record;
    void *data = made_record(1, size, &record);
    char other_bytes[] = "not what was there first";
    record.data = other_bytes;
    record.size = sizeof other_bytes;
    cm_backend_txn *txn, *rival;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    ck_ok(backend->ops->begin(backend, &rival, NULL));
    ck_ok(backend->ops->put(txn, &record, 1)); /* is in the store */
    ck_ok(put_made(backend, txn, 2, size));
    cm_record twice;
    void *data2 = made_record(2, size, &twice);
    twice.data = other_bytes;
    twice.size = sizeof other_bytes;
    ck_ok(backend->ops->put(txn, &twice, 1));   /* is in the transaction */
    ck_ok(backend->ops->put(rival, &twice, 1)); /* will be in the store when this one commits */
    ck_ok(backend->ops->commit(txn, NULL, 0));
    ck_ok(backend->ops->commit(rival, NULL, 0));
    ck_assert(has_made(backend, 1, size));
    ck_assert(has_made(backend, 2, size));
    free(data);
    free(data2);
}
END_TEST

typedef struct putter {
    cm_backend_txn *txn;
    uint64_t first, count;
    size_t size;
    int result;
} putter;

static void *put_many(void *arg)
{
    putter *p = arg;
    for (uint64_t i = 0; i < p->count && p->result == 0; i++)
        p->result = put_made(backend, p->txn, p->first + i, p->size);
    return NULL;
}

static int count_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)id;
    ck_assert_uint_ne(info->kind, 0);
    ++*(uint64_t *)arg;
    return 0;
}

/* Four threads put overlapping ranges into one transaction, while another transaction goes on beside them. */
START_TEST(threads_share_a_transaction)
{
    size_t size = record_sizes[_i];
    cm_backend_txn *txn, *beside;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    ck_ok(backend->ops->begin(backend, &beside, NULL));
    putter putters[5] = {{txn, 1, 60, size, 0},
                         {txn, 31, 60, size, 0},
                         {txn, 61, 60, size, 0},
                         {txn, 1, 120, size, 0},
                         {beside, 100, 60, size, 0}};
    pthread_t threads[5];
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, put_many, &putters[i]), 0);
    for (int i = 0; i < 5; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(putters[i].result, 0);
    }
    ck_ok(backend->ops->commit(txn, NULL, 0));
    ck_assert(!has_made(backend, 121, size));
    ck_ok(backend->ops->commit(beside, NULL, 0));
    for (int again = 0; again < 2; again++) {
        for (uint64_t n = 1; n < 160; n++)
            ck_assert(has_made(backend, n, size));
        uint64_t count = 0;
        ck_ok(backend->ops->list(backend, NULL, count_object, &count));
        ck_assert_uint_eq(count, 159);
        reopen(WRITE);
    }
}
END_TEST

START_TEST(many_ids_are_found_at_once)
{
    commit_made(1, 500, 10);
    cm_id ids[1000];
    cm_object_info infos[1000];
    for (uint64_t n = 0; n < 1000; n++) {
        cm_record record;
        free(made_record(n + 1, 10, &record));
        ids[n] = record.id;
    }
    ck_ok(backend->ops->find(backend, ids, 1000, infos));
    for (uint64_t n = 0; n < 1000; n++) {
        ck_assert_uint_eq(infos[n].kind, n < 500 ? CM_KIND_CHUNK : 0);
        ck_assert_uint_eq(infos[n].stored, n < 500 ? 18 : 0);
    }
    ck_ok(backend->ops->find(backend, NULL, 0, NULL));
}
END_TEST

typedef struct listing {
    cm_id ids[100];
    size_t count, stop_after;
} listing;

static int keep_id(void *arg, const cm_id *id, const cm_object_info *info)
{
    listing *list = arg;
    ck_assert_uint_eq(info->size, 1010);
    cm_object_info again;
    ck_ok(backend->ops->find(backend, id, 1, &again)); /* a visitor may use the store */
    ck_assert_uint_eq(again.stored, info->stored);
    ck_assert_uint_lt(list->count, 100);
    list->ids[list->count++] = *id;
    return list->count == list->stop_after ? 42 : 0;
}

START_TEST(list_is_ordered_and_starts_and_stops_where_told)
{
    commit_made(1, 100, 10);
    listing all = {0}, some = {0}, few = {.stop_after = 3};
    ck_ok(backend->ops->list(backend, NULL, keep_id, &all));
    ck_assert_uint_eq(all.count, 100);
    for (size_t i = 1; i < 100; i++)
        ck_assert_int_lt(memcmp(&all.ids[i - 1], &all.ids[i], sizeof(cm_id)), 0);
    ck_ok(backend->ops->list(backend, &all.ids[40], keep_id, &some));
    ck_assert_uint_eq(some.count, 60);
    ck_assert(cm_id_equal(&some.ids[0], &all.ids[40]));
    ck_assert_int_eq(backend->ops->list(backend, NULL, keep_id, &few), 42);
    ck_assert_uint_eq(few.count, 3);
}
END_TEST

/* ---- refs -------------------------------------------------------------------------------------------------------- */

static int commit_ref(const char *key, const char *expected, const char *value)
{
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    return set_ref(backend, txn, key, expected, value);
}

START_TEST(refs_move_by_compare_and_swap)
{
    cm_buffer value = CM_BUFFER_INIT;
    ck_fails(backend->ops->ref_get(backend, "a", &value), ENOENT, "'a'");
    ck_fails(commit_ref("a", "1", "2"), EEXIST, "'a'");
    ck_ok(commit_ref("a", NULL, "1"));
    ck_fails(commit_ref("a", NULL, "2"), EEXIST, "moved by someone else");
    ck_fails(commit_ref("a", "3", "2"), EEXIST, "'a'");
    ck_fails(commit_ref("a", "11", "2"), EEXIST, "'a'");
    ck_fails(commit_ref("a", "", "2"), EEXIST, "'a'");
    ck_assert_uint_eq(ref_number(backend, "a"), 1);
    ck_ok(commit_ref("a", "1", "22"));
    ck_assert_uint_eq(ref_number(backend, "a"), 22);
    ck_ok(commit_ref("empty", NULL, ""));
    ck_ok(backend->ops->ref_get(backend, "empty", &value));
    ck_assert_uint_eq(value.size, 0);
    ck_ok(commit_ref("empty", "", "x"));
    reopen(WRITE);
    ck_ok(commit_ref("a", "22", NULL));
    ck_assert_uint_eq(ref_number(backend, "a"), 0);
    ck_fails(commit_ref("a", "22", NULL), EEXIST, "'a'");
    cm_buffer_free(&value);
}
END_TEST

START_TEST(refs_and_records_are_all_or_nothing)
{
    size_t size = record_sizes[_i];
    ck_ok(commit_ref("a", NULL, "1"));
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    for (uint64_t n = 1; n <= 30; n++)
        ck_ok(put_made(backend, txn, n, size));
    cm_ref_update updates[] = {{.key = "b", .value = "5", .value_size = 1},
                               {.key = "a", .expected = "2", .expected_size = 1, .value = "3", .value_size = 1}};
    ck_fails(backend->ops->commit(txn, updates, 2), EEXIST, "'a'");
    backend->ops->abort(txn);
    ck_assert_uint_eq(ref_number(backend, "a"), 1);
    ck_assert_uint_eq(ref_number(backend, "b"), 0);
    for (uint64_t n = 1; n <= 30; n++)
        ck_assert(!has_made(backend, n, size));
    commit_made(31, 10, size);
    reopen(WRITE);
    for (uint64_t n = 1; n <= 40; n++)
        ck_assert_int_eq(has_made(backend, n, size), n > 30);
}
END_TEST

/* A transaction whose refs were not as expected goes on: more records, other refs. */
START_TEST(a_refused_commit_can_be_repeated)
{
    size_t size = record_sizes[_i];
    ck_ok(commit_ref("a", NULL, "1"));
    cm_backend_txn *txn;
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    for (uint64_t n = 1; n <= 20; n++)
        ck_ok(put_made(backend, txn, n, size));
    cm_ref_update update = {.key = "a", .expected = "0", .expected_size = 1, .value = "2", .value_size = 1};
    ck_fails(backend->ops->commit(txn, &update, 1), EEXIST, "'a'");
    ck_assert(!has_made(backend, 1, size));
    for (uint64_t n = 15; n <= 40; n++)
        ck_ok(put_made(backend, txn, n, size));
    ck_fails(backend->ops->commit(txn, &update, 1), EEXIST, "'a'");
    update.expected = "1";
    ck_ok(backend->ops->commit(txn, &update, 1));
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(ref_number(backend, "a"), 2);
        for (uint64_t n = 1; n <= 41; n++)
            ck_assert_int_eq(has_made(backend, n, size), n <= 40);
        reopen(WRITE);
    }
}
END_TEST

typedef struct counter {
    unsigned won;
    int result;
} counter;

static void *count_up(void *arg)
{
    counter *mine = arg;
    while (mine->won < 50) {
        char now[24], next[24];
        uint64_t number = ref_number(backend, "n");
        snprintf(now, sizeof now, "%llu", (unsigned long long)number);
        snprintf(next, sizeof next, "%llu", (unsigned long long)number + 1);
        int result = commit_ref("n", number ? now : NULL, next);
        if (result != 0 && result != -EEXIST) {
            mine->result = result;
            break;
        }
        mine->won += result == 0;
    }
    return NULL;
}

START_TEST(compare_and_swap_counts_right_from_threads)
{
    counter counters[4] = {0};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_up, &counters[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(counters[i].result, 0);
    }
    ck_assert_uint_eq(ref_number(backend, "n"), 200);
}
END_TEST

static int join_ref(void *arg, const char *key, const void *value, size_t size)
{
    char *text = arg;
    sprintf(text + strlen(text), "%s=%.*s ", key, (int)size, (const char *)value);
    return strcmp(key, "s/stop") == 0 ? 7 : 0;
}

START_TEST(refs_are_listed_by_prefix)
{
    static const char *const keys[] = {"s/b", "s/a", "s", "t/x", "s/a/b", "r", "s0"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_ok(commit_ref(keys[i], NULL, "v"));
    char text[256] = "";
    ck_ok(backend->ops->ref_list(backend, "s/", join_ref, text));
    ck_assert_str_eq(text, "s/a=v s/a/b=v s/b=v ");
    text[0] = 0;
    ck_ok(backend->ops->ref_list(backend, "", join_ref, text));
    ck_assert_str_eq(text, "r=v s=v s/a=v s/a/b=v s/b=v s0=v t/x=v ");
    text[0] = 0;
    ck_ok(backend->ops->ref_list(backend, "zzz", join_ref, text));
    ck_assert_str_eq(text, "");
    ck_ok(commit_ref("s/stop", NULL, "v"));
    ck_assert_int_eq(backend->ops->ref_list(backend, "s/", join_ref, text), 7);
}
END_TEST

/* ---- readers ------------------------------------------------------------------------------------------------------ */

START_TEST(reader_sees_commits_after_refresh)
{
    commit_made(1, 10, 100);
    cm_backend *reader = open_backend(path, CM_OPEN_READ);
    ck_assert(!reader->ops->writable);
    ck_assert(has_made(reader, 1, 100));
    ck_ok(commit_ref("a", NULL, "1"));
    commit_made(11, 30, 300000);
    ck_assert_uint_eq(ref_number(reader, "a"), 0);
    ck_ok(reader->ops->refresh(reader));
    ck_assert_uint_eq(ref_number(reader, "a"), 1);
    for (uint64_t n = 1; n <= 40; n++)
        ck_assert(has_made(reader, n, n <= 10 ? 100 : 300000));
    cm_backend_txn *txn;
    ck_fails(reader->ops->begin(reader, &txn, NULL), EROFS, "reading only");
    uint64_t count = 0;
    ck_ok(reader->ops->list(reader, NULL, count_object, &count));
    ck_assert_uint_eq(count, 40);
    reader->ops->close(reader);
    backend->ops->close(backend);
    backend = open_backend(path, CM_OPEN_READ); /* with no writer */
    for (uint64_t n = 1; n <= 40; n++)
        ck_assert(has_made(backend, n, n <= 10 ? 100 : 300000));
}
END_TEST

/* The writer's log is flushed and removed before the reader has read it to its end. */
START_TEST(reader_misses_nothing_of_a_removed_log)
{
    ck_ok(commit_ref("a", NULL, "1"));
    cm_backend *reader = open_backend(path, CM_OPEN_READ);
    ck_assert_uint_eq(ref_number(reader, "a"), 1);
    for (int i = 1; i < 20; i++) {
        char before[8], after[8];
        snprintf(before, sizeof before, "%d", i);
        snprintf(after, sizeof after, "%d", i + 1);
        ck_ok(commit_ref("a", before, after));
        if (i % 4 == 3) {
            ck_ok(reader->ops->refresh(reader));
            ck_assert_uint_eq(ref_number(reader, "a"), (uint64_t)i + 1);
        }
        reopen(WRITE); /* closing flushes, opening removes */
        if (i % 4 == 1) {
            ck_ok(reader->ops->refresh(reader));
            ck_assert_uint_eq(ref_number(reader, "a"), (uint64_t)i + 1);
        }
    }
    ck_ok(reader->ops->refresh(reader));
    ck_assert_uint_eq(ref_number(reader, "a"), 20);
    reader->ops->close(reader);
}
END_TEST

/* ---- the snapshot directory -------------------------------------------------------------------------------------- */

START_TEST(snapshot_makes_records_of_files)
{
    ck_assert_int_eq(mkdir(scratch_path("snap"), 0700), 0);
    cm_backend *snap;
    ck_fails(cm_backend_snapshot_open(scratch_path("nosnap"), &snap), ENOENT, "nosnap");
    ck_fails(cm_backend_snapshot_open(scratch_path("snap"), &snap), ENOENT, "its pods/");
    ck_assert_int_eq(mkdir(scratch_path("snap/pods"), 0700), 0);
    cm_record records[4];
    char name[128], hex[CM_ID_HEX + 1];
    for (uint64_t n = 0; n < 4; n++) {
        void *data = made_record(n, n == 3 ? 0 : 5000, &records[n]);
        cm_id_hex(&records[n].id, hex);
        snprintf(name, sizeof name, "snap/pods/%s", hex);
        write_file(scratch_path(name), data, n == 2 ? 4000 : records[n].size); /* number 2 is cut short */
        free(data);
    }
    write_file(scratch_path("snap/pods/README"), "x", 1);
    ck_ok(cm_backend_snapshot_open(scratch_path("snap"), &snap));
    cm_buffer record = CM_BUFFER_INIT, content = CM_BUFFER_INIT;
    cm_object_info info, infos[4];
    ck_ok(get_record(snap, &records[1].id, &record, &info));
    ck_assert_uint_eq(info.kind, CM_KIND_CHUNK);
    ck_assert_uint_eq(info.size, 5008);
    ck_ok(cm_record_decode(record.data, record.size, &content));
    cm_record expected;
    void *data = made_record(1, 5000, &expected);
    ck_assert_uint_eq(content.size, 5008);
    ck_assert_int_eq(memcmp(content.data, data, 5008), 0);
    free(data);
    cm_id_hex(&records[2].id, hex);
    ck_fails(get_record(snap, &records[2].id, &record, &info), EILSEQ, hex);
    cm_id none = {{1}};
    ck_assert_int_eq(get_record(snap, &none, &record, &info), -ENOENT);
    ck_ok(snap->ops->find(snap, &none, 1, infos));
    ck_assert_uint_eq(infos[0].kind, 0);
    for (uint64_t n = 0; n < 4; n++) {
        ck_ok(snap->ops->find(snap, &records[n].id, 1, infos));
        ck_assert_uint_eq(infos[0].kind, CM_KIND_CHUNK);
    }
    uint64_t count = 0, bytes;
    ck_ok(snap->ops->list(snap, NULL, count_object, &count));
    ck_assert_uint_eq(count, 4);
    ck_ok(snap->ops->disk_bytes(snap, &bytes));
    ck_assert_uint_ge(bytes, 4096);
    cm_backend_txn *txn;
    ck_assert(!snap->ops->writable);
    ck_fails(snap->ops->begin(snap, &txn, NULL), EROFS, "checkpoint directory");
    ck_fails(snap->ops->ref_get(snap, "r", &record), ENOENT, "'r'");
    cm_buffer_free(&record);
    cm_buffer_free(&content);
    snap->ops->close(snap);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 4)
        return open_and_fork(argv[2], atoi(argv[3]));
    Suite *suite = suite_create("core.backend");
    TCase *tcase = tcase_create("contract");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, created_private_and_found_again);
    tcase_add_test(tcase, created_private_under_any_umask);
    tcase_add_test(tcase, refused_when_absent);
    tcase_add_test(tcase, interrupted_creation_is_finished);
    tcase_add_loop_test(tcase, foreign_seal_is_refused, 0, (int)(sizeof seals / sizeof *seals));
    tcase_add_test(tcase, relative_path_survives_chdir);
    tcase_add_test(tcase, second_writer_is_told_who_writes);
    tcase_add_test(tcase, lock_of_a_dead_writer_is_passed_over);
    tcase_add_test(tcase, lock_that_was_given_back_is_not_held_by_children);
    tcase_add_test(tcase, forked_child_may_read_a_store_of_its_own);
    tcase_add_test(tcase, forked_child_is_refused_and_harmless);
    tcase_add_loop_test(tcase, nothing_is_seen_before_commit, 0, 2);
    tcase_add_loop_test(tcase, aborted_leaves_nothing, 0, 2);
    tcase_add_loop_test(tcase, first_of_duplicates_stays, 0, 2);
    tcase_add_loop_test(tcase, threads_share_a_transaction, 0, 2);
    tcase_add_test(tcase, many_ids_are_found_at_once);
    tcase_add_test(tcase, list_is_ordered_and_starts_and_stops_where_told);
    tcase_add_test(tcase, refs_move_by_compare_and_swap);
    tcase_add_loop_test(tcase, refs_and_records_are_all_or_nothing, 0, 2);
    tcase_add_loop_test(tcase, a_refused_commit_can_be_repeated, 0, 2);
    tcase_add_test(tcase, compare_and_swap_counts_right_from_threads);
    tcase_add_test(tcase, refs_are_listed_by_prefix);
    tcase_add_test(tcase, reader_sees_commits_after_refresh);
    tcase_add_test(tcase, reader_misses_nothing_of_a_removed_log);
    tcase_add_test(tcase, snapshot_makes_records_of_files);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
