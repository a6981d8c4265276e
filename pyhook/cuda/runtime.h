/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime.h - the few calls of a device's runtime that device.c is written in: runtime.cu makes them of CUDA's, and
 * tests/device/double.c does them in the host's memory.
 *
 * All return 0 or the runtime's own error, which is not 0.
 */
#ifndef CM_DEVICE_RUNTIME_H
#define CM_DEVICE_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st *cm_rt_stream; /* work in one is done in order */

typedef struct cm_rt_hash {
    uint64_t address, size;
    uint64_t secret[24];
    uint64_t *out; /* pinned: low and high of each chunk; not written for a last chunk of at most 240 bytes */
} cm_rt_hash;

/* How many devices there are. */
int cm_rt_count(int *count);
/* Makes a device the thread's current one, and gives what was before for cm_rt_leave, which is only called if this returned 0. */
int cm_rt_enter(int device, void **before);
void cm_rt_leave(void *before);
/* Of the current device. Whether this is an address in plain memory of that device. */
int cm_rt_is_plain(int device, uint64_t address, int *plain);
/* Waits for all that was enqueued on the current device. */
int cm_rt_synchronize(void);

int cm_rt_stream_new(cm_rt_stream *stream);
void cm_rt_stream_free(cm_rt_stream stream);
/* Memory of the host that the current device reads and writes under the same address. */
int cm_rt_pinned_new(size_t size, void **memory);
void cm_rt_pinned_free(void *memory);

/* Enqueued: */
int cm_rt_copy(void *pinned, uint64_t address, size_t size, cm_rt_stream stream);
int cm_rt_hash_chunks(const cm_rt_hash *work, cm_rt_stream stream);
/* Until what was enqueued in the stream is done. */
int cm_rt_wait(cm_rt_stream stream);

const char *cm_rt_text(int error);

#ifdef __cplusplus
}
#endif
#endif
