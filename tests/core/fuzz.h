/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - the fuzz targets. Each defines fuzz_one; with libFuzzer it is fed what the fuzzer thinks of, with fuzz_main.c
 * the files of a corpus: seeds, which must be accepted, and inputs that must be refused.
 */
#ifndef CM_TESTS_FUZZ_H
#define CM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* 0: accepted; -errno: refused. Anything else that goes wrong aborts. */
int fuzz_one(const uint8_t *data, size_t size);

#define fuzz_must(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
