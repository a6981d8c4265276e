/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the command `chipmink`: which commands there are, and which one was asked for. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"
#include "serve.h"

#ifdef CM_WITH_FUSE
#include "mount.h"
#else
static int cm_mount_main(int argc, char **argv)
{
    (void)argc;
    fprintf(stderr, "chipmink %s: this build has no libfuse3; install it and build again\n", argv[0]);
    return CM_EXIT_FAILURE;
}
#define cm_umount_main cm_mount_main
#endif

typedef struct command {
    const char *name, *what;
    int (*run)(int argc, char **argv);
    bool own; /* names itself in its usage, and lives on as a daemon */
} command;

static const command commands[] = {
    {"sessions", "List the sessions", cm_command_sessions, false},
    {"log", "List the checkpoints of a session, newest first", cm_command_log, false},
    {"show", "Show one checkpoint: its message, code, variables", cm_command_show, false},
    {"ls", "List the variables of a checkpoint", cm_command_ls, false},
    {"cat", "Write a variable as a pickle, or the code of a checkpoint", cm_command_cat, false},
    {"diff", "Tell what differs between two checkpoints", cm_command_diff, false},
    {"stat", "Give sizes and facts of the store, a checkpoint or variables", cm_command_stat, false},
    {"verify", "Read everything again and check it", cm_command_verify, false},
    {"prune", "Remove checkpoints, but for those that rules keep", cm_command_prune, false},
    {"gc", "Remove what no checkpoint needs, and give the space back", cm_command_gc, false},
    {"run", "Run a Python script and keep its states", cm_command_run, true},
    {"mount", "Show the store as files", cm_mount_main, true},
    {"umount", "End a mount", cm_umount_main, true},
    {"serve", "Own a store and serve the processes that use it (run on demand)", cm_serve_main, false},
    {"stop", "End the server of a store", cm_stop_main, false},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(*commands) };

/* ---- arguments before the command's name ----------------------------------------------------------------------------- */

static char *list_commands(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC)
        return (char *)text;
    char *list = NULL;
    size_t size = 0;
    FILE *file = cm_need(open_memstream(&list, &size));
    fputs("Commands:\n", file);
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(file, "\n%s", text);
    if (fclose(file))
        cm_need(NULL);
    return list; /* freed by argp */
}

typedef struct arguments {
    const command *command;
    int first; /* index of the command's name */
} arguments;

static error_t parse_argument(int key, char *argument, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 'S':
        return setenv("CHIPMINK_STORE", argument, 1) ? errno : 0;
    case 'V':
        fprintf(state->out_stream, "chipmink %s\n", CM_VERSION);
        exit(CM_EXIT_OK);
    case ARGP_KEY_ARG:
        for (unsigned i = 0; i < COMMAND_COUNT; i++)
            if (strcmp(argument, commands[i].name) == 0)
                a->command = &commands[i];
        if (!a->command)
            argp_error(state, "there is no command '%s'", argument);
        a->first = state->next - 1;
        state->next = state->argc; /* the rest is the command's */
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_state_help(state, state->err_stream, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK);
        exit(CM_EXIT_USAGE);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"store", 'S', "DIR", 0, "Store to use (default: $CHIPMINK_STORE, or ~/.chipmink)", 0},
    {"version", 'V', NULL, 0, "Print the version", 0},
    {0},
};

static const struct argp main_argp = {
    .options = options,
    .parser = parse_argument,
    .args_doc = "COMMAND [ARGUMENT...]",
    .doc = "Look into a store of Python sessions, and show it as files.\v"
           "An ADDRESS is SESSION, SESSION@NUMBER, SESSION@BRANCH, SESSION@TAG or SESSION@ID; without @ it is the "
           "newest checkpoint on the session's present branch.\n\n"
           "Exit codes: 0 done; 1 failed, with the reason in one line on stderr; 2 wrong arguments; "
           "3 verify found damage.\n\n"
           "`chipmink COMMAND --help` tells more.",
    .help_filter = list_commands,
};

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Output that could not be written is a failure, even the part that was still buffered. */
static int finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "chipmink: cannot write the output: %s\n", strerror(errno));
    return code == CM_EXIT_OK ? CM_EXIT_FAILURE : code;
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    argp_err_exit_status = CM_EXIT_USAGE;
    setenv("ARGP_HELP_FMT", "no-dup-args-note", 0);
    arguments a = {0};
    cm_parse(&main_argp, ARGP_IN_ORDER, argc, argv, &a);

    if (a.command->own)
        return a.command->run(argc - a.first, argv + a.first);
    signal(SIGPIPE, SIG_DFL); /* `chipmink log x | head` ends quietly, whatever was inherited */
    char name[32];
    snprintf(name, sizeof(name), "chipmink %s", a.command->name);
    argv[a.first] = name; /* for messages and --help */
    return finish(a.command->run(argc - a.first, argv + a.first));
}
