/* SPDX-License-Identifier: Apache-2.0 */
#include "planner.h"

enum { PRELUDE_MOST = 64, ALONE_CONFLICTS_MOST = 8, FRAGMENT_DEPTH_MOST = 64, SOON_MOST = 64, SCAN_MOST = 1024 };

static int push(cm_planner *p, const cm_id *pod, uint64_t page, bool popped)
{
    cm_plan *plan = p->plan;
    if (!cm_grow(&p->frames, p->frame_count, &p->frame_capacity, sizeof *p->frames))
        return cm_plan_no_memory();
    cm_frame *f = &p->frames[p->frame_count];
    *f = (cm_frame){.instance = (uint32_t)plan->instance_count, .memo_at_start = plan->memo, .popped = popped};
    int result = p->source->fetch(p->source->arg, pod, page, &f->view, &f->content);
    if (result) {
        cm_pod_view_clear(&f->view);
        cm_buffer_free(&f->content);
        return result;
    }
    p->frame_count++;
    if (p->source->most && plan->instance_count >= p->source->most)
        return cm_fail(EILSEQ, "damaged pods: more of them than the checkpoint has");
    if (f->view.memo_count > UINT32_MAX - 1 - plan->memo)
        return cm_fail(EOVERFLOW, "the linked stream would memoize more than 2^32 objects");
    const cm_instance instance = {.page = page,
                                  .pod = *pod,
                                  .memo_base = plan->memo,
                                  .memo_count = f->view.memo_count,
                                  .root = f->view.root,
                                  .kind = f->view.kind,
                                  .state = CM_PLAN_BUILDING};
    return cm_plan_add_instance(plan, &instance);
}

/* The body up to an event, or its end, goes into the stream. */
static int advance(cm_planner *p, cm_frame *f, uint32_t position, uint32_t memo)
{
    cm_instance *instance = &p->plan->instances[f->instance];
    int result = p->plan->sink
                     ? cm_sink_body(p->plan, f, position)
                     : cm_plan_add_segment(p->plan, CM_SEGMENT_BODY, f->instance, f->position, position - f->position);
    p->plan->memo += memo - instance->progress;
    instance->progress = memo;
    f->position = position;
    return result;
}

/* The outermost pod below which the pods under construction are not in walking order can go first. */
static int conflict(cm_planner *p)
{
    p->has_culprit = false;
    for (size_t i = p->frame_count; i-- > 0 && !p->has_culprit;)
        if (p->frames[i].popped) {
            p->culprit = p->plan->instances[p->frames[i].instance].page;
            p->has_culprit = true;
        }
    return CM_PLAN_CONFLICT;
}

/* A fragment that stands alone is wanted in its place: that has to come first, with all that is around it. */
static int conflict_alone(cm_planner *p)
{
    int result = conflict(p);
    if (!p->has_culprit &&
        p->frame_count) { /* in a root: the page map has what is above a fragment that is referred to */
        p->culprit = p->plan->instances[p->frames[0].instance].page;
        p->has_culprit = true;
    }
    return result;
}

/* Is local `index` of an instance memoized by now? */
static bool available(const cm_instance *instance, uint32_t index)
{
    return index < (instance->state == CM_PLAN_DONE ? instance->memo_count : instance->progress);
}

static int bad_reference(const cm_instance *instance, uint32_t index)
{
    return cm_fail(EILSEQ, "damaged pods: a reference to object %u of page %016llx, which has %u", index,
                   (unsigned long long)instance->page, instance->memo_count);
}

static bool is_child(const cm_event *event)
{
    return event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT;
}

static uint64_t page_of_child(const cm_planner *p, const cm_frame *f, const cm_event *event)
{
    return event->type == CM_EVENT_CHILD_AT ? event->page
                                            : cm_page_of_child(p->plan->instances[f->instance].page, event->index);
}

static bool begins_what_is_had(const cm_planner *p, uint64_t page, bool *fragment)
{
    return p->source->have && cm_have_begins(p->source->have, page, fragment);
}

/* Says which children come soon, from the one at the next event on. */
static void announce_children(const cm_planner *p, cm_frame *f)
{
    if (!p->source->soon || f->event < f->announced)
        return;
    cm_id ids[SOON_MOST];
    size_t events[SOON_MOST], count = 0;
    for (size_t i = f->event; i < f->view.event_count && i - f->event < SCAN_MOST && count < SOON_MOST; i++) {
        const cm_event *event = &f->view.events[i];
        if (is_child(event) && !begins_what_is_had(p, page_of_child(p, f, event), NULL)) {
            events[count] = i;
            ids[count++] = event->id;
        }
    }
    size_t said = count > 1 ? p->source->soon(p->source->arg, ids, count) : count;
    f->announced = said < count ? events[said] : events[count - 1] + 1;
}

void cm_planner_announce(const cm_planner *p, const cm_plan_root *roots, size_t count, size_t *announced)
{
    cm_id ids[SOON_MOST];
    size_t some = count - *announced < SOON_MOST ? count - *announced : SOON_MOST;
    for (size_t i = 0; i < some; i++)
        ids[i] = roots[*announced + i].address.pod;
    *announced += p->source->soon && some > 1 ? p->source->soon(p->source->arg, ids, some) : some;
}

static int on_child(cm_planner *p, cm_frame *f, const cm_event *event)
{
    uint64_t page = page_of_child(p, f, event);
    uint32_t found = cm_plan_find(p->plan, page), memo;
    bool fragment;
    if (found == CM_NO_INSTANCE && begins_what_is_had(p, page, &fragment)) {
        f->event++;
        return fragment ? cm_planner_ask_run(p, page) : cm_planner_ask(p, page, CM_INDEX_ROOT, false, &memo);
    }
    if (found == CM_NO_INSTANCE)
        announce_children(p, f);
    f->event++;
    if (found == CM_NO_INSTANCE)
        return push(p, &event->id, page, false);
    const cm_instance *child = &p->plan->instances[found];
    if (!cm_id_equal(&child->pod, &event->id) || (child->kind == CM_POD_FRAGMENT && !child->alone))
        return cm_fail(EILSEQ, "damaged pods: two of them claim page %016llx", (unsigned long long)page);
    if (child->alone)
        return conflict_alone(p);
    if (child->root == CM_INDEX_ROOT || !available(child, child->root))
        return conflict(p); /* a tuple within itself has no object of its own to get */
    return cm_plan_add_get(p->plan, cm_plan_memo(child, child->root));
}

/* Undoes a push of which nothing is in the stream yet. */
static void unpush(cm_planner *p)
{
    cm_frame *f = &p->frames[--p->frame_count];
    cm_pod_view_clear(&f->view);
    cm_buffer_free(&f->content);
    cm_plan_remove_last_instance(p->plan);
}

/* Begins with a pod out of its place, as the page map has it. */
static int push_apart(cm_planner *p, const cm_page *where, uint64_t page)
{
    int result = push(p, &where->pod, page, true);
    if (!result && p->frames[p->frame_count - 1].view.kind != where->kind)
        result =
            cm_fail(EILSEQ, "damaged page map: of another kind than the pod at page %016llx", (unsigned long long)page);
    return result;
}

/* The opcode of an empty container that a fragment can add to; NULL: its body does not end by adding. */
static const char *empty_for(const cm_pod_view *fragment)
{
    enum { APPENDS = 'e', SETITEMS = 'u', ADDITEMS = 0x90 };
    switch (fragment->tail) {
    case APPENDS:
        return "]"; /* EMPTY_LIST */
    case SETITEMS:
        return "}"; /* EMPTY_DICT */
    case ADDITEMS:
        return "\x8f"; /* EMPTY_SET */
    default:
        return NULL;
    }
}

/* What a pod with this parent is spliced into, from that outwards. */
static int look_above(cm_planner *p, uint64_t parent)
{
    int result = 0;
    if (p->above_count && p->above[0] == parent)
        return 0;
    p->above_count = 0;
    for (cm_page at = {.parent = parent}; at.parent != CM_PAGE_NONE && p->above_count < CM_ABOVE_MOST && !result;) {
        p->above[p->above_count++] = at.parent;
        result = p->source->locate(p->source->arg, at.parent, &at);
    }
    return result;
}

/* The outermost of what is above a pod that it refers to; if there is none, CM_PAGE_NONE. */
static uint64_t refers_above(const cm_planner *p, const cm_pod_view *view)
{
    for (size_t i = p->above_count; i-- > 0;)
        for (size_t k = 0; k < view->event_count; k++)
            if (view->events[k].type == CM_EVENT_EXTERNAL && view->events[k].page == p->above[i])
                return p->above[i];
    return CM_PAGE_NONE;
}

/* Begins with a fragment in a container of its own, unless it needs more: *next is that page, or CM_PAGE_NONE. */
static int push_alone(cm_planner *p, const cm_page *where, uint64_t page, uint64_t *next)
{
    int result = look_above(p, where->parent);
    for (size_t i = 0; !result && i < p->above_count; i++)
        if (cm_plan_find(p->plan, p->above[i]) != CM_NO_INSTANCE)
            return conflict_alone(p); /* under construction, and has not come to the fragment yet */
    if (!result)
        result = push_apart(p, where, page);
    if (result)
        return result;
    const cm_frame *f = &p->frames[p->frame_count - 1];
    const char *empty = empty_for(&f->view);
    *next = empty ? refers_above(p, &f->view) : where->parent;
    if (*next != CM_PAGE_NONE) {
        unpush(p);
        return 0;
    }
    p->plan->instances[f->instance].alone = true;
    return cm_plan_add_literal(p->plan, empty, 1);
}

/* Links the pod at a page out of its place and pops it; of a fragment, more than that if it cannot stand alone. */
static int push_page(cm_planner *p, uint64_t page)
{
    int result = 0;
    for (unsigned depth = 0; !result && page != CM_PAGE_NONE; depth++) {
        cm_page where;
        result = p->source->locate(p->source->arg, page, &where);
        if (result || where.kind != CM_POD_FRAGMENT)
            return result ? result : push_apart(p, &where, page);
        if (where.parent == CM_PAGE_NONE || depth > FRAGMENT_DEPTH_MOST)
            return cm_fail(EILSEQ, "damaged page map: a fragment of nothing");
        if (!p->whole)
            result = push_alone(p, &where, page, &page);
        else if (cm_plan_find(p->plan, page = where.parent) != CM_NO_INSTANCE)
            result = conflict(p); /* under construction, and has not come to the fragment yet */
    }
    return result;
}

static int on_external(cm_planner *p, cm_frame *f, const cm_event *event)
{
    uint32_t found = cm_plan_find(p->plan, event->page), memo;
    bool has = false;
    int result = found == CM_NO_INSTANCE ? cm_planner_has(p, event->page, &has) : 0;
    if (!result && has)
        result = cm_planner_ask(p, event->page, event->index, true, &memo);
    if (!result && has) {
        f->event++;
        return cm_plan_add_patch(&p->plan->instances[f->instance], event->position, memo);
    }
    if (result || found == CM_NO_INSTANCE)
        return result ? result : push_page(p, event->page); /* this event comes again when that is done */
    const cm_instance *target = &p->plan->instances[found];
    uint32_t index = event->index == CM_INDEX_ROOT ? target->root : event->index;
    if (index >= target->memo_count)
        return bad_reference(target, index);
    if (!available(target, index))
        return conflict(p);
    f->event++;
    return cm_plan_add_patch(&p->plan->instances[f->instance], event->position, cm_plan_memo(target, index));
}

static int pop(cm_planner *p)
{
    cm_frame *f = &p->frames[p->frame_count - 1];
    cm_instance *instance = &p->plan->instances[f->instance];
    int result = advance(p, f, (uint32_t)f->view.body_size, instance->memo_count);
    uint32_t memoized = p->plan->memo - f->memo_at_start;
    bool popped = f->popped;
    instance->state = CM_PLAN_DONE;
    if (!result && p->source->linked)
        p->source->linked(p->source->linked_arg, instance, &f->view, &f->content);
    cm_pod_view_clear(&f->view);
    cm_buffer_free(&f->content);
    p->frame_count--;
    if (!result && popped)
        result = cm_plan_add_literal(p->plan, "0", 1); /* POP */
    if (!result && p->frame_count) {
        cm_frame *above = &p->frames[p->frame_count - 1];
        cm_instance *parent = &p->plan->instances[above->instance];
        result = cm_plan_add_shift(parent, parent->progress, memoized);
    }
    return result;
}

int cm_planner_step(cm_planner *p)
{
    cm_frame *f = &p->frames[p->frame_count - 1];
    if (f->event == f->view.event_count)
        return pop(p);
    const cm_event *event = &f->view.events[f->event];
    int result = advance(p, f, event->position, event->memo);
    if (result)
        return result;
    if (event->type == CM_EVENT_EXTERNAL)
        return on_external(p, f, event);
    if (is_child(event))
        return on_child(p, f, event);
    f->event++;
    return cm_plan_add_buffer(p->plan, p->flags, event);
}

static int run(cm_planner *p)
{
    int result = 0;
    while (!result && p->frame_count)
        result = cm_planner_step(p);
    return result;
}

/* ---- roots ------------------------------------------------------------------------------------------------------- */

int cm_planner_begin(cm_planner *p, const cm_address *address, bool *begun)
{
    *begun = false;
    if (cm_plan_find(p->plan, address->page) != CM_NO_INSTANCE)
        return 0;
    bool has;
    size_t at = p->plan->instance_count;
    int result = cm_planner_has(p, address->page, &has);
    if (result || has)
        return result;
    result = push(p, &address->pod, address->page, false);
    if (result)
        return result;
    const cm_instance *instance = &p->plan->instances[at];
    *begun = instance->kind == CM_POD_OBJECT && (address->index == CM_INDEX_ROOT || address->index == instance->root);
    if (!*begun)
        unpush(p);
    return 0;
}

int cm_planner_aside(cm_planner *p, const cm_address *address)
{
    if (cm_plan_find(p->plan, address->page) != CM_NO_INSTANCE)
        return 0;
    bool has;
    size_t at = p->plan->instance_count;
    int result = cm_planner_has(p, address->page, &has);
    if (result || has)
        return result;
    result = push(p, &address->pod, address->page, true);
    if (!result && p->plan->instances[at].kind == CM_POD_FRAGMENT) {
        unpush(p);
        result = push_page(p, address->page);
    }
    return result;
}

int cm_planner_root(cm_planner *p, const cm_address *address)
{
    bool begun, has;
    uint32_t memo;
    int result = cm_planner_begin(p, address, &begun);
    if (result || begun)
        return result ? result : run(p);
    result = cm_planner_has(p, address->page, &has);
    if (result || has)
        return result ? result : cm_planner_ask(p, address->page, address->index, false, &memo);
    result = cm_planner_aside(p, address);
    if (!result)
        result = run(p);
    if (result)
        return result;
    uint32_t found = cm_plan_find(p->plan, address->page);
    if (found == CM_NO_INSTANCE)
        return cm_fail(EILSEQ, "damaged pods: page %016llx is not where the page map says",
                       (unsigned long long)address->page);
    const cm_instance *instance = &p->plan->instances[found];
    uint32_t index = address->index == CM_INDEX_ROOT ? instance->root : address->index;
    if (index >= instance->memo_count)
        return bad_reference(instance, index);
    return cm_plan_add_get(p->plan, cm_plan_memo(instance, index));
}

int cm_planner_name(cm_plan *plan, const char *name)
{
    size_t size = strlen(name);
    uint8_t head[5] = {'X'}; /* BINUNICODE */
    for (int i = 0; i < 4; i++)
        head[1 + i] = (uint8_t)(size >> (8 * i));
    int result = cm_plan_add_literal(plan, head, sizeof head);
    return result ? result : cm_plan_add_literal(plan, name, size);
}

static int attempt(cm_planner *p, const cm_plan_root *roots, size_t count, const cm_plan_root *front,
                   size_t front_count)
{
    int result = cm_plan_add_literal(p->plan, "\x80\x05", 2); /* PROTO 5 */
    for (size_t i = 0; !result && i < front_count; i++) {
        bool has;
        result = cm_planner_has(p, front[i].address.page, &has);
        if (result || has)
            continue;
        result = cm_planner_root(p, &front[i].address);
        if (!result)
            result = cm_plan_add_literal(p->plan, "0", 1);
    }
    for (size_t i = p->prelude_count; !result && i-- > 0;) /* the last found goes first */
        if (cm_plan_find(p->plan, p->prelude[i]) == CM_NO_INSTANCE) {
            result = push_page(p, p->prelude[i]);
            if (!result)
                result = run(p);
        }
    bool namespace = p->flags & CM_LINK_NAMESPACE;
    if (!result && namespace)
        result = cm_plan_add_literal(p->plan, "}", 1); /* EMPTY_DICT */
    size_t announced = 0;
    for (size_t i = 0; !result && i < count; i++) {
        if (i == announced)
            cm_planner_announce(p, roots, count, &announced);
        if (namespace)
            result = cm_planner_name(p->plan, roots[i].name);
        if (!result)
            result = cm_planner_root(p, &roots[i].address);
        if (!result && namespace)
            result = cm_plan_add_literal(p->plan, "s", 1); /* SETITEM */
        if (result < 0 && roots[i].name)
            cm_fail_in(result, "variable '%s'", roots[i].name);
    }
    return result ? result : cm_plan_add_literal(p->plan, ".", 1); /* STOP */
}

void cm_planner_drop_frames(cm_planner *p)
{
    while (p->frame_count) {
        cm_frame *f = &p->frames[--p->frame_count];
        cm_pod_view_clear(&f->view);
        cm_buffer_free(&f->content);
    }
}

/* Puts all variables in front, in the order in which they were walked: that always works. */
static int last_resort(cm_planner *p, const cm_plan_root *roots, size_t count)
{
    cm_cleanup(cm_cleanup_free) cm_plan_root *all = NULL;
    size_t all_count;
    int result = p->source->all(p->source->arg, &all, &all_count);
    return result ? result : attempt(p, roots, count, all, all_count);
}

/* After a conflict: the pod to blame goes first; or no fragment alone; or, at *last, all variables first. */
static void give_way(cm_planner *p, bool *last)
{
    size_t most = p->whole ? PRELUDE_MOST : ALONE_CONFLICTS_MOST;
    if (p->has_culprit && p->prelude_count < most) {
        p->prelude[p->prelude_count++] = p->culprit;
    } else {
        *last = p->whole;
        p->whole = true;
        p->prelude_count = 0;
    }
    cm_planner_drop_frames(p);
    if (p->source->forget)
        p->source->forget(p->source->linked_arg);
    cm_plan_clear(p->plan);
}

int cm_plan_make(const cm_plan_source *source, const cm_plan_root *roots, size_t count, unsigned flags, cm_plan *plan)
{
    uint64_t prelude[PRELUDE_MOST];
    cm_planner p = {.source = source, .plan = plan, .flags = flags, .prelude = prelude, .whole = flags & CM_PLAN_WHOLE};
    *plan = (cm_plan){0};
    int result = attempt(&p, roots, count, NULL, 0);
    for (bool last = false; result == CM_PLAN_CONFLICT && !last;) {
        give_way(&p, &last);
        result = last ? last_resort(&p, roots, count) : attempt(&p, roots, count, NULL, 0);
    }
    if (result == CM_PLAN_CONFLICT)
        result = cm_fail(EILSEQ, "damaged pods: their references go round in a circle that no order resolves");
    cm_planner_drop_frames(&p);
    free(p.frames);
    return result;
}
