/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fixed.h"
#include "work_private.h"

enum { NUMBER_DIGITS = 6 };

/* ---- names that are always the same -------------------------------------------------------------------------------- */

const cm_fixed cm_fixed_names[] = {
    {CM_PLACE_ROOT, CM_PLACE_SESSIONS, "sessions"},
    {CM_PLACE_ROOT, CM_PLACE_STORE_OBJECTS, "pods"},
    {CM_PLACE_ROOT, CM_PLACE_STATISTICS, "stats.json"},
    {CM_PLACE_SESSION, CM_PLACE_HEAD, "head"},
    {CM_PLACE_SESSION, CM_PLACE_BRANCHES, "branches"},
    {CM_PLACE_SESSION, CM_PLACE_TAGS, "tags"},
    {CM_PLACE_SESSION, CM_PLACE_LOG, "log"},
    {CM_PLACE_SESSION, CM_PLACE_BY_TIME, "by-time"},
    {CM_PLACE_SESSION, CM_PLACE_WORK, "work"},
    {CM_PLACE_CHECKPOINT, CM_PLACE_DESCRIPTION, "checkpoint.json"},
    {CM_PLACE_CHECKPOINT, CM_PLACE_CODE, "code.py"},
    {CM_PLACE_CHECKPOINT, CM_PLACE_PICKLES, "vars"},
    {CM_PLACE_CHECKPOINT, CM_PLACE_INFOS, "info"},
    {CM_PLACE_CHECKPOINT, CM_PLACE_OBJECTS, "pods"},
    {CM_PLACE_CHECKPOINT, CM_PLACE_DELTA, "delta"},
    {CM_PLACE_DELTA, CM_PLACE_ADDED, "added"},
    {CM_PLACE_DELTA, CM_PLACE_CHANGED, "changed"},
    {CM_PLACE_DELTA, CM_PLACE_REMOVED, "removed"},
    {CM_PLACE_DELTA, CM_PLACE_NEW_OBJECTS, "pods"},
};
const size_t cm_fixed_count = sizeof cm_fixed_names / sizeof *cm_fixed_names;

int cm_view_session(cm_view *view, cm_node node, cm_session_info *info)
{
    const char *name = cm_view_session_name(view, cm_node_session(node));

    if (name == NULL)
        return -ENOENT;
    cm_view_catch_up(view);
    return cm_session_get(view->store, name, info);
}

bool cm_view_is_there(cm_view *view, cm_node session, uint64_t number)
{
    const char *name = cm_view_session_name(view, cm_node_session(session));
    cm_id id;

    return name != NULL && cm_checkpoint_number_id(view->store, name, number, &id) != -ENOENT;
}

bool cm_view_is_gone(cm_view *view, cm_node node)
{
    enum cm_node_type type = cm_node_type(node);
    bool of_checkpoint = (type == CM_NODE_PLACE && cm_node_index(node) >= CM_PLACE_SESSION) || type == CM_NODE_PICKLE ||
                         type == CM_NODE_INFO || type == CM_NODE_LINK_HERE || type == CM_NODE_LINK_PARENT;

    return of_checkpoint && cm_node_number(node) != 0 && !cm_view_is_there(view, node, cm_node_number(node));
}

int cm_fixed_node(cm_view *view, cm_node parent, enum cm_place place, cm_node *node)
{
    int result = 0;

    *node = cm_node_sibling(parent, place);
    if (cm_node_is_place(parent, CM_PLACE_ROOT)) {
        *node = cm_node_place(place, 0, 0);
    } else if (place == CM_PLACE_WORK) {
        result = view->work != NULL ? 0 : -ENOENT;
    } else if (place == CM_PLACE_HEAD) {
        cm_session_info info = {0};
        result = cm_view_session(view, parent, &info);
        if (result == 0 && info.head_number == 0)
            result = -ENOENT;
        *node = cm_node_place(place, cm_node_session(parent), info.head_number & CM_NODE_NUMBER_MAX);
        cm_session_info_clear(&info);
    } else if (place == CM_PLACE_CODE) {
        cm_part_checkpoint *part cm_cleanup(cm_cleanup_part) = NULL;
        result = cm_part_checkpoint_get(view, parent, &part);
        if (result == 0 && cm_checkpoint_code(part->checkpoint) == NULL)
            result = -ENOENT;
    }
    return result;
}

/* ---- lookup ------------------------------------------------------------------------------------------------------ */

typedef struct name_search {
    const char *file;
    char *name; /* found */
    uint64_t number;
} name_search;

static int compare_file_name(void *arg, const char *name, uint64_t number)
{
    name_search *search = arg;
    char file[CM_FILE_NAME_MAX + 1];

    cm_name_encode(name, "", file);
    if (strcmp(file, search->file) != 0)
        return 0;
    search->name = strdup(name);
    search->number = number;
    return search->name != NULL ? 1 : -ENOMEM;
}

static int lookup_session(cm_view *view, const char *file, cm_node *node)
{
    char decoded[CM_FILE_NAME_MAX + 1];
    name_search search = {.file = file};
    uint64_t session = 0;
    bool cut;

    int result = cm_name_decode(file, "", decoded, &cut);
    if (result < 0)
        return result;
    cm_view_catch_up(view);
    if (cut) {
        result = cm_session_list(view->store, compare_file_name, &search);
        if (result == 0)
            result = -ENOENT;
    } else {
        cm_session_info info = {0};
        result = cm_session_get(view->store, decoded, &info);
        cm_session_info_clear(&info);
    }
    if (result >= 0)
        result = cm_view_session_number(view, cut ? search.name : decoded, &session);
    free(search.name);
    *node = cm_node_place(CM_PLACE_SESSION, session, 0);
    return result;
}

static int lookup_ref(cm_view *view, cm_node parent, enum cm_ref_kind kind, const char *file, cm_node *node)
{
    const char *session = cm_view_session_name(view, cm_node_session(parent));
    name_search search = {.file = file};

    if (session == NULL)
        return -ENOENT;
    cm_view_catch_up(view);
    int result = cm_ref_list(view->store, session, kind, compare_file_name, &search);
    free(search.name);
    if (result <= 0)
        return result < 0 ? result : -ENOENT;
    if (search.number > CM_NODE_NUMBER_MAX)
        return -EOVERFLOW;
    *node = cm_node_place(CM_PLACE_REF, cm_node_session(parent), search.number);
    return 0;
}

/* "000012" and "000012.pkl": at least six digits, no more than needed. */
static int lookup_log(cm_view *view, cm_node parent, const char *file, cm_node *node, bool *moves)
{
    cm_part_checkpoint *part cm_cleanup(cm_cleanup_part) = NULL;
    char again[CM_FILE_NAME_MAX + 1];
    uint64_t number = 0;
    size_t digits = strspn(file, "0123456789");

    *moves = false;
    if (digits < NUMBER_DIGITS || digits > NUMBER_DIGITS + 1)
        return -ENOENT;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (uint64_t)(file[i] - '0');
    bool pickle = strcmp(file + digits, ".pkl") == 0;
    snprintf(again, sizeof again, "%06llu%s", (unsigned long long)number, pickle ? ".pkl" : "");
    if (strcmp(file, again) != 0 || number == 0 || number > CM_NODE_NUMBER_MAX)
        return -ENOENT;
    *node = cm_node_place(pickle ? CM_PLACE_NAMESPACE : CM_PLACE_CHECKPOINT, cm_node_session(parent), number);
    int result = cm_part_checkpoint_get(view, *node, &part);
    if (result == -ENOENT) {
        cm_view_catch_up(view);
        result = cm_part_checkpoint_get(view, *node, &part);
    }
    if (result == 0 && !cm_view_is_there(view, parent, number)) /* what was read of it may still be kept here */
        result = -ENOENT;
    *moves = result == -ENOENT;
    return result;
}

static int lookup_byte(const char *file, cm_node *node)
{
    static const char hex[] = "0123456789abcdef";

    if (strlen(file) != 2 || strchr(hex, file[0]) == NULL || strchr(hex, file[1]) == NULL)
        return -ENOENT;
    *node = cm_node_place(CM_PLACE_OBJECTS_BYTE, 0,
                          (uint64_t)((strchr(hex, file[0]) - hex) << 4 | (strchr(hex, file[1]) - hex)));
    return 0;
}

static int lookup_object(cm_view *view, cm_node parent, const char *file, cm_node *node, bool *moves)
{
    cm_object_info info;
    cm_id id, found;

    *moves = false;
    if (cm_id_parse(file, &id) < 0 || id.bytes[0] != cm_node_number(parent))
        return -ENOENT;
    *node = cm_node_object(&id);
    int result = cm_view_object(view, *node, &found, &info);
    if (result == -ENOENT) {
        cm_view_catch_up(view);
        result = cm_view_object(view, *node, &found, &info);
    }
    if (result == 0 && !cm_id_equal(&id, &found))
        result = -ENOENT;
    *moves = result == -ENOENT;
    return result;
}

static int lookup_object_link(cm_view *view, cm_node parent, enum cm_place place, const char *file, cm_node *node)
{
    cm_part_ids *part cm_cleanup(cm_cleanup_part) = NULL;
    cm_id id;

    if (cm_id_parse(file, &id) < 0)
        return -ENOENT;
    int result = cm_part_ids_get(view, parent, place, &part);
    if (result < 0)
        return result;
    *node = cm_node_object_link(&id, place == CM_PLACE_NEW_OBJECTS);
    return cm_part_ids_has(part, &id) ? 0 : -ENOENT;
}

static int lookup_variable(cm_view *view, cm_node parent, enum cm_node_type type, const char *file, cm_node *node)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    uint64_t index = 0;
    int result = cm_part_variables_get(view, parent, &part);

    if (result == 0)
        result = cm_part_variables_find(part, file, type == CM_NODE_INFO ? ".txt" : ".pkl", &index);
    *node = cm_node_make(type, cm_node_session(parent), cm_node_number(parent), index);
    return result;
}

/* Texts, and beside them the pictures there are: these are objects of the store, under another name. */
static int lookup_info(cm_view *view, cm_node parent, const char *file, cm_node *node)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    uint64_t index = 0;
    int result = lookup_variable(view, parent, CM_NODE_INFO, file, node);

    if (result != -ENOENT)
        return result;
    result = cm_part_variables_get(view, parent, &part);
    if (result == 0)
        result = cm_part_variables_find(part, file, ".png", &index);
    if (result < 0)
        return result;
    *node = cm_preview_node(view, &part->variables[index]);
    return *node != 0 ? 0 : -ENOENT;
}

static int compare_indexes(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int lookup_delta(cm_view *view, cm_node parent, enum cm_place place, const char *file, cm_node *node)
{
    cm_part_delta *delta cm_cleanup(cm_cleanup_part) = NULL;
    int result = cm_part_delta_get(view, parent, &delta);

    if (result < 0)
        return result;
    bool removed = place == CM_PLACE_REMOVED;
    if (removed && delta->parent == 0)
        return -ENOENT;
    result = lookup_variable(view, removed ? delta->parent : parent, CM_NODE_LINK_HERE, file, node);
    if (result < 0)
        return result;
    uint32_t index = (uint32_t)cm_node_index(*node);
    const uint32_t *list = place == CM_PLACE_ADDED ? delta->added.indexes
                           : removed               ? delta->removed.indexes
                                                   : delta->changed.indexes;
    size_t count = place == CM_PLACE_ADDED ? delta->added.count : removed ? delta->removed.count : delta->changed.count;
    if (count == 0 || bsearch(&index, list, count, sizeof index, compare_indexes) == NULL)
        return -ENOENT;
    *node = cm_node_make(removed ? CM_NODE_LINK_PARENT : CM_NODE_LINK_HERE, cm_node_session(parent),
                         cm_node_number(parent), index);
    return 0;
}

static int lookup_moment(cm_view *view, cm_node parent, const char *file, cm_node *node)
{
    uint64_t number = 0;
    int result = cm_moment_find(view, parent, file, &number);

    *node = cm_node_place(CM_PLACE_MOMENT, cm_node_session(parent), number);
    return result;
}

static int lookup_fixed(cm_view *view, cm_node parent, enum cm_place place, const char *file, cm_node *node,
                        bool *moves)
{
    for (size_t i = 0; i < cm_fixed_count; i++) {
        const cm_fixed *fixed = &cm_fixed_names[i];
        if (fixed->parent == place && strcmp(fixed->name, file) == 0) {
            *moves = fixed->place == CM_PLACE_HEAD;
            return cm_fixed_node(view, parent, fixed->place, node);
        }
    }
    return -ENOENT;
}

/* With one session at the top the objects, which its links lead to, are there too. */
static int lookup_root(cm_view *view, const char *name, cm_node *node, bool *moves)
{
    cm_node session = cm_node_place(CM_PLACE_SESSION, view->only, 0);

    if (view->only == 0 || strcmp(name, "pods") == 0)
        return lookup_fixed(view, cm_node_place(CM_PLACE_ROOT, 0, 0), CM_PLACE_ROOT, name, node, moves);
    return lookup_fixed(view, session, CM_PLACE_SESSION, name, node, moves);
}

int cm_view_lookup(cm_view *view, cm_node parent, const char *name, cm_node *node, bool *moves)
{
    int result;

    *moves = false;
    if (cm_node_type(parent) != CM_NODE_PLACE)
        return -ENOTDIR;
    enum cm_place place = (enum cm_place)cm_node_index(parent);
    switch (place) {
    case CM_PLACE_ROOT:
        return lookup_root(view, name, node, moves);
    case CM_PLACE_WORK:
        *moves = true;
        return cm_work_lookup(view->work, parent, name, node);
    case CM_PLACE_BY_TIME:
        result = lookup_moment(view, parent, name, node);
        *moves = result < 0;
        return result;
    case CM_PLACE_SESSION:
    case CM_PLACE_CHECKPOINT:
    case CM_PLACE_DELTA:
        return lookup_fixed(view, parent, place, name, node, moves);
    case CM_PLACE_SESSIONS:
        result = lookup_session(view, name, node);
        *moves = result < 0;
        return result;
    case CM_PLACE_BRANCHES:
    case CM_PLACE_TAGS:
        *moves = true;
        return lookup_ref(view, parent, place == CM_PLACE_TAGS ? CM_REF_TAG : CM_REF_BRANCH, name, node);
    case CM_PLACE_LOG:
        return lookup_log(view, parent, name, node, moves);
    case CM_PLACE_STORE_OBJECTS:
        return lookup_byte(name, node);
    case CM_PLACE_OBJECTS_BYTE:
        return lookup_object(view, parent, name, node, moves);
    case CM_PLACE_PICKLES:
        return lookup_variable(view, parent, CM_NODE_PICKLE, name, node);
    case CM_PLACE_INFOS:
        return lookup_info(view, parent, name, node);
    case CM_PLACE_OBJECTS:
    case CM_PLACE_NEW_OBJECTS:
        return lookup_object_link(view, parent, place, name, node);
    case CM_PLACE_ADDED:
    case CM_PLACE_CHANGED:
    case CM_PLACE_REMOVED:
        return lookup_delta(view, parent, place, name, node);
    default:
        return -ENOTDIR;
    }
}
