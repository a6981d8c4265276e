/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fingerprint.h - the ids of contents seen before, under a fast 128-bit hash: content that did not change since the last save is
 * recognised at the speed of memory instead of SHA-256's.
 *
 * The hash is XXH3-128 with a seed that nobody outside the process knows, so that no two contents can be made to meet in it.
 */
#ifndef CM_FINGERPRINT_H
#define CM_FINGERPRINT_H

#include <chipmink/chipmink.h>

typedef struct cm_fingerprints cm_fingerprints;

typedef struct cm_fingerprint {
    uint64_t low, high;
} cm_fingerprint;

static inline bool cm_fingerprint_equal(cm_fingerprint a, cm_fingerprint b)
{
    return a.low == b.low && a.high == b.high;
}

cm_fingerprints *cm_fingerprints_new(void); /* NULL: out of memory, or no random seed */
void cm_fingerprints_free(cm_fingerprints *known);
/* Any thread, all three. Bounded: what was added long ago may be forgotten. */
cm_fingerprint cm_fingerprint_of(const cm_fingerprints *known, const void *content, size_t size);
/* What others have computed: the seed, and the fingerprint of the two halves of XXH3-128 with it. */
uint64_t cm_fingerprints_seed(const cm_fingerprints *known);
static inline cm_fingerprint cm_fingerprint_from(uint64_t low, uint64_t high)
{
    return (cm_fingerprint){low | 1, high}; /* never all zero */
}
bool cm_fingerprint_find(cm_fingerprints *known, cm_fingerprint key, cm_id *id);
/* `id` must be the id of the very bytes that the key was made of. */
void cm_fingerprint_add(cm_fingerprints *known, cm_fingerprint key, const cm_id *id);

#endif
