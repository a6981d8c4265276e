/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Previews: an object beside each variable that has one, which lives as long as what refers to it, is checked like all else, and goes
 * wherever the variable goes.
 */
#include "checkpoint.h"
#include "fixture.h"

enum { LARGE = 300000 };

static cutting pods = {{1}, 256, 0};
static uint8_t red[200], blue[LARGE]; /* the second does not fit a chunk of a buffer */

static void setup(void)
{
    setup_store();
    seeded_fill(1, red, sizeof red);
    seeded_fill(2, blue, sizeof blue);
    memcpy(red, "\x89PNG\r\n\x1a\n", 8);
    memcpy(blue, red, 8);
}

static void save_list(cm_save *save, const char *name, long number)
{
    node *list = node_new(&nodes, NODE_LIST);
    node_add(&nodes, list, node_int(&nodes, number));
    save_node(save, name, list, &whole);
}

static void give(cm_save *save, const char *name, const void *data, size_t size)
{
    ck_ok(cm_save_preview(save, name, "image/png", data, size));
}

/* What a checkpoint shows of a variable; `size` 0: nothing. */
static void shows(cm_checkpoint *c, const char *name, const void *data, size_t size)
{
    void *got;
    size_t got_size;
    ck_ok(cm_checkpoint_preview(c, name, &got, &got_size));
    ck_assert_uint_eq(got_size, size);
    ck_assert_int_eq(got != NULL, size != 0);
    if (size)
        ck_assert_mem_eq(got, data, size);
    free(got);
}

static cm_variable variable_of(cm_checkpoint *c, const char *name)
{
    const cm_variable *v;
    ck_ok(cm_checkpoint_variable(c, name, &v));
    return *v;
}

static uint8_t version_of(cm_checkpoint *c)
{
    void *content;
    size_t size;
    ck_ok(cm_object_read(store, cm_checkpoint_id(c), &content, &size));
    uint8_t version = ((uint8_t *)content)[3];
    free(content);
    return version;
}

/* "red" and "twin" look the same, "blue" is large, "plain" has none. */
static cm_checkpoint *save_four(const char *session, long number)
{
    cm_save *save = begin(store, session);
    save_list(save, "red", number);
    save_list(save, "twin", number + 1);
    save_list(save, "blue", number + 2);
    save_list(save, "plain", number + 3);
    give(save, "red", blue, sizeof blue);
    give(save, "red", red, sizeof red); /* instead */
    give(save, "twin", red, sizeof red);
    give(save, "blue", blue, sizeof blue);
    return finish(save);
}

START_TEST(previews_come_back)
{
    cm_checkpoint *c = save_four("s", 0);
    shows(c, "red", red, sizeof red);
    shows(c, "twin", red, sizeof red);
    shows(c, "blue", blue, sizeof blue);
    shows(c, "plain", NULL, 0);
    void *data;
    size_t size;
    ck_fails(cm_checkpoint_preview(c, "nope", &data, &size), ENOENT, "nope");
    cm_variable v = variable_of(c, "red"), twin = variable_of(c, "twin");
    ck_assert(cm_id_equal(&v.preview, &twin.preview));
    cm_id id;
    ck_ok(cm_id_of(red, sizeof red, &id));
    ck_assert(cm_id_equal(&v.preview, &id)); /* named by what they are, as everything */
    const cm_save_stats *stats = cm_checkpoint_stats(c);
    ck_assert_uint_gt(stats->bytes_written, LARGE);
    ck_assert_uint_eq(stats->pods_new, 4);
    ck_assert_uint_lt(v.stored, sizeof red); /* its pods only */
    no_damage();
    cm_checkpoint_unref(c);
    cm_store_unref(store);
    store = open_store("store", 0);
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    shows(c, "blue", blue, sizeof blue);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(what_is_no_preview_is_refused)
{
    cm_save *save = begin(store, "s");
    ck_fails(cm_save_preview(save, "v", "image/png", red, sizeof red), ENOENT, "'v'");
    save_list(save, "v", 1);
    ck_fails(cm_save_preview(save, "v", "image/jpeg", red, sizeof red), EINVAL, "image/jpeg");
    ck_fails(cm_save_preview(save, "v", "image/png", "GIF89a..", 8), EINVAL, "not a PNG");
    ck_fails(cm_save_preview(save, "v", "image/png", red, 7), EINVAL, "not a PNG");
    uint8_t *most = calloc(1, CM_PREVIEW_MOST + 1);
    memcpy(most, red, 8);
    ck_fails(cm_save_preview(save, "v", "image/png", most, CM_PREVIEW_MOST + 1), EFBIG, "1048577 bytes");
    give(save, "v", most, CM_PREVIEW_MOST);
    ck_ok(cm_save_commit(save, NULL, NULL));
    ck_fails(cm_save_preview(save, "v", "image/png", red, sizeof red), EINVAL, "being written");
    ck_ok(cm_save_wait(save, 60000));
    cm_checkpoint *c = cm_save_checkpoint(save);
    cm_save_free(save);
    shows(c, "v", most, CM_PREVIEW_MOST);
    cm_checkpoint_unref(c);
    free(most);
}
END_TEST

/* A checkpoint and a variable without a preview are, byte for byte, what they were before there were any. */
START_TEST(records_without_previews_are_as_ever)
{
    static const uint8_t known[] = {1, 't', 1, 's', 3, 4, 5, 6, 1, 7, 8, 0, 0, 0, 0, 0, 0, 0};
    cm_variable v = {.type = "t", .summary = "s", .rank = 3, .size = 4, .stored = 5, .pods = 6}, back = {0};
    v.plain = true;
    v.changed = 7;
    v.changed_time = 8;
    cm_buffer record = CM_BUFFER_INIT;
    cm_variable_encode(&v, &record);
    ck_assert_uint_eq(record.size, sizeof known + 32 + 8 + 1 + 32);
    ck_assert_mem_eq(record.data, known, sizeof known);
    cm_buffer_clear(&record);
    v.preview_size = 200;
    memset(&v.preview, 7, sizeof v.preview);
    cm_variable_encode(&v, &record);
    ck_assert_uint_eq(record.size, sizeof known + 32 + 8 + 1 + 32 + 2 + 32);
    for (size_t cut = 0; cut < record.size; cut++) {
        ck_assert_int_eq(cm_variable_decode(record.data, cut, &back), -EILSEQ);
        cm_variable_clear(&back);
        back = (cm_variable){0};
    }
    ck_ok(cm_variable_decode(record.data, record.size, &back));
    ck_assert(back.plain && back.preview_size == 200 && cm_id_equal(&back.preview, &v.preview));
    cm_variable_clear(&back);
    cm_buffer_free(&record);
    cm_save *save = begin(store, "s");
    save_list(save, "v", 1);
    cm_checkpoint *c = finish(save);
    ck_assert_uint_eq(version_of(c), 1);
    cm_checkpoint_unref(c);
    c = save_four("s", 0);
    ck_assert_uint_eq(version_of(c), 3);
    cm_checkpoint_unref(c);
    save = begin(store, "s");
    save_list(save, "v", 1);
    ck_ok(cm_save_set_cell(save, &(cm_cell){1, 2, NULL}));
    c = finish(save);
    ck_assert_uint_eq(version_of(c), 2);
    cm_checkpoint_unref(c);
}
END_TEST

/* What is as it was looks as it did, whether somebody has drawn it again or not; what changed does not. */
START_TEST(unchanged_variables_keep_theirs)
{
    cm_checkpoint_unref(save_four("s", 0));
    cm_save *save = begin(store, "s");
    save_list(save, "red", 0);
    save_list(save, "twin", 99);
    save_list(save, "blue", 2);
    save_list(save, "plain", 3);
    give(save, "blue", red, sizeof red);
    give(save, "plain", red, sizeof red);
    cm_checkpoint *c = finish(save);
    shows(c, "red", red, sizeof red);
    shows(c, "twin", NULL, 0);
    shows(c, "blue", blue, sizeof blue);
    shows(c, "plain", red, sizeof red);
    no_damage();
    cm_checkpoint_unref(c);
}
END_TEST

static void forget(uint64_t number)
{
    cm_prune_entry *entries;
    size_t count;
    ck_ok(cm_prune(store, "s", &(cm_retention){.last = 1}, false, &entries, &count));
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(entries[i].removed, entries[i].number <= number);
    free(entries);
}

START_TEST(collections_keep_what_is_shown)
{
    cm_checkpoint_unref(save_four("s", 0));
    cm_save *save = begin(store, "s");
    save_list(save, "red", 0);
    cm_checkpoint *c = finish(save);
    cm_id gone, kept;
    cm_object_info info;
    ck_ok(cm_id_of(blue, sizeof blue, &gone));
    ck_ok(cm_id_of(red, sizeof red, &kept));
    collect();
    ck_ok(cm_object_stat(store, &gone, &info)); /* that of the first */
    forget(1);
    ck_assert_uint_gt(collect().removed, 0);
    shows(c, "red", red, sizeof red);
    ck_fails(cm_object_stat(store, &gone, &info), ENOENT, "no object");
    ck_ok(cm_object_stat(store, &kept, &info));
    ck_assert_uint_eq(info.kind, CM_KIND_CHUNK);
    no_damage();
    cm_checkpoint_unref(c);
}
END_TEST

static int note_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    cm_id preview;
    (void)info;
    ck_ok(cm_id_of(red, sizeof red, &preview));
    *(int *)arg += cm_id_equal(id, &preview);
    return 0;
}

static int note_cost(void *arg, const char *name, uint64_t number, const cm_cost *cost)
{
    (void)number;
    if (strcmp(name, "blue") == 0)
        *(uint64_t *)arg = cost->unique;
    return 0;
}

static int mark_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int choose_one(void *arg, const cm_object_entry *fresh, size_t fresh_count, const cm_id **ids, size_t *count)
{
    (void)fresh;
    (void)fresh_count;
    *ids = arg;
    *count = 1;
    return 0;
}

START_TEST(they_are_counted_and_checked)
{
    cm_checkpoint *c = save_four("s", 0);
    int times = 0;
    ck_ok(cm_checkpoint_objects(c, note_object, &times)); /* and so copies of the directory have them */
    ck_assert_int_eq(times, 1);
    uint64_t unique = 0;
    ck_ok(cm_variable_costs(c, note_cost, NULL, &unique));
    ck_assert_uint_gt(unique, LARGE);
    cm_store_stat stat;
    ck_ok(cm_store_statistics(store, &stat));
    ck_assert_uint_gt(stat.raw_bytes, LARGE + sizeof red);

    cm_id lost;
    ck_ok(cm_id_of(red, sizeof red, &lost));
    ck_ok(store->backend->ops->collect(store->backend, &(cm_collector){mark_nothing, choose_one, &lost}));
    char where[500] = "";
    cm_verify_report report;
    ck_fails(cm_verify(store, note_damage, NULL, where, &report), EILSEQ, "damaged");
    ck_assert_msg(strstr(where, "s@1 red; ") && strstr(where, "s@1 twin; "), "%s", where);
    ck_assert_msg(!strstr(where, "blue") && !strstr(where, "plain"), "%s", where);
    void *data;
    size_t size;
    ck_fails(cm_checkpoint_preview(c, "red", &data, &size), EILSEQ, "preview of 'red' in s@1");
    shows(c, "blue", blue, sizeof blue);
    free(describe_linked(c, "red")); /* and it still loads */
    cm_checkpoint_unref(c);
}
END_TEST

/* By reference: whole, and as one that shared objects with others. Renamed, merged, kept by edits. */
START_TEST(they_go_with_the_variable)
{
    cm_save *save = begin(store, "from");
    node *shared = node_new(&nodes, NODE_LIST), *outer = node_new(&nodes, NODE_LIST);
    node_add(&nodes, shared, node_int(&nodes, 1));
    node_add(&nodes, outer, shared);
    save_node(save, "inner", shared, &pods);
    save_node(save, "outer", outer, &pods);
    save_list(save, "alone", 5);
    give(save, "outer", red, sizeof red);
    give(save, "alone", blue, sizeof blue);
    cm_checkpoint *from = finish(save), *c;
    ck_assert(!variable_of(from, "outer").plain && variable_of(from, "alone").plain);
    ck_ok(cm_save_begin_edit(store, "to", NULL, &save));
    ck_ok(cm_save_carry(save, "o", from, "outer"));
    ck_ok(cm_save_carry(save, "a", from, "alone"));
    c = finish(save);
    shows(c, "o", red, sizeof red);
    shows(c, "a", blue, sizeof blue);
    ck_assert_uint_eq(version_of(c), 3);
    ck_assert_uint_lt(cm_checkpoint_stats(c)->bytes_written, 5000);
    ck_ok(cm_save_begin_edit(store, "to", NULL, &save));
    save_list(save, "new", 1);
    save_list(save, "o", 2); /* another value */
    cm_checkpoint_unref(c);
    c = finish(save);
    shows(c, "a", blue, sizeof blue);
    shows(c, "o", NULL, 0);

    const char *name = "mine";
    const cm_id nothing = {{0}};
    save = begin(store, "to"); /* a base without "a": it came from elsewhere */
    ck_ok(cm_save_set_base(save, &name, &nothing, 1));
    save_list(save, "mine", 3);
    cm_checkpoint_unref(c);
    c = finish(save);
    shows(c, "a", blue, sizeof blue);
    shows(c, "mine", NULL, 0);
    no_damage();
    cm_checkpoint_unref(c);
    cm_checkpoint_unref(from);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.preview");
    TCase *tcase = tcase_create("preview");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown_store);
    tcase_add_test(tcase, previews_come_back);
    tcase_add_test(tcase, what_is_no_preview_is_refused);
    tcase_add_test(tcase, records_without_previews_are_as_ever);
    tcase_add_test(tcase, unchanged_variables_keep_theirs);
    tcase_add_test(tcase, collections_keep_what_is_shown);
    tcase_add_test(tcase, they_are_counted_and_checked);
    tcase_add_test(tcase, they_go_with_the_variable);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
