/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs_suites.h"
#include "names.h"

static const struct {
    const char *name, *file;
} pairs[] = {
    {"df", "df.pkl"},
    {"a b", "a b.pkl"},
    {"größe", "größe.pkl"},
    {"a/b", "a%2Fb.pkl"},
    {"100%", "100%25.pkl"},
    {"%41", "%2541.pkl"},
    {"..", "%2E..pkl"},
    {".hidden", "%2Ehidden.pkl"},
    {"a.b", "a.b.pkl"},
    {"", "%.pkl"},
    {"tab\tnew\nline\x7f", "tab%09new%0Aline%7F.pkl"},
};

START_TEST(known_pairs)
{
    char file[CM_FILE_NAME_MAX + 1], name[CM_FILE_NAME_MAX + 1];
    bool cut = true;

    cm_name_encode(pairs[_i].name, ".pkl", file);
    ck_assert_str_eq(file, pairs[_i].file);
    ck_assert_int_eq(cm_name_decode(file, ".pkl", name, &cut), 0);
    ck_assert(!cut);
    ck_assert_str_eq(name, pairs[_i].name);
}
END_TEST

/* One name, one file name: none of these is what any name becomes. */
static const char *const strangers[] = {"df",     "df.txt",  "%41.pkl", "%2f.pkl", "a/b.pkl", ".pkl", ".a.pkl",
                                        "%2.pkl", "a%2.pkl", "a%.pkl",  "%00.pkl", "%G0.pkl", "",     "%%.pkl"};

START_TEST(no_second_names)
{
    char name[CM_FILE_NAME_MAX + 1];
    bool cut = false;

    ck_assert_int_eq(cm_name_decode(strangers[_i], ".pkl", name, &cut), -ENOENT);
}
END_TEST

START_TEST(long_names)
{
    char name[401], file[CM_FILE_NAME_MAX + 1], other[CM_FILE_NAME_MAX + 1], start[CM_FILE_NAME_MAX + 1];
    bool cut = false;

    for (size_t length = 240; length <= 400; length++) {
        memset(name, 'a', length);
        name[length] = '\0';
        cm_name_encode(name, ".pkl", file);
        ck_assert_uint_le(strlen(file), CM_FILE_NAME_MAX);
        ck_assert_str_eq(file + strlen(file) - 4, ".pkl");
        ck_assert_int_eq(cm_name_decode(file, ".pkl", start, &cut), 0);
        ck_assert_int_eq(cut, length > CM_FILE_NAME_MAX - 4);
        ck_assert_int_eq(strncmp(name, start, strlen(start)), 0);
        name[length - 1] = 'b';
        cm_name_encode(name, ".pkl", other);
        ck_assert_str_ne(file, other);
    }
}
END_TEST

/* Neither an escape nor a character is torn apart where a long name is cut. */
START_TEST(cuts_between_characters)
{
    static const char *const units[] = {"/", "ü", "€", "𝒳", "a/", "ü%"};
    char file[CM_FILE_NAME_MAX + 1], start[CM_FILE_NAME_MAX + 1];
    bool cut = false;

    for (size_t pad = 0; pad < 8; pad++) {
        char *name = calloc(1, 2048);
        ck_assert_ptr_nonnull(name);
        memset(name, 'x', pad);
        while (strlen(name) < 1024)
            strcat(name, units[_i]);
        cm_name_encode(name, ".txt", file);
        ck_assert_uint_le(strlen(file), CM_FILE_NAME_MAX);
        ck_assert_uint_gt(strlen(file), CM_FILE_NAME_MAX - 12);
        ck_assert_int_eq(cm_name_decode(file, ".txt", start, &cut), 0);
        ck_assert(cut);
        ck_assert_int_eq(strncmp(name, start, strlen(start)), 0);
        ck_assert_int_ne((unsigned char)name[strlen(start)] & 0xc0, 0x80);
        free(name);
    }
}
END_TEST

TCase *cm_names_tests(void)
{
    TCase *tests = tcase_create("names");

    tcase_add_loop_test(tests, known_pairs, 0, sizeof pairs / sizeof *pairs);
    tcase_add_loop_test(tests, no_second_names, 0, sizeof strangers / sizeof *strangers);
    tcase_add_test(tests, long_names);
    tcase_add_loop_test(tests, cuts_between_characters, 0, 6);
    return tests;
}
