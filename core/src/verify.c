/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c - what a checkpoint consists of, and whether all of it is sound. */
#include "reach.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- listing ----------------------------------------------------------------------------------------------------- */

typedef struct listing {
    cm_object_visitor visit;
    void *arg;
} listing;

static int list_object(void *arg, const cm_reached *object, int result)
{
    const listing *l = arg;
    cm_object_info info = object->info;
    info.kind = object->kind; /* a snapshot cannot tell trees from chunks; what refers to them can */
    return result ? result : l->visit(l->arg, &object->id, &info);
}

int cm_checkpoint_objects(cm_checkpoint *checkpoint, cm_object_visitor visit, void *arg)
{
    listing l = {visit, arg};
    cm_reach *reach = cm_reach_new(checkpoint->store, false, list_object, &l);
    if (!reach)
        return cm_fail(ENOMEM, "out of memory");
    int result = cm_reach_from(reach, &(cm_reached){.id = checkpoint->id, .kind = CM_KIND_CHECKPOINT}, NULL, NULL);
    cm_reach_free(reach);
    return result;
}

/* ---- verifying --------------------------------------------------------------------------------------------------- */

typedef struct verifying {
    cm_store *store;
    cm_reach *reach;
    cm_damage_visitor damage;
    cm_progress_visitor progress;
    void *arg;
    cm_verify_report *report;
    uint64_t total;    /* objects in the store */
    char message[512]; /* of the last damaged object */
} verifying;

static int verify_object(void *arg, const cm_reached *object, int result)
{
    verifying *v = arg;
    v->report->objects++;
    v->report->bytes += result ? 0 : object->info.size;
    if (result) {
        v->report->damaged++;
        snprintf(v->message, sizeof v->message, "%s", cm_error_message());
    }
    return v->progress && v->report->objects % 256 == 0 ? v->progress(v->arg, v->report->objects, v->total) : 0;
}

static int tell(verifying *v, const char *where, const char *what)
{
    return v->damage ? v->damage(v->arg, where, what) : 0;
}

/* Checks a part of a checkpoint; damage below it is reported under the part's name. */
static int verify_part(verifying *v, const cm_reached *part, const char *where)
{
    bool is_damaged;
    cm_id damaged;
    v->message[0] = 0;
    int result = cm_reach_from(v->reach, part, &is_damaged, &damaged);
    if (result || !is_damaged)
        return result;
    char what[640], hex[CM_ID_HEX + 1];
    cm_id_hex(&damaged, hex);
    if (v->message[0])
        snprintf(what, sizeof what, "%s", v->message);
    else
        snprintf(what, sizeof what, "it contains object %.16s, which is damaged", hex);
    return tell(v, where, what);
}

static int verify_variables(verifying *v, cm_checkpoint *c)
{
    const cm_variable *variables;
    size_t count;
    int result = cm_checkpoint_variables(c, &variables, &count);
    if (result) {
        v->report->damaged++;
        char where[300];
        snprintf(where, sizeof where, "%s@%" PRIu64, c->session, c->number);
        return tell(v, where, cm_error_message());
    }
    for (size_t i = 0; !result && i < count; i++) {
        cm_cleanup(cm_cleanup_free) char *where = NULL;
        if (asprintf(&where, "%s@%" PRIu64 " %s", c->session, c->number, variables[i].name) < 0)
            return cm_fail(ENOMEM, "out of memory");
        v->report->variables++;
        result = verify_part(v, &(cm_reached){.id = variables[i].root.pod, .kind = CM_KIND_POD}, where);
        cm_reached preview = {.id = variables[i].preview, .kind = CM_KIND_CHUNK, .size = variables[i].preview_size};
        if (!result && preview.size)
            result = verify_part(v, &preview, where);
    }
    return result;
}

static int verify_checkpoint(void *arg, const char *key, const void *value, size_t size)
{
    verifying *v = arg;
    const char *name = key + 2; /* "n/<session>/<number>" */
    const char *slash = strrchr(name, '/');
    char where[300];
    if (!slash || size != sizeof(cm_id)) {
        v->report->damaged++;
        return tell(v, key, "the ref is damaged");
    }
    snprintf(where, sizeof where, "%.*s@%" PRIu64, (int)(slash - name), name, (uint64_t)strtoull(slash + 1, NULL, 16));
    v->report->checkpoints++;
    cm_checkpoint *c;
    cm_id id;
    memcpy(&id, value, sizeof id);
    int result = cm_checkpoint_open_id(v->store, &id, &c);
    if (result == -ENOMEM)
        return result;
    if (result) {
        v->report->damaged++;
        return tell(v, where, cm_error_message());
    }
    result = verify_variables(v, c); /* before the rest, so that damage is told by the variable's name */
    if (!result)
        result = verify_part(v, &(cm_reached){.id = id, .kind = CM_KIND_CHECKPOINT}, where);
    cm_checkpoint_unref(c);
    return result;
}

static int count_session(void *arg, const char *name, uint64_t number)
{
    (void)name;
    (void)number;
    ((cm_verify_report *)arg)->sessions++;
    return 0;
}

static int verify_all(verifying *v)
{
    int result = cm_session_list(v->store, count_session, v->report);
    if (result)
        return result;
    if (!v->store->is_snapshot)
        return v->store->backend->ops->ref_list(v->store->backend, "n/", verify_checkpoint, v);
    return verify_checkpoint(v, "n/snapshot/0", &v->store->snapshot, sizeof v->store->snapshot);
}

static int count_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)id;
    (void)info;
    ++*(uint64_t *)arg;
    return 0;
}

int cm_verify(cm_store *store, cm_damage_visitor damage, cm_progress_visitor progress, void *arg,
              cm_verify_report *report)
{
    *report = (cm_verify_report){0};
    verifying v = {.store = store, .damage = damage, .progress = progress, .arg = arg, .report = report};
    v.reach = cm_reach_new(store, true, verify_object, &v);
    if (!v.reach)
        return cm_fail(ENOMEM, "out of memory");
    int result = progress ? cm_object_list(store, NULL, 0, count_object, &v.total) : 0;
    if (!result)
        result = verify_all(&v);
    cm_reach_free(v.reach);
    if (!result && report->damaged)
        return cm_fail(EILSEQ, "%s is damaged: %" PRIu64 " bad objects or refs; what does not contain them still loads",
                       store->path, report->damaged);
    return result;
}
