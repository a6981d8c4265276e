/* SPDX-License-Identifier: Apache-2.0 */
/*
 * double.h - stands for a device's runtime (pyhook/cuda/runtime.h) where there is none: "device memory" is memory of the host that was
 * declared to be. What is enqueued is done when it is waited for and not before, so that who forgets to wait sees what was there.
 */
#ifndef CM_TEST_DOUBLE_H
#define CM_TEST_DOUBLE_H

#include <stdint.h>

enum { DOUBLE_DEVICES = 2 };

enum double_call {
    DOUBLE_COUNT,
    DOUBLE_ENTER,
    DOUBLE_IS_PLAIN,
    DOUBLE_SYNCHRONIZE,
    DOUBLE_STREAM,
    DOUBLE_PINNED,
    DOUBLE_COPY,
    DOUBLE_HASH,
    DOUBLE_WAIT,
    DOUBLE_CALLS,
};

/* Forgets all memory, counts, and what is to fail. */
void double_reset(void);
/* This is memory of a device, plain or not. */
void double_declare(int device, const void *memory, uint64_t size, int plain);
/* Enqueues in some stream of the user's that a byte is written. */
void double_enqueue(uint8_t *at, uint8_t value);
/* From the n-th of these calls on, 1 is the next, they fail; 0: they do not. */
void double_fail(int call, uint64_t n);
uint64_t double_calls(int call);
uint64_t double_copied(void); /* bytes */
/* What exists now: streams and pinned memory; and the threads that have entered a device and not left it. */
uint64_t double_held(void);
uint64_t double_inside(void);

#endif
