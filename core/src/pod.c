/* SPDX-License-Identifier: Apache-2.0 */
#include "pod.h"

#include "codec.h"
#include "error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t cm_page_of_variable(const char *name)
{
    return XXH3_64bits(name, strlen(name));
}

uint64_t cm_page_of_edit(const char *name, uint64_t number)
{
    /* Not as a seed: that XXH3 merely adds to short inputs, so "v11" and "v13" meet two edits apart. */
    uint64_t both[2] = {cm_page_of_variable(name), number};
    return XXH3_64bits(both, sizeof both);
}

uint64_t cm_page_of_child(uint64_t parent, uint32_t ordinal)
{
    uint8_t bytes[12];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(parent >> (8 * i));
    for (int i = 0; i < 4; i++)
        bytes[8 + i] = (uint8_t)(ordinal >> (8 * i));
    return XXH3_64bits(bytes, sizeof bytes);
}

static bool is_buffer(uint8_t type)
{
    return type <= CM_EVENT_BUFFER + CM_PAYLOAD_BYTEARRAY;
}

int cm_pod_encode(const cm_pod_view *view, cm_buffer *content)
{
    cm_buffer_clear(content);
    cm_buffer_append(content, CM_MAGIC_POD, 4);
    cm_buffer_varint(content, view->kind);
    cm_buffer_varint(content, view->root == CM_INDEX_ROOT ? 0 : (uint64_t)view->root + 1);
    cm_buffer_varint(content, view->memo_count);
    cm_buffer_varint(content, view->event_count);
    uint32_t position = 0, memo = 0;
    for (size_t i = 0; i < view->event_count; i++) {
        const cm_event *event = &view->events[i];
        cm_buffer_varint(content, event->position - position);
        cm_buffer_varint(content, event->memo - memo);
        cm_buffer_append(content, &event->type, 1);
        position = event->position;
        memo = event->memo;
        if (is_buffer(event->type)) {
            cm_buffer_varint(content, event->size);
            cm_buffer_append(content, &event->id, sizeof event->id);
        } else if (event->type == CM_EVENT_EXTERNAL) {
            cm_buffer_u64(content, event->page);
            cm_buffer_varint(content, event->index == CM_INDEX_ROOT ? 0 : (uint64_t)event->index + 1);
        } else {
            cm_buffer_append(content, &event->id, sizeof event->id);
            cm_buffer_varint(content, event->size);
            cm_buffer_varint(content, event->memos);
            if (event->type == CM_EVENT_CHILD_AT)
                cm_buffer_u64(content, event->page);
            else
                cm_buffer_varint(content, event->index);
        }
    }
    cm_buffer_varint(content, view->get_count);
    for (size_t i = 0, last = 0; i < view->get_count; last = view->gets[i++])
        cm_buffer_varint(content, view->gets[i] - last);
    cm_buffer_varint(content, view->body_size);
    cm_buffer_append(content, view->body, view->body_size);
    return content->error ? cm_fail(ENOMEM, "out of memory encoding a pod") : 0;
}

static bool read_event(cm_reader *reader, cm_event *event, uint32_t *position, uint32_t *memo)
{
    *position += (uint32_t)cm_read_bounded(reader, UINT32_MAX - *position);
    *memo += (uint32_t)cm_read_bounded(reader, UINT32_MAX - *memo);
    const uint8_t *type = cm_read_bytes(reader, 1);
    if (!type)
        return false;
    event->position = *position;
    event->memo = *memo;
    event->type = *type;
    event->stored = false;
    event->pod = NULL;
    const uint8_t *id = NULL;
    if (is_buffer(event->type)) {
        event->size = cm_read_bounded(reader, INT64_MAX / 2);
        id = cm_read_bytes(reader, sizeof event->id);
    } else if (event->type == CM_EVENT_EXTERNAL) {
        event->page = cm_read_u64(reader);
        uint64_t index = cm_read_bounded(reader, UINT32_MAX);
        event->index = index ? (uint32_t)(index - 1) : CM_INDEX_ROOT;
        return !reader->bad;
    } else if (event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT) {
        id = cm_read_bytes(reader, sizeof event->id);
        event->size = cm_read_bounded(reader, INT64_MAX);
        event->memos = cm_read_bounded(reader, UINT32_MAX);
        if (event->type == CM_EVENT_CHILD_AT)
            event->page = cm_read_u64(reader);
        else
            event->index = (uint32_t)cm_read_bounded(reader, UINT32_MAX);
    }
    if (!id || reader->bad)
        return false;
    memcpy(&event->id, id, sizeof event->id);
    return true;
}

/* Every external is a LONG_BINGET of its own, which is no get. */
static int check_externals(const cm_pod_view *view)
{
    size_t get = 0;
    uint64_t free_from = 0; /* the end of the external before */
    for (size_t i = 0; i < view->event_count; i++) {
        const cm_event *event = &view->events[i];
        if (event->type != CM_EVENT_EXTERNAL)
            continue;
        if (view->body_size < CM_GET_SIZE || event->position > view->body_size - CM_GET_SIZE ||
            view->body[event->position] != CM_OP_LONG_BINGET)
            return cm_fail(EILSEQ, "damaged pod: an external that is at no LONG_BINGET");
        while (get < view->get_count && view->gets[get] + CM_GET_SIZE <= event->position)
            get++;
        if (event->position < free_from || (get < view->get_count && view->gets[get] < event->position + CM_GET_SIZE))
            return cm_fail(EILSEQ, "damaged pod: an external over another reference");
        free_from = (uint64_t)event->position + CM_GET_SIZE;
    }
    return 0;
}

/* An item of the encoding takes at least this many bytes, which bounds what a hostile count can make us allocate. */
enum { EVENT_LEAST = 3 + 8 + 1, GET_LEAST = 1 };

int cm_pod_decode(const void *content, size_t size, cm_pod_view *view)
{
    *view = (cm_pod_view){0};
    cm_reader reader = cm_reader_of(content, size);
    const uint8_t *magic = cm_read_bytes(&reader, 4);
    if (!magic || memcmp(magic, CM_MAGIC_POD, 3) != 0)
        return cm_fail(EILSEQ, "not a pod");
    if (magic[3] != CM_MAGIC_POD[3])
        return cm_fail(EPROTONOSUPPORT, "a pod of format %u: this Chipmink reads format %u; use a newer one", magic[3],
                       CM_MAGIC_POD[3]);
    view->kind = (uint8_t)cm_read_bounded(&reader, CM_POD_FRAGMENT);
    uint64_t root = cm_read_bounded(&reader, UINT32_MAX);
    view->root = root ? (uint32_t)(root - 1) : CM_INDEX_ROOT;
    view->memo_count = (uint32_t)cm_read_bounded(&reader, UINT32_MAX - 1);
    view->event_count = cm_read_bounded(&reader, size / EVENT_LEAST);
    if (!reader.bad && view->event_count) {
        view->events = calloc(view->event_count, sizeof *view->events);
        if (!view->events)
            return cm_fail(ENOMEM, "out of memory decoding a pod");
    }
    uint32_t position = 0, memo = 0;
    for (size_t i = 0; !reader.bad && i < view->event_count; i++)
        if (!read_event(&reader, &view->events[i], &position, &memo))
            reader.bad = true;
    view->get_count = cm_read_bounded(&reader, size / GET_LEAST);
    if (!reader.bad && view->get_count) {
        view->gets = malloc(view->get_count * sizeof *view->gets);
        if (!view->gets)
            return cm_fail(ENOMEM, "out of memory decoding a pod");
    }
    uint64_t at = 0;
    for (size_t i = 0; !reader.bad && i < view->get_count; i++) {
        at += cm_read_bounded(&reader, size);
        view->gets[i] = (uint32_t)at;
        if (at > size || (i > 0 && view->gets[i] < view->gets[i - 1] + CM_GET_SIZE))
            reader.bad = true;
    }
    view->body_size = cm_read_bounded(&reader, size);
    view->body = cm_read_bytes(&reader, view->body_size);
    if (reader.bad || reader.at != reader.end)
        return cm_fail(EILSEQ, "damaged pod: its tables make no sense");
    view->tail = view->body_size ? view->body[view->body_size - 1] : 0;
    if (position > view->body_size || memo > view->memo_count ||
        (view->root != CM_INDEX_ROOT && view->root >= view->memo_count) ||
        (view->kind == CM_POD_FRAGMENT && view->root != CM_INDEX_ROOT))
        return cm_fail(EILSEQ, "damaged pod: positions or indices beyond its end");
    for (size_t i = 0; i < view->get_count; i++) {
        uint32_t get = view->gets[i];
        if (view->body_size < CM_GET_SIZE || get > view->body_size - CM_GET_SIZE ||
            view->body[get] != CM_OP_LONG_BINGET)
            return cm_fail(EILSEQ, "damaged pod: a relocation that is at no LONG_BINGET");
        uint32_t index = 0;
        for (int k = 0; k < 4; k++)
            index |= (uint32_t)view->body[get + 1 + (uint32_t)k] << (8 * k);
        if (index >= view->memo_count)
            return cm_fail(EILSEQ, "damaged pod: a reference to object %u of %u", index, view->memo_count);
    }
    return check_externals(view);
}

void cm_pod_view_clear(cm_pod_view *view)
{
    free(view->events);
    free(view->gets);
    *view = (cm_pod_view){0};
}
