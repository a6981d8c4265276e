/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - reading a linked stream. Pod bodies are patched once and kept up to a budget, the least recently used go first;
 * chunks are read straight into the caller's memory. The plan itself never changes, so only bodies need the lock.
 */
#include "lazy.h"
#include "tree.h"

#include <stdio.h>
#include <unistd.h>

enum {
    FILE_BUDGET = 16 << 20,   /* bodies kept by a stream that is read as a file */
    LOAD_BUDGET = 1 << 30,    /* by one that is read at once and then closed */
    PARALLEL_LEAST = 4 << 20, /* a buffer that is worth several threads */
    THREADS_MOST = 8,
    PARTS_AT_ONCE = 64, /* of buffers that are read together */
};

typedef struct cm_linked_body {
    cm_buffer content; /* of the pod */
    uint8_t *bytes;    /* its body, within content */
    size_t size;
    uint32_t instance;
    struct cm_linked_body *newer, *older;
} cm_linked_body;

struct cm_link {
    cm_checkpoint *checkpoint;
    cm_have *have; /* may be NULL */
    char *what;    /* "analysis@12 df": the beginning of error sentences */
    cm_pods pods;
    cm_plan_source source;
    cm_plan plan;
    uint64_t size; /* of the stream */
    cm_lazy lazy;  /* of a closed variable read as a file */
    bool is_lazy;
    pthread_mutex_t lock; /* guards the bodies, and a lazy plan */
    cm_linked_body *newest, *oldest;
    size_t kept, budget;
};

/* ---- bodies ------------------------------------------------------------------------------------------------------ */

static void unlist(cm_link *link, cm_linked_body *body)
{
    *(body->newer ? &body->newer->older : &link->newest) = body->older;
    *(body->older ? &body->older->newer : &link->oldest) = body->newer;
}

static void enlist(cm_link *link, cm_linked_body *body)
{
    body->newer = NULL;
    body->older = link->newest;
    *(link->newest ? &link->newest->newer : &link->oldest) = body;
    link->newest = body;
}

static void drop(cm_link *link, cm_linked_body *body)
{
    unlist(link, body);
    link->kept -= body->content.capacity;
    link->plan.instances[body->instance].body = NULL;
    cm_buffer_free(&body->content);
    free(body);
}

/* Local indices become the stream's. The view's positions were checked when it was decoded. */
static void patch(const cm_instance *instance, const cm_pod_view *view, uint8_t *body)
{
    for (size_t i = 0; i < view->get_count; i++) {
        uint8_t *operand = body + view->gets[i] + 1;
        cm_put_u32(operand, cm_plan_memo(instance, cm_get_u32(operand)));
    }
    for (uint32_t i = 0; i < instance->patch_count; i++)
        cm_put_u32(body + instance->patches[i].position + 1, instance->patches[i].memo);
}

/* Takes the content over and keeps it as the body of the instance. */
static cm_linked_body *keep(cm_link *link, cm_instance *instance, const cm_pod_view *view, cm_buffer *content)
{
    cm_linked_body *body = calloc(1, sizeof *body);
    if (!body)
        return NULL;
    body->bytes = content->data + (view->body - content->data);
    body->size = view->body_size;
    body->content = *content;
    body->instance = (uint32_t)(instance - link->plan.instances);
    *content = (cm_buffer)CM_BUFFER_INIT;
    patch(instance, view, body->bytes);
    instance->body = body;
    enlist(link, body);
    link->kept += body->content.capacity;
    return body;
}

static void linked(void *arg, cm_instance *instance, const cm_pod_view *view, cm_buffer *content)
{
    cm_link *link = arg;
    if (content->data && link->kept + content->capacity <= link->budget)
        (void)keep(link, instance, view, content); /* without memory it is read again later */
}

/* All of them, before their plan is cleared. */
static void forget(void *arg)
{
    cm_link *link = arg;
    while (link->oldest)
        drop(link, link->oldest);
}

/* The patched body of an instance, from memory or read again. Called locked. */
static int body_of(cm_link *link, uint32_t index, cm_linked_body **out)
{
    cm_instance *instance = &link->plan.instances[index];
    if (instance->body) {
        unlist(link, instance->body);
        enlist(link, instance->body);
        *out = instance->body;
        return 0;
    }
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    cm_pod_view view = {0};
    int result = link->source.fetch(link->source.arg, &instance->pod, instance->page, &view, &content);
    if (!result && link->is_lazy)
        result = cm_lazy_resolve(&link->lazy, index, &view);
    if (!result) {
        while (link->oldest && link->kept + content.capacity > link->budget)
            drop(link, link->oldest);
        *out = keep(link, &link->plan.instances[index], &view, &content); /* resolving may have moved it */
        if (!*out)
            result = cm_fail(ENOMEM, "out of memory for a pod");
    }
    cm_pod_view_clear(&view);
    return result;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int choose(cm_checkpoint *checkpoint, const char *const *names, size_t count, const cm_variable **chosen)
{
    for (size_t i = 0; i < count; i++) {
        int result = cm_checkpoint_variable(checkpoint, names[i], &chosen[i]);
        if (result)
            return result;
    }
    return 0;
}

/* One variable as a file. The content id of a closed one is its pod's: see cm_save_measure. */
static int plan_file(cm_link *link, const char *name)
{
    const cm_variable *variable;
    int result = cm_checkpoint_variable(link->checkpoint, name, &variable);
    if (result)
        return result;
    const cm_plan_root root = {variable->name, variable->root};
    link->is_lazy = cm_id_equal(&variable->content, &variable->root.pod);
    if (link->is_lazy)
        return cm_lazy_open(&link->source, &root, variable->size, &link->plan, &link->lazy);
    result = cm_plan_make(&link->source, &root, 1, 0, &link->plan);
    if (result || link->plan.size == variable->size)
        return result;
    forget(link); /* it was saved before fragments could stand alone */
    cm_plan_clear(&link->plan);
    return cm_plan_make(&link->source, &root, 1, CM_PLAN_WHOLE, &link->plan);
}

static int plan(cm_link *link, const char *const *names, size_t count, unsigned flags)
{
    if (flags == 0)
        return plan_file(link, names[0]);
    cm_cleanup(cm_cleanup_free) cm_plan_root *roots = NULL;
    int result = 0;
    if (count == 0) {
        result = cm_checkpoint_roots(link->checkpoint, &roots, &count);
    } else {
        cm_cleanup(cm_cleanup_free) const cm_variable **chosen = malloc(count * sizeof *chosen);
        result = chosen ? choose(link->checkpoint, names, count, chosen) : cm_fail(ENOMEM, "out of memory");
        if (!result)
            result = cm_roots_by_rank(chosen, count, &roots);
    }
    return result ? result : cm_plan_make(&link->source, roots, count, flags, &link->plan);
}

int cm_link_open(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags, cm_link **out)
{
    return cm_link_open_have(checkpoint, names, count, flags, NULL, out);
}

int cm_link_open_have(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags, cm_have *have,
                      cm_link **out)
{
    if (!(flags & CM_LINK_NAMESPACE) && count != 1)
        return cm_fail(EINVAL, "a stream that is no namespace is of exactly one variable, not of %zu", count);
    cm_link *link = calloc(1, sizeof *link);
    if (!link)
        return cm_fail(ENOMEM, "out of memory");
    link->checkpoint = cm_checkpoint_ref(checkpoint);
    link->pods.checkpoint = checkpoint;
    link->source = cm_plan_source_of(&link->pods);
    link->source.linked = linked;
    link->source.forget = forget;
    link->source.linked_arg = link;
    link->have = have ? cm_have_ref(have) : NULL;
    link->source.have = have;
    link->budget = flags & CM_LINK_BUFFERS ? LOAD_BUDGET : FILE_BUDGET;
    pthread_mutex_init(&link->lock, NULL);
    int result = asprintf(&link->what, "%s@%llu%s%s", checkpoint->session, (unsigned long long)checkpoint->number,
                          count == 1 ? " " : "", count == 1 ? names[0] : "");
    if (result < 0)
        link->what = NULL;
    result = link->what ? plan(link, names, count, flags) : cm_fail(ENOMEM, "out of memory");
    cm_ahead_clear(&link->pods.ahead);
    if (result) {
        if (result != -ENOENT && link->what)
            cm_fail_in(result, "%s", link->what);
        cm_link_close(link);
        return result;
    }
    link->size = link->plan.size;
    *out = link;
    return 0;
}

void cm_link_close(cm_link *link)
{
    if (!link)
        return;
    forget(link);
    cm_plan_clear(&link->plan);
    cm_lazy_clear(&link->lazy);
    cm_checkpoint_unref(link->checkpoint);
    cm_have_unref(link->have);
    pthread_mutex_destroy(&link->lock);
    free(link->what);
    free(link);
}

uint64_t cm_link_size(const cm_link *link)
{
    return link->size;
}

size_t cm_link_memory(cm_link *link)
{
    pthread_mutex_lock(&link->lock);
    size_t memory =
        sizeof *link + cm_plan_memory(&link->plan) + link->lazy.node_capacity * sizeof(cm_lazy_node) + link->kept;
    pthread_mutex_unlock(&link->lock);
    return memory;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Copies from a body or literal; called locked. */
static int read_locked(cm_link *link, const cm_segment *segment, uint64_t within, uint8_t *memory, size_t size)
{
    if (segment->kind == CM_SEGMENT_LITERAL) {
        memcpy(memory, link->plan.literals.data + segment->from + within, size);
        return 0;
    }
    cm_linked_body *body = NULL;
    int result = body_of(link, segment->instance, &body);
    if (result || !body)
        return result;
    if (segment->from + within > body->size || size > body->size - (segment->from + within))
        return cm_fail(EILSEQ, "a pod changed its size between two reads");
    memcpy(memory, body->bytes + segment->from + within, size);
    return 0;
}

/* The last segment that begins at or before the offset. */
static size_t segment_at(const cm_plan *plan, uint64_t offset)
{
    size_t low = 0, high = plan->segment_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (plan->segments[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The segment that holds the byte at `offset`, and where it ends; what is before `until` is wanted next. Called locked. */
static int find_segment(cm_link *link, uint64_t offset, uint64_t until, cm_segment *segment, uint64_t *end)
{
    if (link->is_lazy)
        return cm_lazy_find(&link->lazy, offset, until, segment, end);
    const cm_plan *plan = &link->plan;
    size_t i = segment_at(plan, offset);
    *segment = plan->segments[i];
    *end = i + 1 < plan->segment_count ? plan->segments[i + 1].offset : plan->size;
    return 0;
}

/*
 * Bytes [at, at + size) of the stream, but for those of buffers, which are noted in `parts`. Stops when these are many: *done is how
 * far it came.
 */
static int read_bodies(cm_link *link, uint64_t at, uint8_t *memory, size_t size, size_t *done, cm_tree_part *parts,
                       size_t *count)
{
    int result = 0;
    pthread_mutex_lock(&link->lock);
    while (*done < size && *count < PARTS_AT_ONCE && !result) {
        cm_segment segment;
        uint64_t end, offset = at + *done;
        result = find_segment(link, offset, at + size, &segment, &end);
        if (result)
            break;
        uint64_t within = offset - segment.offset;
        size_t part = end - offset < size - *done ? (size_t)(end - offset) : size - *done;
        if (segment.kind == CM_SEGMENT_TREE) {
            const cm_tree_ref *tree = &link->plan.trees[segment.instance];
            parts[(*count)++] = (cm_tree_part){tree->root, tree->size, within, memory + *done, part};
        } else {
            result = read_locked(link, &segment, within, memory + *done, part);
        }
        *done += part;
    }
    if (result || *done == size)
        cm_ahead_clear(&link->pods.ahead);
    pthread_mutex_unlock(&link->lock);
    return result;
}

int cm_link_read(cm_link *link, uint64_t offset, void *memory, size_t size, size_t *done)
{
    *done = 0;
    if (offset >= link->size)
        return 0;
    if (size > link->size - offset)
        size = (size_t)(link->size - offset);
    while (*done < size) {
        cm_tree_part parts[PARTS_AT_ONCE];
        size_t count = 0, reached = *done;
        int result = read_bodies(link, offset, memory, size, &reached, parts, &count);
        if (!result)
            result = cm_tree_read(link->checkpoint->store, parts, count);
        if (result)
            return cm_fail_in(result, "%s", link->what);
        *done = reached;
    }
    return 0;
}

size_t cm_link_buffer_count(const cm_link *link)
{
    return link->plan.buffer_count;
}

uint64_t cm_link_buffer_size(const cm_link *link, size_t i)
{
    return link->plan.buffers[i].size;
}

bool cm_link_buffer_readonly(const cm_link *link, size_t i)
{
    return link->plan.buffers[i].kind == CM_BUFFER_READONLY;
}

typedef struct part {
    cm_store *store;
    cm_tree_part tree;
    int result;
    char message[512];
} part;

static void *read_part(void *arg)
{
    part *p = arg;
    p->result = cm_tree_read(p->store, &p->tree, 1);
    if (p->result)
        snprintf(p->message, sizeof p->message, "%s", cm_error_message());
    return NULL;
}

static int read_buffer(cm_store *store, const cm_tree_ref *tree, void *memory)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = tree->size < PARALLEL_LEAST || cores < 1 ? 1 : cores > THREADS_MOST ? THREADS_MOST : (size_t)cores;
    uint64_t chunks = cm_chunk_count(tree->size), per = chunks / threads + (chunks % threads != 0);
    part parts[THREADS_MOST] = {{0}};
    pthread_t started[THREADS_MOST];
    bool running[THREADS_MOST] = {false};
    for (size_t t = 0; t < threads; t++) {
        uint64_t start = t * per * CM_CHUNK;
        if (t > 0 && start >= tree->size)
            break;
        uint64_t size = tree->size - start < per * CM_CHUNK ? tree->size - start : per * CM_CHUNK;
        parts[t] =
            (part){.store = store, .tree = {tree->root, tree->size, start, (uint8_t *)memory + start, (size_t)size}};
        running[t] = t > 0 && pthread_create(&started[t], NULL, read_part, &parts[t]) == 0;
        if (t > 0 && !running[t])
            read_part(&parts[t]);
    }
    read_part(&parts[0]);
    int result = 0;
    for (size_t t = 0; t < threads; t++) {
        if (running[t])
            pthread_join(started[t], NULL);
        if (parts[t].result && !result)
            result = cm_fail(-parts[t].result, "%s", parts[t].message);
    }
    return result;
}

int cm_link_buffer_read(cm_link *link, size_t i, void *memory)
{
    int result = read_buffer(link->checkpoint->store, &link->plan.buffers[i], memory);
    return result ? cm_fail_in(result, "%s", link->what) : 0;
}

int cm_buffers_fetch(cm_store *store, const cm_buffer_part *parts, size_t count)
{
    cm_cleanup(cm_cleanup_free) cm_tree_part *trees = malloc((count + 1) * sizeof *trees);
    if (!trees)
        return cm_fail(ENOMEM, "out of memory reading buffers");
    for (size_t i = 0; i < count; i++) {
        const cm_stream_buffer *buffer = parts[i].buffer;
        if (parts[i].offset > buffer->size || parts[i].size > buffer->size - parts[i].offset)
            return cm_fail(EINVAL, "a part of a buffer that is not in it");
        trees[i] = (cm_tree_part){buffer->tree, buffer->size, parts[i].offset, parts[i].memory, parts[i].size};
    }
    return cm_tree_read(store, trees, count);
}
