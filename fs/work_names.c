/* SPDX-License-Identifier: Apache-2.0 */
/* work_names.c - what the names in work/ stand for: create, link, rename, unlink. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "work_private.h"

/* ---- names --------------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length > size && strcmp(text + length - size, end) == 0;
}

/* Names under which programs keep what is not finished. */
static bool is_temporary(const char *file)
{
    return file[0] == '.' || ends_with(file, "~") || ends_with(file, ".tmp") || ends_with(file, ".part");
}

/*
 * What a file name in work/ stands for: a variable, whose name is the caller's to free, or a temporary file (NULL). `hint`: a variable's
 * name that may be the whole of a cut one; NULL. -EINVAL: neither; .errors says so.
 */
static int understand(cm_work *work, uint64_t session, const char *file, const char *hint, char **variable)
{
    char name[CM_FILE_NAME_MAX + 1], again[CM_FILE_NAME_MAX + 1];
    bool cut = false;

    *variable = NULL;
    if (strcmp(file, ".errors") == 0)
        return -EPERM;
    if (cm_name_decode(file, ".pkl", name, &cut) == 0 && file[0] != '.') {
        if (cut && hint != NULL) {
            cm_name_encode(hint, ".pkl", again);
            cut = strcmp(again, file) != 0;
            *variable = cut ? NULL : strdup(hint);
        } else if (!cut) {
            *variable = strdup(name);
        }
        if (!cut)
            return *variable != NULL ? 0 : -ENOMEM;
    } else if (is_temporary(file)) {
        return 0;
    }
    if (cut) /* what is copied into it may tell the name: see learn_name */
        return 0;
    cm_work_note(work, session, file,
                 "no name for a file here: variables are NAME.pkl, and temporary files begin with a dot or end in ~");
    return -EINVAL;
}

/* The whole name behind a cut file name that the head has; freed by the caller. NULL: none. */
static char *name_in_head(cm_work *work, cm_node directory, const char *file)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    cm_node checkpoint;
    uint64_t index;

    if (cm_work_head(work->view, directory, &checkpoint, &part) < 0 || part == NULL ||
        cm_part_variables_find(part, file, ".pkl", &index) < 0)
        return NULL;
    return strdup(part->variables[index].name);
}

int cm_work_create(cm_work *work, cm_node directory, const char *name, unsigned flags, cm_node *node,
                   cm_work_handle **handle)
{
    char *variable cm_cleanup(cm_cleanup_memory) = NULL;
    char *hint cm_cleanup(cm_cleanup_memory) = name_in_head(work, directory, name);
    uint64_t number = cm_node_session(directory);
    cm_work_file *file = NULL;

    int result = cm_work_lookup(work, directory, name, node);
    if (result == 0) {
        if (flags & CM_WORK_EXCLUSIVE)
            return -EEXIST;
        return cm_work_open(work, *node, flags, handle);
    }
    if (result != -ENOENT)
        return result;
    result = understand(work, number, name, hint, &variable);
    if (result < 0)
        return result;
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, number);
    file = session != NULL ? cm_work_add_file_locked(work, number, 0, name) : NULL;
    if (file != NULL) {
        file->changed = true;
        *node = file->node;
        result = cm_work_edit_locked(work, session, name, variable, file);
    }
    pthread_mutex_unlock(&work->lock);
    if (file == NULL)
        return -ENOMEM;
    if (result < 0) {
        cm_work_file_unref(work, file);
        return result;
    }
    return cm_work_make_handle(work, file, flags, handle);
}
/* ---- link, rename, unlink ------------------------------------------------------------------------------------------------- */

/*
 * The file that a name is to stand for: what is in memory, or a new one that is a variable by reference. With a reference. `moves`: it
 * loses the name it has, so whoever has it open has it open under the new one.
 */
static int file_of(cm_work *work, cm_node node, uint64_t session, const char *home, bool moves, cm_work_file **result,
                   char **variable)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *known;
    cm_node source = node;
    uint64_t size = 0;

    *variable = NULL;
    *result = cm_node_in_work(node) ? cm_work_file_get(work, node) : NULL;
    if (*result != NULL) {
        pthread_mutex_lock(&(*result)->lock);
        bool same = ((*result)->changed || moves) && cm_node_session((*result)->node) == session;
        pthread_mutex_unlock(&(*result)->lock);
        if (same)
            return 0;
        cm_work_file_unref(work, *result);
        *result = NULL;
    }
    int error = cm_work_source(work, node, &source, &size);
    if (error == 0)
        error = cm_part_variable_get(work->view, source, &part, &known);
    if (error < 0)
        return error == -EOPNOTSUPP ? -EXDEV : error;
    *variable = strdup(known->name);
    pthread_mutex_lock(&work->lock);
    cm_work_file *file = cm_work_add_file_locked(work, session, 0, home);
    if (file != NULL) {
        file->source = source;
        file->source_size = file->length = size;
        file->changed = file->checked = file->valid = true;
    }
    pthread_mutex_unlock(&work->lock);
    *result = file;
    return file != NULL ? 0 : -ENOMEM;
}

/* Under a variable's name there are complete pickles only, but for those that are being written. */
static int check_named(cm_work *work, cm_work_file *file, uint64_t session, const char *name)
{
    char *why = NULL;

    pthread_mutex_lock(&work->lock);
    bool written = file->writers > 0;
    pthread_mutex_unlock(&work->lock);
    if (written)
        return 0;
    pthread_mutex_lock(&file->lock);
    int result = cm_work_check(work, file);
    if (result == -EINVAL)
        why = strdup(file->why != NULL ? file->why : "not a complete pickle");
    pthread_mutex_unlock(&file->lock);
    if (result == 0 || result == -EINVAL)
        cm_work_note(work, session, name, why);
    free(why);
    return result;
}

int cm_work_link(cm_work *work, cm_node from, cm_node directory, const char *name, cm_node *node)
{
    char *variable cm_cleanup(cm_cleanup_memory) = NULL;
    char *hint cm_cleanup(cm_cleanup_memory) = NULL;
    uint64_t number = cm_node_session(directory);
    cm_work_file *file = NULL;
    cm_node there;

    int result = cm_work_lookup(work, directory, name, &there);
    if (result != -ENOENT)
        return result == 0 ? -EEXIST : result;
    result = file_of(work, from, number, name, false, &file, &hint);
    if (result == 0)
        result = understand(work, number, name, hint, &variable);
    if (result == 0 && variable != NULL)
        result = check_named(work, file, number, name);
    if (result == 0) {
        pthread_mutex_lock(&work->lock);
        cm_work_session *session = cm_work_session_locked(work, number);
        result = session != NULL ? cm_work_edit_locked(work, session, name, variable, file) : -ENOMEM;
        *node = file->node;
        pthread_mutex_unlock(&work->lock);
    }
    cm_work_file_unref(work, file);
    return result;
}

/* The name is gone: as an edit when the head may have it, else as if it had never been. */
static int take_away(cm_work *work, cm_work_session *session, const char *name, const char *variable)
{
    size_t at;
    cm_work_edit *edit = cm_work_find_locked(session, name, &at);

    if (edit != NULL && edit->what != NULL)
        edit->what->detached = edit->what->names == 1;
    if (edit != NULL && edit->variable == NULL) {
        cm_work_forget_locked(work, session, at);
        cm_work_touch_locked(work, session);
        return 0;
    }
    return cm_work_edit_locked(work, session, name, variable, NULL);
}

static void detach_node(cm_work *work, cm_node node)
{
    pthread_mutex_lock(&work->lock);
    cm_work_file *file = cm_work_find_file_locked(work, node);
    if (file != NULL && file->names == 0)
        file->detached = true;
    pthread_mutex_unlock(&work->lock);
}

int cm_work_unlink(cm_work *work, cm_node directory, const char *name)
{
    char *variable cm_cleanup(cm_cleanup_memory) = NULL;
    uint64_t number = cm_node_session(directory);
    cm_node node;

    if (strcmp(name, ".errors") == 0) {
        cm_work_note(work, number, NULL, NULL);
        return 0;
    }
    int result = cm_work_lookup(work, directory, name, &node);
    if (result < 0)
        return result;
    char *hint cm_cleanup(cm_cleanup_memory) = name_in_head(work, directory, name);
    result = understand(work, number, name, hint, &variable);
    if (result < 0)
        return result;
    detach_node(work, node);
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, number);
    result = session != NULL ? take_away(work, session, name, variable) : -ENOMEM;
    pthread_mutex_unlock(&work->lock);
    cm_work_note(work, number, name, NULL);
    return result;
}

int cm_work_rename(cm_work *work, cm_node from, const char *name, cm_node to, const char *new_name, unsigned flags)
{
    char *old_variable cm_cleanup(cm_cleanup_memory) = NULL;
    char *new_variable cm_cleanup(cm_cleanup_memory) = NULL;
    char *hint cm_cleanup(cm_cleanup_memory) = NULL;
    uint64_t number = cm_node_session(from), new_number = cm_node_session(to);
    cm_work_file *file = NULL;
    cm_node node, there;

    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0)
        return -EINVAL;
    int result = cm_work_lookup(work, from, name, &node);
    if (result < 0)
        return result;
    result = cm_work_lookup(work, to, new_name, &there);
    if (result == 0 && flags & RENAME_NOREPLACE)
        return -EEXIST;
    if (result == 0 && there == node) /* two names of one file: nothing is to be done */
        return 0;
    if (result != 0 && result != -ENOENT)
        return result;
    bool replaces = result == 0;
    result = file_of(work, node, new_number, new_name, true, &file, &hint);
    if (result == 0)
        result = understand(work, new_number, new_name, hint, &new_variable);
    if (result == 0 && new_variable != NULL)
        result = check_named(work, file, new_number, new_name);
    free(hint);
    hint = name_in_head(work, from, name);
    if (result == 0)
        result = understand(work, number, name, hint, &old_variable);
    if (result == 0) {
        detach_node(work, node);
        if (replaces)
            detach_node(work, there);
        pthread_mutex_lock(&work->lock);
        cm_work_session *session = cm_work_session_locked(work, number);
        cm_work_session *target = session != NULL ? cm_work_session_locked(work, new_number) : NULL;
        result = target != NULL ? cm_work_edit_locked(work, target, new_name, new_variable, file) : -ENOMEM;
        if (result == 0)
            result = take_away(work, session, name, old_variable);
        if (result == 0)
            file->detached = false;
        pthread_mutex_unlock(&work->lock);
    }
    if (result == 0) {
        pthread_mutex_lock(&file->lock);
        file->changed = true; /* the head does not have it under this name */
        pthread_mutex_unlock(&file->lock);
        cm_work_note(work, number, name, NULL);
    }
    cm_work_file_unref(work, file);
    return result;
}
