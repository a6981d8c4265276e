/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fixed.h"
#include "parts.h"
#include "work_private.h"

typedef struct named {
    char *file;
    cm_node node;
    bool moves;
} named;

/* Entries follow from a cached part where there are many; only few are listed by name. */
struct cm_listing {
    cm_node directory;
    uint64_t count;
    named *names; /* fixed entries, sessions, references, the bytes objects begin with, edits; these come first */
    uint64_t named;
    cm_view *view;
    cm_part_variables *variables; /* vars, info, and those of the delta */
    cm_part_delta *delta;
    const uint32_t *indexes; /* in it */
    uint32_t *others;        /* of work/: the indexes of the head's variables that no edit is about */
    uint32_t *pictures;      /* of info/: the indexes of the variables that have one; they come last */
    cm_node head;            /* of work/ */
    cm_part_ids *ids;
    uint64_t *numbers; /* of log/ and by-time/: the checkpoints that are there, ascending */
    uint64_t number_count;
};

static int add_name(cm_listing *listing, const char *file, cm_node node, bool moves)
{
    if ((listing->named & (listing->named - 1)) == 0) { /* a power of two: full */
        named *more = realloc(listing->names, (listing->named == 0 ? 1 : listing->named * 2) * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        listing->names = more;
    }
    char *copy = strdup(file);
    if (copy == NULL)
        return -ENOMEM;
    listing->names[listing->named++] = (named){copy, node, moves};
    listing->count = listing->named;
    return 0;
}

static int list_fixed(cm_listing *listing, enum cm_place place)
{
    for (size_t i = 0; i < cm_fixed_count; i++) {
        const cm_fixed *fixed = &cm_fixed_names[i];
        cm_node node;
        if (fixed->parent != place)
            continue;
        int result = cm_fixed_node(listing->view, listing->directory, fixed->place, &node);
        if (result == 0)
            result = add_name(listing, fixed->name, node, fixed->place == CM_PLACE_HEAD);
        if (result < 0 && result != -ENOENT)
            return result;
    }
    return 0;
}

static int list_bytes(cm_listing *listing)
{
    char name[4];
    int result = 0;

    for (unsigned byte = 0; byte < 256 && result == 0; byte++) {
        snprintf(name, sizeof name, "%02x", byte);
        result = add_name(listing, name, cm_node_place(CM_PLACE_OBJECTS_BYTE, 0, byte), false);
    }
    return result;
}

static int add_session(void *arg, const char *name, uint64_t number)
{
    cm_listing *listing = arg;
    char file[CM_FILE_NAME_MAX + 1];
    uint64_t session = 0;
    int result = cm_view_session_number(listing->view, name, &session);

    (void)number;
    cm_name_encode(name, "", file);
    return result < 0 ? result : add_name(listing, file, cm_node_place(CM_PLACE_SESSION, session, 0), false);
}

static int add_ref(void *arg, const char *name, uint64_t number)
{
    cm_listing *listing = arg;
    char file[CM_FILE_NAME_MAX + 1];

    if (number > CM_NODE_NUMBER_MAX)
        return 0;
    cm_name_encode(name, "", file);
    return add_name(listing, file, cm_node_place(CM_PLACE_REF, cm_node_session(listing->directory), number), true);
}

static int add_number(void *arg, uint64_t number, const cm_id *id)
{
    cm_listing *listing = arg;

    (void)id;
    if (number > CM_NODE_NUMBER_MAX)
        return 0;
    if ((listing->number_count & (listing->number_count - 1)) == 0) { /* a power of two: full */
        uint64_t room = listing->number_count == 0 ? 1 : listing->number_count * 2;
        uint64_t *more = realloc(listing->numbers, (size_t)room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        listing->numbers = more;
    }
    listing->numbers[listing->number_count++] = number;
    return 0;
}

/* by-time/ names those whose times can be told; log/ has a directory and a pickle for each. */
static int list_checkpoints(cm_listing *listing, const char *session, enum cm_place place)
{
    char name[CM_MOMENT_NAME];
    uint64_t known, kept = 0;
    int result = cm_checkpoint_list(listing->view->store, session, add_number, listing);

    listing->count = 2 * listing->number_count;
    if (result == 0 && place == CM_PLACE_BY_TIME) {
        result = cm_moments_know(listing->view, listing->directory, &known);
        for (uint64_t i = 0; i < listing->number_count; i++)
            if (cm_moment_name(listing->view, listing->directory, listing->numbers[i], name) == 0)
                listing->numbers[kept++] = listing->numbers[i];
        listing->count = listing->number_count = kept;
    }
    return result;
}

static int list_moving(cm_listing *listing, enum cm_place place)
{
    cm_view *view = listing->view;
    const char *session = cm_view_session_name(view, cm_node_session(listing->directory));

    cm_view_catch_up(view);
    if (place == CM_PLACE_SESSIONS)
        return cm_session_list(view->store, add_session, listing);
    if (place == CM_PLACE_OBJECTS_BYTE) {
        int result = cm_part_ids_make(view, (uint8_t)cm_node_number(listing->directory), &listing->ids);
        listing->count = result == 0 ? listing->ids->count : 0;
        return result;
    }
    if (session == NULL)
        return -ENOENT;
    if (place == CM_PLACE_BY_TIME || place == CM_PLACE_LOG)
        return list_checkpoints(listing, session, place);
    return cm_ref_list(view->store, session, place == CM_PLACE_TAGS ? CM_REF_TAG : CM_REF_BRANCH, add_ref, listing);
}

static int list_delta(cm_listing *listing, enum cm_place place)
{
    int result = cm_part_delta_get(listing->view, listing->directory, &listing->delta);
    cm_node of = listing->directory;

    if (result < 0)
        return result;
    const cm_part_delta *delta = listing->delta;
    listing->indexes = place == CM_PLACE_ADDED     ? delta->added.indexes
                       : place == CM_PLACE_CHANGED ? delta->changed.indexes
                                                   : delta->removed.indexes;
    listing->count = place == CM_PLACE_ADDED     ? delta->added.count
                     : place == CM_PLACE_CHANGED ? delta->changed.count
                                                 : delta->removed.count;
    if (listing->count == 0)
        return 0;
    if (place == CM_PLACE_REMOVED)
        of = delta->parent;
    return cm_part_variables_get(listing->view, of, &listing->variables);
}

/* Names that are not there, node 0, are added too and taken out again once the head's have been. */
static int add_edit(void *arg, const char *file, cm_node node)
{
    return add_name(arg, file, node, true);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const named *)a)->file, ((const named *)b)->file);
}

static int list_others(cm_listing *listing)
{
    char file[CM_FILE_NAME_MAX + 1];
    size_t count = listing->variables->count, used = 0;

    listing->others = malloc((count + 1) * sizeof *listing->others);
    if (listing->others == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (listing->named > 0) {
            cm_name_encode(listing->variables->variables[i].name, ".pkl", file);
            named key = {.file = file};
            if (bsearch(&key, listing->names, listing->named, sizeof key, compare_names) != NULL)
                continue;
        }
        listing->others[used++] = (uint32_t)i;
    }
    listing->count = used;
    return 0;
}

/* The edits are looked at before the head: see work_commit.c. */
static int list_work(cm_listing *listing)
{
    cm_view *view = listing->view;
    cm_node errors = cm_node_sibling(listing->directory, CM_PLACE_ERRORS), found;
    int result = cm_work_each(view->work, cm_node_session(listing->directory), add_edit, listing);

    if (result == 0)
        result = cm_work_head(view, listing->directory, &listing->head, &listing->variables);
    listing->count = 0;
    if (result == 0 && listing->variables != NULL)
        result = list_others(listing);
    if (result < 0)
        return result;
    uint64_t others = listing->count, kept = 0;
    for (uint64_t i = 0; i < listing->named; i++) {
        if (listing->names[i].node == 0)
            free(listing->names[i].file);
        else
            listing->names[kept++] = listing->names[i];
    }
    listing->named = kept;
    if (cm_work_lookup(view->work, listing->directory, ".errors", &found) == 0 && found == errors) {
        named *more = realloc(listing->names, (kept + 1) * sizeof *more);
        char *copy = strdup(".errors");
        listing->names = more != NULL ? more : listing->names;
        if (more == NULL || copy == NULL) {
            free(copy);
            return -ENOMEM;
        }
        listing->names[listing->named++] = (named){copy, errors, true};
    }
    listing->count = listing->named + others;
    return 0;
}

static int list_root(cm_listing *listing)
{
    uint64_t only = listing->view->only;

    if (only == 0)
        return list_fixed(listing, CM_PLACE_ROOT);
    listing->directory = cm_node_place(CM_PLACE_SESSION, only, 0);
    int result = list_fixed(listing, CM_PLACE_SESSION);
    return result < 0 ? result : add_name(listing, "pods", cm_node_place(CM_PLACE_STORE_OBJECTS, 0, 0), false);
}

static int list_infos(cm_listing *listing)
{
    int result = cm_part_variables_get(listing->view, listing->directory, &listing->variables);
    size_t count = result == 0 ? listing->variables->count : 0, used = 0;

    listing->pictures = malloc((count + 1) * sizeof *listing->pictures);
    if (result < 0 || listing->pictures == NULL)
        return result < 0 ? result : -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (listing->variables->variables[i].preview_size != 0)
            listing->pictures[used++] = (uint32_t)i;
    listing->count = count + used;
    return 0;
}

static int list(cm_listing *listing)
{
    enum cm_place place = (enum cm_place)cm_node_index(listing->directory);
    int result;

    switch (place) {
    case CM_PLACE_ROOT:
        return list_root(listing);
    case CM_PLACE_WORK:
        return listing->view->work != NULL ? list_work(listing) : -ESTALE;
    case CM_PLACE_SESSION:
    case CM_PLACE_CHECKPOINT:
    case CM_PLACE_DELTA:
        return list_fixed(listing, place);
    case CM_PLACE_STORE_OBJECTS:
        return list_bytes(listing);
    case CM_PLACE_SESSIONS:
    case CM_PLACE_BRANCHES:
    case CM_PLACE_TAGS:
    case CM_PLACE_LOG:
    case CM_PLACE_BY_TIME:
    case CM_PLACE_OBJECTS_BYTE:
        return list_moving(listing, place);
    case CM_PLACE_INFOS:
        return list_infos(listing);
    case CM_PLACE_PICKLES:
        result = cm_part_variables_get(listing->view, listing->directory, &listing->variables);
        listing->count = result == 0 ? listing->variables->count : 0;
        return result;
    case CM_PLACE_OBJECTS:
    case CM_PLACE_NEW_OBJECTS:
        result = cm_part_ids_get(listing->view, listing->directory, place, &listing->ids);
        listing->count = result == 0 ? listing->ids->count : 0;
        return result;
    case CM_PLACE_ADDED:
    case CM_PLACE_CHANGED:
    case CM_PLACE_REMOVED:
        return list_delta(listing, place);
    default:
        return -ENOTDIR;
    }
}

int cm_listing_open(cm_view *view, cm_node directory, cm_listing **result)
{
    if (cm_view_type(directory) != CM_FILE_DIRECTORY)
        return -ENOTDIR;
    cm_listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL)
        return -ENOMEM;
    listing->view = view;
    listing->directory = directory;
    int error = list(listing);
    if (error < 0) {
        cm_listing_close(listing);
        return error;
    }
    *result = listing;
    return 0;
}

void cm_listing_close(cm_listing *listing)
{
    if (listing == NULL)
        return;
    for (uint64_t i = 0; i < listing->named; i++)
        free(listing->names[i].file);
    free(listing->names);
    free(listing->others);
    free(listing->pictures);
    free(listing->numbers);
    cm_cached_unref((cm_cached *)listing->variables);
    cm_cached_unref((cm_cached *)listing->delta);
    cm_cached_unref((cm_cached *)listing->ids);
    free(listing);
}

static void list_variable(const cm_listing *listing, uint64_t i, cm_listed *listed)
{
    enum cm_place place = (enum cm_place)cm_node_index(listing->directory);
    if (place == CM_PLACE_WORK) {
        cm_attributes attributes;
        uint64_t other = listing->others[i];
        cm_name_encode(listing->variables->variables[other].name, ".pkl", listed->name);
        listed->node =
            cm_node_make(CM_NODE_WORK, cm_node_session(listing->directory), cm_node_number(listing->head), other);
        listed->moves = true;
        listed->inode =
            cm_work_attributes(listing->view->work, listed->node, &attributes) == 0 ? attributes.inode : listed->node;
        return;
    }
    if (place == CM_PLACE_INFOS && i >= listing->variables->count) {
        const cm_variable *shown = &listing->variables->variables[listing->pictures[i - listing->variables->count]];
        cm_name_encode(shown->name, ".png", listed->name);
        listed->node = listed->inode = cm_preview_node(listing->view, shown);
        return;
    }
    uint64_t index = listing->indexes != NULL ? listing->indexes[i] : i;
    const cm_variable *variable = &listing->variables->variables[index];
    enum cm_node_type type = place == CM_PLACE_PICKLES   ? CM_NODE_PICKLE
                             : place == CM_PLACE_INFOS   ? CM_NODE_INFO
                             : place == CM_PLACE_REMOVED ? CM_NODE_LINK_PARENT
                                                         : CM_NODE_LINK_HERE;

    cm_name_encode(variable->name, type == CM_NODE_INFO ? ".txt" : ".pkl", listed->name);
    listed->node = cm_node_make(type, cm_node_session(listing->directory), cm_node_number(listing->directory), index);
    listed->inode = cm_variable_inode(variable, listed->node);
}

static void list_object(const cm_listing *listing, uint64_t i, cm_listed *listed)
{
    enum cm_place place = (enum cm_place)cm_node_index(listing->directory);
    const cm_id *id = &listing->ids->ids[i];
    char hex[CM_ID_HEX + 1];

    cm_id_hex(id, hex);
    strcpy(listed->name, hex);
    if (place != CM_PLACE_OBJECTS_BYTE) /* `find -ls` asks where the link leads right after */
        cm_view_remember_object(listing->view, id, NULL);
    listed->node =
        place == CM_PLACE_OBJECTS_BYTE ? cm_node_object(id) : cm_node_object_link(id, place == CM_PLACE_NEW_OBJECTS);
    listed->inode = listed->node;
}

int cm_listing_at(const cm_listing *listing, uint64_t index, cm_listed *listed)
{
    if (index >= listing->count)
        return -ENOENT;
    listed->moves = false;
    if (index < listing->named) {
        const named *entry = &listing->names[index];
        strcpy(listed->name, entry->file);
        listed->node = listed->inode = entry->node;
        listed->moves = entry->moves;
    } else if (listing->variables != NULL) {
        list_variable(listing, index - listing->named, listed);
    } else if (listing->ids != NULL) {
        list_object(listing, index, listed);
    } else if (cm_node_is_place(listing->directory, CM_PLACE_BY_TIME)) {
        uint64_t number = listing->numbers[index];
        if (cm_moment_name(listing->view, listing->directory, number, listed->name) < 0)
            return -ENOENT;
        listed->node = listed->inode = cm_node_place(CM_PLACE_MOMENT, cm_node_session(listing->directory), number);
    } else { /* log: a directory and a pickle for each number */
        unsigned long long number = listing->numbers[index / 2];
        bool pickle = index % 2 == 1;
        snprintf(listed->name, sizeof listed->name, "%06llu%s", number, pickle ? ".pkl" : "");
        listed->node = listed->inode = cm_node_place(pickle ? CM_PLACE_NAMESPACE : CM_PLACE_CHECKPOINT,
                                                     cm_node_session(listing->directory), number);
    }
    return 0;
}
