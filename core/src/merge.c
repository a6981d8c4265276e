/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge.c - which variables the checkpoint to be consists of.
 *
 * An edit starts from the head. Any other save is what was built; with a base it is merged with what others did to the session
 * meanwhile, three ways: base (what the caller's namespace was when it last agreed with the store), ours, theirs (the head).
 */
#include "save_internal.h"

#include "checkpoint.h"

#include <inttypes.h>
#include <stdio.h>

/* A variable of the checkpoint to be, or a candidate for it. */
typedef struct merging {
    cm_save *save;
    cm_variable *final;
    size_t count, capacity;
} merging;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const cm_variable *)a)->name, ((const cm_variable *)b)->name);
}

static int base_by_name(const void *a, const void *b)
{
    return strcmp(((const cm_base_entry *)a)->name, ((const cm_base_entry *)b)->name);
}

int cm_save_set_base(cm_save *save, const char *const *names, const cm_id *contents, size_t count)
{
    if (save->base)
        return cm_fail(EINVAL, "the base of a save was set twice");
    size_t size = 1; /* so that there is some */
    for (size_t i = 0; i < count; i++)
        size += strlen(names[i]) + 1;
    save->base = calloc(count + 1, sizeof *save->base);
    char *to = save->base_names = malloc(size);
    if (!save->base || !to)
        return cm_fail(ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        save->base[i] = (cm_base_entry){to, contents[i]};
        to = stpcpy(to, names[i]) + 1;
    }
    save->base_count = count;
    return 0;
}

static int no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory merging");
}

static int take(merging *m, const cm_variable *variable)
{
    if (!cm_grow(&m->final, m->count, &m->capacity, sizeof *m->final))
        return no_memory();
    m->final[m->count++] = *variable;
    return 0;
}

static cm_variable *find(cm_variable *variables, size_t count, const char *name)
{
    const cm_variable key = {.name = name};
    return count ? bsearch(&key, variables, count, sizeof *variables, by_name) : NULL;
}

/*
 * What did not change keeps the time it last changed, and how it looked then; and what it takes on disk, which depends on what else is put at
 * the same time where parts of it are equal.
 */
static void keep_facts(cm_variable *variable, const cm_variable *before)
{
    if (!cm_id_equal(&before->content, &variable->content))
        return;
    variable->changed = before->changed;
    variable->changed_time = before->changed_time;
    if (before->preview_size) {
        variable->preview = before->preview;
        variable->preview_size = before->preview_size;
    }
    if (variable->root.page == before->root.page && variable->pods == before->pods)
        variable->stored = before->stored;
}

/* ---- ours -------------------------------------------------------------------------------------------------------- */

static int head_variables(const cm_save *save, const cm_variable **variables, size_t *count)
{
    *variables = NULL;
    *count = 0;
    return save->parent ? cm_checkpoint_variables(save->parent, variables, count) : 0;
}

enum { GAPS_MOST = 8 /* ranks for each variable that are looked through for the order of the namespace */ };

/*
 * The indices + 1 of the head's variables in the order of their ranks, which is that of the namespace they are from. Where the ranks
 * are far apart, or there is no memory, there are none. The caller frees it.
 */
static uint32_t *order_of(const cm_variable *head, size_t count, size_t *size)
{
    uint64_t most = 0;
    for (size_t i = 0; i < count; i++)
        most = head[i].rank > most ? head[i].rank : most;
    bool dense = count && count < UINT32_MAX && most / GAPS_MOST <= count;
    uint32_t *order = dense ? calloc(most + 1, sizeof *order) : NULL;
    *size = 0;
    for (size_t i = 0; order && i < count; i++)
        order[head[i].rank] = (uint32_t)i + 1;
    for (uint64_t i = 0; order && i <= most; i++)
        if (order[i])
            order[(*size)++] = order[i];
    return order;
}

/* What the head has under a name; mostly what follows the one found before, at `*at` in the order. */
static const cm_variable *find_next(const cm_variable *head, size_t count, const uint32_t *order, size_t size,
                                    size_t *at, const char *name)
{
    for (size_t next = *at; next < *at + 2 && next < size; next++) { /* one may have gone */
        const cm_variable *candidate = &head[order[next] - 1];
        if (strcmp(candidate->name, name) == 0) {
            *at = next + 1;
            return candidate;
        }
    }
    const cm_variable key = {.name = name};
    return count ? bsearch(&key, head, count, sizeof *head, by_name) : NULL;
}

/* What is built for the checkpoint, where the head has a variable of the name, and where it has none. */
typedef struct placing {
    cm_variable *known; /* by the head's, unset where the name is NULL */
    cm_variable *fresh;
    size_t fresh_count;
} placing;

static int twice(const char *name)
{
    return cm_fail(EINVAL, "variable '%s' was saved twice", name);
}

/* Ranks are kept from the head where the order allows, so that a variable more or less does not touch the records of the others. */
static int place(const cm_save *save, const cm_variable *ours, const cm_variable *head, size_t count, placing *to)
{
    size_t size, at = 0;
    uint64_t next = 0;
    cm_cleanup(cm_cleanup_free) uint32_t *order = order_of(head, count, &size);
    for (size_t i = 0; i < save->variable_count; i++) {
        cm_variable v = ours[i];
        const cm_variable *before = find_next(head, count, order, size, &at, v.name);
        if (before)
            keep_facts(&v, before);
        v.rank = before && before->rank >= next ? before->rank : next;
        next = v.rank + 1;
        if (!before)
            to->fresh[to->fresh_count++] = v;
        else if (to->known[before - head].name)
            return twice(v.name);
        else
            to->known[before - head] = v;
    }
    return 0;
}

/* What was built, by name, with its ranks: those that the head has are in its order already. */
static int rank(merging *m, const cm_variable *ours)
{
    const cm_variable *head;
    size_t count, k = 0;
    int result = head_variables(m->save, &head, &count);
    if (result)
        return result;
    placing to = {.fresh_count = 0};
    cm_cleanup(cm_cleanup_free) cm_variable *known = to.known = calloc(count + 1, sizeof *known);
    cm_cleanup(cm_cleanup_free) cm_variable *fresh = to.fresh = malloc((m->save->variable_count + 1) * sizeof *fresh);
    m->final = malloc((m->save->variable_count + 1) * sizeof *m->final);
    m->capacity = m->final ? m->save->variable_count + 1 : 0;
    if (!known || !fresh || !m->final)
        return no_memory();
    result = place(m->save, ours, head, count, &to);
    if (result)
        return result;
    if (to.fresh_count)
        qsort(fresh, to.fresh_count, sizeof *fresh, by_name);
    for (size_t i = 0; i <= count; i++) {
        if (i < count && !known[i].name)
            continue;
        while (k < to.fresh_count && (i == count || strcmp(fresh[k].name, known[i].name) < 0)) {
            if (k && strcmp(fresh[k - 1].name, fresh[k].name) == 0)
                return twice(fresh[k].name);
            m->final[m->count++] = fresh[k++];
        }
        if (i < count)
            m->final[m->count++] = known[i];
    }
    return 0;
}

static int sort_unique(merging *m)
{
    if (m->count)
        qsort(m->final, m->count, sizeof *m->final, by_name);
    for (size_t i = 1; i < m->count; i++)
        if (strcmp(m->final[i - 1].name, m->final[i].name) == 0)
            return twice(m->final[i].name);
    return 0;
}

static uint64_t next_rank(const merging *m)
{
    uint64_t next = 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->final[i].rank >= next)
            next = m->final[i].rank + 1;
    return next;
}

/* ---- edits ------------------------------------------------------------------------------------------------------- */

static void leave_out(merging *m, const char *name)
{
    cm_variable *found = find(m->final, m->count, name);
    if (!found)
        return;
    memmove(found, found + 1, (size_t)(m->final + m->count - found - 1) * sizeof *found);
    m->count--;
}

/* In place of one of the same name, or as the last. */
static int put_in(merging *m, cm_variable variable)
{
    cm_variable *found = find(m->final, m->count, variable.name);
    if (found) {
        variable.rank = found->rank;
        keep_facts(&variable, found);
        *found = variable;
        return 0;
    }
    variable.rank = next_rank(m);
    int result = take(m, &variable);
    return result ? result : sort_unique(m);
}

static int edit(merging *m, const cm_variable *ours)
{
    const cm_variable *head;
    size_t count;
    int result = head_variables(m->save, &head, &count);
    for (size_t i = 0; i < count && !result; i++)
        result = take(m, &head[i]);
    for (size_t i = 0; i < m->save->carried_count && !result; i++) {
        if (m->save->carried[i].removed)
            leave_out(m, m->save->carried[i].variable.name);
        else
            result = put_in(m, m->save->carried[i].variable);
    }
    for (size_t i = 0; i < m->save->variable_count && !result; i++)
        result = put_in(m, ours[i]);
    return result;
}

/* ---- three ways -------------------------------------------------------------------------------------------------- */

static int note(merging *m, enum cm_arrival what, const char *name)
{
    cm_save *save = m->save;
    if (!cm_grow(&save->arrived, save->arrived_count, &save->arrived_capacity, sizeof *save->arrived))
        return no_memory();
    cm_arrived *a = &save->arrived[save->arrived_count++];
    *a = (cm_arrived){what, strdup(name)};
    return a->name ? 0 : no_memory();
}

/* Few are asked for as a rule, and then they need not be sorted. */
static const cm_id *base_of(cm_save *save, const char *name)
{
    enum { UNSORTED_MOST = 8 };
    const cm_base_entry key = {.name = (char *)name}, *found = NULL;
    if (++save->base_asked <= UNSORTED_MOST) {
        for (size_t i = 0; i < save->base_count && !found; i++)
            if (strcmp(save->base[i].name, name) == 0)
                found = &save->base[i];
        return found ? &found->content : NULL;
    }
    if (!save->base_sorted && save->base_count)
        qsort(save->base, save->base_count, sizeof *save->base, base_by_name);
    save->base_sorted = true;
    if (save->base_count)
        found = bsearch(&key, save->base, save->base_count, sizeof key, base_by_name);
    return found ? &found->content : NULL;
}

static bool same(const cm_id *a, const cm_id *b)
{
    return a && b ? cm_id_equal(a, b) : a == b;
}

/* Decides about one name; `ours` and `theirs` may be NULL. Their value is carried, so that it cannot be mixed up with ours. */
static int decide(merging *m, const char *name, const cm_variable *ours, const cm_variable *theirs)
{
    const cm_id *o = ours ? &ours->content : NULL, *t = theirs ? &theirs->content : NULL;
    const cm_id *base = same(t, o) ? t : base_of(m->save, name);
    if (same(t, base))
        return 0; /* they did nothing, or the same */
    if (same(o, base) || !ours) {
        if (theirs) {
            int result = cm_save_carry(m->save, name, m->save->parent, name);
            return result ? result : note(m, CM_ARRIVED, name);
        }
        leave_out(m, name);
        return note(m, CM_LEFT, name);
    }
    return note(m, CM_CONFLICT, name);
}

static int three_ways(merging *m)
{
    const cm_variable *head;
    size_t count, ours_count = m->count;
    int result = head_variables(m->save, &head, &count);
    cm_cleanup(cm_cleanup_free) cm_variable *ours = malloc((ours_count + 1) * sizeof *ours);
    if (!ours)
        return no_memory();
    if (ours_count)
        memcpy(ours, m->final, ours_count * sizeof *ours); /* deciding changes m->final */
    for (size_t i = 0, k = 0; !result && (i < ours_count || k < count);) {
        int order = i == ours_count ? 1 : k == count ? -1 : strcmp(ours[i].name, head[k].name);
        const cm_variable *o = order <= 0 ? &ours[i++] : NULL, *t = order >= 0 ? &head[k++] : NULL;
        result = decide(m, o ? o->name : t->name, o, t);
    }
    return result;
}

/* What an earlier try took over, before the head moved again. */
static void forget_merge(cm_save *save)
{
    while (save->variable_count > save->own_variables)
        cm_saved_variable_clear(&save->variables[--save->variable_count]);
    while (save->carried_count > save->own_carried)
        cm_variable_clear(&save->carried[--save->carried_count].variable);
    while (save->arrived_count)
        free(save->arrived[--save->arrived_count].name);
    free(save->conflict);
    save->conflict = NULL;
}

static int name_conflict(cm_save *save)
{
    for (size_t i = 0; i < save->arrived_count; i++)
        if (save->arrived[i].what == CM_CONFLICT && !save->conflict &&
            asprintf(&save->conflict, "conflict-%" PRIu64, save->head->number) < 0) {
            save->conflict = NULL;
            return no_memory();
        }
    return 0;
}

/* What three_ways carried: plain variables lie in `carried`, others were flattened and lie behind ours. */
static int add_arrivals(merging *m)
{
    cm_save *save = m->save;
    int result = 0;
    for (size_t i = save->own_carried; i < save->carried_count && !result; i++) {
        cm_variable v = save->carried[i].variable;
        const cm_variable *head;
        result = cm_checkpoint_variable(save->parent, v.name, &head);
        if (!result) {
            v.changed = head->changed;
            v.changed_time = head->changed_time;
            result = put_in(m, v);
        }
    }
    if (!result && save->variable_count > save->own_variables)
        result = cm_save_drain(save);
    for (size_t i = save->own_variables; i < save->variable_count && !result; i++) {
        cm_variable v = cm_save_given(&save->variables[i]);
        result = cm_save_measure(save, i, &v);
        if (!result)
            result = put_in(m, v);
    }
    return result;
}

static int built(merging *m, const cm_variable *ours)
{
    cm_save *save = m->save;
    int result = rank(m, ours);
    for (size_t i = 0; i < save->own_carried && !result; i++)
        result = put_in(m, save->carried[i].variable);
    if (!result && save->base && save->parent)
        result = three_ways(m);
    if (!result)
        result = add_arrivals(m);
    return result ? result : name_conflict(save);
}

int cm_save_merge(cm_save *save, const cm_variable *ours, cm_variable **final, size_t *count)
{
    merging m = {.save = save};
    forget_merge(save);
    int result = save->edit ? edit(&m, ours) : built(&m, ours);
    if (result) {
        free(m.final);
        m = (merging){0};
    }
    *final = m.final;
    *count = m.count;
    return result;
}

int cm_save_arrivals(cm_save *save, cm_arrival_visitor visit, void *arg, const char **branch)
{
    *branch = save->conflict;
    int result = 0;
    for (size_t i = 0; i < save->arrived_count && !result; i++)
        result = visit(arg, save->arrived[i].what, save->arrived[i].name);
    return result;
}

bool cm_save_keeps_names(const cm_save *save)
{
    bool same = save->base && !save->base_sorted && save->base_count == save->own_variables;
    for (size_t i = 0; same && i < save->own_variables; i++)
        same = strcmp(save->base[i].name, save->variables[i].name) == 0;
    return same;
}

int cm_save_changes(const cm_save *save, cm_content_visitor visit, void *arg)
{
    int result = 0;
    for (size_t i = 0; i < save->own_variables && !result; i++)
        if (!cm_id_equal(&save->base[i].content, &save->variables[i].content))
            result = visit(arg, save->variables[i].name, &save->variables[i].content);
    return result;
}

int cm_save_contents(const cm_save *save, cm_content_visitor visit, void *arg)
{
    int result = 0;
    for (size_t i = 0; i < save->own_variables && !result; i++)
        result = visit(arg, save->variables[i].name, &save->variables[i].content);
    return result;
}
