/* SPDX-License-Identifier: Apache-2.0 */
#include "reach.h"

#include "ahead.h"
#include "codec.h"
#include "pod.h"
#include "tree.h"

/* What the ids refer to has no cycles, so a depth-first walk knows all about what is below an object when it leaves it. */
typedef struct visited {
    cm_id id;
    cm_id damaged; /* if state is DAMAGED: which object below it, or itself */
    uint8_t state;
} visited;

/* A chunk is a leaf, whatever its bytes are; they may be those of a pod, and then it is visited again as that. */
enum { UNSEEN, NOTED, OPEN, LEAF, SOUND, DAMAGED };

static bool is_to_visit(unsigned state, unsigned kind)
{
    return state < OPEN || (state == LEAF && kind != CM_KIND_CHUNK);
}

typedef struct frame {
    cm_reached object;
    int result;
    cm_reached *parts;
    size_t part_count, part_capacity, next;
    size_t announced; /* parts before this one are pods that were read ahead, or none */
    bool is_damaged;
    cm_id damaged;
} frame;

struct cm_reach {
    cm_store *store;
    bool deep;
    cm_reach_visitor visit;
    void *arg;
    visited *slots;
    size_t count, capacity;
    frame *frames;
    size_t depth, frame_capacity;
    cm_ahead ahead;
};

cm_reach *cm_reach_new(cm_store *store, bool deep, cm_reach_visitor visit, void *arg)
{
    cm_reach *reach = calloc(1, sizeof *reach);
    if (reach)
        *reach = (cm_reach){.store = store, .deep = deep, .visit = visit, .arg = arg};
    return reach;
}

static void drop_frames(cm_reach *reach)
{
    while (reach->depth)
        free(reach->frames[--reach->depth].parts);
}

void cm_reach_free(cm_reach *reach)
{
    if (!reach)
        return;
    drop_frames(reach);
    cm_ahead_clear(&reach->ahead);
    free(reach->frames);
    free(reach->slots);
    free(reach);
}

static visited *slot_of(visited *slots, size_t capacity, const cm_id *id)
{
    size_t at = (size_t)cm_id_key(id) & (capacity - 1);
    while (slots[at].state != UNSEEN && !cm_id_equal(&slots[at].id, id))
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

static int make_room(cm_reach *reach)
{
    if (reach->count * 3 < reach->capacity * 2)
        return 0;
    size_t capacity = reach->capacity ? reach->capacity * 2 : 1024;
    visited *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return cm_fail(ENOMEM, "out of memory");
    for (size_t i = 0; i < reach->capacity; i++)
        if (reach->slots[i].state != UNSEEN)
            *slot_of(slots, capacity, &reach->slots[i].id) = reach->slots[i];
    free(reach->slots);
    reach->slots = slots;
    reach->capacity = capacity;
    return 0;
}

static int add_part(frame *f, const cm_id *id, enum cm_kind kind, uint64_t size)
{
    if (!cm_grow(&f->parts, f->part_count, &f->part_capacity, sizeof *f->parts))
        return cm_fail(ENOMEM, "out of memory");
    f->parts[f->part_count++] = (cm_reached){.id = *id, .kind = (uint8_t)kind, .size = size};
    return 0;
}

static int add_buffer_part(frame *f, const cm_id *id, uint64_t size)
{
    return add_part(f, id, cm_tree_child_span(size) ? CM_KIND_TREE : CM_KIND_CHUNK, size);
}

/* ---- parts of each kind -------------------------------------------------------------------------------------------- */

static int pod_parts(frame *f, const cm_buffer *content)
{
    cm_pod_view view;
    int result = cm_pod_decode(content->data, content->size, &view);
    for (size_t i = 0; !result && i < view.event_count; i++) {
        const cm_event *event = &view.events[i];
        if (event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT)
            result = add_part(f, &event->id, CM_KIND_POD, 0);
        else if (event->type != CM_EVENT_EXTERNAL)
            result = add_buffer_part(f, &event->id, event->size);
    }
    cm_pod_view_clear(&view);
    return result;
}

static int tree_parts(frame *f, const cm_buffer *content)
{
    uint64_t size = f->object.size, span = cm_tree_child_span(size);
    uint64_t count = size / span + (size % span != 0);
    if (content->size != count * sizeof(cm_id))
        return cm_fail(EILSEQ, "a buffer's node has the wrong number of children");
    int result = 0;
    for (uint64_t i = 0; !result && i < count; i++) {
        cm_id id;
        memcpy(&id, content->data + i * sizeof id, sizeof id);
        uint64_t left = size - i * span;
        result = add_buffer_part(f, &id, left < span ? left : span);
    }
    return result;
}

static int checkpoint_parts(frame *f, const cm_buffer *content)
{
    cm_checkpoint c = {0};
    int result = cm_checkpoint_decode(content->data, content->size, &c);
    if (!result)
        result = add_part(f, &c.variable_map, CM_KIND_MAP, CM_KIND_POD);
    if (!result)
        result = add_part(f, &c.page_map, CM_KIND_MAP, CM_KIND_MAP);
    cm_checkpoint_clear(&c);
    return result;
}

/* A map's `size` says what its values hold: variables (CM_KIND_POD) or pages. Pods of pages are variables' pods, too. */
static int map_part(void *arg, const cm_map_entry *entry, bool leaf)
{
    frame *f = arg;
    cm_id id;
    if (!leaf) {
        memcpy(&id, entry->value, sizeof id);
        return add_part(f, &id, CM_KIND_MAP, f->object.size);
    }
    if (f->object.size != CM_KIND_POD) {
        if (entry->value_size < sizeof id)
            return cm_fail(EILSEQ, "damaged page record");
        memcpy(&id, entry->value, sizeof id);
        return add_part(f, &id, CM_KIND_POD, 0);
    }
    cm_variable v = {0};
    int result = cm_variable_decode(entry->value, entry->value_size, &v);
    if (!result)
        result = add_part(f, &v.root.pod, CM_KIND_POD, 0);
    if (!result && v.preview_size)
        result = add_part(f, &v.preview, CM_KIND_CHUNK, v.preview_size);
    cm_variable_clear(&v);
    return result;
}

static int check_id(const cm_id *id, const cm_buffer *content)
{
    cm_id actual;
    int result = cm_id_of(content->data, content->size, &actual);
    return result ? result : cm_id_equal(id, &actual) ? 0 : cm_fail(EILSEQ, "its content does not have its id");
}

static int list_parts(frame *f, const cm_buffer *content)
{
    switch (f->object.kind) {
    case CM_KIND_POD:
        return pod_parts(f, content);
    case CM_KIND_TREE:
        return tree_parts(f, content);
    case CM_KIND_MAP:
        return cm_map_parts(content->data, content->size, map_part, f);
    case CM_KIND_CHECKPOINT:
        return checkpoint_parts(f, content);
    default:
        return content->size == f->object.size ? 0 : cm_fail(EILSEQ, "a chunk has the wrong size");
    }
}

/* Chunks are not read in a shallow walk: one look-up tells about all of an object's. */
static int look_chunks_up(cm_reach *reach, frame *f)
{
    cm_cleanup(cm_cleanup_free) cm_id *ids = calloc(f->part_count + 1, sizeof *ids);
    cm_cleanup(cm_cleanup_free) cm_object_info *infos = calloc(f->part_count + 1, sizeof *infos);
    if (!ids || !infos)
        return cm_fail(ENOMEM, "out of memory");
    size_t count = 0;
    for (size_t i = 0; i < f->part_count; i++)
        if (f->parts[i].kind == CM_KIND_CHUNK)
            ids[count++] = f->parts[i].id;
    int result = count ? reach->store->backend->ops->find(reach->store->backend, ids, count, infos) : 0;
    for (size_t i = 0, k = 0; i < f->part_count && !result; i++)
        if (f->parts[i].kind == CM_KIND_CHUNK)
            f->parts[i].info = infos[k++];
    return result;
}

/* Reads an object and lists what it refers to. */
static int open_object(cm_reach *reach, frame *f)
{
    if (f->object.kind == CM_KIND_CHUNK && !reach->deep)
        return f->object.info.kind ? 0 : cm_fail(EILSEQ, "a chunk is missing from %s", reach->store->path);
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    bool is_ahead =
        f->object.kind == CM_KIND_POD && cm_ahead_take(&reach->ahead, &f->object.id, &content, &f->object.info);
    int result =
        is_ahead ? 0 : cm_object_get_info(reach->store, &f->object.id, f->object.kind, &content, &f->object.info);
    if (!result && reach->deep)
        result = check_id(&f->object.id, &content);
    if (!result)
        result = list_parts(f, &content);
    return !result && !reach->deep ? look_chunks_up(reach, f) : result;
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

static int push(cm_reach *reach, const cm_reached *object)
{
    int result = make_room(reach);
    if (result)
        return result;
    if (!cm_grow(&reach->frames, reach->depth, &reach->frame_capacity, sizeof *reach->frames))
        return cm_fail(ENOMEM, "out of memory");
    frame *f = &reach->frames[reach->depth++];
    *f = (frame){.object = *object};
    visited *slot = slot_of(reach->slots, reach->capacity, &object->id);
    reach->count += slot->state == UNSEEN;
    *slot = (visited){.id = object->id, .state = OPEN};
    f->result = open_object(reach, f);
    if (f->result == -ENOMEM)
        return f->result;
    if (f->result) {
        f->part_count = 0;
        f->is_damaged = true;
        f->damaged = object->id;
    }
    return 0;
}

static void note(frame *f, const visited *part)
{
    if (part->state == DAMAGED && !f->is_damaged) {
        f->is_damaged = true;
        f->damaged = part->damaged;
    }
}

/* The next of a frame's parts is about to be visited: if it is a pod, it is read together with those that come after it. */
static void read_ahead(cm_reach *reach, frame *f)
{
    enum { AT_ONCE = 64 };
    cm_id ids[AT_ONCE];
    size_t places[AT_ONCE], count = 0, at = f->next;
    if (at < f->announced || f->parts[at].kind != CM_KIND_POD)
        return;
    for (; at < f->part_count && count < AT_ONCE; at++) {
        const cm_reached *part = &f->parts[at];
        if (part->kind != CM_KIND_POD ||
            !is_to_visit(slot_of(reach->slots, reach->capacity, &part->id)->state, part->kind))
            continue;
        places[count] = at;
        ids[count++] = part->id;
    }
    size_t said = count > 1 ? cm_ahead_soon(&reach->ahead, reach->store, ids, count) : count;
    f->announced = said < count ? places[said] : at;
}

int cm_reach_from(cm_reach *reach, const cm_reached *from, bool *is_damaged, cm_id *damaged)
{
    int result = make_room(reach);
    if (!result && is_to_visit(slot_of(reach->slots, reach->capacity, &from->id)->state, from->kind))
        result = push(reach, from);
    while (!result && reach->depth) {
        frame *f = &reach->frames[reach->depth - 1];
        if (f->next < f->part_count) {
            const visited *part = slot_of(reach->slots, reach->capacity, &f->parts[f->next].id);
            if (is_to_visit(part->state, f->parts[f->next].kind)) {
                read_ahead(reach, f);
                cm_reached object = f->parts[f->next]; /* comes here again when it is done */
                result = push(reach, &object);
            } else {
                note(f, part);
                f->next++;
            }
            continue;
        }
        visited *slot = slot_of(reach->slots, reach->capacity, &f->object.id);
        slot->state = f->is_damaged ? DAMAGED : f->object.kind == CM_KIND_CHUNK ? LEAF : SOUND;
        slot->damaged = f->damaged;
        result = reach->visit(reach->arg, &f->object, f->result);
        free(f->parts);
        reach->depth--;
    }
    drop_frames(reach);
    if (result)
        return result;
    const visited *slot = slot_of(reach->slots, reach->capacity, &from->id);
    if (is_damaged)
        *is_damaged = slot->state == DAMAGED;
    if (damaged && slot->state == DAMAGED)
        *damaged = slot->damaged;
    return 0;
}

int cm_reach_note(cm_reach *reach, const cm_id *id, bool *fresh)
{
    int result = make_room(reach);
    if (result)
        return result;
    visited *slot = slot_of(reach->slots, reach->capacity, id);
    *fresh = slot->state == UNSEEN;
    if (*fresh) {
        *slot = (visited){.id = *id, .state = NOTED};
        reach->count++;
    }
    return 0;
}

bool cm_reach_has(const cm_reach *reach, const cm_id *id)
{
    return reach->capacity && slot_of(reach->slots, reach->capacity, id)->state != UNSEEN;
}
