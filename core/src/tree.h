/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - buffers: bytes kept out of pods, as a tree of fixed-size chunks.
 *
 * A buffer of at most CM_CHUNK bytes is one chunk. A larger one is a tree: each node is the concatenation of up to
 * CM_FANOUT ids, of chunks at the lowest level. The shape follows from the size alone, so a changed byte changes its
 * chunk and the nodes above it. All children but the last of a node span the same power-of-256 multiple of CM_CHUNK.
 */
#ifndef CM_TREE_H
#define CM_TREE_H

#include "store.h"

enum { CM_CHUNK = 64 * 1024, CM_FANOUT = 256 };

static inline uint64_t cm_chunk_count(uint64_t size)
{
    return size <= CM_CHUNK ? 1 : size / CM_CHUNK + (size % CM_CHUNK != 0);
}

/* Bytes that each child of the root spans; 0 when the root is itself a chunk. */
uint64_t cm_tree_child_span(uint64_t size);

/* [blocks] Bytes [offset, offset + length) of the buffer; the caller has checked that they lie within `size`. */
CM_MUST_USE int cm_tree_read(cm_store *store, const cm_id *root, uint64_t size, uint64_t offset, void *memory,
                             size_t length);

/* Called for every node and chunk, nodes before what is below them; `size` is of the content. Non-zero stops. */
typedef int (*cm_tree_visitor)(void *arg, const cm_id *id, enum cm_kind kind, uint64_t size);
/* [blocks] Reads the nodes, not the chunks. */
CM_MUST_USE int cm_tree_visit(cm_store *store, const cm_id *root, uint64_t size, cm_tree_visitor visit, void *arg);

#endif
