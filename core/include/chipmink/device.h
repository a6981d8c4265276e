/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - what a library gives that reads the memory of accelerators: a table of functions. libchipmink is linked to none; whoever
 * calls it loads one and hands its table in (cm_pod_device_buffer in save.h).
 *
 * Chunks are hashed where they lie, with the function that libchipmink uses itself (XXH3-128 with a seed), so that equal bytes have
 * equal hashes wherever they are; only those that the store does not have are moved.
 *
 * All functions may be called by any thread, block until what they do is done, and leave the thread's current device as it
 * was. They return 0 or a negative errno; then `message` says why, of the call that failed last on this thread.
 */
#ifndef CHIPMINK_DEVICE_H
#define CHIPMINK_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CM_DEVICE_VERSION = 1,
    CM_DEVICE_CHUNK = 65536, /* bytes; a last one may have less */
    CM_DEVICE_HEAD = 4096,
};

/* The symbol under which a library exports its table: `const cm_device_ops cm_device_library`. */
#define CM_DEVICE_SYMBOL "cm_device_library"

typedef struct cm_device_hash {
    uint64_t low, high;
} cm_device_hash;

/* What a library keeps: streams and pinned memory, which are made when they are needed and used again. */
typedef struct cm_device_context cm_device_context;

typedef struct cm_device_ops {
    uint32_t version; /* CM_DEVICE_VERSION; first in all versions */
    /* -ENODEV: there is no device, or no driver that knows this library. */
    int (*open)(cm_device_context **context);
    /* When no other call is going on, nor will be. */
    void (*close)(cm_device_context *context);
    /*
     * 0: all of it is memory that this device has for itself, which is all that the functions below may be given. -ENOTSUP: it is
     * of another kind (managed, the host's, another device's).
     */
    int (*check)(cm_device_context *context, int device, uint64_t address, uint64_t size);
    /*
     * Waits for everything that has been enqueued on the device, in any of its streams, and hashes each chunk. Puts the first
     * bytes, at most CM_DEVICE_HEAD, into `head`.
     */
    int (*look)(cm_device_context *context, int device, uint64_t address, uint64_t size, uint64_t seed, void *head,
                cm_device_hash *hashes);
    /*
     * Copies to the same place in `to` each chunk of which skip[i] is 0; all of them, if `skip` is NULL. Waits for nothing that
     * was enqueued: `look` did.
     */
    int (*fetch)(cm_device_context *context, int device, uint64_t address, uint64_t size, const uint8_t *skip,
                 void *to);
    const char *(*message)(void); /* valid until this thread's next call */
} cm_device_ops;

#ifdef __cplusplus
}
#endif
#endif
