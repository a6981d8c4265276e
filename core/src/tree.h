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

/* Of the chunk at an index: the last one may be smaller, and that of an empty buffer has nothing. */
static inline uint64_t cm_chunk_size(uint64_t size, uint64_t i)
{
    uint64_t left = size - i * CM_CHUNK;
    return left < CM_CHUNK ? left : CM_CHUNK;
}

/* Bytes that each child of the root spans; 0 when the root is itself a chunk. */
uint64_t cm_tree_child_span(uint64_t size);

/* Bytes [offset, offset + length) of a buffer of `size` bytes, and where they are wanted. */
typedef struct cm_tree_part {
    cm_id root;
    uint64_t size, offset;
    uint8_t *memory;
    size_t length;
} cm_tree_part;

/*
 * [blocks] Reads parts of buffers, as many objects at a time as are worth a round trip; the caller has checked that each part lies
 * within its buffer. The nodes of trees are kept for a while by the store, since the next read is often of the same tree.
 */
CM_MUST_USE int cm_tree_read(cm_store *store, const cm_tree_part *parts, size_t count);

/* The nodes that a store keeps. */
typedef struct cm_tree_nodes cm_tree_nodes;
cm_tree_nodes *cm_tree_nodes_new(void); /* NULL: out of memory */
void cm_tree_nodes_free(cm_tree_nodes *nodes);

/* Called for every node and chunk, nodes before what is below them; `size` is of the content. Non-zero stops. */
typedef int (*cm_tree_visitor)(void *arg, const cm_id *id, enum cm_kind kind, uint64_t size);
/* [blocks] Reads the nodes, not the chunks. */
CM_MUST_USE int cm_tree_visit(cm_store *store, const cm_id *root, uint64_t size, cm_tree_visitor visit, void *arg);

#endif
