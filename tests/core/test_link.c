/* SPDX-License-Identifier: Apache-2.0 */
/* Linking: what was saved as pods comes back as one pickle, whole, in parts, and from any offset (P4, P6, P7). */
#include "fixture.h"

#include <stdarg.h>

static node *list(size_t count, ...)
{
    node *n = node_new(&nodes, NODE_LIST);
    va_list items;
    va_start(items, count);
    for (size_t i = 0; i < count; i++)
        node_add(&nodes, n, va_arg(items, node *));
    va_end(items);
    return n;
}

static void check_stream(cm_checkpoint *c, const char *name, const void *expected, size_t size)
{
    size_t got_size;
    uint8_t *got = link_whole(c, &name, 1, 0, &got_size);
    ck_assert_uint_eq(got_size, size);
    ck_assert_mem_eq(got, expected, size);
    const cm_variable *variable;
    ck_ok(cm_checkpoint_variable(c, name, &variable));
    ck_assert_uint_eq(variable->size, size);
    free(got);
}

/* ---- streams byte for byte ------------------------------------------------------------------------------------------- */

START_TEST(streams_are_as_the_format_says)
{
    cm_save *save = begin(store, "s");
    save_node(save, "atom", node_int(&nodes, 5), &whole);
    save_node(save, "none", node_new(&nodes, NODE_NONE), &whole);
    node *inner = list(1, node_int(&nodes, 2));
    /* The same list twice: once in its place as a pod of its own, then from the memo. */
    node *outer = list(3, inner, node_int(&nodes, 1), inner);
    save_node(save, "nested", outer, &(cutting){{1}, 256, 0});
    save_node(save, "alias", inner, &whole);
    cm_checkpoint *c = finish(save);
    check_stream(c, "atom", "\x80\x05K\x05.", 5);
    check_stream(c, "none", "\x80\x05N.", 4);
    check_stream(c, "nested",
                 "\x80\x05]\x94(]\x94(K\x02"
                 "eK\x01j\x01\x00\x00\x00"
                 "e.",
                 20);
    check_stream(c, "alias",
                 "\x80\x05]\x94(K\x02"
                 "e.",
                 9);
    check_description(c, NULL, "#1={s4:atom:5 s4:none:None s6:nested:#2=[#3=[2] 1 #3] s5:alias:#3}");
    cm_checkpoint_unref(c);
}
END_TEST

/* Objects of a list are memoized before, in and after a child: every index behind it shifts. */
START_TEST(memo_indices_shift_behind_children)
{
    cm_save *save = begin(store, "s");
    ck_ok(cm_save_variable_begin(save, "v"));
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT), *child = cm_save_pod_new(save, pod, CM_POD_OBJECT);
    cm_body *body = cm_pod_body(pod);
    cm_body_byte(body, ']');
    ck_assert_uint_eq(cm_body_memoize(body), 0);
    cm_body_byte(body, '(');
    cm_body_byte(body, ']');
    ck_assert_uint_eq(cm_body_memoize(body), 1);
    cm_body *inner = cm_pod_body(child);
    for (int i = 0; i < 3; i++) { /* a tuple of three lists, of which the pod's value is the tuple */
        cm_body_byte(inner, ']');
        cm_body_memoize(inner);
    }
    cm_body_byte(inner, 0x87);
    uint32_t tuple = cm_body_memoize(inner);
    ck_ok(cm_save_pod_finish(save, child, tuple));
    cm_pod_child(pod, child);
    cm_body_byte(body, ']');
    uint32_t after = cm_body_memoize(body);
    ck_assert_uint_eq(after, 2);
    cm_pod_get(pod, 1);
    cm_pod_get(pod, after);
    cm_pod_external(pod, child, 1);
    cm_pod_external(pod, child, CM_INDEX_ROOT);
    cm_pod_get(pod, 0);
    cm_body_byte(body, 'e');
    ck_ok(cm_save_pod_finish(save, pod, 0));
    ck_ok(cm_save_variable_end(save, pod, 0, "list", ""));
    cm_checkpoint *c = finish(save);
    check_description(c, "v", "#1=[#2=[] #3=(#4=[] #5=[] #6=[]) #7=[] #2 #7 #5 #3 #1]");
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(payloads_and_buffers)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 65536, 65537, 200000};
    size_t size = sizes[_i];
    uint8_t *bytes = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)('a' + i % 23 + i / 65536);
    node *all = node_new(&nodes, NODE_LIST);
    for (enum node_type type = NODE_STR; type <= NODE_BUFFER; type++)
        node_add(&nodes, all, node_text(&nodes, type, bytes, size));
    all->items[NODE_BUFFER - NODE_STR]->readonly = _i % 2;
    cm_save *save = begin(store, "s");
    save_node(save, "v", all, &whole);
    cm_checkpoint *c = finish(save);

    /* In one stream a buffer is bytes or a bytearray. */
    size_t linked_size;
    const char *name = "v";
    uint8_t *stream = link_whole(c, &name, 1, 0, &linked_size);
    arena a = {0};
    const char *why;
    node *read = unpickle(&a, stream, linked_size, &why);
    ck_assert_msg(read, "%s", why);
    ck_assert_uint_eq(read->count, 4);
    for (size_t i = 0; i < 4; i++) {
        enum node_type type = i < 3 ? NODE_STR + i : _i % 2 ? NODE_BYTES : NODE_BYTEARRAY;
        ck_assert_int_eq(read->items[i]->type, type);
        ck_assert_uint_eq(read->items[i]->size, size);
        ck_assert(size == 0 || memcmp(read->items[i]->text, bytes, size) == 0);
    }
    free(stream);
    arena_free(&a);

    /* Out of band it is a buffer. */
    cm_link *link;
    ck_ok(cm_link_open(c, &name, 1, CM_LINK_BUFFERS, &link));
    ck_assert_uint_eq(cm_link_buffer_count(link), 1);
    ck_assert_uint_eq(cm_link_buffer_size(link, 0), size);
    ck_assert_int_eq(cm_link_buffer_readonly(link, 0), _i % 2);
    uint8_t *memory = malloc(size + 1);
    memory[size] = 77;
    ck_ok(cm_link_buffer_read(link, 0, memory));
    ck_assert(memcmp(memory, bytes, size) == 0 && memory[size] == 77);
    free(memory);
    cm_link_close(link);
    stream = link_whole(c, &name, 1, CM_LINK_BUFFERS, &linked_size);
    read = unpickle(&a, stream, linked_size, &why);
    ck_assert_msg(read, "%s", why);
    ck_assert_int_eq(read->items[3]->type, NODE_BUFFER);
    ck_assert_int_eq(read->items[3]->readonly, _i % 2);
    arena_free(&a);
    free(stream);
    free(bytes);
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- sharing ------------------------------------------------------------------------------------------------------ */

START_TEST(sharing_across_variables_and_partial_loads)
{
    node *shared = list(2, node_int(&nodes, 1), list(1, node_int(&nodes, 2)));
    node *a = list(2, shared, shared), *b = list(2, shared->items[1], shared), *d = list(1, b);
    cm_save *save = begin(store, "s");
    save_node(save, "a", a, &(cutting){{1}, (unsigned)_i * 128, 0});
    save_node(save, "b", b, &(cutting){{2}, (unsigned)_i * 128, 0});
    save_node(save, "c", shared, &whole);
    save_node(save, "d", d, &whole);
    cm_checkpoint *c = finish(save);
    check_description(c, "a", "#1=[#2=[1 #3=[2]] #2]");
    check_description(c, "b", "#1=[#2=[2] #3=[1 #2]]");
    check_description(c, "c", "#1=[1 #2=[2]]");
    check_description(c, "d", "#1=[#2=[#3=[2] #4=[1 #3]]]");
    check_description(c, NULL, "#1={s1:a:#2=[#3=[1 #4=[2]] #3] s1:b:#5=[#4 #3] s1:c:#3 s1:d:#6=[#5]}");
    const char *some[] = {"d", "b"};
    size_t size;
    uint8_t *stream = link_whole(c, some, 2, CM_LINK_NAMESPACE, &size);
    arena read = {0};
    const char *why;
    node *root = unpickle(&read, stream, size, &why);
    ck_assert_msg(root, "%s", why);
    char *text = describe(root); /* in the namespace's order, whatever the order of asking */
    ck_assert_str_eq(text, "#1={s1:b:#2=[#3=[2] #4=[1 #3]] s1:d:#5=[#2]}");
    free(text);
    free(stream);
    arena_free(&read);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(cycles_within_and_across_pods_and_variables)
{
    unsigned own = (unsigned)_i * 128;
    node *self = list(0);
    node_add(&nodes, self, self);
    node *a = list(0), *b = list(1, a);
    node_add(&nodes, a, b);
    node *x = list(0), *y = list(2, x, node_int(&nodes, 7)), *z = node_new(&nodes, NODE_DICT);
    node_add(&nodes, z, node_text(&nodes, NODE_STR, "k", 1));
    node_add(&nodes, z, z);
    node_add(&nodes, x, y);
    node_add(&nodes, x, z);
    cm_save *save = begin(store, "s");
    save_node(save, "self", self, &(cutting){{1}, own, own});
    save_node(save, "a", a, &(cutting){{2}, own, own});
    save_node(save, "b", b, &(cutting){{3}, own, own});
    save_node(save, "y", y, &(cutting){{4}, own, own});
    save_node(save, "x", x, &(cutting){{5}, own, own});
    save_node(save, "z", z, &(cutting){{6}, own, own});
    cm_checkpoint *c = finish(save);
    check_description(c, "self", "#1=[#1]");
    check_description(c, "a", "#1=[#2=[#1]]");
    check_description(c, "b", "#1=[#2=[#1]]");
    check_description(c, "y", "#1=[#2=[#1 #3={s1:k:#3}] 7]");
    check_description(c, "x", "#1=[#2=[#1 7] #3={s1:k:#3}]");
    check_description(c, "z", "#1={s1:k:#1}");
    check_description(
        c, NULL, "#1={s4:self:#2=[#2] s1:a:#3=[#4=[#3]] s1:b:#4 s1:y:#5=[#6=[#5 #7={s1:k:#7}] 7] s1:x:#6 s1:z:#7}");
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- graphs at random ----------------------------------------------------------------------------------------------- */

enum { VARIABLES = 5, OBJECTS = 40 };

/* Objects refer to each other at random, in cycles too; tuples only to what was made before them. */
static void random_graph(seeded *random, node **variables)
{
    node *made[OBJECTS];
    uint8_t payload[CM_PAYLOAD_MIN + 6000]; /* kept out of the body, so that it interrupts it */
    memset(payload, 'p', sizeof payload);
    for (size_t i = 0; i < OBJECTS; i++) {
        uint64_t kind = seeded_next(random) % 8;
        made[i] = node_new(&nodes, kind < 4 ? NODE_LIST : kind < 6 ? NODE_DICT : NODE_TUPLE);
        for (uint64_t k = seeded_next(random) % 4; made[i]->type == NODE_TUPLE && k > 0; k--) {
            node *item = i ? made[seeded_next(random) % i] : node_int(&nodes, 3);
            node_add(&nodes, made[i], item->type == NODE_TUPLE ? item : node_int(&nodes, (long)k));
        }
    }
    for (size_t i = 0; i < OBJECTS; i++) {
        node *n = made[i];
        for (uint64_t k = seeded_next(random) % 6; n->type != NODE_TUPLE && k > 0; k--) {
            if (n->type == NODE_DICT)
                node_add(&nodes, n, node_int(&nodes, (long)k));
            uint64_t what = seeded_next(random) % 8;
            char text[32];
            snprintf(text, sizeof text, "text%d", (int)(what * k));
            node_add(&nodes, n,
                     what == 0             ? node_int(&nodes, (long)(seeded_next(random) % 256))
                     : what == 1           ? node_text(&nodes, NODE_STR, text, strlen(text))
                     : what == 2 && k == 5 ? node_text(&nodes, NODE_BYTES, payload, CM_PAYLOAD_MIN + k * 1000)
                                           : made[seeded_next(random) % OBJECTS]);
        }
    }
    for (size_t i = 0; i < VARIABLES; i++)
        variables[i] = made[seeded_next(random) % OBJECTS];
}

static void check_subset(cm_checkpoint *c, node **variables, unsigned subset)
{
    static const char *const names[VARIABLES] = {"v0", "v1", "v2", "v3", "v4"};
    const char *asked[VARIABLES];
    size_t count = 0;
    node *expected = node_new(&nodes, NODE_DICT);
    for (unsigned i = 0; i < VARIABLES; i++) {
        if (!(subset & 1u << i))
            continue;
        asked[count++] = names[i];
        node_add(&nodes, expected, node_text(&nodes, NODE_STR, names[i], 2));
        node_add(&nodes, expected, variables[i]);
    }
    size_t size;
    uint8_t *stream = link_whole(c, asked, count, CM_LINK_NAMESPACE, &size);
    arena read = {0};
    const char *why;
    node *root = unpickle(&read, stream, size, &why);
    ck_assert_msg(root, "subset %u: %s", subset, why);
    char *got = describe(root), *want = describe(expected);
    ck_assert_msg(strcmp(got, want) == 0, "subset %u:\n%s\n%s", subset, got, want);
    free(got);
    free(want);
    free(stream);
    arena_free(&read);
}

START_TEST(random_graphs_come_back)
{
    seeded random = {(uint64_t)_i};
    node *variables[VARIABLES];
    random_graph(&random, variables);
    cutting cut = {{(uint64_t)_i}, (unsigned)(seeded_next(&random) % 257), (unsigned)(seeded_next(&random) % 200)};
    cm_save *save = begin(store, "s");
    for (unsigned i = 0; i < VARIABLES; i++)
        save_node(save, (char[]){'v', (char)('0' + i), 0}, variables[i], &cut);
    cm_checkpoint *c = finish(save);
    for (unsigned subset = 1; subset < 1u << VARIABLES; subset++)
        check_subset(c, variables, subset);
    for (unsigned i = 0; i < VARIABLES; i++) {
        char *want = describe(variables[i]);
        check_description(c, (char[]){'v', (char)('0' + i), 0}, want);
        free(want);
    }
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- random access ------------------------------------------------------------------------------------------------- */

START_TEST(every_offset_reads_the_same)
{
    seeded random = {(uint64_t)_i + 1000};
    node *variables[VARIABLES];
    random_graph(&random, variables);
    cutting cut = {{(uint64_t)_i}, 128, 128};
    cm_save *save = begin(store, "s");
    for (unsigned i = 0; i < VARIABLES; i++)
        save_node(save, (char[]){'v', (char)('0' + i), 0}, variables[i], &cut);
    cm_checkpoint *c = finish(save);
    for (unsigned i = 0; i <= VARIABLES; i++) {
        const char *name = (char[]){'v', (char)('0' + i), 0};
        unsigned flags = i == VARIABLES ? CM_LINK_NAMESPACE : 0;
        size_t size;
        uint8_t *all = link_whole(c, &name, !flags, flags, &size), piece[64];
        cm_link *link;
        ck_ok(cm_link_open(c, &name, !flags, flags, &link));
        for (size_t k = 0; k < size * 2; k++) {
            size_t offset = seeded_next(&random) % (size + 2), want = seeded_next(&random) % sizeof piece, done = 999;
            size_t expected = offset >= size ? 0 : size - offset < want ? size - offset : want;
            memset(piece, 0xee, sizeof piece);
            ck_ok(cm_link_read(link, offset, piece, want, &done));
            ck_assert_uint_eq(done, expected);
            ck_assert(done == 0 || memcmp(piece, all + offset, done) == 0);
            ck_assert(done == sizeof piece || piece[done] == 0xee);
        }
        cm_link_close(link);
        ck_ok(cm_link_open(c, &name, !flags, flags, &link)); /* backwards, byte by byte, from the end */
        for (size_t offset = size; offset-- > 0;) {
            size_t done = 0;
            ck_ok(cm_link_read(link, offset, piece, 1, &done));
            ck_assert(done == 1 && piece[0] == all[offset]);
        }
        cm_link_close(link);
        free(all);
    }
    cm_checkpoint_unref(c);
}
END_TEST

/* A buffer of two levels of nodes: 17 MB and a bit; reads that begin and end around the borders of chunks and nodes. */
START_TEST(big_buffers_read_from_anywhere)
{
    enum { SIZE = 17 * 1024 * 1024 + 12345, CHUNK = 65536 };
    uint8_t *bytes = malloc(SIZE);
    seeded_fill(5, bytes, SIZE);
    node *buffer = node_new(&nodes, NODE_BUFFER);
    buffer->text = bytes;
    buffer->size = SIZE;
    cm_save *save = begin(store, "s");
    save_node(save, "v", list(2, node_int(&nodes, 1), buffer), &whole);
    cm_checkpoint *c = finish(save);
    const char *name = "v";
    cm_link *link;
    ck_ok(cm_link_open(c, &name, 1, 0, &link));
    const size_t head = 2 + 3 + 2 + 9; /* PROTO 5, ] MEMOIZE (, K 1, BYTEARRAY8 and its size */
    ck_assert_uint_eq(cm_link_size(link), head + SIZE + 2);
    uint8_t *piece = malloc(4 * CHUNK);
    static const size_t borders[] = {0, CHUNK, 255 * CHUNK, 256 * CHUNK, 257 * CHUNK, SIZE};
    seeded random = {9};
    for (int k = 0; k < 600; k++) {
        size_t border = borders[seeded_next(&random) % 6], length = seeded_next(&random) % (k % 10 ? 300 : 4 * CHUNK);
        size_t from = border + seeded_next(&random) % 200;
        from = from < 100 ? 0 : from - 100;
        if (from > SIZE)
            from = SIZE;
        if (length > SIZE - from)
            length = SIZE - from;
        size_t done;
        ck_ok(cm_link_read(link, head + from, piece, length, &done));
        ck_assert_uint_eq(done, length);
        ck_assert_msg(length == 0 || memcmp(piece, bytes + from, length) == 0, "%zu bytes at %zu", length, from);
    }
    cm_link_close(link);
    ck_ok(cm_link_open(c, &name, 1, CM_LINK_BUFFERS, &link));
    uint8_t *memory = malloc(SIZE);
    ck_ok(cm_link_buffer_read(link, 0, memory));
    ck_assert(memcmp(memory, bytes, SIZE) == 0);
    free(memory);
    cm_link_close(link);
    cm_checkpoint_unref(c);
    free(piece);
    free(bytes);
}
END_TEST

/* ---- what cannot be linked ------------------------------------------------------------------------------------------- */

/* "other" refers twice to the list that is "keep"; `before`: it comes first, and has the list in its tree. */
static cm_checkpoint *save_two(bool before, long number)
{
    node *shared = list(1, node_int(&nodes, 2)), *other = list(3, shared, node_int(&nodes, number), shared);
    cm_save *save = begin(store, "s");
    if (before)
        save_node(save, "other", other, &(cutting){{1}, 256, 0});
    save_node(save, "keep", shared, &whole);
    if (!before)
        save_node(save, "other", other, &whole);
    return finish(save);
}

static uint8_t *read_stream(cm_checkpoint *c, const char *name, cm_have *have, size_t *size)
{
    cm_stream *stream = NULL;
    cm_piece *piece = cm_piece_new();
    ck_ok(cm_stream_open(c, &name, 1, CM_LINK_NAMESPACE, &stream));
    cm_stream_have(stream, have);
    ck_ok(cm_stream_read(stream, 1 << 20, piece));
    const void *bytes = cm_piece_bytes(piece, size);
    uint8_t *copy = malloc(*size);
    memcpy(copy, bytes, *size);
    cm_piece_free(piece);
    cm_stream_close(stream);
    return copy;
}

START_TEST(what_the_program_has_is_asked_for)
{
    bool before = _i;
    cm_checkpoint *target = save_two(before, 1), *here = save_two(before, 3);
    cm_have *have = NULL;
    ck_ok(cm_have_new(here, target, NULL, 0, &have));
    ck_assert(cm_have_keeps(have, 0)); /* keep */
    ck_assert(!cm_have_keeps(have, 1));
    const cm_variable *keep;
    ck_ok(cm_checkpoint_variable(target, "keep", &keep));
    uint64_t *pages, page = keep->root.page;
    size_t count;
    ck_ok(cm_checkpoint_pages(target, &pages, &count));
    bool listed = false;
    for (size_t i = 0; i < count; i++)
        listed |= pages[i] == page;
    ck_assert(listed);
    free(pages);
    ck_assert_uint_eq(page, before ? cm_page_of_child(cm_page_of_variable("other"), 0) : cm_page_of_variable("keep"));

    uint8_t expected[128], *at = expected;
    const uint32_t asked[] = {CM_INDEX_ROOT,
                              0}; /* in its place it is the pod's own value, and elsewhere an object of it */
    at = (uint8_t *)mempcpy(at, "\x80\x05}X\x05\0\0\0other]\x94(", 16);
    for (int i = before ? 0 : 1; i < 2; i++) {
        at = (uint8_t *)mempcpy(at, "C\x0c", 2);
        at = (uint8_t *)mempcpy(at, &page, 8);
        at = (uint8_t *)mempcpy(at, &asked[i], 4);
        at = (uint8_t *)mempcpy(at, "Q\x94", 2);
        at = (uint8_t *)mempcpy(at, i ? before ? "0j\2\0\0\0" : "0j\1\0\0\0" : "K\1", i ? 6 : 2);
    }
    at = (uint8_t *)mempcpy(at, before ? "es." : "K\1j\1\0\0\0es.", before ? 3 : 10);
    size_t size;
    uint8_t *stream = read_stream(target, "other", have, &size);
    ck_assert_uint_eq(size, (size_t)(at - expected));
    ck_assert_mem_eq(stream, expected, size);

    const char *name = "other";
    cm_link *link = NULL;
    ck_ok(cm_link_open_have(target, &name, 1, CM_LINK_NAMESPACE, have, &link));
    cm_have_unref(have); /* the link keeps it */
    ck_assert_uint_eq(cm_link_size(link), size);
    uint8_t linked[128];
    ck_ok(cm_link_read(link, 0, linked, size, &count));
    ck_assert_mem_eq(linked, expected, size);
    cm_link_close(link);
    free(stream);
    cm_checkpoint_unref(here);
    cm_checkpoint_unref(target);
}
END_TEST

START_TEST(wrong_requests_are_refused)
{
    cm_save *save = begin(store, "s");
    save_node(save, "a", node_int(&nodes, 1), &whole);
    save_node(save, "b", node_int(&nodes, 2), &whole);
    cm_checkpoint *c = finish(save);
    cm_link *link = NULL;
    const char *none[] = {"a", "nope"}, *two[] = {"a", "b"};
    ck_fails(cm_link_open(c, none + 1, 1, 0, &link), ENOENT, "nope");
    ck_fails(cm_link_open(c, none, 2, CM_LINK_NAMESPACE, &link), ENOENT, "nope");
    ck_assert_int_eq(cm_link_open(c, two, 2, 0, &link), -EINVAL);
    ck_assert_int_eq(cm_link_open(c, two, 0, 0, &link), -EINVAL);
    cm_link_close(NULL);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(empty_namespace_links_to_an_empty_dict)
{
    cm_checkpoint *c = finish(begin(store, "s"));
    ck_assert_uint_eq(cm_checkpoint_variable_count(c), 0);
    check_description(c, NULL, "#1={}");
    cm_checkpoint_unref(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.link");
    TCase *tcase = tcase_create("link");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup_store, teardown_store);
    tcase_add_test(tcase, streams_are_as_the_format_says);
    tcase_add_test(tcase, memo_indices_shift_behind_children);
    tcase_add_loop_test(tcase, payloads_and_buffers, 0, 7);
    tcase_add_loop_test(tcase, sharing_across_variables_and_partial_loads, 0, 3);
    tcase_add_loop_test(tcase, cycles_within_and_across_pods_and_variables, 0, 3);
    tcase_add_loop_test(tcase, random_graphs_come_back, 0, 60);
    tcase_add_loop_test(tcase, every_offset_reads_the_same, 0, 8);
    tcase_add_test(tcase, big_buffers_read_from_anywhere);
    tcase_add_loop_test(tcase, what_the_program_has_is_asked_for, 0, 2);
    tcase_add_test(tcase, wrong_requests_are_refused);
    tcase_add_test(tcase, empty_namespace_links_to_an_empty_dict);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
