/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - sorted maps from byte strings to byte strings, as trees of immutable nodes.
 *
 * Where a node ends is decided by the hash of the entry's key, so two maps that differ in one entry share all nodes but
 * those on its path (a "prolly tree"): a checkpoint of 10,000 variables of which one changed writes two small nodes.
 *
 *     node  := "CMM\x01" | level varint | count varint | entry*
 *     entry := key size varint | key | value size varint | value          keys strictly ascending
 *
 * At level 0 values are the map's; above, an entry is a child: its first key, and its id.
 */
#ifndef CM_MAP_H
#define CM_MAP_H

#include "store.h"

typedef struct cm_map_entry {
    const uint8_t *key, *value;
    size_t key_size, value_size;
} cm_map_entry;

/* Gets the content of a node to store and returns its id. */
typedef int (*cm_map_put)(void *arg, const cm_buffer *content, cm_id *id);

/* Builds the map of `count` entries with strictly ascending keys; every node goes through `put`. */
CM_MUST_USE int cm_map_build(const cm_map_entry *entries, size_t count, cm_map_put put, void *arg, cm_id *root);

/* Pointers into the entry live only during the call. Non-zero stops and is returned. */
typedef int (*cm_map_visitor)(void *arg, const cm_map_entry *entry);
/* [blocks] All entries, ascending. */
CM_MUST_USE int cm_map_each(cm_store *store, const cm_id *root, cm_map_visitor visit, void *arg);
/* [blocks] `value` is replaced. -ENOENT (without an error sentence): no such key. */
CM_MUST_USE int cm_map_find(cm_store *store, const cm_id *root, const void *key, size_t size, cm_buffer *value);
/* The entries of one node's content; a `leaf`'s values are the map's, others' are the children's ids. */
CM_MUST_USE int cm_map_parts(const void *content, size_t size,
                             int (*visit)(void *arg, const cm_map_entry *entry, bool leaf), void *arg);
/* Checks the structure of one node: what all readers above rely on. For the fuzz target. */
CM_MUST_USE int cm_map_check(const void *content, size_t size);

#endif
