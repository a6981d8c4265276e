/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_commit.c - edits become checkpoints. A commit takes the edits there are, saves what is ready of them in one checkpoint,
 * and then drops those that have not changed meanwhile: the head has them. In between both have them, so whoever looks at the
 * edits first and at the head then never misses one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <chipmink/save.h>

#include "pickle.h"
#include "work_private.h"

enum {
    RETRY_MS = 5000,    /* after a failure, unless somebody asks */
    LOST_TRIES = 8,     /* of a commit whose server ended meanwhile */
    LOST_WAIT_MS = 100, /* and the pause between them, longer each time */
    WAIT_MS = 1000,
    TELL_MS = 100,
    NAMES_MOST = 12, /* in a message */
    MILLISECOND = 1000000
};

/* An edit that is being committed. */
typedef struct taken {
    char *file, *variable;
    cm_work_file *what;
    uint64_t sequence;
    bool locked;  /* this is the one that holds the file's lock */
    bool left;    /* not part of the checkpoint */
    bool existed; /* the head had the variable */
    void *data;   /* the mapped spool */
    size_t size;
} taken;

typedef struct commit {
    cm_work *work;
    uint64_t number;
    const char *name; /* the session's */
    taken *edits;
    size_t count, effects;
} commit;

/* ---- what is committed --------------------------------------------------------------------------------------------- */

static int take(commit *c)
{
    int result = 0;

    pthread_mutex_lock(&c->work->lock);
    cm_work_session *session = cm_work_session_locked(c->work, c->number);
    c->edits = session != NULL ? calloc(session->count + 1, sizeof *c->edits) : NULL;
    if (c->edits == NULL)
        result = -ENOMEM;
    for (size_t i = 0; result == 0 && i < session->count; i++) {
        cm_work_edit *edit = &session->edits[i];
        if (edit->variable == NULL || edit->refused)
            continue;
        taken *t = &c->edits[c->count];
        *t = (taken){.file = strdup(edit->file),
                     .variable = strdup(edit->variable),
                     .what = edit->what,
                     .sequence = edit->sequence};
        if (t->file == NULL || t->variable == NULL)
            result = -ENOMEM;
        if (t->what != NULL)
            t->what->references++;
        c->count++;
    }
    if (session != NULL)
        session->first = session->last = 0;
    pthread_mutex_unlock(&c->work->lock);
    return result;
}

static void unmap(taken *t)
{
    if (t->data != NULL)
        munmap(t->data, t->size);
    t->data = NULL;
}

static void give_back(commit *c)
{
    for (size_t i = 0; i < c->count; i++) {
        unmap(&c->edits[i]);
        if (c->edits[i].locked)
            pthread_mutex_unlock(&c->edits[i].what->lock);
        cm_work_file_unref(c->work, c->edits[i].what);
        free(c->edits[i].file);
        free(c->edits[i].variable);
    }
    free(c->edits);
}

/* Nobody has it open for writing: what it is it stays, until somebody changes it. */
static bool is_closed(cm_work *work, const cm_work_file *file)
{
    pthread_mutex_lock(&work->lock);
    bool closed = file->writers == 0;
    pthread_mutex_unlock(&work->lock);
    return closed;
}

/*
 * Nobody writes to a file while it is committed. One that is being written and is not complete yet waits for its close; one that
 * was closed incomplete is left out, and .errors says so under whatever names it has come to since.
 */
static void settle(commit *c)
{
    for (size_t i = 0; i < c->count; i++) {
        taken *t = &c->edits[i];
        bool held = false;
        for (size_t k = 0; t->what != NULL && k < i && !held; k++)
            held = c->edits[k].locked && c->edits[k].what == t->what;
        if (t->what == NULL)
            continue;
        if (!held) {
            pthread_mutex_lock(&t->what->lock);
            t->locked = true;
        }
        int result = cm_work_check(c->work, t->what);
        t->left = result < 0;
        if (result == -EINVAL && is_closed(c->work, t->what))
            cm_work_note_check(c->work, t->what, false);
    }
}

/* ---- copies that were read and written ------------------------------------------------------------------------------ */

static bool has_bytes(cm_link *link, const char *data, size_t size)
{
    enum { PIECE = 256 << 10 };
    char *piece cm_cleanup(cm_cleanup_memory) = malloc(PIECE);
    bool same = piece != NULL;

    for (size_t at = 0, done = 0; same && at < size; at += done)
        same = cm_link_read(link, at, piece, PIECE, &done) == 0 && done > 0 && done <= size - at &&
               memcmp(piece, data + at, done) == 0;
    return same;
}

static bool is_copy(cm_view *view, cm_node node, const void *data, size_t size)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *variable;
    cm_link *link = NULL;

    if (cm_part_variable_get(view, node, &part, &variable) < 0)
        return false;
    if (variable->size != size || cm_link_open(part->checkpoint, &variable->name, 1, 0, &link) < 0)
        return false;
    bool same = has_bytes(link, data, size);
    cm_link_close(link);
    return same;
}

/*
 * The pickle that a file is, byte for byte, if that was opened lately; 0: none. Not every program that copies does so by reference:
 * cp reads and writes what takes less on disk than its size.
 */
static cm_node find_source(cm_view *view, const void *data, size_t size)
{
    cm_node opened[CM_VIEW_OPENED];
    size_t count = cm_view_opened(view, opened);

    for (size_t i = 0; i < count; i++)
        if (is_copy(view, opened[i], data, size))
            return opened[i];
    return 0;
}

/* ---- the checkpoint -------------------------------------------------------------------------------------------------- */

static int save_reference(const commit *c, cm_save *save, const taken *t, cm_node source)
{
    cm_part_variables *part cm_cleanup(cm_cleanup_part) = NULL;
    const cm_variable *variable;
    int result = cm_part_variable_get(c->work->view, source, &part, &variable);

    return result < 0 ? result : cm_save_carry(save, t->variable, part->checkpoint, variable->name);
}

static int save_stream(const commit *c, cm_save *save, taken *t)
{
    char type[CM_PICKLE_TYPE_MAX], why[CM_PICKLE_WHY_MAX], summary[64];
    cm_work_file *file = t->what;
    uint32_t root;

    if (t->data == NULL) {
        t->size = (size_t)file->length;
        t->data = mmap(NULL, t->size, PROT_READ, MAP_SHARED, file->spool, 0);
        if (t->data == MAP_FAILED) {
            t->data = NULL;
            return -errno;
        }
    }
    cm_node source = find_source(c->work->view, t->data, t->size);
    if (source != 0 && save_reference(c, save, t, source) == 0)
        return 0;
    int result = cm_save_variable_begin(save, t->variable);
    cm_pod *pod = result == 0 ? cm_save_pod_new(save, NULL, CM_POD_OBJECT) : NULL;
    if (result == 0 && pod == NULL)
        result = -ENOMEM;
    if (result == 0)
        result = cm_pickle_read(t->data, t->size, pod, &root, type, why);
    if (result == 0)
        result = cm_save_pod_finish(save, pod, root);
    snprintf(summary, sizeof summary, "written through the mount, %zu bytes", t->size);
    if (result == 0)
        result = cm_save_variable_end(save, pod, CM_INDEX_ROOT, type, summary);
    if (result < 0)
        cm_save_variable_cancel(save);
    return result;
}

/* Is it a fault of this one edit, for which the others need not wait? */
static bool is_its_own(int error)
{
    return error == -E2BIG || error == -EFBIG || error == -EINVAL || error == -EILSEQ || error == -EOVERFLOW ||
           error == -ESTALE;
}

static void refuse(commit *c, taken *t)
{
    size_t at;

    t->left = true;
    cm_work_note(c->work, c->number, t->file, cm_error_message());
    pthread_mutex_lock(&c->work->lock);
    cm_work_session *session = cm_work_session_locked(c->work, c->number);
    cm_work_edit *edit = session != NULL ? cm_work_find_locked(session, t->file, &at) : NULL;
    if (edit != NULL && edit->sequence == t->sequence)
        edit->refused = true;
    pthread_mutex_unlock(&c->work->lock);
}

static bool in_head(const cm_part_variables *head, const char *name)
{
    char file[CM_FILE_NAME_MAX + 1];
    uint64_t index;

    cm_name_encode(name, ".pkl", file);
    return head != NULL && cm_part_variables_find(head, file, ".pkl", &index) == 0;
}

static int build(commit *c, cm_save *save)
{
    cm_part_variables *head cm_cleanup(cm_cleanup_part) = NULL;
    cm_node checkpoint;
    int result = cm_work_head(c->work->view, cm_node_place(CM_PLACE_SESSION, c->number, 0), &checkpoint, &head);

    c->effects = 0;
    for (size_t i = 0; i < c->count && result == 0; i++) {
        taken *t = &c->edits[i];
        if (t->left)
            continue;
        t->existed = in_head(head, t->variable);
        if (t->what == NULL) {
            result = cm_save_remove(save, t->variable);
            if (result == -ENOENT) {
                result = 0;
                t->existed = false;
                continue;
            }
        } else if (t->what->source != 0) {
            result = save_reference(c, save, t, t->what->source);
        } else {
            result = save_stream(c, save, t);
        }
        if (result < 0 && is_its_own(result)) {
            refuse(c, t);
            result = 0;
        } else if (result == 0) {
            c->effects++;
        }
    }
    return result;
}

/* "work: added a, b; changed c; removed d" */
static void describe(const commit *c, char *text, size_t room)
{
    static const char *const words[] = {"added", "changed", "removed"};
    size_t used = (size_t)snprintf(text, room, "work:");
    unsigned groups = 0;

    for (int group = 0; group < 3; group++) {
        size_t named = 0, all = 0;
        for (size_t i = 0; i < c->count; i++) {
            const taken *t = &c->edits[i];
            int of = t->what == NULL ? 2 : t->existed ? 1 : 0;
            if (t->left || of != group || (t->what == NULL && !t->existed) || all++ >= NAMES_MOST)
                continue;
            int n = named == 0 ? snprintf(text + used, room - used, "%s%s %s", groups > 0 ? "; " : " ", words[group],
                                          t->variable)
                               : snprintf(text + used, room - used, ", %s", t->variable);
            if (n > 0 && (size_t)n < room - used)
                used += (size_t)n;
            named++;
        }
        text[used] = '\0';
        if (all > named && named > 0) {
            int n = snprintf(text + used, room - used, " and %zu more", all - named);
            used += n > 0 && (size_t)n < room - used ? (size_t)n : 0;
            text[used] = '\0';
        }
        groups += named > 0;
    }
}

static int save_once(commit *c)
{
    char message[1024];
    cm_save *save = NULL;
    int result = cm_save_begin_edit(c->work->view->store, c->name, NULL, &save);

    if (result == 0)
        result = build(c, save);
    if (result == 0 && c->effects > 0) {
        describe(c, message, sizeof message);
        result = cm_save_commit(save, message, NULL);
        while (result == 0 && (result = cm_save_wait(save, WAIT_MS)) == -EAGAIN)
            result = 0;
    }
    cm_save_free(save);
    return result;
}

/*
 * A server that ends takes unfinished saves with it; the store starts another one, and the whole is repeated. So it is after a
 * collection.
 */
static int save_all(commit *c)
{
    int result = 0;

    for (int i = 0; i < LOST_TRIES; i++) {
        result = save_once(c);
        if (result != -ECONNRESET && result != -EPIPE && result != -ENOTCONN && result != -ECONNREFUSED &&
            result != -ESTALE)
            break;
        struct timespec pause = {0, LOST_WAIT_MS * MILLISECOND * (long)(i < 5 ? i + 1 : 5)};
        nanosleep(&pause, NULL);
    }
    return result;
}

/* ---- afterwards ------------------------------------------------------------------------------------------------------ */

static void drop_committed(commit *c)
{
    for (size_t i = 0; i < c->count; i++) {
        taken *t = &c->edits[i];
        if (t->left)
            continue;
        pthread_mutex_lock(&c->work->lock);
        size_t at;
        cm_work_session *session = cm_work_session_locked(c->work, c->number);
        cm_work_edit *edit = session != NULL ? cm_work_find_locked(session, t->file, &at) : NULL;
        if (edit != NULL && edit->sequence == t->sequence)
            cm_work_forget_locked(c->work, session, at);
        pthread_mutex_unlock(&c->work->lock);
        cm_work_note(c->work, c->number, t->file, NULL);
    }
}

/*
 * Telling waits for the kernel, which may wait for an answer from the very threads that serve it. So the committer tells, and whoever
 * made the commit waits for it, but not for ever.
 */
static void have_told(commit *c)
{
    struct timespec until;
    cm_work *work = c->work;

    if (work->committed == NULL || c->effects == 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)TELL_MS * MILLISECOND;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, c->number);
    uint64_t move = session != NULL ? ++session->moves : 0;
    pthread_cond_signal(&work->wake);
    while (session != NULL && session->told < move && !pthread_equal(pthread_self(), work->committer) &&
           pthread_cond_timedwait(&work->told, &work->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&work->lock);
}

/* The first session whose head has moved since that was told; NULL: none. */
static cm_work_session *find_moved_locked(const cm_work *work)
{
    for (size_t i = 0; i < work->session_count; i++)
        if (work->sessions[i]->told < work->sessions[i]->moves)
            return work->sessions[i];
    return NULL;
}

/* With the lock, which is given up meanwhile: a head may move again while its move is told. */
static void tell_moved(cm_work *work)
{
    cm_work_session *session;

    while ((session = find_moved_locked(work)) != NULL) {
        cm_node node = cm_node_place(CM_PLACE_SESSION, session->number, 0);
        cm_session_info info = {0};
        uint64_t moves = session->moves;
        pthread_mutex_unlock(&work->lock);
        if (cm_view_session(work->view, node, &info) == 0)
            work->committed(work->committed_arg, node, info.branch);
        cm_session_info_clear(&info);
        pthread_mutex_lock(&work->lock);
        session->told = moves;
        pthread_cond_broadcast(&work->told);
    }
}

static void note_failure(commit *c, int error)
{
    char text[1200];
    const char *said = cm_error_message();

    snprintf(text, sizeof text, "not committed: %s%s%s", strerror(-error), said[0] != '\0' ? ": " : "", said);
    for (size_t i = 0; i < c->count; i++)
        if (!c->edits[i].left)
            cm_work_note(c->work, c->number, c->edits[i].file, text);
    if (c->work->trouble != NULL)
        c->work->trouble(c->work->arg, text);
    pthread_mutex_lock(&c->work->lock);
    cm_work_session *session = cm_work_session_locked(c->work, c->number);
    if (session != NULL) {
        session->retry = cm_monotonic_ns() + (int64_t)RETRY_MS * MILLISECOND;
        session->first = session->last = session->last != 0 ? session->last : cm_monotonic_ns();
    }
    pthread_mutex_unlock(&c->work->lock);
}

int cm_work_commit(cm_work *work, uint64_t number)
{
    commit c = {.work = work, .number = number, .name = cm_view_session_name(work->view, number)};

    if (c.name == NULL)
        return -ENOENT;
    pthread_mutex_lock(&work->lock);
    cm_work_session *session = cm_work_session_locked(work, number);
    pthread_mutex_unlock(&work->lock);
    if (session == NULL)
        return -ENOMEM;
    pthread_mutex_lock(&session->commit_lock);
    int result = take(&c);
    if (result == 0 && c.count > 0) {
        settle(&c);
        size_t ready = 0;
        for (size_t i = 0; i < c.count; i++)
            ready += !c.edits[i].left;
        result = ready > 0 ? save_all(&c) : 0;
        if (result < 0)
            note_failure(&c, result);
        else
            drop_committed(&c);
    }
    give_back(&c);
    pthread_mutex_unlock(&session->commit_lock);
    if (result == 0)
        have_told(&c);
    return result;
}

/* ---- the thread that commits ------------------------------------------------------------------------------------------ */

/* When the next session is due; INT64_MAX: none has changed. */
static int64_t next_due_locked(const cm_work *work, uint64_t *number)
{
    int64_t next = INT64_MAX;

    for (size_t i = 0; i < work->session_count; i++) {
        const cm_work_session *session = work->sessions[i];
        if (session->first == 0)
            continue;
        int64_t quiet = session->last + (int64_t)CM_WORK_QUIET_MS * MILLISECOND;
        int64_t latest = session->first + (int64_t)CM_WORK_LATEST_MS * MILLISECOND;
        int64_t due = quiet < latest ? quiet : latest;
        due = due > session->retry ? due : session->retry;
        if (due < next) {
            next = due;
            *number = session->number;
        }
    }
    return next;
}

void *cm_work_committer(void *arg)
{
    cm_work *work = arg;

    pthread_mutex_lock(&work->lock);
    while (!work->ending) {
        tell_moved(work);
        uint64_t number = 0;
        int64_t due = next_due_locked(work, &number), now = cm_monotonic_ns();
        if (due == INT64_MAX) {
            pthread_cond_wait(&work->wake, &work->lock);
        } else if (due > now) {
            struct timespec until = {.tv_sec = (time_t)(due / 1000000000), .tv_nsec = (long)(due % 1000000000)};
            pthread_cond_timedwait(&work->wake, &work->lock, &until);
        } else {
            pthread_mutex_unlock(&work->lock);
            /* A failure is in .errors, in the log, and the next fsync's. */
            (void)!cm_work_commit(work, number);
            pthread_mutex_lock(&work->lock);
        }
    }
    pthread_mutex_unlock(&work->lock);
    return NULL;
}

int cm_work_sync(cm_work *work, cm_node directory)
{
    int result = 0;

    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&work->lock);
        uint64_t number = i < work->session_count ? work->sessions[i]->number : 0;
        pthread_mutex_unlock(&work->lock);
        if (number == 0)
            return result;
        if (directory != 0 && cm_node_session(directory) != number)
            continue;
        int error = cm_work_commit(work, number);
        if (result == 0)
            result = error;
    }
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

int cm_work_new(cm_view *view, void (*trouble)(void *arg, const char *message), void *arg, cm_work **result)
{
    pthread_condattr_t clock;
    cm_work *work = calloc(1, sizeof *work);

    if (work == NULL)
        return -ENOMEM;
    work->view = view;
    work->trouble = trouble;
    work->arg = arg;
    pthread_mutex_init(&work->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&work->wake, &clock);
    pthread_cond_init(&work->told, &clock);
    pthread_condattr_destroy(&clock);
    int error = -pthread_create(&work->committer, NULL, cm_work_committer, work);
    if (error < 0) {
        pthread_cond_destroy(&work->told);
        pthread_cond_destroy(&work->wake);
        pthread_mutex_destroy(&work->lock);
        free(work);
        return error;
    }
    view->work = work;
    *result = work;
    return 0;
}

void cm_work_on_commit(cm_work *work, void (*committed)(void *arg, cm_node session, const char *branch), void *arg)
{
    work->committed = committed;
    work->committed_arg = arg;
}

void cm_work_free(cm_work *work)
{
    if (work == NULL)
        return;
    pthread_mutex_lock(&work->lock);
    work->ending = true;
    pthread_cond_signal(&work->wake);
    pthread_mutex_unlock(&work->lock);
    pthread_join(work->committer, NULL);
    for (size_t i = 0; i < work->session_count; i++) {
        cm_work_session *session = work->sessions[i];
        while (session->count > 0) {
            pthread_mutex_lock(&work->lock);
            cm_work_forget_locked(work, session, session->count - 1);
            pthread_mutex_unlock(&work->lock);
        }
        for (size_t k = 0; k < session->error_count; k++) {
            free(session->errors[k].file);
            free(session->errors[k].text);
        }
        free(session->edits);
        pthread_mutex_destroy(&session->commit_lock);
        free(session);
    }
    free(work->sessions);
    work->view->work = NULL;
    pthread_cond_destroy(&work->told);
    pthread_cond_destroy(&work->wake);
    pthread_mutex_destroy(&work->lock);
    free(work);
}
