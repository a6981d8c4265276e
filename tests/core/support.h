/* SPDX-License-Identifier: Apache-2.0 */
/* support.h - what the suites share: scratch directories, seeded bytes, checks that print the error sentence. */
#ifndef CM_TESTS_SUPPORT_H
#define CM_TESTS_SUPPORT_H

#include "error.h"

#include <check.h>
#include <chipmink/chipmink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* The call must return 0; otherwise its sentence is shown. */
#define ck_ok(call)                                                                                                    \
    do {                                                                                                               \
        int ck_result_ = (call);                                                                                       \
        ck_assert_msg(ck_result_ == 0, "%s: %d (%s)", #call, ck_result_, cm_error_message());                          \
    } while (0)

/* The call must fail with -error and a sentence that holds `text`. */
#define ck_fails(call, error, text)                                                                                    \
    do {                                                                                                               \
        int ck_result_ = (call);                                                                                       \
        ck_assert_msg(ck_result_ == -(error), "%s: %d (%s), not -" #error, #call, ck_result_, cm_error_message());     \
        ck_assert_msg(strstr(cm_error_message(), text), "'%s' is not in: %s", text, cm_error_message());               \
    } while (0)

/* For helpers that also run outside of a test (start_role), where check's own assertions do not work. */
#define must(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, cm_error_message());                   \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A directory of this test's own; removed, with all in it, when the suite ends. */
const char *scratch_dir(void);
/* "<scratch>/<name>"; the same few buffers are used again and again. */
const char *scratch_path(const char *name);
void remove_tree(const char *path);
void write_file(const char *path, const void *data, size_t size);
/* The whole file; the caller frees it. */
void *read_file(const char *path, size_t *size);

/* Reproducible bytes: xorshift from a seed. */
typedef struct seeded {
    uint64_t state;
} seeded;
uint64_t seeded_next(seeded *random);
void seeded_fill(uint64_t seed, void *data, size_t size);

/*
 * A private file system of that size over the scratch directory's `name`; NULL when that cannot be had here (not root).
 * Only threads started later see it, so call this before any store is opened.
 */
const char *small_disk(const char *name, const char *size);

/*
 * Runs this program again as another process, with `role`, `path` and `fd` (passed on open) as its arguments: for what
 * must not be done in a fork of a process that has used a store.
 */
pid_t start_role(const char *role, const char *path, int fd);

/* Runs the suite as check's environment asks for; the exit status. */
int run_suite(Suite *suite);

#endif
