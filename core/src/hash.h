/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - XXH3-128 of large contents, with the widest registers that the processor has. */
#ifndef CM_HASH_H
#define CM_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct cm_hash {
    uint64_t low, high;
} cm_hash;

cm_hash cm_hash_of(const void *content, size_t size, uint64_t seed);

#endif
