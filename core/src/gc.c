/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c - removing what nothing refers to: mark and sweep.
 *
 * The roots are the numbers of the sessions: branches, tags and heads have one each. What a checkpoint consists of is marked, and the
 * objects that its records are differences from, of which only the records are needed: what these consisted of may go.
 *
 * Marking runs beside saves. Then commits are kept waiting while what was committed meanwhile is marked too, which is little, and what
 * is left over is removed. A save that is still in progress may have found objects in the store that are removed then; so its commit is
 * refused (the epoch, backend.h) and it is repeated, with nothing that was known of the store.
 */
#include "codec.h"
#include "reach.h"

#include <stdio.h>

enum { LAST_TO_GO = 0, FIRST_TO_GO = CM_DELTA_DEPTH + 1 };

typedef struct doomed {
    cm_id id;
    uint64_t stored;
    uint8_t turn; /* those with the highest go first */
} doomed;

typedef struct collecting {
    cm_store *store;
    cm_reach *reach;
    cm_progress_visitor progress; /* NULL: none, or no more */
    void *arg;
    cm_gc_report *report;
    uint64_t done, total;
    cm_id *roots;
    size_t root_count, root_capacity;
    doomed *doomed;
    size_t doomed_count, doomed_capacity;
    cm_id *order; /* of those that go */
} collecting;

static int no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory collecting");
}

static int tell(collecting *c)
{
    enum { EVERY = 256 };
    return ++c->done % EVERY == 0 && c->progress ? c->progress(c->arg, c->done, c->total) : 0;
}

/* ---- marking ----------------------------------------------------------------------------------------------------- */

/* What a record is a difference from stays with it, and what that is one from. */
static int mark_bases(collecting *c, const cm_id *id)
{
    const cm_backend_ops *ops = c->store->backend->ops;
    cm_cleanup(cm_buffer_free) cm_buffer record = CM_BUFFER_INIT;
    cm_id at = *id;
    for (bool fresh = true; fresh;) {
        cm_object_info info;
        unsigned depth;
        int result = ops->get_stored(c->store->backend, &at, &record, &info);
        if (!result)
            result = cm_record_base(record.data, record.size, &at, &depth);
        if (result <= 0)
            return result;
        result = cm_reach_note(c->reach, &at, &fresh);
        if (result)
            return result;
    }
    return 0;
}

static int mark_object(void *arg, const cm_reached *object, int result)
{
    collecting *c = arg;
    if (!result && object->info.depth)
        result = mark_bases(c, &object->id);
    if (result == -EILSEQ || result == -ENOENT)
        return cm_fail_in(-EILSEQ, "nothing was removed from %s, because what is to stay is damaged", c->store->path);
    return result ? result : tell(c);
}

static int list_root(void *arg, const char *key, const void *value, size_t size)
{
    collecting *c = arg;
    if (size != sizeof(cm_id))
        return cm_fail(EILSEQ, "nothing was removed from %s, because its ref %s is damaged; run 'chipmink verify'",
                       c->store->path, key);
    if (!cm_grow(&c->roots, c->root_count, &c->root_capacity, sizeof *c->roots))
        return no_memory();
    memcpy(&c->roots[c->root_count++], value, size);
    return 0;
}

/* Marks from all roots there are; what is marked already costs nothing. */
static int mark_roots(collecting *c)
{
    const cm_backend_ops *ops = c->store->backend->ops;
    c->root_count = 0;
    int result = ops->ref_list(c->store->backend, "n/", list_root, c);
    for (size_t i = 0; i < c->root_count && !result; i++)
        result = cm_reach_from(c->reach, &(cm_reached){.id = c->roots[i], .kind = CM_KIND_CHECKPOINT}, NULL, NULL);
    return result;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/*
 * A checkpoint goes before all it consists of, so that who finds it finds everything; a difference goes before its base, so that
 * whatever is found can be read.
 */
static int doom(collecting *c, const cm_id *id, const cm_object_info *info)
{
    if (cm_reach_has(c->reach, id))
        return 0;
    if (!cm_grow(&c->doomed, c->doomed_count, &c->doomed_capacity, sizeof *c->doomed))
        return no_memory();
    uint8_t turn = info->kind == CM_KIND_CHECKPOINT ? FIRST_TO_GO : info->depth;
    c->doomed[c->doomed_count++] = (doomed){*id, info->stored, turn};
    return 0;
}

static int look_at(void *arg, const cm_id *id, const cm_object_info *info)
{
    collecting *c = arg;
    c->report->kept++;
    c->report->kept_bytes += info->stored;
    int result = doom(c, id, info);
    return result ? result : tell(c);
}

static int mark(void *arg)
{
    collecting *c = arg;
    int result = mark_roots(c);
    return result ? result : c->store->backend->ops->list(c->store->backend, NULL, look_at, c);
}

static void count_doomed(collecting *c)
{
    for (size_t i = 0; i < c->doomed_count; i++) {
        c->report->removed++;
        c->report->removed_bytes += c->doomed[i].stored;
    }
    c->report->kept -= c->report->removed;
    c->report->kept_bytes -= c->report->removed_bytes;
}

static int choose(void *arg, const cm_object_entry *fresh, size_t fresh_count, const cm_id **ids, size_t *count)
{
    collecting *c = arg;
    c->progress = NULL; /* others wait now */
    int result = mark_roots(c);
    size_t left = 0;
    for (size_t i = 0; i < c->doomed_count && !result; i++)
        if (!cm_reach_has(c->reach, &c->doomed[i].id))
            c->doomed[left++] = c->doomed[i];
    c->doomed_count = left;
    for (size_t i = 0; i < fresh_count && !result; i++)
        result = look_at(c, &fresh[i].id, &fresh[i].info);
    if (!result && !(c->order = malloc((c->doomed_count + 1) * sizeof *c->order)))
        result = no_memory();
    *count = 0;
    for (int turn = FIRST_TO_GO; turn >= LAST_TO_GO && !result; turn--)
        for (size_t i = 0; i < c->doomed_count; i++)
            if (c->doomed[i].turn == turn)
                c->order[(*count)++] = c->doomed[i].id;
    *ids = c->order;
    count_doomed(c);
    return result;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static int count_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)id;
    (void)info;
    ++*(uint64_t *)arg;
    return 0;
}

static int collect(collecting *c, bool dry_run)
{
    cm_backend *backend = c->store->backend;
    if (c->progress) {
        int result = backend->ops->list(backend, NULL, count_object, &c->total);
        if (result)
            return result;
        c->total *= 2; /* each is marked and looked at, or only looked at */
    }
    if (!dry_run)
        return backend->ops->collect(backend, &(cm_collector){mark, choose, c});
    int result = mark(c);
    if (!result)
        count_doomed(c);
    return result;
}

int cm_gc(cm_store *store, bool dry_run, cm_progress_visitor progress, void *arg, cm_gc_report *report)
{
    const cm_backend_ops *ops = store->backend->ops;
    *report = (cm_gc_report){0};
    if (!cm_store_writable(store) || !(ops->collect || ops->gc))
        return cm_fail(EROFS, "%s is open for reading only: nothing can be removed from it", store->path);
    if (ops->gc)
        return ops->gc(store->backend, dry_run, progress, arg, report);
    collecting c = {.store = store, .progress = progress, .arg = arg, .report = report};
    c.reach = cm_reach_new(store, false, mark_object, &c);
    int result = c.reach ? ops->disk_bytes(store->backend, &report->disk_before) : no_memory();
    if (!result)
        result = collect(&c, dry_run);
    if (!result)
        result = ops->disk_bytes(store->backend, &report->disk_after);
    cm_reach_free(c.reach);
    free(c.roots);
    free(c.doomed);
    free(c.order);
    return result;
}
