/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_start.c - starting a store server on demand. There is no lock for starters: each may start one, and the store's
 * writer lock decides which of them stays; the others say "busy" and go.
 */
#include "remote.h"

#include "error.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { START_MS = 30000, READY = '+', BUSY = '!' };

/* What the server says on the pipe: READY; or BUSY or '-' and a sentence. */
static int await(int from, const char *path)
{
    char said[1024];
    size_t size = 0;
    for (;;) {
        struct pollfd one = {.fd = from, .events = POLLIN};
        int ready = poll(&one, 1, START_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return cm_fail(ETIMEDOUT, "the store server of %s does not answer: see %s/server.log", path, path);
        ssize_t n = ready < 0 ? -1 : read(from, said + size, sizeof said - 1 - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || size + (size_t)n == sizeof said - 1)
            break;
        size += (size_t)n;
        if (said[0] == READY)
            return 0;
    }
    said[size] = 0;
    if (size < 2)
        return cm_fail(ECONNRESET, "the store server of %s did not start: see %s/server.log", path, path);
    return cm_fail(said[0] == BUSY ? EBUSY : EIO, "%s", said + 1);
}

static int spawn(const char *path, unsigned flags, const char *command, int ready)
{
    char number[16];
    snprintf(number, sizeof number, "%d", ready);
    const char *argv[] = {command, "serve", "--store", path, "--ready", number, NULL, NULL};
    if (flags & CM_OPEN_CREATE)
        argv[6] = "--create";
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ready, ready); /* keeps it open over exec */
    pid_t child;
    int error = posix_spawnp(&child, command, &actions, &attributes, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error)
        return cm_fail(error,
                       "the command '%s' for serving the store %s cannot be run: set CHIPMINK_COMMAND to it, or "
                       "open the store embedded",
                       command, path);
    int status; /* it forks the server off and ends at once */
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

int cm_server_start(const char *path, unsigned flags, const char *command)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return cm_fail(errno, "no pipe for starting the store server");
    int result = spawn(path, flags, command, ends[1]);
    close(ends[1]);
    if (!result)
        result = await(ends[0], path);
    close(ends[0]);
    return result;
}
