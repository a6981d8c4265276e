/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - the kernel's requests, translated to the view. */
#ifndef CM_OPS_H
#define CM_OPS_H

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>
#include <pthread.h>

#include "view.h"

/* A session's user data. Filled by the daemon, which keeps it until the session is destroyed. */
typedef struct cm_mounted {
    cm_view *view;
    uid_t uid; /* whose the files are */
    gid_t gid;
    pthread_key_t buffers; /* a read buffer for each thread: CM_READ_MAX bytes */
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

#endif
