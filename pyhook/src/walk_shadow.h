/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_shadow.h - what a walk leaves behind for the next one, so that what did not change is not walked again.
 *
 * Every pod leaves a shade: a note of which objects went into it and what each of them held on to. When the next walk comes to an
 * object that had a pod, it compares memory with the notes of that pod and all below it, and where nothing differs uses the pods
 * again. An object is the same if
 *
 *   - it is at the same address, where a container or variable that is the same refers to it, and of the same type;
 *   - its parts are: the element pointers of lists, tuples, sets; the version of a dict (PEP 509), where Python has it, else keys
 *     and values; the type, and the dict, of an instance whose reduction is known to be just that;
 *   - its immutable parts are the very objects they were: the shade owns a reference to each small immutable value that a list,
 *     tuple or set holds, so that no other can have come to its address. To nothing else: no object outlives its use for it.
 *
 * Addresses may be used again by other containers. That does no harm: where all addresses, types and parts are as they were, the
 * graph is isomorphic to the one that was walked, and so are the pods' bytes.
 *
 * References to objects of other pods are the same if these objects are still at the same address of the virtual memo space in
 * this walk. An object that another pod has come to hold before this one, in the order of the walk, is no longer this one's:
 * its shade is marked as robbed.
 *
 * What goes through a reducer is opaque: its pods, and those around them, are walked each time.
 */
#ifndef CM_WALK_SHADOW_H
#define CM_WALK_SHADOW_H

#include "walk.h"

#include <stdbool.h>

typedef struct cm_shade cm_shade;

struct cm_shade {
    PyObject *object; /* that has the pod, not owned; NULL: a fragment */
    cm_kept *kept;    /* NULL until the save that made the pod is on disk, and if the pod cannot be used again */
    cm_pod *pod;      /* in the walk in progress */
    cm_shade *parent, *first, *last, *next; /* pods below it, in their order */
    PyObject *description;                  /* owned; of a variable that has no references out of it, else NULL */
    cm_shade *old; /* what it replaces, while it is built; of a container, then the next fragment to try */
    /* Notes, see walk_shadow.c, and behind them, of a fragment, its elements; of a dict, keys and values by turns. Once it is closed. */
    uint32_t *trace;
    uint64_t page, hash;
    uint64_t digest;     /* of its pod, if it is that of an array: see cm_pod_digest */
    uint64_t cursor;     /* while it is compared: where its next fragment begins */
    uint64_t begin, end; /* of a fragment: where it was found when `placed` */
    uint32_t trace_count, run_count;
    uint32_t trace_begin, run_begin; /* until it is closed: in walk->notes and walk->runs */
    uint32_t number;                 /* of its place in the shadow */
    uint32_t ordinal;                /* among the pods below its parent */
    uint32_t children;
    uint32_t splices; /* pods and buffers below it */
    uint32_t context; /* that decides on the pods below it */
    uint32_t root;    /* memo index of `object`, or CM_INDEX_ROOT */
    uint32_t externals;
    uint32_t seen;    /* generation of the last walk that it is part of */
    uint32_t robbed;  /* ... in which another pod has taken one of its objects */
    uint32_t failed;  /* ... in which it was found to differ */
    uint32_t checked; /* ... in which its own notes were compared, with the result `same` */
    uint32_t placed;  /* ... in which it, a fragment, was found at `begin` */
    uint32_t idle;    /* ... in which it was used again unseen */
    uint32_t awake;   /* ... in which something of the group that it leads was touched */
    uint32_t group;   /* of a variable's root: number of the leader of its group, or of one on the way there */
    uint32_t linked;  /* number of the root that was linked to its group last, in the walk `linked_in` */
    uint32_t linked_in;
    uint8_t run_kind; /* of a fragment: enum cm_frame_kind */
    bool same, opaque, dead;
    bool covers; /* of a container, while it is compared: the elements of its fragments are known to be the same */
    bool ended;  /* of a fragment: by the policy, not because there were no more elements */
};

/* The shade that follows in the walk, below `top`; NULL: none. */
cm_shade *cm_shade_following(const cm_shade *shade, const cm_shade *top);

enum { CM_SHADE_SLAB = 256 };

/* Where an object is. */
typedef struct cm_memo_entry {
    PyObject *object; /* not owned; NULL: nowhere */
    uint32_t shade;   /* its number */
    uint32_t index;
} cm_memo_entry;

/* Address -> where the object is (walk_memo.c). No deletions; entries of dead shades are left out when there is need for room. */
typedef struct cm_memo_slot {
    uint64_t key;
    struct cm_memo_page *page; /* NULL: free */
} cm_memo_slot;

typedef struct cm_memo {
    cm_memo_slot *slots; /* mask + 1 of them, if there is a table */
    size_t mask, page_count;
    uint64_t bytes;   /* of all this */
    uint64_t trimmed; /* ... when last something was left out */
} cm_memo;

/* Address -> record, open addressing; the record begins with the address. */
typedef struct cm_table {
    void **slots;
    size_t count, mask;
} cm_table;

/* A class whose instances notes are about. */
typedef struct cm_noted_class {
    const PyTypeObject *type; /* not owned */
    uint64_t hash;            /* of its name, or 0 */
    uint32_t number;
} cm_noted_class;

enum { CM_REGIONS = 256 };

/* Memory that a variable sees. */
typedef struct cm_extent {
    uint64_t low, high;        /* behind it */
    uint32_t root, generation; /* number of the variable's shade; last walk that it was part of */
} cm_extent;

struct cm_shadow {
    enum cm_policy policy;
    cm_memo memo;
    uint64_t regions[CM_REGIONS];  /* where the regions begin that notes refer to; the first one is for no address */
    uint32_t region_count, region; /* given; the last one that was noted */
    cm_noted_class **classes;      /* by their numbers, each owned */
    size_t class_count, class_capacity;
    cm_table class_table; /* by their types, the latest of each */
    cm_shade **slabs;
    size_t slab_count, slab_capacity;
    uint32_t shade_count; /* numbers given */
    uint32_t *spare;      /* numbers of dead shades that no entry of the memo has any more */
    size_t spare_count, spare_capacity;
    size_t dead_count; /* dead shades that are not spare */
    uint32_t generation;
    uint64_t epoch;                  /* of the store, that its pods were saved to */
    PyObject *names;                 /* dict: variable -> number of its shade */
    uint64_t reused, walked, memory; /* of the last walk: pods; bytes of all this */
    uint64_t noted;                  /* ... of which notes */
    uint64_t limit;                  /* of `memory`; 0: none */
    bool filtered;                   /* what was touched is known: see walk_idle.c */
    PyObject *touched;               /* set of names; NULL: everything may have been */
    cm_extent *extents;              /* of a filtered one */
    size_t extent_count, extent_capacity;
    PyObject *lost;    /* set of names of variables that could not be saved: what they share is not known */
    PyObject *aliases; /* dict: variable that is an object of another one -> address of the object */
};

static inline cm_shade *cm_shade_at(const cm_shadow *shadow, uint32_t number)
{
    return &shadow->slabs[number / CM_SHADE_SLAB][number % CM_SHADE_SLAB];
}

/* Numbers of dead shades may be given again: they are not in the memo any more. -1: out of memory. */
int cm_shades_spare(cm_shadow *shadow);

#endif
