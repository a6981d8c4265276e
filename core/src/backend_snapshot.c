/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend_snapshot.c - a directory of files named by content id, `pods/<64 hex digits>`, as a read-only backend: a
 * checkpoint directory of the mount, or a copy of one. The files hold contents; records are made from them when read,
 * after the content was checked against its name, for such files come from anywhere.
 */
#include "backend.h"
#include "codec.h"
#include "error.h"
#include "id.h"
#include "store_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct snapshot {
    cm_backend base;
    char *path;
    int pods; /* descriptor of the directory of files */
} snapshot;

static snapshot *of(cm_backend *backend)
{
    return (snapshot *)backend;
}

static void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* ---- one object -------------------------------------------------------------------------------------------------- */

/* -ENOENT without a sentence: no such file. */
static int open_object(const snapshot *s, const char *hex, int *fd, size_t *size)
{
    struct stat st;
    *fd = openat(s->pods, hex, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to hang on a FIFO of that name */
    if (*fd < 0 && errno == ENOENT)
        return -ENOENT;
    if (*fd < 0 || fstat(*fd, &st) < 0) {
        int error = errno;
        return cm_fail(error, "cannot open %s/pods/%s: %s", s->path, hex, strerror(error));
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || st.st_size > CM_RECORD_MOST)
        return cm_fail(EILSEQ, "%s/pods/%s is no object: not a regular file, or too large", s->path, hex);
    *size = (size_t)st.st_size;
    return 0;
}

static int read_fully(const snapshot *s, const char *hex, int fd, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)data + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            return cm_fail(error, "cannot read %s/pods/%s: %s", s->path, hex, strerror(error));
        }
        if (n == 0)
            return cm_fail(EILSEQ, "%s/pods/%s was cut short while it was read", s->path, hex);
        done += (size_t)n;
    }
    return 0;
}

/* As open_object. */
static int read_content(const snapshot *s, const cm_id *id, cm_buffer *content)
{
    char hex[CM_ID_HEX + 1];
    cm_id_hex(id, hex);
    int fd cm_cleanup(cleanup_close) = -1;
    size_t size = 0;
    int result = open_object(s, hex, &fd, &size);
    if (result < 0)
        return result;
    cm_buffer_clear(content);
    if (size > 0 && !cm_buffer_extend(content, size))
        return cm_fail(ENOMEM, "out of memory for an object of %zu bytes", size);
    result = read_fully(s, hex, fd, content->data, size);
    if (result < 0)
        return result;
    cm_id really;
    result = cm_id_of(content->data, size, &really);
    if (result == 0 && !cm_id_equal(&really, id))
        result =
            cm_fail(EILSEQ, "%s/pods/%s is damaged: its content does not match its name; copy it again", s->path, hex);
    return result;
}

/* What can be told of an object of `size` bytes from the first of them. */
static cm_object_info object_info(const void *start, size_t have, uint64_t size)
{
    return (cm_object_info){.kind = (uint8_t)cm_kind_guess(start, have), .size = size, .stored = size};
}

static int snapshot_get(cm_backend *backend, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg)
{
    cm_buffer content cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    cm_buffer record cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++) {
        cm_object_info info = {0};
        result = read_content(of(backend), &ids[i], &content);
        if (result == -ENOENT) {
            result = visit(arg, i, NULL, 0, &info);
            continue;
        }
        if (result == 0)
            result = cm_record_encode(0, content.data, content.size, &record);
        if (result == 0) {
            info = object_info(content.data, content.size, content.size);
            result = visit(arg, i, record.data, record.size, &info);
        }
    }
    return result;
}

/* By the first bytes of the file; the whole is checked when it is read. */
static int find_one(const snapshot *s, const cm_id *id, cm_object_info *info)
{
    char hex[CM_ID_HEX + 1];
    cm_id_hex(id, hex);
    *info = (cm_object_info){0};
    int fd cm_cleanup(cleanup_close) = -1;
    size_t size = 0;
    int result = open_object(s, hex, &fd, &size);
    if (result < 0)
        return result == -ENOENT ? 0 : result;
    uint8_t start[16] = {0};
    size_t have = size < sizeof start ? size : sizeof start;
    result = read_fully(s, hex, fd, start, have);
    if (result == 0)
        *info = object_info(start, have, size);
    return result;
}

static int snapshot_find(cm_backend *backend, const cm_id *ids, size_t count, cm_object_info *infos)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++)
        result = find_one(of(backend), &ids[i], &infos[i]);
    return result;
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(cm_id));
}

/* The ids of the directory from `from` on, in order; other names are none of ours. */
static int read_ids(const snapshot *s, const cm_id *from, cm_buffer *ids)
{
    int fd = openat(s->pods, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return cm_fail(error, "cannot list %s/pods: %s", s->path, strerror(error));
    }
    struct dirent *file;
    while (errno = 0, (file = readdir(dir))) {
        cm_id id;
        if (cm_id_parse(file->d_name, &id) == 0 && (!from || compare_ids(&id, from) >= 0))
            cm_buffer_append(ids, &id, sizeof id);
    }
    int error = errno;
    closedir(dir);
    if (error)
        return cm_fail(error, "cannot list %s/pods: %s", s->path, strerror(error));
    if (ids->error)
        return cm_fail(ENOMEM, "out of memory");
    if (ids->size > 0)
        qsort(ids->data, ids->size / sizeof(cm_id), sizeof(cm_id), compare_ids);
    return 0;
}

static int snapshot_list(cm_backend *backend, const cm_id *from, cm_object_visitor visit, void *arg)
{
    cm_buffer ids cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = read_ids(of(backend), from, &ids);
    for (size_t at = 0; result == 0 && at < ids.size; at += sizeof(cm_id)) {
        cm_id id;
        cm_object_info info;
        memcpy(&id, ids.data + at, sizeof id);
        result = find_one(of(backend), &id, &info);
        if (result == 0 && info.kind) /* else removed meanwhile */
            result = visit(arg, &id, &info);
    }
    return result;
}

static int snapshot_disk_bytes(cm_backend *backend, uint64_t *bytes)
{
    return cm_dir_disk_bytes(of(backend)->path, bytes);
}

/* ---- what it has not ------------------------------------------------------------------------------------------------ */

static int fail_readonly(const snapshot *s)
{
    return cm_fail(EROFS, "%s is a checkpoint directory and cannot be written; save to a store", s->path);
}

static int snapshot_begin(cm_backend *backend, cm_backend_txn **txn, uint64_t *epoch)
{
    (void)epoch;
    (void)txn;
    return fail_readonly(of(backend));
}

/* There is no transaction to call these with. */
static int snapshot_put(cm_backend_txn *txn, const cm_record *records, size_t count)
{
    (void)txn, (void)records, (void)count;
    return cm_fail(EROFS, "a checkpoint directory cannot be written; save to a store");
}

static int snapshot_commit(cm_backend_txn *txn, const cm_ref_update *refs, size_t count)
{
    (void)txn, (void)refs, (void)count;
    return cm_fail(EROFS, "a checkpoint directory cannot be written; save to a store");
}

static void snapshot_abort(cm_backend_txn *txn)
{
    (void)txn;
}

static int snapshot_ref_get(cm_backend *backend, const char *key, cm_buffer *value)
{
    (void)value;
    return cm_fail(ENOENT, "%s is a checkpoint directory and has no refs, so not '%s'", of(backend)->path, key);
}

static int snapshot_ref_list(cm_backend *backend, const char *prefix, cm_ref_visitor visit, void *arg)
{
    (void)backend, (void)prefix, (void)visit, (void)arg;
    return 0;
}

/* ---- opening and closing ------------------------------------------------------------------------------------------- */

static void snapshot_close(cm_backend *backend)
{
    snapshot *s = of(backend);
    if (!s)
        return;
    close(s->pods);
    free(s->path);
    free(s);
}

static const cm_backend_ops snapshot_ops = {
    .close = snapshot_close,
    .find = snapshot_find,
    .get = snapshot_get,
    .list = snapshot_list,
    .begin = snapshot_begin,
    .put = snapshot_put,
    .commit = snapshot_commit,
    .abort = snapshot_abort,
    .ref_get = snapshot_ref_get,
    .ref_list = snapshot_ref_list,
    .disk_bytes = snapshot_disk_bytes,
};

int cm_backend_snapshot_open(const char *directory, cm_backend **backend)
{
    int fd cm_cleanup(cleanup_close) = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int pods = fd < 0 ? -1 : openat(fd, "pods", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (pods < 0) {
        int error = errno;
        return cm_fail(error, "%s is not a checkpoint directory: cannot open %s: %s", directory,
                       fd < 0 ? "it" : "its pods/", strerror(error));
    }
    snapshot *s = calloc(1, sizeof *s);
    char *path = strdup(directory);
    if (!s || !path) {
        free(s);
        free(path);
        close(pods);
        return cm_fail(ENOMEM, "out of memory");
    }
    *s = (snapshot){.base.ops = &snapshot_ops, .path = path, .pods = pods};
    *backend = &s->base;
    return 0;
}
