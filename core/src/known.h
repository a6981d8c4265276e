/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known.h - ids known to be in the store, with their stored sizes: the hot part of the thesaurus in memory, so that an
 * unchanged pod costs no look-up in the backend. Bounded; any thread. Only what was committed may be in a store's set: what a
 * transaction has put or found lives in a set of its own, merged when it was committed.
 *
 * A set is of one epoch of its store (backend.h), within which nothing is removed from it; a new one is of epoch 0.
 */
#ifndef CM_KNOWN_H
#define CM_KNOWN_H

#include <chipmink/chipmink.h>

typedef struct cm_known cm_known;

cm_known *cm_known_new(void); /* NULL: out of memory */
void cm_known_free(cm_known *known);
/* The store is in that epoch now: what was known in another is forgotten. */
void cm_known_enter(cm_known *known, uint64_t epoch);
uint64_t cm_known_epoch(cm_known *known);
/* Whether the id is known, and its stored size. */
bool cm_known_find(cm_known *known, const cm_id *id, uint64_t *stored);
/* The same; false if the set is of another epoch. */
bool cm_known_find_in(cm_known *known, uint64_t epoch, const cm_id *id, uint64_t *stored);
/* True if the id was not known before: the caller is the one who adds it. `stored` may be corrected by a second add. */
bool cm_known_add(cm_known *known, const cm_id *id, uint64_t stored);
/* Adds all of `from`, which no other thread may use meanwhile; nothing, if they are of different epochs. */
void cm_known_merge(cm_known *known, const cm_known *from);

#endif
