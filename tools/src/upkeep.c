/* SPDX-License-Identifier: Apache-2.0 */
/* upkeep.c - the commands prune and gc: removing checkpoints, and what no checkpoint needs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"

static int show_progress(void *arg, uint64_t done, uint64_t total)
{
    cm_bar_draw(arg, done, total);
    return 0;
}

/* ---- gc ---------------------------------------------------------------------------------------------------------- */

typedef struct gc_arguments {
    cm_arguments common;
    bool dry_run;
} gc_arguments;

static error_t parse_gc(int key, char *argument, struct argp_state *state)
{
    if (key != 'n')
        return cm_parse_argument(key, argument, state);
    ((gc_arguments *)state->input)->dry_run = true;
    return 0;
}

static void print_gc(const cm_gc_report *r, bool dry_run, bool json)
{
    char text[CM_TEXT_MAX];
    if (json) {
        cJSON *object = cm_need(cJSON_CreateObject());
        cm_need(cJSON_AddBoolToObject(object, "dry_run", dry_run));
        cm_json_number(object, "removed", r->removed);
        cm_json_number(object, "removed_bytes", r->removed_bytes);
        cm_json_number(object, "kept", r->kept);
        cm_json_number(object, "kept_bytes", r->kept_bytes);
        cm_json_number(object, "disk_before", r->disk_before);
        cm_json_number(object, "disk_after", r->disk_after);
        cm_json_print(object);
        return;
    }
    printf("%s %llu object%s, %s; ", dry_run ? "would remove" : "removed", (unsigned long long)r->removed,
           r->removed == 1 ? "" : "s", cm_size_text(r->removed_bytes, text));
    printf("%llu stay%s, %s", (unsigned long long)r->kept, r->kept == 1 ? "s" : "", cm_size_text(r->kept_bytes, text));
    if (!dry_run) {
        printf("; on disk %s before", cm_size_text(r->disk_before, text));
        printf(", %s now", cm_size_text(r->disk_after, text));
    }
    putchar('\n');
}

int cm_command_gc(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"dry-run", 'n', NULL, 0, "Only tell what would be removed", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = parse_gc,
        .doc = "Remove what no checkpoint needs, and give the space back. Saves may go on meanwhile.",
        .children = cm_options_children};
    gc_arguments a = {0};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_store *store = NULL;
    if (cm_open(&a.common.options, CM_OPEN_WRITE, &store) < 0)
        return CM_EXIT_FAILURE;
    cm_bar bar = {0};
    cm_gc_report report;
    int result = cm_gc(store, a.dry_run, show_progress, &bar, &report);
    cm_bar_clear(&bar);
    int code = result < 0 ? cm_report(result) : CM_EXIT_OK;
    if (result == 0)
        print_gc(&report, a.dry_run, a.common.options.json);
    cm_store_unref(store);
    return code;
}

/* ---- prune ------------------------------------------------------------------------------------------------------- */

typedef struct prune_arguments {
    cm_arguments common;
    cm_retention keep;
    bool yes;
} prune_arguments;

enum { KEEP_LAST = 256, KEEP_HOURLY, KEEP_DAILY, KEEP_WEEKLY, KEEP_TAGGED };

static uint64_t parse_count(const char *text, struct argp_state *state)
{
    char *end;
    errno = 0;
    uint64_t count = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-')
        argp_error(state, "how many to keep is a number, not '%s'", text);
    return count;
}

static error_t parse_prune(int key, char *argument, struct argp_state *state)
{
    prune_arguments *a = state->input;
    switch (key) {
    case KEEP_LAST:
        a->keep.last = parse_count(argument, state);
        return 0;
    case KEEP_HOURLY:
        a->keep.hourly = parse_count(argument, state);
        return 0;
    case KEEP_DAILY:
        a->keep.daily = parse_count(argument, state);
        return 0;
    case KEEP_WEEKLY:
        a->keep.weekly = parse_count(argument, state);
        return 0;
    case KEEP_TAGGED:
        a->keep.tagged = true;
        return 0;
    case 'y':
        a->yes = true;
        return 0;
    case ARGP_KEY_END:
        if (!a->keep.last && !a->keep.hourly && !a->keep.daily && !a->keep.weekly && !a->keep.tagged)
            argp_error(state, "say what to keep: --keep-last N, for example");
        return cm_parse_argument(key, argument, state);
    default:
        return cm_parse_argument(key, argument, state);
    }
}

/* "head, tagged": why a checkpoint is kept. */
static void json_reasons(cJSON *object, unsigned kept_for)
{
    static const char *const reasons[] = {"head", "branch", "tag", "last", "hourly", "daily", "weekly"};
    cJSON *list = cm_need(cJSON_AddArrayToObject(object, "kept_for"));
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (kept_for & 1U << i)
            cJSON_AddItemToArray(list, cm_need(cJSON_CreateString(reasons[i])));
}

/* Where prune prints to: one of the two. */
typedef struct prune_output {
    cm_table *table;
    cJSON *list;
    uint64_t removed, kept;
} prune_output;

static void print_entry(prune_output *out, const char *session, const cm_prune_entry *entry)
{
    char text[CM_TEXT_MAX];
    out->removed += !entry->kept_for;
    out->kept += entry->kept_for != 0;
    if (out->list) {
        cJSON *json = cm_need(cJSON_CreateObject());
        cm_need(cJSON_AddStringToObject(json, "session", session));
        cm_json_number(json, "number", entry->number);
        cm_json_time(json, "time", entry->time);
        json_reasons(json, entry->kept_for);
        cJSON_AddItemToArray(out->list, json);
    } else if (!entry->kept_for) {
        cm_table_cell(out->table, "%s", session);
        cm_table_cell(out->table, "%llu", (unsigned long long)entry->number);
        cm_table_colour(out->table, CM_YELLOW);
        cm_table_cell(out->table, "%s", cm_time_text(entry->time, text));
    }
}

static int prune_session(cm_store *store, const char *session, const prune_arguments *a, prune_output *out)
{
    cm_prune_entry *entries = NULL;
    size_t count = 0;
    int result = cm_prune(store, session, &a->keep, !a->yes, &entries, &count);
    for (size_t i = 0; i < count && result == 0; i++)
        print_entry(out, session, &entries[i]);
    free(entries);
    return result;
}

typedef struct session_names {
    char **items;
    size_t count, capacity;
} session_names;

static int add_session(void *arg, const char *name, uint64_t number)
{
    session_names *names = arg;
    (void)number;
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? 2 * names->capacity : 16;
        names->items = cm_need(reallocarray(names->items, names->capacity, sizeof *names->items));
    }
    names->items[names->count++] = cm_need(strdup(name));
    return 0;
}

static int prune_all(cm_store *store, const prune_arguments *a, prune_output *out)
{
    session_names names = {0};
    int result = 0;
    for (unsigned i = 0; i < a->common.count; i++)
        add_session(&names, a->common.values[i], 0);
    if (!a->common.count)
        result = cm_session_list(store, add_session, &names);
    for (size_t i = 0; i < names.count && result == 0; i++)
        result = prune_session(store, names.items[i], a, out);
    for (size_t i = 0; i < names.count; i++)
        free(names.items[i]);
    free(names.items);
    return result;
}

int cm_command_prune(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"keep-last", KEEP_LAST, "N", 0, "Keep the N newest", 0},
        {"keep-hourly", KEEP_HOURLY, "N", 0, "Keep the newest of each of the last N hours that have one", 0},
        {"keep-daily", KEEP_DAILY, "N", 0, "The same with days", 0},
        {"keep-weekly", KEEP_WEEKLY, "N", 0, "The same with weeks", 0},
        {"keep-tagged", KEEP_TAGGED, NULL, 0, "Keep what has a tag; else tags go with their checkpoints", 0},
        {"yes", 'y', NULL, 0, "Do it; without this it is only told what would be removed", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = parse_prune,
        .args_doc = "[SESSION...]",
        .doc = "Remove the checkpoints of sessions (all of them, if none is named) that no rule keeps. Heads, and the "
               "newest checkpoint of each branch, are always kept.\vThe space is given back by `chipmink gc`.",
        .children = cm_options_children};
    static const cm_column columns[] = {{"SESSION", false}, {"NUMBER", true}, {"SAVED", false}};
    prune_arguments a = {.common = {.max = UINT16_MAX}};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_store *store = NULL;
    if (cm_open(&a.common.options, a.yes ? CM_OPEN_WRITE : CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;
    cJSON *json = a.common.options.json ? cm_need(cJSON_CreateObject()) : NULL;
    prune_output out = {.list = json ? cm_need(cJSON_AddArrayToObject(json, "checkpoints")) : NULL};
    if (!json)
        out.table = cm_table_new(columns, 3);
    int result = prune_all(store, &a, &out);
    if (json) {
        cm_need(cJSON_AddBoolToObject(json, "dry_run", !a.yes));
        cm_json_number(json, "removed", out.removed);
        cm_json_number(json, "kept", out.kept);
        cm_json_print(json);
    } else {
        cm_table_print(out.table);
        printf("%s %llu checkpoint%s, %llu kept%s\n", a.yes ? "removed" : "would remove",
               (unsigned long long)out.removed, out.removed == 1 ? "" : "s", (unsigned long long)out.kept,
               !out.removed ? ""
               : a.yes      ? "; chipmink gc gives their space back"
                            : "; --yes does it");
    }
    int code = result < 0 ? cm_report(result) : CM_EXIT_OK;
    cm_store_unref(store);
    return code;
}
