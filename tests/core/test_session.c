/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: heads, branches, tags, detached heads, the addresses of checkpoints; and the two other ways to open a store. */
#include "fixture.h"

#include <sys/stat.h>
#include <unistd.h>

/* Saves a checkpoint whose variable "v" is [value]; its number. */
static uint64_t save_value(const char *session, long value)
{
    node *n = node_new(&nodes, NODE_LIST);
    node_add(&nodes, n, node_int(&nodes, value));
    cm_save *save = begin(store, session);
    save_node(save, "v", n, &(cutting){{1}, 0, 0});
    cm_checkpoint *c = finish(save);
    uint64_t number = cm_checkpoint_number(c);
    cm_checkpoint_unref(c);
    return number;
}

static void check_at(const char *address, uint64_t number, const char *value)
{
    cm_checkpoint *c = NULL;
    int result = cm_checkpoint_open_address(store, address, &c);
    ck_assert_msg(result == 0, "%s: %s", address, cm_error_message());
    ck_assert_uint_eq(cm_checkpoint_number(c), number);
    char *got = describe_linked(c, "v");
    ck_assert_str_eq(got, value);
    free(got);
    cm_checkpoint_unref(c);
}

static void check_head(const char *session, uint64_t last, uint64_t number, const char *branch)
{
    cm_session_info info;
    ck_ok(cm_session_get(store, session, &info));
    ck_assert_uint_eq(info.last_number, last);
    ck_assert_uint_eq(info.head_number, number);
    if (branch)
        ck_assert_str_eq(info.branch, branch);
    else
        ck_assert_ptr_null(info.branch);
    cm_session_info_clear(&info);
}

static int join_name(void *arg, const char *name, uint64_t number)
{
    sprintf((char *)arg + strlen(arg), "%s=%d ", name, (int)number);
    return 0;
}

static void check_refs(const char *session, enum cm_ref_kind kind, const char *expected)
{
    char text[500] = "";
    ck_ok(cm_ref_list(store, session, kind, join_name, text));
    ck_assert_str_eq(text, expected);
}

START_TEST(sessions_begin_with_their_first_save)
{
    char text[200] = "";
    cm_session_info info;
    ck_ok(cm_session_list(store, join_name, text));
    ck_assert_str_eq(text, "");
    ck_fails(cm_session_get(store, "s", &info), ENOENT, "no session 's'");
    cm_checkpoint *c;
    ck_fails(cm_checkpoint_open(store, "s", NULL, &c), ENOENT, "no session 's'");
    ck_fails(cm_ref_set(store, "s", CM_REF_TAG, "t", 1), ENOENT, "no checkpoint 1");
    ck_fails(cm_head_set(store, "s", "main", 0), ENOENT, "no session");
    save_value("s", 1);
    save_value("other session é", 2);
    save_value("s", 3);
    ck_ok(cm_session_list(store, join_name, text));
    ck_assert_str_eq(text, "other session é=1 s=2 ");
    check_head("s", 2, 2, "main");
    check_at("s", 2, "#1=[3]");
    check_at("s@", 2, "#1=[3]");
    check_at("s@head", 2, "#1=[3]");
    check_at("s@1", 1, "#1=[1]");
    check_at("s@main", 2, "#1=[3]");
    check_at("other session é@1", 1, "#1=[2]");
    ck_fails(cm_checkpoint_open(store, "s", "3", &c), ENOENT, "3");
    ck_fails(cm_checkpoint_open(store, "s", "0", &c), ENOENT, "0");
    ck_fails(cm_checkpoint_open(store, "s", "99999999999999999999999", &c), ENOENT, "99999999999999999999999");
    ck_fails(cm_checkpoint_open(store, "s", "nope", &c), ENOENT, "'nope'");
}
END_TEST

START_TEST(branches_and_tags)
{
    for (long i = 1; i <= 3; i++)
        save_value("s", i);
    ck_ok(cm_ref_set(store, "s", CM_REF_TAG, "good", 2));
    ck_ok(cm_ref_set(store, "s", CM_REF_BRANCH, "try", 1));
    check_refs("s", CM_REF_TAG, "good=2 ");
    check_refs("s", CM_REF_BRANCH, "main=3 try=1 ");
    check_at("s@good", 2, "#1=[2]");
    check_at("s@try", 1, "#1=[1]");
    ck_ok(cm_head_set(store, "s", "try", 0));
    check_head("s", 3, 1, "try");
    ck_assert_uint_eq(save_value("s", 40), 4); /* numbers run on; the branch moves */
    check_refs("s", CM_REF_BRANCH, "main=3 try=4 ");
    cm_checkpoint *c;
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    ck_assert_uint_eq(cm_checkpoint_parent_number(c, 0), 1);
    cm_checkpoint_unref(c);
    ck_ok(cm_ref_set(store, "s", CM_REF_TAG, "good", 4)); /* moves */
    check_refs("s", CM_REF_TAG, "good=4 ");
    ck_ok(cm_head_set(store, "s", "main", 0));
    ck_assert_uint_eq(save_value("s", 50), 5);
    check_refs("s", CM_REF_BRANCH, "main=5 try=4 ");
    ck_fails(cm_head_set(store, "s", "nope", 0), ENOENT, "no branch 'nope'");
    ck_fails(cm_ref_set(store, "s", CM_REF_TAG, "t", 6), ENOENT, "no checkpoint 6");
    static const char *const names[] = {"", "a/b", "a@b", "head", "12", "a\tb", ".", ".."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_int_eq(cm_ref_set(store, "s", CM_REF_TAG, names[i], 1), -EINVAL);
        ck_assert_int_eq(cm_ref_set(store, "s", CM_REF_BRANCH, names[i], 1), -EINVAL);
    }
    check_refs("s", CM_REF_TAG, "good=4 ");
}
END_TEST

/* Saves [value] onto a branch, wherever the head is; the number of the parent, 0 for none. */
static uint64_t save_on(const char *session, const char *branch, long value)
{
    node *n = node_new(&nodes, NODE_LIST);
    node_add(&nodes, n, node_int(&nodes, value));
    cm_save *save;
    ck_ok(cm_save_begin_on(store, session, branch, &save));
    save_node(save, "v", n, &(cutting){{1}, 0, 0});
    cm_checkpoint *c = finish(save);
    uint64_t parent = cm_checkpoint_parent_count(c) ? cm_checkpoint_parent_number(c, 0) : 0;
    cm_checkpoint_unref(c);
    return parent;
}

START_TEST(two_work_on_branches_of_their_own)
{
    cm_save *save;
    ck_assert_uint_eq(save_on("s", "main", 1), 0);
    ck_assert_uint_eq(save_on("s", "other", 2), 1); /* new: begins at the head, which stays */
    check_head("s", 2, 1, "main");
    ck_assert_uint_eq(save_on("s", "main", 3), 1);
    check_head("s", 3, 3, "main");
    ck_assert_uint_eq(save_on("s", "other", 4), 2);
    check_head("s", 4, 3, "main");
    check_refs("s", CM_REF_BRANCH, "main=3 other=4 ");
    ck_ok(cm_head_set(store, "s", NULL, 1)); /* detached; that stays as well */
    ck_assert_uint_eq(save_on("s", "main", 5), 3);
    check_head("s", 5, 1, NULL);
    ck_ok(cm_head_set(store, "s", "other", 0));
    ck_assert_uint_eq(save_on("s", "other", 6), 4);
    check_head("s", 6, 6, "other");
    check_at("s@main", 5, "#1=[5]");
    ck_assert_uint_eq(save_on("t", "trial", 7), 0); /* the first of a session has its head */
    check_head("t", 1, 1, "trial");
    ck_fails(cm_save_begin_on(store, "s", "a/b", &save), EINVAL, "branch name");
}
END_TEST

START_TEST(detached_heads_make_branches)
{
    for (long i = 1; i <= 3; i++)
        save_value("s", i);
    ck_ok(cm_head_set(store, "s", NULL, 3)); /* a branch's tip: on the branch */
    check_head("s", 3, 3, "main");
    ck_ok(cm_head_set(store, "s", NULL, 1));
    check_head("s", 3, 1, NULL);
    check_at("s", 1, "#1=[1]");
    ck_assert_uint_eq(save_value("s", 9), 4);
    check_head("s", 4, 4, "branch-4");
    check_refs("s", CM_REF_BRANCH, "branch-4=4 main=3 ");
    ck_fails(cm_head_set(store, "s", NULL, 17), ENOENT, "17");
    check_head("s", 4, 4, "branch-4");
}
END_TEST

START_TEST(checkpoints_by_id_and_prefix)
{
    save_value("s", 1);
    save_value("s", 2);
    cm_checkpoint *c, *again;
    ck_ok(cm_checkpoint_open_number(store, "s", 1, &c));
    char address[80] = "s@", *hex = address + 2;
    cm_id_hex(cm_checkpoint_id(c), hex);
    check_at(address, 1, "#1=[1]");
    hex[8] = 0;
    check_at(address, 1, "#1=[1]");
    hex[7] = 0;
    ck_assert_int_eq(cm_checkpoint_open_address(store, address, &again), -ENOENT);
    ck_ok(cm_checkpoint_open_id(store, cm_checkpoint_id(c), &again));
    ck_assert_uint_eq(cm_checkpoint_number(again), 1);
    cm_checkpoint_unref(again);
    cm_id none = {{1, 2, 3}};
    ck_fails(cm_checkpoint_open_id(store, &none, &again), ENOENT, "0102030000");
    /* A pod is no checkpoint. */
    const cm_variable *variable;
    ck_ok(cm_checkpoint_variable(c, "v", &variable));
    ck_assert_int_lt(cm_checkpoint_open_id(store, &variable->root.pod, &again), 0);
    cm_checkpoint_unref(c);
}
END_TEST

/* Handles keep their store open; a reader beside the writer sees saves and refs after a refresh. */
START_TEST(readers_follow_refs)
{
    save_value("s", 1);
    cm_store *reader = open_store("store", CM_OPEN_READ);
    ck_assert(!cm_store_writable(reader) && cm_store_writable(store));
    cm_checkpoint *c;
    ck_ok(cm_checkpoint_open(reader, "s", NULL, &c));
    cm_checkpoint_unref(c);
    save_value("s", 2);
    ck_ok(cm_ref_set(store, "s", CM_REF_TAG, "t", 2));
    ck_ok(cm_store_refresh(reader));
    ck_ok(cm_checkpoint_open(reader, "s", "t", &c));
    ck_assert_uint_eq(cm_checkpoint_number(c), 2);
    ck_fails(cm_ref_set(reader, "s", CM_REF_TAG, "t", 1), EROFS, "reading only");
    ck_fails(cm_head_set(reader, "s", "main", 0), EROFS, "reading only");
    cm_store_unref(reader);
    char *got = describe_linked(c, "v"); /* the checkpoint keeps it open */
    ck_assert_str_eq(got, "#1=[2]");
    free(got);
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- a checkpoint directory as a store --------------------------------------------------------------------------- */

static int copy_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    char hex[CM_ID_HEX + 1], name[CM_ID_HEX + 20];
    void *data;
    size_t size;
    ck_assert_uint_ne(info->kind, 0);
    cm_id_hex(id, hex);
    snprintf(name, sizeof name, "snap/pods/%s", hex);
    ck_ok(cm_object_read(store, id, &data, &size));
    ck_assert_uint_eq(size, info->size);
    write_file(scratch_path(name), data, size);
    free(data);
    ++*(size_t *)arg;
    return 0;
}

START_TEST(snapshots_are_stores_of_one_checkpoint)
{
    uint8_t *bytes = malloc(300000);
    seeded_fill(1, bytes, 300000);
    node *n = node_new(&nodes, NODE_LIST), *buffer = node_new(&nodes, NODE_BUFFER);
    buffer->text = bytes;
    buffer->size = 300000;
    node_add(&nodes, n, n);
    node_add(&nodes, n, buffer);
    save_value("s", 1);
    cm_save *save = begin(store, "s");
    save_node(save, "v", n, &(cutting){{1}, 0, 255});
    save_node(save, "w", n, &(cutting){{1}, 0, 0});
    cm_checkpoint *c = finish(save), *copy;
    ck_assert_int_eq(mkdir(scratch_path("snap"), 0700), 0);
    ck_assert_int_eq(mkdir(scratch_path("snap/pods"), 0700), 0);
    cm_store *snap;
    ck_fails(cm_store_open_snapshot(scratch_path("snap"), NULL, &snap), ENOENT, "holds no checkpoint");
    size_t objects = 0;
    ck_ok(cm_checkpoint_objects(c, copy_object, &objects));
    ck_assert_uint_gt(objects, 8); /* five chunks, a node, pods, maps, the checkpoint */
    ck_ok(cm_store_open_snapshot(scratch_path("snap"), NULL, &snap));
    ck_assert(!cm_store_writable(snap));
    ck_fails(cm_checkpoint_open(snap, "s", "1", &copy), ENOENT, "holds only s@2");
    ck_fails(cm_checkpoint_open(snap, "t", NULL, &copy), ENOENT, "holds only s@2");
    ck_ok(cm_checkpoint_open(snap, "s", NULL, &copy));
    ck_assert(cm_id_equal(cm_checkpoint_id(copy), cm_checkpoint_id(c)));
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"v", "w", NULL};
        char *want = describe_linked(c, names[i]), *got = describe_linked(copy, names[i]);
        ck_assert_str_eq(got, want);
        free(want);
        free(got);
    }
    cm_verify_report report;
    ck_ok(cm_verify(snap, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(report.objects, objects);
    char text[100] = "";
    ck_ok(cm_session_list(snap, join_name, text));
    ck_assert_str_eq(text, "s=2 ");
    cm_save *none;
    ck_fails(cm_save_begin(snap, "s", &none), EROFS, "reading only");
    cm_checkpoint_unref(copy);
    cm_store_unref(snap);
    save_value("s", 3); /* a second checkpoint in the directory makes it ambiguous */
    cm_checkpoint_unref(c);
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    ck_ok(cm_checkpoint_objects(c, copy_object, &objects));
    ck_fails(cm_store_open_snapshot(scratch_path("snap"), NULL, &snap), EINVAL, "more than one");
    cm_checkpoint_unref(c);
    free(bytes);
}
END_TEST

/* ---- objects and statistics ----------------------------------------------------------------------------------------- */

typedef struct listing {
    unsigned bits;
    cm_id prefix;
    size_t count;
} listing;

static int count_prefixed(void *arg, const cm_id *id, const cm_object_info *info)
{
    listing *l = arg;
    ck_assert_uint_gt(info->stored, 0);
    for (unsigned bit = 0; bit < l->bits; bit++)
        ck_assert_int_eq(id->bytes[bit / 8] >> (7 - bit % 8) & 1, l->prefix.bytes[bit / 8] >> (7 - bit % 8) & 1);
    l->count++;
    return 0;
}

START_TEST(objects_are_listed_by_prefix)
{
    for (long i = 0; i < 40; i++)
        save_value("s", i);
    cm_store_stat stat;
    ck_ok(cm_store_statistics(store, &stat));
    ck_assert_uint_eq(stat.sessions, 1);
    ck_assert_uint_eq(stat.checkpoints, 40);
    ck_assert_uint_ge(stat.objects, 120);
    ck_assert_uint_gt(stat.disk_bytes, 1000);
    for (unsigned bits = 0; bits <= 9; bits += 3) {
        size_t total = 0;
        for (unsigned p = 0; p < 1u << bits; p++) {
            listing l = {.bits = bits};
            l.prefix.bytes[0] = (uint8_t)(bits > 8 ? p >> (bits - 8) : p << (8 - bits));
            l.prefix.bytes[1] = bits > 8 ? (uint8_t)(p << (16 - bits)) : 0;
            ck_ok(cm_object_list(store, bits ? &l.prefix : NULL, bits, count_prefixed, &l));
            total += l.count;
        }
        ck_assert_uint_eq(total, stat.objects);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.session");
    TCase *tcase = tcase_create("session");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup_store, teardown_store);
    tcase_add_test(tcase, sessions_begin_with_their_first_save);
    tcase_add_test(tcase, branches_and_tags);
    tcase_add_test(tcase, two_work_on_branches_of_their_own);
    tcase_add_test(tcase, detached_heads_make_branches);
    tcase_add_test(tcase, checkpoints_by_id_and_prefix);
    tcase_add_test(tcase, readers_follow_refs);
    tcase_add_test(tcase, snapshots_are_stores_of_one_checkpoint);
    tcase_add_test(tcase, objects_are_listed_by_prefix);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
