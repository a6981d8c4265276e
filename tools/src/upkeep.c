/* SPDX-License-Identifier: Apache-2.0 */
/* upkeep.c - the command gc: removing what no checkpoint needs. */
#include <stdlib.h>

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
