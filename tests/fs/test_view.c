/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of a real store: what is listed can be looked up, read whole and in parts, and says the truth about itself. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <chipmink/save.h>

#include "fs_suites.h"
#include "view.h"

enum { BIG = 300000, FILLERS = 40 };

static char store_path[64];
static uint8_t big[BIG];
static cm_store *writer, *reader;
static cm_view *view;

/* ---- a store ------------------------------------------------------------------------------------------------------ */

/* `name` is the text `value`, or the big payload. */
static void save_value(cm_save *save, const char *name, const char *value)
{
    ck_assert_int_eq(cm_save_variable_begin(save, name), 0);
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    ck_assert_ptr_nonnull(pod);
    if (value != NULL) {
        cm_body *body = cm_pod_body(pod);
        cm_body_byte(body, 0x8c); /* SHORT_BINUNICODE */
        cm_body_byte(body, (uint8_t)strlen(value));
        cm_body_bytes(body, value, strlen(value));
    } else {
        cm_pod_buffer(pod, CM_PAYLOAD_BYTES, big, sizeof big);
    }
    ck_assert_int_eq(cm_save_pod_finish(save, pod, CM_INDEX_ROOT), 0);
    ck_assert_int_eq(cm_save_variable_end(save, pod, CM_INDEX_ROOT, "str", "a summary"), 0);
}

/* So many that the index of one is the number of each fixed place. */
static void save_fillers(cm_save *save)
{
    char name[16];

    for (int i = 0; i < FILLERS; i++) {
        snprintf(name, sizeof name, "filler%02d", i);
        save_value(save, name, name);
    }
}

static void commit(cm_save *save, const char *message, const char *code)
{
    int result;

    ck_assert_int_eq(cm_save_commit(save, message, code), 0);
    while ((result = cm_save_wait(save, 1000)) == -EAGAIN)
        ;
    ck_assert_msg(result == 0, "%s", cm_error_message());
    cm_save_free(save);
}

static cm_save *begin(const char *session)
{
    cm_save *save = NULL;

    ck_assert_int_eq(cm_save_begin(writer, session, &save), 0);
    return save;
}

static const char *long_name(void)
{
    static char name[301];

    memset(name, 'n', sizeof name - 1);
    return name;
}

static void set_up(void)
{
    unsigned seed = 1;

    for (size_t i = 0; i < BIG; i++)
        big[i] = (uint8_t)rand_r(&seed);
    strcpy(store_path, "/tmp/test_view.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(store_path));
    ck_assert_int_eq(rmdir(store_path), 0);
    ck_assert_msg(cm_store_open(store_path, CM_OPEN_WRITE | CM_OPEN_CREATE, &writer) == 0, "%s", cm_error_message());
    cm_save *save = begin("work");
    save_value(save, "stays", "the same");
    save_value(save, "changes", "before");
    save_value(save, "goes", "soon");
    save_value(save, "big", NULL);
    save_fillers(save);
    commit(save, "first", NULL);
    save = begin("work");
    save_value(save, "stays", "the same");
    save_value(save, "changes", "after");
    save_value(save, "new/er", "added");
    save_value(save, "big", NULL);
    save_value(save, long_name(), "long");
    save_fillers(save);
    ck_assert_int_eq(cm_save_unsaved(save, "lock", "cannot pickle '_thread.lock' object"), 0);
    commit(save, "second", "changes = 'after'\n");
    ck_assert_int_eq(cm_ref_set(writer, "work", CM_REF_TAG, "v1.0", 1), 0);
    ck_assert_msg(cm_store_open(store_path, CM_OPEN_READ, &reader) == 0, "%s", cm_error_message());
    ck_assert_int_eq(cm_view_new(reader, 0, &view), 0);
}

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *place)
{
    (void)found;
    (void)type;
    (void)place;
    return remove(path);
}

static void tear_down(void)
{
    cm_view_free(view);
    cm_store_unref(reader);
    cm_store_unref(writer);
    nftw(store_path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

static const cm_node root = 1;

/* The node of a path without links; 0: there is none. */
static cm_node find(const char *path)
{
    char copy[1024], *rest = NULL;
    cm_node node = root;

    snprintf(copy, sizeof copy, "%s", path);
    for (char *name = strtok_r(copy, "/", &rest); name != NULL; name = strtok_r(NULL, "/", &rest)) {
        bool moves;
        int result = cm_view_lookup(view, node, name, &node, &moves);
        if (result == -ENOENT || result == -ENOTDIR)
            return 0;
        ck_assert_msg(result == 0, "%s: %s: %s", path, name, cm_error_message());
    }
    return node;
}

static cm_attributes attributes_of(const char *path)
{
    cm_attributes attributes;
    cm_node node = find(path);

    ck_assert_msg(node != 0, "%s is missing", path);
    ck_assert_int_eq(cm_view_attributes(view, node, &attributes), 0);
    return attributes;
}

static char *read_all(cm_node node, size_t *size)
{
    cm_attributes attributes;
    cm_content *content = NULL;
    size_t done = 0;

    ck_assert_int_eq(cm_view_attributes(view, node, &attributes), 0);
    ck_assert_int_eq(cm_content_open(view, node, &content), 0);
    char *data = malloc(attributes.size + 2);
    ck_assert_ptr_nonnull(data);
    ck_assert_msg(cm_content_read(content, 0, data, attributes.size + 1, &done) == 0, "%s", cm_error_message());
    ck_assert_uint_eq(done, attributes.size);
    data[done] = '\0';
    cm_content_close(content);
    *size = done;
    return data;
}

static char *text_of(const char *path)
{
    size_t size;

    return read_all(find(path), &size);
}

static const char *target_of(const char *path)
{
    static char target[CM_TARGET_MAX];

    ck_assert_int_eq(cm_view_target(view, find(path), target), 0);
    ck_assert_uint_eq(attributes_of(path).size, strlen(target));
    return target;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

typedef struct census {
    cm_node directories[1200];
    size_t directory_count, files, links;
} census;

/* Everything that is listed is found by its name, is the same node, and can be read or followed. */
static void walk(cm_node directory, census *seen, unsigned depth)
{
    cm_listing *listing = NULL;
    cm_listed listed;

    ck_assert_uint_lt(depth, 10);
    for (size_t i = 0; i < seen->directory_count; i++)
        ck_assert_uint_ne(seen->directories[i], directory);
    seen->directories[seen->directory_count++] = directory;
    ck_assert_msg(cm_listing_open(view, directory, &listing) == 0, "%s", cm_error_message());
    for (uint64_t i = 0; cm_listing_at(listing, i, &listed) == 0; i++) {
        cm_attributes attributes;
        char target[CM_TARGET_MAX];
        cm_node node = 0;
        size_t size;
        bool moves;

        ck_assert_msg(cm_view_lookup(view, directory, listed.name, &node, &moves) == 0, "%s", listed.name);
        ck_assert_uint_eq(node, listed.node);
        ck_assert_int_eq(moves, listed.moves);
        ck_assert_int_eq(cm_view_attributes(view, node, &attributes), 0);
        ck_assert_uint_eq(attributes.inode, listed.inode);
        ck_assert_int_eq(attributes.type, cm_view_type(node));
        switch (attributes.type) {
        case CM_FILE_DIRECTORY:
            walk(node, seen, depth + 1);
            break;
        case CM_FILE_REGULAR:
            free(read_all(node, &size));
            seen->files++;
            break;
        case CM_FILE_LINK:
            ck_assert_int_eq(cm_view_target(view, node, target), 0);
            ck_assert_uint_eq(strlen(target), attributes.size);
            seen->links++;
            break;
        }
    }
    cm_listing_close(listing);
}

START_TEST(listed_is_found)
{
    census seen = {.directory_count = 0};

    walk(root, &seen, 0);
    ck_assert_uint_ge(seen.directory_count, 256 + 15);
    ck_assert_uint_gt(seen.files, 4 * FILLERS);
    ck_assert_uint_gt(seen.links, 2 * FILLERS);
}
END_TEST

START_TEST(each_has_its_own_content)
{
    char path[100];
    size_t size;

    for (int i = 0; i < FILLERS; i++) {
        char value[16];
        snprintf(value, sizeof value, "filler%02d", i);
        snprintf(path, sizeof path, "sessions/work/log/000002/vars/%s.pkl", value);
        char *pickle = read_all(find(path), &size);
        ck_assert_ptr_nonnull(memmem(pickle, size, value, strlen(value)));
        free(pickle);
        snprintf(path, sizeof path, "sessions/work/log/000002/info/%s.txt", value);
        char *text = read_all(find(path), &size);
        ck_assert_int_eq(strncmp(text, "name:    filler", 15), 0);
        ck_assert_ptr_nonnull(strstr(text, value));
        free(text);
    }
}
END_TEST

START_TEST(not_there)
{
    static const char *const paths[] = {
        "nothing",
        "sessions/none",
        "sessions/work/log/000003",
        "sessions/work/log/1",
        "sessions/work/log/0000001",
        "sessions/work/log/000000",
        "sessions/work/log/000001.txt",
        "sessions/work/log/000001/code.py", /* the first was saved without */
        "sessions/work/log/000001/vars/new%2Fer.pkl",
        "sessions/work/log/000001/vars/stays",
        "sessions/work/log/000001/info/stays.pkl",
        "sessions/work/log/000002/delta/changed/stays.pkl",
        "sessions/work/log/000002/delta/added/goes.pkl",
        "sessions/work/branches/none",
        "sessions/work/tags/main",
        "pods/zz",
        "pods/00/00",
        "pods/00/0000000000000000000000000000000000000000000000000000000000000000",
        "sessions/work/log/000001/pods/0000000000000000000000000000000000000000000000000000000000000000",
        "stats.json/x",
    };

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        ck_assert_msg(find(paths[i]) == 0, "%s", paths[i]);
}
END_TEST

START_TEST(links_lead_where_they_should)
{
    ck_assert_str_eq(target_of("sessions/work/head"), "log/000002");
    ck_assert_str_eq(target_of("sessions/work/tags/v1.0"), "../log/000001");
    ck_assert_str_eq(target_of("sessions/work/log/000002/delta/changed/changes.pkl"), "../../vars/changes.pkl");
    ck_assert_str_eq(target_of("sessions/work/log/000002/delta/added/new%2Fer.pkl"), "../../vars/new%2Fer.pkl");
    ck_assert_str_eq(target_of("sessions/work/log/000002/delta/removed/goes.pkl"), "../../../000001/vars/goes.pkl");
    ck_assert_str_eq(target_of("sessions/work/log/000001/delta/added/goes.pkl"), "../../vars/goes.pkl");
}
END_TEST

START_TEST(pickles_are_plain)
{
    size_t size;
    char *pickle = read_all(find("sessions/work/log/000002/vars/changes.pkl"), &size);

    ck_assert_uint_ge(size, 2);
    ck_assert_mem_eq(pickle, "\x80\x05", 2);
    ck_assert_int_eq(pickle[size - 1], '.');
    ck_assert_ptr_nonnull(memmem(pickle, size, "after", 5));
    free(pickle);
    pickle = read_all(find("sessions/work/log/000002.pkl"), &size);
    ck_assert_uint_gt(size, BIG);
    ck_assert_ptr_nonnull(memmem(pickle, size, big, BIG));
    free(pickle);
}
END_TEST

START_TEST(parts_equal_the_whole)
{
    cm_node node = find("sessions/work/log/000001/vars/big.pkl");
    cm_content *content = NULL;
    unsigned seed = 2;
    size_t size;
    char *whole = read_all(node, &size), *part = malloc(size);

    ck_assert_ptr_nonnull(part);
    ck_assert_int_eq(cm_content_open(view, node, &content), 0);
    for (int i = 0; i < 500; i++) {
        size_t offset = (size_t)rand_r(&seed) % (size + 10), length = (size_t)rand_r(&seed) % size, done = 0;
        size_t expected = offset >= size ? 0 : length < size - offset ? length : size - offset;
        ck_assert_int_eq(cm_content_read(content, offset, part, length, &done), 0);
        ck_assert_uint_eq(done, expected);
        ck_assert(memcmp(part, whole + (expected > 0 ? offset : 0), expected) == 0);
    }
    cm_content_close(content);
    free(whole);
    free(part);
}
END_TEST

START_TEST(unchanged_is_one_inode)
{
    cm_attributes first = attributes_of("sessions/work/log/000001/vars/big.pkl");
    cm_attributes second = attributes_of("sessions/work/log/000002/vars/big.pkl");

    ck_assert_uint_eq(first.inode, second.inode);
    ck_assert_int_eq(first.time, second.time);
    ck_assert_uint_ge(first.links, 2);
    ck_assert_uint_ge(first.stored, BIG);
    ck_assert_uint_eq(attributes_of("sessions/work/log/000001/info/big.txt").inode,
                      attributes_of("sessions/work/log/000002/info/big.txt").inode);
    first = attributes_of("sessions/work/log/000001/vars/changes.pkl");
    second = attributes_of("sessions/work/log/000002/vars/changes.pkl");
    ck_assert_uint_ne(first.inode, second.inode);
    ck_assert_int_lt(first.time, second.time);
}
END_TEST

START_TEST(texts)
{
    char *text = text_of("sessions/work/log/000002/checkpoint.json");
    ck_assert_ptr_nonnull(strstr(text, "\"number\":\t2,"));
    ck_assert_ptr_nonnull(strstr(text, "\"vars/new%2Fer.pkl\""));
    ck_assert_ptr_nonnull(strstr(text, "cannot pickle '_thread.lock' object"));
    free(text);
    text = text_of("sessions/work/log/000002/code.py");
    ck_assert_str_eq(text, "changes = 'after'\n");
    free(text);
    text = text_of("sessions/work/log/000002/info/big.txt");
    ck_assert_ptr_nonnull(strstr(text, "a summary\n"));
    ck_assert_ptr_nonnull(strstr(text, "changed: 000001 ("));
    free(text);
    text = text_of("stats.json");
    ck_assert_ptr_nonnull(strstr(text, "\"checkpoints\":\t2,"));
    free(text);
}
END_TEST

/* Once the view has looked, what is saved afterwards shows when its look is old: no unmounting, no signal. */
START_TEST(later_checkpoints_show)
{
    ck_assert_uint_eq(find("sessions/other"), 0);
    ck_assert_uint_eq(find("sessions/work/log/000003"), 0);
    cm_save *save = begin("work");
    save_value(save, "stays", "the same");
    commit(save, NULL, NULL);
    save = begin("other");
    save_value(save, "x", "1");
    commit(save, NULL, NULL);
    usleep(250000);
    ck_assert_uint_ne(find("sessions/other/log/000001/vars/x.pkl"), 0);
    ck_assert_uint_ne(find("sessions/work/log/000003"), 0);
    ck_assert_str_eq(target_of("sessions/work/head"), "log/000003");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs");
    TCase *tests = tcase_create("view");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, listed_is_found);
    tcase_add_test(tests, each_has_its_own_content);
    tcase_add_test(tests, not_there);
    tcase_add_test(tests, links_lead_where_they_should);
    tcase_add_test(tests, pickles_are_plain);
    tcase_add_test(tests, parts_equal_the_whole);
    tcase_add_test(tests, unchanged_is_one_inode);
    tcase_add_test(tests, texts);
    tcase_add_test(tests, later_checkpoints_show);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, cm_names_tests());
    suite_add_tcase(suite, cm_cache_tests());
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
