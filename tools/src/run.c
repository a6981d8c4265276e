/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - the command run: a Python script whose states are kept. The package does it; here is only where Python is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "output.h"

enum { PATH_MOST = 4096 };

/* The interpreter that the command was installed beside, as in a virtual environment; else the one that $PATH finds. */
static const char *find_python(char beside[PATH_MOST])
{
    ssize_t size = readlink("/proc/self/exe", beside, PATH_MOST - sizeof("python"));
    char *slash = size > 0 ? memrchr(beside, '/', (size_t)size) : NULL;
    if (slash) {
        strcpy(slash + 1, "python");
        if (access(beside, X_OK) == 0)
            return beside;
    }
    return "python3";
}

int cm_command_run(int argc, char **argv)
{
    char beside[PATH_MOST];
    const char *python = find_python(beside);
    const char **arguments = cm_need(calloc((size_t)argc + 4, sizeof *arguments));
    memcpy(arguments + 4, argv + 1, (size_t)argc * sizeof *arguments); /* and the NULL */
    arguments[0] = python;
    arguments[1] = "-m";
    arguments[2] = "chipmink";
    arguments[3] = "run";
    execvp(python, (char **)arguments);
    fprintf(stderr, "chipmink: cannot start %s: %s; `python -m chipmink run` does the same\n", python, strerror(errno));
    free(arguments);
    return CM_EXIT_FAILURE;
}
