/* SPDX-License-Identifier: Apache-2.0 */
/* remote.h - the client's side of the store server: the backend that speaks to it, and starting one. */
#ifndef CM_REMOTE_H
#define CM_REMOTE_H

#include "backend.h"

/* [blocks] `command`: the chipmink program, for starting a server when none answers; NULL: fail then. */
CM_MUST_USE int cm_backend_remote_open(const char *path, unsigned flags, const char *command, cm_backend **backend);
bool cm_backend_is_remote(const cm_backend *backend);
/* [blocks] As cm_store_control. */
CM_MUST_USE int cm_remote_control(cm_backend *backend, int argc, const char *const *argv, char **reply);

/*
 * [blocks until it answers or has failed] Runs `command serve` for the store, detached from this process.
 * -EBUSY: another process has the store, perhaps a server that has just been started by someone else. -ECONNRESET: the
 * server ended without a word (it was killed).
 */
CM_MUST_USE int cm_server_start(const char *path, unsigned flags, const char *command);

#endif
