/* SPDX-License-Identifier: Apache-2.0 */
/* history.c - the commands sessions and log. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"

/* ---- refs of a session ----------------------------------------------------------------------------------------------- */

typedef struct ref {
    char *name;
    uint64_t number;
} ref;

typedef struct refs {
    ref *items;
    size_t count;
} refs;

static int add_ref(void *arg, const char *name, uint64_t number)
{
    refs *r = arg;
    r->items = cm_need(reallocarray(r->items, r->count + 1, sizeof(*r->items)));
    r->items[r->count++] = (ref){cm_need(strdup(name)), number};
    return 0;
}

static void free_refs(refs *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->items[i].name);
    free(r->items);
}

typedef struct session_state {
    cm_session_info info;
    refs branches, tags;
} session_state;

static void free_session(session_state *s)
{
    cm_session_info_clear(&s->info);
    free_refs(&s->branches);
    free_refs(&s->tags);
}

static int read_session(cm_store *store, const char *name, session_state *s)
{
    int result = cm_session_get(store, name, &s->info);
    if (result == 0)
        result = cm_ref_list(store, name, CM_REF_BRANCH, add_ref, &s->branches);
    if (result == 0)
        result = cm_ref_list(store, name, CM_REF_TAG, add_ref, &s->tags);
    return result;
}

static cJSON *json_refs(cJSON *object, const char *key, const refs *r)
{
    cJSON *json = cm_need(cJSON_AddObjectToObject(object, key));
    for (size_t i = 0; i < r->count; i++)
        cm_need(cJSON_AddNumberToObject(json, r->items[i].name, (double)r->items[i].number));
    return json;
}

static void add_json_session(cJSON *json, const session_state *s)
{
    cm_need(cJSON_AddNumberToObject(json, "head", (double)s->info.head_number));
    cm_need(s->info.branch ? cJSON_AddStringToObject(json, "branch", s->info.branch)
                           : cJSON_AddNullToObject(json, "branch"));
    json_refs(json, "branches", &s->branches);
    json_refs(json, "tags", &s->tags);
}

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

typedef struct numbers {
    uint64_t *items; /* ascending */
    size_t count, capacity;
} numbers;

static int add_number(void *arg, uint64_t number, const cm_id *id)
{
    numbers *n = arg;
    (void)id;
    if (n->count == n->capacity) {
        n->capacity = n->capacity ? 2 * n->capacity : 64;
        n->items = cm_need(reallocarray(n->items, n->capacity, sizeof *n->items));
    }
    n->items[n->count++] = number;
    return 0;
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

/* "main, trial" with the names of refs, "-" where there are none. */
static char *join_refs(const refs *r)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = cm_need(open_memstream(&text, &size));
    for (size_t i = 0; i < r->count; i++)
        fprintf(file, "%s%s", i ? ", " : "", r->items[i].name);
    if (!r->count)
        fputc('-', file);
    if (fclose(file))
        cm_need(NULL);
    return text;
}

/* Adds one session to `table` or `list`, whichever there is. */
static int add_session(cm_store *store, const ref *session, cm_table *table, cJSON *list)
{
    session_state s = {0};
    cm_checkpoint *last = NULL;
    numbers there = {0};
    int result = read_session(store, session->name, &s);
    if (result == 0)
        result = cm_checkpoint_list(store, session->name, add_number, &there);
    if (result == 0 && there.count)
        result = cm_checkpoint_open_number(store, session->name, there.items[there.count - 1], &last);
    if (result == 0 && list) {
        cJSON *json = cm_need(cJSON_CreateObject());
        cm_need(cJSON_AddStringToObject(json, "name", session->name));
        cm_need(cJSON_AddNumberToObject(json, "checkpoints", (double)there.count));
        add_json_session(json, &s);
        if (last)
            cm_json_time(json, "time", cm_checkpoint_time(last));
        cJSON_AddItemToArray(list, json);
    } else if (result == 0) {
        char text[CM_TEXT_MAX];
        char *branches = join_refs(&s.branches), *tags = join_refs(&s.tags);
        cm_table_cell(table, "%s", session->name);
        cm_table_cell(table, "%zu", there.count);
        cm_table_cell(table, "%llu", (unsigned long long)s.info.head_number);
        cm_table_cell(table, "%s", last ? cm_time_text(cm_checkpoint_time(last), text) : "-");
        cm_table_cell(table, "%s", branches);
        cm_table_cell(table, "%s", tags);
        free(branches);
        free(tags);
    }
    free(there.items);
    cm_checkpoint_unref(last);
    free_session(&s);
    return result;
}

int cm_command_sessions(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = cm_parse_argument, .doc = "List the sessions of a store.", .children = cm_options_children};
    static const cm_column columns[] = {{"SESSION", false},    {"CHECKPOINTS", true}, {"HEAD", true},
                                        {"LAST SAVED", false}, {"BRANCHES", false},   {"TAGS", false}};
    cm_arguments a = {0};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_store *store = NULL;
    if (cm_open(&a.options, CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;
    refs sessions = {0};
    cJSON *json = a.options.json ? cm_need(cJSON_CreateObject()) : NULL;
    cJSON *list = json ? cm_need(cJSON_AddArrayToObject(json, "sessions")) : NULL;
    cm_table *table = json ? NULL : cm_table_new(columns, 6);
    int result = cm_session_list(store, add_ref, &sessions);
    for (size_t i = 0; result == 0 && i < sessions.count; i++)
        result = add_session(store, &sessions.items[i], table, list);
    if (result < 0)
        cm_report(result);
    if (json)
        cm_json_print(json);
    else
        cm_table_print(table);
    free_refs(&sessions);
    cm_store_unref(store);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}

/* ---- log --------------------------------------------------------------------------------------------------------- */

typedef struct log_arguments {
    cm_arguments common;
    uint64_t most;
} log_arguments;

static error_t parse_log(int key, char *argument, struct argp_state *state)
{
    log_arguments *a = state->input;
    if (key != 'n')
        return cm_parse_argument(key, argument, state);
    char *end;
    errno = 0;
    a->most = strtoull(argument, &end, 10);
    if (errno || *end || end == argument || *argument == '-')
        argp_error(state, "--number takes a number, not '%s'", argument);
    return 0;
}

/* "head, main, v1": what points at a checkpoint. */
static char *pointers(const session_state *s, uint64_t number)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = cm_need(open_memstream(&text, &size));
    const char *comma = "";
    if (s->info.head_number == number) {
        fputs("head", file);
        comma = ", ";
    }
    const refs *kinds[] = {&s->branches, &s->tags};
    for (unsigned k = 0; k < 2; k++)
        for (size_t i = 0; i < kinds[k]->count; i++)
            if (kinds[k]->items[i].number == number) {
                fprintf(file, "%s%s", comma, kinds[k]->items[i].name);
                comma = ", ";
            }
    if (fclose(file))
        cm_need(NULL);
    return text;
}

static void add_log_row(cm_table *table, const session_state *s, const cm_checkpoint *c)
{
    char text[CM_TEXT_MAX];
    const cm_save_stats *stats = cm_checkpoint_stats(c);
    const char *message = cm_checkpoint_message(c);
    char *points = pointers(s, cm_checkpoint_number(c));
    cm_table_cell(table, "%llu", (unsigned long long)cm_checkpoint_number(c));
    cm_table_colour(table, CM_YELLOW);
    cm_table_cell(table, "%s", cm_time_text(cm_checkpoint_time(c), text));
    cm_table_cell(table, "%zu", cm_checkpoint_variable_count(c));
    cm_table_cell(table, "%s", cm_size_text(stats->logical_bytes, text));
    cm_table_cell(table, "%s", cm_size_text(stats->bytes_written, text));
    cm_table_cell(table, "%s", points);
    cm_table_colour(table, CM_GREEN);
    cm_table_cell(table, "%s", message ? message : "");
    free(points);
}

/* The checkpoints to list, newest first: a line of descent, or all that are left of the session. */
typedef struct walk {
    cm_store *store;
    const char *session;
    bool descent;
    numbers left;
} walk;

/* The one after `c`, which the caller gives up; NULL: the first, or none is left. */
static int step(walk *w, cm_checkpoint **c)
{
    cm_checkpoint *next = NULL;
    int result = 0;
    if (w->descent) {
        result = cm_checkpoint_open_parent(*c, &next);
    } else {
        do
            result = w->left.count
                         ? cm_checkpoint_open_number(w->store, w->session, w->left.items[--w->left.count], &next)
                         : 0;
        while (result == -ENOENT); /* removed just now */
    }
    cm_checkpoint_unref(*c);
    *c = next;
    return result;
}

int cm_command_log(int argc, char **argv)
{
    static const struct argp_option options[] = {{"number", 'n', "N", 0, "List the newest N only", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_log,
        .args_doc = "SESSION[@REVISION]",
        .doc = "List the checkpoints of a session, newest first: all of them, or those that a revision descends "
               "from.\vLOGICAL is the size of the variables' pickles, WRITTEN what the checkpoint added to the store.",
        .children = cm_options_children};
    static const cm_column columns[] = {{"NUMBER", true},  {"SAVED", false}, {"VARIABLES", true}, {"LOGICAL", true},
                                        {"WRITTEN", true}, {"REFS", false},  {"MESSAGE", false}};
    log_arguments a = {.common = {.min = 1, .max = 1}, .most = UINT64_MAX};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_store *store = NULL;
    if (cm_open(&a.common.options, CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;

    const char *address = a.common.values[0];
    bool descent = strchr(address, '@') != NULL;
    cm_checkpoint *c = NULL;
    session_state s = {0};
    int result = cm_checkpoint_open_address(store, address, &c);
    if (result == 0)
        result = read_session(store, cm_checkpoint_session(c), &s);
    walk w = {.store = store, .session = address, .descent = descent};
    if (result == 0 && !descent)
        result = cm_checkpoint_list(store, address, add_number, &w.left);
    if (result == 0 && !descent)
        result = step(&w, &c);
    cJSON *json = a.common.options.json && result == 0 ? cm_need(cJSON_CreateObject()) : NULL;
    cJSON *list = NULL;
    cm_table *table = NULL;
    if (json) {
        cm_need(cJSON_AddStringToObject(json, "session", cm_checkpoint_session(c)));
        add_json_session(json, &s);
        list = cm_need(cJSON_AddArrayToObject(json, "checkpoints"));
    } else if (result == 0) {
        table = cm_table_new(columns, 7);
    }
    for (uint64_t i = 0; result == 0 && c && i < a.most; i++) {
        if (list)
            cJSON_AddItemToArray(list, cm_json_checkpoint(c));
        else
            add_log_row(table, &s, c);
        result = step(&w, &c);
    }
    if (result < 0)
        cm_report(result);
    if (json)
        cm_json_print(json);
    if (table)
        cm_table_print(table);
    free(w.left.items);
    free_session(&s);
    cm_checkpoint_unref(c);
    cm_store_unref(store);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}
