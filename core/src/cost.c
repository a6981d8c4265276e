/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cost.c - what sessions, checkpoints and variables cost. Each is walked by itself; a table says of every object met which of them has
 * it, or that several have. The rest of the store is one more that has what it has.
 */
#include "reach.h"

#include <stdio.h>

enum { REST = 0, SEVERAL = UINT32_MAX };

typedef struct owned {
    cm_id id;
    uint64_t stored;
    uint32_t owner; /* index of a unit, or SEVERAL */
    bool used;
} owned;

typedef struct unit {
    char *name; /* NULL: it has a number */
    uint64_t number;
    cm_cost cost;
} unit;

typedef struct costs {
    cm_store *store;
    owned *slots;
    size_t count, capacity;
    unit *units; /* the first is the rest of the store */
    size_t unit_count, unit_capacity;
    cm_reach *reach; /* of the unit that is being walked: the last */
    cm_progress_visitor progress;
    void *arg;
    uint64_t done, total;
    const cm_checkpoint *without; /* not part of the rest */
    const char *session;          /* of which checkpoints are told apart; NULL: none */
} costs;

static int no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory");
}

static owned *slot_of(owned *slots, size_t capacity, const cm_id *id)
{
    size_t at = (size_t)cm_id_key(id) & (capacity - 1);
    while (slots[at].used && !cm_id_equal(&slots[at].id, id))
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

static int make_room(costs *c)
{
    if (c->count * 3 < c->capacity * 2)
        return 0;
    size_t capacity = c->capacity ? c->capacity * 2 : 1024;
    owned *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return no_memory();
    for (size_t i = 0; i < c->capacity; i++)
        if (c->slots[i].used)
            *slot_of(slots, capacity, &c->slots[i].id) = c->slots[i];
    free(c->slots);
    c->slots = slots;
    c->capacity = capacity;
    return 0;
}

/* An object of the unit that is being walked. What cannot be read costs what its record takes, if that is known. */
static int charge(void *arg, const cm_reached *object, int result)
{
    costs *c = arg;
    if (result && result != -EILSEQ)
        return result;
    result = make_room(c);
    if (result)
        return result;
    uint32_t owner = (uint32_t)(c->unit_count - 1);
    owned *slot = slot_of(c->slots, c->capacity, &object->id);
    c->units[owner].cost.stored += object->info.stored;
    if (!slot->used) {
        *slot = (owned){object->id, object->info.stored, owner, true};
        c->count++;
    } else if (slot->owner != owner) {
        slot->owner = SEVERAL;
    }
    return 0;
}

/* The unit that is walked from now on. Takes the name over. */
static int begin_unit(costs *c, char *name, uint64_t number, uint64_t logical)
{
    cm_reach_free(c->reach);
    c->reach = cm_reach_new(c->store, false, charge, c);
    if (!c->reach || !cm_grow(&c->units, c->unit_count, &c->unit_capacity, sizeof *c->units)) {
        free(name);
        return no_memory();
    }
    c->units[c->unit_count++] = (unit){name, number, {.logical = logical}};
    return 0;
}

static int tell(costs *c)
{
    return c->progress ? c->progress(c->arg, ++c->done, c->total) : 0;
}

static int add_checkpoint(void *arg, uint64_t number, const cm_id *id)
{
    costs *c = arg;
    cm_checkpoint *checkpoint;
    (void)number;
    if (c->without && cm_id_equal(id, &c->without->id))
        return 0;
    int result = cm_checkpoint_open_id(c->store, id, &checkpoint);
    if (result)
        return result;
    uint64_t logical = checkpoint->stats.logical_bytes;
    cm_checkpoint_unref(checkpoint);
    if (c->session)
        result = begin_unit(c, NULL, number, 0);
    if (result)
        return result;
    c->units[c->unit_count - 1].cost.logical += logical;
    result = cm_reach_from(c->reach, &(cm_reached){.id = *id, .kind = CM_KIND_CHECKPOINT}, NULL, NULL);
    return result ? result : tell(c);
}

static int count_checkpoint(void *arg, const char *key, const void *value, size_t size)
{
    (void)key;
    (void)value;
    (void)size;
    ((costs *)arg)->total++;
    return 0;
}

typedef struct names {
    char **items;
    size_t count, capacity;
} names;

static int add_name(void *arg, const char *name, uint64_t number)
{
    names *n = arg;
    (void)number;
    if (!cm_grow(&n->items, n->count, &n->capacity, sizeof *n->items))
        return no_memory();
    n->items[n->count] = strdup(name);
    return n->items[n->count++] ? 0 : no_memory();
}

static void clear_names(names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i]);
    free(n->items);
}

/* All sessions but `except`: each a unit (`apart`), or part of the one there is. */
static int add_sessions(costs *c, const char *except, bool apart)
{
    names all cm_cleanup(clear_names) = {0};
    int result = cm_session_list(c->store, add_name, &all);
    for (size_t i = 0; i < all.count && !result; i++) {
        if (except && strcmp(all.items[i], except) == 0)
            continue;
        char *name = apart ? strdup(all.items[i]) : NULL;
        if (apart)
            result = name ? begin_unit(c, name, 0, 0) : no_memory();
        if (!result)
            result = cm_checkpoint_list(c->store, all.items[i], add_checkpoint, c);
    }
    return result;
}

static int start(costs *c, cm_store *store, cm_progress_visitor progress, void *arg)
{
    *c = (costs){.store = store, .progress = progress, .arg = arg};
    int result = begin_unit(c, NULL, 0, 0); /* the rest */
    return result || store->is_snapshot ? result
                                        : store->backend->ops->ref_list(store->backend, "n/", count_checkpoint, c);
}

static int finish(costs *c, int result, cm_cost_visitor visit)
{
    for (size_t i = 0; i < c->capacity && !result; i++)
        if (c->slots[i].used && c->slots[i].owner != SEVERAL)
            c->units[c->slots[i].owner].cost.unique += c->slots[i].stored;
    for (size_t i = REST + 1; i < c->unit_count && !result; i++)
        result = visit(c->arg, c->units[i].name, c->units[i].number, &c->units[i].cost);
    for (size_t i = 0; i < c->unit_count; i++)
        free(c->units[i].name);
    free(c->units);
    free(c->slots);
    cm_reach_free(c->reach);
    return result;
}

int cm_session_costs(cm_store *store, cm_cost_visitor visit, cm_progress_visitor progress, void *arg)
{
    costs c;
    int result = start(&c, store, progress, arg);
    if (!result)
        result = add_sessions(&c, NULL, true);
    return finish(&c, result, visit);
}

int cm_checkpoint_costs(cm_store *store, const char *session, cm_cost_visitor visit, cm_progress_visitor progress,
                        void *arg)
{
    costs c;
    int result = start(&c, store, progress, arg);
    if (!result)
        result = add_sessions(&c, session, false);
    c.session = session;
    if (!result)
        result = cm_checkpoint_list(store, session, add_checkpoint, &c);
    return finish(&c, result, visit);
}

/* Its objects, and its preview. */
static int reach_variable(costs *c, const cm_variable *variable)
{
    cm_reached preview = {.id = variable->preview, .kind = CM_KIND_CHUNK, .size = variable->preview_size};
    int result = cm_reach_from(c->reach, &(cm_reached){.id = variable->root.pod, .kind = CM_KIND_POD}, NULL, NULL);
    if (!result && preview.size)
        result = c->store->backend->ops->find(c->store->backend, &preview.id, 1, &preview.info);
    return result || !preview.size ? result : cm_reach_from(c->reach, &preview, NULL, NULL);
}

int cm_variable_costs(cm_checkpoint *checkpoint, cm_cost_visitor visit, cm_progress_visitor progress, void *arg)
{
    costs c;
    const cm_variable *variables;
    size_t count = 0;
    int result = start(&c, checkpoint->store, progress, arg);
    c.without = checkpoint;
    if (!result)
        result = add_sessions(&c, NULL, false);
    if (!result)
        result = cm_checkpoint_variables(checkpoint, &variables, &count);
    for (size_t i = 0; i < count && !result; i++) {
        char *name = strdup(variables[i].name);
        result = name ? begin_unit(&c, name, 0, variables[i].size) : no_memory();
        if (!result)
            result = reach_variable(&c, &variables[i]);
    }
    return finish(&c, result, visit);
}
