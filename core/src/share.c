/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - which variables of a checkpoint share objects with each other.
 *
 * An object has one address, in a pod of one tree; all references from elsewhere lead there. So variables belong together when
 * their own objects, or any objects that their pods refer to, lie in trees with the same root. The page map says which pod a pod
 * is spliced into; only pods of variables that refer out of their own tree have to be read.
 *
 * A variable that is "alone" (a function, which finds what it uses by name) may come first and so have objects of others in its
 * tree. They count as trees of their own there.
 */
#include "checkpoint.h"
#include "known.h"
#include "pod.h"

enum { NOBODY = UINT32_MAX };

/* What is known of a page. Open addressing; page 0 is none. */
typedef struct tree_root {
    uint64_t page;
    uint32_t variable; /* one that has to do with the tree of this root, or NOBODY */
    bool alone;        /* the page of a variable that is alone */
} tree_root;

typedef struct sharing {
    cm_checkpoint *checkpoint;
    uint32_t *groups; /* union-find over variables: the smaller index leads */
    uint32_t variable;
    tree_root *roots;
    size_t root_count, root_capacity;
    cm_id *pods; /* of the variable, to be read */
    size_t pod_count, pod_capacity;
    cm_known *seen; /* pods that were read for it */
} sharing;

static int no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory finding what variables share");
}

static uint32_t leader(uint32_t *groups, uint32_t variable)
{
    while (groups[variable] != variable)
        variable = groups[variable] = groups[groups[variable]];
    return variable;
}

static void join(uint32_t *groups, uint32_t a, uint32_t b)
{
    a = leader(groups, a);
    b = leader(groups, b);
    groups[a > b ? a : b] = a > b ? b : a;
}

/* ---- trees ------------------------------------------------------------------------------------------------------- */

static tree_root *slot_of(tree_root *roots, size_t capacity, uint64_t page)
{
    size_t at = (size_t)page & (capacity - 1); /* pages are hashes */
    while (roots[at].page && roots[at].page != page)
        at = (at + 1) & (capacity - 1);
    return &roots[at];
}

static int root_at(sharing *s, uint64_t page, tree_root **root)
{
    if (s->root_count * 3 >= s->root_capacity * 2) {
        size_t capacity = s->root_capacity ? s->root_capacity * 2 : 64;
        tree_root *roots = calloc(capacity, sizeof *roots);
        if (!roots)
            return no_memory();
        for (size_t i = 0; i < s->root_capacity; i++)
            if (s->roots[i].page)
                *slot_of(roots, capacity, s->roots[i].page) = s->roots[i];
        free(s->roots);
        s->roots = roots;
        s->root_capacity = capacity;
    }
    *root = slot_of(s->roots, s->root_capacity, page);
    if (!(*root)->page) {
        **root = (tree_root){.page = page, .variable = NOBODY};
        s->root_count++;
    }
    return 0;
}

static bool is_alone(const sharing *s, uint64_t page)
{
    return s->root_capacity && slot_of(s->roots, s->root_capacity, page)->alone;
}

/* [blocks] The root of the tree that a page is in: the uppermost that is not a variable's that is alone. */
static int root_of(sharing *s, uint64_t page, uint64_t *root)
{
    cm_page at = {.parent = page};
    *root = page;
    for (unsigned steps = 0; at.parent != CM_PAGE_NONE; steps++) {
        page = at.parent;
        if (!is_alone(s, page))
            *root = page;
        int result = cm_checkpoint_page_find(s->checkpoint, page, &at);
        if (result == -ENOENT)
            return 0; /* nothing refers there: the root of a variable that shares nothing */
        if (result)
            return result;
        if (steps > UINT16_MAX)
            return cm_fail(EILSEQ, "damaged checkpoint: its pages go round in a circle");
    }
    return 0;
}

/* [blocks] The variable has to do with the object at this page: it joins the others that have to do with its tree. */
static int touch(sharing *s, uint64_t page)
{
    tree_root *root;
    uint64_t root_page;
    int result = root_of(s, page, &root_page);
    if (!result)
        result = root_at(s, root_page, &root);
    if (result)
        return result;
    if (root->variable != NOBODY)
        join(s->groups, root->variable, s->variable);
    else
        root->variable = s->variable;
    return 0;
}

/* ---- pods -------------------------------------------------------------------------------------------------------- */

static int add_pod(sharing *s, const cm_id *id)
{
    if (!cm_known_add(s->seen, id, 0))
        return 0;
    if (!cm_grow(&s->pods, s->pod_count, &s->pod_capacity, sizeof *s->pods))
        return no_memory();
    s->pods[s->pod_count++] = *id;
    return 0;
}

/* Equal pods refer to the same pages, wherever they are spliced in. */
static int read_pod(sharing *s, const cm_id *id)
{
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    cm_pod_view view = {0};
    int result = cm_object_get(s->checkpoint->store, id, CM_KIND_POD, &content);
    if (!result)
        result = cm_pod_decode(content.data, content.size, &view);
    for (size_t i = 0; !result && i < view.event_count; i++) {
        const cm_event *event = &view.events[i];
        if (event->type == CM_EVENT_EXTERNAL)
            result = touch(s, event->page);
        else if (event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT)
            result = add_pod(s, &event->id);
    }
    cm_pod_view_clear(&view);
    return result;
}

static int read_variable(sharing *s, const cm_variable *variable)
{
    int result = touch(s, variable->root.page);
    if (result || is_alone(s, variable->root.page) || cm_id_equal(&variable->content, &variable->root.pod))
        return result; /* in the last case nothing leads out of it */
    s->seen = cm_known_new();
    s->pod_count = 0;
    result = s->seen ? add_pod(s, &variable->root.pod) : no_memory();
    while (!result && s->pod_count) {
        cm_id id = s->pods[--s->pod_count];
        result = read_pod(s, &id);
    }
    cm_known_free(s->seen);
    return result;
}

static int group(sharing *s, const cm_variable *variables, size_t count, cm_alone_visitor alone, void *arg)
{
    int result = 0;
    for (size_t i = 0; alone && i < count && !result; i++) {
        tree_root *root;
        if (!alone(arg, &variables[i]))
            continue;
        result = root_at(s, variables[i].root.page, &root);
        if (!result)
            root->alone = true;
    }
    for (s->variable = 0; s->variable < count && !result; s->variable++)
        result = read_variable(s, &variables[s->variable]);
    for (uint32_t i = 0; i < count; i++)
        s->groups[i] = leader(s->groups, i);
    return result;
}

int cm_checkpoint_groups(cm_checkpoint *checkpoint, cm_alone_visitor alone, void *arg, uint32_t **groups, size_t *count)
{
    const cm_variable *variables;
    *groups = NULL;
    int result = cm_checkpoint_variables(checkpoint, &variables, count);
    if (result)
        return result;
    if (*count >= NOBODY)
        return no_memory();
    sharing s = {.checkpoint = checkpoint, .groups = malloc((*count + 1) * sizeof *s.groups)};
    if (!s.groups)
        return no_memory();
    for (uint32_t i = 0; i < *count; i++)
        s.groups[i] = i;
    result = group(&s, variables, *count, alone, arg);
    free(s.roots);
    free(s.pods);
    if (result)
        free(s.groups);
    else
        *groups = s.groups;
    return result;
}
