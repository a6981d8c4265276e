/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collections: what a checkpoint with a number consists of stays, and what that is a difference from; all else goes, and its
 * space is given back; saves go on beside it and never refer to what has gone.
 */
#include "backend_support.h"
#include "codec.h"
#include "fixture.h"
#include "rocksdb_backend.h"
#include "store.h"

#include <dirent.h>
#include <sys/stat.h>

enum { SIZE = 1 << 20 };

static cutting pods = {{1}, 256, 0};
static uint8_t *bytes;

static void setup(void)
{
    setup_store();
    bytes = malloc(SIZE);
    seeded_fill(1, bytes, SIZE);
}

static void teardown(void)
{
    free(bytes);
    teardown_store();
}

/* A checkpoint loses its number, as it would to `prune`. */
static void forget(const char *session, uint64_t number)
{
    const cm_backend_ops *ops = store->backend->ops;
    char key[64];
    cm_buffer value = CM_BUFFER_INIT;
    cm_backend_txn *txn;
    snprintf(key, sizeof key, "n/%s/%016llx", session, (unsigned long long)number);
    ck_ok(ops->ref_get(store->backend, key, &value));
    ck_ok(ops->begin(store->backend, &txn, NULL));
    cm_ref_update update = {.key = key, .expected = value.data, .expected_size = value.size};
    ck_ok(ops->commit(txn, &update, 1));
    cm_buffer_free(&value);
}

static node *array_of(const uint8_t *data, size_t size)
{
    node *array = node_new(&nodes, NODE_BUFFER);
    array->text = data;
    array->size = size;
    return array;
}

/* A list of small lists, each a pod of its own: `from`, `from` + 1, ... */
static node *lists(long from, size_t count)
{
    node *list = node_new(&nodes, NODE_LIST);
    for (size_t i = 0; i < count; i++) {
        node *inner = node_new(&nodes, NODE_LIST);
        long number = from + (long)i;
        node_add(&nodes, inner, node_int(&nodes, number >> 8)); /* integers here have a byte */
        node_add(&nodes, inner, node_int(&nodes, number & 255));
        node_add(&nodes, list, inner);
    }
    return list;
}

static cm_save *build(const char *session, long from)
{
    cm_save *save = begin(store, session);
    save_node(save, "array", array_of(bytes, SIZE), &whole);
    save_node(save, "lists", lists(from, 50), &pods);
    save_node(save, "number", node_int(&nodes, from & 255), &whole);
    return save;
}

static uint64_t save_state(const char *session, long from)
{
    cm_checkpoint *c = finish(build(session, from));
    uint64_t number = cm_checkpoint_number(c);
    cm_checkpoint_unref(c);
    return number;
}

static void check_state(const char *session, uint64_t number, long from)
{
    cm_checkpoint *c;
    ck_ok(cm_checkpoint_open_number(store, session, number, &c));
    node *expected = lists(from, 50);
    char *want = describe(expected), *got = describe_linked(c, "lists");
    ck_assert_str_eq(want, got);
    free(want);
    free(got);
    cm_checkpoint_unref(c);
}

/* ---- what is there --------------------------------------------------------------------------------------------------- */

typedef struct ids {
    cm_id *all;
    size_t count, capacity;
} ids;

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(cm_id));
}

static int add_id(void *arg, const cm_id *id, const cm_object_info *info)
{
    ids *some = arg;
    (void)info;
    ck_assert(cm_grow(&some->all, some->count, &some->capacity, sizeof *some->all));
    some->all[some->count++] = *id;
    return 0;
}

/* Sorted, each once. */
static void order(ids *some)
{
    size_t count = 0;
    if (some->count)
        qsort(some->all, some->count, sizeof *some->all, by_id);
    for (size_t i = 0; i < some->count; i++)
        if (count == 0 || !cm_id_equal(&some->all[count - 1], &some->all[i]))
            some->all[count++] = some->all[i];
    some->count = count;
}

/* Adds what the records of these objects are differences from, all the way. */
static void add_bases(ids *some)
{
    cm_buffer record = CM_BUFFER_INIT;
    for (size_t i = 0; i < some->count; i++) {
        cm_object_info info;
        cm_id base;
        unsigned depth;
        ck_ok(store->backend->ops->get_stored(store->backend, &some->all[i], &record, &info));
        if (cm_record_base(record.data, record.size, &base, &depth) == 1)
            add_id(some, &base, NULL);
    }
    cm_buffer_free(&record);
}

/* The store has exactly what the checkpoints with numbers need. */
static void only_what_is_needed(const char *const *addresses, size_t count)
{
    ids there = {0}, needed = {0};
    for (size_t i = 0; i < count; i++) {
        cm_checkpoint *c;
        ck_ok(cm_checkpoint_open_address(store, addresses[i], &c));
        ck_ok(cm_checkpoint_objects(c, add_id, &needed));
        cm_checkpoint_unref(c);
    }
    add_bases(&needed);
    order(&needed);
    ck_ok(cm_object_list(store, NULL, 0, add_id, &there));
    order(&there);
    ck_assert_uint_eq(there.count, needed.count);
    ck_assert_mem_eq(there.all, needed.all, there.count * sizeof *there.all);
    free(there.all);
    free(needed.all);
}

START_TEST(what_nothing_refers_to_goes)
{
    for (long i = 0; i < 6; i++) {
        bytes[i * 1000] ^= 1; /* chains of differences */
        save_state("s", i * 10);
    }
    save_state("other", 5); /* shares pods with two of them */
    cm_gc_report first = collect(), second;
    ck_assert_uint_gt(first.kept, 100);
    forget("s", 1);
    forget("s", 3);
    forget("s", 4);
    ck_ok(cm_gc(store, true, NULL, NULL, &second));
    ck_assert_uint_gt(second.removed, 0);
    ck_assert_uint_gt(second.removed_bytes, 0);
    ck_assert_uint_eq(second.kept + second.removed, first.kept);
    cm_store_stat stat;
    ck_ok(cm_store_statistics(store, &stat));
    ck_assert_uint_eq(stat.objects, first.kept); /* a dry run */
    cm_gc_report third = collect();
    ck_assert_uint_eq(third.removed, second.removed);
    ck_assert_uint_eq(third.removed_bytes, second.removed_bytes);
    ck_assert_uint_eq(third.kept, second.kept);
    ck_assert_uint_eq(third.kept_bytes, second.kept_bytes);
    only_what_is_needed((const char *const[]){"s@2", "s@5", "s@6", "other"}, 4);
    no_damage();
    for (int again = 0; again < 2; again++) {
        check_state("s", 2, 10);
        check_state("s", 5, 40);
        check_state("s", 6, 50);
        check_state("other", 1, 5);
        cm_store_unref(store);
        store = open_store("store", CREATE);
    }
    ck_assert_uint_eq(collect().removed, 0);
}
END_TEST

START_TEST(differences_keep_their_bases)
{
    enum { ROUNDS = 30 };
    for (long i = 0; i < ROUNDS; i++) {
        bytes[70000] ^= (uint8_t)(1 + i);
        save_state("s", i);
    }
    for (uint64_t i = 1; i < ROUNDS; i++)
        forget("s", i);
    ck_assert_uint_gt(collect().removed, ROUNDS);
    only_what_is_needed((const char *const[]){"s"}, 1);
    no_damage();
    bytes[70000] ^= 9; /* and the next one is a difference again */
    cm_checkpoint *c = finish(build("s", ROUNDS - 1));
    ck_assert_uint_lt(cm_checkpoint_stats(c)->bytes_written, 4000);
    cm_checkpoint_unref(c);
    no_damage();
}
END_TEST

/* Bytes that happen to be those of a pod: the pod's own parts are found all the same. */
START_TEST(bytes_may_be_those_of_a_pod)
{
    cm_checkpoint *c;
    const cm_variable *variable;
    void *content;
    size_t size;
    cm_save *save = begin(store, "s");
    save_node(save, "lists", lists(0, 500), &pods);
    c = finish(save);
    ck_ok(cm_checkpoint_variable(c, "lists", &variable));
    ck_ok(cm_object_read(store, &variable->root.pod, &content, &size));
    ck_assert_uint_gt(size, CM_PAYLOAD_MIN);
    cm_checkpoint_unref(c);
    save = begin(store, "s");
    save_node(save, "array", array_of(content, size), &whole); /* before the pod, by name */
    save_node(save, "lists", lists(0, 500), &pods);
    cm_checkpoint_unref(finish(save));
    forget("s", 1);
    collect();
    only_what_is_needed((const char *const[]){"s"}, 1);
    no_damage();
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    node *expected = lists(0, 500);
    char *want = describe(expected), *got = describe_linked(c, "lists");
    ck_assert_str_eq(want, got);
    free(want);
    free(got);
    free(content);
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- beside saves -------------------------------------------------------------------------------------------------- */

/* Ends a save that a collection has come between. */
static void is_stale(cm_save *save)
{
    ck_ok(cm_save_commit(save, NULL, NULL));
    ck_fails(cm_save_wait(save, 60000), ESTALE, "try again");
    cm_save_free(save);
}

START_TEST(a_save_in_progress_is_refused)
{
    save_state("s", 0);
    save_state("s", 1000);
    forget("s", 1);
    cm_save *save = build("s", 0); /* finds what it needs in the store */
    uint64_t epoch = cm_save_epoch(save);
    collect();
    is_stale(save);
    cm_checkpoint *c = finish(save = build("s", 0));
    ck_assert_uint_eq(cm_checkpoint_number(c), 3);
    cm_checkpoint_unref(c);
    no_damage();
    check_state("s", 3, 0);
    save = begin(store, "s");
    ck_assert_uint_ne(cm_save_epoch(save), epoch);
    epoch = cm_save_epoch(save);
    cm_save_free(save);
    cm_store_unref(store);
    store = open_store("store", CREATE);
    save = build("s", 1); /* a collection that finds nothing to remove does not matter to it */
    ck_assert_uint_eq(cm_save_epoch(save), epoch);
    ck_assert_uint_eq(collect().removed, 0);
    cm_checkpoint_unref(finish(save));
}
END_TEST

/* What was known of the store is not believed after a collection: a save with the same content writes it again. */
START_TEST(known_content_is_forgotten)
{
    for (uint64_t i = 1; i < 8; i++) {
        ck_assert_uint_eq(save_state("s", 0), 2 * i - 1);
        cm_save *save = begin(store, "s");
        save_node(save, "number", node_int(&nodes, (long)i), &whole);
        cm_checkpoint_unref(finish(save));
        forget("s", 2 * i - 1);
        ck_assert_uint_gt(collect().removed_bytes, SIZE);
        no_damage();
    }
}
END_TEST

static cm_save *between;
static long rounds;

/* Saves and forgets while the marking goes on; the last save is left in progress. */
static int interfere(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    ck_assert_uint_le(done, total + 1000);
    if (rounds == 5)
        return 0;
    save_state("busy", rounds++);
    if (rounds > 2)
        forget("busy", (uint64_t)rounds - 2);
    cm_gc_report other;
    ck_fails(cm_gc(store, false, NULL, NULL, &other), EBUSY, "in progress");
    if (rounds == 5) {
        between = begin(store, "busy");
        save_node(between, "lists", lists(0, 50), &pods); /* of the first one, which is forgotten */
    }
    return 0;
}

START_TEST(saves_go_on_while_it_marks)
{
    cm_gc_report report;
    for (long i = 0; i < 30; i++)
        save_state("s", i * 1000);
    for (uint64_t i = 2; i < 30; i++)
        forget("s", i);
    rounds = 0;
    ck_ok(cm_gc(store, false, interfere, NULL, &report));
    ck_assert_int_eq(rounds, 5);
    is_stale(between);
    only_what_is_needed((const char *const[]){"s@1", "s@30", "busy@4", "busy@5"}, 4);
    no_damage();
    check_state("s", 30, 29000);
    check_state("busy", 5, 4);
}
END_TEST

static int stop(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
    return -EINTR;
}

START_TEST(it_can_be_stopped)
{
    cm_gc_report report;
    cm_store_stat before, after;
    for (long i = 0; i < 10; i++)
        save_state("s", i * 1000);
    forget("s", 2);
    ck_ok(cm_store_statistics(store, &before));
    ck_assert_int_eq(cm_gc(store, false, stop, NULL, &report), -EINTR);
    ck_ok(cm_store_statistics(store, &after));
    ck_assert_uint_eq(before.objects, after.objects);
    ck_assert_uint_gt(collect().removed, 0);
}
END_TEST

START_TEST(what_was_removed_is_not_carried)
{
    cm_checkpoint *from;
    save_state("from", 0);
    ck_ok(cm_checkpoint_open_number(store, "from", 1, &from));
    const cm_variable *variables;
    size_t count;
    ck_ok(cm_checkpoint_variables(from, &variables, &count));
    forget("from", 1);
    collect();
    cm_save *save = begin(store, "to");
    ck_fails(cm_save_carry(save, "x", from, "array"), ESTALE, "removed");
    cm_save_free(save);
    cm_checkpoint_unref(from);
}
END_TEST

/* ---- trouble ------------------------------------------------------------------------------------------------------- */

START_TEST(damage_stops_it)
{
    cm_checkpoint *c;
    const cm_variable *variable;
    cm_store_stat before, after;
    cm_gc_report report;
    char *error = NULL;
    save_state("s", 1000);
    save_state("bad", 0); /* later: nothing is a difference from it */
    ck_ok(cm_checkpoint_open_number(store, "bad", 1, &c));
    ck_ok(cm_checkpoint_variable(c, "lists", &variable));
    cm_rocksdb_backend *backend = (cm_rocksdb_backend *)store->backend;
    rocksdb_delete_cf(backend->rocks.db, backend->rocks.write_quick, backend->rocks.cf[CM_CF_INDEX],
                      (const char *)variable->root.pod.bytes, sizeof variable->root.pod.bytes, &error);
    ck_assert_ptr_null(error);
    cm_checkpoint_unref(c);
    ck_ok(cm_store_statistics(store, &before));
    ck_fails(cm_gc(store, false, NULL, NULL, &report), EILSEQ, "nothing was removed");
    ck_ok(cm_store_statistics(store, &after));
    ck_assert_uint_eq(before.objects, after.objects);
    forget("bad", 1); /* without it the rest is sound */
    collect();
    only_what_is_needed((const char *const[]){"s"}, 1);
    cm_store_unref(store);
    store = open_store("store", CM_OPEN_READ);
    ck_fails(cm_gc(store, false, NULL, NULL, &report), EROFS, "reading only");
}
END_TEST

/* The store's backend, but that its collections end after a part of what they were to remove, as if they had been killed. */
static const cm_backend_ops *whole_ops;
static unsigned part; /* of 8 */

typedef struct cut {
    const cm_collector *collector;
} cut;

static int cut_mark(void *arg)
{
    const cut *c = arg;
    return c->collector->mark(c->collector->arg);
}

static int cut_choose(void *arg, const cm_object_entry *fresh, size_t fresh_count, const cm_id **chosen, size_t *count)
{
    const cut *c = arg;
    int result = c->collector->choose(c->collector->arg, fresh, fresh_count, chosen, count);
    ck_assert_uint_gt(*count, 8);
    *count = *count * part / 8;
    return result;
}

static int cut_collect(cm_backend *backend, const cm_collector *collector)
{
    cut c = {collector};
    return whole_ops->collect(backend, &(cm_collector){cut_mark, cut_choose, &c});
}

START_TEST(a_part_of_a_sweep_does_no_harm)
{
    cm_backend_ops ops = *store->backend->ops;
    for (long i = 0; i < 20; i++) {
        bytes[i * 50000] ^= 1;
        save_state("s", i * 20);
    }
    for (uint64_t i = 1; i < 20; i++)
        forget("s", i);
    whole_ops = store->backend->ops;
    part = (unsigned)_i;
    ops.collect = cut_collect;
    store->backend->ops = &ops;
    collect();
    store->backend->ops = whole_ops;
    no_damage();
    /* The same again, of which some is found and some is not; differences from what is still there can be read. */
    for (long i = 19; i >= 0; i--) {
        save_state("again", i * 20);
        bytes[i * 50000] ^= 1;
    }
    no_damage();
    for (long i = 0; i < 20; i++)
        check_state("again", 20 - (uint64_t)i, i * 20);
    collect();
    no_damage();
    for (uint64_t i = 1; i < 20; i++)
        forget("again", i);
    collect();
    only_what_is_needed((const char *const[]){"s", "again"}, 2);
}
END_TEST

/* ---- space --------------------------------------------------------------------------------------------------------- */

/* The bytes of the store's tables; of those above 1 MB, the sum of the numbers in their names. */
static uint64_t tables(uint64_t *names)
{
    char path[600];
    uint64_t size = 0;
    snprintf(path, sizeof path, "%s/db", cm_store_path(store));
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    *names = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strstr(entry->d_name, ".sst"))
            continue;
        snprintf(path, sizeof path, "%s/db/%s", cm_store_path(store), entry->d_name);
        struct stat one;
        if (stat(path, &one) < 0)
            continue; /* removed just now */
        size += (uint64_t)one.st_size;
        *names += one.st_size > SIZE ? strtoull(entry->d_name, NULL, 10) : 0;
    }
    closedir(dir);
    return size;
}

START_TEST(space_is_given_back)
{
    enum { STATES = 100 };
    for (uint64_t i = 0; i < STATES; i++) {
        seeded_fill(i + 100, bytes, SIZE);
        save_state("s", (long)i * 50);
    }
    cm_gc_report before = collect();
    ck_assert_uint_eq(before.removed, 0);
    ck_assert_uint_gt(before.disk_after, (uint64_t)STATES * SIZE);
    uint64_t names, later;
    for (unsigned keep_every = 4; keep_every <= 32; keep_every *= 8) {
        for (uint64_t i = 1; i < STATES; i++)
            if (i % keep_every && (keep_every == 4 || i % 4 == 0))
                forget("s", i);
        cm_gc_report report = collect();
        ck_assert_uint_eq(report.disk_before > report.disk_after + report.removed_bytes * 9 / 10, 1);
        uint64_t size = tables(&names);
        ck_assert_msg(size < report.kept_bytes * 5 / 4 + 100000, "%llu bytes for %llu", (unsigned long long)size,
                      (unsigned long long)report.kept_bytes);
        no_damage();
        collect();
        ck_assert_uint_le(tables(&later), size);
        ck_assert_uint_eq(names, later); /* nothing was rewritten for nothing */
    }
    seeded_fill(0 + 100, bytes, SIZE);
    ck_assert_uint_eq(save_state("s", 0), STATES + 1);
    check_state("s", STATES + 1, 0);
    check_state("s", STATES, (STATES - 1) * 50);
}
END_TEST

/* Small records take more than their bytes in a table; that is not mistaken for something dead. */
START_TEST(small_records_are_not_rewritten_for_nothing)
{
    cm_save *save = begin(store, "s");
    save_node(save, "lists", lists(0, 30000), &pods);
    cm_checkpoint_unref(finish(save));
    save = begin(store, "s");
    save_node(save, "lists", lists(29000, 30000), &pods);
    cm_checkpoint_unref(finish(save));
    collect();
    uint64_t names, later, size = tables(&names);
    collect();
    ck_assert_uint_le(tables(&later), size);
    ck_assert_uint_eq(names, later);
    forget("s", 1);
    ck_assert_uint_gt(collect().removed, 28000);
    uint64_t half = tables(&later);
    ck_assert_msg(half < size * 6 / 10, "%llu of %llu bytes", (unsigned long long)half, (unsigned long long)size);
    no_damage();
}
END_TEST

/* A transaction that has written, and is not done, loses nothing to a collection; that it is refused is for another reason. */
START_TEST(what_is_being_written_stays)
{
    cm_backend *backend = store->backend;
    cm_backend_txn *txn;
    save_state("s", 0);
    ck_ok(backend->ops->begin(backend, &txn, NULL));
    for (uint64_t i = 0; i < 20; i++)
        ck_ok(put_made(backend, txn, i, SIZE)); /* spills */
    collect();
    collect();
    ck_ok(backend->ops->commit(txn, NULL, 0));
    for (uint64_t i = 0; i < 20; i++)
        ck_assert(has_made(backend, i, SIZE));
    ck_assert_uint_eq(collect().removed, 20);
    for (uint64_t i = 0; i < 20; i++)
        ck_assert(!has_made(backend, i, SIZE));
    uint64_t names;
    ck_assert_uint_lt(tables(&names), 3 * SIZE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.gc");
    TCase *cases = tcase_create("collections");
    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, what_nothing_refers_to_goes);
    tcase_add_test(cases, differences_keep_their_bases);
    tcase_add_test(cases, bytes_may_be_those_of_a_pod);
    tcase_add_test(cases, a_save_in_progress_is_refused);
    tcase_add_test(cases, known_content_is_forgotten);
    tcase_add_test(cases, saves_go_on_while_it_marks);
    tcase_add_test(cases, it_can_be_stopped);
    tcase_add_test(cases, what_was_removed_is_not_carried);
    tcase_add_test(cases, damage_stops_it);
    tcase_add_loop_test(cases, a_part_of_a_sweep_does_no_harm, 1, 8);
    tcase_add_test(cases, space_is_given_back);
    tcase_add_test(cases, small_records_are_not_rewritten_for_nothing);
    tcase_add_test(cases, what_is_being_written_stays);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
