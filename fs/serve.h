/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - the store server: the process that owns a store and serves its clients. */
#ifndef CM_FS_SERVE_H
#define CM_FS_SERVE_H

/*
 * serve [--store DIR] [--create] [--idle SECONDS] [--foreground] [--ready FD]: the command `chipmink serve`, run on demand by
 * clients. With --ready it detaches, and tells on that descriptor '+' when it answers, '!' and a sentence when another process
 * has the store, '-' and a sentence after any other failure. Ends after SECONDS without a client, on SIGTERM, and on
 * `chipmink stop`. Returns the exit code. Must be called while the process has no other threads and no store open: it forks.
 */
int cm_serve_main(int argc, char **argv);
/* stop [--store DIR]: asks the server of a store to end, and waits until it has. */
int cm_stop_main(int argc, char **argv);

#endif
