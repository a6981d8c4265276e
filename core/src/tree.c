/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "codec.h"

uint64_t cm_tree_child_span(uint64_t size)
{
    if (size <= CM_CHUNK)
        return 0;
    uint64_t span = CM_CHUNK;
    while (span <= UINT64_MAX / CM_FANOUT && span * CM_FANOUT < size)
        span *= CM_FANOUT;
    return span;
}

/* ---- nodes that are kept ------------------------------------------------------------------------------------------- */

enum {
    SLOTS = 128, /* a node of a large buffer has 8 kB, so at most 1 MB */
};

typedef struct slot {
    cm_id id;
    uint8_t *content; /* NULL: empty */
    size_t size;
} slot;

struct cm_tree_nodes {
    pthread_mutex_t lock;
    slot slots[SLOTS];
};

cm_tree_nodes *cm_tree_nodes_new(void)
{
    cm_tree_nodes *nodes = calloc(1, sizeof *nodes);
    if (nodes)
        pthread_mutex_init(&nodes->lock, NULL);
    return nodes;
}

void cm_tree_nodes_free(cm_tree_nodes *nodes)
{
    if (!nodes)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        free(nodes->slots[i].content);
    pthread_mutex_destroy(&nodes->lock);
    free(nodes);
}

static bool recall(cm_tree_nodes *nodes, const cm_id *id, cm_buffer *content)
{
    pthread_mutex_lock(&nodes->lock);
    const slot *at = &nodes->slots[cm_id_key(id) % SLOTS];
    bool there = at->content && cm_id_equal(&at->id, id);
    cm_buffer_clear(content);
    if (there)
        cm_buffer_append(content, at->content, at->size);
    pthread_mutex_unlock(&nodes->lock);
    return there && !content->error;
}

/* Without memory it is not kept. */
static void remember(cm_tree_nodes *nodes, const cm_id *id, const cm_buffer *content)
{
    uint8_t *copy = malloc(content->size);
    if (!copy)
        return;
    memcpy(copy, content->data, content->size);
    pthread_mutex_lock(&nodes->lock);
    slot *at = &nodes->slots[cm_id_key(id) % SLOTS];
    uint8_t *old = at->content;
    *at = (slot){*id, copy, content->size};
    pthread_mutex_unlock(&nodes->lock);
    free(old);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/*
 * What is still to be read, the next last: nodes give way to what of their children is wanted. Those at the end that are alike,
 * nodes or chunks, are asked for together. The depth of a tree is at most 7 for 2^64 bytes, so the list stays short.
 */
enum {
    NODES_AT_ONCE = 16,
    CHUNKS_AT_ONCE = 32, /* 2 MB: enough to make a round trip cheap, and little enough to stay in the caches */
};

typedef struct reader {
    cm_store *store;
    cm_tree_part *left;
    size_t count, capacity;
    const cm_tree_part *batch[CHUNKS_AT_ONCE];
    cm_buffer partial; /* a chunk of which only a part is wanted */
} reader;

static int push(reader *r, const cm_tree_part *part)
{
    if (!cm_grow(&r->left, r->count, &r->capacity, sizeof *r->left))
        return cm_fail(ENOMEM, "out of memory reading a buffer");
    r->left[r->count++] = *part;
    return 0;
}

/* The children of a node that hold wanted bytes, the first of them last. */
static int push_children(reader *r, const cm_tree_part *part, const cm_buffer *node)
{
    uint64_t span = cm_tree_child_span(part->size), end = part->offset + part->length;
    int result = 0;
    for (uint64_t child = (end - 1) / span + 1; child-- > part->offset / span && !result;) {
        uint64_t start = child * span, from = part->offset > start ? part->offset : start;
        uint64_t size = part->size - start < span ? part->size - start : span;
        uint64_t until = end < start + size ? end : start + size;
        cm_tree_part below = {.size = size,
                              .offset = from - start,
                              .memory = part->memory + (from - part->offset),
                              .length = (size_t)(until - from)};
        memcpy(&below.root, node->data + child * sizeof below.root, sizeof below.root);
        result = push(r, &below);
    }
    return result;
}

/* Whether a node has just the children that its buffer's size asks for. */
static int check_node(const cm_id *id, uint64_t size, const cm_buffer *node)
{
    uint64_t span = cm_tree_child_span(size), children = size / span + (size % span != 0);
    if (node->size == children * sizeof(cm_id))
        return 0;
    char hex[CM_ID_HEX + 1];
    cm_id_hex(id, hex);
    return cm_fail(EILSEQ, "buffer node %.16s has %zu bytes where %llu children are needed", hex, node->size,
                   (unsigned long long)children);
}

static int take_chunk(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    (void)info;
    reader *r = arg;
    const cm_tree_part *part = r->batch[index];
    if (part->length == part->size)
        return cm_record_decode_into(record, size, part->memory, part->length);
    cm_buffer_clear(&r->partial);
    uint8_t *whole = cm_buffer_extend(&r->partial, part->size);
    int result =
        whole ? cm_record_decode_into(record, size, whole, part->size) : cm_fail(ENOMEM, "out of memory for a chunk");
    if (!result)
        memcpy(part->memory, whole + part->offset, part->length);
    return result;
}

/* Takes the chunks at the end of the list off it. */
static int read_chunks(reader *r)
{
    cm_id ids[CHUNKS_AT_ONCE];
    size_t count = 0;
    while (count < CHUNKS_AT_ONCE && r->count && r->left[r->count - 1].size <= CM_CHUNK) {
        r->batch[count] = &r->left[--r->count];
        ids[count] = r->batch[count]->root;
        count++;
    }
    return cm_objects_get(r->store, ids, count, take_chunk, r);
}

typedef struct node_batch {
    cm_store *store;
    cm_buffer *contents;
    const cm_id *ids;
    const size_t *places; /* of the ids among the contents */
} node_batch;

static int take_node(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    node_batch *b = arg;
    cm_buffer *content = &b->contents[b->places[index]];
    int result = cm_object_check_kind(b->store, info, CM_KIND_TREE);
    if (!result)
        result = cm_record_decode(record, size, content);
    if (!result && content->size)
        remember(b->store->tree_nodes, &b->ids[index], content);
    return result;
}

/* Takes the nodes at the end of the list off it; what is below them takes their place. */
static int read_nodes(reader *r)
{
    cm_tree_part parts[NODES_AT_ONCE];
    cm_buffer contents[NODES_AT_ONCE] = {CM_BUFFER_INIT};
    cm_id ids[NODES_AT_ONCE];
    size_t places[NODES_AT_ONCE], count = 0, unknown = 0;
    while (count < NODES_AT_ONCE && r->count && r->left[r->count - 1].size > CM_CHUNK) {
        parts[count] = r->left[--r->count];
        if (!recall(r->store->tree_nodes, &parts[count].root, &contents[count])) {
            ids[unknown] = parts[count].root;
            places[unknown++] = count;
        }
        count++;
    }
    node_batch batch = {r->store, contents, ids, places};
    int result = unknown ? cm_objects_get(r->store, ids, unknown, take_node, &batch) : 0;
    for (size_t i = count; i-- > 0 && !result;) {
        result = check_node(&parts[i].root, parts[i].size, &contents[i]);
        if (!result)
            result = push_children(r, &parts[i], &contents[i]);
    }
    for (size_t i = 0; i < count; i++)
        cm_buffer_free(&contents[i]);
    return result;
}

int cm_tree_read(cm_store *store, const cm_tree_part *parts, size_t count)
{
    reader r = {.store = store};
    int result = 0;
    for (size_t i = count; i-- > 0 && !result;)
        if (parts[i].length)
            result = push(&r, &parts[i]);
    while (r.count && !result)
        result = r.left[r.count - 1].size <= CM_CHUNK ? read_chunks(&r) : read_nodes(&r);
    free(r.left);
    cm_buffer_free(&r.partial);
    return result;
}

/* ---- visiting ---------------------------------------------------------------------------------------------------- */

int cm_tree_visit(cm_store *store, const cm_id *root, uint64_t size, cm_tree_visitor visit, void *arg)
{
    uint64_t span = cm_tree_child_span(size);
    if (span == 0)
        return visit(arg, root, CM_KIND_CHUNK, size);
    cm_cleanup(cm_buffer_free) cm_buffer node = CM_BUFFER_INIT;
    int result = cm_object_get(store, root, CM_KIND_TREE, &node);
    if (!result)
        result = check_node(root, size, &node);
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
