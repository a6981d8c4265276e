/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - the parts of a plan: segments, literals, instances. */
#include "planner.h"

#define GROW(array, count, capacity) cm_grow(&(array), (count), &(capacity), sizeof *(array))

static bool grow32(void **array, uint32_t count, uint32_t *capacity, size_t element)
{
    size_t wide = *capacity;
    bool grown = cm_grow(array, count, &wide, element);
    *capacity = (uint32_t)wide;
    return grown;
}

int cm_plan_no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory linking");
}

/* ---- the stream -------------------------------------------------------------------------------------------------- */

int cm_plan_add_segment(cm_plan *plan, enum cm_segment_kind kind, uint32_t instance, uint64_t from, uint64_t size)
{
    if (size == 0)
        return 0;
    if (plan->sink)
        return cm_sink_tree(plan, instance, size); /* bodies go to it directly */
    if (!GROW(plan->segments, plan->segment_count, plan->segment_capacity))
        return cm_plan_no_memory();
    if (size > INT64_MAX - plan->size)
        return cm_fail(EOVERFLOW, "the linked stream would exceed 2^63 bytes");
    plan->segments[plan->segment_count++] = (cm_segment){plan->size, kind, instance, from};
    plan->size += size;
    return 0;
}

int cm_plan_add_literal(cm_plan *plan, const void *bytes, size_t size)
{
    if (plan->sink)
        return cm_sink_bytes(plan, bytes, size);
    size_t at = plan->literals.size;
    cm_buffer_append(&plan->literals, bytes, size);
    if (plan->literals.error)
        return cm_plan_no_memory();
    if (plan->segment_count > plan->sealed && plan->segments[plan->segment_count - 1].kind == CM_SEGMENT_LITERAL) {
        plan->size += size; /* literals are appended in stream order: the last segment just grows */
        return 0;
    }
    return cm_plan_add_segment(plan, CM_SEGMENT_LITERAL, 0, at, size);
}

int cm_plan_add_get(cm_plan *plan, uint32_t memo)
{
    if (!plan->sink && !GROW(plan->literal_gets, plan->literal_get_count, plan->literal_get_capacity))
        return cm_plan_no_memory();
    if (!plan->sink)
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
            return cm_plan_no_memory();
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
        return cm_plan_no_memory();
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
        return cm_plan_no_memory();
    instance->shifts[instance->shift_count++] = (cm_shift){from, before + count};
    return 0;
}

int cm_plan_add_patch(cm_instance *instance, uint32_t position, uint32_t memo)
{
    if (!grow32((void **)&instance->patches, instance->patch_count, &instance->patch_capacity, sizeof(cm_patch)))
        return cm_plan_no_memory();
    instance->patches[instance->patch_count++] = (cm_patch){position, memo};
    return 0;
}

int cm_plan_add_instance(cm_plan *plan, const cm_instance *instance)
{
    if (!slot_room(plan) || !GROW(plan->instances, plan->instance_count, plan->instance_capacity))
        return cm_plan_no_memory();
    if (plan->instance_count == CM_NO_INSTANCE)
        return cm_fail(EOVERFLOW, "the linked stream would have more than 2^32 pods");
    plan->instances[plan->instance_count] = *instance;
    *slot_of(plan, instance->page) = (uint32_t)++plan->instance_count;
    return 0;
}

void cm_plan_remove_last_instance(cm_plan *plan)
{
    cm_instance *last = &plan->instances[plan->instance_count - 1];
    *slot_of(plan, last->page) = 0; /* the last inserted: no probe sequence goes through it */
    free(last->shifts);
    free(last->patches);
    plan->instance_count--;
}

/* ---- roots ------------------------------------------------------------------------------------------------------- */

static int by_rank(const void *a, const void *b)
{
    const cm_variable *x = *(const cm_variable *const *)a, *y = *(const cm_variable *const *)b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

int cm_roots_by_rank(const cm_variable **variables, size_t count, cm_plan_root **roots)
{
    *roots = malloc((count + 1) * sizeof **roots);
    if (!*roots)
        return cm_plan_no_memory();
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
    return all ? cm_roots_by_rank(all, *count, roots) : cm_plan_no_memory();
}

/* ---- a checkpoint as the source ------------------------------------------------------------------------------------- */

/* A bound for the pods of a plan. 0: the variables cannot be read, which planning will tell. */
static uint64_t all_pods(cm_checkpoint *checkpoint)
{
    const cm_variable *variables;
    size_t count;
    return cm_checkpoint_variables(checkpoint, &variables, &count) ? 0 : checkpoint->pods_most;
}

static int fetch(void *arg, const cm_id *pod, uint64_t page, cm_pod_view *view, cm_buffer *content)
{
    (void)page;
    cm_pods *pods = arg;
    int result = 0;
    if (!cm_ahead_take(&pods->ahead, pod, content, NULL))
        result = cm_object_get(pods->checkpoint->store, pod, CM_KIND_POD, content);
    if (!result)
        result = cm_pod_decode(content->data, content->size, view);
    if (result) {
        char hex[CM_ID_HEX + 1];
        cm_id_hex(pod, hex);
        cm_fail_in(result, "pod %.16s", hex);
    }
    return result;
}

static size_t soon(void *arg, const cm_id *ids, size_t count)
{
    cm_pods *pods = arg;
    return cm_ahead_soon(&pods->ahead, pods->checkpoint->store, ids, count);
}

static int locate(void *arg, uint64_t page, cm_page *out)
{
    return cm_checkpoint_page(((cm_pods *)arg)->checkpoint, page, out);
}

static int all_roots(void *arg, cm_plan_root **roots, size_t *count)
{
    return cm_checkpoint_roots(((cm_pods *)arg)->checkpoint, roots, count);
}

cm_plan_source cm_plan_source_of(cm_pods *pods)
{
    return (cm_plan_source){.fetch = fetch,
                            .soon = soon,
                            .locate = locate,
                            .all = all_roots,
                            .most = all_pods(pods->checkpoint),
                            .arg = pods};
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

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
    free(plan->asked.slots);
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
    return all.error ? cm_plan_no_memory() : cm_id_of(all.data, all.size, id);
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
