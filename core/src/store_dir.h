/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_dir.h - the directory of a store: what makes it one, who is writing to it, what it weighs.
 *
 *     CHIPMINK      "chipmink store 1\n"; its presence makes the directory a store, so it is written last
 *     writer.lock   locked by the writing process, and says who that is
 *     db/           the database
 */
#ifndef CM_STORE_DIR_H
#define CM_STORE_DIR_H

#include <chipmink/chipmink.h>

enum { CM_STORE_VERSION = 1 };

/*
 * Checks that `path` is a store this version can use. With CM_OPEN_CREATE makes the directory (0700) when there is none;
 * *fresh then says that cm_store_dir_seal is still to come. *absolute is the caller's to free.
 * -ENOENT: no store there; -ENOTEMPTY: something else is there; -EPROTONOSUPPORT: of a newer version; -EINVAL: garbage.
 */
CM_MUST_USE int cm_store_dir_prepare(const char *path, unsigned flags, char **absolute, bool *fresh);
/* Makes a prepared directory a store, durably and all at once. */
CM_MUST_USE int cm_store_dir_seal(const char *path);

/* Takes writer.lock. -EBUSY: the sentence names the process that writes to the store. */
CM_MUST_USE int cm_writer_lock_take(const char *path, int *fd);
/* Writes this process's name into the lock file, once it is certain that it is the writer, and whether for others too. */
void cm_writer_lock_sign(int fd, bool serves);
/* Gives the lock back, and closes the descriptor; the name goes first. */
void cm_writer_lock_leave(int fd);
/* Whether a living process that serves nobody has the store, for certain. */
bool cm_writer_lock_is_embedded(const char *path);
/* Fails with -EBUSY and a sentence that names the process in the lock file. */
int cm_writer_lock_refuse(const char *path);

/* A fresh directory (0700) under $XDG_RUNTIME_DIR or /tmp. *path is the caller's to free. */
CM_MUST_USE int cm_private_dir_make(char **path);
/* Removes a directory of plain files, quietly. */
void cm_private_dir_remove(const char *path);

/* Bytes that the files under `path` occupy on disk. */
CM_MUST_USE int cm_dir_disk_bytes(const char *path, uint64_t *bytes);

#endif
