/* SPDX-License-Identifier: Apache-2.0 */
/* id.h - content ids: SHA-256, through libcrypto (which uses the CPU's SHA instructions). */
#ifndef CM_ID_H
#define CM_ID_H

#include <chipmink/chipmink.h>

/* The id of a content. 0 or -EIO. Any thread. */
CM_MUST_USE int cm_id_of(const void *content, size_t size, cm_id *id);

/* All zero, which no content has: there is none, or it is not known. */
static inline bool cm_id_is_none(const cm_id *id)
{
    static const cm_id none;
    return __builtin_memcmp(id, &none, sizeof none) == 0;
}

/* Eight bytes of an id as a hash-table key: ids are uniformly distributed already. */
static inline uint64_t cm_id_key(const cm_id *id)
{
    uint64_t key;
    __builtin_memcpy(&key, id->bytes, sizeof key);
    return key;
}

#endif
