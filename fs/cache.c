/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { BUCKETS = 1024 };

typedef struct entry {
    uint64_t key;
    cm_cached *item;    /* NULL while it is being made */
    unsigned waiters;   /* threads that wait for it: it must not go; the last one frees an entry that has failed */
    int error;          /* making it failed; the entry is in no bucket any more */
    struct entry *next; /* in the bucket */
    struct entry *newer, *older;
} entry;

struct cm_cache {
    pthread_mutex_t lock;
    pthread_cond_t made;
    size_t most_bytes, most_count, bytes, count;
    entry *buckets[BUCKETS];
    entry *newest, *oldest; /* finished ones only */
};

void cm_cached_init(cm_cached *item, size_t cost, void (*destroy)(cm_cached *item))
{
    item->destroy = destroy;
    item->cost = cost;
    item->references = 1;
    item->leaning = 0;
}

cm_cached *cm_cached_ref(cm_cached *item)
{
    __atomic_add_fetch(&item->references, 1, __ATOMIC_RELAXED);
    return item;
}

void cm_cached_unref(cm_cached *item)
{
    if (item != NULL && __atomic_sub_fetch(&item->references, 1, __ATOMIC_ACQ_REL) == 0)
        item->destroy(item);
}

cm_cached *cm_cached_lean(cm_cached *item)
{
    __atomic_add_fetch(&item->leaning, 1, __ATOMIC_RELAXED);
    return cm_cached_ref(item);
}

void cm_cached_lean_no_more(cm_cached *item)
{
    if (item != NULL)
        __atomic_sub_fetch(&item->leaning, 1, __ATOMIC_RELAXED);
    cm_cached_unref(item);
}

int cm_cache_new(size_t bytes, size_t count, cm_cache **result)
{
    cm_cache *cache = calloc(1, sizeof *cache);

    if (cache == NULL)
        return -ENOMEM;
    cache->most_bytes = bytes;
    cache->most_count = count;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->made, NULL);
    *result = cache;
    return 0;
}

static entry **bucket_of(cm_cache *cache, uint64_t key)
{
    return &cache->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 54];
}

static entry *find(cm_cache *cache, uint64_t key)
{
    entry *at = *bucket_of(cache, key);
    while (at != NULL && at->key != key)
        at = at->next;
    return at;
}

static void take_from_bucket(cm_cache *cache, entry *gone)
{
    entry **at = bucket_of(cache, gone->key);
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
}

static void take_from_order(cm_cache *cache, entry *gone)
{
    *(gone->newer != NULL ? &gone->newer->older : &cache->newest) = gone->older;
    *(gone->older != NULL ? &gone->older->newer : &cache->oldest) = gone->newer;
}

static void put_newest(cm_cache *cache, entry *fresh)
{
    fresh->newer = NULL;
    fresh->older = cache->newest;
    *(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = fresh;
    cache->newest = fresh;
}

/* Takes out what exceeds the bounds; the list of it, linked by `next`, is to be freed without the lock. */
static entry *evict(cm_cache *cache)
{
    entry *gone = NULL;

    for (entry *last = cache->oldest, *next; last != cache->newest; last = next) {
        next = last->newer;
        if (cache->bytes <= cache->most_bytes && cache->count <= cache->most_count)
            break;
        if (last->waiters > 0 || __atomic_load_n(&last->item->leaning, __ATOMIC_RELAXED) > 0)
            continue; /* not yet picked up, or its memory would stay */
        take_from_order(cache, last);
        take_from_bucket(cache, last);
        cache->bytes -= last->item->cost;
        cache->count--;
        last->next = gone;
        gone = last;
    }
    return gone;
}

static void free_entries(entry *list)
{
    while (list != NULL) {
        entry *next = list->next;
        cm_cached_unref(list->item);
        free(list);
        list = next;
    }
}

void cm_cache_free(cm_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        free_entries(cache->buckets[i]);
    pthread_cond_destroy(&cache->made);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* With the lock held: another thread is making it. */
static int wait_for(cm_cache *cache, entry *at, cm_cached **item)
{
    int error;

    at->waiters++;
    while (at->item == NULL && at->error == 0)
        pthread_cond_wait(&cache->made, &cache->lock);
    at->waiters--;
    error = at->error;
    if (error == 0)
        *item = cm_cached_ref(at->item);
    else if (at->waiters == 0)
        free(at);
    return error;
}

/* The maker is back: publishes its result, or takes the entry out. */
static int finish(cm_cache *cache, entry *fresh, int error, cm_cached **item)
{
    entry *gone = NULL;

    pthread_mutex_lock(&cache->lock);
    if (error == 0) {
        fresh->item = cm_cached_ref(*item);
        cache->bytes += fresh->item->cost;
        cache->count++;
        put_newest(cache, fresh);
        gone = evict(cache);
    } else {
        take_from_bucket(cache, fresh);
        fresh->error = error;
    }
    bool unwanted = error != 0 && fresh->waiters == 0;
    pthread_cond_broadcast(&cache->made);
    pthread_mutex_unlock(&cache->lock);
    if (unwanted)
        free(fresh);
    free_entries(gone);
    return error;
}

int cm_cache_get(cm_cache *cache, uint64_t key, cm_cached_maker make, void *arg, cm_cached **item)
{
    int result = 0;

    pthread_mutex_lock(&cache->lock);
    entry *at = find(cache, key);
    if (at != NULL && at->item != NULL) {
        take_from_order(cache, at);
        put_newest(cache, at);
        *item = cm_cached_ref(at->item);
    } else if (at != NULL) {
        result = wait_for(cache, at, item);
    } else {
        at = calloc(1, sizeof *at);
        if (at == NULL) {
            pthread_mutex_unlock(&cache->lock);
            return -ENOMEM;
        }
        at->key = key;
        at->next = *bucket_of(cache, key);
        *bucket_of(cache, key) = at;
        pthread_mutex_unlock(&cache->lock);
        return finish(cache, at, make(arg, key, item), item);
    }
    pthread_mutex_unlock(&cache->lock);
    return result;
}

bool cm_cache_has(cm_cache *cache, uint64_t key)
{
    pthread_mutex_lock(&cache->lock);
    entry *at = find(cache, key);
    bool there = at != NULL && at->item != NULL;
    pthread_mutex_unlock(&cache->lock);
    return there;
}

size_t cm_cache_bytes(cm_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    size_t bytes = cache->bytes;
    pthread_mutex_unlock(&cache->lock);
    return bytes;
}
