/* SPDX-License-Identifier: Apache-2.0 */
/* kept.c - pods that are used again in a later save, without their objects being looked at. */
#include "save_internal.h"

struct cm_kept {
    cm_id id;
    uint64_t page;   /* as in the last save that used it */
    uint64_t stored; /* of its record and its buffers */
    uint64_t tree_size, tree_pods, tree_memos;
    cm_event *events;
    size_t event_count;
    uint32_t root, memo_count, body_size;
    uint8_t kind, tail;
};

static bool is_child(const cm_event *event)
{
    return event->type == CM_EVENT_CHILD;
}

cm_kept *cm_pod_keep(cm_pod *pod)
{
    if (pod->kept || pod->page_given || !atomic_load_explicit(&pod->done, memory_order_acquire))
        return NULL;
    for (size_t i = 0; i < pod->event_count; i++)
        if (pod->events[i].type == CM_EVENT_CHILD_AT)
            return NULL;
    cm_kept *kept = malloc(sizeof *kept);
    if (!kept)
        return NULL;
    *kept = (cm_kept){.id = pod->id,
                      .page = pod->page,
                      .stored = cm_pod_stored(pod),
                      .tree_size = pod->tree_size,
                      .tree_pods = pod->tree_pods,
                      .tree_memos = pod->tree_memos,
                      .events = pod->events,
                      .event_count = pod->event_count,
                      .root = pod->root,
                      .memo_count = pod->body.memo_count,
                      .body_size = pod->body_size,
                      .kind = pod->kind,
                      .tail = pod->tail};
    for (size_t i = 0; i < kept->event_count; i++)
        kept->events[i].pod = NULL; /* of this save */
    pod->kept = kept;               /* its events are lent from now on */
    return kept;
}

void cm_kept_free(cm_kept *kept)
{
    if (!kept)
        return;
    free(kept->events);
    free(kept);
}

cm_pod *cm_save_pod_again(cm_save *save, cm_pod *parent, cm_kept *kept)
{
    cm_pod *pod = cm_save_pod_new(save, parent, (enum cm_pod_kind)kept->kind);
    if (!pod)
        return NULL;
    pod->kept = kept;
    pod->id = kept->id;
    pod->events = kept->events;
    pod->event_count = kept->event_count;
    pod->root = kept->root;
    pod->body.memo_count = kept->memo_count;
    pod->body_size = kept->body_size;
    pod->tail = kept->tail;
    pod->tree_size = kept->tree_size;
    pod->tree_pods = kept->tree_pods;
    pod->tree_memos = kept->tree_memos;
    atomic_init(&pod->stored, kept->stored);
    if (pod->page != kept->page) { /* it moved, and those below it with it */
        for (size_t i = 0; i < kept->event_count; i++)
            if (is_child(&kept->events[i]))
                kept->events[i].page = cm_page_of_child(pod->page, kept->events[i].index);
        kept->page = pod->page;
    }
    return pod;
}

int cm_save_pod_again_end(cm_save *save, cm_pod *pod)
{
    for (size_t i = 0; i < pod->event_count; i++) {
        const cm_event *event = &pod->events[i];
        if (!is_child(event) && event->type != CM_EVENT_EXTERNAL)
            continue;
        cm_pod *target = cm_save_page_find(save, event->page);
        if (!target || (is_child(event) && target->parent != pod))
            return cm_fail(EINVAL, "a pod that is used again refers to a page that this save does not have");
        uint32_t lowest = is_child(event) ? target->lowest_target : target->sequence;
        if (!is_child(event))
            target->exported = true;
        if (lowest < pod->lowest_target)
            pod->lowest_target = lowest;
    }
    pod->finished = true;
    atomic_store_explicit(&pod->done, true, memory_order_release);
    return 0;
}

uint64_t cm_pod_page(const cm_pod *pod)
{
    return pod->page;
}

uint64_t cm_pod_next_page(const cm_pod *parent)
{
    return cm_page_of_child(parent->page, parent->children_made);
}
