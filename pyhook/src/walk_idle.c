/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_idle.c - variables that no code could get hold of since the last save: their pods are used again, and no memory is looked at.
 *
 * Who knows what ran since then, and what it could reach, says so with cm_shadow_touch. What it could reach it could change, and with it
 * all that shares objects with that. Variables whose pods refer to one another's, directly or by way of others, therefore form a
 * group, as do those that see the same memory, be it through copies in pickles that do not show it; and a variable is idle if it is bound
 * to the object that it was, and nothing of its group was touched, bound anew or removed.
 *
 * The addresses of what is below an idle variable are not asked for in the memo: where reducers made it, it is gone, and others may have
 * come to its address. Nothing else refers to it, or the two would be of one group.
 */
#include "walk_notes.h"

#include <stdlib.h>

/* ---- groups -------------------------------------------------------------------------------------------------------- */

static cm_shade *root_of(cm_shade *shade)
{
    while (shade->parent)
        shade = shade->parent;
    return shade;
}

static cm_shade *leader_of(const cm_shadow *shadow, cm_shade *root)
{
    while (root->group != root->number) {
        cm_shade *next = cm_shade_at(shadow, root->group);
        root->group = next->group;
        root = next;
    }
    return root;
}

void cm_idle_link(const cm_walk *walk, cm_shade *target)
{
    uint32_t generation = walk->shadow->generation;
    if (!walk->shadow->filtered || (target->linked_in == generation && target->linked == walk->root->number))
        return;
    target->linked = walk->root->number;
    target->linked_in = generation;
    cm_shade *a = leader_of(walk->shadow, walk->root), *b = leader_of(walk->shadow, root_of(target));
    a->group = b->number; /* not the other way: the current variable may yet turn out not to be savable */
}

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

int cm_idle_memory(const cm_walk *walk, uint64_t address, uint64_t size)
{
    cm_shadow *shadow = walk->shadow;
    if (!shadow->filtered || !walk->root || !size)
        return 0;
    if (shadow->extent_count == shadow->extent_capacity) {
        size_t capacity = shadow->extent_capacity ? shadow->extent_capacity * 2 : 64;
        cm_extent *extents = realloc(shadow->extents, capacity * sizeof *extents);
        if (!extents) {
            PyErr_NoMemory();
            return -1;
        }
        shadow->extents = extents;
        shadow->extent_capacity = capacity;
    }
    shadow->extents[shadow->extent_count++] =
        (cm_extent){address, address + size, walk->root->number, shadow->generation};
    return 0;
}

int cm_idle_exporter(cm_walk *walk, PyObject *object)
{
    const PyBufferProcs *procs = Py_TYPE(object)->tp_as_buffer;
    if (!walk->shadow->filtered || !procs || !procs->bf_getbuffer)
        return 0;
    unsigned long long address, size;
    PyObject *bounds = PyObject_CallMethod(walk->reducers, "memory_of", "O", object);
    int result = bounds && PyArg_ParseTuple(bounds, "KK", &address, &size) ? cm_idle_memory(walk, address, size) : -1;
    Py_XDECREF(bounds);
    return result;
}

void cm_idle_keep(cm_shadow *shadow)
{
    size_t left = 0;
    for (size_t i = 0; i < shadow->extent_count; i++) {
        cm_extent extent = shadow->extents[i];
        const cm_shade *root = cm_shade_at(shadow, extent.root);
        if (root->dead || (extent.generation != shadow->generation && root->idle != shadow->generation))
            continue;
        extent.generation = shadow->generation;
        shadow->extents[left++] = extent;
    }
    shadow->extent_count = left;
}

static int by_address(const void *a, const void *b)
{
    uint64_t x = ((const cm_extent *)a)->low, y = ((const cm_extent *)b)->low;
    return (x > y) - (x < y);
}

/* Those that see the same memory are of one group. */
static void link_memory(const cm_shadow *shadow)
{
    uint64_t high = 0;
    cm_shade *last = NULL;
    if (shadow->extent_count)
        qsort(shadow->extents, shadow->extent_count, sizeof *shadow->extents, by_address);
    for (size_t i = 0; i < shadow->extent_count; i++) {
        const cm_extent *extent = &shadow->extents[i];
        cm_shade *root = leader_of(shadow, root_of(cm_shade_at(shadow, extent->root)));
        if (last && extent->low < high)
            root->group = leader_of(shadow, last)->number;
        if (!last || extent->high > high) {
            high = extent->high;
            last = root;
        }
    }
}

/* ---- what was touched ------------------------------------------------------------------------------------------------ */

int cm_shadow_touch(cm_shadow *shadow, PyObject *names)
{
    if (!names) {
        Py_CLEAR(shadow->touched);
        return 0;
    }
    if (!shadow->touched)
        return 0; /* everything was */
    PyObject *result = PyObject_CallMethod(shadow->touched, "update", "O", names);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* ---- which variables are idle ------------------------------------------------------------------------------------------ */

static bool all_kept(const cm_shade *root)
{
    for (const cm_shade *shade = root; shade; shade = cm_shade_following(shade, root))
        if (!shade->kept)
            return false;
    return true;
}

/* The root of the pods in which a variable lies; NULL: none, or an exception is set. */
static cm_shade *known_root(const cm_shadow *shadow, PyObject *name)
{
    cm_memo_entry entry;
    PyObject *number = PyDict_GetItemWithError(shadow->aliases, name);
    if (number) {
        if (!cm_memo_at(shadow, PyLong_AsVoidPtr(number), &entry))
            return NULL;
    } else {
        number = PyErr_Occurred() ? NULL : PyDict_GetItemWithError(shadow->names, name);
        if (!number)
            return NULL;
        entry.shade = (uint32_t)PyLong_AsUnsignedLong(number);
    }
    cm_shade *shade = cm_shade_at(shadow, entry.shade);
    return shade->dead ? NULL : root_of(shade);
}

/* Whether a variable is bound to the object that it was saved with, which is alive, for the variable has held it. */
static bool is_bound_as_before(const cm_shadow *shadow, const cm_shade *root, PyObject *name, const PyObject *value)
{
    PyObject *address = PyDict_GetItemWithError(shadow->aliases, name);
    return address ? PyLong_AsVoidPtr(address) == value : root->object == value;
}

/* The name in an item (name, value), borrowed; NULL: it is none, which will be told when its turn comes. */
static PyObject *name_in(PyObject *item)
{
    PyObject *name = PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 2 ? PyTuple_GET_ITEM(item, 0) : NULL;
    return name && PyUnicode_CheckExact(name) ? name : NULL;
}

/* What was touched, bound anew or removed wakes its group. The names that are neither: a new set, NULL with an exception. */
static PyObject *wake(cm_walk *walk, PyObject *touched, PyObject *items, PyObject *present)
{
    const cm_shadow *shadow = walk->shadow;
    PyObject *quiet = PySet_New(NULL);
    for (Py_ssize_t i = 0; quiet && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i), *name = name_in(item);
        if (!name)
            continue;
        cm_shade *root = known_root(shadow, name);
        int moved = PySet_Add(present, name) < 0 ? -1 : root ? PySet_Contains(touched, name) : 1;
        if (!moved && !(is_bound_as_before(shadow, root, name, PyTuple_GET_ITEM(item, 1)) &&
                        root->context == cm_walk_context(walk) && all_kept(root)))
            moved = 1;
        if (moved > 0 && root)
            leader_of(shadow, root)->awake = shadow->generation;
        if (PyErr_Occurred() || (!moved && PySet_Add(quiet, name) < 0))
            Py_CLEAR(quiet);
    }
    return quiet;
}

/* Variables that are gone wake their groups, once. */
static int wake_gone(const cm_shadow *shadow, PyObject *known, PyObject *present)
{
    PyObject *names = PyDict_Keys(known);
    int result = names ? 0 : -1;
    for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(names); i++) {
        PyObject *name = PyList_GET_ITEM(names, i);
        int there = PySet_Contains(present, name);
        cm_shade *root = there == 0 ? known_root(shadow, name) : NULL;
        if (root)
            leader_of(shadow, root)->awake = shadow->generation;
        if (there < 0 || PyErr_Occurred() || (there == 0 && PyDict_DelItem(known, name) < 0))
            result = -1;
    }
    Py_XDECREF(names);
    return result;
}

static int leave_out_awake(const cm_shadow *shadow, PyObject *quiet, PyObject *items)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *name = name_in(PyList_GET_ITEM(items, i));
        cm_shade *root = name ? known_root(shadow, name) : NULL;
        bool awake = root && leader_of(shadow, root)->awake == shadow->generation;
        if (PyErr_Occurred() || (awake && PySet_Discard(quiet, name) < 0))
            return -1;
    }
    return 0;
}

/* What may have changed since the last walk, a new reference; NULL: anything, or an exception is set. Begins anew. */
static PyObject *take_touched(cm_shadow *shadow)
{
    PyObject *touched = shadow->touched;
    shadow->touched = PySet_New(NULL); /* from here on; if this walk comes to nothing, nothing is known */
    PyObject *apart = touched && shadow->touched ? PyObject_CallMethod(touched, "isdisjoint", "O", shadow->lost) : NULL;
    if (apart != Py_True)
        Py_CLEAR(touched);
    Py_XDECREF(apart);
    PySet_Clear(shadow->lost);
    return touched;
}

int cm_idle_begin(cm_walk *walk, PyObject *items)
{
    cm_shadow *shadow = walk->shadow;
    if (!shadow->filtered)
        return 0;
    link_memory(shadow);
    PyObject *touched = take_touched(shadow), *present = touched ? PySet_New(NULL) : NULL;
    PyObject *quiet = present ? wake(walk, touched, items, present) : NULL;
    if (quiet && !wake_gone(shadow, shadow->aliases, present) && !wake_gone(shadow, shadow->names, present) &&
        !leave_out_awake(shadow, quiet, items))
        walk->idle = Py_NewRef(quiet);
    Py_XDECREF(quiet);
    Py_XDECREF(touched);
    Py_XDECREF(present);
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- using their pods --------------------------------------------------------------------------------------------------- */

int cm_idle_use(cm_walk *walk, PyObject *name, PyObject *value, cm_shade **found, uint32_t *index)
{
    int idle = walk->idle ? PySet_Contains(walk->idle, name) : 0;
    if (idle <= 0)
        return idle;
    cm_shadow *shadow = walk->shadow;
    if (PyDict_Contains(shadow->aliases, name) > 0) {
        cm_memo_entry entry;
        if (!cm_memo_at(shadow, value, &entry))
            return 0;
        *found = cm_shade_at(shadow, entry.shade);
        *index = entry.index;
        return (*found)->seen == shadow->generation;
    }
    cm_shade *root = known_root(shadow, name);
    const char *text = PyUnicode_AsUTF8(name);
    if (!root || !text || root->seen == shadow->generation) {
        PyErr_Clear();
        return 0;
    }
    for (cm_shade *shade = root; shade; shade = cm_shade_following(shade, root)) {
        shade->page = shade == root ? cm_page_of_variable(text) : cm_page_of_child(shade->parent->page, shade->ordinal);
        shade->idle = shadow->generation;
    }
    *found = root;
    *index = root->root;
    return cm_shade_use_again(walk, root) < 0 ? -1 : 1;
}

int cm_idle_alias(const cm_walk *walk, PyObject *name, PyObject *value)
{
    if (!walk->shadow->filtered)
        return 0;
    PyObject *address = PyLong_FromVoidPtr(value);
    int result = address ? PyDict_SetItem(walk->shadow->aliases, name, address) : -1;
    Py_XDECREF(address);
    return result;
}

int cm_idle_own(const cm_walk *walk, PyObject *name)
{
    int known = walk->shadow->filtered ? PyDict_Contains(walk->shadow->aliases, name) : 0;
    return known > 0 ? PyDict_DelItem(walk->shadow->aliases, name) : known;
}

int cm_idle_lose(const cm_walk *walk, PyObject *name)
{
    return walk->shadow->filtered ? PySet_Add(walk->shadow->lost, name) : 0;
}
