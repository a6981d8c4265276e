/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage: a wrong byte is an error that names the variable, the others still load, and never is a value wrong (P5). First
 * in single records, then anywhere in the files of the store.
 */
#include "backend_support.h"
#include "buffer.h"
#include "checkpoint.h"
#include "fixture.h"
#include "rocksdb_backend.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VARIABLES = 6 };

static const char *const names[VARIABLES] = {"buffer", "list", "number", "pods", "shared", "text"};

enum { BUFFER = 200000 };

/* Letters, so that they can be told in a line of text. */
static const uint8_t *buffer_bytes(void)
{
    static uint8_t bytes[BUFFER];
    seeded_fill(5, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)('a' + bytes[i] % 26);
    return bytes;
}

/* The variables of the damaged store: of all kinds; "shared" refers to the pods of "pods". */
static void save_all(cm_store *into)
{
    arena a = {0};
    cutting pods = {{1}, 256, 0};
    node *list = node_new(&a, NODE_LIST), *deep = node_new(&a, NODE_LIST), *shared = node_new(&a, NODE_LIST);
    for (long i = 0; i < 100; i++)
        node_add(&a, list, node_int(&a, i));
    for (long i = 0; i < 10; i++) {
        node *inner = node_new(&a, NODE_LIST);
        node_add(&a, inner, node_int(&a, i));
        node_add(&a, inner, deep);
        node_add(&a, deep, inner);
    }
    node_add(&a, shared, deep->items[3]);
    cm_save *save = begin(into, "s");
    save_node(save, "buffer", node_text(&a, NODE_BYTES, buffer_bytes(), BUFFER), &whole);
    save_node(save, "list", list, &whole);
    save_node(save, "number", node_int(&a, 5), &whole);
    save_node(save, "pods", deep, &pods);
    save_node(save, "shared", shared, &whole);
    save_node(save, "text", node_text(&a, NODE_STR, "some text", 9), &whole);
    cm_checkpoint_unref(finish(save));
    arena_free(&a);
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

static char *good[VARIABLES];

static void setup(void)
{
    setup_store();
    save_all(store);
    cm_checkpoint *c;
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    for (size_t i = 0; i < VARIABLES; i++)
        good[i] = describe_linked(c, names[i]);
    cm_checkpoint_unref(c);
}

static void teardown(void)
{
    for (size_t i = 0; i < VARIABLES; i++)
        free(good[i]);
    teardown_store();
}

enum damage { FLIP_FIRST, FLIP_MIDDLE, FLIP_LAST, CUT, EMPTY, REMOVE, DAMAGES };

/* Spoils the record of an object in the database, behind everyone's back. */
static void spoil(const cm_id *id, enum damage how)
{
    cm_rocksdb_backend *backend = (cm_rocksdb_backend *)store->backend;
    cm_buffer record = CM_BUFFER_INIT;
    cm_object_info info;
    uint64_t sequence;
    ck_ok(store->backend->ops->get_stored(store->backend, id, &record, &info));
    ck_ok(cm_rocksdb_find(backend, id, 1, &info, &sequence));
    size_t places[] = {[FLIP_FIRST] = 0, [FLIP_MIDDLE] = record.size / 2, [FLIP_LAST] = record.size - 1};
    if (how <= FLIP_LAST)
        record.data[places[how]] ^= 0x10;
    else
        record.size = how == CUT ? record.size - 1 : 0;
    uint8_t key[8];
    cm_sequence_pack(sequence, key);
    char *error = NULL;
    if (how == REMOVE)
        rocksdb_delete_cf(backend->rocks.db, backend->rocks.write_quick, backend->rocks.cf[CM_CF_BULK], (char *)key,
                          sizeof key, &error);
    else
        rocksdb_put_cf(backend->rocks.db, backend->rocks.write_quick, backend->rocks.cf[CM_CF_BULK], (char *)key,
                       sizeof key, (char *)record.data, record.size, &error);
    ck_assert_ptr_null(error);
    cm_buffer_free(&record);
}

static int load(cm_checkpoint *c, const char *name, const char *expected)
{
    cm_link *link;
    int result = cm_link_open(c, &name, 1, 0, &link);
    if (result < 0)
        return result;
    size_t size = (size_t)cm_link_size(link), done = 0;
    uint8_t *stream = malloc(size + 1);
    result = cm_link_read(link, 0, stream, size, &done);
    cm_link_close(link);
    if (result == 0) {
        arena a = {0};
        const char *why;
        node *root = done == size ? unpickle(&a, stream, size, &why) : NULL;
        char *got = root ? describe(root) : NULL;
        if (!got || strcmp(got, expected) != 0)
            result = 1; /* wrong, and nobody said so */
        free(got);
        arena_free(&a);
    }
    free(stream);
    return result;
}

/* The pod or, of the buffer, a chunk of one variable is spoiled: it says so, the others are well. */
START_TEST(damage_is_named_and_contained)
{
    size_t victim = (size_t)_i % VARIABLES;
    enum damage how = (enum damage)((size_t)_i / VARIABLES);
    cm_checkpoint *c;
    const cm_variable *variable;
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    ck_ok(cm_checkpoint_variable(c, names[victim], &variable));
    cm_id id = variable->root.pod;
    if (victim == 0) /* the second chunk */
        ck_ok(cm_id_of(buffer_bytes() + 65536, 65536, &id));
    spoil(&id, how);
    for (size_t i = 0; i < VARIABLES; i++) {
        int result = load(c, names[i], good[i]);
        bool hit = i == victim || (i == 4 && victim == 3); /* "shared" needs "pods" */
        if (hit) {
            ck_assert_msg(result < 0, "%s: %d", names[i], result);
            ck_assert_msg(strstr(cm_error_message(), names[i]), "%s is not named: %s", names[i], cm_error_message());
        } else {
            ck_assert_msg(result == 0, "%s: %d (%s)", names[i], result, cm_error_message());
        }
    }
    char where[500] = "", expected[64];
    cm_verify_report report;
    ck_fails(cm_verify(store, note_damage, NULL, where, &report), EILSEQ, "damaged");
    snprintf(expected, sizeof expected, "s@1 %s", names[victim]);
    ck_assert_msg(strstr(where, expected), "'%s' is not in '%s'", expected, where);
    ck_assert_uint_ge(report.damaged, 1);
    for (size_t i = 0; i < VARIABLES; i++) {
        snprintf(expected, sizeof expected, "s@1 %s;", names[i]);
        ck_assert_msg(i == victim || !strstr(where, expected) || (i == 4 && victim == 3), "%s in '%s'", names[i],
                      where);
    }
    cm_checkpoint_unref(c);
}
END_TEST

/* The maps and the checkpoint itself: nothing loads, nothing crashes, and a later save puts it right for what it saves. */
START_TEST(damaged_maps_and_checkpoints_are_told)
{
    cm_checkpoint *c;
    const cm_variable *variable;
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    cm_id id = _i % 2 ? *cm_checkpoint_id(c) : c->variable_map;
    cm_checkpoint_unref(c);
    spoil(&id, (enum damage)(_i / 2));
    int result = cm_checkpoint_open(store, "s", NULL, &c);
    if (_i % 2) {
        ck_assert_int_lt(result, 0);
    } else {
        ck_assert_int_eq(result, 0);
        ck_assert_int_lt(cm_checkpoint_variable(c, "list", &variable), 0);
        ck_assert_msg(strstr(cm_error_message(), "s@1"), "%s", cm_error_message());
        cm_checkpoint_unref(c);
    }
    char where[500] = "";
    cm_verify_report report;
    ck_fails(cm_verify(store, note_damage, NULL, where, &report), EILSEQ, "damaged");
    ck_assert_msg(strstr(where, "s@1"), "%s", where);
}
END_TEST

START_TEST(sound_stores_verify)
{
    cm_verify_report report;
    cm_store_stat stat;
    ck_ok(cm_verify(store, note_damage, NULL, NULL, &report));
    ck_ok(cm_store_statistics(store, &stat));
    ck_assert_uint_eq(report.objects, stat.objects);
    ck_assert_uint_eq(report.bytes, stat.raw_bytes);
    ck_assert_uint_eq(report.sessions, 1);
    ck_assert_uint_eq(report.checkpoints, 1);
    ck_assert_uint_eq(report.variables, VARIABLES);
    ck_assert_uint_eq(report.damaged, 0);
}
END_TEST

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* In a process of its own, for it may die: loads everything. 0: each variable is right or fails; 1: something is wrong. */
static int load_all(const char *path, unsigned flags)
{
    cm_store *damaged;
    cm_checkpoint *c;
    int failures = 0;
    if (cm_store_open(path, flags, &damaged) < 0)
        return 2;
    if (cm_checkpoint_open(damaged, "s", NULL, &c) < 0) {
        cm_store_unref(damaged);
        return 2;
    }
    char expected[4096];
    snprintf(expected, sizeof expected, "%s/../expected", path);
    FILE *file = fopen(expected, "re");
    must(file);
    static char line[300000];
    for (size_t i = 0; i < VARIABLES; i++) {
        must(fgets(line, sizeof line, file));
        line[strcspn(line, "\n")] = 0;
        int result = load(c, names[i], line);
        if (result > 0)
            return 1;
        failures += result < 0;
    }
    fclose(file);
    cm_verify_report report;
    int result = cm_verify(damaged, NULL, NULL, NULL, &report);
    cm_checkpoint_unref(c);
    cm_store_unref(damaged);
    return failures || result < 0 ? 2 : 0;
}

static void flip_bit(const char *path, size_t bit)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    must(fd >= 0 && pread(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    byte ^= (uint8_t)(1u << bit % 8);
    must(pwrite(fd, &byte, 1, (off_t)(bit / 8)) == 1);
    close(fd);
}

/* A file of the store at random, weighted by nothing: tables, log, manifest. */
static size_t pick_file(const char *directory, seeded *random, char *path, size_t capacity)
{
    struct dirent **list;
    int count = scandir(directory, &list, NULL, alphasort);
    must(count > 2);
    struct stat st = {0};
    do {
        snprintf(path, capacity, "%s/%s", directory, list[seeded_next(random) % (uint64_t)count]->d_name);
        must(stat(path, &st) == 0);
    } while (!S_ISREG(st.st_mode) || st.st_size == 0);
    for (int i = 0; i < count; i++)
        free(list[i]);
    free(list);
    return (size_t)st.st_size;
}

/*
 * A bit of a file of the database flips (every second time a file is cut short), in a store that was closed or whose
 * writer was killed: opening and loading give what was saved, or an error.
 */
START_TEST(flipped_bits_in_files_are_never_wrong_values)
{
    char command[9000], path[4096];
    const char *damaged = scratch_path("flipped/store");
    FILE *file = fopen(scratch_path("expected"), "we");
    for (size_t i = 0; i < VARIABLES; i++)
        fprintf(file, "%s\n", good[i]);
    fclose(file);
    bool closed = _i % 2;
    if (closed) {
        cm_store_unref(store);
        store = open_store("other", CREATE);
    }
    seeded random = {(uint64_t)_i + 77};
    int results[3] = {0};
    for (int k = 0; k < 25; k++) {
        snprintf(command, sizeof command,
                 "rm -rf %s/flipped && mkdir %s/flipped && cp -a %s/store %s/expected %s/flipped/", scratch_dir(),
                 scratch_dir(), scratch_dir(), scratch_dir(), scratch_dir());
        ck_assert_int_eq(system(command), 0);
        size_t size = pick_file(scratch_path("flipped/store/db"), &random, path, sizeof path);
        size_t bit = seeded_next(&random) % (size * 8);
        if (k % 4 == 3)
            ck_assert_int_eq(truncate(path, (off_t)(bit / 8)), 0);
        else
            flip_bit(path, bit);
        pid_t child = start_role(k % 2 ? "write" : "read", damaged, -1);
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status), "signal %d after bit %zu of %s (round %d)", WTERMSIG(status), bit, path, k);
        ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2, "status %d after bit %zu of %s",
                      WEXITSTATUS(status), bit, path);
        results[WEXITSTATUS(status)]++;
    }
    printf("  %s: 25 times damaged, %d times without effect, %d times told\n", closed ? "closed" : "killed", results[0],
           results[2]);
    ck_assert_int_gt(results[2], 0);
}
END_TEST

/* ---- tables ------------------------------------------------------------------------------------------------------ */

/* The largest table is that of bulk. */
static void find_bulk(const char *directory, char *path, size_t capacity)
{
    struct dirent **list;
    int count = scandir(directory, &list, NULL, alphasort);
    off_t largest = -1;
    for (int i = 0; i < count; i++) {
        char name[4400];
        struct stat st;
        snprintf(name, sizeof name, "%s/%s", directory, list[i]->d_name);
        if (strstr(name, ".sst") && stat(name, &st) == 0 && st.st_size > largest) {
            largest = st.st_size;
            snprintf(path, capacity, "%s", name);
        }
        free(list[i]);
    }
    free(list);
    must(largest > 0);
}

/* Flips bit after bit of a table, each time with a reader of its own. */
static int flip_table(const char *store_path, int part)
{
    char directory[4096], path[4400];
    snprintf(directory, sizeof directory, "%s/db", store_path);
    find_bulk(directory, path, sizeof path);
    struct stat st;
    must(stat(path, &st) == 0);
    /* Blocks are some kB of small records, then big ones; what describes them is at the end. */
    size_t size = (size_t)st.st_size, from = part % 2 ? size - 3000 : 0, to = part % 2 ? size : 6000;
    seeded random = {(uint64_t)part};
    int told = 0;
    for (int k = 0; k < 60; k++) {
        size_t bit = from * 8 + seeded_next(&random) % ((to - from) * 8);
        flip_bit(path, bit);
        int result = load_all(store_path, CM_OPEN_READ);
        flip_bit(path, bit);
        if (result == 1) {
            fprintf(stderr, "a wrong value after bit %zu of %s\n", bit, path);
            return 1;
        }
        told += result == 2;
    }
    printf("  %s of a table: 60 bits flipped, %d times told\n", part % 2 ? "end" : "beginning", told);
    return told ? 0 : 3;
}

START_TEST(flipped_bits_in_tables_are_told)
{
    FILE *file = fopen(scratch_path("expected"), "we");
    for (size_t i = 0; i < VARIABLES; i++)
        fprintf(file, "%s\n", good[i]);
    fclose(file);
    cm_store_unref(store);
    store = NULL;
    pid_t child = start_role("table", scratch_path("store"), _i);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "table") == 0)
        return flip_table(argv[2], atoi(argv[3]));
    if (argc == 4)
        return load_all(argv[2], strcmp(argv[1], "write") == 0 ? CM_OPEN_WRITE : CM_OPEN_READ);
    Suite *suite = suite_create("core.verify");
    TCase *tcase = tcase_create("verify");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, sound_stores_verify);
    tcase_add_loop_test(tcase, damage_is_named_and_contained, 0, VARIABLES * DAMAGES);
    tcase_add_loop_test(tcase, damaged_maps_and_checkpoints_are_told, 0, 2 * DAMAGES);
    tcase_add_loop_test(tcase, flipped_bits_in_files_are_never_wrong_values, 0, 4);
    tcase_add_loop_test(tcase, flipped_bits_in_tables_are_told, 0, 4);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
