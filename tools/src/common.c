/* SPDX-License-Identifier: Apache-2.0 */
/* common.c - options, stores, errors and JSON facts of all commands. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "output.h"

/* ---- options ----------------------------------------------------------------------------------------------------- */

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    cm_options *options = state->input;
    switch (key) {
    case 'S':
        options->store = argument;
        return 0;
    case 'J':
        options->json = true;
        return 0;
    case 'E':
        options->embedded = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option common_options[] = {
    {"store", 'S', "DIR", 0, "Store to read (default: $CHIPMINK_STORE, or ~/.chipmink)", 0},
    {"embedded", 'E', NULL, 0, "Read the store without its server", 0},
    {"json", 'J', NULL, 0, "Print JSON, for programs", 0},
    {0},
};

static const struct argp options_argp = {.options = common_options, .parser = parse_option};

const struct argp_child cm_options_children[] = {{&options_argp, 0, NULL, 0}, {0}};

error_t cm_parse_argument(int key, char *argument, struct argp_state *state)
{
    (void)argument; /* words are taken all at once, by ARGP_KEY_ARGS */
    cm_arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->options;
        return 0;
    case ARGP_KEY_ARGS:
        a->values = (const char **)state->argv + state->next;
        a->count = (unsigned)(state->argc - state->next);
        state->next = state->argc;
        return 0;
    case ARGP_KEY_END:
        if (a->count < a->min)
            argp_usage(state);
        if (a->count > a->max)
            argp_error(state, "there is one argument too many: '%s'", a->values[a->max]);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void cm_parse(const struct argp *argp, unsigned flags, int argc, char **argv, void *arguments)
{
    error_t error = argp_parse(argp, argc, argv, flags, NULL, arguments);
    if (error) {
        fprintf(stderr, "chipmink: %s\n", strerror(error));
        exit(CM_EXIT_FAILURE);
    }
}

/* ---- stores ------------------------------------------------------------------------------------------------------ */

int cm_report(int result)
{
    const char *sentence = cm_error_message();
    fputs("chipmink: ", stderr);
    cm_print_text(stderr, *sentence ? sentence : strerror(-result), false);
    fputc('\n', stderr);
    return CM_EXIT_FAILURE;
}

/*
 * Through the server, which this very program can be. A store that only others may write to, or that a process has embedded, is
 * read without one.
 */
static int open_store(const char *path, bool embedded, unsigned flags, cm_store **store)
{
    const char *asked = getenv("CHIPMINK_EMBEDDED");
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (embedded || (asked && *asked && strcmp(asked, "0") != 0) || size < 0 || access(path, W_OK) < 0)
        return cm_store_open(path, flags, store);
    self[size] = 0;
    int result = cm_store_connect(path, flags, self, store);
    return result == -EBUSY && flags == CM_OPEN_READ ? cm_store_open(path, flags, store) : result;
}

int cm_open(const cm_options *options, unsigned flags, cm_store **store)
{
    char *path = NULL;
    int result = options->store ? 0 : cm_store_default_path(&path);
    if (result == 0)
        result = open_store(options->store ? options->store : path, options->embedded, flags, store);
    free(path);
    if (result < 0)
        cm_report(result);
    return result;
}

int cm_open_address(const cm_options *options, const char *address, cm_checkpoint **checkpoint)
{
    cm_store *store = NULL;
    int result = cm_open(options, CM_OPEN_READ, &store);
    if (result < 0)
        return result;
    result = cm_checkpoint_open_address(store, address, checkpoint);
    cm_store_unref(store); /* the checkpoint keeps it open */
    if (result < 0)
        cm_report(result);
    return result;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

void cm_json_time(cJSON *object, const char *key, int64_t time)
{
    time_t seconds = (time_t)(time / 1000000000);
    char date[32] = "", text[64];
    struct tm fields;
    if (gmtime_r(&seconds, &fields))
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &fields);
    snprintf(text, sizeof(text), "%s.%09dZ", date, (int)(time % 1000000000));
    cm_need(cJSON_AddStringToObject(object, key, text));
}

static void add_text(cJSON *object, const char *key, const char *text)
{
    cm_need(text ? cJSON_AddStringToObject(object, key, text) : cJSON_AddNullToObject(object, key));
}

void cm_json_number(cJSON *object, const char *key, uint64_t number)
{
    cm_need(cJSON_AddNumberToObject(object, key, (double)number));
}

cJSON *cm_json_checkpoint(const cm_checkpoint *checkpoint)
{
    cJSON *json = cm_need(cJSON_CreateObject());
    char hex[CM_ID_HEX + 1];
    cm_id_hex(cm_checkpoint_id(checkpoint), hex);
    add_text(json, "session", cm_checkpoint_session(checkpoint));
    cm_json_number(json, "number", cm_checkpoint_number(checkpoint));
    add_text(json, "id", hex);
    cm_json_time(json, "time", cm_checkpoint_time(checkpoint));
    add_text(json, "message", cm_checkpoint_message(checkpoint));
    cJSON *parents = cm_need(cJSON_AddArrayToObject(json, "parents"));
    for (size_t i = 0; i < cm_checkpoint_parent_count(checkpoint); i++) {
        cJSON *parent = cm_need(cJSON_CreateObject());
        cm_id_hex(cm_checkpoint_parent(checkpoint, i), hex);
        cm_json_number(parent, "number", cm_checkpoint_parent_number(checkpoint, i));
        add_text(parent, "id", hex);
        cJSON_AddItemToArray(parents, parent);
    }
    const cm_cell *cell = cm_checkpoint_cell(checkpoint);
    cJSON *run = cm_need(cell ? cJSON_AddObjectToObject(json, "cell") : cJSON_AddNullToObject(json, "cell"));
    if (cell) {
        cm_json_number(run, "execution", cell->execution);
        cm_need(cJSON_AddNumberToObject(run, "seconds", (double)cell->duration_ns / 1e9));
        add_text(run, "error", cell->error);
    }
    const cm_save_stats *s = cm_checkpoint_stats(checkpoint);
    cJSON *stats = cm_need(cJSON_AddObjectToObject(json, "stats"));
    cm_json_number(stats, "logical_bytes", s->logical_bytes);
    cm_json_number(stats, "bytes_written", s->bytes_written);
    cm_json_number(stats, "pods", s->pods);
    cm_json_number(stats, "pods_new", s->pods_new);
    cm_need(cJSON_AddNumberToObject(stats, "walk_seconds", (double)s->walk_ns / 1e9));
    cm_need(cJSON_AddNumberToObject(stats, "write_seconds", (double)s->write_ns / 1e9));
    cm_json_number(json, "variable_count", cm_checkpoint_variable_count(checkpoint));
    cJSON *unsaved = cm_need(cJSON_AddObjectToObject(json, "unsaved"));
    for (size_t i = 0; i < cm_checkpoint_unsaved_count(checkpoint); i++)
        add_text(unsaved, cm_checkpoint_unsaved_name(checkpoint, i), cm_checkpoint_unsaved_reason(checkpoint, i));
    return json;
}

cJSON *cm_json_variable(const cm_variable *v)
{
    cJSON *json = cm_need(cJSON_CreateObject());
    char hex[CM_ID_HEX + 1];
    add_text(json, "name", v->name);
    add_text(json, "type", v->type);
    add_text(json, "summary", v->summary);
    cm_json_number(json, "rank", v->rank);
    cm_json_number(json, "size", v->size);
    cm_json_number(json, "stored", v->stored);
    cm_json_number(json, "pods", v->pods);
    cm_json_number(json, "changed", v->changed);
    cm_json_time(json, "changed_time", v->changed_time);
    cm_id_hex(&v->content, hex);
    add_text(json, "content", hex);
    return json;
}

void cm_json_print(cJSON *json)
{
    char *text = cm_need(cJSON_Print(json));
    puts(text);
    cJSON_free(text);
    cJSON_Delete(json);
}
