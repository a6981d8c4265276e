/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - what is known of large buffers that stay where they are: the ids of those of their chunks to which nothing
 * was written since they were hashed. They need not be read again.
 *
 * A buffer is a range of addresses; whose they are, and whether it is the same object, does not matter: what counts is
 * that their pages were not written to (watch_pages.h). A range is watched from the second save on that finds it, if a
 * sample of it was the same in the first: to watch what is rewritten each time costs more than to read it. Bytes in
 * pages that it has only a part of, its edges, are read each time; a chunk that has some is known while their fingerprint is the
 * one of the bytes that its id was made of.
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
enum { CM_WATCH_EDGES = 3 /* chunks of a buffer that have an edge: the first and the last two, at most */ };

/* What of a buffer is known. */
typedef struct cm_watch_found {
    cm_id root;      /* of the tree of all its chunks; none: not all of them are known */
    cm_id *ids;      /* then of each chunk, none where it is not known; the caller's to free */
    uint64_t stored; /* bytes on disk of what is known, with a root all of its tree */
} cm_watch_found;

/* What a save has made of a buffer that was not all known. */
typedef struct cm_watch_lesson {
    const cm_id *ids;                     /* of each chunk as it was hashed since the look, or given by it */
    cm_fingerprint edges[CM_WATCH_EDGES]; /* of the edges of those hashed, of the very bytes; else zeros */
    cm_id root;                           /* of their tree */
    uint64_t stored;                      /* bytes on disk of that */
} cm_watch_lesson;

/*
 * Tells what is known. The memory is mapped, and not smaller than CM_WATCH_MIN. Returns what cm_watch_learn wants to know; 0: the
 * buffer is not watched, all its chunks are to be hashed.
 */
uint64_t cm_watch_look(cm_watch *watch, const void *data, uint64_t size, cm_watch_found *found);
/* The bytes of a chunk that lie in an edge, from *offset in the chunk on, and which edge it is; 0: there are none. */
uint64_t cm_watch_edge(const void *data, uint64_t size, uint64_t chunk, uint64_t *offset, unsigned *edge);
/* What is not known to be in the store is left out. */
void cm_watch_learn(cm_watch *watch, const void *data, uint64_t size, uint64_t look, const cm_watch_lesson *lesson,
                    cm_known *known);
void cm_watch_statistics(cm_watch *watch, cm_watch_stat *stat);

#endif
