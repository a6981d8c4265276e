/* SPDX-License-Identifier: Apache-2.0 */
/* mounts.h - what is mounted where, taking it away, and the file that tells whether its daemon lives. */
#ifndef CM_MOUNTS_H
#define CM_MOUNTS_H

#include <stdbool.h>

typedef struct cm_mount_entry {
    bool mounted; /* anything at all is mounted exactly there; what follows is of the uppermost */
    bool ours;    /* a chipmink mount */
    unsigned major, minor;
} cm_mount_entry;

/* `path` must be absolute and free of links. 0, or -errno when the kernel's list cannot be read. */
int cm_mount_find(const char *path, cm_mount_entry *entry);

/*
 * The absolute path without links; the caller frees it. Unlike realpath it also works on a mount whose daemon has died.
 */
int cm_mount_path(const char *path, char **absolute);

/* [blocks] As root by itself, otherwise through fusermount3. -EBUSY: in use; -EPERM: not allowed, or no fusermount3. */
int cm_mount_remove(const char *path, bool lazy);

/*
 * The log of the daemon of a mount point: `<mount point>.log`, encoded as a name, in $XDG_RUNTIME_DIR/chipmink, or else in
 * /tmp/chipmink-<uid>, which is made. The daemon holds a lock (flock) on it as long as it lives. The caller frees it.
 */
int cm_mount_log_path(const char *mount_point, char **path);
/* Opened and, waiting up to `timeout_ms`, locked: a file descriptor. -EWOULDBLOCK: the daemon lives. */
int cm_mount_log_lock(const char *log_path, bool create, int timeout_ms);

#endif
