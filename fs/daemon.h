/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - the process that serves a mount, from opening the store to its end. */
#ifndef CM_DAEMON_H
#define CM_DAEMON_H

#include <stdbool.h>

typedef struct cm_daemon_options {
    const char *store;       /* absolute */
    const char *mount_point; /* absolute, checked by the caller */
    const char *session;     /* the only one to show; NULL: all */
    bool allow_other;
    bool embedded; /* read beside whoever writes the store, without its server: nothing can be changed */
    /*
     * Where readiness is told: CM_DAEMON_READY, or one sentence why it cannot be, and then the end of the file. -1: the
     * process is in the foreground; stderr gets the reason.
     */
    int ready;
} cm_daemon_options;

#define CM_DAEMON_READY '+'

/*
 * [blocks until the mount ends] Opens the store, mounts, serves until unmounted or told to end by SIGTERM, SIGINT or SIGHUP.
 * Returns the exit code. stderr is the log.
 */
int cm_daemon_run(const cm_daemon_options *options);

/*
 * Forks a daemon that runs with `log` as its stderr and returns in the calling process: 0 when the mount can be used; -1 when
 * it failed, with the reason, which the caller frees, in *reason.
 */
int cm_daemon_start(const cm_daemon_options *options, int log, char **reason);

#endif
