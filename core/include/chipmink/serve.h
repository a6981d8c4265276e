/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.h - the store server's side of a connection. The process around it (listening, threads, mounts, its end) is fs/.
 */
#ifndef CHIPMINK_SERVE_H
#define CHIPMINK_SERVE_H

#include <chipmink/chipmink.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What all connections of a server share: the clients and their transactions. */
typedef struct cm_serve cm_serve;

/*
 * Words for the server itself, sent by cm_store_control: answers `*reply` (malloc'd, may stay NULL) and returns 0 or -errno
 * with the error sentence set. Called on the connection's thread.
 */
typedef int (*cm_serve_control)(void *arg, int argc, char **argv, char **reply);

/* Takes its own reference of the store, which must be a writer. */
CM_API CM_MUST_USE int cm_serve_new(cm_store *store, cm_serve_control control, void *arg, cm_serve **serve);
CM_API void cm_serve_free(cm_serve *serve);
/*
 * [blocks until the client goes or misbehaves] Serves one connection and closes it. When the last connection of a client ends,
 * its unfinished transactions are aborted.
 */
CM_API void cm_serve_connection(cm_serve *serve, int socket);

/* The server's socket in the store's directory; the caller must have the store open for writing. */
CM_API CM_MUST_USE int cm_serve_listen(const char *store, int *socket);
CM_API void cm_serve_unlink(const char *store);
/*
 * [blocks] Says words to the server of a store, without starting one: -ENOENT, -ECONNREFUSED or -ECONNRESET when none runs. The
 * caller frees *reply; it may be NULL.
 */
CM_API CM_MUST_USE int cm_serve_ask(const char *store, int argc, const char *const *argv, char **reply);

#ifdef __cplusplus
}
#endif
#endif
