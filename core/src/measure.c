/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - what a variable of a save consists of: its size, its pods, its content id. */
#include "save_internal.h"

#include "checkpoint.h"
#include "plan.h"

/* ---- what a variable consists of ------------------------------------------------------------------------------------ */

/* A set of pods by id: equal pods are stored once. */
typedef struct id_set {
    const cm_pod **slots;
    size_t count, capacity;
} id_set;

static bool set_add(id_set *set, const cm_pod *pod, bool *added)
{
    if (set->count * 3 >= set->capacity * 2) {
        id_set larger = {.capacity = set->capacity ? set->capacity * 2 : 64};
        larger.slots = calloc(larger.capacity, sizeof *larger.slots);
        if (!larger.slots)
            return false;
        bool ignored;
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i])
                (void)set_add(&larger, set->slots[i], &ignored); /* cannot grow: it is large enough */
        free(set->slots);
        *set = larger;
    }
    size_t at = (size_t)cm_id_key(&pod->id) & (set->capacity - 1);
    while (set->slots[at] && !cm_id_equal(&set->slots[at]->id, &pod->id))
        at = (at + 1) & (set->capacity - 1);
    *added = !set->slots[at];
    set->slots[at] = pod;
    set->count += *added;
    return true;
}

uint64_t cm_pod_stored(const cm_pod *pod)
{
    uint64_t stored = atomic_load_explicit(&pod->stored, memory_order_relaxed);
    for (const cm_source *source = pod->sources; source; source = source->next)
        stored += atomic_load_explicit(&source->stored, memory_order_relaxed);
    return stored;
}

static int count_pod(id_set *set, const cm_pod *pod, cm_variable *v)
{
    bool added;
    if (!set_add(set, pod, &added))
        return cm_fail(ENOMEM, "out of memory");
    v->pods++;
    if (added)
        v->stored += cm_pod_stored(pod);
    return 0;
}

/* No reference leaves the tree of the pod: it is linked from itself alone. */
static bool closed(const cm_pod *pod)
{
    return pod->kind == CM_POD_OBJECT && pod->lowest_target >= pod->sequence;
}

bool cm_save_is_closed(const cm_saved_variable *v)
{
    return closed(v->pod) && v->index == v->pod->root;
}

static int measure_closed(const cm_save *save, const cm_pod *root, id_set *set, cm_variable *v)
{
    v->size = CM_STREAM_FRAME + root->tree_size;
    int result = 0;
    uint64_t left = root->tree_pods; /* the pods of a tree are made one after the other */
    if (left == 1) {                 /* most are small */
        v->pods = 1;
        v->stored = cm_pod_stored(root);
        left = 0;
    }
    for (uint32_t i = root->sequence; !result && left && i < save->pod_count; i++)
        if (save->pods[i]->finished && left--)
            result = count_pod(set, save->pods[i], v);
    v->plain = root->lowest_target == UINT32_MAX;
    v->content = root->id; /* link.c takes this as the sign of a closed variable */
    return result;
}

static int fetch(void *arg, const cm_id *id, uint64_t page, cm_pod_view *view, cm_buffer *content)
{
    (void)id;
    (void)content;
    const cm_pod *pod = cm_save_page_find(arg, page);
    return pod ? cm_pod_skeleton(pod, view) : cm_fail(EILSEQ, "no pod at page %016llx", (unsigned long long)page);
}

void cm_save_page_of(const cm_pod *pod, cm_page *out)
{
    *out = (cm_page){.pod = pod->id, .parent = pod->parent ? pod->parent->page : CM_PAGE_NONE, .kind = pod->kind};
}

static int locate(void *arg, uint64_t page, cm_page *out)
{
    const cm_pod *pod = cm_save_page_find(arg, page);
    if (!pod)
        return cm_fail(EILSEQ, "no pod at page %016llx", (unsigned long long)page);
    cm_save_page_of(pod, out);
    return 0;
}

static cm_plan_root plan_root(const cm_saved_variable *v)
{
    return (cm_plan_root){v->name, {v->pod->id, v->pod->page, v->index}};
}

static int all_roots(void *arg, cm_plan_root **roots, size_t *count)
{
    const cm_save *save = arg;
    *count = save->variable_count;
    *roots = malloc((*count + 1) * sizeof **roots);
    for (size_t i = 0; *roots && i < *count; i++)
        (*roots)[i] = plan_root(&save->variables[i]);
    return *roots ? 0 : cm_fail(ENOMEM, "out of memory");
}

/* A variable that shares objects with others: its stream is planned as a reader would. */
static int measure_shared(cm_save *save, const cm_saved_variable *saved, id_set *set, cm_variable *v)
{
    const cm_plan_source source = {.fetch = fetch, .locate = locate, .all = all_roots, .arg = save};
    const cm_plan_root root = plan_root(saved);
    cm_plan plan;
    int result = cm_plan_make(&source, &root, 1, 0, &plan);
    if (!result) {
        v->size = plan.size;
        result = cm_plan_content(&plan, &root, &v->content);
    }
    for (size_t k = 0; !result && k < plan.instance_count; k++)
        result = count_pod(set, cm_save_page_find(save, plan.instances[k].page), v);
    cm_plan_clear(&plan);
    return result;
}

int cm_save_measure(cm_save *save, size_t i, cm_variable *v)
{
    cm_saved_variable *saved = &save->variables[i];
    id_set set = {0};
    v->root = plan_root(saved).address;
    int result =
        cm_save_is_closed(saved) ? measure_closed(save, saved->pod, &set, v) : measure_shared(save, saved, &set, v);
    free(set.slots);
    v->stored += saved->stored;
    saved->content = v->content;
    return result ? cm_fail_in(result, "variable '%s'", saved->name) : 0;
}
