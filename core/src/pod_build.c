/* SPDX-License-Identifier: Apache-2.0 */
/* pod_build.c - the builder's side of save.h: pods under construction. One thread per save. */
#include "save_internal.h"

#include "checkpoint.h"
#include "codec.h"
#include "tree.h"

enum { BODY_MOST = CM_RECORD_MOST / 2 };

void cm_body_grow(cm_body *body, size_t size)
{
    if (body->error)
        return;
    size_t used = (size_t)(body->cursor - body->start), capacity = (size_t)(body->limit - body->start);
    if (size > BODY_MOST - used) {
        body->error = -E2BIG;
        return;
    }
    capacity = capacity < 128 ? 256 : capacity * 2;
    while (capacity < used + size)
        capacity *= 2;
    uint8_t *start = realloc(body->start, capacity);
    if (!start) {
        body->error = -ENOMEM;
        return;
    }
    body->start = start;
    body->cursor = start + used;
    body->limit = start + capacity;
}

cm_pod *cm_save_page_find(const cm_save *save, uint64_t page)
{
    if (save->page_slots == 0)
        return NULL;
    size_t at = page & (save->page_slots - 1);
    while (save->pages[at] && save->pages[at]->page != page)
        at = (at + 1) & (save->page_slots - 1);
    return save->pages[at];
}

static void page_insert(cm_save *save, cm_pod *pod)
{
    size_t at = pod->page & (save->page_slots - 1);
    while (save->pages[at])
        at = (at + 1) & (save->page_slots - 1);
    save->pages[at] = pod;
}

static bool page_room(cm_save *save)
{
    if ((size_t)save->pod_count * 3 < save->page_slots * 2)
        return true;
    size_t slots = save->page_slots ? save->page_slots * 2 : 256;
    cm_pod **pages = calloc(slots, sizeof *pages);
    if (!pages)
        return false;
    free(save->pages);
    save->pages = pages;
    save->page_slots = slots;
    for (uint32_t i = 0; i < save->pod_count; i++)
        page_insert(save, save->pods[i]);
    return true;
}

cm_pod *cm_save_pod_new(cm_save *save, cm_pod *parent, enum cm_pod_kind kind)
{
    size_t capacity = save->pod_capacity;
    if (!page_room(save) || save->pod_count == UINT32_MAX ||
        !cm_grow(&save->pods, save->pod_count, &capacity, sizeof *save->pods))
        return NULL;
    save->pod_capacity = (uint32_t)capacity;
    cm_pod *pod = cm_save_alloc(save, sizeof *pod);
    if (!pod)
        return NULL;
    pod->save = save;
    pod->parent = parent;
    pod->kind = (uint8_t)kind;
    pod->sources_end = &pod->sources;
    pod->variable = (uint32_t)save->variable_count;
    pod->sequence = save->pod_count;
    pod->lowest_target = UINT32_MAX;
    if (parent) {
        pod->ordinal = parent->children_made++;
        pod->page = cm_page_of_child(parent->page, pod->ordinal);
    } else {
        const char *name = save->variable_name ? save->variable_name : "";
        /* An edit keeps the head's page map: none of its pages may be taken for one of the new pods. */
        pod->page = save->edit ? cm_page_of_edit(name, save->head->last) : cm_page_of_variable(name);
    }
    while (pod->page == CM_PAGE_NONE || cm_save_page_find(save, pod->page)) {
        pod->page++; /* two places with one 64-bit hash: the later one moves on */
        pod->page_given = true;
    }
    save->pods[save->pod_count++] = pod;
    page_insert(save, pod);
    return pod;
}

static void source_free(cm_source *source)
{
    if (!source)
        return;
    if (source->chunks != &source->single)
        free(source->chunks);
    free(source->read);
    free(source->copy);
    free(source);
}

void cm_pod_clear(cm_pod *pod)
{
    while (pod->sources) {
        cm_source *next = pod->sources->next;
        source_free(pod->sources);
        pod->sources = next;
    }
    free(pod->body.start);
    if (!pod->kept)
        free(pod->events);
    free(pod->gets);
}

static cm_event *add_event(cm_pod *pod, uint8_t type)
{
    if (!cm_grow(&pod->events, pod->event_count, &pod->event_capacity, sizeof *pod->events)) {
        pod->body.error = -ENOMEM;
        return NULL;
    }
    cm_event *event = &pod->events[pod->event_count++];
    *event = (cm_event){.position = (uint32_t)cm_body_size(&pod->body), .memo = pod->body.memo_count, .type = type};
    return event;
}

static void put_get(cm_body *body, uint32_t index)
{
    if (cm_body_room(body, CM_GET_SIZE)) {
        *body->cursor++ = CM_OP_LONG_BINGET;
        for (int i = 0; i < 4; i++)
            *body->cursor++ = (uint8_t)(index >> (8 * i));
    }
}

void cm_pod_note_get(cm_pod *pod, uint32_t position)
{
    if (cm_grow(&pod->gets, pod->get_count, &pod->get_capacity, sizeof *pod->gets))
        pod->gets[pod->get_count++] = position;
    else
        pod->body.error = -ENOMEM;
}

void cm_pod_get(cm_pod *pod, uint32_t index)
{
    cm_pod_note_get(pod, (uint32_t)cm_body_size(&pod->body));
    put_get(&pod->body, index);
}

void cm_pod_external(cm_pod *pod, cm_pod *target, uint32_t index)
{
    cm_event *event = add_event(pod, CM_EVENT_EXTERNAL);
    if (!event)
        return;
    event->page = target->page;
    event->index = index;
    event->pod = target;
    target->exported = true;
    if (target->sequence < pod->lowest_target)
        pod->lowest_target = target->sequence;
    put_get(&pod->body, 0);
}

void cm_pod_child(cm_pod *pod, cm_pod *child)
{
    cm_event *event = add_event(pod, child->page_given ? CM_EVENT_CHILD_AT : CM_EVENT_CHILD);
    if (!event)
        return;
    event->pod = child;
    event->index = child->ordinal;
    event->page = child->page;
    event->size = child->tree_size;
    event->memos = child->tree_memos;
    pod->tree_size += child->tree_size;
    pod->tree_pods += child->tree_pods;
    pod->tree_memos += child->tree_memos;
    if (child->lowest_target < pod->lowest_target)
        pod->lowest_target = child->lowest_target;
}

/* Takes over what is known of a large buffer's chunks. */
static void look_at(const cm_save *save, cm_source *source)
{
    cm_watch_found found;
    source->memory = source->data;
    source->look = cm_watch_look(save->store->watch, source->memory, source->size, &found);
    if (!source->look)
        return;
    source->root = found.root;
    source->chunks = found.ids;
    atomic_init(&source->stored, found.stored);
}

/* `look`: what is known of it may be asked for. NULL: out of memory. */
static cm_source *source_new(cm_save *save, const void *data, size_t size, bool lent, bool look)
{
    uint64_t chunks = cm_chunk_count(size);
    bool marked = lent || size >= CM_WATCH_MIN;
    cm_source *source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    source->data = data;
    source->size = size;
    if (look && size >= CM_WATCH_MIN)
        look_at(save, source);
    if (!cm_id_is_none(&source->root))
        return source;
    if (!source->chunks)
        source->chunks = chunks == 1 ? &source->single : calloc(chunks, sizeof *source->chunks);
    source->read = marked ? calloc(chunks, 1) : NULL;
    if (!source->chunks || (marked && !source->read)) {
        source_free(source);
        return NULL;
    }
    for (uint64_t i = 0; source->look && i < chunks; i++)
        source->read[i] = !cm_id_is_none(&source->chunks[i]);
    if (source->look) {
        *save->watched_end = source;
        save->watched_end = &source->next_watched;
    }
    return source;
}

/* Whether all chunks of a piece were known. Of one that no worker has yet. */
static bool is_known(const cm_source *source, uint64_t first)
{
    uint64_t left = cm_chunk_count(source->size) - first;
    return source->read && !memchr(source->read + first, 0, left < CM_PIECE_CHUNKS ? left : CM_PIECE_CHUNKS);
}

/* Bytes in a piece of chunks that were not known, likewise. */
static uint64_t unknown_bytes(const cm_source *source, uint64_t first)
{
    uint64_t bytes = 0, end = first + CM_PIECE_CHUNKS, chunks = cm_chunk_count(source->size);
    for (uint64_t i = first; i < end && i < chunks; i++)
        if (!source->read || !source->read[i])
            bytes += cm_chunk_size(source->size, i);
    return bytes;
}

/* The event of a buffer, and its source. NULL: out of memory, which is noted. */
static cm_source *begin_source(cm_pod *pod, enum cm_buffer_kind kind, const void *data, size_t size, bool look)
{
    cm_event *event = add_event(pod, (uint8_t)(CM_EVENT_BUFFER + kind));
    if (!event)
        return NULL;
    event->size = size;
    bool lent = kind == CM_BUFFER_WRITABLE || kind == CM_BUFFER_READONLY;
    cm_source *source = source_new(pod->save, data, size, lent, look);
    if (!source) {
        pod->body.error = -ENOMEM;
        return NULL;
    }
    source->page = pod->page;
    source->number = ++pod->source_count;
    *pod->sources_end = source;
    pod->sources_end = &source->next;
    if (lent) {
        source->next_lent = pod->save->lent;
        pod->save->lent = source;
    }
    pod->tree_size += cm_buffer_stream_size(size);
    return source;
}

/* Hands the pieces that are not known to the workers. */
static void enqueue_source(cm_pod *pod, cm_source *source)
{
    uint64_t chunks = cm_id_is_none(&source->root) ? cm_chunk_count(source->size) : 0;
    size_t pieces = 0;
    for (uint64_t first = 0; first < chunks; first += CM_PIECE_CHUNKS)
        pieces += !is_known(source, first);
    atomic_init(&source->pieces_left, pieces);
    for (uint64_t first = 0; first < chunks; first += CM_PIECE_CHUNKS) {
        if (is_known(source, first))
            continue;
        cm_item item = {.source = source, .first_chunk = first, .bytes = unknown_bytes(source, first)};
        int result = cm_save_enqueue(pod->save, &item, 1);
        if (result && !pod->body.error)
            pod->body.error = result;
    }
}

void cm_pod_buffer(cm_pod *pod, enum cm_buffer_kind kind, const void *data, size_t size)
{
    cm_source *source = begin_source(pod, kind, data, size, true);
    if (source)
        enqueue_source(pod, source);
}

int cm_pod_device_buffer(cm_pod *pod, const cm_device_memory *memory, void *head)
{
    cm_cleanup(cm_cleanup_free) cm_device_hash *hashes = NULL;
    int result = cm_device_look(pod->save, memory, head, &hashes);
    if (result)
        return result;
    cm_source *source = begin_source(pod, CM_BUFFER_WRITABLE, NULL, memory->size, false);
    if (!source)
        return 0; /* to be found by cm_save_pod_finish */
    source->device = *memory;
    cm_source_know_hashed(pod->save, source, hashes);
    enqueue_source(pod, source);
    return 0;
}

void cm_pod_buffer_stored(cm_pod *pod, unsigned kind, const cm_id *root, uint64_t size)
{
    cm_event *event = add_event(pod, (uint8_t)(CM_EVENT_BUFFER + kind));
    if (!event)
        return;
    event->size = size;
    event->id = *root;
    event->stored = true;
    pod->tree_size += cm_buffer_stream_size(size);
}

/* Of the body and the buffers, while the body is there; 0 if anything else is in it, or not all of a buffer is known. */
static uint64_t digest_of(const cm_save *save, const cm_pod *pod)
{
    const cm_source *source = pod->sources;
    const cm_fingerprints *by = save->store->fingerprints;
    if (!source || pod->event_count != pod->source_count)
        return 0;
    cm_fingerprint digest = cm_fingerprint_of(by, pod->body.start, pod->body_size);
    for (size_t i = 0; source; i++, source = source->next) {
        const cm_event *event = &pod->events[i];
        if (cm_id_is_none(&source->root))
            return 0;
        struct { /* without gaps */
            cm_fingerprint before;
            cm_id root;
            uint64_t size, position, type;
        } part = {digest, source->root, source->size, event->position, event->type};
        digest = cm_fingerprint_of(by, &part, sizeof part);
    }
    return digest.low;
}

uint64_t cm_pod_digest(const cm_pod *pod)
{
    return pod->digest;
}

int cm_save_pod_finish(cm_save *save, cm_pod *pod, uint32_t root)
{
    if (!pod->body.error && pod->finished)
        return cm_fail(EINVAL, "a pod was finished twice");
    if (pod->body.error) {
        cm_save_set_error(save, pod->body.error == -E2BIG ? cm_fail(E2BIG, "a pod outgrew %d bytes", BODY_MOST)
                                                          : cm_fail(-pod->body.error, "out of memory building a pod"));
        return pod->body.error;
    }
    if (root != CM_INDEX_ROOT && root >= pod->body.memo_count)
        return cm_fail(EINVAL, "a pod's root has memo index %u of %u", root, pod->body.memo_count);
    pod->root = root;
    pod->finished = true;
    pod->body_size = (uint32_t)cm_body_size(&pod->body);
    pod->digest = digest_of(save, pod);
    pod->tail = pod->body_size ? pod->body.cursor[-1] : 0;
    pod->tree_size += pod->body_size;
    pod->tree_pods++;
    pod->tree_memos += pod->body.memo_count;
    cm_item item = {.pod = pod, .bytes = pod->body_size + pod->event_count * sizeof(cm_event)};
    save->built += save->held ? item.bytes : 0;
    return cm_save_enqueue(save, &item, 1);
}

int cm_pod_skeleton(const cm_pod *pod, cm_pod_view *view)
{
    *view = (cm_pod_view){.kind = pod->kind,
                          .root = pod->root,
                          .memo_count = pod->body.memo_count,
                          .event_count = pod->event_count,
                          .body_size = pod->body_size,
                          .tail = pod->tail};
    if (pod->event_count) {
        view->events = malloc(pod->event_count * sizeof *view->events);
        if (!view->events)
            return cm_fail(ENOMEM, "out of memory");
        memcpy(view->events, pod->events, pod->event_count * sizeof *view->events);
    }
    return 0;
}
