/* SPDX-License-Identifier: Apache-2.0 */
/*
 * planner.h - going through pods in the order of the stream; what link_plan.c and link_stream.c share.
 *
 * Usually the outcome is the plan's segments. With a sink it is the stream itself, piece by piece: in walking order all references
 * go back, so what has been linked is final.
 */
#ifndef CM_PLANNER_H
#define CM_PLANNER_H

#include "plan.h"

enum { CM_PLAN_NEW, CM_PLAN_BUILDING, CM_PLAN_DONE }; /* cm_instance.state */
enum { CM_PLAN_CONFLICT = 1 };                        /* internal result, never returned to callers */

typedef struct cm_frame {
    uint32_t instance;
    uint32_t memo_at_start;
    size_t event;      /* the next one */
    size_t announced;  /* children before this event were said to come soon */
    uint32_t position; /* of the body, up to where it is in the stream */
    uint32_t patch;    /* for a sink: patches and gets before these are in the stream */
    size_t get;
    bool popped; /* not in its place: linked for an external, and popped */
    cm_pod_view view;
    cm_buffer content;
} cm_frame;

enum { CM_ABOVE_MOST = 16 };

typedef struct cm_planner {
    const cm_plan_source *source;
    cm_plan *plan;
    unsigned flags;
    cm_frame *frames;
    size_t frame_count, frame_capacity;
    uint64_t *prelude; /* pages */
    size_t prelude_count;
    uint64_t culprit; /* after CONFLICT: the page to put in front */
    bool has_culprit;
    bool whole;                    /* no fragment is linked alone */
    uint64_t above[CM_ABOVE_MOST]; /* pages above the fragment looked at last, from its container on */
    size_t above_count;
} cm_planner;

typedef struct cm_sink {
    cm_buffer out;
    cm_tree_ref tree; /* while has_tree: to be appended before anything else */
    uint64_t tree_done;
    bool has_tree;
} cm_sink;

CM_MUST_USE int cm_sink_bytes(cm_plan *plan, const void *bytes, size_t size);
CM_MUST_USE int cm_sink_tree(cm_plan *plan, uint32_t tree, uint64_t size);
/* The body of the frame's pod from where it is up to `position`. */
CM_MUST_USE int cm_sink_body(cm_plan *plan, cm_frame *frame, uint32_t position);

/* Says which pods the roots begin with, as far as that has not been done; *announced: how many of them. */
void cm_planner_announce(const cm_planner *p, const cm_plan_root *roots, size_t count, size_t *announced);
/* Begins with the object at an address if it is a pod's own value that is not in the stream yet; *begun says so. */
CM_MUST_USE int cm_planner_begin(cm_planner *p, const cm_address *address, bool *begun);
/* Begins with the pod that an address lies in, out of its place, so that its objects are memoized; unless it is linked. */
CM_MUST_USE int cm_planner_aside(cm_planner *p, const cm_address *address);
/* One step with the frame on top. */
CM_MUST_USE int cm_planner_step(cm_planner *p);
/* All of a root. */
CM_MUST_USE int cm_planner_root(cm_planner *p, const cm_address *address);
CM_MUST_USE int cm_planner_name(cm_plan *plan, const char *name);
void cm_planner_drop_frames(cm_planner *p);

/* [blocks] Whether the program has what is at this page: it is not linked. */
CM_MUST_USE int cm_planner_has(const cm_planner *p, uint64_t page, bool *has);
/* Asks for an object that it has, once, and pushes it; `popped`: it is only put into the memo. *memo: where it is. */
CM_MUST_USE int cm_planner_ask(cm_planner *p, uint64_t page, uint32_t index, bool popped, uint32_t *memo);
/* Asks for what adds the elements of a fragment that it has to the container on top of the stack, and calls it. */
CM_MUST_USE int cm_planner_ask_run(cm_planner *p, uint64_t page);

CM_MUST_USE int cm_plan_add_get(cm_plan *plan, uint32_t memo);
int cm_plan_no_memory(void);

#endif
