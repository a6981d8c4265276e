/* SPDX-License-Identifier: Apache-2.0 */
#include "view.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "parts.h"

enum { DEFAULT_CACHE_BYTES = 64 << 20, CACHE_COUNT = 1024 };

/* ---- the view itself --------------------------------------------------------------------------------------------- */

/* The file that makes a directory a store is written once. 0: there is none. */
static int64_t time_made(cm_store *store)
{
    char path[PATH_MAX];
    struct stat found;

    if (snprintf(path, sizeof path, "%s/CHIPMINK", cm_store_path(store)) >= (int)sizeof path || stat(path, &found) < 0)
        return 0;
    return (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec;
}

int cm_view_new(cm_store *store, size_t cache, cm_view **result)
{
    cm_view *view = calloc(1, sizeof *view);

    if (view == NULL)
        return -ENOMEM;
    int error = cm_cache_new(cache != 0 ? cache : DEFAULT_CACHE_BYTES, CACHE_COUNT, &view->cache);
    if (error < 0) {
        free(view);
        return error;
    }
    pthread_mutex_init(&view->lock, NULL);
    pthread_mutex_init(&view->refresh_lock, NULL);
    pthread_mutex_init(&view->statistics_lock, NULL);
    pthread_mutex_init(&view->moments_lock, NULL);
    view->refreshed = cm_monotonic_ns();
    view->store = cm_store_ref(store);
    view->made = time_made(store);
    *result = view;
    return 0;
}

void cm_view_free(cm_view *view)
{
    if (view == NULL)
        return;
    cm_cached_unref(view->statistics);
    cm_cache_free(view->cache);
    for (size_t i = 0; i < view->session_count; i++)
        free(view->sessions[i]);
    free(view->sessions);
    for (size_t i = 0; i < view->moments_count; i++)
        free(view->moments[i].times);
    free(view->moments);
    pthread_mutex_destroy(&view->moments_lock);
    pthread_mutex_destroy(&view->statistics_lock);
    pthread_mutex_destroy(&view->refresh_lock);
    pthread_mutex_destroy(&view->lock);
    cm_store_unref(view->store);
    free(view);
}

int cm_view_show_session(cm_view *view, const char *session)
{
    cm_session_info info = {0};
    int result = cm_session_get(view->store, session, &info);

    cm_session_info_clear(&info);
    return result < 0 ? result : cm_view_session_number(view, session, &view->only);
}

bool cm_view_is_root(const cm_view *view, cm_node session)
{
    return view->only != 0 && cm_node_session(session) == view->only;
}

cm_store *cm_view_store(cm_view *view)
{
    return view->store;
}

size_t cm_view_cache_bytes(cm_view *view)
{
    return cm_cache_bytes(view->cache);
}

int64_t cm_monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void cm_view_on_trouble(cm_view *view, void (*trouble)(void *arg, const char *message), void *arg)
{
    view->trouble = trouble;
    view->trouble_arg = arg;
}

void cm_view_catch_up(cm_view *view)
{
    if (cm_monotonic_ns() - __atomic_load_n(&view->refreshed, __ATOMIC_RELAXED) < CM_VIEW_AGE_NS)
        return;
    pthread_mutex_lock(&view->refresh_lock);
    int64_t now = cm_monotonic_ns();
    if (now - view->refreshed >= CM_VIEW_AGE_NS) {
        /* What was there before is still there and whole, so a failure is told and the old state shown. */
        if (cm_store_refresh(view->store) < 0 && view->trouble != NULL)
            view->trouble(view->trouble_arg, cm_error_message());
        /* What was committed before the refresh began is seen; nothing is claimed for what came during it. */
        __atomic_store_n(&view->refreshed, now, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&view->refresh_lock);
}

int cm_view_session_number(cm_view *view, const char *name, uint64_t *number)
{
    int result = 0;

    pthread_mutex_lock(&view->lock);
    size_t i = 0;
    while (i < view->session_count && strcmp(view->sessions[i], name) != 0)
        i++;
    if (i == view->session_count) {
        if (i == view->session_room) {
            size_t room = i == 0 ? 16 : i * 2;
            char **more = realloc(view->sessions, room * sizeof *more);
            if (more != NULL) {
                view->sessions = more;
                view->session_room = room;
            }
        }
        char *copy = i < view->session_room ? strdup(name) : NULL;
        if (i + 1 > CM_NODE_SESSION_MAX)
            result = -EOVERFLOW;
        else if (copy == NULL)
            result = -ENOMEM;
        else
            view->sessions[view->session_count++] = copy;
        if (result < 0)
            free(copy);
    }
    pthread_mutex_unlock(&view->lock);
    *number = i + 1;
    return result;
}

const char *cm_view_session_name(cm_view *view, uint64_t number)
{
    const char *name = NULL;

    pthread_mutex_lock(&view->lock);
    if (number >= 1 && number <= view->session_count)
        name = view->sessions[number - 1];
    pthread_mutex_unlock(&view->lock);
    return name;
}

static size_t size_slot(cm_node node)
{
    return (size_t)((node * UINT64_C(0x9e3779b97f4a7c15)) >> 52) % CM_VIEW_SIZES;
}

bool cm_view_known_size(cm_view *view, cm_node node, uint64_t *size)
{
    size_t slot = size_slot(node);

    pthread_mutex_lock(&view->lock);
    bool known = view->sizes[slot].node == node;
    *size = view->sizes[slot].size;
    pthread_mutex_unlock(&view->lock);
    return known;
}

void cm_view_remember_size(cm_view *view, cm_node node, uint64_t size)
{
    size_t slot = size_slot(node);

    pthread_mutex_lock(&view->lock);
    view->sizes[slot].node = node;
    view->sizes[slot].size = size;
    pthread_mutex_unlock(&view->lock);
}

void cm_view_note_opened(cm_view *view, cm_node pickle)
{
    bool known = false;

    pthread_mutex_lock(&view->lock);
    for (size_t i = 0; i < CM_VIEW_OPENED && !known; i++)
        known = view->opened[i] == pickle;
    if (!known)
        view->opened[view->opened_count++ % CM_VIEW_OPENED] = pickle;
    pthread_mutex_unlock(&view->lock);
}

size_t cm_view_opened(cm_view *view, cm_node pickles[CM_VIEW_OPENED])
{
    pthread_mutex_lock(&view->lock);
    size_t count = view->opened_count < CM_VIEW_OPENED ? view->opened_count : CM_VIEW_OPENED;
    for (size_t i = 0; i < count; i++)
        pickles[i] = view->opened[(view->opened_count - 1 - i) % CM_VIEW_OPENED];
    pthread_mutex_unlock(&view->lock);
    return count;
}

static size_t object_slot(const cm_id *id)
{
    return (size_t)(cm_node_id_bits(id) >> 1) % CM_VIEW_OBJECTS;
}

void cm_view_remember_object(cm_view *view, const cm_id *id, const cm_object_info *info)
{
    size_t slot = object_slot(id);

    pthread_mutex_lock(&view->lock);
    bool known = info == NULL && cm_id_equal(&view->objects[slot].id, id);
    view->objects[slot].id = *id;
    if (!known)
        view->objects[slot].info = info != NULL ? *info : (cm_object_info){.kind = 0};
    pthread_mutex_unlock(&view->lock);
}

bool cm_view_recall_object(cm_view *view, cm_node node, cm_id *id, cm_object_info *info)
{
    unsigned bits;
    cm_id prefix = cm_node_id_prefix(node, &bits);
    size_t slot = object_slot(&prefix);

    pthread_mutex_lock(&view->lock);
    *id = view->objects[slot].id;
    *info = view->objects[slot].info;
    pthread_mutex_unlock(&view->lock);
    unsigned shift = CM_NODE_ID_BITS - bits;
    return cm_node_id_bits(id) >> shift == cm_node_id_bits(&prefix) >> shift;
}
