/* SPDX-License-Identifier: Apache-2.0 */
/* walk_met.c - which objects a walk met at some pages: what a load gives where the stream asks for what the program has. */
#include <stdlib.h>

#include "walk_private.h"

typedef struct meeting {
    const cm_shadow *shadow;
    uint8_t *wanted; /* a bit for each shade */
    cm_met *met;
    size_t count, capacity;
} meeting;

static bool is_wanted(const meeting *m, uint32_t shade)
{
    return m->wanted[shade / 8] >> shade % 8 & 1;
}

static int by_page(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/*
 * Marks the shades at these pages. Those that were used again are compared once more: what they are of may have changed since, if other
 * code has run, and then objects may have died that the memo has, but the shade does not own.
 */
static int choose(cm_walk *walk, const meeting *m, const uint64_t *pages, size_t count)
{
    for (size_t i = 0; i < walk->part_count; i++) {
        cm_shade *shade = walk->part[i];
        uint64_t page = cm_pod_page(shade->pod);
        if (shade->idle ==
            walk->shadow->generation) /* nothing of it was looked at: what is at its addresses is not known */
            continue;
        if (!bsearch(&page, pages, count, sizeof *pages, by_page))
            continue;
        int same = shade->kept ? cm_shade_is_same(walk, shade) : 1;
        if (same < 0)
            return -1;
        if (same)
            m->wanted[shade->number / 8] |= (uint8_t)(1 << shade->number % 8);
    }
    return 0;
}

/* Takes `object` over, NULL with an exception. */
static int add(meeting *m, const cm_shade *shade, uint32_t index, PyObject *object)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 64;
        cm_met *met = realloc(m->met, capacity * sizeof *met);
        if (met) {
            m->met = met;
            m->capacity = capacity;
        }
    }
    if (!object || m->count == m->capacity) {
        Py_XDECREF(object);
        return -1;
    }
    m->met[m->count++] = (cm_met){cm_pod_page(shade->pod), index, index == shade->root, object};
    return 0;
}

static int meet(void *arg, const cm_memo_entry *entry)
{
    meeting *m = arg;
    if (!is_wanted(m, entry->shade))
        return 0;
    return add(m, cm_shade_at(m->shadow, entry->shade), entry->index, Py_NewRef(entry->object));
}

/* Keys and values of `count` / 2 entries of a dict, from there on. */
static PyObject *list_items(PyObject *dict, Py_ssize_t place, uint32_t count)
{
    PyObject *items = PyList_New(0), *key, *value;
    for (uint32_t i = 0; items && i < count / 2 && PyDict_Next(dict, &place, &key, &value); i++) {
        PyObject *item = PyTuple_Pack(2, key, value);
        if (!item || PyList_Append(items, item) < 0)
            Py_CLEAR(items);
        Py_XDECREF(item);
    }
    return items;
}

static int meet_run(meeting *m, const cm_shade *run, PyObject *container, uint64_t begin)
{
    bool list = run->run_kind == CM_FRAME_LIST;
    PyObject *elements = list ? PyList_GetSlice(container, (Py_ssize_t)begin, (Py_ssize_t)(begin + run->run_count))
                              : list_items(container, (Py_ssize_t)begin, run->run_count);
    PyObject *adding = elements ? Py_BuildValue("(sO)", list ? "extend" : "update", elements) : NULL;
    Py_XDECREF(elements);
    return add(m, run, CM_INDEX_RUN, adding);
}

/*
 * The elements of the fragments that are wanted, of one container: as far as they stand in it as they did, for then it owns them.
 */
static int meet_runs(meeting *m, cm_walk *walk, cm_shade *whole)
{
    bool wanted = false;
    for (const cm_shade *run = whole->first; run; run = run->next)
        wanted |= !run->object && is_wanted(m, run->number);
    if (!wanted || !whole->object)
        return 0;
    uint64_t at = 0;
    int same = whole->kept ? cm_shade_is_same(walk, whole) : 1;
    for (const cm_shade *run = whole->first; same > 0 && run; run = run->next) {
        uint64_t begin = at;
        if (run->object)
            continue;
        if (run->opaque || !run->trace || (run->run_kind != CM_FRAME_LIST && run->run_kind != CM_FRAME_DICT) ||
            !cm_shade_is_run(m->shadow, run, whole->object, &at))
            break;
        if (is_wanted(m, run->number) && meet_run(m, run, whole->object, begin) < 0)
            return -1;
    }
    return same < 0 ? -1 : 0;
}

int cm_walk_met(cm_walk *walk, const uint64_t *pages, size_t count, cm_met **met, size_t *met_count)
{
    meeting m = {.shadow = walk->shadow, .wanted = calloc(walk->shadow->shade_count / 8 + 1, 1)};
    int collecting = PyGC_Disable(); /* which could run anything */
    int result = m.wanted ? cm_walk_foreign(walk) : -1;
    if (!result)
        result = choose(walk, &m, pages, count);
    if (!result)
        result = cm_memo_each(walk->shadow, meet, &m);
    for (size_t i = 0; !result && i < walk->part_count; i++)
        if (walk->part[i]->first)
            result = meet_runs(&m, walk, walk->part[i]);
    if (collecting)
        PyGC_Enable();
    if (result && !PyErr_Occurred())
        PyErr_NoMemory();
    free(m.wanted);
    *met = m.met;
    *met_count = m.count;
    return result;
}
