/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "describe.h"
#include "parts.h"
#include "work_private.h"

/* What can be read: a text or an object in memory, or a plan to link. Cached under the file's node. */
typedef struct part_content {
    cm_cached item;
    char *text;
    uint64_t size;
    size_t held; /* bytes of memory */
    cm_link *link;
    cm_cached *variables; /* of the checkpoint: the link keeps them in memory */
} part_content;

/*
 * The part is fetched when the first byte is asked for: a file whose pages the kernel has kept is opened and read without one.
 * It is then held until the file is closed, so that reading a file whose plan exceeds the cache does not plan it again and again.
 */
struct cm_content {
    cm_view *view;
    cm_node node;
    part_content *part; /* set once, atomically */
};

enum { STATISTICS_AGE_NS = 1000000000, STATISTICS_PATIENCE = 10, LINK_COST = 512 };

static void destroy_content(cm_cached *item)
{
    part_content *part = (part_content *)item;

    cm_link_close(part->link);
    cm_cached_lean_no_more(part->variables);
    free(part->text);
    free(part);
}

static int make_text(cm_view *view, cm_node node, part_content *part)
{
    cm_part_variables *variables cm_cleanup(cm_cleanup_part) = NULL;
    cm_part_checkpoint *checkpoint cm_cleanup(cm_cleanup_part) = NULL;
    int result = 0;

    if (cm_node_type(node) == CM_NODE_INFO) {
        const cm_variable *variable;
        result = cm_part_variable_get(view, node, &variables, &variable);
        if (result < 0)
            return result;
        size_t size = cm_describe_variable(variable, NULL, 0);
        part->text = malloc(size + 1);
        if (part->text == NULL)
            return -ENOMEM;
        cm_describe_variable(variable, part->text, size + 1);
    } else if (cm_node_is_place(node, CM_PLACE_STATISTICS)) {
        result = cm_describe_store(view->store, &part->text);
    } else if (cm_node_is_place(node, CM_PLACE_ERRORS)) {
        int64_t time;
        result = view->work != NULL ? cm_work_errors(view->work, cm_node_session(node), &part->text, &time) : -ESTALE;
    } else if (cm_node_is_place(node, CM_PLACE_DESCRIPTION)) {
        result = cm_part_variables_get(view, node, &variables);
        if (result == 0)
            result = cm_describe_checkpoint(variables->checkpoint, &part->text);
    } else {
        result = cm_part_checkpoint_get(view, node, &checkpoint);
        if (result == 0 && cm_checkpoint_code(checkpoint->checkpoint) == NULL)
            result = -ENOENT;
        if (result == 0)
            part->text = strdup(cm_checkpoint_code(checkpoint->checkpoint));
        if (result == 0 && part->text == NULL)
            result = -ENOMEM;
    }
    part->size = result == 0 ? strlen(part->text) : 0;
    return result;
}

/* A plan keeps the variables of its checkpoint in memory, so it is planned on the handle that has them, and leans on them. */
static int make_link(cm_view *view, cm_node node, part_content *part)
{
    cm_part_variables *variables cm_cleanup(cm_cleanup_part) = NULL;
    int result = cm_part_variables_get(view, node, &variables);

    if (result < 0)
        return result;
    if (cm_node_type(node) == CM_NODE_PLACE)
        result = cm_link_open(variables->checkpoint, NULL, 0, CM_LINK_NAMESPACE, &part->link);
    else if (cm_node_index(node) >= variables->count)
        result = -ESTALE;
    else
        result =
            cm_link_open(variables->checkpoint, &variables->variables[cm_node_index(node)].name, 1, 0, &part->link);
    if (result < 0)
        return result;
    part->size = cm_link_size(part->link);
    part->held = LINK_COST + cm_link_memory(part->link);
    part->variables = cm_cached_lean(&variables->item);
    return 0;
}

static int make_object(cm_view *view, cm_node node, part_content *part)
{
    cm_object_info info;
    size_t size = 0;
    void *data = NULL;
    cm_id id;
    int result = cm_view_object(view, node, &id, &info);

    if (result == 0)
        result = cm_object_read(view->store, &id, &data, &size);
    part->text = data;
    part->size = size;
    return result;
}

static int make_content(void *arg, uint64_t key, cm_cached **item)
{
    cm_view *view = arg;
    part_content *part = calloc(1, sizeof *part);
    int result;

    if (part == NULL)
        return -ENOMEM;
    if (cm_node_type(key) == CM_NODE_OBJECT)
        result = make_object(view, key, part);
    else if (cm_node_type(key) == CM_NODE_PICKLE || cm_node_is_place(key, CM_PLACE_NAMESPACE))
        result = make_link(view, key, part);
    else
        result = make_text(view, key, part);
    if (result < 0) {
        destroy_content(&part->item);
        return result;
    }
    cm_cached_init(&part->item, sizeof *part + (part->link != NULL ? part->held : (size_t)part->size), destroy_content);
    *item = &part->item;
    return 0;
}

/* stats.json walks the whole store: it is made anew after a second, or ten times what making it took. */
static int get_statistics(cm_view *view, cm_node node, cm_cached **item)
{
    int result = 0;

    cm_view_catch_up(view);
    pthread_mutex_lock(&view->statistics_lock);
    int64_t began = cm_monotonic_ns();
    if (view->statistics == NULL || began >= view->statistics_due) {
        cm_cached *fresh = NULL;
        result = make_content(view, node, &fresh);
        if (result == 0) {
            int64_t now = cm_monotonic_ns(), patience = (now - began) * STATISTICS_PATIENCE;
            cm_cached_unref(view->statistics);
            view->statistics = fresh;
            view->statistics_due = now + (patience > STATISTICS_AGE_NS ? patience : STATISTICS_AGE_NS);
        }
    }
    if (result == 0)
        *item = cm_cached_ref(view->statistics);
    pthread_mutex_unlock(&view->statistics_lock);
    return result;
}

static int fetch(cm_content *content, part_content **part)
{
    cm_cached *item = NULL;
    part_content *none = NULL;
    int result;

    *part = __atomic_load_n(&content->part, __ATOMIC_ACQUIRE);
    if (*part != NULL)
        return 0;
    if (cm_node_is_place(content->node, CM_PLACE_ERRORS))
        result = make_content(content->view, content->node, &item);
    else if (cm_view_moves(content->node))
        result = get_statistics(content->view, content->node, &item);
    else
        result = cm_cache_get(content->view->cache, content->node, make_content, content->view, &item);
    if (result < 0)
        return result;
    *part = (part_content *)item;
    if (!__atomic_compare_exchange_n(&content->part, &none, *part, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        cm_cached_unref(item); /* another thread was first */
        *part = none;
    }
    return 0;
}

int cm_content_open(cm_view *view, cm_node node, cm_content **result)
{
    part_content *part;

    if (cm_view_type(node) != CM_FILE_REGULAR || cm_node_in_work(node))
        return cm_view_type(node) == CM_FILE_DIRECTORY ? -EISDIR : -EINVAL;
    cm_content *content = calloc(1, sizeof *content);
    if (content == NULL)
        return -ENOMEM;
    content->view = view;
    content->node = node;
    /* What moves is read as it was when it was opened. */
    int error = cm_view_moves(node) ? fetch(content, &part) : 0;
    if (error < 0) {
        free(content);
        return error;
    }
    if (cm_node_type(node) == CM_NODE_PICKLE)
        cm_view_note_opened(view, node);
    *result = content;
    return 0;
}

void cm_content_close(cm_content *content)
{
    if (content == NULL)
        return;
    cm_cached_unref((cm_cached *)content->part);
    free(content);
}

int cm_content_size(cm_content *content, uint64_t *size)
{
    part_content *part = NULL;
    int result = fetch(content, &part);

    *size = result == 0 ? part->size : 0;
    return result;
}

static int read_part(cm_content *content, uint64_t offset, void *buffer, size_t size, size_t *done)
{
    part_content *part = NULL;
    int result = fetch(content, &part);

    *done = 0;
    if (result < 0 || offset >= part->size)
        return result;
    if (part->link != NULL)
        return cm_link_read(part->link, offset, buffer, size, done);
    *done = size < part->size - offset ? size : (size_t)(part->size - offset);
    memcpy(buffer, part->text + offset, *done);
    return 0;
}

int cm_content_read(cm_content *content, uint64_t offset, void *buffer, size_t size, size_t *done)
{
    int result = read_part(content, offset, buffer, size, done);

    /* The writer may have moved the records since this reader last looked where they are. */
    if ((result == -EIO || result == -ENOENT || result == -EILSEQ) && cm_store_refresh(content->view->store) == 0)
        result = read_part(content, offset, buffer, size, done);
    return result;
}
