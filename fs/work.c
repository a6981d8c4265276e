/* SPDX-License-Identifier: Apache-2.0 */
/* work.c - the files of work/ that are open or edits, and the edits themselves. */
#include "work_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pickle.h"

/* ---- sessions and their edits ------------------------------------------------------------------------------------------ */

cm_work_session *cm_work_session_locked(cm_work *work, uint64_t number)
{
    for (size_t i = 0; i < work->session_count; i++)
        if (work->sessions[i]->number == number)
            return work->sessions[i];
    cm_work_session **more = realloc(work->sessions, (work->session_count + 1) * sizeof *more);
    if (more == NULL)
        return NULL;
    work->sessions = more;
    cm_work_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->number = number;
    pthread_mutex_init(&session->commit_lock, NULL);
    work->sessions[work->session_count++] = session;
    return session;
}

cm_work_edit *cm_work_find_locked(const cm_work_session *session, const char *file, size_t *at)
{
    size_t low = 0, high = session->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(session->edits[middle].file, file);
        if (order == 0) {
            *at = middle;
            return &session->edits[middle];
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    return NULL;
}

void cm_work_touch_locked(cm_work *work, cm_work_session *session)
{
    struct timespec now;

    session->last = cm_monotonic_ns();
    if (session->first == 0)
        session->first = session->last;
    clock_gettime(CLOCK_REALTIME, &now);
    session->changed = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    pthread_cond_signal(&work->wake);
}

static void drop_file_locked(cm_work *work, cm_work_file *file);

/* The edit does not name its file any more. */
static void leave_locked(cm_work *work, cm_work_edit *edit, bool detach)
{
    cm_work_file *file = edit->what;

    edit->what = NULL;
    if (file == NULL)
        return;
    if (--file->names == 0 && detach)
        file->detached = true;
    drop_file_locked(work, file);
}

int cm_work_edit_locked(cm_work *work, cm_work_session *session, const char *file, const char *variable,
                        cm_work_file *what)
{
    size_t at;
    cm_work_edit *edit = cm_work_find_locked(session, file, &at);
    char *home = what != NULL ? strdup(file) : NULL;

    if (what != NULL && home == NULL)
        return -ENOMEM;
    if (edit == NULL) {
        if (session->count == session->room) {
            size_t room = session->room == 0 ? 16 : session->room * 2;
            cm_work_edit *more = realloc(session->edits, room * sizeof *more);
            if (more == NULL) {
                free(home);
                return -ENOMEM;
            }
            session->edits = more;
            session->room = room;
        }
        cm_work_edit new = {.file = strdup(file), .variable = variable != NULL ? strdup(variable) : NULL};
        if (new.file == NULL || (variable != NULL && new.variable == NULL)) {
            free(new.file);
            free(new.variable);
            free(home);
            return -ENOMEM;
        }
        edit = &session->edits[at];
        memmove(edit + 1, edit, (session->count - at) * sizeof *edit);
        *edit = new;
        session->count++;
    }
    if (what != NULL) {
        what->references++;
        what->names++;
        what->detached = false;
        free(what->home);
        what->home = home;
    }
    leave_locked(work, edit, edit->what != what);
    edit->what = what;
    edit->sequence = ++work->next_sequence;
    edit->refused = false;
    cm_work_touch_locked(work, session);
    return 0;
}

void cm_work_forget_locked(cm_work *work, cm_work_session *session, size_t at)
{
    cm_work_edit *edit = &session->edits[at];

    leave_locked(work, edit, false);
    free(edit->file);
    free(edit->variable);
    session->count--;
    memmove(edit, edit + 1, (session->count - at) * sizeof *edit);
}

/* ---- files -------------------------------------------------------------------------------------------------------------- */

static cm_work_file **bucket_of(cm_work *work, cm_node node)
{
    return &work->buckets[(node * UINT64_C(0x9e3779b97f4a7c15)) >> 52];
}

cm_work_file *cm_work_find_file_locked(cm_work *work, cm_node node)
{
    cm_work_file *file = *bucket_of(work, node);

    while (file != NULL && file->node != node)
        file = file->next;
    return file;
}

static void destroy_file(cm_work_file *file)
{
    cm_content_close(file->content);
    for (size_t i = 0; i < file->retired_count; i++)
        cm_content_close(file->retired[i]);
    free(file->retired);
    if (file->spool >= 0)
        close(file->spool);
    pthread_mutex_destroy(&file->lock);
    free(file->home);
    free(file->why);
    free(file);
}

static void drop_file_locked(cm_work *work, cm_work_file *file)
{
    if (--file->references > 0)
        return;
    cm_work_file **at = bucket_of(work, file->node);
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    destroy_file(file);
}

void cm_work_file_unref(cm_work *work, cm_work_file *file)
{
    if (file == NULL)
        return;
    pthread_mutex_lock(&work->lock);
    drop_file_locked(work, file);
    pthread_mutex_unlock(&work->lock);
}

cm_work_file *cm_work_file_get(cm_work *work, cm_node node)
{
    pthread_mutex_lock(&work->lock);
    cm_work_file *file = cm_work_find_file_locked(work, node);
    if (file != NULL)
        file->references++;
    pthread_mutex_unlock(&work->lock);
    return file;
}

cm_work_file *cm_work_add_file_locked(cm_work *work, uint64_t session, cm_node node, const char *home)
{
    struct timespec now;
    cm_work_file *file = calloc(1, sizeof *file);

    if (file == NULL || (file->home = strdup(home)) == NULL) {
        free(file);
        return NULL;
    }
    while (node == 0 || (cm_node_number(node) == 0 && cm_work_find_file_locked(work, node) != NULL)) {
        work->next_index = work->next_index % CM_NODE_INDEX_MAX + 1;
        node = cm_node_make(CM_NODE_WORK, session, 0, work->next_index);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    file->time = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    file->node = node;
    file->references = 1;
    file->spool = -1;
    pthread_mutex_init(&file->lock, NULL);
    file->next = *bucket_of(work, node);
    *bucket_of(work, node) = file;
    return file;
}

/* The file of a node that is there or a variable of a checkpoint, with a reference. */
static int obtain_file(cm_work *work, cm_node node, cm_work_file **result)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    char name[CM_FILE_NAME_MAX + 1];

    *result = cm_work_file_get(work, node);
    if (*result != NULL)
        return 0;
    if (cm_node_number(node) == 0)
        return -ESTALE;
    const cm_variable *variable;
    int error = cm_part_variable_get(work->view, node, &part, &variable);
    if (error < 0)
        return error;
    cm_name_encode(variable->name, ".pkl", name);
    pthread_mutex_lock(&work->lock);
    cm_work_file *file = cm_work_find_file_locked(work, node);
    if (file != NULL) {
        file->references++;
    } else if ((file = cm_work_add_file_locked(work, cm_node_session(node), node, name)) != NULL) {
        file->source = cm_work_pickle_of(node);
        file->source_size = file->length = variable->size;
        file->time = variable->changed_time;
        file->checked = file->valid = true;
    }
    pthread_mutex_unlock(&work->lock);
    *result = file;
    return file != NULL ? 0 : -ENOMEM;
}

/* ---- content ------------------------------------------------------------------------------------------------------------ */

enum { COPY_SIZE = 1 << 20 };

/* With the file's lock. The source's content, opened once. */
static int open_source(cm_work *work, cm_work_file *file)
{
    if (file->content != NULL)
        return 0;
    return cm_content_open(work->view, file->source, &file->content);
}

static int write_spool(int spool, uint64_t offset, const void *buffer, size_t size)
{
    const char *at = buffer;

    while (size > 0) {
        ssize_t n = pwrite(spool, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* Beside the store, where what is in it goes anyway. It has no name: nothing is left of it when the daemon ends. */
static int make_spool(cm_work *work, int *spool)
{
    const char *const places[] = {cm_store_path(work->view->store), "/var/tmp", "/tmp"};
    int error = 0;

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        *spool = open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (*spool >= 0)
            return 0;
        if (error == 0)
            error = -errno;
    }
    return error;
}

/* With the file's lock: the content is in the spool from here on, its first `keep` bytes as they were. */
static int to_spool(cm_work *work, cm_work_file *file, uint64_t keep)
{
    int result = file->spool >= 0 ? 0 : make_spool(work, &file->spool);

    if (result < 0 || file->source == 0)
        return result;
    if (ftruncate(file->spool, 0) < 0)
        return -errno;
    keep = keep < file->length ? keep : file->length;
    char *buffer cm_cleanup(cm_cleanup_memory) = keep > 0 ? malloc(COPY_SIZE) : NULL;
    if (keep > 0)
        result = buffer == NULL ? -ENOMEM : open_source(work, file);
    for (uint64_t at = 0; at < keep && result == 0;) {
        size_t done = 0, size = keep - at < COPY_SIZE ? (size_t)(keep - at) : COPY_SIZE;
        result = cm_content_read(file->content, at, buffer, size, &done);
        if (result == 0 && done == 0)
            result = -EIO;
        if (result == 0)
            result = write_spool(file->spool, at, buffer, done);
        at += done;
    }
    if (result < 0)
        return result;
    file->source = file->source_size = 0;
    file->length = keep;
    return 0;
}

/* With the file's lock. */
static void note_change(cm_work_file *file)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    file->time = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    file->changed = true;
    file->checked = file->valid = false;
}

/* After a change, without the file's lock: it is an edit under its name, unless that was taken away from it. */
/* The whole name behind a cut file name, if it is that of the variable that `node` is of. Lives as long as the part. NULL: it is not. */
static const char *whole_name(cm_work *work, cm_node node, const char *file, cm_part_variables **part)
{
    char again[CM_FILE_NAME_MAX + 1];
    const cm_variable *variable;

    if (cm_part_variable_get(work->view, node, part, &variable) < 0)
        return NULL;
    cm_name_encode(variable->name, ".pkl", again);
    return strcmp(again, file) == 0 ? variable->name : NULL;
}

static int show_change(cm_work *work, cm_work_file *file)
{
    int result = 0;

    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, cm_node_session(file->node));
    if (session == NULL) {
        result = -ENOMEM;
    } else if (file->names > 0) {
        size_t at;
        cm_work_edit *edit = cm_work_find_locked(session, file->home, &at);
        bool only = file->names == 1 && edit != NULL && edit->what == file;
        for (size_t i = only ? at : 0, seen = 0; i < session->count && seen < file->names; i++)
            if (session->edits[i].what == file) {
                session->edits[i].sequence = ++work->next_sequence;
                session->edits[i].refused = false;
                seen++;
            }
        cm_work_touch_locked(work, session);
    } else if (!file->detached) {
        char name[CM_FILE_NAME_MAX + 1], home[CM_FILE_NAME_MAX + 1];
        const char *variable = name;
        cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
        bool cut;
        snprintf(home, sizeof home, "%s", file->home);
        pthread_mutex_unlock(&work->lock);
        if (cm_name_decode(home, ".pkl", name, &cut) < 0)
            variable = NULL;
        else if (cut)
            variable = whole_name(work, file->node, home, &part); /* that it began as */
        pthread_mutex_lock(&work->lock);
        size_t at;
        cm_work_edit *edit = cm_work_find_locked(session, home, &at);
        if (edit != NULL && edit->what != file)
            file->detached = true; /* another one has come to its place */
        else if (edit == NULL)
            result = cm_work_edit_locked(work, session, home, variable, file);
    }
    pthread_mutex_unlock(&work->lock);
    return result;
}

int cm_work_check(cm_work *work, cm_work_file *file)
{
    char type[CM_PICKLE_TYPE_MAX], why[CM_PICKLE_WHY_MAX] = "";
    uint32_t root;
    int result = 0;

    (void)work;
    if (file->checked)
        return file->valid ? 0 : -EINVAL;
    if (file->source != 0) {
        if (file->length != file->source_size) {
            snprintf(why, sizeof why, "not a complete pickle: %llu of %llu bytes were copied",
                     (unsigned long long)file->length, (unsigned long long)file->source_size);
            result = -EINVAL;
        }
    } else {
        void *data = NULL;
        if (file->length > 0) {
            data = mmap(NULL, (size_t)file->length, PROT_READ, MAP_SHARED, file->spool, 0);
            if (data == MAP_FAILED)
                return -errno;
        }
        result = cm_pickle_read(data, (size_t)file->length, NULL, &root, type, why);
        if (data != NULL)
            munmap(data, (size_t)file->length);
    }
    if (result < 0 && result != -EINVAL)
        return result;
    file->checked = true;
    file->valid = result == 0;
    free(file->why);
    file->why = result == 0 ? NULL : strdup(why);
    return result;
}

/* ---- open files ---------------------------------------------------------------------------------------------------------- */

struct cm_work_handle {
    cm_work *work;
    cm_work_file *file;
    bool writing;
};

int cm_work_make_handle(cm_work *work, cm_work_file *file, unsigned flags, cm_work_handle **result)
{
    cm_work_handle *handle = malloc(sizeof *handle);

    if (handle == NULL) {
        cm_work_file_unref(work, file);
        return -ENOMEM;
    }
    *handle = (cm_work_handle){work, file, flags & CM_WORK_WRITE};
    pthread_mutex_lock(&work->lock);
    file->writers += handle->writing;
    pthread_mutex_unlock(&work->lock);
    *result = handle;
    return 0;
}

int cm_work_open(cm_work *work, cm_node node, unsigned flags, cm_work_handle **handle)
{
    cm_work_file *file = NULL;
    int result = obtain_file(work, node, &file);

    if (result == 0)
        result = cm_work_make_handle(work, file, flags, handle);
    if (result == 0 && flags & CM_WORK_TRUNCATE && (result = cm_work_truncate(work, node, 0)) < 0) {
        cm_work_close(*handle);
        *handle = NULL;
    }
    return result;
}

int cm_work_read(cm_work_handle *handle, uint64_t offset, void *buffer, size_t size, size_t *done)
{
    cm_work_file *file = handle->file;
    int result = 0;

    *done = 0;
    pthread_mutex_lock(&file->lock);
    bool referred = file->source != 0;
    uint64_t length = file->length;
    if (referred && length > 0)
        result = open_source(handle->work, file);
    cm_content *content = file->content;
    pthread_mutex_unlock(&file->lock);
    if (result < 0 || offset >= length)
        return result;
    if (size > length - offset)
        size = (size_t)(length - offset);
    if (referred)
        return cm_content_read(content, offset, buffer, size, done);
    while (*done < size) {
        ssize_t n = pread(file->spool, (char *)buffer + *done, size - *done, (off_t)(offset + *done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        *done += (size_t)n;
    }
    return 0;
}

int cm_work_write(cm_work_handle *handle, uint64_t offset, const void *buffer, size_t size)
{
    cm_work_file *file = handle->file;

    pthread_mutex_lock(&file->lock);
    int result = to_spool(handle->work, file, UINT64_MAX);
    if (result == 0) {
        note_change(file);
        result = write_spool(file->spool, offset, buffer, size);
    }
    if (result == 0 && offset + size > file->length)
        file->length = offset + size;
    pthread_mutex_unlock(&file->lock);
    return result < 0 ? result : show_change(handle->work, file);
}

int cm_work_truncate(cm_work *work, cm_node node, uint64_t size)
{
    cm_work_file *file = NULL;
    int result = obtain_file(work, node, &file);

    if (result < 0)
        return result;
    pthread_mutex_lock(&file->lock);
    bool changes = size != file->length;
    if (changes) {
        result = to_spool(work, file, size);
        if (result == 0 && ftruncate(file->spool, (off_t)size) < 0)
            result = -errno;
        if (result == 0) {
            file->length = size;
            note_change(file);
        }
    }
    pthread_mutex_unlock(&file->lock);
    if (result == 0 && changes)
        result = show_change(work, file);
    cm_work_file_unref(work, file);
    return result;
}

int cm_work_set_time(cm_work *work, cm_node node, int64_t time)
{
    cm_work_file *file = cm_work_file_get(work, node);

    if (file == NULL)
        return 0;
    pthread_mutex_lock(&file->lock);
    if (file->changed)
        file->time = time;
    pthread_mutex_unlock(&file->lock);
    cm_work_file_unref(work, file);
    return 0;
}

/* With the file's lock: those who read the former source go on with it. */
static int retire_content(cm_work_file *file)
{
    if (file->content == NULL)
        return 0;
    cm_content **more = realloc(file->retired, (file->retired_count + 1) * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    file->retired = more;
    file->retired[file->retired_count++] = file->content;
    file->content = NULL;
    return 0;
}

int cm_work_copy(cm_work_handle *handle, uint64_t offset, cm_node from, uint64_t from_offset, uint64_t size,
                 uint64_t *done)
{
    enum { STEP = 1 << 30 }; /* the answer has 32 bits */
    cm_work_file *file = handle->file;
    cm_node source = 0;
    uint64_t source_size = 0;
    int result = cm_work_source(handle->work, from, &source, &source_size);

    *done = 0;
    if (result < 0)
        return result;
    if (offset != from_offset || from == file->node)
        return -EOPNOTSUPP;
    pthread_mutex_lock(&file->lock);
    if (file->length != offset || (offset > 0 && file->source != source)) {
        result = -EOPNOTSUPP;
    } else if (offset < source_size) {
        *done = size < source_size - offset ? size : source_size - offset;
        if (*done > STEP)
            *done = STEP;
        if (file->source != source && (result = retire_content(file)) == 0) {
            file->source = source;
            file->source_size = source_size;
        }
        if (result == 0) {
            file->length += *done;
            note_change(file);
        }
    }
    pthread_mutex_unlock(&file->lock);
    return result < 0 ? result : show_change(handle->work, file);
}

/*
 * A file name that had to be cut does not tell the variable's name; what was copied into the file may. -EINVAL: it does not, and
 * .errors says so.
 */
static int learn_name(cm_work *work, cm_work_file *file)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    char home[CM_FILE_NAME_MAX + 1], name[CM_FILE_NAME_MAX + 1];
    uint64_t number = cm_node_session(file->node);
    size_t at;
    bool cut = false;

    pthread_mutex_lock(&work->lock);
    snprintf(home, sizeof home, "%s", file->home);
    cm_work_session *session = cm_work_session_locked(work, number);
    cm_work_edit *edit = session != NULL ? cm_work_find_locked(session, home, &at) : NULL;
    bool open = edit != NULL && edit->what == file && edit->variable == NULL;
    pthread_mutex_unlock(&work->lock);
    if (!open || cm_name_decode(home, ".pkl", name, &cut) < 0 || !cut)
        return 0;
    pthread_mutex_lock(&file->lock);
    cm_node source = file->source;
    pthread_mutex_unlock(&file->lock);
    const char *variable = source != 0 ? whole_name(work, source, home, &part) : NULL;
    if (variable == NULL) {
        cm_work_note(work, number, home,
                     "this file name does not tell the whole name of a variable, which was too long for it");
        return -EINVAL;
    }
    pthread_mutex_lock(&work->lock);
    edit = cm_work_find_locked(session, home, &at);
    if (edit != NULL && edit->what == file && edit->variable == NULL)
        edit->variable = strdup(variable);
    pthread_mutex_unlock(&work->lock);
    return 0;
}

/* Is the file to be committed, under whatever name? */
static bool to_be_committed(cm_work *work, const cm_work_file *file)
{
    bool found = false;

    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, cm_node_session(file->node));
    for (size_t i = 0; session != NULL && file->names > 0 && i < session->count && !found; i++)
        found = session->edits[i].what == file && session->edits[i].variable != NULL;
    pthread_mutex_unlock(&work->lock);
    return found;
}

int cm_work_flush(cm_work_handle *handle)
{
    cm_work_file *file = handle->file;

    if (!handle->writing)
        return 0;
    int result = learn_name(handle->work, file);
    if (result < 0 || !to_be_committed(handle->work, file))
        return result;
    pthread_mutex_lock(&file->lock);
    result = cm_work_check(handle->work, file);
    if (result == 0 || result == -EINVAL)
        cm_work_note_check(handle->work, file, true);
    pthread_mutex_unlock(&file->lock);
    return result;
}

/* Could it not be stored, for a reason that is in .errors? */
static bool is_refused(cm_work *work, cm_work_file *file)
{
    size_t at;

    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, cm_node_session(file->node));
    cm_work_edit *edit = session != NULL ? cm_work_find_locked(session, file->home, &at) : NULL;
    bool refused = edit != NULL && edit->what == file && edit->refused;
    pthread_mutex_unlock(&work->lock);
    return refused;
}

int cm_work_fsync(cm_work_handle *handle)
{
    int result = cm_work_flush(handle);

    if (result < 0 || !to_be_committed(handle->work, handle->file))
        return result;
    result = cm_work_commit(handle->work, cm_node_session(handle->file->node));
    return result == 0 && is_refused(handle->work, handle->file) ? -EFBIG : result;
}

void cm_work_close(cm_work_handle *handle)
{
    if (handle == NULL)
        return;
    cm_work *work = handle->work;
    pthread_mutex_lock(&work->lock);
    handle->file->writers -= handle->writing;
    if (handle->writing && handle->file->names > 0) {
        cm_work_session *session = cm_work_session_locked(work, cm_node_session(handle->file->node));
        if (session != NULL)
            cm_work_touch_locked(work, session);
    }
    drop_file_locked(work, handle->file);
    pthread_mutex_unlock(&work->lock);
    free(handle);
}
