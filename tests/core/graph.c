/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <errno.h>

#include "buffer.h"

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void *arena_take(arena *a, size_t size)
{
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? a->capacity * 2 : 64;
        a->blocks = realloc(a->blocks, a->capacity * sizeof *a->blocks);
        must(a->blocks);
    }
    void *block = calloc(1, size + 1);
    must(block);
    return a->blocks[a->count++] = block;
}

void arena_free(arena *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->blocks[i]);
    free(a->blocks);
    *a = (arena){0};
}

node *node_new(arena *a, enum node_type type)
{
    node *n = arena_take(a, sizeof *n);
    n->type = type;
    return n;
}

node *node_int(arena *a, long number)
{
    node *n = node_new(a, NODE_INT);
    n->number = number;
    return n;
}

node *node_text(arena *a, enum node_type type, const void *text, size_t size)
{
    node *n = node_new(a, type);
    uint8_t *copy = arena_take(a, size);
    memcpy(copy, text, size);
    n->text = copy;
    n->size = size;
    return n;
}

void node_add(arena *a, node *container, node *item)
{
    if (container->count == container->capacity) {
        size_t capacity = container->capacity ? container->capacity * 2 : 4;
        node **items = arena_take(a, capacity * sizeof *items);
        if (container->count)
            memcpy(items, container->items, container->count * sizeof *items);
        container->items = items;
        container->capacity = capacity;
    }
    container->items[container->count++] = item;
}

static bool is_container(const node *n)
{
    return n->type == NODE_LIST || n->type == NODE_TUPLE || n->type == NODE_DICT;
}

/* ---- descriptions ------------------------------------------------------------------------------------------------- */

static void add_text(cm_buffer *out, const char *text)
{
    cm_buffer_append(out, text, strlen(text));
}

static void describe_leaf(const node *n, cm_buffer *out)
{
    char text[64];
    if (n->type == NODE_INT)
        snprintf(text, sizeof text, "%ld", n->number);
    else if (n->type == NODE_BUFFER)
        snprintf(text, sizeof text, "%sbuffer%ld", n->readonly ? "readonly " : "", n->number);
    else
        snprintf(text, sizeof text, n->type == NODE_NONE ? "None" : "%c%zu:", "  sbB"[n->type], n -> size);
    add_text(out, text);
    cm_buffer_append(out, n->text, n->size);
}

static void describe_into(node *n, unsigned *labels, cm_buffer *out)
{
    if (!is_container(n)) {
        describe_leaf(n, out);
        return;
    }
    char text[24];
    bool again = n->label;
    if (!again)
        n->label = ++*labels;
    snprintf(text, sizeof text, again ? "#%u" : "#%u=", n->label);
    add_text(out, text);
    if (again)
        return;
    static const char *const brackets[] = {"[]", "()", "{}"};
    cm_buffer_append(out, brackets[n->type - NODE_LIST], 1);
    for (size_t i = 0; i < n->count; i++) {
        if (i)
            add_text(out, n->type == NODE_DICT && i % 2 ? ":" : " ");
        describe_into(n->items[i], labels, out);
    }
    cm_buffer_append(out, brackets[n->type - NODE_LIST] + 1, 1);
}

static void unlabel(node *n)
{
    if (!is_container(n) || !n->label)
        return;
    n->label = 0;
    for (size_t i = 0; i < n->count; i++)
        unlabel(n->items[i]);
}

char *describe(node *root)
{
    cm_buffer out = CM_BUFFER_INIT;
    unsigned labels = 0;
    describe_into(root, &labels, &out);
    unlabel(root);
    cm_buffer_append(&out, "", 1);
    must(!out.error);
    return (char *)out.data;
}

/* ---- the machine --------------------------------------------------------------------------------------------------- */

typedef struct machine {
    arena *a;
    cm_reader in;
    node *stack[10000];
    size_t height;
    size_t marks[1000];
    size_t mark_count;
    node **memo;
    size_t memo_count;
    long buffers;
    const char *why;
} machine;

static uint64_t take_number(machine *m, unsigned bytes)
{
    const uint8_t *at = cm_read_bytes(&m->in, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; at && i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static void push(machine *m, node *n)
{
    if (m->height == sizeof m->stack / sizeof *m->stack)
        m->why = "the stack is full";
    else
        m->stack[m->height++] = n;
}

static void push_text(machine *m, enum node_type type, unsigned length_bytes)
{
    uint64_t size = take_number(m, length_bytes);
    const uint8_t *text = cm_read_bytes(&m->in, size);
    if (text)
        push(m, node_text(m->a, type, text, size));
}

/* What is above the top mark goes into the container below it (or below `last` items, without a mark). */
static void fill(machine *m, enum node_type type, size_t last)
{
    size_t from;
    if (last) {
        from = m->height - last;
        if (m->height < last + 1)
            from = 0;
    } else {
        from = m->mark_count ? m->marks[--m->mark_count] : 0;
    }
    if (from == 0 || from > m->height || m->stack[from - 1]->type != type ||
        (type == NODE_DICT && (m->height - from) % 2)) {
        m->why = "items without their container";
        return;
    }
    for (size_t i = from; i < m->height; i++)
        node_add(m->a, m->stack[from - 1], m->stack[i]);
    m->height = from;
}

static void tuple(machine *m, size_t count)
{
    node *n = node_new(m->a, NODE_TUPLE);
    if (m->height < count) {
        m->why = "a tuple of nothing";
        return;
    }
    for (size_t i = m->height - count; i < m->height; i++)
        node_add(m->a, n, m->stack[i]);
    m->height -= count;
    push(m, n);
}

static void memoize(machine *m)
{
    if (m->height == 0 || m->memo_count == 1000000) {
        m->why = "nothing to memoize";
        return;
    }
    m->memo[m->memo_count++] = m->stack[m->height - 1];
}

static void get(machine *m)
{
    uint64_t index = take_number(m, 4);
    if (index >= m->memo_count)
        m->why = "a get beyond the memo";
    else
        push(m, m->memo[index]);
}

static void next_buffer(machine *m)
{
    node *n = node_new(m->a, NODE_BUFFER);
    n->number = m->buffers++;
    push(m, n);
}

static bool step(machine *m)
{
    const uint8_t *op = cm_read_bytes(&m->in, 1);
    switch (op ? *op : -1) {
    case 'K':
        push(m, node_int(m->a, (long)take_number(m, 1)));
        break;
    case 'N':
        push(m, node_new(m->a, NODE_NONE));
        break;
    case ']':
        push(m, node_new(m->a, NODE_LIST));
        break;
    case '}':
        push(m, node_new(m->a, NODE_DICT));
        break;
    case ')':
        tuple(m, 0);
        break;
    case 0x85:
    case 0x86:
    case 0x87:
        tuple(m, *op - 0x84u);
        break;
    case '(':
        if (m->mark_count < sizeof m->marks / sizeof *m->marks)
            m->marks[m->mark_count++] = m->height;
        break;
    case 'e':
        fill(m, NODE_LIST, 0);
        break;
    case 'u':
        fill(m, NODE_DICT, 0);
        break;
    case 's':
        fill(m, NODE_DICT, 2);
        break;
    case 0x94:
        memoize(m);
        break;
    case 'j':
        get(m);
        break;
    case '0':
        if (m->height == 0)
            m->why = "nothing to pop";
        else
            m->height--;
        break;
    case 0x8c:
        push_text(m, NODE_STR, 1);
        break;
    case 'X':
        push_text(m, NODE_STR, 4);
        break;
    case 0x8d:
        push_text(m, NODE_STR, 8);
        break;
    case 0x8e:
        push_text(m, NODE_BYTES, 8);
        break;
    case 0x96:
        push_text(m, NODE_BYTEARRAY, 8);
        break;
    case 0x97:
        next_buffer(m);
        break;
    case 0x98:
        if (m->height && m->stack[m->height - 1]->type == NODE_BUFFER)
            m->stack[m->height - 1]->readonly = true;
        else
            m->why = "a read-only what?";
        break;
    case '.':
        return false;
    default:
        m->why = op ? "an unknown opcode" : "no STOP";
    }
    return !m->why && !m->in.bad;
}

node *unpickle(arena *a, const uint8_t *stream, size_t size, const char **why)
{
    machine *m = calloc(1, sizeof *m);
    must(m && size >= 2);
    m->a = a;
    m->in = cm_reader_of(stream, size);
    m->memo = malloc(1000000 * sizeof *m->memo);
    must(m->memo);
    if (take_number(m, 2) != 0x0580)
        m->why = "no PROTO 5";
    while (!m->why && step(m))
        ;
    if (!m->why && (m->in.bad || m->in.at != m->in.end || m->height != 1 || m->mark_count))
        m->why = "cut short, or something is left over";
    *why = m->why;
    node *root = m->why ? NULL : m->stack[0];
    free(m->memo);
    free(m);
    return root;
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

static void emit(cm_save *save, cm_pod *pod, node *n, cutting *cut);

static bool chance(cutting *cut, unsigned of_256)
{
    return seeded_next(&cut->random) % 256 < of_256;
}

static void emit_text(cm_pod *pod, const node *n)
{
    cm_body *body = cm_pod_body(pod);
    if (n->size >= CM_PAYLOAD_MIN) {
        static const enum cm_buffer_kind kinds[] = {CM_PAYLOAD_STR, CM_PAYLOAD_BYTES, CM_PAYLOAD_BYTEARRAY};
        cm_pod_buffer(pod, kinds[n->type - NODE_STR], n->text, n->size);
        return;
    }
    static const uint8_t opcodes[] = {0x8d, 0x8e, 0x96};
    uint64_t size = n->size;
    cm_body_byte(body, opcodes[n->type - NODE_STR]);
    cm_body_bytes(body, &size, 8); /* little endian, as this machine is */
    cm_body_bytes(body, n->text, n->size);
}

static void emit_leaf(cm_pod *pod, const node *n)
{
    cm_body *body = cm_pod_body(pod);
    if (n->type == NODE_INT) {
        cm_body_byte(body, 'K');
        cm_body_byte(body, (uint8_t)n->number);
    } else if (n->type == NODE_NONE) {
        cm_body_byte(body, 'N');
    } else if (n->type == NODE_BUFFER) {
        cm_pod_buffer(pod, n->readonly ? CM_BUFFER_READONLY : CM_BUFFER_WRITABLE, n->text, n->size);
    } else {
        emit_text(pod, n);
    }
}

static void emit_items(cm_save *save, cm_pod *pod, node *n, size_t from, size_t to, cutting *cut)
{
    cm_body_byte(cm_pod_body(pod), '(');
    for (size_t i = from; i < to; i++)
        emit(save, pod, n->items[i], cut);
    cm_body_byte(cm_pod_body(pod), n->type == NODE_DICT ? 'u' : 'e');
}

/* The items in up to three fragments and, between them, in the pod itself. */
static void emit_fragments(cm_save *save, cm_pod *pod, node *n, cutting *cut)
{
    size_t step_by = n->type == NODE_DICT ? 2 : 1, parts = n->count / step_by / 3 + 1;
    for (size_t from = 0; from < n->count; from += parts * step_by) {
        size_t to = from + parts * step_by < n->count ? from + parts * step_by : n->count;
        if (chance(cut, 64)) {
            emit_items(save, pod, n, from, to, cut);
            continue;
        }
        cm_pod *fragment = cm_save_pod_new(save, pod, CM_POD_FRAGMENT);
        must(fragment);
        emit_items(save, fragment, n, from, to, cut);
        must(cm_save_pod_finish(save, fragment, CM_INDEX_ROOT) == 0);
        cm_pod_child(pod, fragment);
    }
}

static void emit_container(cm_save *save, cm_pod *pod, node *n, cutting *cut)
{
    cm_body *body = cm_pod_body(pod);
    if (n->type == NODE_TUPLE) {
        must(n->count <= 3);
        for (size_t i = 0; i < n->count; i++)
            emit(save, pod, n->items[i], cut);
        cm_body_byte(body, n->count ? (uint8_t)(0x84 + n->count) : ')');
        n->pod = pod;
        n->index = cm_body_memoize(body);
        return;
    }
    cm_body_byte(body, n->type == NODE_DICT ? '}' : ']');
    n->pod = pod;
    n->index = cm_body_memoize(body);
    if (n->count && chance(cut, cut->fragment))
        emit_fragments(save, pod, n, cut);
    else if (n->count)
        emit_items(save, pod, n, 0, n->count, cut);
}

static void emit(cm_save *save, cm_pod *pod, node *n, cutting *cut)
{
    if (!is_container(n)) {
        emit_leaf(pod, n);
    } else if (n->pod == pod) {
        cm_pod_get(pod, n->index);
    } else if (n->pod) {
        cm_pod_external(pod, n->pod, n->index);
    } else if (chance(cut, cut->own_pod)) {
        cm_pod *child = cm_save_pod_new(save, pod, CM_POD_OBJECT);
        must(child);
        emit_container(save, child, n, cut);
        must(cm_save_pod_finish(save, child, n->index) == 0);
        cm_pod_child(pod, child);
    } else {
        emit_container(save, pod, n, cut);
    }
}

void save_node(cm_save *save, const char *name, node *root, cutting *cut)
{
    must(cm_save_variable_begin(save, name) == 0);
    cm_pod *pod = root->pod;
    uint32_t index = root->index;
    if (!pod || !is_container(root)) {
        pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
        must(pod);
        if (is_container(root))
            emit_container(save, pod, root, cut);
        else
            emit_leaf(pod, root);
        index = is_container(root) ? root->index : CM_INDEX_ROOT;
        must(cm_save_pod_finish(save, pod, index) == 0);
    }
    must(cm_save_variable_end(save, pod, index, "test.Node", "a node") == 0);
}

/* ---- stores and streams ------------------------------------------------------------------------------------------- */

cm_store *open_store(const char *name, unsigned flags)
{
    cm_store *store = NULL;
    must(cm_store_open(scratch_path(name), flags, &store) == 0);
    return store;
}

cm_save *begin(cm_store *store, const char *session)
{
    cm_save *save = NULL;
    must(cm_save_begin(store, session, &save) == 0);
    return save;
}

cm_checkpoint *finish(cm_save *save)
{
    must(cm_save_commit(save, "a message", "some code") == 0);
    must(cm_save_wait(save, 60000) == 0);
    cm_checkpoint *checkpoint = cm_save_checkpoint(save);
    must(checkpoint);
    cm_save_free(save);
    return checkpoint;
}

/* Read once from the beginning, in pieces of odd sizes, the stream is the same; or it says that it cannot be read so. */
static void check_stream(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags,
                         const uint8_t *expected, size_t size, size_t buffers)
{
    cm_stream *s = NULL;
    ck_ok(cm_stream_open(checkpoint, names, count, flags, &s));
    uint8_t *all = malloc(size + 1);
    cm_piece *piece = cm_piece_new();
    ck_assert_ptr_nonnull(all);
    ck_assert_ptr_nonnull(piece);
    size_t at = 0;
    bool more = true;
    int result = 0;
    for (size_t want = 1, done; more && !result; want = want * 3 % 5003 + 1) {
        result = cm_stream_read(s, want, piece);
        if (!result)
            result = cm_piece_fill(piece);
        const void *bytes = cm_piece_bytes(piece, &done);
        ck_assert_uint_le(done, size - at);
        if (!result && done)
            memcpy(all + at, bytes, done);
        at += done;
        more = done >= want;
    }
    cm_piece_free(piece);
    if (result != -EAGAIN) {
        cm_stream_buffer buffer;
        size_t found = 0;
        ck_ok(result);
        while (cm_stream_next_buffer(s, &buffer))
            found++;
        ck_assert_uint_eq(at, size);
        ck_assert_mem_eq(all, expected, size);
        ck_assert_uint_eq(found, buffers);
    }
    free(all);
    cm_stream_close(s);
}

uint8_t *link_whole(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags, size_t *size)
{
    cm_link *link = NULL;
    ck_ok(cm_link_open(checkpoint, names, count, flags, &link));
    *size = cm_link_size(link);
    uint8_t *stream = malloc(*size + 1);
    ck_assert_ptr_nonnull(stream);
    size_t done = 0;
    ck_ok(cm_link_read(link, 0, stream, *size + 1, &done));
    ck_assert_uint_eq(done, *size);
    check_stream(checkpoint, names, count, flags, stream, *size, cm_link_buffer_count(link));
    cm_link_close(link);
    return stream;
}

char *describe_linked(cm_checkpoint *checkpoint, const char *name)
{
    size_t size;
    uint8_t *stream = link_whole(checkpoint, &name, name ? 1 : 0, name ? 0 : CM_LINK_NAMESPACE, &size);
    arena a = {0};
    const char *why;
    node *root = unpickle(&a, stream, size, &why);
    ck_assert_msg(root, "%s: %s", name ? name : "the namespace", why);
    char *text = describe(root);
    arena_free(&a);
    free(stream);
    return text;
}

void check_description(cm_checkpoint *checkpoint, const char *name, const char *expected)
{
    char *got = describe_linked(checkpoint, name);
    ck_assert_str_eq(got, expected);
    free(got);
}
