/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

uint64_t cm_tree_child_span(uint64_t size)
{
    if (size <= CM_CHUNK)
        return 0;
    uint64_t span = CM_CHUNK;
    while (span <= UINT64_MAX / CM_FANOUT && span * CM_FANOUT < size)
        span *= CM_FANOUT;
    return span;
}

/* Reads a node of a buffer of `size` bytes into `node`, checked to have just the children that size asks for. */
static int read_node(cm_store *store, const cm_id *id, uint64_t size, uint64_t span, cm_buffer *node)
{
    int result = cm_object_get(store, id, CM_KIND_TREE, node);
    if (result)
        return result;
    uint64_t children = size / span + (size % span != 0);
    if (node->size != children * sizeof(cm_id)) {
        char hex[CM_ID_HEX + 1];
        cm_id_hex(id, hex);
        return cm_fail(EILSEQ, "buffer node %.16s has %zu bytes where %llu children are needed", hex, node->size,
                       (unsigned long long)children);
    }
    return 0;
}

typedef struct range {
    cm_store *store;
    uint8_t *memory;
    cm_buffer scratch; /* a record */
    cm_buffer partial; /* a chunk of which only a part is wanted */
} range;

static int read_chunk(range *r, const cm_id *id, uint64_t size, uint64_t offset, size_t length)
{
    if (offset == 0 && length == size) {
        int result = cm_object_get_into(r->store, id, r->memory, length, &r->scratch);
        r->memory += length;
        return result;
    }
    cm_buffer_clear(&r->partial);
    uint8_t *whole = cm_buffer_extend(&r->partial, size);
    if (!whole)
        return cm_fail(ENOMEM, "out of memory for a chunk");
    int result = cm_object_get_into(r->store, id, whole, size, &r->scratch);
    if (result)
        return result;
    memcpy(r->memory, whole + offset, length);
    r->memory += length;
    return 0;
}

/* Depth is at most 7 for 2^64 bytes, so recursion is bounded. */
static int read_range(range *r, const cm_id *id, uint64_t size, uint64_t offset, uint64_t length)
{
    uint64_t span = cm_tree_child_span(size);
    if (span == 0)
        return read_chunk(r, id, size, offset, (size_t)length);
    cm_cleanup(cm_buffer_free) cm_buffer node = CM_BUFFER_INIT;
    int result = read_node(r->store, id, size, span, &node);
    for (uint64_t child = offset / span; !result && length > 0; child++) {
        uint64_t start = child * span;
        uint64_t child_size = size - start < span ? size - start : span;
        uint64_t within = offset - start;
        uint64_t part = child_size - within < length ? child_size - within : length;
        cm_id child_id;
        memcpy(&child_id, node.data + child * sizeof child_id, sizeof child_id);
        result = read_range(r, &child_id, child_size, within, part);
        offset += part;
        length -= part;
    }
    return result;
}

int cm_tree_read(cm_store *store, const cm_id *root, uint64_t size, uint64_t offset, void *memory, size_t length)
{
    range r = {.store = store, .memory = memory};
    int result = length ? read_range(&r, root, size, offset, length) : 0;
    cm_buffer_free(&r.scratch);
    cm_buffer_free(&r.partial);
    return result;
}

int cm_tree_visit(cm_store *store, const cm_id *root, uint64_t size, cm_tree_visitor visit, void *arg)
{
    uint64_t span = cm_tree_child_span(size);
    if (span == 0)
        return visit(arg, root, CM_KIND_CHUNK, size);
    cm_cleanup(cm_buffer_free) cm_buffer node = CM_BUFFER_INIT;
    int result = read_node(store, root, size, span, &node);
    if (!result)
        result = visit(arg, root, CM_KIND_TREE, node.size);
    for (uint64_t start = 0; !result && start < size; start += span) {
        cm_id child;
        memcpy(&child, node.data + start / span * sizeof child, sizeof child);
        result = cm_tree_visit(store, &child, size - start < span ? size - start : span, visit, arg);
        if (size - start <= span)
            break;
    }
    return result;
}
