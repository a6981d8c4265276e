/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - the commands stat and verify: sizes and facts, and whether all is still as it was written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"

/* ---- stat -------------------------------------------------------------------------------------------------------- */

static void print_size(const char *key, uint64_t size)
{
    char text[CM_TEXT_MAX];
    printf("%-14s%s (%llu bytes)\n", key, cm_size_text(size, text), (unsigned long long)size);
}

static void print_count(const char *key, uint64_t count)
{
    printf("%-14s%llu\n", key, (unsigned long long)count);
}

static int stat_store(const cm_options *options)
{
    cm_store *store = NULL;
    if (cm_open(options, CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;
    cm_store_stat s = {0};
    int result = cm_store_statistics(store, &s);
    if (result < 0) {
        cm_report(result);
    } else if (options->json) {
        cJSON *json = cm_need(cJSON_CreateObject());
        cm_need(cJSON_AddStringToObject(json, "store", cm_store_path(store)));
        cm_json_number(json, "sessions", s.sessions);
        cm_json_number(json, "checkpoints", s.checkpoints);
        cm_json_number(json, "objects", s.objects);
        cm_json_number(json, "raw_bytes", s.raw_bytes);
        cm_json_number(json, "stored_bytes", s.stored_bytes);
        cm_json_number(json, "disk_bytes", s.disk_bytes);
        cm_json_print(json);
    } else {
        printf("%-14s%s\n", "store", cm_store_path(store));
        print_count("sessions", s.sessions);
        print_count("checkpoints", s.checkpoints);
        print_count("objects", s.objects);
        print_size("content", s.raw_bytes);
        print_size("stored", s.stored_bytes);
        print_size("on disk", s.disk_bytes);
    }
    cm_store_unref(store);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}

/* Objects of a checkpoint by kind. */
typedef struct kinds {
    uint64_t count[CM_KIND_CHECKPOINT + 1], size[CM_KIND_CHECKPOINT + 1], stored[CM_KIND_CHECKPOINT + 1];
} kinds;

static int count_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)id;
    kinds *k = arg;
    if (info->kind > CM_KIND_CHECKPOINT)
        return 0;
    k->count[info->kind]++;
    k->size[info->kind] += info->size;
    k->stored[info->kind] += info->stored;
    return 0;
}

static int stat_checkpoint(cm_checkpoint *c, bool as_json)
{
    kinds k = {0};
    int result = cm_checkpoint_objects(c, count_object, &k);
    if (result < 0)
        return result;
    cJSON *json = as_json ? cm_json_checkpoint(c) : NULL;
    cJSON *objects = json ? cm_need(cJSON_AddObjectToObject(json, "objects")) : NULL;
    static const cm_column columns[] = {{"OBJECTS", false}, {"COUNT", true}, {"CONTENT", true}, {"STORED", true}};
    cm_table *table = json ? NULL : cm_table_new(columns, 4);
    char text[CM_TEXT_MAX];
    for (unsigned kind = CM_KIND_POD; kind <= CM_KIND_CHECKPOINT; kind++) {
        if (json) {
            cJSON *entry = cm_need(cJSON_AddObjectToObject(objects, cm_kind_name(kind)));
            cm_json_number(entry, "count", k.count[kind]);
            cm_json_number(entry, "size", k.size[kind]);
            cm_json_number(entry, "stored", k.stored[kind]);
        } else {
            cm_table_cell(table, "%s", cm_kind_name(kind));
            cm_table_cell(table, "%llu", (unsigned long long)k.count[kind]);
            cm_table_cell(table, "%s", cm_size_text(k.size[kind], text));
            cm_table_cell(table, "%s", cm_size_text(k.stored[kind], text));
        }
    }
    if (json) {
        cm_json_print(json);
        return 0;
    }
    const cm_save_stats *s = cm_checkpoint_stats(c);
    print_count("variables", cm_checkpoint_variable_count(c));
    print_size("pickles", s->logical_bytes);
    print_size("written", s->bytes_written);
    print_count("pods", s->pods);
    print_count("new pods", s->pods_new);
    printf("%-14s%.3f s taking apart, %.3f s writing\n\n", "took", (double)s->walk_ns / 1e9, (double)s->write_ns / 1e9);
    cm_table_print(table);
    return 0;
}

static void print_variable(const cm_variable *v)
{
    char text[CM_TEXT_MAX], hex[CM_ID_HEX + 1];
    printf("%-14s%s", "variable", cm_colour_on(CM_BOLD));
    cm_print_text(stdout, v->name, false);
    printf("%s\n%-14s", cm_colour_off(CM_BOLD), "type");
    cm_print_text(stdout, v->type, false);
    putchar('\n');
    print_size("pickle", v->size);
    print_size("stored", v->stored);
    print_count("pods", v->pods);
    printf("%-14s%llu, %s\n", "changed", (unsigned long long)v->changed, cm_time_text(v->changed_time, text));
    cm_id_hex(&v->content, hex);
    printf("%-14s%s\n", "content", hex);
    if (*v->summary) {
        putchar('\n');
        cm_print_text(stdout, v->summary, true);
        putchar('\n');
    }
}

static int stat_variables(cm_checkpoint *c, const cm_arguments *a)
{
    cJSON *json = a->options.json ? cm_need(cJSON_CreateArray()) : NULL;
    int result = 0;
    for (unsigned i = 1; i < a->count && result == 0; i++) {
        const cm_variable *v = NULL;
        result = cm_checkpoint_variable(c, a->values[i], &v);
        if (result == 0 && json) {
            cJSON_AddItemToArray(json, cm_json_variable(v));
        } else if (result == 0) {
            if (i > 1)
                putchar('\n');
            print_variable(v);
        }
    }
    if (json)
        cm_json_print(json);
    return result;
}

/* ---- costs ------------------------------------------------------------------------------------------------------- */

/* Where costs are printed to: one of the two. */
typedef struct cost_output {
    cm_table *table;
    cJSON *list;
    const char *key; /* of names in JSON */
    cm_bar bar;
} cost_output;

static int show_cost_progress(void *arg, uint64_t done, uint64_t total)
{
    cm_bar_draw(&((cost_output *)arg)->bar, done, total);
    return 0;
}

static int print_cost(void *arg, const char *name, uint64_t number, const cm_cost *cost)
{
    cost_output *out = arg;
    char text[CM_TEXT_MAX];
    uint64_t shared = cost->stored - cost->unique;
    if (out->list) {
        cJSON *json = cm_need(cJSON_CreateObject());
        if (name)
            cm_need(cJSON_AddStringToObject(json, out->key, name));
        else
            cm_json_number(json, out->key, number);
        cm_json_number(json, "logical", cost->logical);
        cm_json_number(json, "stored", cost->stored);
        cm_json_number(json, "unique", cost->unique);
        cm_json_number(json, "shared", shared);
        cJSON_AddItemToArray(out->list, json);
        return 0;
    }
    cm_table_cell(out->table, "%s", cm_size_text(cost->logical, text));
    cm_table_cell(out->table, "%s", cm_size_text(cost->stored, text));
    cm_table_cell(out->table, "%s", cm_size_text(cost->unique, text));
    cm_table_cell(out->table, "%s", cm_size_text(shared, text));
    if (name)
        cm_table_cell(out->table, "%s", name);
    else
        cm_table_cell(out->table, "%llu", (unsigned long long)number);
    return 0;
}

/* Of the sessions, of the checkpoints of "SESSION", of the variables of "SESSION@REVISION". */
static int print_costs(cm_store *store, const char *address, cost_output *out)
{
    cm_checkpoint *c = NULL;
    if (!address)
        return cm_session_costs(store, print_cost, show_cost_progress, out);
    if (!strchr(address, '@'))
        return cm_checkpoint_costs(store, address, print_cost, show_cost_progress, out);
    int result = cm_checkpoint_open_address(store, address, &c);
    if (result == 0)
        result = cm_variable_costs(c, print_cost, show_cost_progress, out);
    cm_checkpoint_unref(c);
    return result;
}

static int stat_costs(const cm_arguments *a)
{
    static const char *const titles[] = {"SESSION", "CHECKPOINT", "VARIABLE"};
    static const char *const keys[] = {"session", "number", "variable"};
    cm_store *store = NULL;
    const char *address = a->count ? a->values[0] : NULL;
    size_t what = !address ? 0 : strchr(address, '@') ? 2 : 1;
    if (cm_open(&a->options, CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;
    const cm_column columns[] = {
        {"LOGICAL", true}, {"STORED", true}, {"UNIQUE", true}, {"SHARED", true}, {titles[what], false}};
    cost_output out = {.key = keys[what]};
    if (a->options.json)
        out.list = cm_need(cJSON_CreateArray());
    else
        out.table = cm_table_new(columns, 5);
    int result = print_costs(store, address, &out);
    cm_bar_clear(&out.bar);
    if (out.list)
        cm_json_print(out.list);
    else
        cm_table_print(out.table);
    int code = result < 0 ? cm_report(result) : CM_EXIT_OK;
    cm_store_unref(store);
    return code;
}

typedef struct stat_arguments {
    cm_arguments common;
    bool costs;
} stat_arguments;

static error_t parse_stat(int key, char *argument, struct argp_state *state)
{
    stat_arguments *a = state->input;
    if (key == ARGP_KEY_END && a->costs && a->common.count > 1)
        argp_error(state, "--costs is of all variables of a checkpoint");
    if (key != 'c')
        return cm_parse_argument(key, argument, state);
    a->costs = true;
    return 0;
}

int cm_command_stat(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"costs", 'c', NULL, 0,
         "What each session costs, with SESSION each of its checkpoints, with SESSION@REVISION each of its variables",
         0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = parse_stat,
        .args_doc = "[ADDRESS [VARIABLE...]]",
        .doc = "Give sizes and facts: of the store, of a checkpoint, or of variables (type, shape, preview). "
               "Nothing is unpickled.\vLOGICAL is the size of pickles, STORED what they take on disk, UNIQUE the part "
               "of that which "
               "nothing else in the store needs, SHARED the other part.",
        .children = cm_options_children};
    stat_arguments s = {.common = {.max = UINT16_MAX}};
    cm_parse(&argp, 0, argc, argv, &s);
    const cm_arguments *a = &s.common;
    if (s.costs)
        return stat_costs(a);
    if (!a->count)
        return stat_store(&a->options);
    cm_checkpoint *c = NULL;
    if (cm_open_address(&a->options, a->values[0], &c) < 0)
        return CM_EXIT_FAILURE;
    int result = a->count == 1 ? stat_checkpoint(c, a->options.json) : stat_variables(c, a);
    if (result < 0)
        cm_report(result);
    cm_checkpoint_unref(c);
    return result < 0 ? CM_EXIT_FAILURE : CM_EXIT_OK;
}

/* ---- verify ------------------------------------------------------------------------------------------------------ */

typedef struct verification {
    cJSON *damage; /* NULL: print it */
    cm_bar bar;
} verification;

static int show_progress(void *arg, uint64_t done, uint64_t total)
{
    cm_bar_draw(&((verification *)arg)->bar, done, total);
    return 0;
}

static int note_damage(void *arg, const char *where, const char *what)
{
    verification *v = arg;
    if (v->damage) {
        cJSON *entry = cm_need(cJSON_CreateObject());
        cm_need(cJSON_AddStringToObject(entry, "where", where));
        cm_need(cJSON_AddStringToObject(entry, "what", what));
        cJSON_AddItemToArray(v->damage, entry);
        return 0;
    }
    cm_bar_clear(&v->bar);
    printf("%sdamaged:%s ", cm_colour_on(CM_RED), cm_colour_off(CM_RED));
    cm_print_text(stdout, where, false);
    fputs(": ", stdout);
    cm_print_text(stdout, what, false);
    putchar('\n');
    fflush(stdout);
    return 0;
}

static void print_counted(uint64_t count, const char *what)
{
    printf("%llu %s%s, ", (unsigned long long)count, what, count == 1 ? "" : "s");
}

static void print_report(const cm_verify_report *r)
{
    char text[CM_TEXT_MAX];
    print_counted(r->sessions, "session");
    print_counted(r->checkpoints, "checkpoint");
    print_counted(r->variables, "variable");
    print_counted(r->objects, "object");
    printf("%s read: ", cm_size_text(r->bytes, text));
    cm_colour colour = r->damaged ? CM_RED : CM_GREEN;
    printf("%s", cm_colour_on(colour));
    if (r->damaged)
        printf("%llu damaged", (unsigned long long)r->damaged);
    else
        printf("all good");
    printf("%s\n", cm_colour_off(colour));
}

int cm_command_verify(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = cm_parse_argument,
        .doc = "Read everything again that can be reached from the store's sessions, and check it.\v"
               "Exit code 3: damage was found; each damaged thing is listed with the variables it belongs to.",
        .children = cm_options_children};
    cm_arguments a = {0};
    cm_parse(&argp, 0, argc, argv, &a);
    cm_store *store = NULL;
    if (cm_open(&a.options, CM_OPEN_READ, &store) < 0)
        return CM_EXIT_FAILURE;
    cJSON *json = a.options.json ? cm_need(cJSON_CreateObject()) : NULL;
    verification v = {0};
    if (json)
        v.damage = cm_need(cJSON_CreateArray());
    cm_verify_report r = {0};
    int result = cm_verify(store, note_damage, show_progress, &v, &r);
    cm_bar_clear(&v.bar);
    int code = result == 0 ? CM_EXIT_OK : result == -EILSEQ ? CM_EXIT_DAMAGE : cm_report(result);
    if (json) {
        cm_json_number(json, "sessions", r.sessions);
        cm_json_number(json, "checkpoints", r.checkpoints);
        cm_json_number(json, "variables", r.variables);
        cm_json_number(json, "objects", r.objects);
        cm_json_number(json, "bytes", r.bytes);
        cm_json_number(json, "damaged", r.damaged);
        cJSON_AddItemToObject(json, "damage", v.damage);
        cm_json_print(json);
    } else if (code != CM_EXIT_FAILURE) {
        print_report(&r);
    }
    cm_store_unref(store);
    return code;
}
