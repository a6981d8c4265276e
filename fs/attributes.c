/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "describe.h"
#include "parts.h"
#include "work_private.h"

/* From log/<number>/pods/ to the objects; delta/pods/ is one deeper, a session at the top two less. */
#define OBJECT_TARGET "../../../../../pods/"
enum { SESSION_DEPTH = sizeof "../../" - 1 };

/* ---- attributes -------------------------------------------------------------------------------------------------- */

enum cm_file_type cm_view_type(cm_node node)
{
    switch (cm_node_type(node)) {
    case CM_NODE_PICKLE:
    case CM_NODE_INFO:
    case CM_NODE_OBJECT:
    case CM_NODE_WORK:
        return CM_FILE_REGULAR;
    case CM_NODE_LINK_HERE:
    case CM_NODE_LINK_PARENT:
    case CM_NODE_LINK_OBJECT:
        return CM_FILE_LINK;
    default:
        break;
    }
    switch (cm_node_index(node)) {
    case CM_PLACE_STATISTICS:
    case CM_PLACE_NAMESPACE:
    case CM_PLACE_DESCRIPTION:
    case CM_PLACE_CODE:
    case CM_PLACE_ERRORS:
        return CM_FILE_REGULAR;
    case CM_PLACE_HEAD:
    case CM_PLACE_REF:
    case CM_PLACE_MOMENT:
        return CM_FILE_LINK;
    default:
        return CM_FILE_DIRECTORY;
    }
}

bool cm_view_moves(cm_node node)
{
    if (cm_node_in_work(node))
        return true;
    return cm_node_type(node) == CM_NODE_PLACE && cm_node_index(node) < CM_PLACE_CHECKPOINT &&
           cm_node_index(node) != CM_PLACE_HEAD && cm_node_index(node) != CM_PLACE_REF &&
           cm_node_index(node) != CM_PLACE_MOMENT && cm_node_index(node) != CM_PLACE_STORE_OBJECTS;
}

bool cm_view_is_costly(cm_view *view, cm_node node)
{
    uint64_t size;

    if (cm_node_type(node) != CM_NODE_PLACE)
        return false;
    switch (cm_node_index(node)) {
    case CM_PLACE_STATISTICS:
        return true;
    case CM_PLACE_NAMESPACE: /* that of older checkpoints is not recorded */
    case CM_PLACE_DESCRIPTION:
        return !cm_view_known_size(view, node, &size);
    default:
        return false;
    }
}

/* The size of a file that has to be made to know it. */
static int made_size(cm_view *view, cm_node node, uint64_t *size)
{
    cm_content *content = NULL;

    if (cm_view_known_size(view, node, size))
        return 0;
    if (cm_node_is_place(node, CM_PLACE_NAMESPACE)) {
        cm_part_checkpoint *part cm_cleanup(cm_cleanup_part) = NULL;
        int error = cm_part_checkpoint_get(view, node, &part);
        *size = error == 0 ? cm_checkpoint_namespace_size(part->checkpoint) : 0;
        if (error < 0 || *size != 0)
            return error;
    }
    int result = cm_content_open(view, node, &content);
    if (result == 0)
        result = cm_content_size(content, size);
    cm_content_close(content);
    if (result == 0 && !cm_view_moves(node))
        cm_view_remember_size(view, node, *size);
    return result;
}

uint64_t cm_variable_inode(const cm_variable *variable, cm_node node)
{
    uint64_t bits = cm_node_id_bits(&variable->content);

    if (cm_node_type(node) == CM_NODE_INFO) {
        /* The text also tells the name, the checkpoint and its session's time. */
        bits ^= variable->changed * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)variable->changed_time;
        for (const char *s = variable->name; *s != '\0'; s++)
            bits = (bits ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    } else if (cm_node_type(node) != CM_NODE_PICKLE) {
        return node;
    }
    return (uint64_t)cm_node_type(node) << 61 | (bits & UINT64_MAX >> 3);
}

static int variable_attributes(cm_view *view, cm_node node, cm_attributes *attributes)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *variable;
    int result = cm_part_variable_get(view, node, &part, &variable);

    if (result < 0)
        return result;
    attributes->time = variable->changed_time;
    if (cm_node_type(node) == CM_NODE_INFO) {
        attributes->size = attributes->stored = cm_describe_variable(variable, NULL, 0);
    } else {
        attributes->size = variable->size;
        attributes->stored = variable->stored;
    }
    attributes->inode = cm_variable_inode(variable, node);
    attributes->links = 2; /* or more: other checkpoints may have it too */
    return 0;
}

/* Directories of the store have the time of the store. */
static int64_t store_time(cm_view *view)
{
    struct stat found;

    if (stat(cm_store_path(view->store), &found) < 0)
        return 0;
    return (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec;
}

static int checkpoint_time(cm_view *view, cm_node node, int64_t *time)
{
    cm_part_checkpoint *part cm_cleanup(cm_cleanup_part) = NULL;
    int result = cm_part_checkpoint_get(view, node, &part);

    *time = result == 0 ? cm_checkpoint_time(part->checkpoint) : 0;
    return result;
}

/* A session and what moves with it: when its newest checkpoint was saved. */
static int session_time(cm_view *view, cm_node node, int64_t *time)
{
    cm_session_info info = {0};
    int result = cm_view_session(view, node, &info);
    uint64_t newest = info.last_number, head = info.head_number;

    cm_session_info_clear(&info);
    *time = 0;
    if (result < 0 || newest == 0 || newest > CM_NODE_NUMBER_MAX)
        return result;
    result = checkpoint_time(view, cm_node_place(CM_PLACE_CHECKPOINT, cm_node_session(node), newest), time);
    if (result == -ENOENT) /* it was removed; the head never is */
        result = checkpoint_time(view, cm_node_place(CM_PLACE_CHECKPOINT, cm_node_session(node), head), time);
    return result;
}

static int code_size(cm_view *view, cm_node node, uint64_t *size)
{
    cm_part_checkpoint *part cm_cleanup(cm_cleanup_part) = NULL;
    int result = cm_part_checkpoint_get(view, node, &part);
    const char *code = result == 0 ? cm_checkpoint_code(part->checkpoint) : NULL;

    *size = code != NULL ? strlen(code) : 0;
    return result;
}

static int work_place_attributes(cm_view *view, cm_node node, cm_attributes *attributes)
{
    char *text cm_cleanup(cm_cleanup_memory) = NULL;
    int64_t changed;

    if (view->work == NULL)
        return -ESTALE;
    if (cm_node_is_place(node, CM_PLACE_ERRORS)) {
        int result = cm_work_errors(view->work, cm_node_session(node), &text, &attributes->time);
        attributes->size = attributes->stored = result == 0 ? strlen(text) : 0;
        return result;
    }
    attributes->writable = true;
    pthread_mutex_lock(&view->work->lock);
    cm_work_session *session = cm_work_session_locked(view->work, cm_node_session(node));
    changed = session != NULL ? session->changed : 0;
    pthread_mutex_unlock(&view->work->lock);
    int result = session_time(view, node, &attributes->time);
    if (changed > attributes->time)
        attributes->time = changed;
    return result;
}

static int place_attributes(cm_view *view, cm_node node, cm_attributes *attributes)
{
    enum cm_place place = (enum cm_place)cm_node_index(node);
    int result = 0;

    if (place == CM_PLACE_ROOT && view->only != 0) {
        result = session_time(view, cm_node_place(CM_PLACE_SESSION, view->only, 0), &attributes->time);
    } else if (place < CM_PLACE_SESSION) {
        attributes->time = store_time(view);
    } else if (place == CM_PLACE_WORK || place == CM_PLACE_ERRORS) {
        return work_place_attributes(view, node, attributes);
    } else if (place == CM_PLACE_MOMENT) {
        return cm_moment_time(view, node, cm_node_number(node), &attributes->time);
    } else if (place < CM_PLACE_CHECKPOINT && cm_node_number(node) == 0) {
        result = session_time(view, node, &attributes->time);
    } else {
        result = checkpoint_time(view, node, &attributes->time);
    }
    if (result < 0 || attributes->type != CM_FILE_REGULAR)
        return result;
    result =
        place == CM_PLACE_CODE ? code_size(view, node, &attributes->size) : made_size(view, node, &attributes->size);
    /* The bytes of the namespace are those of the variables, which count them. */
    attributes->stored = place == CM_PLACE_NAMESPACE ? 1 : attributes->size;
    return result;
}

int cm_view_attributes(cm_view *view, cm_node node, cm_attributes *attributes)
{
    cm_object_info info;
    cm_id id;
    int result = 0;

    *attributes = (cm_attributes){.type = cm_view_type(node), .moves = cm_view_moves(node), .inode = node, .links = 1};
    switch (cm_node_type(node)) {
    case CM_NODE_PLACE:
        result = place_attributes(view, node, attributes);
        break;
    case CM_NODE_PICKLE:
    case CM_NODE_INFO:
        result = variable_attributes(view, node, attributes);
        break;
    case CM_NODE_OBJECT:
        result = cm_view_recall_object(view, node, &id, &info) && info.kind != 0
                     ? 0
                     : cm_view_object(view, node, &id, &info);
        attributes->size = result == 0 ? info.size : 0;
        attributes->stored = result == 0 ? info.stored : 0;
        attributes->time = view->made;
        attributes->links = result == 0 && info.kind == CM_KIND_CHUNK ? 2 : 1; /* it may be a preview in info/, too */
        break;
    case CM_NODE_WORK:
        attributes->writable = true;
        result = cm_work_attributes(view->work, node, attributes);
        break;
    case CM_NODE_LINK_OBJECT: /* all as long as each other: no need to look */
        attributes->time = view->made;
        attributes->size =
            sizeof OBJECT_TARGET - 1 + (node >> 60 & 1 ? 3 : 0) + 3 + CM_ID_HEX - (view->only != 0 ? SESSION_DEPTH : 0);
        return 0;
    case CM_NODE_LINK_HERE:
    case CM_NODE_LINK_PARENT:
        result = checkpoint_time(view, node, &attributes->time);
        break;
    default:
        return -ESTALE;
    }
    if (result == 0 && attributes->type == CM_FILE_LINK) {
        char target[CM_TARGET_MAX];
        result = cm_view_target(view, node, target);
        attributes->size = strlen(target);
    }
    return result;
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

/* From delta/<change>/ to the variable's pickle in a checkpoint of the same or of another session. */
static int variable_target(cm_view *view, cm_node node, char target[CM_TARGET_MAX])
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    char file[CM_FILE_NAME_MAX + 1], session[CM_FILE_NAME_MAX + 1];
    cm_node where = node;
    int result = 0;

    if (cm_node_type(node) == CM_NODE_LINK_PARENT)
        result = cm_part_parent(view, node, &where);
    if (result == 0 && where != 0)
        result = cm_part_variables_get(view, where, &part);
    if (result < 0)
        return result;
    if (part == NULL || cm_node_index(node) >= part->count)
        return -ESTALE;
    cm_name_encode(part->variables[cm_node_index(node)].name, ".pkl", file);
    unsigned long long number = cm_node_number(where);
    if (cm_node_type(node) == CM_NODE_LINK_HERE) {
        snprintf(target, CM_TARGET_MAX, "../../vars/%s", file);
    } else if (cm_node_session(where) == cm_node_session(node)) {
        snprintf(target, CM_TARGET_MAX, "../../../%06llu/vars/%s", number, file);
    } else {
        cm_name_encode(cm_checkpoint_session(part->checkpoint), "", session);
        snprintf(target, CM_TARGET_MAX, "../../../../../%s/log/%06llu/vars/%s", session, number, file);
    }
    return 0;
}

static int object_target(cm_view *view, cm_node node, char target[CM_TARGET_MAX])
{
    bool in_delta = node >> 60 & 1;
    char hex[CM_ID_HEX + 1];
    cm_object_info info;
    cm_id id;
    int result = cm_view_recall_object(view, node, &id, &info) ? 0 : cm_view_object(view, node, &id, &info);

    if (result < 0)
        return result;
    cm_id_hex(&id, hex);
    snprintf(target, CM_TARGET_MAX, "%s%s%.2s/%s", in_delta ? "../" : "",
             &OBJECT_TARGET[view->only != 0 ? SESSION_DEPTH : 0], hex, hex);
    return 0;
}

int cm_view_target(cm_view *view, cm_node node, char target[CM_TARGET_MAX])
{
    unsigned long long number = cm_node_number(node);

    switch (cm_node_type(node)) {
    case CM_NODE_LINK_HERE:
    case CM_NODE_LINK_PARENT:
        return variable_target(view, node, target);
    case CM_NODE_LINK_OBJECT:
        return object_target(view, node, target);
    case CM_NODE_PLACE:
        if (cm_node_is_place(node, CM_PLACE_HEAD) || cm_node_is_place(node, CM_PLACE_REF)) {
            snprintf(target, CM_TARGET_MAX, "%slog/%06llu", cm_node_is_place(node, CM_PLACE_REF) ? "../" : "", number);
            return 0;
        }
        if (cm_node_is_place(node, CM_PLACE_MOMENT)) {
            snprintf(target, CM_TARGET_MAX, "../log/%06llu", number);
            return 0;
        }
        return -EINVAL;
    default:
        return -EINVAL;
    }
}

/* ---- extended attributes ------------------------------------------------------------------------------------------- */

int cm_view_fact(cm_view *view, cm_node node, const char *name, char *value, size_t room)
{
    static const char prefix[] = "user.chipmink.";
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *variable;
    char hex[CM_ID_HEX + 1];
    uint64_t size;

    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -ENODATA;
    name += sizeof prefix - 1;
    if (cm_node_in_work(node) ? cm_work_source(view->work, node, &node, &size) < 0
                              : cm_node_type(node) != CM_NODE_PICKLE)
        return -ENODATA;
    int result = cm_part_variable_get(view, node, &part, &variable);
    if (result < 0)
        return result;
    cm_id_hex(&variable->content, hex);
    if (strcmp(name, "id") == 0)
        return snprintf(value, room, "%s", hex);
    if (strcmp(name, "type") == 0)
        return snprintf(value, room, "%s", variable->type);
    unsigned long long number = strcmp(name, "pods") == 0      ? variable->pods
                                : strcmp(name, "stored") == 0  ? variable->stored
                                : strcmp(name, "changed") == 0 ? variable->changed
                                                               : 0;
    if (strcmp(name, "pods") != 0 && strcmp(name, "stored") != 0 && strcmp(name, "changed") != 0)
        return -ENODATA;
    return snprintf(value, room, "%llu", number);
}
