/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.h - pods read several at a time. Asking a store server for one pod is a round trip; whoever goes through pods in order says
 * which ones come soon, they are read together, and each is then taken once. One thread at a time.
 */
#ifndef CM_AHEAD_H
#define CM_AHEAD_H

#include "store.h"

typedef struct cm_ahead_pod {
    cm_id id;
    cm_object_info info;
    cm_buffer content;
} cm_ahead_pod;

typedef struct cm_ahead {
    cm_ahead_pod *pods;
    size_t count, capacity, bytes;
    size_t asked; /* at once, the last time */
} cm_ahead;

/*
 * [blocks] Reads what is not there yet, to a bound: the number of ids, from the first, that need not be said again. What cannot be read
 * is left out: whoever then asks for it will be told why.
 */
size_t cm_ahead_soon(cm_ahead *ahead, cm_store *store, const cm_id *ids, size_t count);
/* The content of a pod replaces `content`, and *info (may be NULL) is what the store says of it; false: it is not there. */
bool cm_ahead_take(cm_ahead *ahead, const cm_id *id, cm_buffer *content, cm_object_info *info);
void cm_ahead_clear(cm_ahead *ahead); /* and ready for use again */

#endif
