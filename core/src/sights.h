/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sights.h - what the chunks of large buffers on devices were when they were looked at last: where the same hash is found at the same
 * place again, it costs a comparison instead of three look-ups. A store's, for its saves, which come one after the other: no lock.
 */
#ifndef CM_SIGHTS_H
#define CM_SIGHTS_H

#include "fingerprint.h"

#include <chipmink/save.h>

typedef struct cm_sights cm_sights;

/* Of a chunk: what the store has, under that hash. The key is all zero while nothing is known. */
typedef struct cm_sight {
    cm_fingerprint key;
    cm_id id;
    uint64_t stored;
} cm_sight;

/* Buffers from this size on are remembered. */
enum { CM_SIGHTS_MIN = 1 << 20 };

cm_sights *cm_sights_new(void); /* NULL: out of memory */
void cm_sights_free(cm_sights *sights);
/*
 * Of each chunk of that memory, for the caller to use and to fill in until the next call; NULL: it is too small or too large, or there
 * is no memory for it. What was noted in another epoch of the store (backend.h) is forgotten, and what was not asked for in the longest
 * time when there is too much.
 */
cm_sight *cm_sights_of(cm_sights *sights, const cm_device_memory *memory, uint64_t epoch);

#endif
