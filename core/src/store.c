/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include "checkpoint.h"
#include "remote.h"
#include "store_dir.h"
#include "tree.h"

#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

int cm_store_default_path(char **path)
{
    const char *named = getenv("CHIPMINK_STORE");
    if (named && *named) {
        if (*named == '/') {
            *path = strdup(named);
        } else {
            char here[PATH_MAX];
            if (!getcwd(here, sizeof here))
                return cm_fail(errno, "$CHIPMINK_STORE is relative and the working directory is not there");
            if (asprintf(path, "%s/%s", here, named) < 0)
                *path = NULL;
        }
    } else {
        const char *home = getenv("HOME");
        const struct passwd *user = home && *home ? NULL : getpwuid(getuid());
        if (user)
            home = user->pw_dir;
        if (!home || !*home)
            return cm_fail(ENOENT, "no home directory: set CHIPMINK_STORE to the directory of the store");
        if (asprintf(path, "%s/.chipmink", home) < 0)
            *path = NULL;
    }
    return *path ? 0 : cm_fail(ENOMEM, "out of memory");
}

static int wrap(cm_backend *backend, const char *path, unsigned flags, cm_store **out)
{
    cm_store *store = calloc(1, sizeof *store);
    if (store) {
        store->path = strdup(path);
        store->known = cm_known_new();
        store->fingerprints = cm_fingerprints_new();
        store->places = cm_fingerprints_new();
        store->tree_nodes = cm_tree_nodes_new();
        store->watch = store->fingerprints ? cm_watch_new(store->fingerprints) : NULL;
        store->sights = cm_sights_new();
    }
    if (!store || !store->path || !store->known || !store->fingerprints || !store->places || !store->tree_nodes ||
        !store->watch || !store->sights) {
        if (store) {
            free(store->path);
            cm_known_free(store->known);
            cm_watch_free(store->watch);
            cm_sights_free(store->sights);
            cm_fingerprints_free(store->fingerprints);
            cm_fingerprints_free(store->places);
            cm_tree_nodes_free(store->tree_nodes);
        }
        free(store);
        backend->ops->close(backend);
        return cm_fail(ENOMEM, "out of memory opening %s", path);
    }
    atomic_init(&store->references, 1);
    store->backend = backend;
    store->flags = flags;
    pthread_mutex_init(&store->save_lock, NULL);
    pthread_cond_init(&store->save_done, NULL);
    *out = store;
    return 0;
}

int cm_store_open(const char *path, unsigned flags, cm_store **store)
{
    cm_backend *backend;
    int result = cm_backend_rocksdb_open(path, flags, &backend);
    return result ? result : wrap(backend, path, flags, store);
}

int cm_store_connect(const char *path, unsigned flags, const char *command, cm_store **store)
{
    cm_backend *backend;
    cm_cleanup(cm_cleanup_free) char *absolute = NULL;
    bool fresh;
    int result = cm_store_dir_prepare(path, flags, &absolute, &fresh); /* says what is wrong before a server has to */
    if (!result)
        result = cm_backend_remote_open(absolute, flags, command, &backend);
    return result ? result : wrap(backend, absolute, flags, store);
}

int cm_store_control(cm_store *store, int argc, const char *const *argv, char **reply)
{
    if (!cm_backend_is_remote(store->backend))
        return cm_fail(ENOTSUP, "%s is open without a server", store->path);
    return cm_remote_control(store->backend, argc, argv, reply);
}

/* The checkpoint of a snapshot is the one object of that kind in it. */
static int find_checkpoint(void *arg, const cm_id *id, const cm_object_info *info)
{
    cm_store *store = arg;
    if (info->kind != CM_KIND_CHECKPOINT)
        return 0;
    if (store->is_snapshot)
        return cm_fail(EINVAL, "%s holds the objects of more than one checkpoint", store->path);
    store->snapshot = *id;
    store->is_snapshot = true;
    return 0;
}

int cm_store_open_snapshot(const char *directory, const cm_id *checkpoint, cm_store **out)
{
    cm_backend *backend;
    int result = cm_backend_snapshot_open(directory, &backend);
    if (result)
        return result;
    cm_store *store;
    result = wrap(backend, directory, CM_OPEN_READ, &store);
    if (result)
        return result;
    if (checkpoint) {
        store->snapshot = *checkpoint;
        store->is_snapshot = true;
    } else {
        result = cm_object_list(store, NULL, 0, find_checkpoint, store);
    }
    if (!result && !store->is_snapshot)
        result = cm_fail(ENOENT, "%s/pods holds no checkpoint: copy a whole checkpoint directory", directory);
    if (result) {
        cm_store_unref(store);
        return result;
    }
    *out = store;
    return 0;
}

cm_store *cm_store_ref(cm_store *store)
{
    atomic_fetch_add_explicit(&store->references, 1, memory_order_relaxed);
    return store;
}

void cm_store_unref(cm_store *store)
{
    if (!store || atomic_fetch_sub_explicit(&store->references, 1, memory_order_acq_rel) != 1)
        return;
    cm_checkpoint_forget(store);
    store->backend->ops->close(store->backend);
    pthread_mutex_destroy(&store->save_lock);
    pthread_cond_destroy(&store->save_done);
    cm_known_free(store->known);
    cm_watch_free(store->watch);
    cm_sights_free(store->sights);
    cm_fingerprints_free(store->fingerprints);
    cm_fingerprints_free(store->places);
    cm_tree_nodes_free(store->tree_nodes);
    free(store->path);
    free(store);
}

int cm_store_enter(cm_store *store)
{
    if (!cm_store_writable(store))
        return cm_fail(EROFS, "%s is open for reading only", store->path);
    int result = 0;
    pthread_mutex_lock(&store->save_lock);
    if (store->saving && pthread_equal(store->saver, pthread_self()))
        result = cm_fail(EDEADLK, "a save to %s is in progress on this thread: finish it first", store->path);
    while (!result && store->saving)
        pthread_cond_wait(&store->save_done, &store->save_lock);
    if (!result) {
        store->saving = true;
        store->saver = pthread_self();
    }
    pthread_mutex_unlock(&store->save_lock);
    return result;
}

void cm_store_leave(cm_store *store)
{
    pthread_mutex_lock(&store->save_lock);
    store->saving = false;
    pthread_cond_signal(&store->save_done);
    pthread_mutex_unlock(&store->save_lock);
}

const char *cm_store_path(const cm_store *store)
{
    return store->path;
}

bool cm_store_writable(const cm_store *store)
{
    return store->backend->ops->writable && (store->flags & CM_OPEN_WRITE);
}

int cm_store_refresh(cm_store *store)
{
    return store->backend->ops->refresh ? store->backend->ops->refresh(store->backend) : 0;
}

static int count_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)id;
    cm_store_stat *stat = arg;
    stat->objects++;
    stat->raw_bytes += info->size;
    stat->stored_bytes += info->stored;
    if (info->kind == CM_KIND_CHECKPOINT)
        stat->checkpoints++;
    return 0;
}

static int count_session(void *arg, const char *name, uint64_t number)
{
    (void)name;
    (void)number;
    ((cm_store_stat *)arg)->sessions++;
    return 0;
}

int cm_store_statistics(cm_store *store, cm_store_stat *stat)
{
    *stat = (cm_store_stat){0};
    int result = cm_object_list(store, NULL, 0, count_object, stat);
    if (!result)
        result = cm_session_list(store, count_session, stat);
    if (!result && store->backend->ops->disk_bytes)
        result = store->backend->ops->disk_bytes(store->backend, &stat->disk_bytes);
    return result;
}

void cm_store_watching(cm_store *store, cm_watch_stat *stat)
{
    cm_watch_statistics(store->watch, stat);
}
