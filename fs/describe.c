/* SPDX-License-Identifier: Apache-2.0 */
#include "describe.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "names.h"

#define cm_cleanup(f) __attribute__((cleanup(f)))

static void delete_json(cJSON **json)
{
    cJSON_Delete(*json);
}

void cm_describe_time(int64_t time, char text[CM_TIME_TEXT])
{
    const int64_t second = 1000000000;
    int64_t fraction = time % second;
    if (fraction < 0)
        fraction += second;
    time_t seconds = (time_t)((time - fraction) / second);
    struct tm parts;
    char date[CM_TIME_TEXT - 11];

    if (gmtime_r(&seconds, &parts) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        strcpy(date, "?");
    snprintf(text, CM_TIME_TEXT, "%s.%09" PRId64 "Z", date, fraction);
}

size_t cm_describe_variable(const cm_variable *variable, char *text, size_t room)
{
    char changed[CM_TIME_TEXT];
    const char *summary = variable->summary != NULL ? variable->summary : "";
    size_t length = strlen(summary);
    const char *gap = length > 0 ? "\n" : "", *end = length > 0 && summary[length - 1] != '\n' ? "\n" : "";

    cm_describe_time(variable->changed_time, changed);
    int size = snprintf(text, room,
                        "name:    %s\ntype:    %s\nsize:    %" PRIu64 "\nstored:  %" PRIu64 "\npods:    %" PRIu64
                        "\nchanged: %06" PRIu64 " (%s)\n%s%s%s",
                        variable->name, variable->type != NULL ? variable->type : "", variable->size, variable->stored,
                        variable->pods, variable->changed, changed, gap, summary, end);
    return size < 0 ? 0 : (size_t)size;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/*
 * cJSON keeps numbers as doubles; these are written as they are. A failed addition leaves something out, so every one is
 * accounted for in *good.
 */
static void add_number(cJSON *object, const char *key, uint64_t value, bool *good)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%" PRIu64, value);
    *good &= cJSON_AddRawToObject(object, key, digits) != NULL;
}

static void add_string(cJSON *object, const char *key, const char *value, bool *good)
{
    *good &= (value != NULL ? cJSON_AddStringToObject(object, key, value) : cJSON_AddNullToObject(object, key)) != NULL;
}

static void add_time(cJSON *object, const char *key, const char *key_ns, int64_t time, bool *good)
{
    char text[CM_TIME_TEXT], digits[24];

    cm_describe_time(time, text);
    add_string(object, key, text, good);
    snprintf(digits, sizeof digits, "%" PRId64, time);
    *good &= cJSON_AddRawToObject(object, key_ns, digits) != NULL;
}

static void add_id(cJSON *object, const char *key, const cm_id *id, bool *good)
{
    char hex[CM_ID_HEX + 1];

    cm_id_hex(id, hex);
    add_string(object, key, hex, good);
}

static void add_parents(cJSON *root, cm_checkpoint *checkpoint, bool *good)
{
    cJSON *parents = cJSON_AddArrayToObject(root, "parents");

    *good &= parents != NULL;
    for (size_t i = 0; *good && i < cm_checkpoint_parent_count(checkpoint); i++) {
        cJSON *parent = cJSON_CreateObject();
        if (parent == NULL || !cJSON_AddItemToArray(parents, parent)) {
            cJSON_Delete(parent);
            *good = false;
            return;
        }
        add_id(parent, "id", cm_checkpoint_parent(checkpoint, i), good);
        add_number(parent, "number", cm_checkpoint_parent_number(checkpoint, i), good);
    }
}

static void add_cell(cJSON *root, const cm_cell *cell, bool *good)
{
    cJSON *object = cell ? cJSON_AddObjectToObject(root, "cell") : cJSON_AddNullToObject(root, "cell");

    *good &= object != NULL;
    if (!*good || !cell)
        return;
    add_number(object, "execution", cell->execution, good);
    add_number(object, "duration_ns", cell->duration_ns, good);
    add_string(object, "error", cell->error, good);
}

static void add_stats(cJSON *root, const cm_save_stats *stats, bool *good)
{
    cJSON *object = cJSON_AddObjectToObject(root, "stats");

    *good &= object != NULL;
    if (!*good)
        return;
    add_number(object, "logical_bytes", stats->logical_bytes, good);
    add_number(object, "bytes_written", stats->bytes_written, good);
    add_number(object, "pods", stats->pods, good);
    add_number(object, "pods_new", stats->pods_new, good);
    add_number(object, "walk_ns", stats->walk_ns, good);
    add_number(object, "write_ns", stats->write_ns, good);
}

static void add_variable(cJSON *variables, const cm_variable *variable, bool *good)
{
    char file[CM_FILE_NAME_MAX + 1];
    char path[sizeof file + sizeof "vars/"];
    cJSON *object = cJSON_AddObjectToObject(variables, variable->name);

    *good &= object != NULL;
    if (!*good)
        return;
    add_string(object, "type", variable->type, good);
    add_number(object, "size", variable->size, good);
    add_number(object, "stored", variable->stored, good);
    add_number(object, "pods", variable->pods, good);
    add_number(object, "changed", variable->changed, good);
    add_time(object, "changed_time", "changed_time_ns", variable->changed_time, good);
    add_id(object, "content", &variable->content, good);
    cm_name_encode(variable->name, ".pkl", file);
    snprintf(path, sizeof path, "vars/%s", file);
    add_string(object, "file", path, good);
    if (variable->preview_size == 0)
        return;
    cm_name_encode(variable->name, ".png", file);
    snprintf(path, sizeof path, "info/%s", file);
    add_string(object, "preview", path, good);
}

/* Pretty, with a newline at the end. */
static int print_json(const cJSON *root, char **text)
{
    char *printed = cJSON_Print(root);
    char *whole = NULL;

    if (printed != NULL) {
        size_t length = strlen(printed);
        whole = realloc(printed, length + 2);
        if (whole == NULL) {
            free(printed);
        } else {
            whole[length] = '\n';
            whole[length + 1] = '\0';
        }
    }
    *text = whole;
    return whole != NULL ? 0 : -ENOMEM;
}

int cm_describe_checkpoint(cm_checkpoint *checkpoint, char **text)
{
    cJSON *root cm_cleanup(delete_json) = cJSON_CreateObject();
    const cm_variable *variables = NULL;
    bool good = root != NULL;
    size_t count = 0;
    int result = cm_checkpoint_variables(checkpoint, &variables, &count);

    if (result < 0 || !good)
        return result < 0 ? result : -ENOMEM;
    add_id(root, "id", cm_checkpoint_id(checkpoint), &good);
    add_string(root, "session", cm_checkpoint_session(checkpoint), &good);
    add_number(root, "number", cm_checkpoint_number(checkpoint), &good);
    add_time(root, "time", "time_ns", cm_checkpoint_time(checkpoint), &good);
    add_parents(root, checkpoint, &good);
    add_string(root, "message", cm_checkpoint_message(checkpoint), &good);
    add_cell(root, cm_checkpoint_cell(checkpoint), &good);
    add_stats(root, cm_checkpoint_stats(checkpoint), &good);
    cJSON *list = cJSON_AddObjectToObject(root, "variables");
    good &= list != NULL;
    for (size_t i = 0; good && i < count; i++)
        add_variable(list, &variables[i], &good);
    list = cJSON_AddObjectToObject(root, "unsaved");
    good &= list != NULL;
    for (size_t i = 0; good && i < cm_checkpoint_unsaved_count(checkpoint); i++)
        add_string(list, cm_checkpoint_unsaved_name(checkpoint, i), cm_checkpoint_unsaved_reason(checkpoint, i), &good);
    return good ? print_json(root, text) : -ENOMEM;
}

int cm_describe_store(cm_store *store, char **text)
{
    cJSON *root cm_cleanup(delete_json) = cJSON_CreateObject();
    bool good = root != NULL;
    cm_store_stat stat;
    int result = cm_store_statistics(store, &stat);

    if (result < 0 || !good)
        return result < 0 ? result : -ENOMEM;
    add_string(root, "store", cm_store_path(store), &good);
    add_number(root, "sessions", stat.sessions, &good);
    add_number(root, "checkpoints", stat.checkpoints, &good);
    add_number(root, "objects", stat.objects, &good);
    add_number(root, "raw_bytes", stat.raw_bytes, &good);
    add_number(root, "stored_bytes", stat.stored_bytes, &good);
    add_number(root, "disk_bytes", stat.disk_bytes, &good);
    return good ? print_json(root, text) : -ENOMEM;
}
