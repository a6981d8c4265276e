/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - what the commands of `chipmink` share.
 *
 * Each command is a function that parses its own arguments with argp, works on the core's public interface, prints, and
 * returns the exit code. This is a program for one run: it exits where memory runs out.
 */
#ifndef CM_COMMAND_H
#define CM_COMMAND_H

#include <argp.h>
#include <chipmink/chipmink.h>
#include <cjson/cJSON.h>

/* Exit codes; docs/COMMAND.md and --help describe them. */
enum {
    CM_EXIT_OK = 0,
    CM_EXIT_FAILURE = 1, /* told in one line on stderr */
    CM_EXIT_USAGE = 2,
    CM_EXIT_DAMAGE = 3, /* verify found some */
};

int cm_command_sessions(int argc, char **argv);
int cm_command_log(int argc, char **argv);
int cm_command_show(int argc, char **argv);
int cm_command_ls(int argc, char **argv);
int cm_command_cat(int argc, char **argv);
int cm_command_diff(int argc, char **argv);
int cm_command_stat(int argc, char **argv);
int cm_command_verify(int argc, char **argv);
int cm_command_run(int argc, char **argv); /* becomes another program */
int cm_command_prune(int argc, char **argv);
int cm_command_gc(int argc, char **argv);

/* ---- options and stores ---------------------------------------------------------------------------------------------- */

typedef struct cm_options {
    const char *store; /* NULL: the default */
    bool json;
    bool embedded; /* without the store's server */
} cm_options;

/* What every command takes: the options --store and --json, and `min` to `max` words. First member of a command's own. */
typedef struct cm_arguments {
    cm_options options;
    unsigned min, max; /* set before parsing */
    unsigned count;
    const char **values; /* borrowed from argv */
} cm_arguments;

/* The children of every command's argp: --store, --json and --embedded. */
extern const struct argp_child cm_options_children[];
/* The parser of commands without options of their own, and where those with some pass on what they do not know. */
error_t cm_parse_argument(int key, char *argument, struct argp_state *state);
/*
 * Parses into `arguments`, the input of argp's parser. `flags`: as of argp_parse. Ends the process after --help and on bad
 * arguments.
 */
void cm_parse(const struct argp *argp, unsigned flags, int argc, char **argv, void *arguments);

/* Opens the store for reading, or (CM_OPEN_WRITE) for writing. Negative: told on stderr. */
CM_MUST_USE int cm_open(const cm_options *options, unsigned flags, cm_store **store);
/* Opens the store and the checkpoint at `address`. */
CM_MUST_USE int cm_open_address(const cm_options *options, const char *address, cm_checkpoint **checkpoint);

/* Prints the error sentence of the call that returned `result` as "chipmink: ..." and returns CM_EXIT_FAILURE. */
int cm_report(int result);

/* ---- JSON: facts that several commands print ---------------------------------------------------------------------------- */

void cm_json_number(cJSON *object, const char *key, uint64_t number);
cJSON *cm_json_checkpoint(const cm_checkpoint *checkpoint);
cJSON *cm_json_variable(const cm_variable *variable);
/* Prints to stdout and frees. */
void cm_json_print(cJSON *json);
/* "2026-11-23T09:05:34.123456789Z" */
void cm_json_time(cJSON *object, const char *key, int64_t time);

#endif
