/* SPDX-License-Identifier: Apache-2.0 */
/* show.c - the commands show and diff: what a checkpoint is, and what it changed. */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"

/* ---- show -------------------------------------------------------------------------------------------------------- */

static void show_field(const char *key, const char *value)
{
    printf("%s%-10s%s", cm_colour_on(CM_BOLD), key, cm_colour_off(CM_BOLD));
    cm_print_text(stdout, value, false);
    putchar('\n');
}

static void show_facts(const cm_checkpoint *c)
{
    char text[CM_TEXT_MAX], other[CM_TEXT_MAX], hex[CM_ID_HEX + 1], line[128];
    const cm_save_stats *s = cm_checkpoint_stats(c);
    cm_id_hex(cm_checkpoint_id(c), hex);
    printf("%scheckpoint%s ", cm_colour_on(CM_YELLOW), cm_colour_off(CM_YELLOW));
    cm_print_text(stdout, cm_checkpoint_session(c), false);
    printf("@%llu\n", (unsigned long long)cm_checkpoint_number(c));
    show_field("id", hex);
    for (size_t i = 0; i < cm_checkpoint_parent_count(c); i++) {
        snprintf(line, sizeof(line), "%llu", (unsigned long long)cm_checkpoint_parent_number(c, i));
        show_field("parent", line);
    }
    show_field("saved", cm_time_text(cm_checkpoint_time(c), text));
    snprintf(line, sizeof(line), "%s of pickles, %s written, %llu pods, %llu of them new",
             cm_size_text(s->logical_bytes, text), cm_size_text(s->bytes_written, other), (unsigned long long)s->pods,
             (unsigned long long)s->pods_new);
    show_field("size", line);
    const cm_cell *cell = cm_checkpoint_cell(c);
    if (cell) {
        char number[32] = "";
        if (cell->execution)
            snprintf(number, sizeof(number), "[%llu] ", (unsigned long long)cell->execution);
        snprintf(line, sizeof(line), "%sran %.3f s%s", number, (double)cell->duration_ns / 1e9,
                 cell->error ? " and failed" : "");
        show_field("cell", line);
        if (cell->error)
            show_field("error", cell->error);
    }
    if (cm_checkpoint_message(c))
        show_field("message", cm_checkpoint_message(c));
}

static void show_code(const char *code)
{
    printf("\n    ");
    for (const char *end; (end = strchr(code, '\n')); code = end + 1) {
        char *line = cm_need(strndup(code, (size_t)(end - code)));
        cm_print_text(stdout, line, true);
        free(line);
        printf("\n    ");
    }
    cm_print_text(stdout, code, true);
    putchar('\n');
}

static void show_variables(const cm_checkpoint *c, const cm_variable *variables, size_t count)
{
    static const cm_column columns[] = {{"", false}, {"VARIABLE", false}, {"TYPE", false}, {"SIZE", true}};
    char text[CM_TEXT_MAX];
    cm_table *table = cm_table_new(columns, 4);
    for (size_t i = 0; i < count; i++) {
        bool changed = variables[i].changed == cm_checkpoint_number(c);
        cm_table_cell(table, "%s", changed ? "*" : "");
        cm_table_colour(table, CM_YELLOW);
        cm_table_cell(table, "%s", variables[i].name);
        cm_table_cell(table, "%s", variables[i].type);
        cm_table_cell(table, "%s", cm_size_text(variables[i].size, text));
    }
    putchar('\n');
    cm_table_print(table);
}

static void show_unsaved(const cm_checkpoint *c)
{
    if (cm_checkpoint_unsaved_count(c))
        printf("\nnot saved:\n");
    for (size_t i = 0; i < cm_checkpoint_unsaved_count(c); i++) {
        printf("  %s", cm_colour_on(CM_RED));
        cm_print_text(stdout, cm_checkpoint_unsaved_name(c, i), false);
        printf("%s  ", cm_colour_off(CM_RED));
        cm_print_text(stdout, cm_checkpoint_unsaved_reason(c, i), false);
        putchar('\n');
    }
}

int cm_command_show(int argc, char **argv)
{
    static const struct argp argp = {.parser = cm_parse_argument,
                                     .args_doc = "ADDRESS",
                                     .doc =
                                         "Show one checkpoint: message, code, variables, and what could not be saved.\v"
                                         "A * marks variables that are new or changed in this checkpoint.",
                                     .children = cm_options_children};
    cm_arguments a = {.min = 1, .max = 1};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_checkpoint *c = NULL;
    if (cm_open_address(&a.options, a.values[0], &c) < 0)
        return CM_EXIT_FAILURE;
    const cm_variable *variables = NULL;
    size_t count = 0;
    int result = cm_checkpoint_variables(c, &variables, &count);
    const char *code = cm_checkpoint_code(c);
    if (a.options.json) {
        cJSON *json = cm_json_checkpoint(c);
        cm_need(code ? cJSON_AddStringToObject(json, "code", code) : cJSON_AddNullToObject(json, "code"));
        cJSON *list = cm_need(cJSON_AddArrayToObject(json, "variables"));
        for (size_t i = 0; result == 0 && i < count; i++)
            cJSON_AddItemToArray(list, cm_json_variable(&variables[i]));
        cm_json_print(json);
    } else {
        show_facts(c);
        if (code && *code)
            show_code(code);
        if (result == 0)
            show_variables(c, variables, count);
        show_unsaved(c);
    }
    if (result < 0)
        cm_report(result);
    cm_checkpoint_unref(c);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}

/* ---- diff -------------------------------------------------------------------------------------------------------- */

typedef struct diff_output {
    cm_table *table;
    cJSON *added, *removed, *changed;
} diff_output;

static int note_change(void *arg, enum cm_change change, const cm_variable *before, const cm_variable *after)
{
    diff_output *out = arg;
    char text[CM_TEXT_MAX];
    const cm_variable *v = after ? after : before;
    if (!out->table) {
        cJSON *json = NULL;
        if (change == CM_CHANGED) {
            json = cm_need(cJSON_CreateObject());
            cJSON_AddItemToObject(json, "before", cm_json_variable(before));
            cJSON_AddItemToObject(json, "after", cm_json_variable(after));
        } else {
            json = cm_json_variable(v);
        }
        cJSON_AddItemToArray(change == CM_ADDED     ? out->added
                             : change == CM_REMOVED ? out->removed
                                                    : out->changed,
                             json);
        return 0;
    }
    cm_table_cell(out->table, "%s", change == CM_ADDED ? "added" : change == CM_REMOVED ? "removed" : "changed");
    cm_table_colour(out->table, change == CM_ADDED ? CM_GREEN : change == CM_REMOVED ? CM_RED : CM_YELLOW);
    cm_table_cell(out->table, "%s", v->name);
    bool retyped = change == CM_CHANGED && strcmp(before->type, after->type) != 0;
    cm_table_cell(out->table, "%s%s%s", retyped ? before->type : "", retyped ? " -> " : "", v->type);
    cm_table_cell(out->table, "%s", before ? cm_size_text(before->size, text) : "");
    cm_table_cell(out->table, "%s", after ? cm_size_text(after->size, text) : "");
    return 0;
}

/* Opens both sides; with one address the other side is its parent, or nothing for the first checkpoint. */
static int open_sides(cm_store *store, const cm_arguments *a, cm_checkpoint **before, cm_checkpoint **after)
{
    if (a->count == 2) {
        int result = cm_checkpoint_open_address(store, a->values[0], before);
        return result < 0 ? result : cm_checkpoint_open_address(store, a->values[1], after);
    }
    int result = cm_checkpoint_open_address(store, a->values[0], after);
    return result < 0 ? result : cm_checkpoint_open_parent(*after, before);
}

int cm_command_diff(int argc, char **argv)
{
    static const struct argp argp = {.parser = cm_parse_argument,
                                     .args_doc = "ADDRESS [ADDRESS]",
                                     .doc = "Tell which variables differ between two checkpoints, or between one and "
                                            "its parent (the nearest one before it "
                                            "that was not removed). "
                                            "Nothing is unpickled.",
                                     .children = cm_options_children};
    static const cm_column columns[] = {
        {"", false}, {"VARIABLE", false}, {"TYPE", false}, {"BEFORE", true}, {"AFTER", true}};
    cm_arguments a = {.min = 1, .max = 2};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_store *store = NULL;
    if (cm_open(&a.options, CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;
    cm_checkpoint *before = NULL, *after = NULL;
    int result = open_sides(store, &a, &before, &after);
    if (result == 0 && a.options.json) {
        cJSON *json = cm_need(cJSON_CreateObject());
        cJSON_AddItemToObject(json, "before", before ? cm_json_checkpoint(before) : cm_need(cJSON_CreateNull()));
        cJSON_AddItemToObject(json, "after", cm_json_checkpoint(after));
        diff_output out = {.added = cm_need(cJSON_AddArrayToObject(json, "added")),
                           .removed = cm_need(cJSON_AddArrayToObject(json, "removed")),
                           .changed = cm_need(cJSON_AddArrayToObject(json, "changed"))};
        result = cm_checkpoint_diff(before, after, note_change, &out);
        cm_json_print(json);
    } else if (result == 0) {
        diff_output out = {.table = cm_table_new(columns, 5)};
        result = cm_checkpoint_diff(before, after, note_change, &out);
        cm_table_print(out.table);
    }
    if (result < 0)
        cm_report(result);
    cm_checkpoint_unref(before);
    cm_checkpoint_unref(after);
    cm_store_unref(store);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}
