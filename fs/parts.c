/* SPDX-License-Identifier: Apache-2.0 */
#include "parts.h"

#include <errno.h>
#include <string.h>

/* What the core keeps for a variable beside its strings, roughly. */
enum { VARIABLE_COST = sizeof(cm_variable) + 128, CHECKPOINT_COST = 2048 };

static size_t length_of(const char *s)
{
    return s != NULL ? strlen(s) : 0;
}

static int open_checkpoint(cm_view *view, cm_node node, cm_checkpoint **checkpoint)
{
    const char *session = cm_view_session_name(view, cm_node_session(node));

    if (session == NULL)
        return -ENOENT;
    return cm_checkpoint_open_number(view->store, session, cm_node_number(node), checkpoint);
}

/* ---- the checkpoint ---------------------------------------------------------------------------------------------- */

static void destroy_checkpoint(cm_cached *item)
{
    cm_part_checkpoint *part = (cm_part_checkpoint *)item;

    cm_checkpoint_unref(part->checkpoint);
    free(part);
}

static int make_checkpoint(void *arg, uint64_t key, cm_cached **item)
{
    cm_part_checkpoint *part = calloc(1, sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    int result = open_checkpoint(arg, key, &part->checkpoint);
    if (result < 0) {
        free(part);
        return result;
    }
    size_t cost = CHECKPOINT_COST + length_of(cm_checkpoint_code(part->checkpoint)) +
                  length_of(cm_checkpoint_message(part->checkpoint));
    cm_cached_init(&part->item, cost, destroy_checkpoint);
    *item = &part->item;
    return 0;
}

int cm_part_checkpoint_get(cm_view *view, cm_node node, cm_part_checkpoint **part)
{
    cm_cached *item = NULL;
    int result = cm_cache_get(view->cache, cm_node_sibling(node, CM_PLACE_CHECKPOINT), make_checkpoint, view, &item);
    *part = (cm_part_checkpoint *)item;
    return result;
}

/* ---- its variables ----------------------------------------------------------------------------------------------- */

static void destroy_variables(cm_cached *item)
{
    cm_part_variables *part = (cm_part_variables *)item;

    cm_checkpoint_unref(part->checkpoint);
    free(part);
}

static int make_variables(void *arg, uint64_t key, cm_cached **item)
{
    cm_view *view = arg;
    cm_part_variables *part = calloc(1, sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    cm_part_checkpoint *known cm_cleanup(cm_cleanup_part) = NULL; /* its id need not be looked up again */
    int result = cm_part_checkpoint_get(view, key, &known);
    if (result == 0)
        result = cm_checkpoint_open_id(view->store, cm_checkpoint_id(known->checkpoint), &part->checkpoint);
    if (result == 0)
        result = cm_checkpoint_variables(part->checkpoint, &part->variables, &part->count);
    if (result == 0 && part->count > CM_NODE_INDEX_MAX)
        result = -EOVERFLOW;
    if (result < 0) {
        cm_checkpoint_unref(part->checkpoint);
        free(part);
        return result;
    }
    size_t cost = sizeof *part + CHECKPOINT_COST + part->count * VARIABLE_COST;
    for (size_t i = 0; i < part->count; i++)
        cost += length_of(part->variables[i].name) + length_of(part->variables[i].type) +
                length_of(part->variables[i].summary);
    cm_cached_init(&part->item, cost, destroy_variables);
    *item = &part->item;
    return 0;
}

int cm_part_variables_get(cm_view *view, cm_node node, cm_part_variables **part)
{
    cm_cached *item = NULL;
    int result = cm_cache_get(view->cache, cm_node_sibling(node, CM_PLACE_PICKLES), make_variables, view, &item);
    *part = (cm_part_variables *)item;
    return result;
}

int cm_part_variable_get(cm_view *view, cm_node node, cm_part_variables **part, const cm_variable **variable)
{
    int result = cm_part_variables_get(view, node, part);

    if (result == 0 && cm_node_index(node) >= (*part)->count)
        result = -ESTALE;
    *variable = result == 0 ? &(*part)->variables[cm_node_index(node)] : NULL;
    return result;
}

/* The first variable whose name is not below `name`. */
static size_t lower_bound(const cm_part_variables *part, const char *name)
{
    size_t low = 0, high = part->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(part->variables[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int cm_part_variables_find(const cm_part_variables *part, const char *file, const char *suffix, uint64_t *index)
{
    char name[CM_FILE_NAME_MAX + 1], other[CM_FILE_NAME_MAX + 1];
    bool cut;

    if (cm_name_decode(file, suffix, name, &cut) < 0)
        return -ENOENT;
    for (size_t i = lower_bound(part, name); i < part->count; i++) {
        const char *candidate = part->variables[i].name;
        if (cut ? strncmp(candidate, name, strlen(name)) != 0 : strcmp(candidate, name) != 0)
            break;
        cm_name_encode(candidate, suffix, other);
        if (strcmp(file, other) == 0) {
            *index = i;
            return 0;
        }
    }
    return -ENOENT;
}

/* ---- its objects ------------------------------------------------------------------------------------------------- */

static void destroy_ids(cm_cached *item)
{
    cm_part_ids *part = (cm_part_ids *)item;

    free(part->ids);
    free(part);
}

static int collect_id(void *arg, const cm_id *id, const cm_object_info *info)
{
    cm_part_ids *part = arg;

    (void)info;
    if ((part->count & (part->count - 1)) == 0) { /* a power of two: full */
        cm_id *more = realloc(part->ids, (part->count == 0 ? 1 : part->count * 2) * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        part->ids = more;
    }
    part->ids[part->count++] = *id;
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(cm_id));
}

static void finish_ids(cm_part_ids *part)
{
    cm_id *fitting = part->count > 0 ? realloc(part->ids, part->count * sizeof *fitting) : NULL;

    if (fitting != NULL)
        part->ids = fitting;
    if (part->count > 0)
        qsort(part->ids, part->count, sizeof *part->ids, compare_ids);
    cm_cached_init(&part->item, sizeof *part + part->count * sizeof *part->ids, destroy_ids);
}

static int make_ids(void *arg, uint64_t key, cm_cached **item)
{
    cm_view *view = arg;
    cm_part_checkpoint *of cm_cleanup(cm_cleanup_part) = NULL;
    int result = cm_part_checkpoint_get(view, key, &of);
    if (result < 0)
        return result;
    cm_part_ids *part = calloc(1, sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    result = cm_checkpoint_objects(of->checkpoint, collect_id, part);
    finish_ids(part);
    if (result < 0) {
        cm_cached_unref(&part->item);
        return result;
    }
    *item = &part->item;
    return 0;
}

bool cm_part_ids_has(const cm_part_ids *part, const cm_id *id)
{
    return part->count > 0 && bsearch(id, part->ids, part->count, sizeof *id, compare_ids) != NULL;
}

static int make_new_ids(void *arg, uint64_t key, cm_cached **item)
{
    cm_view *view = arg;
    cm_part_ids *all cm_cleanup(cm_cleanup_part) = NULL;
    cm_part_ids *before cm_cleanup(cm_cleanup_part) = NULL;
    cm_node parent = 0;
    int result = cm_part_ids_get(view, key, CM_PLACE_OBJECTS, &all);
    if (result == 0)
        result = cm_part_parent(view, key, &parent);
    if (result == 0 && parent != 0)
        result = cm_part_ids_get(view, parent, CM_PLACE_OBJECTS, &before);
    if (result < 0)
        return result;

    cm_part_ids *part = calloc(1, sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < all->count && result == 0; i++)
        if (before == NULL || !cm_part_ids_has(before, &all->ids[i]))
            result = collect_id(part, &all->ids[i], NULL);
    finish_ids(part);
    if (result < 0) {
        cm_cached_unref(&part->item);
        return result;
    }
    *item = &part->item;
    return 0;
}

int cm_part_ids_get(cm_view *view, cm_node node, enum cm_place which, cm_part_ids **part)
{
    cm_cached *item = NULL;
    int result = cm_cache_get(view->cache, cm_node_sibling(node, which),
                              which == CM_PLACE_OBJECTS ? make_ids : make_new_ids, view, &item);
    *part = (cm_part_ids *)item;
    return result;
}

typedef struct id_listing {
    cm_view *view;
    cm_part_ids *part;
} id_listing;

static int collect_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    id_listing *listing = arg;

    cm_view_remember_object(listing->view, id, info);
    return collect_id(listing->part, id, info);
}

int cm_part_ids_make(cm_view *view, uint8_t first, cm_part_ids **result)
{
    cm_id prefix = {{first}};
    cm_part_ids *part = calloc(1, sizeof *part);

    *result = NULL;
    if (part == NULL)
        return -ENOMEM;
    id_listing listing = {view, part};
    int error = cm_object_list(view->store, &prefix, 8, collect_object, &listing);
    finish_ids(part);
    if (error < 0) {
        cm_cached_unref(&part->item);
        return error;
    }
    *result = part;
    return 0;
}

typedef struct object_search {
    cm_id id;
    cm_object_info info;
    unsigned found;
} object_search;

static int found_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    object_search *search = arg;

    search->id = *id;
    search->info = *info;
    return ++search->found > 1; /* two are enough to know */
}

int cm_view_object(cm_view *view, cm_node node, cm_id *id, cm_object_info *info)
{
    unsigned bits;
    cm_id prefix = cm_node_id_prefix(node, &bits);
    object_search search = {.found = 0};
    int result = cm_object_list(view->store, &prefix, bits, found_object, &search);

    if (result < 0)
        return result;
    if (search.found != 1)
        return search.found == 0 ? -ENOENT : -EIO;
    *id = search.id;
    *info = search.info;
    return 0;
}

cm_node cm_preview_node(cm_view *view, const cm_variable *variable)
{
    if (variable->preview_size == 0)
        return 0;
    cm_view_remember_object(view, &variable->preview, NULL);
    return cm_node_object(&variable->preview);
}

/* ---- what changed against the parent ------------------------------------------------------------------------------- */

int cm_part_parent(cm_view *view, cm_node node, cm_node *parent)
{
    cm_part_checkpoint *of cm_cleanup(cm_cleanup_part) = NULL;
    cm_checkpoint *before = NULL;

    *parent = 0;
    int result = cm_part_checkpoint_get(view, node, &of);
    if (result == 0)
        result = cm_checkpoint_open_parent(of->checkpoint, &before);
    if (result < 0 || before == NULL)
        return result;
    uint64_t number = cm_checkpoint_number(before);
    cm_checkpoint_unref(before);
    if (number > CM_NODE_NUMBER_MAX)
        return -EOVERFLOW;
    *parent = cm_node_place(CM_PLACE_CHECKPOINT, cm_node_session(node), number);
    return 0;
}

static void destroy_delta(cm_cached *item)
{
    cm_part_delta *part = (cm_part_delta *)item;

    free(part->added.indexes);
    free(part->changed.indexes);
    free(part->removed.indexes);
    free(part);
}

typedef struct delta_search {
    cm_part_delta *part;
    const cm_part_variables *before, *after;
} delta_search;

static int append_index(uint32_t **indexes, size_t *count, uint32_t index)
{
    if ((*count & (*count - 1)) == 0) {
        uint32_t *more = realloc(*indexes, (*count == 0 ? 1 : *count * 2) * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        *indexes = more;
    }
    (*indexes)[(*count)++] = index;
    return 0;
}

/* The walk goes by name, as the variables stand, so the indexes come out ascending. */
static int found_change(void *arg, enum cm_change change, const cm_variable *before, const cm_variable *after)
{
    delta_search *search = arg;
    cm_part_delta *part = search->part;
    const cm_part_variables *where = change == CM_REMOVED ? search->before : search->after;
    const char *name = change == CM_REMOVED ? before->name : after->name;
    size_t index = lower_bound(where, name);

    if (index == where->count || strcmp(where->variables[index].name, name) != 0)
        return -EIO;
    if (change == CM_ADDED)
        return append_index(&part->added.indexes, &part->added.count, (uint32_t)index);
    if (change == CM_CHANGED)
        return append_index(&part->changed.indexes, &part->changed.count, (uint32_t)index);
    return append_index(&part->removed.indexes, &part->removed.count, (uint32_t)index);
}

static int make_delta(void *arg, uint64_t key, cm_cached **item)
{
    cm_view *view = arg;
    cm_part_variables *after cm_cleanup(cm_cleanup_part) = NULL;
    cm_part_variables *before cm_cleanup(cm_cleanup_part) = NULL;
    cm_node parent = 0;
    int result = cm_part_variables_get(view, key, &after);
    if (result == 0)
        result = cm_part_parent(view, key, &parent);
    if (result == 0 && parent != 0)
        result = cm_part_variables_get(view, parent, &before);
    if (result < 0)
        return result;

    cm_part_delta *part = calloc(1, sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    cm_cached_init(&part->item, 0, destroy_delta);
    part->parent = parent;
    delta_search search = {part, before, after};
    result = cm_checkpoint_diff(before != NULL ? before->checkpoint : NULL, after->checkpoint, found_change, &search);
    if (result < 0) {
        cm_cached_unref(&part->item);
        return result;
    }
    part->item.cost =
        sizeof *part + 2 * sizeof(uint32_t) * (part->added.count + part->changed.count + part->removed.count);
    *item = &part->item;
    return 0;
}

int cm_part_delta_get(cm_view *view, cm_node node, cm_part_delta **part)
{
    cm_cached *item = NULL;
    int result = cm_cache_get(view->cache, cm_node_sibling(node, CM_PLACE_DELTA), make_delta, view, &item);
    *part = (cm_part_delta *)item;
    return result;
}
