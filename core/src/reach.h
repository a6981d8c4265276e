/* SPDX-License-Identifier: Apache-2.0 */
/* reach.h - going through everything that something consists of, each object once. */
#ifndef CM_REACH_H
#define CM_REACH_H

#include "checkpoint.h"

typedef struct cm_reach cm_reach; /* remembers what was visited; for one thread */

typedef struct cm_reached {
    cm_id id;
    uint8_t kind;        /* enum cm_kind */
    uint64_t size;       /* of a buffer's tree: bytes below it */
    cm_object_info info; /* for the visitor; kind 0: the store does not have it, or it could not be read */
} cm_reached;

/*
 * Called for each object when everything below it has been visited. `result`: what reading and checking it gave; it returns
 * what to go on with: 0, or an error that ends the walk.
 */
typedef int (*cm_reach_visitor)(void *arg, const cm_reached *object, int result);

/* `deep`: chunks are read too, and every content is checked against its id. NULL: out of memory. */
cm_reach *cm_reach_new(cm_store *store, bool deep, cm_reach_visitor visit, void *arg);
void cm_reach_free(cm_reach *reach);
/*
 * [blocks] Visits what is reachable from a pod, map or checkpoint and not visited yet. From a checkpoint: its record, its
 * maps, and all its variables' pods. `*damaged` (may be NULL): the object below it, or itself, that was found damaged now or
 * before, if any; else *damaged is left alone.
 */
CM_MUST_USE int cm_reach_from(cm_reach *reach, const cm_reached *from, bool *is_damaged, cm_id *damaged);
/* Notes an object without visiting it. *fresh: it was neither visited nor noted before. May be called from the visitor. */
CM_MUST_USE int cm_reach_note(cm_reach *reach, const cm_id *id, bool *fresh);
/* Whether it was visited or noted. */
bool cm_reach_has(const cm_reach *reach, const cm_id *id);

#endif
