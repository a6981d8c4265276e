/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lazy.h - a plan that is made while it is read.
 *
 * A variable whose references all stay within its own tree of pods ("closed") is linked with every pod in its place.
 * Parents say how long their children's streams are and how many objects they memoize, so where a byte comes from is found
 * by going down from the root, reading one pod per level. An external needs the place of its page, which the checkpoint's page
 * map gives, parent by parent.
 *
 * Lives in a cm_plan: instances are made when their parent is expanded, segments when they are. Not thread-safe: the link's
 * lock guards it.
 */
#ifndef CM_LAZY_H
#define CM_LAZY_H

#include "plan.h"

typedef struct cm_lazy_node {
    uint64_t offset, size;               /* of its stream */
    uint64_t memos;                      /* of it and all below it */
    size_t first_segment, segment_count; /* in the plan, when expanded */
    bool expanded;
} cm_lazy_node;

typedef struct cm_lazy {
    const cm_plan_source *source; /* borrowed */
    cm_plan *plan;                /* borrowed */
    cm_lazy_node *nodes;          /* by instance */
    size_t node_capacity;
} cm_lazy;

/* [blocks] `size`: of the whole stream, checked against the pods. The caller clears `lazy` and `plan` in any case. */
CM_MUST_USE int cm_lazy_open(const cm_plan_source *source, const cm_plan_root *root, uint64_t size, cm_plan *plan,
                             cm_lazy *lazy);
void cm_lazy_clear(cm_lazy *lazy);
/*
 * [blocks] The segment that holds the byte at `offset`, and where it ends; no CM_SEGMENT_CHILD. What is before `until` is wanted
 * next: it may be read too.
 */
CM_MUST_USE int cm_lazy_find(cm_lazy *lazy, uint64_t offset, uint64_t until, cm_segment *segment, uint64_t *end);
/* [blocks] Resolves the externals of a pod to patches. May expand other pods. */
CM_MUST_USE int cm_lazy_resolve(cm_lazy *lazy, uint32_t instance, const cm_pod_view *view);

#endif
