/* SPDX-License-Identifier: Apache-2.0 */
/* Removing checkpoints: what the rules and the refs keep, how history looks afterwards, and others who work on the session. */
#include "checkpoint.h"
#include "fixture.h"
#include "refs.h"

static void setup(void)
{
    setenv("TZ", "UTC", 1);
    setup_store();
}

static void teardown(void)
{
    teardown_store();
}

static void save_value(const char *session, long value)
{
    cm_save *save = begin(store, session);
    save_node(save, "x", node_int(&nodes, value), &whole);
    cm_checkpoint_unref(finish(save));
}

static void save_values(const char *session, long count)
{
    for (long i = 0; i < count; i++)
        save_value(session, i % 256);
}

static int list(void *arg, uint64_t number, const cm_id *id)
{
    char *text = arg;
    (void)id;
    sprintf(text + strlen(text), "%llu ", (unsigned long long)number);
    return 0;
}

static void numbers_are(const char *session, const char *expected)
{
    char text[4096] = "";
    ck_ok(cm_checkpoint_list(store, session, list, text));
    ck_assert_str_eq(text, expected);
}

static int list_name(void *arg, const char *name, uint64_t number)
{
    char *text = arg;
    sprintf(text + strlen(text), "%s=%llu ", name, (unsigned long long)number);
    return 0;
}

static void refs_are(const char *session, enum cm_ref_kind kind, const char *expected)
{
    char text[4096] = "";
    ck_ok(cm_ref_list(store, session, kind, list_name, text));
    ck_assert_str_eq(text, expected);
}

/* The numbers it removed, or in a dry run would remove. */
static void prune(const char *session, cm_retention keep, bool dry_run, const char *expected)
{
    char text[4096] = "";
    cm_prune_entry *entries;
    size_t count;
    ck_ok(cm_prune(store, session, &keep, dry_run, &entries, &count));
    for (size_t i = 0; i < count; i++) {
        ck_assert(!entries[i].removed || !entries[i].kept_for);
        ck_assert_int_eq(entries[i].removed, !dry_run && !entries[i].kept_for);
        if (!entries[i].kept_for)
            sprintf(text + strlen(text), "%llu ", (unsigned long long)entries[i].number);
    }
    ck_assert_str_eq(text, expected);
    free(entries);
}

static void no_damage_after_gc(void)
{
    collect();
    no_damage();
}

/* Whom a checkpoint descends from, on and on. */
static void descent_is(const char *session, uint64_t number, const char *expected)
{
    char text[4096] = "";
    cm_checkpoint *c, *parent;
    ck_ok(cm_checkpoint_open_number(store, session, number, &c));
    while (c) {
        sprintf(text + strlen(text), "%llu ", (unsigned long long)cm_checkpoint_number(c));
        ck_ok(cm_checkpoint_open_parent(c, &parent));
        cm_checkpoint_unref(c);
        c = parent;
    }
    ck_assert_str_eq(text, expected);
}

START_TEST(the_last_ones_are_kept)
{
    save_values("s", 6);
    save_values("other", 2);
    prune("s", (cm_retention){.last = 10}, false, "");
    prune("s", (cm_retention){.last = 3}, true, "1 2 3 ");
    numbers_are("s", "1 2 3 4 5 6 ");
    prune("s", (cm_retention){.last = 3}, false, "1 2 3 ");
    numbers_are("s", "4 5 6 ");
    numbers_are("other", "1 2 ");
    no_damage_after_gc();
    save_value("s", 7);
    numbers_are("s", "4 5 6 7 ");
    prune("s", (cm_retention){.last = 1}, false, "4 5 6 ");
    no_damage_after_gc();
    cm_prune_entry *entries;
    size_t count;
    ck_fails(cm_prune(store, "s", &(cm_retention){.last = 0}, false, &entries, &count), EINVAL, "nothing says");
    ck_fails(cm_prune(store, "nope", &(cm_retention){.last = 1}, false, &entries, &count), ENOENT, "nope");
    cm_store_unref(store);
    store = open_store("store", CM_OPEN_READ);
    ck_fails(cm_prune(store, "s", &(cm_retention){.last = 1}, false, &entries, &count), EROFS, "reading only");
}
END_TEST

START_TEST(heads_branches_and_tags_are_kept)
{
    save_values("s", 3);
    ck_ok(cm_head_set(store, "s", NULL, 2));
    save_values("s", 2); /* 4, 5 on a branch of their own */
    ck_ok(cm_ref_set(store, "s", CM_REF_TAG, "first", 1));
    ck_ok(cm_ref_set(store, "s", CM_REF_TAG, "fourth", 4));
    ck_ok(cm_head_set(store, "s", NULL, 2));
    refs_are("s", CM_REF_BRANCH, "branch-4=5 main=3 ");
    prune("s", (cm_retention){.tagged = true}, true, "");
    prune("s", (cm_retention){.last = 1, .tagged = true}, true, "");
    prune("s", (cm_retention){.last = 1}, false, "1 4 ");
    refs_are("s", CM_REF_BRANCH, "branch-4=5 main=3 ");
    refs_are("s", CM_REF_TAG, ""); /* they went with what they named */
    ck_fails(cm_ref_set(store, "s", CM_REF_TAG, "late", 4), ENOENT, "no checkpoint 4");
    ck_fails(cm_head_set(store, "s", NULL, 1), ENOENT, "no checkpoint 1");
    no_damage_after_gc();
    descent_is("s", 5, "5 2 ");
    descent_is("s", 3, "3 2 ");
    ck_ok(cm_head_set(store, "s", "main", 0));
    save_value("s", 9);
    descent_is("s", 6, "6 3 2 ");
}
END_TEST

START_TEST(descent_goes_on_over_gaps)
{
    save_values("s", 12);
    for (uint64_t tagged = 3; tagged < 12; tagged += 4) {
        char name[16];
        snprintf(name, sizeof name, "t%llu", (unsigned long long)tagged);
        ck_ok(cm_ref_set(store, "s", CM_REF_TAG, name, tagged));
    }
    prune("s", (cm_retention){.tagged = true}, false, "1 2 4 5 6 8 9 10 ");
    descent_is("s", 12, "12 11 7 3 ");
    no_damage_after_gc();
    descent_is("s", 12, "12 11 7 3 ");
    ck_ok(cm_ref_set(store, "s", CM_REF_TAG, "t7", 3));
    prune("s", (cm_retention){.tagged = true}, false, "7 ");
    no_damage_after_gc();
    descent_is("s", 12, "12 11 3 ");
    prune("s", (cm_retention){.last = 1}, false, "3 11 ");
    no_damage_after_gc();
    descent_is("s", 12, "12 ");
    char text[256] = "";
    ck_ok(cm_ref_list(store, "s", (enum cm_ref_kind)'p', list_name, text)); /* nothing is left of the others */
    ck_assert_str_eq(text, "000000000000000c=0 ");
}
END_TEST

START_TEST(many_go_in_several_commits)
{
    save_values("s", 330);
    for (uint64_t i = 1; i < 330; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%llu", (unsigned long long)i);
        if (i % 3 == 0)
            ck_ok(cm_ref_set(store, "s", CM_REF_TAG, name, i));
    }
    cm_prune_entry *entries;
    size_t count, gone = 0;
    ck_ok(cm_prune(store, "s", &(cm_retention){.tagged = true}, false, &entries, &count));
    for (size_t i = 0; i < count; i++)
        gone += entries[i].removed;
    ck_assert_uint_eq(count, 330);
    ck_assert_uint_eq(gone, 220);
    free(entries);
    cm_checkpoint *c, *parent;
    ck_ok(cm_checkpoint_open(store, "s", NULL, &c));
    for (uint64_t number = 330; number > 3; number -= 3) {
        ck_ok(cm_checkpoint_open_parent(c, &parent));
        ck_assert_uint_eq(cm_checkpoint_number(parent), number - 3);
        cm_checkpoint_unref(c);
        c = parent;
    }
    cm_checkpoint_unref(c);
    prune("s", (cm_retention){.last = 2}, false,
          "3 6 9 12 15 18 21 24 27 30 33 36 39 42 45 48 51 54 57 60 63 66 69 72 75 78 81 84 87 90 93 96 99 102 105 108 "
          "111 114 117 120 123 126 129 132 135 138 141 144 147 150 153 156 159 162 165 168 171 174 177 180 183 186 189 "
          "192 195 198 201 204 207 210 213 216 219 222 225 228 231 234 237 240 243 246 249 252 255 258 261 264 267 270 "
          "273 276 279 282 285 288 291 294 297 300 303 306 309 312 315 318 321 324 ");
    refs_are("s", CM_REF_TAG, "t327=327 ");
    no_damage_after_gc();
}
END_TEST

/* ---- by time --------------------------------------------------------------------------------------------------------- */

/* Checkpoints as if they had been saved at these hours since some Monday. */
static void save_at(const char *session, const uint64_t *hours, size_t count)
{
    enum { MONDAY = 1700438400 }; /* 2023-11-20 00:00 UTC */
    save_values(session, (long)count);
    for (size_t i = 0; i < count; i++) {
        cm_checkpoint *c;
        cm_buffer content = CM_BUFFER_INIT, old = CM_BUFFER_INIT, value = CM_BUFFER_INIT;
        cm_backend_txn *txn;
        ck_ok(cm_checkpoint_open_number(store, session, i + 1, &c));
        c->time = ((int64_t)MONDAY + (int64_t)hours[i] * 3600) * 1000000000;
        ck_ok(cm_checkpoint_encode(c, &content));
        cm_buffer_append(&old, &c->id, sizeof c->id);
        cm_checkpoint_unref(c);
        cm_content made = {.kind = CM_KIND_CHECKPOINT, .data = content.data, .size = content.size};
        ck_ok(cm_id_of(content.data, content.size, &made.id));
        cm_buffer_append(&value, &made.id, sizeof made.id);
        cm_known *pending = cm_known_new();
        ck_ok(store->backend->ops->begin(store->backend, &txn, NULL));
        ck_ok(cm_contents_put(store, txn, pending, &made, 1));
        char *key = cm_ref_number_key('n', session, i + 1);
        cm_ref_update update = cm_ref_change(key, &old, &value);
        ck_ok(store->backend->ops->commit(txn, &update, 1));
        free(key);
        cm_known_free(pending);
        cm_buffer_free(&content);
        cm_buffer_free(&old);
        cm_buffer_free(&value);
    }
}

START_TEST(the_newest_of_each_period_is_kept)
{
    static const uint64_t hours[] = {0,  1,      5,          23,     24,         24,     26,
                                     47, 6 * 24, 7 * 24 - 1, 7 * 24, 7 * 24 + 3, 9 * 24, 9 * 24};
    save_at("s", hours, sizeof hours / sizeof *hours);
    prune("s", (cm_retention){.hourly = 3}, true, "1 2 3 4 5 6 7 8 9 10 13 ");
    prune("s", (cm_retention){.hourly = 100}, true, "5 13 ");
    prune("s", (cm_retention){.daily = 3}, true, "1 2 3 4 5 6 7 8 9 11 13 ");
    prune("s", (cm_retention){.daily = 100}, true, "1 2 3 5 6 7 9 11 13 ");
    prune("s", (cm_retention){.weekly = 1}, true, "1 2 3 4 5 6 7 8 9 10 11 12 13 ");
    prune("s", (cm_retention){.weekly = 2}, true, "1 2 3 4 5 6 7 8 9 11 12 13 ");
    prune("s", (cm_retention){.weekly = 9, .last = 2, .daily = 1}, true, "1 2 3 4 5 6 7 8 9 11 12 ");
    setenv("TZ", "XXX-2", 1); /* two hours ahead: 23:00 is the next day's 01:00 */
    tzset();
    prune("s", (cm_retention){.daily = 100}, true, "1 2 4 5 6 10 11 13 ");
    prune("s", (cm_retention){.daily = 100}, false, "1 2 4 5 6 10 11 13 ");
    prune("s", (cm_retention){.daily = 100}, false, "");
    numbers_are("s", "3 7 8 9 12 14 ");
    no_damage_after_gc();
}
END_TEST

/* ---- others ---------------------------------------------------------------------------------------------------------- */

/* The store's backend, but that somebody does something before its first commits. */
static const cm_backend_ops *whole_ops, *meddled_ops;
static int meddled, meddle_times;
static void (*meddle)(void);

static int meddled_commit(cm_backend_txn *txn, const cm_ref_update *refs, size_t count)
{
    if (meddled < meddle_times) {
        meddled++;
        store->backend->ops = whole_ops;
        meddle();
        store->backend->ops = meddled_ops;
    }
    return whole_ops->commit(txn, refs, count);
}

static void set_tag(void)
{
    cm_store *other = cm_store_ref(store);
    cm_guard guard;
    cm_buffer old = CM_BUFFER_INIT, value = CM_BUFFER_INIT;
    char *key = cm_ref_key('t', "s", meddled == 1 ? "one" : "two");
    cm_buffer_varint(&value, meddled == 1 ? 2 : 3);
    ck_ok(cm_guard_read(other, "s", &guard)); /* as cm_ref_set in another process would */
    ck_ok(cm_ref_read(other, key, &old));
    const cm_ref_update updates[] = {cm_ref_change(key, &old, &value), cm_guard_move(&guard)};
    ck_ok(cm_refs_commit(other, updates, 2));
    cm_guard_clear(&guard);
    cm_buffer_free(&old);
    cm_buffer_free(&value);
    free(key);
    cm_store_unref(other);
}

START_TEST(what_gets_a_tag_meanwhile_stays)
{
    cm_backend_ops ops = *store->backend->ops;
    save_values("s", 6);
    ops.commit = meddled_commit;
    meddled_ops = &ops;
    whole_ops = store->backend->ops;
    meddled = 0;
    meddle_times = 2;
    meddle = set_tag;
    store->backend->ops = meddled_ops;
    prune("s", (cm_retention){.last = 1, .tagged = true}, false, "1 4 5 ");
    store->backend->ops = whole_ops;
    ck_assert_int_eq(meddled, 2);
    numbers_are("s", "2 3 6 ");
    descent_is("s", 6, "6 3 2 ");
    no_damage_after_gc();
}
END_TEST

START_TEST(what_was_removed_says_so)
{
    cm_checkpoint *c;
    const cm_variable *variables;
    size_t count;
    save_values("s", 2);
    ck_ok(cm_checkpoint_open_number(store, "s", 1, &c));
    prune("s", (cm_retention){.last = 1}, false, "1 ");
    ck_ok(cm_checkpoint_variables(c, &variables, &count)); /* its objects are still there */
    cm_checkpoint_unref(c);
    ck_fails(cm_checkpoint_open_number(store, "s", 1, &c), ENOENT, "no checkpoint 1");
    save_values("s", 2);
    ck_ok(cm_checkpoint_open_number(store, "s", 3, &c));
    prune("s", (cm_retention){.last = 1}, false, "2 3 ");
    no_damage_after_gc();
    int result = cm_checkpoint_variables(c, &variables, &count);
    ck_assert_int_eq(result, -EILSEQ);
    ck_fails(cm_checkpoint_failed(c, result), ENOENT, "s@3 was removed");
    cm_checkpoint_unref(c);
    ck_ok(cm_checkpoint_open_number(store, "s", 4, &c));
    ck_assert_int_eq(cm_checkpoint_failed(c, -EILSEQ), -EILSEQ);
    cm_checkpoint_unref(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.prune");
    TCase *cases = tcase_create("retention");
    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, the_last_ones_are_kept);
    tcase_add_test(cases, heads_branches_and_tags_are_kept);
    tcase_add_test(cases, descent_goes_on_over_gaps);
    tcase_add_test(cases, many_go_in_several_commits);
    tcase_add_test(cases, the_newest_of_each_period_is_kept);
    tcase_add_test(cases, what_gets_a_tag_meanwhile_stays);
    tcase_add_test(cases, what_was_removed_says_so);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
