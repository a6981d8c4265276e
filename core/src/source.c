/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.c - buffers in the memory of accelerators: their chunks are hashed there, and those that the store does not have are
 * copied, by the workers piece by piece or all at once for cm_save_detach. From then on they are as any other.
 */
#include "save_internal.h"
#include "tree.h"

_Static_assert((int)CM_DEVICE_CHUNK == (int)CM_CHUNK, "devices hash chunks");

int cm_device_read(const cm_device_memory *memory, void *head)
{
    cm_device_hash hash;
    uint64_t size = memory->size < CM_DEVICE_HEAD ? memory->size : CM_DEVICE_HEAD;
    int result = memory->ops->look(memory->context, memory->device, memory->address, size, 0, head, &hash);
    return result ? cm_fail(-result, "%s", memory->ops->message()) : 0;
}

int cm_device_look(const cm_save *save, const cm_device_memory *memory, void *head, cm_device_hash **hashes)
{
    *hashes = malloc(cm_chunk_count(memory->size) * sizeof **hashes);
    if (!*hashes)
        return cm_fail(ENOMEM, "out of memory for the hashes of a buffer");
    int result = memory->ops->look(memory->context, memory->device, memory->address, memory->size,
                                   cm_fingerprints_seed(save->store->fingerprints), head, *hashes);
    if (!result)
        return 0;
    free(*hashes);
    *hashes = NULL;
    return cm_fail(-result, "%s", memory->ops->message());
}

/* Takes over what a chunk was when it was looked at last, if it is that now. */
static bool is_as_seen(cm_source *source, uint64_t chunk, const cm_sight *sight, cm_fingerprint key)
{
    if (!cm_fingerprint_equal(sight->key, key))
        return false;
    source->chunks[chunk] = sight->id;
    atomic_fetch_add_explicit(&source->stored, sight->stored, memory_order_relaxed);
    return true;
}

/* Only what is in the store itself: what this save has put may not get there. */
static void note_sight(const cm_save *save, const cm_source *source, uint64_t chunk, cm_sight *sight,
                       cm_fingerprint key)
{
    *sight = (cm_sight){.id = source->chunks[chunk]};
    if (cm_known_find_in(save->store->known, save->epoch, &sight->id, &sight->stored))
        sight->key = key;
}

void cm_source_know_hashed(cm_save *save, cm_source *source, const cm_device_hash *hashes)
{
    cm_sight *sights = save->held ? NULL : cm_sights_of(save->store->sights, &source->device, save->epoch);
    cm_fingerprint last = {0, 0}; /* no content has this one */
    for (uint64_t i = 0; i < cm_chunk_count(source->size); i++) {
        cm_fingerprint key = cm_fingerprint_from(hashes[i].low, hashes[i].high);
        bool run = i % CM_PIECE_CHUNKS && cm_fingerprint_equal(last, key); /* counted once, as by the workers */
        last = key;
        if (run) {
            source->chunks[i] = source->chunks[i - 1];
            source->read[i] = source->read[i - 1];
        } else if (sights && is_as_seen(source, i, &sights[i], key)) {
            source->read[i] = true;
        } else {
            source->read[i] = cm_source_know(save, source, i, key);
            if (sights && source->read[i])
                note_sight(save, source, i, &sights[i], key);
        }
    }
}

int cm_source_fetch(const cm_source *source, uint64_t first, uint64_t size, uint8_t *to)
{
    const cm_device_memory *memory = &source->device;
    int result = memory->ops->fetch(memory->context, memory->device, memory->address + first * CM_CHUNK, size,
                                    source->read + first, to);
    return result ? cm_fail(-result, "%s", memory->ops->message()) : 0;
}

int cm_source_detach_device(cm_save *save, cm_source *source, uint64_t *room)
{
    uint64_t count = cm_chunk_count(source->size), needed = 0;
    for (uint64_t i = 0; i < count; i++)
        if (!source->read[i])
            needed += cm_chunk_size(source->size, i);
    uint8_t *copy = needed <= *room ? cm_source_copy_new(source) : NULL;
    if (!copy)
        return -1;
    int result = cm_source_fetch(source, 0, source->size, copy);
    if (result)
        cm_save_set_error(save, result);
    source->data = source->copy = copy;
    *room -= needed;
    return 1;
}
