/* SPDX-License-Identifier: Apache-2.0 */
#include "hash.h"

#ifdef CM_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

cm_hash cm_hash_of(const void *content, size_t size, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(content, size, seed); /* seed 0: as without one */
    return (cm_hash){hash.low64, hash.high64};
}
