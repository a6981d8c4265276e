/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod.h - the pod as stored: a relocatable piece of pickle. docs/FORMAT.md describes the bytes.
 *
 * A body is cut at its events. Events stand at byte positions of the body, in order; several may stand at one position.
 */
#ifndef CM_POD_H
#define CM_POD_H

#include "buffer.h"

#include <chipmink/save.h>

struct cm_store;

enum cm_event_type {
    CM_EVENT_BUFFER = 0,   /* + enum cm_buffer_kind, 0..4: bytes kept out of the body are pushed here */
    CM_EVENT_CHILD = 8,    /* a child is spliced in here; its page is derived from this pod's */
    CM_EVENT_CHILD_AT = 9, /* the same with its page given */
    CM_EVENT_EXTERNAL = 10 /* the LONG_BINGET that stands here gets an object of another pod */
};

typedef struct cm_event {
    uint32_t position; /* in the body */
    uint32_t memo;     /* objects memoized in the body before it */
    uint8_t type;
    uint32_t index; /* EXTERNAL: in the other pod, or CM_INDEX_ROOT. CHILD: ordinal among the pod's children */
    uint64_t page;  /* EXTERNAL, CHILD_AT */
    uint64_t size;  /* BUFFER: bytes. CHILD: of the plain stream of it and all below it, each linked in its place */
    uint64_t memos; /* CHILD: objects memoized by it and all below it */
    cm_id id;       /* CHILD: pod; BUFFER: root of its tree */
    bool stored;    /* while building, BUFFER: it is in the store already, id is set */
    cm_pod *pod;    /* while building: the child or external target */
} cm_event;

typedef struct cm_pod_view {
    uint8_t kind;  /* enum cm_pod_kind */
    uint32_t root; /* CM_INDEX_ROOT: not memoized */
    uint32_t memo_count;
    cm_event *events; /* owned */
    size_t event_count;
    uint32_t
        *gets; /* owned: positions of the opcode of each local LONG_BINGET, ascending; its operand is the local index */
    size_t get_count;
    const uint8_t *body; /* borrowed */
    size_t body_size;
    uint8_t
        tail; /* the body's last byte, which of a fragment is the opcode that adds to its container; 0: it is empty */
} cm_pod_view;

enum { CM_OP_LONG_BINGET = 'j', CM_GET_SIZE = 5 };

/* Replaces `content`. */
CM_MUST_USE int cm_pod_encode(const cm_pod_view *view, cm_buffer *content);
/* The view borrows `content`; clear it in any case. -EILSEQ: refused; everything a view states has been checked. */
CM_MUST_USE int cm_pod_decode(const void *content, size_t size, cm_pod_view *view);
void cm_pod_view_clear(cm_pod_view *view);

enum { CM_PAGE_NONE = 0 };

/* Pages: addresses in the virtual memo space, derived from names and places, so that equal programs give equal pages. */
uint64_t cm_page_of_edit(const char *name, uint64_t number);

/* Bytes a buffer takes in a plain stream: opcode, eight bytes of length, data. */
static inline uint64_t cm_buffer_stream_size(uint64_t size)
{
    return 9 + size;
}

#endif
