/* SPDX-License-Identifier: Apache-2.0 */
/* save_put.c - putting contents: which are known, what they may be differences from, many at a time. */
#include "save_put.h"

#include "codec.h"

enum {
    BATCH_BYTES = 1 << 20, /* of content put at once */
    BATCH_CONTENTS = 1024,
    MISSES_MOST = 8, /* see cm_luck */
    RETRY_EVERY = 32,
};

/* ---- what was there before --------------------------------------------------------------------------------------- */

/* Notes that `id` is at the place now; gives what was there before, zeros for nothing. */
static cm_id move_in(cm_store *store, const cm_place *place, const cm_id *id)
{
    cm_id before = {{0}};
    cm_fingerprint key = cm_fingerprint_of(store->places, place, sizeof *place);
    (void)cm_fingerprint_find(store->places, key, &before);
    if (!cm_id_equal(&before, id))
        cm_fingerprint_add(store->places, key, id);
    return before;
}

/* A large buffer has luck of its own, which it must show at once where the others have none. */
static bool feels_lucky(const cm_save *save, cm_luck *luck)
{
    if (!luck)
        return true;
    const cm_luck *shared = luck == &save->luck ? luck : &save->chunk_luck;
    if (atomic_load_explicit(&shared->misses, memory_order_relaxed) < MISSES_MOST &&
        atomic_load_explicit(&luck->misses, memory_order_relaxed) < MISSES_MOST)
        return true;
    return atomic_fetch_add_explicit(&luck->misses, 1, memory_order_relaxed) % RETRY_EVERY == 0;
}

static void learn(cm_save *save, cm_luck *luck, const cm_content *content)
{
    if (!luck)
        return;
    cm_luck *shared = luck == &save->luck ? luck : &save->chunk_luck;
    if (content->different) {
        atomic_store_explicit(&luck->misses, 0, memory_order_relaxed);
        atomic_store_explicit(&shared->misses, 0, memory_order_relaxed);
    } else if (content->fresh && cm_content_has_base(content)) {
        atomic_fetch_add_explicit(&luck->misses, 1, memory_order_relaxed);
        if (shared != luck)
            atomic_fetch_add_explicit(&shared->misses, 1, memory_order_relaxed);
    }
}

/* ---- putting ----------------------------------------------------------------------------------------------------- */

void cm_batch_clear(cm_batch *b)
{
    cm_buffer_free(&b->data);
    cm_buffer_free(&b->piece);
    free(b->contents);
    free(b->ends);
}

int cm_batch_flush(cm_batch *b)
{
    cm_save *save = b->save;
    for (size_t i = 0; i < b->count; i++)
        b->contents[i].data = b->data.data + b->ends[i].offset;
    int result = b->count ? cm_contents_put(save->store, save->txn, save->pending, b->contents, b->count) : 0;
    for (size_t i = 0; i < b->count && !result; i++) {
        const cm_content *content = &b->contents[i];
        atomic_fetch_add_explicit(b->ends[i].stored, content->stored, memory_order_relaxed);
        learn(save, b->ends[i].luck, content);
        if (!content->fresh)
            continue;
        atomic_fetch_add_explicit(&save->bytes_written, content->stored, memory_order_relaxed);
        if (content->kind == CM_KIND_POD)
            atomic_fetch_add_explicit(&save->pods_new, 1, memory_order_relaxed);
    }
    b->count = 0;
    cm_buffer_clear(&b->data);
    return result;
}

int cm_batch_reserve(cm_batch *b, size_t size, uint8_t **at)
{
    int result = 0;
    if (b->count == BATCH_CONTENTS || (b->count && b->data.size + size > BATCH_BYTES))
        result = cm_batch_flush(b);
    if (result)
        return result;
    *at = cm_buffer_extend(&b->data, size);
    if ((*at || size == 0) && cm_grow(&b->contents, b->count, &b->contents_room, sizeof *b->contents) &&
        cm_grow(&b->ends, b->count, &b->ends_room, sizeof *b->ends))
        return 0;
    return cm_fail(ENOMEM, "out of memory for the content of a save");
}

/* Content that was seen before and that the store has, or this save has put: its id, and what it takes on disk. */
static bool recognise(const cm_save *save, cm_fingerprint key, cm_id *id, uint64_t *stored)
{
    return cm_fingerprint_find(save->store->fingerprints, key, id) &&
           (cm_known_find_in(save->store->known, save->epoch, id, stored) || cm_known_find(save->pending, id, stored));
}

bool cm_put_known(cm_save *save, const cm_offer *o)
{
    uint64_t known;
    if (!recognise(save, o->key, o->id, &known))
        return false;
    if (!o->nowhere)
        move_in(save->store, &o->place, o->id);
    atomic_fetch_add_explicit(o->stored, known, memory_order_relaxed);
    return true;
}

int cm_batch_put_copy(cm_batch *b, const cm_offer *o, const uint8_t *copy)
{
    cm_save *save = b->save;
    int result = cm_id_of(copy, o->size, o->id);
    if (result)
        return result;
    cm_fingerprint_add(save->store->fingerprints, o->key, o->id);
    cm_content *content = &b->contents[b->count];
    *content = (cm_content){.id = *o->id, .kind = (uint8_t)o->kind, .size = o->size};
    cm_id before = o->nowhere ? content->base : move_in(save->store, &o->place, o->id);
    if (o->size >= CM_DELTA_MIN && feels_lucky(save, o->luck))
        content->base = before;
    b->ends[b->count++] = (cm_batch_end){b->data.size - o->size, o->stored, o->luck};
    return 0;
}

int cm_batch_put(cm_batch *b, cm_offer o)
{
    uint8_t *copy;
    o.key = cm_fingerprint_of(b->save->store->fingerprints, o.data, o.size);
    if (cm_put_known(b->save, &o))
        return 0;
    int result = cm_batch_reserve(b, o.size, &copy);
    if (result)
        return result;
    if (o.size)
        memcpy(copy, o.data, o.size);
    return cm_batch_put_copy(b, &o, copy);
}
