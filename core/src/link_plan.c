/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

enum { NEW, BUILDING, DONE };                                       /* cm_instance.state */
enum { CONFLICT = 1, PRELUDE_MOST = 64, FRAGMENT_DEPTH_MOST = 64 }; /* CONFLICT: internal result, never returned */

typedef struct frame {
    uint32_t instance;
    uint32_t memo_at_start;
    size_t event;      /* the next one */
    uint32_t position; /* of the body, up to where it is in the stream */
    bool popped;       /* not in its place: linked for an external, and popped */
    cm_pod_view view;
    cm_buffer content;
} frame;

typedef struct planner {
    const cm_plan_source *source;
    cm_plan *plan;
    unsigned flags;
    frame *frames;
    size_t frame_count, frame_capacity;
    uint64_t *prelude; /* pages */
    size_t prelude_count;
    uint64_t culprit; /* after CONFLICT: the page to put in front */
    bool has_culprit;
} planner;

#define GROW(array, count, capacity) grow((void **)&(array), (count), &(capacity), sizeof *(array))

static bool grow(void **array, size_t count, size_t *capacity, size_t element)
{
    if (count < *capacity)
        return true;
    size_t larger = *capacity ? *capacity * 2 : 8;
    void *grown = realloc(*array, larger * element);
    if (!grown)
        return false;
    *array = grown;
    *capacity = larger;
    return true;
}

static bool grow32(void **array, uint32_t count, uint32_t *capacity, size_t element)
{
    size_t wide = *capacity;
    bool grown = grow(array, count, &wide, element);
    *capacity = (uint32_t)wide;
    return grown;
}

static int no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory linking");
}

/* ---- the stream -------------------------------------------------------------------------------------------------- */

int cm_plan_add_segment(cm_plan *plan, enum cm_segment_kind kind, uint32_t instance, uint64_t from, uint64_t size)
{
    if (size == 0)
        return 0;
    if (!GROW(plan->segments, plan->segment_count, plan->segment_capacity))
        return no_memory();
    if (size > INT64_MAX - plan->size)
        return cm_fail(EOVERFLOW, "the linked stream would exceed 2^63 bytes");
    plan->segments[plan->segment_count++] = (cm_segment){plan->size, kind, instance, from};
    plan->size += size;
    return 0;
}

int cm_plan_add_literal(cm_plan *plan, const void *bytes, size_t size)
{
    size_t at = plan->literals.size;
    cm_buffer_append(&plan->literals, bytes, size);
    if (plan->literals.error)
        return no_memory();
    if (plan->segment_count > plan->sealed && plan->segments[plan->segment_count - 1].kind == CM_SEGMENT_LITERAL) {
        plan->size += size; /* literals are appended in stream order: the last segment just grows */
        return 0;
    }
    return cm_plan_add_segment(plan, CM_SEGMENT_LITERAL, 0, at, size);
}

static int add_get(cm_plan *plan, uint32_t memo)
{
    if (!GROW(plan->literal_gets, plan->literal_get_count, plan->literal_get_capacity))
        return no_memory();
    plan->literal_gets[plan->literal_get_count++] = (uint32_t)plan->literals.size;
    const uint8_t bytes[CM_GET_SIZE] = {CM_OP_LONG_BINGET, (uint8_t)memo, (uint8_t)(memo >> 8), (uint8_t)(memo >> 16),
                                        (uint8_t)(memo >> 24)};
    return cm_plan_add_literal(plan, bytes, sizeof bytes);
}

int cm_plan_add_buffer(cm_plan *plan, unsigned flags, const cm_event *event)
{
    unsigned kind = event->type - CM_EVENT_BUFFER;
    cm_tree_ref tree = {event->id, event->size, (uint8_t)kind};
    if ((flags & CM_LINK_BUFFERS) && kind <= CM_BUFFER_READONLY) {
        if (!GROW(plan->buffers, plan->buffer_count, plan->buffer_capacity))
            return no_memory();
        plan->buffers[plan->buffer_count++] = tree;
        return cm_plan_add_literal(plan, "\x97\x98",
                                   kind == CM_BUFFER_READONLY ? 2 : 1); /* NEXT_BUFFER, READONLY_BUFFER */
    }
    static const uint8_t opcodes[] = {
        [CM_BUFFER_WRITABLE] = 0x96,   /* BYTEARRAY8 */
        [CM_BUFFER_READONLY] = 0x8e,   /* BINBYTES8 */
        [CM_PAYLOAD_BYTES] = 0x8e,     /* BINBYTES8 */
        [CM_PAYLOAD_STR] = 0x8d,       /* BINUNICODE8 */
        [CM_PAYLOAD_BYTEARRAY] = 0x96, /* BYTEARRAY8 */
    };
    uint8_t head[9] = {opcodes[kind]};
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(event->size >> (8 * i));
    int result = cm_plan_add_literal(plan, head, sizeof head);
    if (result || event->size == 0)
        return result;
    if (!GROW(plan->trees, plan->tree_count, plan->tree_capacity))
        return no_memory();
    plan->trees[plan->tree_count] = tree;
    return cm_plan_add_segment(plan, CM_SEGMENT_TREE, (uint32_t)plan->tree_count++, 0, event->size);
}

/* ---- instances --------------------------------------------------------------------------------------------------- */

static uint32_t *slot_of(const cm_plan *plan, uint64_t page)
{
    size_t at = page & (plan->slot_count - 1);
    while (plan->slots[at] && plan->instances[plan->slots[at] - 1].page != page)
        at = (at + 1) & (plan->slot_count - 1);
    return &plan->slots[at];
}

static bool slot_room(cm_plan *plan)
{
    if (plan->instance_count * 3 < plan->slot_count * 2)
        return true;
    size_t count = plan->slot_count ? plan->slot_count * 2 : 64;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (!slots)
        return false;
    free(plan->slots);
    plan->slots = slots;
    plan->slot_count = count;
    for (size_t i = 0; i < plan->instance_count; i++)
        *slot_of(plan, plan->instances[i].page) = (uint32_t)i + 1;
    return true;
}

uint32_t cm_plan_find(const cm_plan *plan, uint64_t page)
{
    return plan->slot_count ? *slot_of(plan, page) - 1 : CM_NO_INSTANCE; /* 0 - 1 is CM_NO_INSTANCE */
}

uint32_t cm_plan_memo(const cm_instance *instance, uint32_t index)
{
    uint32_t low = 0, high = instance->shift_count; /* the last shift with from <= index */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (instance->shifts[middle].from <= index)
            low = middle + 1;
        else
            high = middle;
    }
    return instance->memo_base + index + (low ? instance->shifts[low - 1].shift : 0);
}

int cm_plan_add_shift(cm_instance *instance, uint32_t from, uint32_t count)
{
    if (count == 0)
        return 0;
    uint32_t before = instance->shift_count ? instance->shifts[instance->shift_count - 1].shift : 0;
    if (instance->shift_count && instance->shifts[instance->shift_count - 1].from == from) {
        instance->shifts[instance->shift_count - 1].shift += count;
        return 0;
    }
    if (!grow32((void **)&instance->shifts, instance->shift_count, &instance->shift_capacity, sizeof(cm_shift)))
        return no_memory();
    instance->shifts[instance->shift_count++] = (cm_shift){from, before + count};
    return 0;
}

int cm_plan_add_patch(cm_instance *instance, uint32_t position, uint32_t memo)
{
    if (!grow32((void **)&instance->patches, instance->patch_count, &instance->patch_capacity, sizeof(cm_patch)))
        return no_memory();
    instance->patches[instance->patch_count++] = (cm_patch){position, memo};
    return 0;
}

int cm_plan_add_instance(cm_plan *plan, const cm_instance *instance)
{
    if (!slot_room(plan) || !GROW(plan->instances, plan->instance_count, plan->instance_capacity))
        return no_memory();
    if (plan->instance_count == CM_NO_INSTANCE)
        return cm_fail(EOVERFLOW, "the linked stream would have more than 2^32 pods");
    plan->instances[plan->instance_count] = *instance;
    *slot_of(plan, instance->page) = (uint32_t)++plan->instance_count;
    return 0;
}

static int push(planner *p, const cm_id *pod, uint64_t page, bool popped)
{
    cm_plan *plan = p->plan;
    if (!GROW(p->frames, p->frame_count, p->frame_capacity))
        return no_memory();
    frame *f = &p->frames[p->frame_count];
    *f = (frame){.instance = (uint32_t)plan->instance_count, .memo_at_start = plan->memo, .popped = popped};
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
                                  .state = BUILDING};
    return cm_plan_add_instance(plan, &instance);
}

/* The body up to an event, or its end, goes into the stream. */
static int advance(planner *p, frame *f, uint32_t position, uint32_t memo)
{
    cm_instance *instance = &p->plan->instances[f->instance];
    int result = cm_plan_add_segment(p->plan, CM_SEGMENT_BODY, f->instance, f->position, position - f->position);
    p->plan->memo += memo - instance->progress;
    instance->progress = memo;
    f->position = position;
    return result;
}

/* The outermost pod below which the pods under construction are not in walking order can go first. */
static int conflict(planner *p)
{
    p->has_culprit = false;
    for (size_t i = p->frame_count; i-- > 0 && !p->has_culprit;)
        if (p->frames[i].popped) {
            p->culprit = p->plan->instances[p->frames[i].instance].page;
            p->has_culprit = true;
        }
    return CONFLICT;
}

/* Is local `index` of an instance memoized by now? */
static bool available(const cm_instance *instance, uint32_t index)
{
    return index < (instance->state == DONE ? instance->memo_count : instance->progress);
}

static int bad_reference(const cm_instance *instance, uint32_t index)
{
    return cm_fail(EILSEQ, "damaged pods: a reference to object %u of page %016llx, which has %u", index,
                   (unsigned long long)instance->page, instance->memo_count);
}

static int on_child(planner *p, frame *f, const cm_event *event)
{
    uint64_t page = event->type == CM_EVENT_CHILD_AT
                        ? event->page
                        : cm_page_of_child(p->plan->instances[f->instance].page, event->index);
    uint32_t found = cm_plan_find(p->plan, page);
    f->event++;
    if (found == CM_NO_INSTANCE)
        return push(p, &event->id, page, false);
    const cm_instance *child = &p->plan->instances[found];
    if (!cm_id_equal(&child->pod, &event->id) || child->kind == CM_POD_FRAGMENT || child->root == CM_INDEX_ROOT)
        return cm_fail(EILSEQ, "damaged pods: two of them claim page %016llx", (unsigned long long)page);
    if (!available(child, child->root))
        return conflict(p);
    return add_get(p->plan, cm_plan_memo(child, child->root));
}

/* Links the pod at a page out of its place and pops it; for a fragment, the object it belongs to. */
static int push_page(planner *p, uint64_t page)
{
    cm_page where;
    int result = p->source->locate(p->source->arg, page, &where);
    for (unsigned depth = 0; !result && where.kind == CM_POD_FRAGMENT; depth++) {
        page = where.parent;
        if (cm_plan_find(p->plan, page) != CM_NO_INSTANCE)
            return conflict(p); /* under construction, and has not come to the fragment yet */
        if (page == CM_PAGE_NONE || depth > FRAGMENT_DEPTH_MOST)
            return cm_fail(EILSEQ, "damaged page map: a fragment of nothing");
        result = p->source->locate(p->source->arg, page, &where);
    }
    return result ? result : push(p, &where.pod, page, true);
}

static int on_external(planner *p, frame *f, const cm_event *event)
{
    uint32_t found = cm_plan_find(p->plan, event->page);
    if (found == CM_NO_INSTANCE)
        return push_page(p, event->page); /* this event comes again when that is done */
    const cm_instance *target = &p->plan->instances[found];
    uint32_t index = event->index == CM_INDEX_ROOT ? target->root : event->index;
    if (index >= target->memo_count)
        return bad_reference(target, index);
    if (!available(target, index))
        return conflict(p);
    f->event++;
    return cm_plan_add_patch(&p->plan->instances[f->instance], event->position, cm_plan_memo(target, index));
}

static int pop(planner *p)
{
    frame *f = &p->frames[p->frame_count - 1];
    cm_instance *instance = &p->plan->instances[f->instance];
    int result = advance(p, f, (uint32_t)f->view.body_size, instance->memo_count);
    uint32_t memoized = p->plan->memo - f->memo_at_start;
    bool popped = f->popped;
    instance->state = DONE;
    if (!result && p->source->linked)
        p->source->linked(p->source->arg, instance, &f->view, &f->content);
    cm_pod_view_clear(&f->view);
    cm_buffer_free(&f->content);
    p->frame_count--;
    if (!result && popped)
        result = cm_plan_add_literal(p->plan, "0", 1); /* POP */
    if (!result && p->frame_count) {
        frame *above = &p->frames[p->frame_count - 1];
        cm_instance *parent = &p->plan->instances[above->instance];
        result = cm_plan_add_shift(parent, parent->progress, memoized);
    }
    return result;
}

static int run(planner *p)
{
    int result = 0;
    while (!result && p->frame_count) {
        frame *f = &p->frames[p->frame_count - 1];
        if (f->event == f->view.event_count) {
            result = pop(p);
            continue;
        }
        const cm_event *event = &f->view.events[f->event];
        result = advance(p, f, event->position, event->memo);
        if (result)
            break;
        if (event->type == CM_EVENT_EXTERNAL) {
            result = on_external(p, f, event);
        } else if (event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT) {
            result = on_child(p, f, event);
        } else {
            f->event++;
            result = cm_plan_add_buffer(p->plan, p->flags, event);
        }
    }
    return result;
}

/* ---- roots ------------------------------------------------------------------------------------------------------- */

/* Pushes the object at an address on the stack of the stream. */
static int link_root(planner *p, const cm_address *address)
{
    uint32_t found = cm_plan_find(p->plan, address->page);
    int result = 0;
    if (found == CM_NO_INSTANCE) {
        size_t at = p->plan->instance_count;
        result = push(p, &address->pod, address->page, false);
        if (result)
            return result;
        const cm_instance *instance = &p->plan->instances[at];
        bool whole =
            instance->kind == CM_POD_OBJECT && (address->index == CM_INDEX_ROOT || address->index == instance->root);
        if (whole)
            return run(p);
        if (instance->kind == CM_POD_FRAGMENT) { /* only its owner can be linked: undo, nothing is in the stream yet */
            frame *f = &p->frames[--p->frame_count];
            cm_pod_view_clear(&f->view);
            cm_buffer_free(&f->content);
            p->plan->instance_count--;
            *slot_of(p->plan, address->page) = 0; /* the last inserted: no probe sequence goes through it */
            result = push_page(p, address->page);
        } else {
            p->frames[p->frame_count - 1].popped = true;
        }
        if (!result)
            result = run(p);
        if (result)
            return result;
        found = cm_plan_find(p->plan, address->page);
        if (found == CM_NO_INSTANCE)
            return cm_fail(EILSEQ, "damaged pods: page %016llx is not where the page map says",
                           (unsigned long long)address->page);
    }
    const cm_instance *instance = &p->plan->instances[found];
    uint32_t index = address->index == CM_INDEX_ROOT ? instance->root : address->index;
    if (index >= instance->memo_count)
        return bad_reference(instance, index);
    return add_get(p->plan, cm_plan_memo(instance, index));
}

static int link_name(cm_plan *plan, const char *name)
{
    size_t size = strlen(name);
    uint8_t head[5] = {'X'}; /* BINUNICODE */
    for (int i = 0; i < 4; i++)
        head[1 + i] = (uint8_t)(size >> (8 * i));
    int result = cm_plan_add_literal(plan, head, sizeof head);
    return result ? result : cm_plan_add_literal(plan, name, size);
}

static int attempt(planner *p, const cm_plan_root *roots, size_t count, const cm_plan_root *front, size_t front_count)
{
    int result = cm_plan_add_literal(p->plan, "\x80\x05", 2); /* PROTO 5 */
    for (size_t i = 0; !result && i < front_count; i++) {
        result = link_root(p, &front[i].address);
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
    for (size_t i = 0; !result && i < count; i++) {
        if (namespace)
            result = link_name(p->plan, roots[i].name);
        if (!result)
            result = link_root(p, &roots[i].address);
        if (!result && namespace)
            result = cm_plan_add_literal(p->plan, "s", 1); /* SETITEM */
        if (result < 0 && roots[i].name)
            cm_fail_in(result, "variable '%s'", roots[i].name);
    }
    return result ? result : cm_plan_add_literal(p->plan, ".", 1); /* STOP */
}

static int by_rank(const void *a, const void *b)
{
    const cm_variable *x = *(const cm_variable *const *)a, *y = *(const cm_variable *const *)b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

int cm_roots_by_rank(const cm_variable **variables, size_t count, cm_plan_root **roots)
{
    *roots = malloc((count + 1) * sizeof **roots);
    if (!*roots)
        return no_memory();
    qsort(variables, count, sizeof *variables, by_rank);
    for (size_t i = 0; i < count; i++)
        (*roots)[i] = (cm_plan_root){variables[i]->name, variables[i]->root};
    return 0;
}

int cm_checkpoint_roots(cm_checkpoint *checkpoint, cm_plan_root **roots, size_t *count)
{
    const cm_variable *variables;
    int result = cm_checkpoint_variables(checkpoint, &variables, count);
    if (result)
        return result;
    cm_cleanup(cm_cleanup_free) const cm_variable **all = malloc((*count + 1) * sizeof *all);
    for (size_t i = 0; all && i < *count; i++)
        all[i] = &variables[i];
    return all ? cm_roots_by_rank(all, *count, roots) : no_memory();
}

uint64_t cm_checkpoint_pods(cm_checkpoint *checkpoint)
{
    const cm_variable *variables;
    size_t count;
    uint64_t most = 0;
    if (cm_checkpoint_variables(checkpoint, &variables, &count))
        return 0;
    for (size_t i = 0; i < count; i++)
        most = variables[i].pods > UINT64_MAX - most ? UINT64_MAX : most + variables[i].pods;
    return most;
}

static void drop_frames(planner *p)
{
    while (p->frame_count) {
        frame *f = &p->frames[--p->frame_count];
        cm_pod_view_clear(&f->view);
        cm_buffer_free(&f->content);
    }
}

/* Puts all variables in front, in the order in which they were walked: that always works. */
static int last_resort(planner *p, const cm_plan_root *roots, size_t count)
{
    cm_cleanup(cm_cleanup_free) cm_plan_root *all = NULL;
    size_t all_count;
    int result = p->source->all(p->source->arg, &all, &all_count);
    p->prelude_count = 0;
    return result ? result : attempt(p, roots, count, all, all_count);
}

int cm_plan_make(const cm_plan_source *source, const cm_plan_root *roots, size_t count, unsigned flags, cm_plan *plan)
{
    uint64_t prelude[PRELUDE_MOST];
    planner p = {.source = source, .plan = plan, .flags = flags, .prelude = prelude};
    *plan = (cm_plan){0};
    int result = attempt(&p, roots, count, NULL, 0);
    for (bool last = false; result == CONFLICT && !last;) {
        last = !p.has_culprit || p.prelude_count == PRELUDE_MOST;
        if (!last)
            prelude[p.prelude_count++] = p.culprit;
        drop_frames(&p);
        cm_plan_clear(plan);
        result = last ? last_resort(&p, roots, count) : attempt(&p, roots, count, NULL, 0);
    }
    if (result == CONFLICT)
        result = cm_fail(EILSEQ, "damaged pods: their references go round in a circle that no order resolves");
    drop_frames(&p);
    free(p.frames);
    return result;
}

void cm_plan_clear(cm_plan *plan)
{
    for (size_t i = 0; i < plan->instance_count; i++) {
        free(plan->instances[i].shifts);
        free(plan->instances[i].patches);
    }
    free(plan->instances);
    free(plan->slots);
    free(plan->segments);
    free(plan->trees);
    free(plan->buffers);
    free(plan->literal_gets);
    cm_buffer_free(&plan->literals);
    *plan = (cm_plan){0};
}

int cm_plan_content(const cm_plan *plan, const cm_plan_root *root, cm_id *id)
{
    cm_cleanup(cm_buffer_free) cm_buffer all = CM_BUFFER_INIT;
    for (size_t i = 0; i < plan->instance_count; i++) {
        cm_buffer_u64(&all, plan->instances[i].page);
        cm_buffer_append(&all, &plan->instances[i].pod, sizeof(cm_id));
    }
    cm_buffer_u64(&all, root->address.page);
    cm_buffer_varint(&all, root->address.index);
    return all.error ? no_memory() : cm_id_of(all.data, all.size, id);
}

size_t cm_plan_memory(const cm_plan *plan)
{
    size_t memory = plan->instance_capacity * sizeof *plan->instances + plan->slot_count * sizeof *plan->slots +
                    plan->segment_capacity * sizeof *plan->segments + plan->tree_capacity * sizeof *plan->trees +
                    plan->buffer_capacity * sizeof *plan->buffers + plan->literals.capacity;
    for (size_t i = 0; i < plan->instance_count; i++)
        memory +=
            plan->instances[i].shift_capacity * sizeof(cm_shift) + plan->instances[i].patch_capacity * sizeof(cm_patch);
    return memory;
}
