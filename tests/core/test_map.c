/* SPDX-License-Identifier: Apache-2.0 */
/* Sorted maps and trees of chunks, in a real store: look-up, order, sharing between versions, refusal of bad nodes. */
#include "buffer.h"
#include "codec.h"
#include "fixture.h"
#include "map.h"
#include "tree.h"

enum { MOST = 20000 };

static cm_backend_txn *txn;
static size_t nodes_put;

static void setup(void)
{
    setup_store();
    ck_ok(store->backend->ops->begin(store->backend, &txn, NULL));
    nodes_put = 0;
}

static void commit(void)
{
    ck_ok(store->backend->ops->commit(txn, NULL, 0));
    ck_ok(store->backend->ops->begin(store->backend, &txn, NULL));
}

static void teardown(void)
{
    store->backend->ops->abort(txn);
    teardown_store();
}

static int put_content(enum cm_kind kind, const void *data, size_t size, cm_id *id)
{
    cm_buffer bytes cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    ck_ok(cm_id_of(data, size, id));
    ck_ok(cm_record_encode(1, data, size, &bytes));
    cm_record record = {*id, {.kind = (uint8_t)kind, .size = size, .stored = bytes.size}, bytes.data, bytes.size};
    return store->backend->ops->put(txn, &record, 1);
}

static int put_node(void *arg, const cm_buffer *content, cm_id *id)
{
    (void)arg;
    ck_ok(cm_map_check(content->data, content->size));
    cm_object_info info;
    cm_id known;
    ck_ok(cm_id_of(content->data, content->size, &known));
    ck_ok(store->backend->ops->find(store->backend, &known, 1, &info));
    nodes_put += !info.kind;
    return put_content(CM_KIND_MAP, content->data, content->size, id);
}

/* ---- maps -------------------------------------------------------------------------------------------------------- */

typedef struct made_map {
    cm_map_entry entries[MOST];
    char keys[MOST][16], values[MOST][24];
} made_map;

static made_map *make_entries(size_t count)
{
    made_map *m = calloc(1, sizeof *m);
    ck_assert_ptr_nonnull(m);
    for (size_t i = 0; i < count; i++) {
        int k = snprintf(m->keys[i], sizeof m->keys[i], "key%07zu", i * 10);
        int v = snprintf(m->values[i], sizeof m->values[i], "value%zu", i * i);
        m->entries[i] = (cm_map_entry){(uint8_t *)m->keys[i], (uint8_t *)m->values[i], (size_t)k, (size_t)v};
    }
    return m;
}

typedef struct expected_walk {
    const cm_map_entry *entries;
    size_t at;
} expected_walk;

static int check_entry(void *arg, const cm_map_entry *entry)
{
    expected_walk *walk = arg;
    const cm_map_entry *want = &walk->entries[walk->at++];
    ck_assert_uint_eq(entry->key_size, want->key_size);
    ck_assert_mem_eq(entry->key, want->key, want->key_size);
    ck_assert_uint_eq(entry->value_size, want->value_size);
    ck_assert_mem_eq(entry->value, want->value, want->value_size);
    return 0;
}

static const size_t counts[] = {0, 1, 2, 31, 100, 1000, MOST};

START_TEST(maps_hold_what_was_put)
{
    size_t count = counts[_i];
    made_map *m = make_entries(count);
    cm_id root, again;
    ck_ok(cm_map_build(m->entries, count, put_node, NULL, &root));
    ck_ok(cm_map_build(m->entries, count, put_node, NULL, &again));
    ck_assert(cm_id_equal(&root, &again));
    commit();
    expected_walk walk = {m->entries, 0};
    ck_ok(cm_map_each(store, &root, check_entry, &walk));
    ck_assert_uint_eq(walk.at, count);
    cm_buffer value cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    for (size_t i = 0; i<count; i += count> 1000 ? 37 : 1) {
        ck_ok(cm_map_find(store, &root, m->keys[i], m->entries[i].key_size, &value));
        ck_assert_uint_eq(value.size, m->entries[i].value_size);
        ck_assert_mem_eq(value.data, m->values[i], value.size);
        char absent[16];
        snprintf(absent, sizeof absent, "key%07zu", i * 10 + 5);
        ck_assert_int_eq(cm_map_find(store, &root, absent, strlen(absent), &value), -ENOENT);
    }
    ck_assert_int_eq(cm_map_find(store, &root, "", 0, &value), -ENOENT);
    ck_assert_int_eq(cm_map_find(store, &root, "zzz", 3, &value), -ENOENT);
    free(m);
}
END_TEST

/* One changed, inserted or removed entry of 20,000 puts a few nodes. */
START_TEST(versions_share_their_nodes)
{
    made_map *m = make_entries(MOST);
    cm_id root, other;
    ck_ok(cm_map_build(m->entries, MOST, put_node, NULL, &root));
    commit();
    ck_assert_uint_gt(nodes_put, 100);
    nodes_put = 0;
    memcpy(m->values[12345], "changed", 7);
    ck_ok(cm_map_build(m->entries, MOST, put_node, NULL, &other));
    ck_assert(!cm_id_equal(&root, &other));
    ck_assert_uint_le(nodes_put, 5);
    commit();
    nodes_put = 0;
    ck_ok(cm_map_build(m->entries + 1, MOST - 1, put_node, NULL, &other)); /* without the first */
    ck_assert_uint_le(nodes_put, 5);
    commit();
    nodes_put = 0;
    memmove(m->entries + 777, m->entries + 778, (MOST - 778) * sizeof *m->entries);
    ck_ok(cm_map_build(m->entries, MOST - 1, put_node, NULL, &other));
    ck_assert_uint_le(nodes_put, 6);
    free(m);
}
END_TEST

static const struct {
    const char *bytes;
    size_t size;
} bad_nodes[] = {
    {"", 0},
    {"CMM", 3},
    {"CMP\1\0\0", 6},
    {"CMM\2\0\0", 6},
    {"CMM\1\0", 5},
    {"CMM\1\0\1", 6},                        /* an entry that is not there */
    {"CMM\1\0\0x", 7},                       /* something after the end */
    {"CMM\1\0\1\1a\377\377\377\377\17", 13}, /* a value of 4 GB */
    {"CMM\1\0\2\1b\0\1a\0", 12},             /* descending */
    {"CMM\1\0\2\1a\0\1a\0", 12},             /* the same twice */
    {"CMM\1\1\1\1a\1b", 10},                 /* an inner content whose child has no id */
    {"CMM\1\177\0", 6},                      /* level 127 */
    {"CMM\1\0\377\377\377\377\17", 10},      /* 2^32 entries */
    {"CMM\1\0\201\0\1a\0", 10},              /* a number not in its shortest form */
};

static int pass_entry(void *arg, const cm_map_entry *entry)
{
    (void)arg, (void)entry;
    return 0;
}

START_TEST(bad_nodes_are_refused)
{
    uint8_t *copy = malloc(bad_nodes[_i].size + 1);
    memcpy(copy, bad_nodes[_i].bytes, bad_nodes[_i].size);
    ck_assert_int_lt(cm_map_check(copy, bad_nodes[_i].size), 0);
    cm_id root;
    ck_ok(put_content(CM_KIND_MAP, copy, bad_nodes[_i].size, &root));
    commit();
    cm_buffer value cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    ck_assert_int_eq(cm_map_each(store, &root, pass_entry, NULL), -EILSEQ);
    int found = cm_map_find(store, &root, "q", 1, &value);
    ck_assert_msg(found == -EILSEQ || found == -ENOENT, "%d", found);
    free(copy);
}
END_TEST

static void inner_node(cm_buffer *out, unsigned level, size_t children, const char *first_key, const cm_id *child)
{
    cm_buffer_append(out, CM_MAGIC_MAP, 4);
    cm_buffer_varint(out, level);
    cm_buffer_varint(out, children);
    for (size_t i = 0; i < children; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s%03zu", first_key, i);
        cm_buffer_string(out, key);
        cm_buffer_varint(out, sizeof *child);
        cm_buffer_append(out, child, sizeof *child);
    }
}

/* A node that names one child many times, level upon level, would be walked for ever. */
START_TEST(a_map_that_repeats_its_nodes_is_refused)
{
    cm_buffer content cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    cm_id id;
    cm_buffer_append(&content, "CMM\1\0\1\1a\1b", 10);
    ck_ok(put_content(CM_KIND_MAP, content.data, content.size, &id));
    for (unsigned level = 1; level <= 20; level++) {
        cm_buffer_clear(&content);
        inner_node(&content, level, 200, "k", &id);
        ck_ok(put_content(CM_KIND_MAP, content.data, content.size, &id));
    }
    commit();
    ck_assert_int_eq(cm_map_each(store, &id, pass_entry, NULL), -EILSEQ);
    /* A node that names itself cannot be made; one whose level does not fall can. */
    cm_buffer_clear(&content);
    cm_buffer_append(&content, "CMM\1\0\1\1a\1b", 10);
    ck_ok(put_content(CM_KIND_MAP, content.data, content.size, &id));
    cm_buffer_clear(&content);
    inner_node(&content, 5, 1, "a", &id);
    ck_ok(put_content(CM_KIND_MAP, content.data, content.size, &id));
    commit();
    ck_assert_int_eq(cm_map_each(store, &id, pass_entry, NULL), -EILSEQ);
    cm_buffer value cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    ck_assert_int_eq(cm_map_find(store, &id, "b", 1, &value), -EILSEQ);
}
END_TEST

/* ---- trees ------------------------------------------------------------------------------------------------------- */

START_TEST(tree_shapes_follow_from_sizes)
{
    const uint64_t chunk = CM_CHUNK;
    ck_assert_uint_eq(cm_tree_child_span(0), 0);
    ck_assert_uint_eq(cm_tree_child_span(chunk), 0);
    ck_assert_uint_eq(cm_tree_child_span(chunk + 1), chunk);
    ck_assert_uint_eq(cm_tree_child_span(256 * chunk), chunk);
    ck_assert_uint_eq(cm_tree_child_span(256 * chunk + 1), 256 * chunk);
    ck_assert_uint_eq(cm_tree_child_span(65536 * chunk), 256 * chunk);
    ck_assert_uint_eq(cm_tree_child_span(65536 * chunk + 1), 65536 * chunk);
    ck_assert_uint_gt(cm_tree_child_span(UINT64_MAX), UINT64_MAX / 256 - 1);
    ck_assert_uint_eq(cm_chunk_count(0), 1);
    ck_assert_uint_eq(cm_chunk_count(chunk), 1);
    ck_assert_uint_eq(cm_chunk_count(chunk + 1), 2);
    ck_assert_uint_eq(cm_chunk_count(UINT64_MAX), UINT64_MAX / chunk + 1);
}
END_TEST

static int count_part(void *arg, const cm_id *id, enum cm_kind kind, uint64_t size)
{
    uint64_t *counts_and_bytes = arg;
    (void)id;
    counts_and_bytes[kind == CM_KIND_TREE]++;
    if (kind == CM_KIND_CHUNK)
        counts_and_bytes[2] += size;
    return 0;
}

static int read_tree(const cm_id *root, uint64_t size, uint64_t offset, uint8_t *memory, size_t length)
{
    return cm_tree_read(store, &(cm_tree_part){*root, size, offset, memory, length}, 1);
}

/* Chunks that are not what the size asks for, nodes that are too long, too short, or of another kind. */
START_TEST(bad_trees_are_refused)
{
    uint8_t *bytes = malloc(CM_CHUNK);
    seeded_fill(1, bytes, CM_CHUNK);
    cm_id chunk, small, content;
    ck_ok(put_content(CM_KIND_CHUNK, bytes, CM_CHUNK, &chunk));
    ck_ok(put_content(CM_KIND_CHUNK, bytes, 100, &small));
    cm_id ids[3] = {chunk, chunk, small};
    ck_ok(put_content(CM_KIND_TREE, ids, sizeof ids, &content));
    commit();
    uint64_t size = 2 * CM_CHUNK + 100, parts[3] = {0};
    uint8_t *memory = malloc(size + CM_CHUNK);
    ck_ok(read_tree(&content, size, 0, memory, size));
    ck_assert(memcmp(memory + CM_CHUNK, bytes, CM_CHUNK) == 0 && memcmp(memory + 2 * CM_CHUNK, bytes, 100) == 0);
    ck_ok(cm_tree_visit(store, &content, size, count_part, parts));
    ck_assert(parts[0] == 3 && parts[1] == 1 && parts[2] == size);
    ck_assert_int_eq(read_tree(&content, size + 1, 0, memory, size + 1), -EILSEQ);
    ck_assert_int_eq(read_tree(&content, size - 1, 0, memory, size - 1), -EILSEQ);
    ck_assert_int_eq(read_tree(&content, size - 100, 0, memory, size - 100), -EILSEQ);
    ck_assert_int_eq(read_tree(&content, 1000 * size, 5, memory, 10), -EILSEQ);
    ck_assert_int_eq(read_tree(&content, UINT64_MAX / 2, 5, memory, 10), -EILSEQ);
    ck_assert_int_eq(read_tree(&chunk, size, 0, memory, size), -EILSEQ);
    cm_id none = {{7}};
    ck_assert_int_lt(read_tree(&none, 6, 0, memory, 6), 0);
    free(memory);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.map");
    TCase *tcase = tcase_create("map");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, maps_hold_what_was_put, 0, 7);
    tcase_add_test(tcase, versions_share_their_nodes);
    tcase_add_loop_test(tcase, bad_nodes_are_refused, 0, (int)(sizeof bad_nodes / sizeof *bad_nodes));
    tcase_add_test(tcase, a_map_that_repeats_its_nodes_is_refused);
    suite_add_tcase(suite, tcase);
    TCase *trees = tcase_create("tree");
    tcase_add_checked_fixture(trees, setup, teardown);
    tcase_add_test(trees, tree_shapes_follow_from_sizes);
    tcase_add_test(trees, bad_trees_are_refused);
    suite_add_tcase(suite, trees);
    return run_suite(suite);
}
