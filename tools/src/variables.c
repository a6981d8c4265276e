/* SPDX-License-Identifier: Apache-2.0 */
/* variables.c - the commands ls and cat: the variables of a checkpoint. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "output.h"

/* ---- ls ---------------------------------------------------------------------------------------------------------- */

typedef struct ls_arguments {
    cm_arguments common;
    bool names;
} ls_arguments;

static error_t parse_ls(int key, char *argument, struct argp_state *state)
{
    ls_arguments *a = state->input;
    if (key != '1')
        return cm_parse_argument(key, argument, state);
    a->names = true;
    return 0;
}

static void add_variable_row(cm_table *table, const cm_variable *v)
{
    char text[CM_TEXT_MAX];
    cm_table_cell(table, "%s", v->name);
    cm_table_colour(table, CM_BOLD);
    cm_table_cell(table, "%s", v->type);
    cm_table_cell(table, "%s", cm_size_text(v->size, text));
    cm_table_cell(table, "%s", cm_size_text(v->stored, text));
    cm_table_cell(table, "%llu", (unsigned long long)v->changed);
    size_t first = strcspn(v->summary, "\n"); /* the first line says how much, the second what */
    const char *second = v->summary[first] ? &v->summary[first + 1] : "";
    cm_table_cell(table, "%.*s%s%.*s", (int)first, v->summary, *second ? "  " : "", (int)strcspn(second, "\n"), second);
    cm_table_colour(table, CM_DIM);
}

static int list_variables(cm_checkpoint *c, const ls_arguments *a, cm_table *table, cJSON *list)
{
    const cm_variable *variables = NULL;
    size_t count = 0;
    int result = cm_checkpoint_variables(c, &variables, &count);
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (list) {
            cJSON_AddItemToArray(list, cm_json_variable(&variables[i]));
        } else if (table) {
            add_variable_row(table, &variables[i]);
        } else if (a->names) {
            cm_print_text(stdout, variables[i].name, false);
            putchar('\n');
        }
    }
    return result;
}

int cm_command_ls(int argc, char **argv)
{
    static const struct argp_option options[] = {{"names", '1', NULL, 0, "Only names, one in a line", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_ls,
        .args_doc = "ADDRESS",
        .doc = "List the variables of a checkpoint.\v"
               "SIZE is that of the variable's pickle, STORED what its pods and chunks take on disk, CHANGED the "
               "checkpoint it last changed in.",
        .children = cm_options_children};
    static const cm_column columns[] = {{"VARIABLE", false}, {"TYPE", false},   {"SIZE", true},
                                        {"STORED", true},    {"CHANGED", true}, {"SUMMARY", false}};
    ls_arguments a = {.common = {.min = 1, .max = 1}};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_checkpoint *c = NULL;
    if (cm_open_address(&a.common.options, a.common.values[0], &c) < 0)
        return CM_EXIT_FAILURE;
    cJSON *json = a.common.options.json ? cm_json_checkpoint(c) : NULL;
    cJSON *list = json ? cm_need(cJSON_AddArrayToObject(json, "variables")) : NULL;
    cm_table *table = json || a.names ? NULL : cm_table_new(columns, 6);
    int result = list_variables(c, &a, table, list);
    if (result < 0)
        cm_report(result);
    if (json)
        cm_json_print(json);
    if (table)
        cm_table_print(table);
    cm_checkpoint_unref(c);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}

/* ---- cat --------------------------------------------------------------------------------------------------------- */

typedef struct cat_arguments {
    cm_arguments common;
    bool code, force;
} cat_arguments;

static error_t parse_cat(int key, char *argument, struct argp_state *state)
{
    cat_arguments *a = state->input;
    switch (key) {
    case 'c':
        a->code = true;
        return 0;
    case 'f':
        a->force = true;
        return 0;
    case ARGP_KEY_END:
        if (a->code && a->common.count > 1)
            argp_error(state, "--code belongs to a checkpoint: name no variable with it");
        if (a->common.options.json)
            argp_error(state, "a pickle cannot be written as JSON; `chipmink stat --json` has its facts");
        return cm_parse_argument(key, argument, state);
    default:
        return cm_parse_argument(key, argument, state);
    }
}

static int write_code(const cm_checkpoint *c)
{
    const char *code = cm_checkpoint_code(c);
    if (!code) {
        fprintf(stderr, "chipmink: %s@%llu was saved without code\n", cm_checkpoint_session(c),
                (unsigned long long)cm_checkpoint_number(c));
        return CM_EXIT_FAILURE;
    }
    if (isatty(STDOUT_FILENO)) {
        cm_print_text(stdout, code, true);
        putchar('\n');
    } else {
        fputs(code, stdout);
    }
    return CM_EXIT_OK;
}

static bool write_all(const char *bytes, size_t size)
{
    while (size) {
        ssize_t done = write(STDOUT_FILENO, bytes, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return false;
        bytes += done;
        size -= (size_t)done;
    }
    return true;
}

/* Large pieces: the core reads the chunks of one in parallel. */
enum { CAT_PIECE = 8 << 20 };

static int write_link(cm_link *link)
{
    uint64_t size = cm_link_size(link);
    size_t piece = size < CAT_PIECE ? (size_t)size : CAT_PIECE;
    char *memory = cm_need(malloc(piece + 1));
    int code = CM_EXIT_OK;
    for (uint64_t at = 0; code == CM_EXIT_OK && at < size;) {
        size_t done = 0;
        int result = cm_link_read(link, at, memory, piece, &done);
        if (result < 0 || !done) {
            code = cm_report(result < 0 ? result : -EIO);
        } else if (!write_all(memory, done)) {
            fprintf(stderr, "chipmink: cannot write the output: %s\n", strerror(errno));
            code = CM_EXIT_FAILURE;
        }
        at += done;
    }
    free(memory);
    return code;
}

int cm_command_cat(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"code", 'c', NULL, 0, "Write the code that led to the checkpoint instead", 0},
        {"force", 'f', NULL, 0, "Write a pickle even to a terminal", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_cat,
        .args_doc = "ADDRESS [VARIABLE]",
        .doc = "Write a variable to stdout as a standard pickle; without VARIABLE, all of them as one pickle of a "
               "dict, in which they share what they shared.\v"
               "For example: chipmink cat analysis@12 df > df.pkl",
        .children = cm_options_children};
    cat_arguments a = {.common = {.min = 1, .max = 2}};
    cm_parse(&argp, 0, argc, argv, &a);
    if (!a.code && !a.force && isatty(STDOUT_FILENO)) {
        fputs("chipmink: a pickle is binary: redirect it (> FILE), or use --force\n", stderr);
        return CM_EXIT_USAGE;
    }
    cm_checkpoint *c = NULL;
    if (cm_open_address(&a.common.options, a.common.values[0], &c) < 0)
        return CM_EXIT_FAILURE;
    int code;
    if (a.code) {
        code = write_code(c);
    } else {
        bool one = a.common.count == 2;
        cm_link *link = NULL;
        int result = cm_link_open(c, one ? &a.common.values[1] : NULL, one ? 1 : 0, one ? 0 : CM_LINK_NAMESPACE, &link);
        code = result < 0 ? cm_report(result) : write_link(link);
        cm_link_close(link);
    }
    cm_checkpoint_unref(c);
    return code;
}
