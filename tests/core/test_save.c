/* SPDX-License-Identifier: Apache-2.0 */
/* Saving: what a checkpoint records, what it costs when little changed (P1, P2), what a cancelled or failed one leaves. */
#include "fixture.h"

#include "checkpoint.h"

#include <pthread.h>
#include <unistd.h>

static node *number_list(long first, long count)
{
    node *n = node_new(&nodes, NODE_LIST);
    for (long i = 0; i < count; i++)
        node_add(&nodes, n, node_int(&nodes, (first + i) % 256));
    return n;
}

/* Forgets where a graph was saved, so that it is saved again. */
static void forget(node *n)
{
    if (!n->pod)
        return;
    n->pod = NULL;
    for (size_t i = 0; i < n->count; i++)
        forget(n->items[i]);
}

/* ---- what a checkpoint records ------------------------------------------------------------------------------------- */

START_TEST(checkpoint_says_what_it_is)
{
    cm_save *save = begin(store, "analysis");
    save_node(save, "zeta", node_int(&nodes, 1), &whole);
    save_node(save, "alpha", number_list(0, 3), &whole);
    ck_ok(cm_save_unsaved(save, "lock", "cannot pickle '_thread.lock' object"));
    ck_ok(cm_save_unsaved(save, "gen", "cannot pickle 'generator' object"));
    cm_checkpoint *c = finish(save);
    ck_assert_str_eq(cm_checkpoint_session(c), "analysis");
    ck_assert_uint_eq(cm_checkpoint_number(c), 1);
    ck_assert_str_eq(cm_checkpoint_message(c), "a message");
    ck_assert_str_eq(cm_checkpoint_code(c), "some code");
    ck_assert_uint_eq(cm_checkpoint_parent_count(c), 0);
    ck_assert_int_gt(cm_checkpoint_time(c), 1600000000ll * 1000000000);
    ck_assert_uint_eq(cm_checkpoint_unsaved_count(c), 2);
    ck_assert_str_eq(cm_checkpoint_unsaved_name(c, 0), "lock");
    ck_assert_str_eq(cm_checkpoint_unsaved_reason(c, 1), "cannot pickle 'generator' object");
    const cm_variable *variables;
    size_t count;
    ck_ok(cm_checkpoint_variables(c, &variables, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(cm_checkpoint_variable_count(c), 2);
    ck_assert_str_eq(variables[0].name, "alpha"); /* by name; ranks give the order of the namespace */
    ck_assert_str_eq(variables[1].name, "zeta");
    ck_assert_uint_lt(variables[1].rank, variables[0].rank);
    ck_assert_str_eq(variables[0].type, "test.Node");
    ck_assert_str_eq(variables[0].summary, "a node");
    ck_assert_uint_eq(variables[0].changed, 1);
    ck_assert_int_eq(variables[0].changed_time, cm_checkpoint_time(c));
    ck_assert_uint_eq(variables[0].pods, 1);
    ck_assert_uint_gt(variables[0].stored, 10);
    const cm_save_stats *stats = cm_checkpoint_stats(c);
    ck_assert_uint_eq(stats->pods, 2);
    ck_assert_uint_eq(stats->pods_new, 2);
    ck_assert_uint_gt(stats->bytes_written, 50);
    cm_checkpoint_unref(c);
}
END_TEST

static int note_change(void *arg, enum cm_change change, const cm_variable *before, const cm_variable *after)
{
    char *text = arg;
    sprintf(text + strlen(text), "%c%s ", change, after ? after->name : before->name);
    return strcmp(after ? after->name : before->name, "stop") == 0 ? 5 : 0;
}

START_TEST(changes_are_told)
{
    cm_save *save = begin(store, "s");
    node *same = number_list(0, 5), *changing = number_list(0, 5), *gone = number_list(1, 2);
    save_node(save, "same", same, &whole);
    save_node(save, "changing", changing, &whole);
    save_node(save, "gone", gone, &whole);
    cm_checkpoint *first = finish(save);
    forget(same), forget(changing);
    changing->items[2] = node_int(&nodes, 77);
    save = begin(store, "s");
    save_node(save, "changing", changing, &whole);
    save_node(save, "same", same, &whole);
    save_node(save, "new", number_list(9, 1), &whole);
    cm_checkpoint *second = finish(save);
    ck_assert_uint_eq(cm_checkpoint_parent_count(second), 1);
    ck_assert(cm_id_equal(cm_checkpoint_parent(second, 0), cm_checkpoint_id(first)));
    ck_assert_uint_eq(cm_checkpoint_parent_number(second, 0), 1);
    char text[200] = "";
    ck_ok(cm_checkpoint_diff(first, second, note_change, text));
    ck_assert_str_eq(text, "Cchanging Rgone Anew ");
    text[0] = 0;
    ck_ok(cm_checkpoint_diff(second, first, note_change, text));
    ck_assert_str_eq(text, "Cchanging Agone Rnew ");
    text[0] = 0;
    ck_ok(cm_checkpoint_diff(NULL, first, note_change, text));
    ck_assert_str_eq(text, "Achanging Agone Asame ");
    const cm_variable *variable;
    ck_ok(cm_checkpoint_variable(second, "same", &variable));
    ck_assert_uint_eq(variable->changed, 1);
    ck_assert_int_eq(variable->changed_time, cm_checkpoint_time(first));
    ck_ok(cm_checkpoint_variable(second, "changing", &variable));
    ck_assert_uint_eq(variable->changed, 2);
    ck_fails(cm_checkpoint_variable(second, "gone", &variable), ENOENT, "gone");
    check_description(first, "changing", "#1=[0 1 2 3 4]"); /* the past stays */
    check_description(second, "changing", "#1=[0 1 77 3 4]");
    cm_checkpoint_unref(first);
    cm_checkpoint_unref(second);
}
END_TEST

START_TEST(cells_are_told_of)
{
    cm_save *save = begin(store, "s");
    save_node(save, "v", number_list(0, 5), &whole);
    ck_ok(cm_save_set_cell(save, &(cm_cell){7, 1500000000, "ZeroDivisionError: division by zero"}));
    ck_fails(cm_save_set_cell(save, &(cm_cell){8, 0, NULL}), EINVAL, "twice");
    cm_checkpoint *c = finish(save);
    const cm_cell *cell = cm_checkpoint_cell(c);
    ck_assert_ptr_nonnull(cell);
    ck_assert_uint_eq(cell->execution, 7);
    ck_assert_uint_eq(cell->duration_ns, 1500000000);
    ck_assert_str_eq(cell->error, "ZeroDivisionError: division by zero");

    /* Every way to cut it short, and a version that has no cells, is refused. */
    uint8_t *content;
    size_t size;
    ck_ok(cm_object_read(store, cm_checkpoint_id(c), (void **)&content, &size));
    ck_assert_uint_eq(content[3], 2);
    for (size_t cut = 0; cut < size; cut++) {
        cm_checkpoint decoded = {0};
        ck_assert_int_eq(cm_checkpoint_decode(content, cut, &decoded), -EILSEQ);
        cm_checkpoint_clear(&decoded);
    }
    for (unsigned version = 0; version < 5; version++) {
        cm_checkpoint decoded = {0};
        content[3] = (uint8_t)version;
        int result = cm_checkpoint_decode(content, size, &decoded);
        ck_assert_int_eq(result, version == 0 || version > 3 ? -EPROTONOSUPPORT : version == 2 ? 0 : -EILSEQ);
        cm_checkpoint_clear(&decoded);
    }
    free(content);
    cm_checkpoint_unref(c);

    save = begin(store, "s");
    save_node(save, "v", number_list(0, 5), &whole);
    ck_ok(cm_save_set_cell(save, &(cm_cell){8, 0, NULL}));
    c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_cell(c)->execution, 8);
    ck_assert_ptr_null(cm_checkpoint_cell(c)->error);
    cm_checkpoint_unref(c);
    save = begin(store, "s");
    c = finish(save);
    ck_assert_ptr_null(cm_checkpoint_cell(c));
    cm_checkpoint_unref(c);
}
END_TEST

/* Saves {v: [from ... from + 4]}, if that is a change. */
static cm_checkpoint *save_if_changed(long from, const char *unsaved)
{
    cm_save *save = begin(store, "s");
    cm_save_if_changed(save);
    save_node(save, "v", number_list(from, 5), &whole);
    if (unsaved)
        ck_ok(cm_save_unsaved(save, "lock", unsaved));
    return finish(save);
}

START_TEST(nothing_is_made_where_nothing_changed)
{
    static const struct {
        long from;
        const char *unsaved;
        uint64_t number;
    } steps[] = {{0, NULL, 1}, {0, NULL, 1}, {1, NULL, 2}, {1, "why", 3}, {1, "why", 3}, {1, "else", 4}, {1, NULL, 4}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        cm_checkpoint *c = save_if_changed(steps[i].from, steps[i].unsaved);
        ck_assert_uint_eq(cm_checkpoint_number(c), steps[i].number);
        cm_session_info info;
        ck_ok(cm_session_get(store, "s", &info));
        ck_assert_uint_eq(info.last_number, steps[i].number);
        cm_session_info_clear(&info);
        cm_checkpoint_unref(c);
    }
}
END_TEST

/* ---- what it costs ------------------------------------------------------------------------------------------------- */

static cm_checkpoint *save_both(const char *session, node *a, node *b, uint64_t seed)
{
    cm_save *save = begin(store, session);
    save_node(save, "a", a, &(cutting){{seed}, 128, 100});
    save_node(save, "b", b, &(cutting){{seed}, 128, 100});
    cm_checkpoint *c = finish(save);
    forget(a), forget(b);
    return c;
}

static node *tree_of(unsigned depth, unsigned width, long *leaf)
{
    node *n = node_new(&nodes, NODE_LIST);
    for (unsigned i = 0; i < width; i++) {
        ++*leaf;
        node_add(&nodes, n, depth ? tree_of(depth - 1, width, leaf) : number_list(*leaf, 20 + *leaf % 7));
    }
    return n;
}

START_TEST(unchanged_writes_almost_nothing)
{
    long leaf = 0;
    node *a = tree_of(3, 5, &leaf), *b = tree_of(2, 5, &leaf);
    node_add(&nodes, b, a);
    node_add(&nodes, a, b);
    cm_checkpoint *c = save_both("one", a, b, 5);
    ck_assert_uint_gt(cm_checkpoint_stats(c)->pods_new, 20);
    uint64_t pods = cm_checkpoint_stats(c)->pods;
    cm_checkpoint_unref(c);
    static const char *const sessions[] = {"one", "one", "two"};
    for (size_t i = 0; i < 3; i++) {
        c = save_both(sessions[i], a, b, 5);
        ck_assert_uint_eq(cm_checkpoint_stats(c)->pods_new, 0);
        ck_assert_uint_eq(cm_checkpoint_stats(c)->pods, pods);
        ck_assert_uint_lt(cm_checkpoint_stats(c)->bytes_written, 1024);
        char *want = describe(a);
        check_description(c, "a", want);
        free(want);
        cm_checkpoint_unref(c);
    }
    /* In another process, into a reopened store, as well. */
    cm_store_unref(store);
    store = open_store("store", CM_OPEN_WRITE);
    c = save_both("three", a, b, 5);
    ck_assert_uint_eq(cm_checkpoint_stats(c)->pods_new, 0);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(one_leaf_changes_the_pods_above_it)
{
    long leaf = 0;
    node *a = tree_of(4, 4, &leaf); /* 1 + 4 + 16 + 64 + 256 lists above 1024 leaves, each with a pod of its own */
    cm_save *save = begin(store, "s");
    save_node(save, "a", a, &(cutting){{1}, 256, 0});
    cm_checkpoint *c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_stats(c)->pods_new, 1 + 4 + 16 + 64 + 256 + 1024);
    cm_checkpoint_unref(c);
    forget(a);
    a->items[2]->items[1]->items[3]->items[0]->items[2]->items[5] = node_int(&nodes, 200);
    save = begin(store, "s");
    save_node(save, "a", a, &(cutting){{1}, 256, 0});
    c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_stats(c)->pods_new, 6);
    ck_assert_uint_lt(cm_checkpoint_stats(c)->bytes_written, 5000);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(a_changed_slice_of_a_buffer_writes_its_chunks)
{
    enum { SIZE = 8 << 20 };
    uint8_t *bytes = malloc(SIZE);
    seeded_fill(3, bytes, SIZE);
    node *buffer = node_new(&nodes, NODE_BUFFER);
    buffer->text = bytes;
    buffer->size = SIZE;
    for (int round = 0; round < 2; round++) {
        cm_save *save = begin(store, "s");
        save_node(save, "array", buffer, &whole);
        cm_checkpoint *c = finish(save);
        uint64_t written = cm_checkpoint_stats(c)->bytes_written;
        if (round == 0)
            ck_assert_uint_gt(written, SIZE);
        else
            ck_assert_uint_lt(written, 2 * 65536 + 10000); /* a chunk or two, the node above, the pod, the maps */
        seeded_fill(4, bytes + 3000000, 1000);
        cm_checkpoint_unref(c);
    }
    free(bytes);
}
END_TEST

/* Content of the one buffer of the variable "array": compared byte for byte. */
static void check_array(cm_checkpoint *c, const uint8_t *bytes, size_t size)
{
    static const char *const name = "array";
    cm_link *link;
    ck_ok(cm_link_open(c, &name, 1, CM_LINK_BUFFERS, &link));
    ck_assert_uint_eq(cm_link_buffer_count(link), 1);
    uint8_t *read = malloc(size);
    ck_ok(cm_link_buffer_read(link, 0, read));
    ck_assert(memcmp(read, bytes, size) == 0);
    free(read);
    cm_link_close(link);
}

START_TEST(a_detached_buffer_may_change)
{
    enum { SIZE = 24 << 20 };
    static const uint64_t limits[] = {UINT64_MAX, 1 << 20, 0};
    uint8_t *bytes = malloc(SIZE), *want = malloc(SIZE);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        seeded_fill(30 + i, bytes, SIZE);
        memset(bytes + (1 << 20), 0, 1 << 20); /* chunks that are equal */
        memcpy(want, bytes, SIZE);
        node *buffer = node_new(&nodes, NODE_BUFFER);
        buffer->text = bytes;
        buffer->size = SIZE;
        cm_save *save = begin(store, "s");
        save_node(save, "array", buffer, &whole);
        ck_ok(cm_save_commit(save, NULL, NULL));
        uint64_t copied;
        cm_save_detach(save, limits[i], NULL, 0, &copied);
        ck_assert_uint_le(copied, limits[i]);
        memset(bytes, 0xee, SIZE);
        cm_save_detach(save, UINT64_MAX, NULL, 0, &copied); /* there is nothing to do any more */
        ck_assert_uint_eq(copied, 0);
        int result;
        while ((result = cm_save_wait(save, 1000)) == -EAGAIN)
            ;
        ck_ok(result);
        cm_save_detach(save, UINT64_MAX, NULL, 0, &copied);
        ck_assert_uint_eq(copied, 0);
        cm_checkpoint *c = cm_save_checkpoint(save);
        cm_save_free(save);
        check_array(c, want, SIZE);
        cm_checkpoint_unref(c);
    }
    free(want);
    free(bytes);
}
END_TEST

/* Of a save for later, which reads nothing before it is started. */
START_TEST(a_spared_buffer_stays_lent)
{
    enum { SIZE = 4 << 20 };
    uint8_t *bytes[2], *want = malloc(SIZE);
    uint64_t taken;
    cm_save *save;
    cm_save_free(begin(store, "s")); /* the store is known from then on */
    ck_ok(cm_save_begin_later(store, "s", NULL, &save));
    cm_save_behind(save);
    for (int i = 0; i < 2; i++) {
        bytes[i] = malloc(SIZE);
        seeded_fill(70 + i, bytes[i], SIZE);
        node *buffer = node_new(&nodes, NODE_BUFFER);
        buffer->text = bytes[i];
        buffer->size = SIZE;
        save_node(save, i ? "array" : "other", buffer, &whole);
        ck_assert(cm_save_lends(save, bytes[i]));
    }
    ck_assert(!cm_save_lends(save, bytes[0] + 1));
    memcpy(want, bytes[1], SIZE);
    ck_assert(!cm_save_detach(save, SIZE, NULL, 0, &taken));
    ck_assert(cm_save_detach(save, SIZE + 4096, (const void *const[]){bytes[1]}, 1, &taken));
    ck_assert_uint_ge(taken, SIZE);
    memset(bytes[0], 0xee, SIZE);
    ck_assert(!cm_save_lends(save, bytes[0]));
    ck_assert(cm_save_lends(save, bytes[1]));
    ck_assert(cm_save_detach(save, SIZE, NULL, 0, &taken));
    ck_assert_uint_eq(taken, SIZE);
    memset(bytes[1], 0xee, SIZE);
    ck_assert(!cm_save_lends(save, bytes[1]));
    ck_ok(cm_save_start(save));
    ck_ok(cm_save_commit(save, NULL, NULL));
    int result;
    while ((result = cm_save_wait(save, 1000)) == -EAGAIN)
        ;
    ck_ok(result);
    cm_checkpoint *c = cm_save_checkpoint(save);
    cm_save_free(save);
    check_array(c, want, SIZE);
    cm_checkpoint_unref(c);
    free(bytes[0]);
    free(bytes[1]);
    free(want);
}
END_TEST

START_TEST(a_save_for_later_waits_in_memory)
{
    enum { SIZE = 4 << 20, SAVES = 4 };
    uint8_t *bytes = calloc(1, SIZE), *want[SAVES];
    cm_save *saves[SAVES];
    uint64_t taken;
    for (int i = 0; i < SAVES; i++) {
        seeded_fill(60 + i, bytes + (size_t)i * (SIZE / SAVES), SIZE / SAVES);
        want[i] = malloc(SIZE);
        memcpy(want[i], bytes, SIZE);
        if (i)
            ck_ok(cm_save_begin_later(store, "s", NULL, &saves[i]));
        else
            saves[i] = begin(store, "s");
        node *buffer = node_new(&nodes, NODE_BUFFER);
        buffer->text = bytes;
        buffer->size = SIZE;
        save_node(saves[i], "array", buffer, &whole);
        ck_ok(cm_save_unsaved(saves[i], "lock", "it cannot be"));
        if (i)
            ck_fails(cm_save_commit(saves[i], NULL, NULL), EINVAL, "not started");
        else
            ck_ok(cm_save_commit(saves[i], "it waited", NULL));
        ck_assert(!i || !cm_save_detach(saves[i], SIZE / 8, NULL, 0, &taken)); /* there is nothing to wait for */
        ck_assert(cm_save_detach(saves[i], UINT64_MAX, NULL, 0, &taken));
        ck_assert_uint_le(taken, SIZE + 4096);
        memset(bytes, 0xee, SIZE / SAVES * (size_t)i);
    }
    ck_fails(cm_save_start(saves[0]), EINVAL, "begun for later");
    for (int i = 0; i < SAVES; i++) {
        if (i) {
            ck_ok(cm_save_start(saves[i]));
            ck_ok(cm_save_commit(saves[i], "it waited", NULL));
        }
        int result;
        while ((result = cm_save_wait(saves[i], 1000)) == -EAGAIN)
            ;
        ck_ok(result);
        cm_checkpoint *c = cm_save_checkpoint(saves[i]);
        cm_save_free(saves[i]);
        ck_assert_uint_eq(cm_checkpoint_number(c), (unsigned)i + 1);
        ck_assert_str_eq(cm_checkpoint_message(c), "it waited");
        check_array(c, want[i], SIZE);
        cm_checkpoint_unref(c);
        free(want[i]);
    }
    cm_save *given_up;
    ck_ok(cm_save_begin_later(store, "s", NULL, &given_up));
    save_node(given_up, "list", number_list(0, 4), &whole);
    cm_save_free(given_up);
    free(bytes);
}
END_TEST

/* ---- saves that come to nothing ------------------------------------------------------------------------------------- */

START_TEST(cancelled_variables_are_as_if_never_built)
{
    node *a = number_list(0, 4), *b = number_list(10, 4);
    cm_save *save = begin(store, "s");
    save_node(save, "a", a, &whole);
    ck_ok(cm_save_variable_begin(save, "bad"));
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT), *child = cm_save_pod_new(save, pod, CM_POD_OBJECT);
    cm_body_byte(cm_pod_body(child), 'N');
    ck_ok(cm_save_pod_finish(save, child, CM_INDEX_ROOT));
    cm_body_byte(cm_pod_body(pod), ']'); /* and then something goes wrong */
    cm_save_variable_cancel(save);
    ck_ok(cm_save_unsaved(save, "bad", "it was not to be"));
    save_node(save, "b", b, &whole);
    cm_checkpoint *c = finish(save);
    ck_assert_uint_eq(cm_checkpoint_variable_count(c), 2);
    check_description(c, NULL, "#1={s1:a:#2=[0 1 2 3] s1:b:#3=[10 11 12 13]}");
    ck_assert_uint_eq(cm_checkpoint_stats(c)->pods, 2);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(freed_saves_leave_the_store_as_it_was)
{
    cm_save *save = begin(store, "s");
    save_node(save, "a", number_list(0, 3), &whole);
    cm_checkpoint *first = finish(save);
    cm_store_stat before, after;
    ck_ok(cm_store_statistics(store, &before));
    uint8_t *bytes = malloc(20 << 20);
    seeded_fill(9, bytes, 20 << 20);
    for (int how = 0; how < 3; how++) {
        node *buffer = node_new(&nodes, NODE_BUFFER);
        buffer->text = bytes;
        buffer->size = 20 << 20;
        save = begin(store, "s");
        save_node(save, "a", number_list(50, 100), &(cutting){{1}, 0, 255});
        save_node(save, "big", buffer, &whole);
        if (how == 1)
            ck_ok(cm_save_variable_begin(save, "half"));
        cm_save_free(save); /* how == 2: at once, while workers still read */
    }
    free(bytes);
    ck_ok(cm_store_statistics(store, &after));
    ck_assert_uint_eq(after.objects, before.objects);
    ck_assert_uint_eq(after.checkpoints, 1);
    cm_checkpoint *head;
    ck_ok(cm_checkpoint_open(store, "s", NULL, &head));
    ck_assert(cm_id_equal(cm_checkpoint_id(head), cm_checkpoint_id(first)));
    cm_checkpoint_unref(head);
    cm_checkpoint_unref(first);
    save = begin(store, "s");
    save_node(save, "a", number_list(1, 3), &whole);
    first = finish(save);
    ck_assert_uint_eq(cm_checkpoint_number(first), 2);
    check_description(first, "a", "#1=[1 2 3]");
    cm_checkpoint_unref(first);
    cm_save_free(NULL);
}
END_TEST

START_TEST(wrong_use_is_refused)
{
    cm_save *save;
    static const char *const names[] = {"", "a/b", "a@b", "a\nb", ".", ".."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_int_eq(cm_save_begin(store, names[i], &save), -EINVAL);
    char name[300];
    memset(name, 'x', sizeof name);
    name[201] = 0;
    ck_assert_int_eq(cm_save_begin(store, name, &save), -EINVAL);
    save = begin(store, "s");
    cm_save *second;
    ck_fails(cm_save_begin(store, "other", &second), EDEADLK, "in progress");
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    cm_body_byte(cm_pod_body(pod), 'N');
    ck_assert_int_eq(cm_save_variable_end(save, pod, CM_INDEX_ROOT, "x", ""), -EINVAL); /* none was begun */
    ck_ok(cm_save_variable_begin(save, "v"));
    ck_assert_int_eq(cm_save_variable_begin(save, "w"), -EINVAL);
    ck_assert_int_eq(cm_save_variable_end(save, pod, CM_INDEX_ROOT, "x", ""), -EINVAL); /* not finished */
    ck_assert_int_eq(cm_save_pod_finish(save, pod, 0), -EINVAL);                        /* nothing memoized */
    ck_ok(cm_save_pod_finish(save, pod, CM_INDEX_ROOT));
    ck_assert_int_eq(cm_save_pod_finish(save, pod, CM_INDEX_ROOT), -EINVAL);
    cm_save_free(save);
    cm_store_unref(store);
    store = open_store("store", CM_OPEN_READ);
    ck_fails(cm_save_begin(store, "s", &save), EROFS, "reading only");
}
END_TEST

/* ---- at once ------------------------------------------------------------------------------------------------------ */

typedef struct saver {
    const char *session;
    int saves;
    uint64_t seed;
} saver;

static void *save_many(void *arg)
{
    saver *s = arg;
    arena mine = {0};
    for (int i = 0; i < s->saves; i++) {
        node *n = node_new(&mine, NODE_LIST);
        for (long k = 0; k < 50; k++) {
            node *inner = node_new(&mine, NODE_LIST);
            node_add(&mine, inner, node_int(&mine, (long)(s->seed + (uint64_t)(k * i)) % 256));
            node_add(&mine, n, inner);
        }
        cm_save *save = begin(store, s->session);
        save_node(save, "v", n, &(cutting){{s->seed}, 100, 100});
        cm_checkpoint_unref(finish(save));
    }
    arena_free(&mine);
    return NULL;
}

START_TEST(threads_save_and_read_at_once)
{
    saver savers[3] = {{"one", 15, 1}, {"two", 15, 2}, {"one", 15, 3}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, save_many, &savers[i]), 0);
    for (int i = 0; i < 100; i++) { /* reading goes on beside them */
        cm_checkpoint *c;
        int result = cm_checkpoint_open(store, "one", NULL, &c);
        if (result == -ENOENT)
            continue;
        ck_assert_int_eq(result, 0);
        free(describe_linked(c, "v"));
        cm_checkpoint_unref(c);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cm_session_info info;
    ck_ok(cm_session_get(store, "one", &info));
    ck_assert_uint_eq(info.last_number, 30);
    cm_session_info_clear(&info);
    ck_ok(cm_session_get(store, "two", &info));
    ck_assert_uint_eq(info.last_number, 15);
    cm_session_info_clear(&info);
    cm_verify_report report;
    ck_ok(cm_verify(store, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(report.checkpoints, 45);
}
END_TEST

/* ---- a full disk -------------------------------------------------------------------------------------------------- */

START_TEST(full_disk_loses_nothing)
{
    const char *disk = small_disk("disk", "40m");
    if (!disk)
        return;
    char ballast[4096];
    snprintf(ballast, sizeof ballast, "%s/ballast", disk);
    store = open_store("disk/store", CREATE);
    cm_save *save = begin(store, "s");
    save_node(save, "a", number_list(0, 3), &whole);
    cm_checkpoint_unref(finish(save));
    enum { SIZE = 60 << 20 };
    uint8_t *bytes = malloc(SIZE);
    seeded_fill(1, bytes, SIZE);
    write_file(ballast, bytes, 10 << 20);
    for (int round = 0; round < 2; round++) {
        node *buffer = node_new(&nodes, NODE_BUFFER);
        buffer->text = bytes;
        buffer->size = SIZE;
        save = begin(store, "s");
        ck_ok(cm_save_variable_begin(save, "big"));
        cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
        cm_pod_buffer(pod, CM_BUFFER_WRITABLE, bytes, SIZE);
        int result = cm_save_pod_finish(save, pod, CM_INDEX_ROOT);
        if (result == 0) /* else the workers had failed already */
            result = cm_save_variable_end(save, pod, CM_INDEX_ROOT, "x", "");
        if (result == 0)
            result = cm_save_commit(save, NULL, NULL);
        if (result == 0)
            result = cm_save_wait(save, 60000);
        ck_assert_msg(result == -ENOSPC, "%d: %s", result, cm_error_message());
        ck_assert_msg(strstr(cm_error_message(), "free some space"), "%s", cm_error_message());
        cm_save_free(save);
        cm_checkpoint *head;
        ck_ok(cm_checkpoint_open(store, "s", NULL, &head));
        ck_assert_uint_eq(cm_checkpoint_number(head), 1 + (uint64_t)round);
        check_description(head, "a", "#1=[0 1 2]");
        cm_checkpoint_unref(head);
        unlink(ballast);
        save = begin(store, "s");
        save_node(save, "a", number_list(0, 3), &whole);
        head = finish(save);
        ck_assert_uint_eq(cm_checkpoint_number(head), 2 + (uint64_t)round);
        check_description(head, "a", "#1=[0 1 2]");
        cm_checkpoint_unref(head);
    }
    free(bytes);
    cm_verify_report report;
    ck_ok(cm_verify(store, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(report.checkpoints, 3);
    cm_store_unref(store);
    arena_free(&nodes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.save");
    TCase *tcase = tcase_create("save");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup_store, teardown_store);
    tcase_add_test(tcase, checkpoint_says_what_it_is);
    tcase_add_test(tcase, changes_are_told);
    tcase_add_test(tcase, cells_are_told_of);
    tcase_add_test(tcase, nothing_is_made_where_nothing_changed);
    tcase_add_test(tcase, unchanged_writes_almost_nothing);
    tcase_add_test(tcase, one_leaf_changes_the_pods_above_it);
    tcase_add_test(tcase, a_changed_slice_of_a_buffer_writes_its_chunks);
    tcase_add_test(tcase, a_detached_buffer_may_change);
    tcase_add_test(tcase, a_spared_buffer_stays_lent);
    tcase_add_test(tcase, a_save_for_later_waits_in_memory);
    tcase_add_test(tcase, cancelled_variables_are_as_if_never_built);
    tcase_add_test(tcase, freed_saves_leave_the_store_as_it_was);
    tcase_add_test(tcase, wrong_use_is_refused);
    tcase_add_test(tcase, threads_save_and_read_at_once);
    suite_add_tcase(suite, tcase);
    TCase *disk = tcase_create("disk"); /* without the fixture: threads that run already do not see the disk */
    tcase_set_timeout(disk, 120);
    tcase_add_test(disk, full_disk_loses_nothing);
    suite_add_tcase(suite, disk);
    return run_suite(suite);
}
