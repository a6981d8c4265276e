/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - the kernel's requests, translated to the view. */
#ifndef CM_OPS_H
#define CM_OPS_H

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>
#include <pthread.h>

#include "view.h"

typedef struct cm_handle cm_handle; /* an open file or directory */

/* A session's user data. Filled by the daemon, which keeps it until the session is destroyed. */
typedef struct cm_mounted {
    cm_view *view;
    struct fuse_session *kernel; /* whom to tell what has moved; NULL: not mounted */
    uid_t uid;                   /* whose the files are */
    gid_t gid;
    bool others;           /* others may read them too */
    pthread_key_t buffers; /* a read buffer for each thread: CM_READ_MAX bytes */
    pthread_mutex_t lock;  /* of the list of handles */
    cm_handle *handles;    /* all that are open: the kernel does not always say that it closes them */
    int started;           /* set, atomically, with the first request after the start */
    /* The kernel has accepted the mount: it can be used. */
    void (*ready)(void *arg);
    /* The first request has come; settings that the start overwrites can be made. */
    void (*first_request)(void *arg);
    /* A request failed for a reason that is not the caller's. */
    void (*trouble)(void *arg, const char *message);
    void *arg;
} cm_mounted;

enum { CM_READ_MAX = 1 << 20 }; /* bytes of a read request */

extern const struct fuse_lowlevel_ops cm_ops;

/* For cm_work_on_commit, with a cm_mounted: the kernel is to ask again where the head is. */
void cm_ops_moved(void *mounted, cm_node session, const char *branch);

/* Once no more requests come: closes what is open. */
void cm_ops_close_all(cm_mounted *mounted);

#endif
