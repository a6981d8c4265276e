/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - what is known of large buffers that stay where they are: the ids of those of their chunks to which nothing
 * was written since they were hashed. They need not be read again.
 *
 * A buffer is a range of addresses; whose they are, and whether it is the same object, does not matter: what counts is
 * that their pages were not written to (watch_pages.h). A range is watched from the second save on that finds it, if a
 * sample of it was the same in the first: to watch what is rewritten each time costs more than to read it. Bytes in
 * pages that it has only a part of are read each time.
 *
 * The order makes it sound. A chunk's pages are asked for and protected first (cm_watch_look), then it is hashed; what
 * is written in between or after is found by the next look, which makes the chunk unknown. An id is learnt when its
 * content is on disk (cm_watch_learn), unless the chunk was made unknown since that look. Ranges may overlap (an array
 * and a view of it): what a look finds written is made unknown in all of them.
 *
 * Any thread; saves of one store come one after the other.
 */
#ifndef CM_WATCH_H
#define CM_WATCH_H

#include "fingerprint.h"
#include "known.h"

typedef struct cm_watch cm_watch;

/* Buffers from this size on are watched. */
enum { CM_WATCH_MIN = 1 << 20 };

/*
 * `fingerprints` must outlive it. Nothing is asked of the kernel before there is something to watch; with
 * $CHIPMINK_WATCH=off, nor then; with CHIPMINK_WATCH=on, what drivers may do is no reason not to watch. NULL: out of
 * memory.
 */
cm_watch *cm_watch_new(const cm_fingerprints *fingerprints);
void cm_watch_free(cm_watch *watch);
/*
 * A save begins: lets go of what the last ones did not look at, and forgets all ids if the store is in another epoch
 * (backend.h): what they name may not be in it any more.
 */
void cm_watch_begin(cm_watch *watch, uint64_t epoch);
/*
 * False: memory of the process may be pinned, or was when the save began, so that devices write to it unseen: nothing
 * is watched, and nothing may be learnt. To be asked at the end of a save.
 */
bool cm_watch_check(cm_watch *watch);
/*
 * Puts the ids of the chunks that are known into `ids`, which has one for each chunk, all zero; and adds what they take
 * on disk to *stored. The memory is mapped, and not smaller than CM_WATCH_MIN. Returns what cm_watch_learn wants to
 * know; 0: the buffer is not watched, all its chunks are to be hashed.
 */
uint64_t cm_watch_look(cm_watch *watch, const void *data, uint64_t size, cm_id *ids, uint64_t *stored);
/* The ids of the chunks as they were hashed since that look; those that are not known to be in the store are left out. */
void cm_watch_learn(cm_watch *watch, const void *data, uint64_t size, uint64_t look, const cm_id *ids, cm_known *known);
void cm_watch_statistics(cm_watch *watch, cm_watch_stat *stat);

#endif
