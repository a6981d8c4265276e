/* SPDX-License-Identifier: Apache-2.0 */
#include "map.h"

#include "codec.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    ENTRIES_MEAN = 32, /* of a node: about 4 kB of variables */
    ENTRIES_MOST = 512,
    LEVELS_MOST = 24,
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

static bool ends_node(const cm_map_entry *entry, unsigned level, size_t count)
{
    return XXH3_64bits_withSeed(entry->key, entry->key_size, level) % ENTRIES_MEAN == 0 || count == ENTRIES_MOST;
}

static int build_level(const cm_map_entry *entries, size_t count, unsigned level, cm_map_put put, void *arg,
                       cm_map_entry *parents, cm_id *ids, size_t *parent_count)
{
    cm_cleanup(cm_buffer_free) cm_buffer node = CM_BUFFER_INIT;
    size_t start = 0, made = 0;
    do {
        size_t end = start;
        while (end < count) {
            end++;
            if (ends_node(&entries[end - 1], level, end - start))
                break;
        }
        cm_buffer_clear(&node);
        cm_buffer_append(&node, CM_MAGIC_MAP, 4);
        cm_buffer_varint(&node, level);
        cm_buffer_varint(&node, end - start);
        for (size_t i = start; i < end; i++) {
            cm_buffer_varint(&node, entries[i].key_size);
            cm_buffer_append(&node, entries[i].key, entries[i].key_size);
            cm_buffer_varint(&node, entries[i].value_size);
            cm_buffer_append(&node, entries[i].value, entries[i].value_size);
        }
        if (node.error)
            return cm_fail(ENOMEM, "out of memory building a map");
        int result = put(arg, &node, &ids[made]);
        if (result)
            return result;
        if (count)
            parents[made] = (cm_map_entry){entries[start].key, ids[made].bytes, entries[start].key_size, sizeof(cm_id)};
        made++;
        start = end;
    } while (start < count);
    *parent_count = made;
    return 0;
}

int cm_map_build(const cm_map_entry *entries, size_t count, cm_map_put put, void *arg, cm_id *root)
{
    cm_cleanup(cm_cleanup_free) cm_map_entry *level_entries = NULL; /* of the level being built, from level 1 up */
    cm_cleanup(cm_cleanup_free) cm_id *level_ids = NULL;
    for (unsigned level = 0;; level++) {
        size_t room = count ? count : 1;
        cm_map_entry *parents = calloc(room, sizeof *parents);
        cm_id *ids = calloc(room, sizeof *ids);
        size_t made = 0;
        int result = parents && ids ? build_level(entries, count, level, put, arg, parents, ids, &made)
                                    : cm_fail(ENOMEM, "out of memory building a map");
        free(level_entries);
        free(level_ids);
        level_entries = parents;
        level_ids = ids;
        if (result)
            return result;
        if (made == 1) {
            *root = ids[0];
            return 0;
        }
        /* A level whose every node has one entry would never end; the hash differs by level, so give up only in theory. */
        if (level == LEVELS_MOST)
            return cm_fail(EOVERFLOW, "a map of %zu entries does not fit in %d levels", count, LEVELS_MOST);
        entries = parents;
        count = made;
    }
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

typedef struct node_reader {
    cm_reader bytes;
    unsigned level;
    uint64_t left;
    const uint8_t *last_key;
    size_t last_size;
} node_reader;

static int compare(const void *a, size_t a_size, const void *b, size_t b_size)
{
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common ? memcmp(a, b, common) : 0;
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int open_node(const void *content, size_t size, node_reader *node)
{
    *node = (node_reader){.bytes = cm_reader_of(content, size)};
    const uint8_t *magic = cm_read_bytes(&node->bytes, 4);
    if (!magic || memcmp(magic, CM_MAGIC_MAP, 4) != 0)
        return cm_fail(EILSEQ, "not a map node");
    node->level = (unsigned)cm_read_bounded(&node->bytes, LEVELS_MOST);
    node->left = cm_read_bounded(&node->bytes, ENTRIES_MOST);
    return node->bytes.bad ? cm_fail(EILSEQ, "damaged map node") : 0;
}

/* 1: an entry; 0: the end; negative: damaged. */
static int next_entry(node_reader *node, cm_map_entry *entry)
{
    if (node->left == 0)
        return node->bytes.at == node->bytes.end ? 0 : cm_fail(EILSEQ, "damaged map node: bytes after its end");
    node->left--;
    entry->key_size = (size_t)cm_read_varint(&node->bytes);
    entry->key = cm_read_bytes(&node->bytes, entry->key_size);
    entry->value_size = (size_t)cm_read_varint(&node->bytes);
    entry->value = cm_read_bytes(&node->bytes, entry->value_size);
    if (node->bytes.bad || (node->level > 0 && entry->value_size != sizeof(cm_id)) ||
        (node->last_key && compare(node->last_key, node->last_size, entry->key, entry->key_size) >= 0))
        return cm_fail(EILSEQ, "damaged map node: bad entry");
    node->last_key = entry->key;
    node->last_size = entry->key_size;
    return 1;
}

int cm_map_parts(const void *content, size_t size, int (*visit)(void *arg, const cm_map_entry *entry, bool leaf),
                 void *arg)
{
    node_reader node;
    cm_map_entry entry = {0};
    int result = open_node(content, size, &node);
    if (result)
        return result;
    while ((result = next_entry(&node, &entry)) > 0) {
        result = visit(arg, &entry, node.level == 0);
        if (result)
            return result;
    }
    return result;
}

static int pass(void *arg, const cm_map_entry *entry, bool leaf)
{
    (void)arg;
    (void)entry;
    (void)leaf;
    return 0;
}

int cm_map_check(const void *content, size_t size)
{
    return cm_map_parts(content, size, pass, NULL);
}

/*
 * What an entry of an inner node says of its child. Keys ascend, so no node occurs twice in a map: small damaged nodes that
 * name each other many times over cannot make a map without end.
 */
static int check_child(const cm_map_entry *parent, const cm_map_entry *first)
{
    return compare(parent->key, parent->key_size, first->key, first->key_size) == 0
               ? 0
               : cm_fail(EILSEQ, "damaged map: a node does not begin with the key it is filed under");
}

/* Opens the node of that level, or of any if it is -1. `content` holds its bytes. */
static int get_node(cm_store *store, const cm_id *id, int level, cm_buffer *content, node_reader *node)
{
    int result = cm_object_get(store, id, CM_KIND_MAP, content);
    if (!result)
        result = open_node(content->data, content->size, node);
    if (!result && level >= 0 && node->level != (unsigned)level)
        result = cm_fail(EILSEQ, "damaged map: a node of level %u where %d should be", node->level, level);
    return result;
}

/*
 * `parent`: the entry that leads here, NULL at the root. `level`: what it asks for, or -1. Recursion is bounded by
 * LEVELS_MOST: levels fall by one.
 */
static int walk_node(cm_store *store, const cm_id *id, const cm_map_entry *parent, int level, cm_map_visitor visit,
                     void *arg)
{
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    node_reader node;
    int result = get_node(store, id, level, &content, &node);
    if (result)
        return result;
    if (parent && node.left == 0)
        return cm_fail(EILSEQ, "damaged map: an empty node below another");
    cm_map_entry entry = {0};
    while ((result = next_entry(&node, &entry)) > 0) {
        result = parent ? check_child(parent, &entry) : 0;
        parent = NULL; /* only the first entry */
        if (!result && node.level == 0) {
            result = visit(arg, &entry);
        } else if (!result) {
            cm_id child;
            memcpy(&child, entry.value, sizeof child);
            result = walk_node(store, &child, &entry, (int)node.level - 1, visit, arg);
        }
        if (result)
            return result;
    }
    return result;
}

int cm_map_each(cm_store *store, const cm_id *root, cm_map_visitor visit, void *arg)
{
    return walk_node(store, root, NULL, -1, visit, arg);
}

int cm_map_find(cm_store *store, const cm_id *root, const void *key, size_t size, cm_buffer *value)
{
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    cm_id id = *root;
    for (int level = -1;;) {
        node_reader node;
        int result = get_node(store, &id, level, &content, &node);
        if (result)
            return result;
        cm_map_entry entry = {0};
        bool descend = false;
        while ((result = next_entry(&node, &entry)) > 0) {
            int order = compare(entry.key, entry.key_size, key, size);
            if (node.level == 0 && order == 0) {
                cm_buffer_clear(value);
                cm_buffer_append(value, entry.value, entry.value_size);
                return value->error ? cm_fail(ENOMEM, "out of memory") : 0;
            }
            if (order > 0)
                break;
            if (node.level > 0) {
                memcpy(&id, entry.value, sizeof id);
                descend = true;
            }
        }
        if (result < 0)
            return result;
        if (!descend)
            return -ENOENT;
        level = (int)node.level - 1;
    }
}
