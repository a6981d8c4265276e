/* SPDX-License-Identifier: Apache-2.0 */
/* save.c - the life of a save: begin, variables, wait, free. */
#include "save_internal.h"

#include "checkpoint.h"
#include "refs.h"

#include <time.h>

int64_t cm_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void *cm_save_alloc(cm_save *save, size_t size)
{
    enum { ROOM = 32 << 10, ALIGNMENT = _Alignof(max_align_t) };
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    cm_room *room = save->room;
    if (!room || size > room->size - room->used) {
        size_t fresh = size > ROOM ? size : ROOM;
        room = calloc(1, sizeof *room + fresh);
        if (!room)
            return NULL;
        room->size = fresh;
        room->next = save->room;
        save->room = room;
    }
    void *found = room->bytes + room->used;
    room->used += size;
    return found;
}

static void free_rooms(cm_save *save)
{
    while (save->room) {
        cm_room *next = save->room->next;
        free(save->room);
        save->room = next;
    }
}

static char *keep_text(cm_save *save, const char *text)
{
    size_t size = strlen(text) + 1;
    char *kept = cm_save_alloc(save, size);
    return kept ? memcpy(kept, text, size) : NULL;
}

static void init_sync(cm_save *save)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&save->lock, NULL);
    pthread_cond_init(&save->work, NULL);
    pthread_cond_init(&save->progress, NULL);
    pthread_cond_init(&save->finished, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_rwlockattr_t writers_first; /* who waits to detach is in somebody's way */
    pthread_rwlockattr_init(&writers_first);
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&save->memory, &writers_first);
    pthread_rwlockattr_destroy(&writers_first);
}

int cm_save_open_head(cm_save *save, const cm_refs *refs)
{
    int result = cm_head_read_on(save->store, refs, save->session, save->branch, save->head);
    return result ? result : cm_head_parent(save->store, refs, save->session, save->head, &save->parent);
}

int cm_save_begin(cm_store *store, const char *session, cm_save **save)
{
    return cm_save_begin_on(store, session, NULL, save);
}

/* A save that nothing was asked of the store for yet. */
static int make(cm_store *store, const char *session, const char *branch, cm_save **out)
{
    int result = cm_name_check("session", session);
    if (!result && branch)
        result = cm_ref_name_check("branch", branch);
    if (result)
        return result;
    cm_save *save = calloc(1, sizeof *save);
    if (!save)
        return cm_fail(ENOMEM, "out of memory");
    init_sync(save);
    save->store = cm_store_ref(store);
    save->session = strdup(session);
    save->branch = branch ? strdup(branch) : NULL;
    save->head = calloc(1, sizeof *save->head);
    save->pending = cm_known_new();
    save->watched_end = &save->watched;
    save->begin_ns = cm_now_ns();
    if (save->session && save->head && save->pending && (save->branch || !branch)) {
        *out = save;
        return 0;
    }
    cm_save_free(save);
    return cm_fail(ENOMEM, "out of memory");
}

/* From here on no other save of the store goes on. As a rule the head is where the last save has put it. */
static int open_transaction(cm_save *save)
{
    cm_store *store = save->store;
    int result = cm_store_enter(store);
    save->entered = result == 0;
    if (result)
        return result;
    cm_cleanup(cm_refs_clear) cm_refs refs = {.count = 0};
    bool same = store->recent && strcmp(store->recent->session, save->session) == 0;
    const char *branch = !save->branch && same ? store->recent_branch : save->branch;
    cm_head_guess(&refs, save->session, branch, same ? store->recent->number : 0);
    result = cm_refs_begin(store, &refs, &save->txn, &save->epoch);
    return result ? result : cm_save_open_head(save, &refs);
}

static void enter_epoch(cm_save *save)
{
    cm_known_enter(save->pending, save->epoch);
    cm_watch_begin(save->store->watch, save->epoch);
}

int cm_save_begin_on(cm_store *store, const char *session, const char *branch, cm_save **out)
{
    cm_save *save;
    int result = make(store, session, branch, &save);
    if (result)
        return result;
    result = open_transaction(save);
    if (result) {
        cm_save_free(save);
        return result;
    }
    cm_known_enter(store->known, save->epoch);
    enter_epoch(save);
    *out = save;
    return 0;
}

int cm_save_begin_later(cm_store *store, const char *session, const char *branch, cm_save **out)
{
    int result = make(store, session, branch, out);
    if (result)
        return result;
    (*out)->held = true;
    (*out)->epoch = cm_known_epoch(store->known); /* cm_save_start sees whether that was right */
    enter_epoch(*out);
    return 0;
}

int cm_save_begin_edit(cm_store *store, const char *session, const char *branch, cm_save **save)
{
    int result = cm_save_begin_on(store, session, branch, save);
    if (!result)
        (*save)->edit = true;
    return result;
}

int cm_save_variable_begin(cm_save *save, const char *name)
{
    if (save->variable_name)
        return cm_fail(EINVAL, "variable '%s' was not ended", save->variable_name);
    save->variable_name = keep_text(save, name);
    save->variable_first = save->pod_count;
    return save->variable_name ? 0 : cm_fail(ENOMEM, "out of memory");
}

int cm_save_variable_end(cm_save *save, const cm_pod *pod, uint32_t index, const char *type, const char *summary)
{
    if (!save->variable_name)
        return cm_fail(EINVAL, "no variable was begun");
    if (!pod->finished)
        return cm_fail(EINVAL, "the pod of variable '%s' is not finished", save->variable_name);
    if (!cm_grow(&save->variables, save->variable_count, &save->variable_capacity, sizeof *save->variables))
        return cm_fail(ENOMEM, "out of memory");
    cm_saved_variable *v = &save->variables[save->variable_count];
    *v = (cm_saved_variable){.name = save->variable_name,
                             .type = keep_text(save, type ? type : ""),
                             .summary = keep_text(save, summary ? summary : ""),
                             .pod = pod,
                             .index = index == CM_INDEX_ROOT ? pod->root : index,
                             .first_pod = save->variable_first,
                             .end_pod = save->pod_count,
                             .picture = CM_BUFFER_INIT};
    save->variable_count++;
    save->variable_name = NULL;
    return v->type && v->summary ? 0 : cm_fail(ENOMEM, "out of memory");
}

int cm_save_preview(cm_save *save, const char *name, const char *media_type, const void *data, size_t size)
{
    static const uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    cm_saved_variable *found = NULL;
    for (size_t i = save->variable_count; i > 0 && !found; i--)
        if (strcmp(save->variables[i - 1].name, name) == 0)
            found = &save->variables[i - 1];
    if (save->committer_started || !found)
        return cm_fail(save->committer_started ? EINVAL : ENOENT, "no preview can be given of '%s': it %s", name,
                       save->committer_started ? "is being written" : "was not built");
    if (strcmp(media_type, "image/png") != 0 || size < sizeof signature ||
        memcmp(data, signature, sizeof signature) != 0)
        return cm_fail(EINVAL, "the preview of '%s' is not a PNG (%s)", name, media_type);
    if (size > CM_PREVIEW_MOST)
        return cm_fail(EFBIG, "the preview of '%s' has %zu bytes; at most %d are kept", name, size, CM_PREVIEW_MOST);
    cm_buffer_clear(&found->picture);
    cm_buffer_append(&found->picture, data, size);
    return found->picture.error ? cm_fail(ENOMEM, "out of memory for a preview") : 0;
}

void cm_saved_variable_clear(cm_saved_variable *v)
{
    cm_buffer_free(&v->picture);
}

void cm_save_variable_cancel(cm_save *save)
{
    for (uint32_t i = save->variable_first; save->variable_name && i < save->pod_count; i++)
        save->pods[i]->finished = false; /* out of the page map */
    save->variable_name = NULL;
    /* Its pods stay in memory, and what the workers already wrote stays in the store, until the save is freed and gc
     * runs: nothing refers to them. A page they took stays taken for this save. */
}

int cm_save_unsaved(cm_save *save, const char *name, const char *reason)
{
    if (!cm_grow(&save->unsaved, save->unsaved_count, &save->unsaved_capacity, sizeof *save->unsaved))
        return cm_fail(ENOMEM, "out of memory");
    cm_unsaved *u = &save->unsaved[save->unsaved_count++];
    *u = (cm_unsaved){strdup(name), strdup(reason)};
    return u->name && u->reason ? 0 : cm_fail(ENOMEM, "out of memory");
}

int cm_save_list_unsaved(const cm_save *save, cm_unsaved_visitor visit, void *arg)
{
    int result = 0;
    for (size_t i = 0; i < save->unsaved_count && !result; i++)
        result = visit(arg, save->unsaved[i].name, save->unsaved[i].reason);
    return result;
}

int cm_save_set_cell(cm_save *save, const cm_cell *cell)
{
    if (save->cell || save->committer_started)
        return cm_fail(EINVAL, "the cell of a save was set twice, or too late");
    save->cell = malloc(sizeof *save->cell);
    if (!save->cell)
        return cm_fail(ENOMEM, "out of memory");
    *save->cell = *cell;
    save->cell->error = cell->error && *cell->error ? strdup(cell->error) : NULL;
    return cell->error && *cell->error && !save->cell->error ? cm_fail(ENOMEM, "out of memory") : 0;
}

void cm_save_if_changed(cm_save *save)
{
    save->if_changed = true;
}

void cm_save_behind(cm_save *save)
{
    save->behind = true;
}

int cm_save_start(cm_save *save)
{
    if (!save->held)
        return cm_fail(EINVAL, "only a save that was begun for later is started");
    uint64_t epoch = save->epoch;
    int result = open_transaction(save);
    if (!result && save->epoch != epoch)
        result = cm_fail(ESTALE, "objects were removed from the store while the save waited for its turn");
    if (result)
        return result;
    save->held = false;
    if (save->detached_ns)
        save->begin_ns += cm_now_ns() - save->detached_ns; /* waiting is neither walking nor writing */
    return 0;
}

int cm_save_commit(cm_save *save, const char *message, const char *code)
{
    if (save->committer_started || save->held)
        return cm_fail(EINVAL, "the save was %s", save->held ? "not started" : "committed already");
    save->commit_ns = cm_now_ns();
    save->message = message ? strdup(message) : NULL;
    save->code = code ? strdup(code) : NULL;
    if ((message && !save->message) || (code && !save->code))
        return cm_fail(ENOMEM, "out of memory");
    cm_save_start_workers(save); /* for what none was started for yet; the committer ends them, so not beside it */
    int error = pthread_create(&save->committer, NULL, cm_save_committer, save);
    if (error)
        return cm_fail(error, "no thread for writing the checkpoint could be started");
    save->committer_started = true;
    return 0;
}

int cm_save_wait(cm_save *save, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&save->lock);
    int timed_out = timeout_ms <= 0; /* even a wait of no time gives the processor away */
    while (save->state != CM_SAVE_DONE && !timed_out)
        timed_out = pthread_cond_timedwait(&save->finished, &save->lock, &until);
    int result = save->state != CM_SAVE_DONE ? -EAGAIN : save->error;
    if (save->state == CM_SAVE_DONE && result)
        cm_fail(-result, "%s", save->error_message ? save->error_message : "the save failed");
    pthread_mutex_unlock(&save->lock);
    return result;
}

uint64_t cm_save_epoch(const cm_save *save)
{
    return save->epoch;
}

cm_checkpoint *cm_save_checkpoint(cm_save *save)
{
    return save->checkpoint ? cm_checkpoint_ref(save->checkpoint) : NULL;
}

int cm_save_cancel(cm_save *save)
{
    pthread_mutex_lock(&save->lock);
    if (!save->irrevocable)
        save->cancelled = true;
    pthread_cond_broadcast(&save->work);
    pthread_cond_broadcast(&save->progress);
    pthread_mutex_unlock(&save->lock);
    cm_save_stop_workers(save);
    if (save->committer_started)
        pthread_join(save->committer, NULL);
    save->committer_started = false;
    return save->checkpoint ? 0 : -ECANCELED;
}

/* After the commit: what was hashed need not be read again until it is written to. */
static void learn_chunks(cm_save *save)
{
    cm_store *store = save->store;
    if (!save->watched || !cm_watch_check(store->watch))
        return;
    for (const cm_source *source = save->watched; source; source = source->next_watched) {
        cm_watch_lesson lesson = {.ids = source->chunks,
                                  .root = source->root,
                                  .stored = atomic_load_explicit(&source->stored, memory_order_relaxed)};
        memcpy(lesson.edges, source->edges, sizeof lesson.edges);
        cm_watch_learn(store->watch, source->memory, source->size, source->look, &lesson, store->known);
    }
}

void cm_save_free(cm_save *save)
{
    if (!save)
        return;
    (void)!cm_save_cancel(save); /* once it is committed, that does nothing */
    if (save->txn)
        save->store->backend->ops->abort(save->txn);
    if (save->checkpoint && !save->unchanged)
        cm_known_merge(save->store->known, save->pending);
    if (save->checkpoint)
        learn_chunks(save);
    cm_known_free(save->pending);
    for (uint32_t i = 0; i < save->pod_count; i++)
        cm_pod_clear(save->pods[i]);
    for (size_t i = 0; i < save->variable_count; i++)
        cm_saved_variable_clear(&save->variables[i]);
    for (size_t i = 0; i < save->unsaved_count; i++) {
        free(save->unsaved[i].name);
        free(save->unsaved[i].reason);
    }
    cm_checkpoint_unref(save->checkpoint);
    cm_checkpoint_unref(save->parent);
    if (save->head)
        cm_head_clear(save->head);
    if (save->entered)
        cm_store_leave(save->store);
    cm_store_unref(save->store);
    free(save->head);
    free(save->pods);
    free(save->pages);
    free(save->variables);
    free(save->unsaved);
    cm_save_clear_carried(save);
    free_rooms(save);
    free(save->queue);
    free(save->session);
    free(save->branch);
    free(save->message);
    free(save->code);
    if (save->cell)
        free((char *)save->cell->error);
    free(save->cell);
    free(save->error_message);
    pthread_mutex_destroy(&save->lock);
    pthread_rwlock_destroy(&save->memory);
    pthread_cond_destroy(&save->work);
    pthread_cond_destroy(&save->progress);
    pthread_cond_destroy(&save->finished);
    free(save);
}
