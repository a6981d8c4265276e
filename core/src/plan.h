/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - linking: where every byte of a linked stream comes from.
 *
 * A plan is made by going through the pods in the order in which the stream will be read, as a linker lays out sections.
 * Each pod occurs once; its memo indices begin at the number of objects memoized before it, and are shifted further by
 * what its children memoize. A second way to the same pod becomes a LONG_BINGET.
 *
 * The order in which a checkpoint was walked always works: references only go back. A partial load may meet a reference
 * to an object in a pod that is not linked yet; that pod is then linked right there, and popped:
 *
 *     ... j<object>                 becomes      ... <pod> 0 j<object>
 *
 * Rarely this runs into a pod that is under construction and has not memoized what is asked for. Then the pod asked for is
 * put in front of the stream (the prelude), and planning starts again; if that does not help, all variables are put in front,
 * in the order they were walked.
 *
 * If the pod is a fragment, what it belongs to may be far larger. So it adds its elements to an empty container, which is popped:
 *
 *     ... j<element>                becomes      ... ] <fragment> 0 j<element>
 *
 * Where the real container is needed too, its elements have to be those, and that only works the other way round: it is put in front.
 * When that happens too often, planning starts again with fragments only in what they belong to (CM_PLAN_WHOLE).
 */
#ifndef CM_PLAN_H
#define CM_PLAN_H

#include "ahead.h"
#include "checkpoint.h"
#include "have.h"
#include "pod.h"

typedef struct cm_plan_root {
    const char *name;
    cm_address address;
} cm_plan_root;

/* From local index `from` on, `shift` objects were memoized in between. */
typedef struct cm_shift {
    uint32_t from, shift;
} cm_shift;

typedef struct cm_patch {
    uint32_t position, memo;
} cm_patch;

typedef struct cm_instance { /* a pod in the stream */
    uint64_t page;
    cm_id pod;
    uint32_t memo_base, memo_count, root;
    uint32_t progress; /* while under construction: local indices below are memoized */
    uint8_t kind, state;
    bool alone; /* a fragment in a container that is popped */
    uint32_t shift_count, shift_capacity, patch_count, patch_capacity;
    cm_shift *shifts;
    cm_patch *patches;           /* externals: where, and the global index */
    struct cm_linked_body *body; /* link.c: its body, patched, while it is in memory */
} cm_instance;

typedef struct cm_plan_source {
    /* Fills the view of a pod; the body may be borrowed from `content`, which the caller frees after the view. */
    int (*fetch)(void *arg, const cm_id *pod, uint64_t page, cm_pod_view *view, cm_buffer *content);
    /* May be NULL. These will be fetched soon: the number, from the first, that need not be said again; at least 1. */
    size_t (*soon)(void *arg, const cm_id *pods, size_t count);
    int (*locate)(void *arg, uint64_t page, cm_page *out);
    /* Every variable in walking order, for the last resort; the caller frees *roots. */
    int (*all)(void *arg, struct cm_plan_root **roots, size_t *count);
    uint64_t
        most; /* pods there can be; 0: no bound is known. Hostile pods could name each other more often than memory holds */
    void *arg;
    const cm_have *have; /* may be NULL: what is not linked, but asked for */
    /* May be NULL. A pod is linked, its memo indices are final; may take over `content`, leaving it empty. */
    void (*linked)(void *arg, cm_instance *instance, const cm_pod_view *view, cm_buffer *content);
    /* With `linked`. Planning starts again: what was linked is about to be cleared. */
    void (*forget)(void *arg);
    void *linked_arg;
} cm_plan_source;

#define CM_NO_INSTANCE UINT32_MAX

enum cm_segment_kind {
    CM_SEGMENT_LITERAL,
    CM_SEGMENT_BODY,
    CM_SEGMENT_TREE,
    CM_SEGMENT_CHILD, /* of a lazy plan: all of another instance's stream */
};

typedef struct cm_segment {
    uint64_t offset; /* in the stream; it ends where the next begins */
    uint32_t kind;
    uint32_t instance; /* BODY, CHILD; TREE: index into trees */
    uint64_t from;     /* BODY: position; LITERAL: offset in literals */
} cm_segment;

typedef struct cm_tree_ref {
    cm_id root;
    uint64_t size;
    uint8_t kind; /* enum cm_buffer_kind */
} cm_tree_ref;

typedef struct cm_plan {
    cm_instance *instances;
    size_t instance_count, instance_capacity;
    uint32_t *slots; /* page -> instance + 1, open addressing */
    size_t slot_count;
    cm_segment *segments;
    size_t segment_count, segment_capacity;
    size_t sealed;      /* segments before this one do not grow: they belong to other pods of a lazy plan */
    cm_tree_ref *trees; /* in the stream */
    size_t tree_count, tree_capacity;
    cm_tree_ref *buffers; /* out of band */
    size_t buffer_count, buffer_capacity;
    cm_address_table asked; /* objects that the stream asks for, and their indices in its memo */
    struct cm_sink *sink;   /* planner.h; NULL: the outcome is the plan */
    cm_buffer literals;
    uint32_t *literal_gets; /* where LONG_BINGETs stand in them */
    size_t literal_get_count, literal_get_capacity;
    uint64_t size;
    uint32_t memo;
} cm_plan;

/* The pods of a stored checkpoint. What is left of `ahead` is the owner's to clear. */
typedef struct cm_pods {
    cm_checkpoint *checkpoint; /* borrowed */
    cm_ahead ahead;
} cm_pods;

/* [blocks] Borrows them. */
cm_plan_source cm_plan_source_of(cm_pods *pods);
/* Beside CM_LINK_*: fragments come with what they belong to. So were all planned before they could stand alone. */
enum { CM_PLAN_WHOLE = 1 << 8 };
/* [blocks] The plan is to be cleared also on failure. */
CM_MUST_USE int cm_plan_make(const cm_plan_source *source, const cm_plan_root *roots, size_t count, unsigned flags,
                             cm_plan *plan);
void cm_plan_clear(cm_plan *plan);
/* Roots in walking order, which is that of the ranks; reorders `variables`. The caller frees *roots. */
CM_MUST_USE int cm_roots_by_rank(const cm_variable **variables, size_t count, cm_plan_root **roots);
/* [blocks] Those of all variables of a checkpoint. */
CM_MUST_USE int cm_checkpoint_roots(cm_checkpoint *checkpoint, cm_plan_root **roots, size_t *count);
/* The instance at a page, or CM_NO_INSTANCE. */
uint32_t cm_plan_find(const cm_plan *plan, uint64_t page);
/* The index in the stream's memo of local `index` of an instance. */
uint32_t cm_plan_memo(const cm_instance *instance, uint32_t index);
/* What the stream of the plan is made of, as an id: equal for equal streams. */
CM_MUST_USE int cm_plan_content(const cm_plan *plan, const cm_plan_root *root, cm_id *id);
size_t cm_plan_memory(const cm_plan *plan);

/* ---- for the two planners: link_plan.c and link_lazy.c ---- */

/* `segments` grows; the segment follows the last one. */
CM_MUST_USE int cm_plan_add_literal(cm_plan *plan, const void *bytes, size_t size);
CM_MUST_USE int cm_plan_add_segment(cm_plan *plan, enum cm_segment_kind kind, uint32_t instance, uint64_t from,
                                    uint64_t size);
/* What a buffer event becomes: in the stream, or with CM_LINK_BUFFERS in `flags` out of band. */
CM_MUST_USE int cm_plan_add_buffer(cm_plan *plan, unsigned flags, const cm_event *event);
/* A new instance; its page must not be in the plan yet. */
CM_MUST_USE int cm_plan_add_instance(cm_plan *plan, const cm_instance *instance);
/* Takes the last one back; nothing may refer to it. */
void cm_plan_remove_last_instance(cm_plan *plan);
/* What was linked between two opcodes of an instance, before its local index `from`, memoized `count` objects. */
CM_MUST_USE int cm_plan_add_shift(cm_instance *instance, uint32_t from, uint32_t count);
CM_MUST_USE int cm_plan_add_patch(cm_instance *instance, uint32_t position, uint32_t memo);

#endif
