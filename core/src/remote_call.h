/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote_call.h - asking a store server: connections, and one request and its answer on one of them.
 *
 * Each call takes a connection of its own from a pool, so several threads talk at once. When the server has gone, it is
 * started anew.
 */
#ifndef CM_REMOTE_CALL_H
#define CM_REMOTE_CALL_H

#include "wire.h"

#include <pthread.h>
#include <sys/types.h>

typedef struct cm_link {
    int socket;
    cm_area area;
    cm_buffer reply; /* the last answer */
    struct cm_link *next;
} cm_link;

typedef struct cm_remote {
    cm_backend base;
    char *path, *command;
    unsigned flags;
    cm_id token; /* what makes our connections one client */
    pid_t pid;
    pthread_mutex_t lock; /* guards the pool */
    cm_link *idle;
    unsigned idle_count;
} cm_remote;

/* What a call wants to do with the area before and after the exchange. */
typedef struct cm_call {
    cm_buffer request;
    void (*fill)(cm_area *area, void *arg);
    int (*take)(const cm_area *area, cm_reader *answer, int passed, void *arg);
    void *arg;
    int pass;
} cm_call;

cm_call cm_call_make(enum cm_wire_op op, void *arg);
/* [blocks] Leaves the request alone. -ECONNRESET: the server has gone; whether it did what was asked is not known. */
CM_MUST_USE int cm_call_once(cm_remote *remote, cm_call *call);
/* [blocks] The next two free the request. A call that may be repeated when the server has gone, and is. */
CM_MUST_USE int cm_call_again(cm_remote *remote, cm_call *call);
/* [blocks] A call of a transaction, which is lost when the server has gone: -ECONNRESET. */
CM_MUST_USE int cm_call_in_transaction(cm_remote *remote, cm_call *call);
int cm_call_senseless(void); /* -EPROTO: about an answer */

/*
 * [blocks] A connection for the caller alone, which gives it back with the result of what it was for. A new one if none is idle;
 * the server is started when none answers, unless there is no command for that.
 */
CM_MUST_USE int cm_link_acquire(cm_remote *remote, cm_link **link);
void cm_link_release(cm_remote *remote, cm_link *link, int result);
/* Closes those that nobody uses: they may be to a server that has gone. */
void cm_links_drop(cm_remote *remote);
/* [blocks] Receives an answer, which then stands in *answer behind the status, until the next one. -ECONNRESET: the server has gone. */
CM_MUST_USE int cm_link_receive(cm_link *link, cm_reader *answer, int *passed);

#endif
