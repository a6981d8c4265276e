/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_stream.c - a linked stream read once, from its beginning: pods are linked as they come, and only those under
 * construction are in memory.
 */
#include "planner.h"
#include "tree.h"

enum { TREE_PIECE = 1 << 20 };

/* Where a part of a payload goes in a piece. All of one piece are filled together. */
typedef struct hole {
    size_t at;
    const char *name;  /* of the variable; the checkpoint's */
    cm_tree_part part; /* memory: not known before */
} hole;

struct cm_piece {
    cm_buffer out;
    hole *holes;
    size_t hole_count, hole_capacity;
    const cm_stream *stream; /* that it was read from */
};

struct cm_stream {
    cm_checkpoint *checkpoint;
    cm_have *have; /* may be NULL */
    cm_pods pods;
    cm_plan_source source;
    cm_plan plan;
    cm_planner planner;
    cm_sink sink;
    cm_plan_root *roots;
    size_t count, next;   /* roots */
    bool namespace, open; /* open: the value of a root is being linked */
    bool aside;           /* the pod that the root is in goes before it */
    bool begun, done;
    size_t announced; /* roots */
    cm_piece *piece;  /* while it is read into */
    size_t buffers_taken;
};

/* ---- the sink ---------------------------------------------------------------------------------------------------- */

int cm_sink_bytes(cm_plan *plan, const void *bytes, size_t size)
{
    cm_buffer_append(&plan->sink->out, bytes, size);
    plan->size += size;
    return plan->sink->out.error ? cm_plan_no_memory() : 0;
}

int cm_sink_tree(cm_plan *plan, uint32_t tree, uint64_t size)
{
    cm_sink *sink = plan->sink;
    sink->tree = plan->trees[tree];
    sink->tree_done = 0;
    sink->has_tree = true;
    plan->size += size;
    plan->tree_count = 0; /* the plan need not remember it */
    return 0;
}

int cm_sink_body(cm_plan *plan, cm_frame *f, uint32_t position)
{
    const cm_instance *instance = &plan->instances[f->instance];
    const cm_pod_view *view = &f->view;
    uint32_t from = f->position;
    uint8_t *at = cm_buffer_extend(&plan->sink->out, position - from);
    if (!at)
        return cm_plan_no_memory();
    plan->size += position - from;
    if (position == from)
        return 0;
    memcpy(at, view->body + from, position - from);
    for (; f->get < view->get_count && view->gets[f->get] < position; f->get++) {
        uint32_t get = view->gets[f->get];
        if (get >= from && position - get >= CM_GET_SIZE)
            cm_put_u32(at + (get - from) + 1, cm_plan_memo(instance, cm_get_u32(at + (get - from) + 1)));
    }
    for (; f->patch < instance->patch_count && instance->patches[f->patch].position < position; f->patch++) {
        const cm_patch *patch = &instance->patches[f->patch];
        if (patch->position >= from && position - patch->position >= CM_GET_SIZE)
            cm_put_u32(at + (patch->position - from) + 1, patch->memo);
    }
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int choose(cm_stream *s, const char *const *names, size_t count)
{
    if (count == 0)
        return cm_checkpoint_roots(s->checkpoint, &s->roots, &s->count);
    cm_cleanup(cm_cleanup_free) const cm_variable **chosen = malloc(count * sizeof *chosen);
    int result = chosen ? 0 : cm_plan_no_memory();
    for (size_t i = 0; i < count && !result; i++)
        result = cm_checkpoint_variable(s->checkpoint, names[i], &chosen[i]);
    s->count = count;
    return result ? result : cm_roots_by_rank(chosen, count, &s->roots);
}

int cm_stream_open(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags, cm_stream **out)
{
    if (!(flags & CM_LINK_NAMESPACE) && count != 1)
        return cm_fail(EINVAL, "a stream that is no namespace is of exactly one variable, not of %zu", count);
    cm_stream *s = calloc(1, sizeof *s);
    if (!s)
        return cm_plan_no_memory();
    s->checkpoint = cm_checkpoint_ref(checkpoint);
    s->pods.checkpoint = checkpoint;
    s->source = cm_plan_source_of(&s->pods);
    s->plan.sink = &s->sink;
    s->planner = (cm_planner){.source = &s->source, .plan = &s->plan, .flags = flags};
    s->namespace = flags & CM_LINK_NAMESPACE;
    int result = choose(s, names, count);
    if (result) {
        cm_stream_close(s);
        return result;
    }
    *out = s;
    return 0;
}

void cm_stream_have(cm_stream *s, cm_have *have)
{
    cm_have_unref(s->have);
    s->have = cm_have_ref(have);
    s->source.have = have;
}

void cm_stream_close(cm_stream *s)
{
    if (!s)
        return;
    cm_planner_drop_frames(&s->planner);
    free(s->planner.frames);
    cm_plan_clear(&s->plan);
    cm_ahead_clear(&s->pods.ahead);
    cm_buffer_free(&s->sink.out);
    free(s->roots);
    cm_checkpoint_unref(s->checkpoint);
    cm_have_unref(s->have);
    free(s);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static const char *present_name(const cm_stream *s)
{
    return s->next ? s->roots[s->next - 1].name : NULL;
}

static int in_variable(const cm_stream *s, const char *name, int result)
{
    return name ? cm_fail_in(result, "%s@%llu: variable '%s'", s->checkpoint->session,
                             (unsigned long long)s->checkpoint->number, name)
                : result;
}

/* Room for the next part of a payload that stands in the stream. */
static int append_tree(cm_stream *s)
{
    cm_sink *sink = &s->sink;
    cm_piece *piece = s->piece;
    uint64_t left = sink->tree.size - sink->tree_done;
    size_t size = left < TREE_PIECE ? (size_t)left : TREE_PIECE, at = sink->out.size;
    if (!cm_grow(&piece->holes, piece->hole_count, &piece->hole_capacity, sizeof *piece->holes) ||
        !cm_buffer_extend(&sink->out, size))
        return cm_plan_no_memory();
    piece->holes[piece->hole_count++] =
        (hole){.at = at,
               .name = present_name(s),
               .part = {.root = sink->tree.root, .size = sink->tree.size, .offset = sink->tree_done, .length = size}};
    sink->tree_done += size;
    sink->has_tree = sink->tree_done < sink->tree.size;
    return 0;
}

static int next_root(cm_stream *s)
{
    int result = 0;
    if (s->open && s->namespace)
        result = cm_plan_add_literal(&s->plan, "s", 1); /* SETITEM */
    s->open = false;
    if (result)
        return result;
    if (s->next == s->count) {
        s->done = true;
        return cm_plan_add_literal(&s->plan, ".", 1); /* STOP */
    }
    if (s->next == s->announced)
        cm_planner_announce(&s->planner, s->roots, s->count, &s->announced);
    const cm_plan_root *root = &s->roots[s->next++];
    if (s->namespace)
        result = cm_planner_name(&s->plan, root->name);
    bool begun = false;
    if (!result)
        result = cm_planner_begin(&s->planner, &root->address, &begun);
    if (!result && !begun)
        result = cm_planner_aside(&s->planner, &root->address);
    s->aside = !begun;
    s->open = true;
    return result;
}

static int step(cm_stream *s)
{
    if (s->sink.has_tree)
        return append_tree(s);
    if (!s->begun) {
        s->begun = true;
        return cm_plan_add_literal(&s->plan, s->namespace ? "\x80\x05}" : "\x80\x05", s->namespace ? 3 : 2);
    }
    if (s->planner.frame_count)
        return cm_planner_step(&s->planner);
    if (!s->aside)
        return next_root(s);
    s->aside = false;
    return cm_planner_root(&s->planner, &s->roots[s->next - 1].address);
}

int cm_stream_read(cm_stream *s, size_t size, cm_piece *piece)
{
    cm_buffer_clear(&piece->out);
    piece->hole_count = 0;
    piece->stream = s;
    s->piece = piece;
    s->sink.out = piece->out;
    piece->out = (cm_buffer)CM_BUFFER_INIT;
    int result = 0;
    while (!result && !s->done && s->sink.out.size < size)
        result = step(s);
    piece->out = s->sink.out;
    s->sink.out = (cm_buffer)CM_BUFFER_INIT;
    s->piece = NULL;
    if (result == CM_PLAN_CONFLICT)
        return cm_fail(EAGAIN, "the variables can be linked only after looking ahead");
    return result ? in_variable(s, present_name(s), result) : 0;
}

bool cm_stream_next_buffer(cm_stream *s, cm_stream_buffer *buffer)
{
    if (s->buffers_taken == s->plan.buffer_count)
        return false;
    const cm_tree_ref *tree = &s->plan.buffers[s->buffers_taken++];
    *buffer = (cm_stream_buffer){tree->root, tree->size, tree->kind == CM_BUFFER_READONLY};
    return true;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

cm_piece *cm_piece_new(void)
{
    return calloc(1, sizeof(cm_piece));
}

void cm_piece_free(cm_piece *piece)
{
    if (!piece)
        return;
    cm_buffer_free(&piece->out);
    free(piece->holes);
    free(piece);
}

bool cm_piece_is_whole(const cm_piece *piece)
{
    return piece->hole_count == 0;
}

/* They have failed together: one by one, it can be told in which variable. */
static int blame(const cm_piece *piece, cm_store *store, const cm_tree_part *parts, int result)
{
    for (size_t i = 0; i < piece->hole_count; i++) {
        int failed = cm_tree_read(store, &parts[i], 1);
        if (failed)
            return in_variable(piece->stream, piece->holes[i].name, failed);
    }
    return cm_fail(-result, "reading failed once, and then did not");
}

int cm_piece_fill(cm_piece *piece)
{
    if (!piece->hole_count)
        return 0;
    cm_cleanup(cm_cleanup_free) cm_tree_part *parts = malloc(piece->hole_count * sizeof *parts);
    if (!parts)
        return cm_plan_no_memory();
    for (size_t i = 0; i < piece->hole_count; i++) {
        parts[i] = piece->holes[i].part;
        parts[i].memory = piece->out.data + piece->holes[i].at;
    }
    cm_store *store = piece->stream->checkpoint->store;
    int result = cm_tree_read(store, parts, piece->hole_count);
    if (result)
        return blame(piece, store, parts, result);
    piece->hole_count = 0;
    return 0;
}

const void *cm_piece_bytes(const cm_piece *piece, size_t *size)
{
    *size = piece->out.size;
    return piece->out.data;
}
