/* SPDX-License-Identifier: Apache-2.0 */
/* work_view.c - work/ as it is seen: the head with the edits over it. Edits are looked at first, see cm_work_commit. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"
#include "work_private.h"

cm_work *cm_view_work(cm_view *view)
{
    return view->work;
}

int cm_work_head(cm_view *view, cm_node node, cm_node *checkpoint, cm_part_variables **part)
{
    cm_session_info info = {0};
    int result = cm_view_session(view, node, &info);
    uint64_t head = info.head_number;

    cm_session_info_clear(&info);
    *part = NULL;
    if (result < 0 || head == 0 || head > CM_NODE_NUMBER_MAX)
        return result;
    *checkpoint = cm_node_place(CM_PLACE_CHECKPOINT, cm_node_session(node), head);
    return cm_part_variables_get(view, *checkpoint, part);
}

int cm_work_lookup(cm_work *work, cm_node directory, const char *file, cm_node *node)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    cm_node checkpoint = 0;
    uint64_t index;
    size_t at;

    *node = cm_node_sibling(directory, CM_PLACE_ERRORS);
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, cm_node_session(directory));
    cm_work_edit *edit = session != NULL ? cm_work_find_locked(session, file, &at) : NULL;
    bool errors = session != NULL && session->error_count > 0;
    bool removed = edit != NULL && edit->what == NULL;
    if (edit != NULL && !removed)
        *node = edit->what->node;
    pthread_mutex_unlock(&work->lock);
    if (session == NULL)
        return -ENOMEM;
    if (edit != NULL)
        return removed ? -ENOENT : 0;
    if (strcmp(file, ".errors") == 0)
        return errors ? 0 : -ENOENT;
    int result = cm_work_head(work->view, directory, &checkpoint, &part);
    if (result == 0)
        result = part != NULL ? cm_part_variables_find(part, file, ".pkl", &index) : -ENOENT;
    if (result == 0)
        *node = cm_node_make(CM_NODE_WORK, cm_node_session(directory), cm_node_number(checkpoint), index);
    return result;
}

/* A file of work/ is no other name of that in vars/, which cannot be changed; the same variable is the same file, though. */
static uint64_t work_inode(const cm_variable *variable, cm_node node)
{
    uint64_t bits = cm_node_id_bits(&variable->content) ^ cm_node_session(node) * UINT64_C(0x9e3779b97f4a7c15);

    for (const char *s = variable->name; *s != '\0'; s++)
        bits = (bits ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return (uint64_t)CM_NODE_WORK << 61 | (bits & UINT64_MAX >> 3);
}

static int base_attributes(cm_view *view, cm_node node, cm_attributes *attributes)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *variable;
    int result = cm_node_number(node) == 0 ? -ESTALE : cm_part_variable_get(view, node, &part, &variable);

    if (result < 0)
        return result;
    attributes->inode = work_inode(variable, node);
    attributes->size = variable->size;
    attributes->time = variable->changed_time;
    return 0;
}

int cm_work_attributes(cm_work *work, cm_node node, cm_attributes *attributes)
{
    cm_work_file *file = work != NULL ? cm_work_file_get(work, node) : NULL;

    attributes->stored = 1; /* the bytes are those of log/ */
    if (file == NULL)
        return cm_node_number(node) > 0 ? base_attributes(work->view, node, attributes) : -ESTALE;
    pthread_mutex_lock(&file->lock);
    bool changed = file->changed;
    attributes->size = file->length;
    attributes->time = file->time;
    if (file->source == 0)
        attributes->stored = file->length;
    pthread_mutex_unlock(&file->lock);
    pthread_mutex_lock(&work->lock);
    attributes->links = file->names > 1 ? file->names : 1;
    pthread_mutex_unlock(&work->lock);
    cm_work_file_unref(work, file);
    return changed ? 0 : base_attributes(work->view, node, attributes);
}

int cm_work_source(cm_work *work, cm_node node, cm_node *source, uint64_t *size)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *variable;
    cm_work_file *file = cm_node_in_work(node) ? cm_work_file_get(work, node) : NULL;

    *source = 0;
    if (file != NULL) {
        pthread_mutex_lock(&file->lock);
        if (file->length == file->source_size)
            *source = file->source;
        *size = file->source_size;
        pthread_mutex_unlock(&file->lock);
        cm_work_file_unref(work, file);
        return *source != 0 ? 0 : -EOPNOTSUPP;
    }
    if (cm_node_in_work(node) && cm_node_number(node) == 0)
        return -ESTALE; /* committed since the kernel asked for it: it will ask again */
    if (cm_node_in_work(node))
        *source = cm_work_pickle_of(node);
    else if (cm_node_type(node) == CM_NODE_PICKLE)
        *source = node;
    if (*source == 0)
        return -EOPNOTSUPP;
    int result = cm_part_variable_get(work->view, *source, &part, &variable);
    if (result == 0)
        *size = variable->size;
    return result;
}

int cm_work_each(cm_work *work, uint64_t number, int (*visit)(void *arg, const char *file, cm_node node), void *arg)
{
    int result = 0;

    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, number);
    if (session == NULL)
        result = -ENOMEM;
    for (size_t i = 0; session != NULL && i < session->count && result == 0; i++) {
        const cm_work_edit *edit = &session->edits[i];
        result = visit(arg, edit->file, edit->what != NULL ? edit->what->node : 0);
    }
    pthread_mutex_unlock(&work->lock);
    return result;
}

/* ---- .errors --------------------------------------------------------------------------------------------------------- */

static void clear_error(cm_work_session *session, size_t i)
{
    free(session->errors[i].file);
    free(session->errors[i].text);
    session->error_count--;
    memmove(&session->errors[i], &session->errors[i + 1], (session->error_count - i) * sizeof session->errors[i]);
}

static void note_locked(cm_work_session *session, const char *file, const char *text)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = session->error_count; i-- > 0;)
        if (file == NULL || strcmp(session->errors[i].file, file) == 0)
            clear_error(session, i);
    if (text == NULL)
        return;
    if (session->error_count == CM_WORK_ERRORS_MOST)
        clear_error(session, 0);
    cm_work_error error = {strdup(file), strdup(text), (int64_t)now.tv_sec * 1000000000 + now.tv_nsec};
    if (error.file != NULL && error.text != NULL) {
        session->errors[session->error_count++] = error;
    } else {
        free(error.file);
        free(error.text);
    }
}

void cm_work_note(cm_work *work, uint64_t number, const char *file, const char *text)
{
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, number);
    if (session != NULL)
        note_locked(session, file, text);
    pthread_mutex_unlock(&work->lock);
}

static bool is_noted_locked(const cm_work_session *session, const char *file)
{
    for (size_t i = 0; i < session->error_count; i++)
        if (strcmp(session->errors[i].file, file) == 0)
            return true;
    return false;
}

void cm_work_note_check(cm_work *work, const cm_work_file *file, bool again)
{
    const char *why = file->valid ? NULL : file->why != NULL ? file->why : "not a complete pickle";

    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, cm_node_session(file->node));
    for (size_t i = 0; session != NULL && i < session->count; i++) {
        const cm_work_edit *edit = &session->edits[i];
        if (edit->what == file && edit->variable != NULL && (again || !is_noted_locked(session, edit->file)))
            note_locked(session, edit->file, why);
    }
    pthread_mutex_unlock(&work->lock);
}

static void one_line(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ')
            *text = ' ';
}

int cm_work_errors(cm_work *work, uint64_t number, char **text, int64_t *time)
{
    size_t size = 0;
    FILE *out = open_memstream(text, &size);

    if (out == NULL)
        return -ENOMEM;
    *time = 0;
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, number);
    for (size_t i = 0; session != NULL && i < session->error_count; i++) {
        char when[CM_TIME_TEXT];
        cm_work_error *error = &session->errors[i];
        cm_describe_time(error->time, when);
        one_line(error->file);
        one_line(error->text);
        fprintf(out, "%s %s: %s\n", when, error->file, error->text);
        *time = error->time;
    }
    pthread_mutex_unlock(&work->lock);
    if (fclose(out) != 0)
        return -ENOMEM;
    if (size == 0) {
        free(*text);
        *text = NULL;
        return -ENOENT;
    }
    return 0;
}
