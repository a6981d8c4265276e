/* SPDX-License-Identifier: Apache-2.0 */
#include "known.h"

#include "id.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 16, SHARD_MOST = 1 << 18 }; /* about 4 million ids, 160 MB, at the very most */

typedef struct slot {
    cm_id id;
    uint64_t stored_plus_one; /* 0: free */
} slot;

typedef struct shard {
    pthread_mutex_t lock;
    slot *slots;
    size_t capacity, count; /* capacity: a power of two */
    uint64_t epoch;         /* the same in all shards, but while it changes */
} shard;

struct cm_known {
    shard shards[SHARDS];
};

cm_known *cm_known_new(void)
{
    cm_known *known = calloc(1, sizeof *known);
    for (size_t i = 0; known && i < SHARDS; i++)
        pthread_mutex_init(&known->shards[i].lock, NULL);
    return known;
}

static void empty(shard *s)
{
    free(s->slots);
    s->slots = NULL;
    s->capacity = s->count = 0;
}

void cm_known_free(cm_known *known)
{
    for (size_t i = 0; known && i < SHARDS; i++) {
        empty(&known->shards[i]);
        pthread_mutex_destroy(&known->shards[i].lock);
    }
    free(known);
}

static slot *probe(const shard *s, const cm_id *id)
{
    size_t at = (size_t)(cm_id_key(id) >> 8) & (s->capacity - 1);
    while (s->slots[at].stored_plus_one && !cm_id_equal(&s->slots[at].id, id))
        at = (at + 1) & (s->capacity - 1);
    return &s->slots[at];
}

static shard *shard_of(cm_known *known, const cm_id *id)
{
    return &known->shards[cm_id_key(id) % SHARDS];
}

void cm_known_enter(cm_known *known, uint64_t epoch)
{
    for (size_t i = 0; i < SHARDS; i++) {
        shard *s = &known->shards[i];
        pthread_mutex_lock(&s->lock);
        if (s->epoch != epoch)
            empty(s);
        s->epoch = epoch;
        pthread_mutex_unlock(&s->lock);
    }
}

uint64_t cm_known_epoch(cm_known *known)
{
    pthread_mutex_lock(&known->shards[0].lock);
    uint64_t epoch = known->shards[0].epoch;
    pthread_mutex_unlock(&known->shards[0].lock);
    return epoch;
}

/* With the shard's lock. */
static bool find(const shard *s, const cm_id *id, uint64_t *stored)
{
    const slot *found = s->capacity ? probe(s, id) : NULL;
    bool is_known = found && found->stored_plus_one;
    if (is_known)
        *stored = found->stored_plus_one - 1;
    return is_known;
}

bool cm_known_find(cm_known *known, const cm_id *id, uint64_t *stored)
{
    shard *s = shard_of(known, id);
    pthread_mutex_lock(&s->lock);
    bool is_known = find(s, id, stored);
    pthread_mutex_unlock(&s->lock);
    return is_known;
}

bool cm_known_find_in(cm_known *known, uint64_t epoch, const cm_id *id, uint64_t *stored)
{
    shard *s = shard_of(known, id);
    pthread_mutex_lock(&s->lock);
    bool is_known = s->epoch == epoch && find(s, id, stored);
    pthread_mutex_unlock(&s->lock);
    return is_known;
}

static bool grow(shard *s)
{
    shard larger = {.capacity = s->capacity ? s->capacity * 2 : 256, .count = s->count};
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < s->capacity; i++)
        if (s->slots[i].stored_plus_one)
            *probe(&larger, &s->slots[i].id) = s->slots[i];
    free(s->slots);
    s->slots = larger.slots;
    s->capacity = larger.capacity;
    return true;
}

/* With the shard's lock. */
static bool add(shard *s, const cm_id *id, uint64_t stored)
{
    bool added = true; /* when it cannot be remembered, the caller puts: the backend bears a second put */
    if (s->count >= SHARD_MOST)
        empty(s); /* forgetting is always right: the backend's index knows */
    if (s->count * 3 < s->capacity * 2 || grow(s)) {
        slot *found = probe(s, id);
        added = !found->stored_plus_one;
        s->count += added;
        found->id = *id;
        found->stored_plus_one = stored + 1;
    }
    return added;
}

bool cm_known_add(cm_known *known, const cm_id *id, uint64_t stored)
{
    shard *s = shard_of(known, id);
    pthread_mutex_lock(&s->lock);
    bool added = add(s, id, stored);
    pthread_mutex_unlock(&s->lock);
    return added;
}

void cm_known_merge(cm_known *known, const cm_known *from)
{
    for (size_t i = 0; i < SHARDS; i++) {
        shard *to = &known->shards[i];
        pthread_mutex_lock(&to->lock);
        for (size_t k = 0; k < from->shards[i].capacity && to->epoch == from->shards[i].epoch; k++) {
            const slot *one = &from->shards[i].slots[k];
            if (one->stored_plus_one)
                add(to, &one->id, one->stored_plus_one - 1);
        }
        pthread_mutex_unlock(&to->lock);
    }
}
