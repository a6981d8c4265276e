/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.h - work/: the variables of a session's head as files that can be changed. No FUSE in here.
 *
 * What is changed is kept in two layers. Each session has its edits: by file name, a file or that there is none any more. What is
 * seen in work/ is the head with the edits over it, from the moment they are made. A thread makes a checkpoint of them when nothing
 * more has come for a while, and drops those it has committed; the head has them then.
 *
 * A file is either a variable of some checkpoint, taken over by reference, or bytes in an unlinked file beside the store. It is
 * committed when it has a variable's name and is one complete pickle.
 *
 * Functions return 0 or -errno, [block], and may be called from several threads at once.
 */
#ifndef CM_WORK_H
#define CM_WORK_H

#include <time.h>

#include "view.h"

typedef struct cm_work cm_work;

/*
 * For a view of a store that can be written, before anybody asks it: from then on the view shows work/. Its end commits nothing:
 * see cm_work_sync. `trouble` is told, on any thread, what could not be committed.
 */
int cm_work_new(cm_view *view, void (*trouble)(void *arg, const char *message), void *arg, cm_work **work);
void cm_work_free(cm_work *work);
/* Called, on a thread that serves no request, when a commit has moved the head of the session that has this node. */
void cm_work_on_commit(cm_work *work, void (*committed)(void *arg, cm_node session, const char *branch), void *arg);
/* The view's; NULL: it is for reading only. */
cm_work *cm_view_work(cm_view *view);

/* Commits what there is now, of a directory's session or, with 0, of all. What cannot be committed stays an edit. */
int cm_work_sync(cm_work *work, cm_node directory);

typedef struct cm_work_handle cm_work_handle; /* an open file */

enum cm_work_flags { CM_WORK_WRITE = 1 << 0, CM_WORK_EXCLUSIVE = 1 << 1, CM_WORK_TRUNCATE = 1 << 2 };

/* -EINVAL: no name for a file of work/; .errors says so. */
int cm_work_create(cm_work *work, cm_node directory, const char *name, unsigned flags, cm_node *node,
                   cm_work_handle **handle);
int cm_work_open(cm_work *work, cm_node node, unsigned flags, cm_work_handle **handle);
int cm_work_read(cm_work_handle *handle, uint64_t offset, void *buffer, size_t size, size_t *done);
int cm_work_write(cm_work_handle *handle, uint64_t offset, const void *buffer, size_t size);
/*
 * From a file of the tree, whole and from its start: the file then is that variable. *done may be less than `size`. -EOPNOTSUPP:
 * these bytes have to be read and written.
 */
int cm_work_copy(cm_work_handle *handle, uint64_t offset, cm_node from, uint64_t from_offset, uint64_t size,
                 uint64_t *done);
/* Before a close: -EINVAL: what was written is no complete pickle; .errors says why. */
int cm_work_flush(cm_work_handle *handle);
/* And commits. */
int cm_work_fsync(cm_work_handle *handle);
void cm_work_close(cm_work_handle *handle);

int cm_work_truncate(cm_work *work, cm_node node, uint64_t size);
/* The time shows until the file is committed. */
int cm_work_set_time(cm_work *work, cm_node node, int64_t time);
int cm_work_link(cm_work *work, cm_node from, cm_node directory, const char *name, cm_node *node);
/* flags: RENAME_NOREPLACE */
int cm_work_rename(cm_work *work, cm_node from, const char *name, cm_node to, const char *new_name, unsigned flags);
int cm_work_unlink(cm_work *work, cm_node directory, const char *name);

#endif
