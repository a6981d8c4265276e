/* SPDX-License-Identifier: Apache-2.0 */
#include "fingerprint.h"

#include "hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

enum { SHARDS = 16, SHARD_FIRST = 256, SHARD_MOST = 1 << 18 }; /* entries: 4 million at most, 200 MB */

typedef struct entry {
    cm_fingerprint key; /* all zero: free */
    cm_id id;
} entry;

typedef struct shard {
    pthread_mutex_t lock;
    entry *entries;
    size_t capacity, count; /* capacity: a power of two */
} shard;

struct cm_fingerprints {
    uint64_t seed;
    shard shards[SHARDS];
};

cm_fingerprints *cm_fingerprints_new(void)
{
    cm_fingerprints *known = calloc(1, sizeof *known);
    if (known && getrandom(&known->seed, sizeof known->seed, 0) != sizeof known->seed) {
        free(known);
        return NULL;
    }
    for (size_t i = 0; known && i < SHARDS; i++)
        pthread_mutex_init(&known->shards[i].lock, NULL);
    return known;
}

void cm_fingerprints_free(cm_fingerprints *known)
{
    for (size_t i = 0; known && i < SHARDS; i++) {
        free(known->shards[i].entries);
        pthread_mutex_destroy(&known->shards[i].lock);
    }
    free(known);
}

cm_fingerprint cm_fingerprint_of(const cm_fingerprints *known, const void *content, size_t size)
{
    cm_hash hash = cm_hash_of(content, size, known->seed);
    return cm_fingerprint_from(hash.low, hash.high);
}

uint64_t cm_fingerprints_seed(const cm_fingerprints *known)
{
    return known->seed;
}

static entry *probe(const shard *s, cm_fingerprint key)
{
    size_t at = (size_t)key.high & (s->capacity - 1);
    while (s->entries[at].key.low && (s->entries[at].key.low != key.low || s->entries[at].key.high != key.high))
        at = (at + 1) & (s->capacity - 1);
    return &s->entries[at];
}

static shard *shard_of(cm_fingerprints *known, cm_fingerprint key)
{
    return &known->shards[(key.low >> 1) % SHARDS];
}

bool cm_fingerprint_find(cm_fingerprints *known, cm_fingerprint key, cm_id *id)
{
    shard *s = shard_of(known, key);
    pthread_mutex_lock(&s->lock);
    const entry *found = s->capacity ? probe(s, key) : NULL;
    bool is_known = found && found->key.low;
    if (is_known)
        *id = found->id;
    pthread_mutex_unlock(&s->lock);
    return is_known;
}

/* Makes room for one more: larger, or empty again when it has become too large. */
static bool make_room(shard *s)
{
    if (s->count * 3 < s->capacity * 2)
        return true;
    bool full = s->capacity >= SHARD_MOST;
    shard fresh = {.capacity = full || !s->capacity ? SHARD_FIRST : s->capacity * 2};
    fresh.entries = calloc(fresh.capacity, sizeof *fresh.entries);
    if (!fresh.entries)
        return false;
    for (size_t i = 0; i < s->capacity && !full; i++)
        if (s->entries[i].key.low) {
            *probe(&fresh, s->entries[i].key) = s->entries[i];
            fresh.count++;
        }
    free(s->entries);
    s->entries = fresh.entries;
    s->capacity = fresh.capacity;
    s->count = fresh.count;
    return true;
}

void cm_fingerprint_add(cm_fingerprints *known, cm_fingerprint key, const cm_id *id)
{
    shard *s = shard_of(known, key);
    pthread_mutex_lock(&s->lock);
    if (make_room(s)) { /* without memory it is just not remembered */
        entry *found = probe(s, key);
        s->count += found->key.low == 0;
        *found = (entry){key, *id};
    }
    pthread_mutex_unlock(&s->lock);
}
