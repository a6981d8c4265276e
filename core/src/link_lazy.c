/* SPDX-License-Identifier: Apache-2.0 */
#include "lazy.h"

enum { UNRESOLVED, RESOLVED }; /* cm_instance.state in a lazy plan: its externals */
enum { FRAME_BEFORE = 2, FRAME_AFTER = 1, DEPTH_MOST = 1 << 20, SOON_MOST = 64 }; /* PROTO 5; STOP */

static int mismatch(uint64_t page)
{
    return cm_fail(EILSEQ, "damaged pods: the pod at page %016llx is not what its parent says",
                   (unsigned long long)page);
}

static int add_node(cm_lazy *lazy, const cm_instance *instance, const cm_lazy_node *node)
{
    size_t at = lazy->plan->instance_count;
    if (at == lazy->node_capacity) {
        size_t capacity = at ? at * 2 : 16;
        cm_lazy_node *nodes = realloc(lazy->nodes, capacity * sizeof *nodes);
        if (!nodes)
            return cm_fail(ENOMEM, "out of memory linking");
        lazy->nodes = nodes;
        lazy->node_capacity = capacity;
    }
    if (cm_plan_find(lazy->plan, instance->page) != CM_NO_INSTANCE)
        return cm_fail(EILSEQ, "damaged pods: two of them claim page %016llx", (unsigned long long)instance->page);
    int result = cm_plan_add_instance(lazy->plan, instance);
    if (!result)
        lazy->nodes[at] = *node;
    return result;
}

/* A child's instance, unread: where it is and what it memoizes follow from the parent alone. */
static int add_child(cm_lazy *lazy, uint32_t parent, const cm_event *event)
{
    cm_plan *plan = lazy->plan;
    const cm_instance *above = &plan->instances[parent];
    uint32_t shift = above->shift_count ? above->shifts[above->shift_count - 1].shift : 0;
    uint64_t base = (uint64_t)above->memo_base + event->memo + shift;
    if (base + event->memos > UINT32_MAX)
        return mismatch(above->page);
    cm_instance child = {
        .page = event->type == CM_EVENT_CHILD_AT ? event->page : cm_page_of_child(above->page, event->index),
        .pod = event->id,
        .memo_base = (uint32_t)base,
        .state = UNRESOLVED,
    };
    const cm_lazy_node node = {.offset = plan->size, .size = event->size, .memos = event->memos};
    uint32_t at = (uint32_t)plan->instance_count;
    int result = add_node(lazy, &child, &node);
    if (!result)
        result = cm_plan_add_segment(plan, CM_SEGMENT_CHILD, at, 0, event->size);
    if (!result)
        result = cm_plan_add_shift(&plan->instances[parent], event->memo, (uint32_t)event->memos);
    return result;
}

static int lay_out(cm_lazy *lazy, uint32_t index, const cm_pod_view *view)
{
    cm_plan *plan = lazy->plan;
    uint32_t position = 0;
    int result = 0;
    for (size_t i = 0; !result && i < view->event_count; i++) {
        const cm_event *event = &view->events[i];
        if (event->type == CM_EVENT_EXTERNAL)
            continue;
        result = cm_plan_add_segment(plan, CM_SEGMENT_BODY, index, position, event->position - position);
        position = event->position;
        if (!result && (event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT))
            result = add_child(lazy, index, event);
        else if (!result)
            result = cm_plan_add_buffer(plan, 0, event);
    }
    return result ? result : cm_plan_add_segment(plan, CM_SEGMENT_BODY, index, position, view->body_size - position);
}

/* Reads a pod and lays its stream out. Segments of one pod are consecutive; plan->size serves as their running offset. */
static int expand(cm_lazy *lazy, uint32_t index)
{
    if (lazy->nodes[index].expanded)
        return 0;
    cm_plan *plan = lazy->plan;
    cm_pod_view view = {0};
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    cm_instance *instance = &plan->instances[index];
    int result = lazy->source->fetch(lazy->source->arg, &instance->pod, instance->page, &view, &content);
    if (!result) {
        instance->memo_count = view.memo_count;
        instance->root = view.root;
        instance->kind = view.kind;
        size_t first = plan->segment_count;
        uint64_t whole = plan->size;
        plan->size = lazy->nodes[index].offset;
        plan->sealed = first;
        result = lay_out(lazy, index, &view);
        cm_lazy_node *node = &lazy->nodes[index];
        instance = &plan->instances[index]; /* both may have moved */
        uint32_t shift = instance->shift_count ? instance->shifts[instance->shift_count - 1].shift : 0;
        if (!result && (plan->size - node->offset != node->size || (uint64_t)view.memo_count + shift != node->memos))
            result = mismatch(instance->page);
        plan->size = whole;
        node->first_segment = first;
        node->segment_count = plan->segment_count - first;
        node->expanded = result == 0;
    }
    bool plain = true;
    for (size_t i = 0; i < view.event_count; i++)
        plain &= view.events[i].type != CM_EVENT_EXTERNAL;
    if (!result && plain && lazy->source->linked) {
        instance->state = RESOLVED;
        lazy->source->linked(lazy->source->linked_arg, instance, &view, &content);
    }
    cm_pod_view_clear(&view);
    return result;
}

int cm_lazy_open(const cm_plan_source *source, const cm_plan_root *root, uint64_t size, cm_plan *plan, cm_lazy *lazy)
{
    *plan = (cm_plan){0};
    *lazy = (cm_lazy){.source = source, .plan = plan};
    cm_pod_view view = {0};
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    int result = source->fetch(source->arg, &root->address.pod, root->address.page, &view, &content);
    uint64_t memos = view.memo_count;
    for (size_t i = 0; i < view.event_count; i++)
        if (view.events[i].type == CM_EVENT_CHILD || view.events[i].type == CM_EVENT_CHILD_AT)
            memos += view.events[i].memos; /* each below 2^32, and fewer than 2^30 of them */
    cm_pod_view_clear(&view);
    if (!result && (size <= FRAME_BEFORE + FRAME_AFTER || memos > UINT32_MAX))
        result = mismatch(root->address.page);
    if (result)
        return result;
    const cm_instance instance = {.page = root->address.page, .pod = root->address.pod, .state = UNRESOLVED};
    const cm_lazy_node node = {.offset = FRAME_BEFORE, .size = size - FRAME_BEFORE - FRAME_AFTER, .memos = memos};
    cm_buffer_append(&plan->literals, "\x80\x05.", FRAME_BEFORE + FRAME_AFTER);
    plan->size = size;
    result = add_node(lazy, &instance, &node);
    return result ? result : expand(lazy, 0);
}

void cm_lazy_clear(cm_lazy *lazy)
{
    free(lazy->nodes);
    *lazy = (cm_lazy){0};
}

/* The segment of an expanded node at an offset that lies in it. */
static const cm_segment *segment_in(const cm_plan *plan, const cm_lazy_node *node, uint64_t offset, uint64_t *end)
{
    size_t low = node->first_segment, last = node->first_segment + node->segment_count, high = last;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (plan->segments[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    *end = low + 1 < last ? plan->segments[low + 1].offset : node->offset + node->size;
    return &plan->segments[low];
}

/* Children that begin before `until` and have not been read yet, from segment `found` of the node on, are read together. */
static void announce(const cm_lazy *lazy, const cm_lazy_node *node, const cm_segment *found, uint64_t until)
{
    const cm_segment *last = lazy->plan->segments + node->first_segment + node->segment_count;
    cm_id ids[SOON_MOST];
    size_t count = 0;
    if (!lazy->source->soon || lazy->nodes[found->instance].expanded)
        return;
    for (const cm_segment *at = found; at < last && at->offset < until && count < SOON_MOST; at++)
        if (at->kind == CM_SEGMENT_CHILD && !lazy->nodes[at->instance].expanded)
            ids[count++] = lazy->plan->instances[at->instance].pod;
    if (count > 1)
        (void)lazy->source->soon(lazy->source->arg, ids, count);
}

int cm_lazy_find(cm_lazy *lazy, uint64_t offset, uint64_t until, cm_segment *segment, uint64_t *end)
{
    const cm_plan *plan = lazy->plan;
    if (offset < FRAME_BEFORE || offset >= plan->size - FRAME_AFTER) {
        bool before = offset < FRAME_BEFORE;
        *segment = (cm_segment){.offset = before ? 0 : plan->size - FRAME_AFTER,
                                .kind = CM_SEGMENT_LITERAL,
                                .from = before ? 0 : FRAME_BEFORE};
        *end = before ? FRAME_BEFORE : plan->size;
        return 0;
    }
    uint32_t at = 0;
    for (;;) {
        int result = expand(lazy, at);
        if (result)
            return result;
        const cm_segment *found = segment_in(plan, &lazy->nodes[at], offset, end);
        if (found->kind != CM_SEGMENT_CHILD) {
            *segment = *found;
            return 0;
        }
        announce(lazy, &lazy->nodes[at], found, until);
        at = found->instance;
    }
}

/* The instance at a page: expands what is above it, which the page map names parent by parent. */
static int instance_at(cm_lazy *lazy, uint64_t page, uint32_t *out)
{
    cm_cleanup(cm_buffer_free) cm_buffer path = CM_BUFFER_INIT; /* pages from the wanted one up, 8 bytes each */
    uint64_t up = page;
    for (unsigned depth = 0; cm_plan_find(lazy->plan, up) == CM_NO_INSTANCE; depth++) {
        cm_page where;
        int result = lazy->source->locate(lazy->source->arg, up, &where);
        if (result)
            return result;
        cm_buffer_u64(&path, up);
        up = where.parent;
        if (up == 0 || depth == DEPTH_MOST || path.error)
            return path.error ? cm_fail(ENOMEM, "out of memory linking") : mismatch(page);
    }
    while (path.size) {
        int result = expand(lazy, cm_plan_find(lazy->plan, up));
        if (result)
            return result;
        path.size -= sizeof up;
        cm_reader reader = cm_reader_of(path.data + path.size, sizeof up);
        up = cm_read_u64(&reader);
        if (cm_plan_find(lazy->plan, up) == CM_NO_INSTANCE)
            return mismatch(up);
    }
    *out = cm_plan_find(lazy->plan, page);
    return expand(lazy, *out);
}

int cm_lazy_resolve(cm_lazy *lazy, uint32_t index, const cm_pod_view *view)
{
    if (lazy->plan->instances[index].state == RESOLVED)
        return 0;
    for (size_t i = 0; i < view->event_count; i++) {
        const cm_event *event = &view->events[i];
        if (event->type != CM_EVENT_EXTERNAL)
            continue;
        uint32_t found = CM_NO_INSTANCE;
        int result = instance_at(lazy, event->page, &found);
        if (result)
            return result;
        const cm_instance *target = &lazy->plan->instances[found];
        uint32_t object = event->index == CM_INDEX_ROOT ? target->root : event->index;
        if (object >= target->memo_count)
            return mismatch(target->page);
        result = cm_plan_add_patch(&lazy->plan->instances[index], event->position, cm_plan_memo(target, object));
        if (result)
            return result;
    }
    lazy->plan->instances[index].state = RESOLVED;
    return 0;
}
