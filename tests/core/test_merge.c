/* SPDX-License-Identifier: Apache-2.0 */
/* Variables taken over by reference, edits of a head, and saves that merge with what others committed meanwhile. */
#include "fixture.h"

enum { SIZE = 3 << 20 };

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

static node *value(long number)
{
    node *n = node_new(&nodes, NODE_LIST);
    node_add(&nodes, n, node_int(&nodes, number));
    return n;
}

static void check_names(cm_checkpoint *c, const char *expected)
{
    const cm_variable *variables;
    size_t count;
    char text[500] = "";
    ck_ok(cm_checkpoint_variables(c, &variables, &count));
    for (size_t i = 0; i < count; i++)
        sprintf(text + strlen(text), "%s ", variables[i].name);
    ck_assert_str_eq(text, expected);
}

/* Saves "a": [1], "big": 3 MB of bytes, "pair": a list that shares an object with "twin". */
static cm_checkpoint *save_source(const char *session)
{
    node *shared = value(7), *pair = node_new(&nodes, NODE_LIST), *twin = node_new(&nodes, NODE_LIST);
    node_add(&nodes, pair, shared);
    node_add(&nodes, pair, shared);
    node_add(&nodes, twin, shared);
    node_add(&nodes, twin, node_text(&nodes, NODE_BYTES, bytes, 100000));
    cm_save *save = begin(store, session);
    save_node(save, "a", value(1), &whole);
    save_node(save, "big", node_text(&nodes, NODE_BYTES, bytes, SIZE), &whole);
    save_node(save, "pair", pair, &(cutting){{1}, 256, 0});
    save_node(save, "twin", twin, &whole);
    return finish(save);
}

static cm_save *begin_edit(const char *session)
{
    cm_save *save = NULL;
    ck_ok(cm_save_begin_edit(store, session, NULL, &save));
    return save;
}

/* ---- by reference -------------------------------------------------------------------------------------------------- */

START_TEST(carried_variables_share_their_bytes)
{
    cm_checkpoint *from = save_source("from");
    cm_save *save = begin(store, "to");
    save_node(save, "own", value(5), &whole);
    ck_ok(cm_save_carry(save, "copy of big", from, "big"));
    ck_ok(cm_save_carry(save, "twin", from, "twin"));
    ck_fails(cm_save_carry(save, "x", from, "nope"), ENOENT, "nope");
    cm_checkpoint *to = finish(save);
    check_names(to, "copy of big own twin ");
    ck_assert_uint_lt(cm_checkpoint_stats(to)->bytes_written, 20000);
    static const char *const names[][2] = {{"big", "copy of big"}, {"twin", "twin"}};
    for (size_t i = 0; i < 2; i++) {
        char *want = describe_linked(from, names[i][0]);
        check_description(to, names[i][1], want);
        free(want);
    }
    const cm_variable *before, *after;
    ck_ok(cm_checkpoint_variable(from, "big", &before));
    ck_ok(cm_checkpoint_variable(to, "copy of big", &after));
    ck_assert(cm_id_equal(&before->content, &after->content));
    ck_assert_uint_eq(after->changed, 1);
    no_damage();
    cm_checkpoint_unref(from);
    cm_checkpoint_unref(to);
}
END_TEST

START_TEST(edits_keep_what_they_do_not_touch)
{
    cm_checkpoint *from = save_source("s"), *other = save_source("other"), *c;
    cm_save *save = begin_edit("s");
    ck_ok(cm_save_carry(save, "renamed", from, "a"));
    ck_ok(cm_save_remove(save, "a"));
    ck_ok(cm_save_carry(save, "big", other, "a")); /* over what is there */
    ck_fails(cm_save_remove(save, "nope"), ENOENT, "nope");
    save_node(save, "new", value(9), &whole);
    c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_number(c), 2);
    check_names(c, "big new pair renamed twin ");
    check_description(c, "renamed", "#1=[1]");
    check_description(c, "big", "#1=[1]");
    check_description(c, "new", "#1=[9]");
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "pair" : "twin";
        char *want = describe_linked(from, name);
        check_description(c, name, want);
        free(want);
    }
    ck_assert_uint_lt(cm_checkpoint_stats(c)->bytes_written, 20000);
    cm_checkpoint_unref(c);
    save = begin_edit("s"); /* an edit of nothing */
    c = finish(save);
    check_names(c, "big new pair renamed twin ");
    cm_checkpoint_unref(c);
    save = begin_edit("fresh"); /* of a session that is not there yet */
    ck_ok(cm_save_carry(save, "a", from, "a"));
    c = finish(save);
    check_names(c, "a ");
    no_damage();
    cm_checkpoint_unref(c);
    cm_checkpoint_unref(from);
    cm_checkpoint_unref(other);
}
END_TEST

/* Objects shared among carried and edited variables, carried on and on: each still links alone and with the others. */
START_TEST(an_edit_of_nothing_is_as_its_parent)
{
    cm_checkpoint_unref(save_source("s"));
    cm_save *save = begin(store, "s");
    node *shared = value(3);
    save_node(save, "a", shared, &whole);
    save_node(save, "b", shared, &whole);
    ck_ok(cm_save_unsaved(save, "socket", "cannot be pickled"));
    cm_checkpoint *parent = finish(save);
    save = begin_edit("s");
    cm_checkpoint *c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_number(c), 3);
    check_names(c, "a b ");
    const cm_save_stats *before = cm_checkpoint_stats(parent), *after = cm_checkpoint_stats(c);
    ck_assert_uint_eq(after->logical_bytes, before->logical_bytes);
    ck_assert_uint_eq(after->pods, before->pods);
    ck_assert_uint_eq(after->pods_new, 0);
    ck_assert_uint_lt(after->bytes_written, 1000);
    ck_assert_uint_eq(cm_checkpoint_namespace_size(c), cm_checkpoint_namespace_size(parent));
    ck_assert_uint_eq(cm_checkpoint_unsaved_count(c), 1);
    ck_assert_str_eq(cm_checkpoint_unsaved_name(c, 0), "socket");
    ck_assert_str_eq(cm_checkpoint_unsaved_reason(c, 0), "cannot be pickled");
    char *want = describe_linked(parent, NULL);
    check_description(c, NULL, want);
    free(want);
    cm_checkpoint_unref(c);
    save = begin_edit("s"); /* what now has a value is not unsaved any more */
    save_node(save, "socket", value(5), &whole);
    c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_unsaved_count(c), 0);
    cm_checkpoint_unref(c);
    cm_checkpoint_unref(parent);
}
END_TEST

START_TEST(edits_upon_edits_stay_readable)
{
    cm_checkpoint *c = save_source("s");
    char *pair = describe_linked(c, "pair"), *twin = describe_linked(c, "twin");
    for (long round = 0; round < 20; round++) {
        char name[16];
        snprintf(name, sizeof name, "v%ld", round % 7);
        cm_save *save = begin_edit("s");
        save_node(save, name, value(round), &(cutting){{1}, 256, 0});
        ck_ok(cm_save_carry(save, round % 2 ? "pair2" : "twin2", c, round % 2 ? "pair" : "twin"));
        cm_checkpoint_unref(c);
        c = finish(save);
        char expected[16];
        snprintf(expected, sizeof expected, "#1=[%ld]", round);
        check_description(c, name, expected);
        check_description(c, "pair", pair);
        check_description(c, "twin", twin);
        check_description(c, round % 2 ? "pair2" : "twin2", round % 2 ? pair : twin);
        free(describe_linked(c, NULL));
    }
    no_damage();
    free(pair);
    free(twin);
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- merging ------------------------------------------------------------------------------------------------------ */

typedef struct base {
    const char *names[8];
    cm_id contents[8];
    size_t count;
} base;

static base base_of(cm_checkpoint *c)
{
    const cm_variable *variables;
    base b = {.count = 0};
    ck_ok(cm_checkpoint_variables(c, &variables, &b.count));
    ck_assert_uint_le(b.count, 8);
    for (size_t i = 0; i < b.count; i++) {
        b.names[i] = variables[i].name;
        b.contents[i] = variables[i].content;
    }
    return b;
}

typedef struct saved {
    const char *name;
    long number;
} saved;

static int note_arrival(void *arg, enum cm_arrival what, const char *name)
{
    sprintf((char *)arg + strlen(arg), "%c%s ", what, name);
    return 0;
}

static cm_checkpoint *save_values(const saved *values, size_t count, const base *b, char *arrivals)
{
    cm_save *save = begin(store, "s");
    if (b)
        ck_ok(cm_save_set_base(save, b->names, b->contents, b->count));
    for (size_t i = 0; i < count; i++)
        save_node(save, values[i].name, value(values[i].number), &whole);
    ck_ok(cm_save_commit(save, NULL, NULL));
    ck_ok(cm_save_wait(save, 60000));
    if (arrivals) {
        const char *branch = NULL;
        arrivals[0] = 0;
        ck_ok(cm_save_arrivals(save, note_arrival, arrivals, &branch));
        sprintf(arrivals + strlen(arrivals), "%s", branch ? branch : "-");
    }
    cm_checkpoint *c = cm_save_checkpoint(save);
    cm_save_free(save);
    return c;
}

/* Two writers begin with the same checkpoint; the other one commits first. */
START_TEST(merges_go_by_variable)
{
    cm_checkpoint *first = save_values((saved[]){{"same", 1}, {"mine", 2}, {"theirs", 3}, {"gone", 4}}, 4, NULL, NULL);
    base b = base_of(first);
    char text[300];
    cm_checkpoint_unref(save_values((saved[]){{"same", 1}, {"mine", 2}, {"theirs", 30}, {"added", 40}}, 4, &b, NULL));
    cm_checkpoint *c = save_values((saved[]){{"same", 1}, {"mine", 20}, {"theirs", 3}, {"gone", 4}}, 4, &b, text);
    ck_assert_str_eq(text, "Aadded Lgone Atheirs -");
    ck_assert_uint_eq(cm_checkpoint_number(c), 3);
    check_names(c, "added mine same theirs ");
    check_description(c, "mine", "#1=[20]");
    check_description(c, "theirs", "#1=[30]");
    check_description(c, "added", "#1=[40]");
    cm_checkpoint_unref(c);
    cm_checkpoint_unref(first);
}
END_TEST

START_TEST(conflicts_keep_both)
{
    cm_checkpoint *first = save_values((saved[]){{"v", 1}, {"w", 1}}, 2, NULL, NULL), *theirs;
    base b = base_of(first);
    char text[300];
    cm_checkpoint_unref(save_values((saved[]){{"v", 2}, {"w", 1}}, 2, &b, NULL));
    cm_checkpoint *c = save_values((saved[]){{"v", 3}, {"w", 1}}, 2, &b, text);
    ck_assert_msg(strncmp(text, "Cv conflict-", 12) == 0, "%s", text);
    check_description(c, "v", "#1=[3]");
    check_description(c, "w", "#1=[1]");
    ck_ok(cm_checkpoint_open(store, "s", strchr(text, ' ') + 1, &theirs));
    check_description(theirs, "v", "#1=[2]");
    cm_checkpoint_unref(theirs);
    cm_checkpoint_unref(c);
    cm_checkpoint_unref(first);
}
END_TEST

/* Both came to the same, or nobody changed anything: no conflict. */
START_TEST(agreement_is_no_conflict)
{
    cm_checkpoint *first = save_values((saved[]){{"v", 1}, {"w", 1}}, 2, NULL, NULL);
    base b = base_of(first);
    char text[300];
    cm_checkpoint_unref(save_values((saved[]){{"v", 2}, {"w", 1}}, 2, &b, NULL));
    cm_checkpoint *c = save_values((saved[]){{"v", 2}, {"w", 1}}, 2, &b, text);
    ck_assert_str_eq(text, "-");
    check_names(c, "v w ");
    b = base_of(c);
    cm_checkpoint *again = save_values((saved[]){{"v", 2}, {"w", 5}}, 2, &b, text);
    ck_assert_str_eq(text, "-");
    check_description(again, "w", "#1=[5]");
    cm_checkpoint_unref(again);
    cm_checkpoint_unref(c);
    cm_checkpoint_unref(first);
}
END_TEST

/* Without a base a save says what the namespace is, whatever others did. */
START_TEST(without_a_base_nothing_is_merged)
{
    cm_checkpoint *c = save_values((saved[]){{"v", 1}, {"w", 1}}, 2, NULL, NULL);
    cm_checkpoint_unref(c);
    char text[300];
    c = save_values((saved[]){{"x", 1}}, 1, NULL, text);
    ck_assert_str_eq(text, "-");
    check_names(c, "x ");
    cm_checkpoint_unref(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.merge");
    TCase *tcase = tcase_create("merge");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, carried_variables_share_their_bytes);
    tcase_add_test(tcase, edits_keep_what_they_do_not_touch);
    tcase_add_test(tcase, an_edit_of_nothing_is_as_its_parent);
    tcase_add_test(tcase, edits_upon_edits_stay_readable);
    tcase_add_test(tcase, merges_go_by_variable);
    tcase_add_test(tcase, conflicts_keep_both);
    tcase_add_test(tcase, agreement_is_no_conflict);
    tcase_add_test(tcase, without_a_base_nothing_is_merged);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
