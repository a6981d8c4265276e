/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry.c - taking variables over by reference. A plain variable is a tree of pods that nothing leads out of: its record is all
 * that has to be copied. One that shares objects with others is linked once, as a reader would, into a single pod; its buffers
 * stay where they are.
 */
#include "save_internal.h"

#include "checkpoint.h"
#include "plan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { BUFFER_HEAD = 9 /* opcode and length, before a buffer in a plain stream */ };

/* ---- flattening -------------------------------------------------------------------------------------------------- */

/* The pod that a run of segments comes from, decoded. */
typedef struct current {
    uint32_t instance;
    cm_pod_view view;
    cm_buffer content;
} current;

static int open_instance(const cm_plan_source *source, const cm_plan *plan, uint32_t instance, current *now)
{
    if (now->instance == instance)
        return 0;
    cm_pod_view_clear(&now->view);
    now->instance = instance;
    return source->fetch(source->arg, &plan->instances[instance].pod, plan->instances[instance].page, &now->view,
                         &now->content);
}

/* Bytes [from, from + size) of an instance's body, with what refers to objects made local to the flat pod. */
static void copy_body(cm_pod *pod, const cm_instance *instance, const cm_pod_view *view, uint64_t from, uint64_t size)
{
    cm_body *body = cm_pod_body(pod);
    uint32_t start = (uint32_t)cm_body_size(body);
    cm_body_bytes(body, view->body + from, size);
    if (body->error)
        return;
    size_t get = 0;
    uint32_t patch = 0;
    while (get < view->get_count && view->gets[get] < from)
        get++;
    while (patch < instance->patch_count && instance->patches[patch].position < from)
        patch++;
    for (;;) { /* both ascend; gets of the flat pod must ascend too */
        uint64_t next_get = get < view->get_count ? view->gets[get] : UINT64_MAX;
        uint64_t next_patch = patch < instance->patch_count ? instance->patches[patch].position : UINT64_MAX;
        uint64_t next = next_get < next_patch ? next_get : next_patch;
        if (next >= from + size || from + size - next < CM_GET_SIZE)
            return;
        uint32_t position = start + (uint32_t)(next - from);
        uint8_t *operand = body->start + position + 1;
        cm_put_u32(operand,
                   next == next_get ? cm_plan_memo(instance, cm_get_u32(operand)) : instance->patches[patch].memo);
        cm_pod_note_get(pod, position);
        get += next == next_get;
        patch += next == next_patch;
    }
}

static void copy_literal(cm_pod *pod, const cm_plan *plan, uint64_t from, uint64_t size, size_t *get)
{
    cm_body *body = cm_pod_body(pod);
    uint32_t start = (uint32_t)cm_body_size(body);
    cm_body_bytes(body, plan->literals.data + from, size);
    while (*get < plan->literal_get_count && plan->literal_gets[*get] < from + size)
        cm_pod_note_get(pod, start + (uint32_t)(plan->literal_gets[(*get)++] - from));
}

static int copy_stream(cm_pod *pod, const cm_plan_source *source, const cm_plan *plan)
{
    cm_body *body = cm_pod_body(pod);
    current now = {.instance = CM_NO_INSTANCE};
    size_t get = 0;
    int result = 0;
    for (size_t i = 0; i < plan->segment_count && !result && !body->error; i++) {
        const cm_segment *segment = &plan->segments[i];
        uint64_t end = i + 1 < plan->segment_count ? plan->segments[i + 1].offset : plan->size, at = segment->from;
        uint64_t size = end - segment->offset;
        if (segment->kind == CM_SEGMENT_TREE) {
            const cm_tree_ref *tree = &plan->trees[segment->instance];
            body->cursor -= BUFFER_HEAD; /* the event says it */
            cm_pod_buffer_stored(pod, tree->kind, &tree->root, tree->size);
        } else if (segment->kind == CM_SEGMENT_LITERAL) {
            bool first = i == 0, last = i + 1 == plan->segment_count;
            at += first ? 2 : 0;                          /* PROTO 5 */
            size -= (first ? 2U : 0U) + (last ? 1U : 0U); /* STOP */
            copy_literal(pod, plan, at, size, &get);
        } else {
            result = open_instance(source, plan, segment->instance, &now);
            if (!result)
                copy_body(pod, &plan->instances[segment->instance], &now.view, at, size);
        }
    }
    cm_pod_view_clear(&now.view);
    cm_buffer_free(&now.content);
    return result;
}

static uint32_t root_index(const cm_plan *plan, const cm_address *address)
{
    uint32_t found = cm_plan_find(plan, address->page);
    const cm_instance *instance = &plan->instances[found];
    uint32_t index = address->index == CM_INDEX_ROOT ? instance->root : address->index;
    return index == CM_INDEX_ROOT ? CM_INDEX_ROOT : cm_plan_memo(instance, index);
}

static int flatten(cm_save *save, const char *name, cm_checkpoint *from, const cm_variable *variable)
{
    cm_pods pods = {.checkpoint = from};
    const cm_plan_source source = cm_plan_source_of(&pods);
    const cm_plan_root root = {variable->name, variable->root};
    cm_plan plan;
    int result = cm_plan_make(&source, &root, 1, 0, &plan);
    if (!result)
        result = cm_save_variable_begin(save, name);
    cm_pod *pod = result ? NULL : cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    if (!result && !pod)
        result = cm_fail(ENOMEM, "out of memory");
    if (!result)
        result = copy_stream(pod, &source, &plan);
    if (!result) {
        cm_pod_body(pod)->memo_count = plan.memo;
        result = cm_save_pod_finish(save, pod, root_index(&plan, &variable->root));
    }
    cm_plan_clear(&plan);
    cm_ahead_clear(&pods.ahead);
    if (!result)
        result = cm_save_variable_end(save, pod, CM_INDEX_ROOT, variable->type, variable->summary);
    if (result) {
        cm_save_variable_cancel(save);
        return result;
    }
    cm_saved_variable *saved = &save->variables[save->variable_count - 1];
    saved->stored = variable->stored;
    saved->preview = variable->preview;
    saved->preview_size = variable->preview_size;
    return 0;
}

/* ---- carrying ---------------------------------------------------------------------------------------------------- */

/* A page of its own for a carried tree, so that it is never taken for the pods that other variables refer to. */
static uint64_t fresh_page(const char *name, const cm_id *content)
{
    uint64_t page = XXH3_64bits_withSeed(content, sizeof *content, XXH3_64bits(name, strlen(name)));
    return page == CM_PAGE_NONE ? 1 : page;
}

static int add_carried(cm_save *save, const char *name, const cm_variable *variable)
{
    if (!cm_grow(&save->carried, save->carried_count, &save->carried_capacity, sizeof *save->carried))
        return cm_fail(ENOMEM, "out of memory");
    cm_carried *c = &save->carried[save->carried_count];
    *c = (cm_carried){.removed = variable == NULL};
    if (variable) {
        c->variable = *variable;
        c->variable.type = strdup(variable->type);
        c->variable.summary = strdup(variable->summary);
        c->variable.root.page = fresh_page(name, &variable->content);
        c->variable.changed = 0;
    }
    c->variable.name = strdup(name);
    save->carried_count++;
    return c->variable.name && (!variable || (c->variable.type && c->variable.summary))
               ? 0
               : cm_fail(ENOMEM, "out of memory");
}

int cm_save_carry(cm_save *save, const char *name, cm_checkpoint *from, const char *from_name)
{
    const cm_variable *variable;
    int result = cm_checkpoint_variable(from, from_name, &variable);
    if (result)
        return result;
    if (strcmp(from->store->path, save->store->path) != 0)
        return cm_fail(EXDEV, "a variable of %s cannot be taken over by reference into %s", from->store->path,
                       save->store->path);
    cm_object_info info;
    result = cm_object_stat(save->store, &from->id, &info);
    if (result == -ENOENT)
        return cm_fail(ESTALE, "%s@%llu was removed from %s meanwhile: nothing of it can be taken over", from->session,
                       (unsigned long long)from->number, from->store->path);
    if (result)
        return result;
    return variable->plain ? add_carried(save, name, variable) : flatten(save, name, from, variable);
}

int cm_save_remove(cm_save *save, const char *name)
{
    const cm_variable *variable;
    int result = save->parent ? cm_checkpoint_variable(save->parent, name, &variable)
                              : cm_fail(ENOENT, "session '%s' has no variable '%s'", save->session, name);
    for (size_t i = 0; result == -ENOENT && i < save->carried_count; i++)
        if (!save->carried[i].removed && strcmp(save->carried[i].variable.name, name) == 0)
            result = 0;
    return result ? result : add_carried(save, name, NULL);
}

void cm_save_clear_carried(cm_save *save)
{
    for (size_t i = 0; i < save->carried_count; i++)
        cm_variable_clear(&save->carried[i].variable);
    free(save->carried);
    free(save->base);
    free(save->base_names);
    for (size_t i = 0; i < save->arrived_count; i++)
        free(save->arrived[i].name);
    free(save->arrived);
    free(save->conflict);
}
