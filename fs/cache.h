/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - what was read from the store lately: items under node ids, bounded by bytes and by number.
 *
 * An item is immutable and reference counted; dropped from the cache it lives on until the last user gives it back. The one
 * used last always stays, even when it alone exceeds the bounds: otherwise each access to it would make it anew. So does what others
 * lean on: its memory would stay, and whoever asks for it next would make it anew.
 */
#ifndef CM_CACHE_H
#define CM_CACHE_H

#include "node.h"

typedef struct cm_cached cm_cached;

/* The head of every cached thing, its first member. Whoever makes one fills destroy and cost with cm_cached_init. */
struct cm_cached {
    void (*destroy)(cm_cached *item);
    size_t cost; /* bytes of memory it holds */
    unsigned references, leaning;
};

void cm_cached_init(cm_cached *item, size_t cost, void (*destroy)(cm_cached *item));
cm_cached *cm_cached_ref(cm_cached *item);
void cm_cached_unref(cm_cached *item); /* NULL is fine */
/* A reference of another item, which is made of this one and keeps it in memory. */
cm_cached *cm_cached_lean(cm_cached *item);
void cm_cached_lean_no_more(cm_cached *item); /* NULL is fine */

typedef struct cm_cache cm_cache;

int cm_cache_new(size_t bytes, size_t count, cm_cache **cache);
void cm_cache_free(cm_cache *cache);

/* Makes the item of `key`, with one reference for the caller. [blocks] */
typedef int (*cm_cached_maker)(void *arg, uint64_t key, cm_cached **item);
/*
 * [blocks] A reference to the item of `key`; when it is not there, `make` is called without locks held, once, whatever the
 * number of threads that ask meanwhile: they wait for it. A failure is returned to each of them and not kept. `make` may
 * use the cache for other keys, never in a circle.
 */
int cm_cache_get(cm_cache *cache, uint64_t key, cm_cached_maker make, void *arg, cm_cached **item);
/* Only if it is there. */
bool cm_cache_has(cm_cache *cache, uint64_t key);
/* Bytes held now. */
size_t cm_cache_bytes(cm_cache *cache);

#endif
