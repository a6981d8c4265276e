/* SPDX-License-Identifier: Apache-2.0 */
/*
 * have.c - what of a checkpoint a program has, that is at another one; and linking the rest.
 *
 * A variable of equal content with its object at the same address consists of the same pods at the same pages in both, and so does
 * all that it refers to. These pods are not linked: where something refers into them, the stream asks for the object, with a
 * persistent id that is its address, and whoever unpickles it gives the one that the program has.
 *
 * What is known are trees of pods, by the pages where they begin: those of the variables, and those in the trees of others that they
 * refer to. The page map says which tree a page is in.
 */
#include "have.h"

#include "checkpoint.h"
#include "known.h"
#include "planner.h"

struct cm_have {
    atomic_uint references;
    cm_checkpoint *target;
    bool *kept;             /* of each variable of the target */
    bool *by_name;          /* ... whether variables that it refers to may differ */
    cm_address_table trees; /* where they begin; no index; the kind of the pod */
};

enum { DIFFERS = 1 };

/* ---- addresses ---------------------------------------------------------------------------------------------------- */

static cm_addressed *slot_of(const cm_address_table *table, uint64_t page, uint32_t index)
{
    size_t at = (size_t)(page + (uint64_t)index * 0x9e3779b97f4a7c15u) & (table->capacity - 1); /* pages are hashes */
    while (table->slots[at].page && (table->slots[at].page != page || table->slots[at].index != index))
        at = (at + 1) & (table->capacity - 1);
    return &table->slots[at];
}

bool cm_address_find(const cm_address_table *table, uint64_t page, uint32_t index, uint32_t *number)
{
    const cm_addressed *found = table->capacity ? slot_of(table, page, index) : NULL;
    if (!found || !found->page)
        return false;
    *number = found->number;
    return true;
}

int cm_address_add(cm_address_table *table, uint64_t page, uint32_t index, uint32_t number)
{
    if (table->count * 3 >= table->capacity * 2) {
        cm_address_table larger = {.capacity = table->capacity ? table->capacity * 2 : 64};
        larger.slots = calloc(larger.capacity, sizeof *larger.slots);
        if (!larger.slots)
            return cm_plan_no_memory();
        for (size_t i = 0; i < table->capacity; i++)
            if (table->slots[i].page)
                *slot_of(&larger, table->slots[i].page, table->slots[i].index) = table->slots[i];
        larger.count = table->count;
        free(table->slots);
        *table = larger;
    }
    cm_addressed *slot = slot_of(table, page, index);
    table->count += !slot->page;
    *slot = (cm_addressed){page, index, number};
    return 0;
}

/* ---- what is the same --------------------------------------------------------------------------------------------- */

typedef struct reading {
    cm_id *pods; /* to be read */
    size_t count, capacity;
    cm_known *seen; /* pods that were */
} reading;

typedef struct comparing {
    cm_have *have;
    cm_checkpoint *here;
    reading all, named;     /* named: in trees of variables that refer to others by name */
    cm_address_table roots; /* of all variables of the target; no number */
} comparing;

bool cm_have_begins(const cm_have *have, uint64_t page, bool *fragment)
{
    uint32_t kind;
    bool begins = cm_address_find(&have->trees, page, 0, &kind);
    if (begins && fragment)
        *fragment = kind == CM_POD_FRAGMENT;
    return begins;
}

int cm_have_page(const cm_have *have, uint64_t page, bool *has)
{
    *has = false;
    for (unsigned steps = 0; page != CM_PAGE_NONE; steps++) {
        cm_page at;
        *has = cm_have_begins(have, page, NULL);
        if (*has)
            return 0;
        int result = cm_checkpoint_page_find(have->target, page, &at);
        if (result)
            return result == -ENOENT ? 0 : result; /* the root of a variable that nothing refers to */
        if (steps > UINT16_MAX)
            return cm_fail(EILSEQ, "damaged checkpoint: its pages go round in a circle");
        page = at.parent;
    }
    return 0;
}

static int add_pod(reading *r, const cm_id *id)
{
    if (!cm_known_add(r->seen, id, 0))
        return 0;
    if (!cm_grow(&r->pods, r->count, &r->capacity, sizeof *r->pods))
        return cm_plan_no_memory();
    r->pods[r->count++] = *id;
    return 0;
}

static int restart(reading *r)
{
    cm_known_free(r->seen);
    r->count = 0;
    r->seen = cm_known_new();
    return r->seen ? 0 : cm_plan_no_memory();
}

static void end_reading(reading *r)
{
    free(r->pods);
    cm_known_free(r->seen);
}

/* A variable that is kept refers to an object at this page. DIFFERS: its pod is not the same here. */
static int refer(comparing *c, uint64_t page)
{
    cm_page target, here;
    if (cm_have_begins(c->have, page, NULL))
        return 0;
    int result = cm_checkpoint_page(c->have->target, page, &target);
    if (!result)
        result = cm_checkpoint_page_find(c->here, page, &here);
    if (result)
        return result == -ENOENT ? DIFFERS : result;
    if (!cm_id_equal(&target.pod, &here.pod) || target.kind != here.kind)
        return DIFFERS;
    result = cm_address_add(&c->have->trees, page, 0, target.kind);
    return result ? result : add_pod(&c->all, &target.pod);
}

static bool is_named(const comparing *c, const reading *r, const cm_event *event)
{
    uint32_t ignored;
    return r == &c->named && cm_address_find(&c->roots, event->page, event->index, &ignored);
}

/* Equal pods refer to the same pages, wherever they are spliced in. */
static int read_pod(comparing *c, reading *r)
{
    const cm_id id = r->pods[--r->count];
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    cm_pod_view view = {0};
    int result = cm_object_get(c->have->target->store, &id, CM_KIND_POD, &content);
    if (!result)
        result = cm_pod_decode(content.data, content.size, &view);
    for (size_t i = 0; !result && i < view.event_count; i++) {
        const cm_event *event = &view.events[i];
        if (event->type == CM_EVENT_EXTERNAL && !is_named(c, r, event))
            result = refer(c, event->page);
        else if (event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT)
            result = add_pod(r, &event->id);
    }
    cm_pod_view_clear(&view);
    return result;
}

static bool is_closed(const cm_variable *variable)
{
    return cm_id_equal(&variable->content, &variable->root.pod); /* nothing leads out of it */
}

/* Notes where the tree of a variable begins; it may be an object in a pod of another. */
static int begin(comparing *c, const cm_variable *variable)
{
    cm_page where = {.kind = CM_POD_OBJECT};
    int result = is_closed(variable) ? 0 : cm_checkpoint_page_find(c->have->target, variable->root.page, &where);
    return result && result != -ENOENT ? result : cm_address_add(&c->have->trees, variable->root.page, 0, where.kind);
}

/* Follows what a variable refers to outside of its own tree. */
static int follow(comparing *c, const cm_variable *variable, bool by_name)
{
    int result = is_closed(variable) ? 0 : add_pod(by_name ? &c->named : &c->all, &variable->root.pod);
    while (!result && (c->all.count || c->named.count))
        result = read_pod(c, c->all.count ? &c->all : &c->named);
    return result;
}

/* One attempt with what is marked as kept. DIFFERS: the mark of a variable that cannot be was taken away. */
static int compare(comparing *c, const cm_variable *variables, size_t count)
{
    cm_have *have = c->have;
    free(have->trees.slots);
    have->trees = (cm_address_table){0};
    int result = restart(&c->all);
    if (!result)
        result = restart(&c->named);
    for (size_t i = 0; !result && i < count; i++)
        if (have->kept[i])
            result = begin(c, &variables[i]);
    for (size_t i = 0; !result && i < count; i++)
        if (have->kept[i])
            have->kept[i] = (result = follow(c, &variables[i], have->by_name[i])) != DIFFERS;
    return result;
}

static bool same_address(const cm_address *a, const cm_address *b)
{
    return a->page == b->page && a->index == b->index && cm_id_equal(&a->pod, &b->pod);
}

static bool is_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

static int find_kept(comparing *c, const char *const *by_name, size_t by_name_count)
{
    const cm_variable *before, *after;
    size_t before_count, count;
    int result = cm_checkpoint_variables(c->here, &before, &before_count);
    if (!result)
        result = cm_checkpoint_variables(c->have->target, &after, &count);
    if (result)
        return result;
    cm_have *have = c->have;
    have->kept = calloc(count + 1, sizeof *have->kept);
    have->by_name = calloc(count + 1, sizeof *have->by_name);
    if (!have->kept || !have->by_name)
        return cm_plan_no_memory();
    for (size_t i = 0, j = 0; i < before_count && j < count;) {
        int order = strcmp(before[i].name, after[j].name);
        if (order == 0) {
            bool same = cm_id_equal(&before[i].content, &after[j].content);
            have->by_name[j] = !same && is_among(after[j].name, by_name, by_name_count);
            have->kept[j] = (same || have->by_name[j]) && same_address(&before[i].root, &after[j].root);
        }
        i += order <= 0;
        j += order >= 0;
    }
    for (size_t j = 0; !result && j < count; j++)
        result = cm_address_add(&c->roots, after[j].root.page, after[j].root.index, 0);
    if (result)
        return result;
    do
        result = compare(c, after, count);
    while (result == DIFFERS); /* one fewer is kept each time */
    return result;
}

int cm_have_new(cm_checkpoint *here, cm_checkpoint *target, const char *const *by_name, size_t count, cm_have **out)
{
    cm_have *have = calloc(1, sizeof *have);
    if (!have)
        return cm_plan_no_memory();
    atomic_init(&have->references, 1);
    have->target = cm_checkpoint_ref(target);
    comparing c = {.have = have, .here = here};
    int result = find_kept(&c, by_name, count);
    end_reading(&c.all);
    end_reading(&c.named);
    free(c.roots.slots);
    if (result)
        cm_have_unref(have);
    else
        *out = have;
    return result;
}

cm_have *cm_have_ref(cm_have *have)
{
    atomic_fetch_add_explicit(&have->references, 1, memory_order_relaxed);
    return have;
}

void cm_have_unref(cm_have *have)
{
    if (!have || atomic_fetch_sub_explicit(&have->references, 1, memory_order_acq_rel) != 1)
        return;
    cm_checkpoint_unref(have->target);
    free(have->kept);
    free(have->by_name);
    free(have->trees.slots);
    free(have);
}

bool cm_have_keeps(const cm_have *have, size_t variable)
{
    return have->kept[variable];
}

/* ---- linking ------------------------------------------------------------------------------------------------------ */

int cm_planner_has(const cm_planner *p, uint64_t page, bool *has)
{
    *has = false;
    return p->source->have ? cm_have_page(p->source->have, page, has) : 0;
}

/* Pushes what has that address, and memoizes it if `memoize`; `popped`: it is only put into the memo. */
static int add_question(cm_plan *plan, uint64_t page, uint32_t index, bool memoize, bool popped)
{
    enum { SHORT_BINBYTES = 'C', BINPERSID = 'Q', MEMOIZE = 0x94, POP = '0' };
    uint8_t bytes[2 + CM_HAVE_ID + 3] = {SHORT_BINBYTES, CM_HAVE_ID};
    cm_put_u32(bytes + 2, (uint32_t)page);
    cm_put_u32(bytes + 6, (uint32_t)(page >> 32));
    cm_put_u32(bytes + 10, index);
    bytes[2 + CM_HAVE_ID] = BINPERSID;
    bytes[3 + CM_HAVE_ID] = MEMOIZE;
    bytes[4 + CM_HAVE_ID] = POP;
    return cm_plan_add_literal(plan, bytes, sizeof bytes - !popped - !memoize);
}

/* One more is memoized than the pods say. */
static int memoized(cm_planner *p, uint32_t *memo)
{
    cm_plan *plan = p->plan;
    if (plan->memo >= UINT32_MAX - 1)
        return cm_fail(EOVERFLOW, "the linked stream would memoize more than 2^32 objects");
    *memo = plan->memo++;
    if (!p->frame_count)
        return 0;
    cm_instance *around = &plan->instances[p->frames[p->frame_count - 1].instance];
    return cm_plan_add_shift(around, around->progress, 1);
}

int cm_planner_ask(cm_planner *p, uint64_t page, uint32_t index, bool popped, uint32_t *memo)
{
    cm_plan *plan = p->plan;
    if (cm_address_find(&plan->asked, page, index, memo))
        return popped ? 0 : cm_plan_add_get(plan, *memo);
    int result = memoized(p, memo);
    if (!result)
        result = cm_address_add(&plan->asked, page, index, *memo);
    return result ? result : add_question(plan, page, index, true, popped);
}

int cm_planner_ask_run(cm_planner *p, uint64_t page)
{
    uint32_t container = 0;
    int result = memoized(p, &container);
    if (!result)
        result = cm_plan_add_literal(p->plan, "\x94", 1); /* MEMOIZE once more: the container on top of the stack */
    if (!result)
        result = add_question(p->plan, page, CM_INDEX_RUN, false, false);
    if (!result)
        result = cm_plan_add_get(p->plan, container);
    return result ? result : cm_plan_add_literal(p->plan, "\x85R0", 3); /* TUPLE1, REDUCE, POP */
}

static int list_page(void *arg, const cm_map_entry *entry)
{
    if (entry->key_size != 8)
        return cm_fail(EILSEQ, "damaged page map: a page of %zu bytes", entry->key_size);
    uint64_t page = 0;
    for (int i = 0; i < 8; i++)
        page = page << 8 | entry->key[i];
    cm_buffer *pages = arg;
    cm_buffer_append(pages, &page, sizeof page);
    return pages->error ? cm_plan_no_memory() : 0;
}

int cm_checkpoint_pages(cm_checkpoint *checkpoint, uint64_t **pages, size_t *count)
{
    cm_buffer all = CM_BUFFER_INIT;
    *pages = NULL;
    *count = 0;
    int result = cm_map_each(checkpoint->store, &checkpoint->page_map, list_page, &all);
    if (result) {
        cm_buffer_free(&all);
        return result;
    }
    *pages = (uint64_t *)(void *)all.data;
    *count = all.size / sizeof **pages;
    return 0;
}
