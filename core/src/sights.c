/* SPDX-License-Identifier: Apache-2.0 */
#include "sights.h"

#include "buffer.h"
#include "tree.h"

enum { CHUNKS_MOST = 1 << 20, BUFFERS_MOST = 1024 }; /* 64 GiB of buffers, about 60 MB */

typedef struct place {
    const cm_device_context *context;
    int device;
    uint64_t address, size;
    uint64_t used; /* the number of the look that asked for it last */
    cm_sight *chunks;
} place;

struct cm_sights {
    place *places;
    size_t count, capacity;
    uint64_t chunks; /* of all places */
    uint64_t epoch, looks;
};

cm_sights *cm_sights_new(void)
{
    return calloc(1, sizeof(cm_sights));
}

static void drop(cm_sights *sights, size_t at)
{
    sights->chunks -= cm_chunk_count(sights->places[at].size);
    free(sights->places[at].chunks);
    sights->places[at] = sights->places[--sights->count];
}

void cm_sights_free(cm_sights *sights)
{
    while (sights && sights->count)
        drop(sights, sights->count - 1);
    if (sights)
        free(sights->places);
    free(sights);
}

static void drop_oldest(cm_sights *sights)
{
    size_t oldest = 0;
    for (size_t i = 1; i < sights->count; i++)
        if (sights->places[i].used < sights->places[oldest].used)
            oldest = i;
    drop(sights, oldest);
}

cm_sight *cm_sights_of(cm_sights *sights, const cm_device_memory *memory, uint64_t epoch)
{
    uint64_t chunks = cm_chunk_count(memory->size);
    if (memory->size < CM_SIGHTS_MIN || chunks > CHUNKS_MOST)
        return NULL;
    while (sights->epoch != epoch && sights->count)
        drop(sights, sights->count - 1);
    sights->epoch = epoch;
    sights->looks++;
    for (size_t i = 0; i < sights->count; i++) {
        place *p = &sights->places[i];
        if (p->address == memory->address && p->size == memory->size && p->device == memory->device &&
            p->context == memory->context) {
            p->used = sights->looks;
            return p->chunks;
        }
    }
    while (sights->count && (sights->count == BUFFERS_MOST || sights->chunks + chunks > CHUNKS_MOST))
        drop_oldest(sights);
    if (!cm_grow(&sights->places, sights->count, &sights->capacity, sizeof *sights->places))
        return NULL;
    place made = {memory->context, memory->device, memory->address, memory->size, sights->looks, NULL};
    made.chunks = calloc(chunks, sizeof *made.chunks);
    if (!made.chunks)
        return NULL;
    sights->places[sights->count++] = made;
    sights->chunks += chunks;
    return made.chunks;
}
