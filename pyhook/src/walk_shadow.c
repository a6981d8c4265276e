/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_shadow.c - shades: their life, and their notes.
 *
 * A note is a word that is an object's address with the kind of note in its lowest four bits (objects are aligned to 16 bytes),
 * and what follows it by kind:
 *
 *     LIST, TUPLE          count, elements
 *     SET, FROZENSET       count, elements, in the order of the set's table
 *     DICT                 version; or without versions: count, keys and values by turns
 *     LIST_WHOLE           count                  what is built of fragments has its elements there
 *     DICT_WHOLE           count, version or 0
 *     INSTANCE             hash of the class's name or 0, type, dict or 0
 *     EXTERNAL             page, index            an object of another pod
 *     VALUE                -                      owned
 *
 * Notes stand in the order of the walk, so that comparing them one after the other never follows the address of an object that
 * has not been found in one that is the same.
 */
#include "walk_private.h"

#include <stdlib.h>

#include "walk_notes.h"

/* ---- shades ------------------------------------------------------------------------------------------------------- */

cm_shadow *cm_shadow_new(uint64_t limit, enum cm_policy policy)
{
    cm_shadow *shadow = calloc(1, sizeof *shadow);
    if (shadow) {
        shadow->names = PyDict_New();
        shadow->limit = limit;
        shadow->policy = policy;
    } else
        PyErr_NoMemory();
    if (shadow && !shadow->names) {
        free(shadow);
        shadow = NULL;
    }
    return shadow;
}

static void drop_words(uint64_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (words[i] & 1)
            Py_DECREF((PyObject *)(uintptr_t)(words[i] & ~(uint64_t)1));
}

/* Lets go of what the notes own: values, whose end runs no code. */
static void drop_notes(cm_shade *shade)
{
    const uint64_t *trace = shade->trace;
    for (uint32_t at = 1; at < shade->trace_count;) {
        uint32_t elements, count = cm_note_elements(trace + at, &elements);
        drop_words(shade->trace + at + elements, count);
        if (cm_note_kind(trace[at]) == CM_NOTE_VALUE)
            Py_DECREF(cm_note_object(trace[at]));
        at += cm_note_size(trace + at);
    }
    drop_words(shade->run, shade->run_count);
    free(shade->trace);
    free(shade->run);
    shade->trace = shade->run = NULL;
    shade->trace_count = shade->trace_capacity = shade->run_count = shade->run_capacity = 0;
}

/* It is not to be used again. */
static void end(cm_shadow *shadow, cm_shade *shade)
{
    Py_XDECREF(shade->description);
    drop_notes(shade);
    cm_kept_free(shade->kept);
    uint32_t number = shade->number;
    *shade = (cm_shade){.number = number, .dead = true};
    shadow->dead_count++;
}

void cm_shadow_clear(cm_shadow *shadow)
{
    for (uint32_t i = 0; i < shadow->shade_count; i++)
        if (!cm_shade_at(shadow, i)->dead)
            end(shadow, cm_shade_at(shadow, i));
    for (size_t i = 0; i < shadow->slab_count; i++)
        free(shadow->slabs[i]);
    free(shadow->slabs);
    free(shadow->spare);
    free(shadow->memo);
    PyDict_Clear(shadow->names);
    *shadow = (cm_shadow){
        .policy = shadow->policy, .names = shadow->names, .generation = shadow->generation, .limit = shadow->limit};
}

void cm_shadow_free(cm_shadow *shadow)
{
    if (!shadow)
        return;
    cm_shadow_clear(shadow);
    Py_DECREF(shadow->names);
    free(shadow);
}

int cm_shades_spare(cm_shadow *shadow)
{
    if (shadow->spare_capacity < shadow->shade_count) {
        uint32_t *spare = realloc(shadow->spare, shadow->shade_count * sizeof *spare);
        if (!spare)
            return -1;
        shadow->spare = spare;
        shadow->spare_capacity = shadow->shade_count;
    }
    shadow->spare_count = shadow->dead_count = 0;
    for (uint32_t i = 0; i < shadow->shade_count; i++)
        if (cm_shade_at(shadow, i)->dead)
            shadow->spare[shadow->spare_count++] = i;
    return 0;
}

static cm_shade *make(cm_shadow *shadow)
{
    if (shadow->spare_count) {
        cm_shade *shade = cm_shade_at(shadow, shadow->spare[--shadow->spare_count]);
        shade->dead = false;
        return shade;
    }
    if (shadow->shade_count == shadow->slab_count * CM_SHADE_SLAB) {
        if (shadow->slab_count == shadow->slab_capacity) {
            size_t capacity = shadow->slab_capacity ? shadow->slab_capacity * 2 : 16;
            cm_shade **slabs = realloc(shadow->slabs, capacity * sizeof *slabs);
            if (!slabs)
                return NULL;
            shadow->slabs = slabs;
            shadow->slab_capacity = capacity;
        }
        cm_shade *slab = calloc(CM_SHADE_SLAB, sizeof *slab);
        if (!slab)
            return NULL;
        shadow->slabs[shadow->slab_count++] = slab;
    }
    cm_shade *shade = cm_shade_at(shadow, shadow->shade_count);
    shade->number = shadow->shade_count++;
    return shade;
}

/* ---- being part of a walk ----------------------------------------------------------------------------------------- */

int cm_shade_count(cm_walk *walk, cm_shade *shade)
{
    if (walk->part_count == walk->part_capacity) {
        size_t capacity = walk->part_capacity ? walk->part_capacity * 2 : 256;
        cm_shade **part = realloc(walk->part, capacity * sizeof *part);
        if (!part) {
            PyErr_NoMemory();
            return -1;
        }
        walk->part = part;
        walk->part_capacity = capacity;
    }
    walk->part[walk->part_count++] = shade;
    shade->seen = walk->shadow->generation;
    return 0;
}

int cm_shade_join(cm_walk *walk, cm_shade *shade, cm_shade *parent)
{
    if (cm_shade_count(walk, shade) < 0)
        return -1;
    shade->parent = parent;
    shade->next = NULL;
    if (parent) {
        shade->ordinal = parent->children++;
        if (parent->last)
            parent->last->next = shade;
        else
            parent->first = shade;
        parent->last = shade;
    }
    return 0;
}

cm_shade *cm_shade_open(cm_walk *walk, PyObject *object)
{
    cm_shadow *shadow = walk->shadow;
    const cm_memo_entry *entry = object ? cm_memo_at(shadow, object) : NULL;
    cm_shade *old = entry ? cm_shade_at(shadow, entry->shade) : NULL, *shade = make(shadow);
    if (!shade) {
        PyErr_NoMemory();
        return NULL;
    }
    shade->object = object;
    shade->context = cm_walk_context(walk);
    shade->root = CM_INDEX_ROOT;
    shade->old = old && old->object == object && old->kept ? old->first : NULL;
    if (cm_shade_join(walk, shade, walk->shade) < 0)
        return NULL;
    walk->shade = shade;
    return shade;
}

void cm_shade_close(cm_walk *walk)
{
    cm_shade *shade = walk->shade;
    shade->old = NULL;
    if (shade->opaque)
        drop_notes(shade);
    if (shade->trace_count && shade->trace_count < shade->trace_capacity) {
        uint64_t *trace = realloc(shade->trace, shade->trace_count * sizeof *trace);
        if (trace) {
            shade->trace = trace;
            shade->trace_capacity = shade->trace_count;
        }
    }
    if (shade->run_count && shade->run_count < shade->run_capacity) {
        uint64_t *run = realloc(shade->run, shade->run_count * sizeof *run);
        if (run) {
            shade->run = run;
            shade->run_capacity = shade->run_count;
        }
    }
    walk->shade = shade->parent;
}

void cm_shades_cut(cm_walk *walk, size_t count)
{
    while (walk->part_count > count) {
        cm_shade *shade = walk->part[--walk->part_count];
        shade->seen = 0;
        shade->opaque = true; /* it may have left the place among others that it would be looked for in */
        shade->old = NULL;
    }
    if (walk->part_held > count)
        walk->part_held = count;
    walk->shade = NULL;
}

int cm_shade_name(cm_walk *walk, PyObject *name, cm_shade *shade, PyObject *description)
{
    bool alone = !shade->description;
    for (const cm_shade *part = shade; alone && part; part = cm_shade_following(part, shade))
        alone = part->externals == 0;
    if (alone)
        shade->description = Py_NewRef(description);

    PyObject *known = PyDict_GetItemWithError(walk->shadow->names, name);
    if (known && PyLong_AsUnsignedLong(known) == shade->number)
        return 0;
    PyObject *number = PyErr_Occurred() ? NULL : PyLong_FromUnsignedLong(shade->number);
    int result = number ? PyDict_SetItem(walk->shadow->names, name, number) : -1;
    Py_XDECREF(number);
    return result;
}

static uint64_t table_size(const cm_shadow *shadow)
{
    return (shadow->memo ? shadow->memo_mask + 1 : 0) * sizeof *shadow->memo;
}

void cm_walk_keep_shadow(cm_walk *walk)
{
    cm_shadow *shadow = walk->shadow;
    shadow->memory = 0;
    for (uint32_t i = 0; i < shadow->shade_count; i++) {
        cm_shade *shade = cm_shade_at(shadow, i);
        if (shade->dead)
            continue;
        if (shade->seen == shadow->generation && !shade->kept && !shade->opaque)
            shade->kept = cm_pod_keep(shade->pod);
        shade->pod = NULL;
        if (shade->seen != shadow->generation)
            end(shadow, shade);
        else
            shadow->memory += sizeof *shade + (shade->trace_capacity + shade->run_capacity) * sizeof *shade->trace;
    }
    if (shadow->limit && shadow->memory + table_size(shadow) > shadow->limit)
        cm_memo_trim(shadow);
    shadow->memory += table_size(shadow);
    walk->kept_shadow = !shadow->limit || shadow->memory <= shadow->limit; /* else it is cleared */
}

int cm_walk_foreign(cm_walk *walk)
{
    for (; walk->part_held < walk->part_count; walk->part_held++) {
        const cm_shade *shade = walk->part[walk->part_held];
        const uint64_t *trace = shade->trace;
        for (uint32_t at = 1; shade->kept && at < shade->trace_count; at += cm_note_size(trace + at))
            if (cm_note_kind(trace[at]) != CM_NOTE_VALUE && cm_walk_hold(walk, cm_note_object(trace[at])) < 0)
                return -1;
    }
    return 0;
}

void cm_shades_free(cm_walk *walk)
{
    if (!walk->kept_shadow)
        cm_shadow_clear(walk->shadow); /* what it says of pods would be of a save that never was */
    for (size_t i = 0; i < walk->held_count; i++)
        Py_DECREF(walk->held[i]);
    free(walk->held);
    free(walk->part);
}

/* ---- notes -------------------------------------------------------------------------------------------------------- */

enum { MEMO_ENTRY_MOST = 4 * sizeof(cm_memo_entry) }; /* the table is a quarter full at least */

/* Whether that many words more may be noted, and objects be in the memo. */
static bool afford(cm_walk *walk, size_t words, size_t objects)
{
    const cm_shadow *shadow = walk->shadow;
    walk->noted += words * sizeof(uint64_t) + objects * MEMO_ENTRY_MOST;
    if (!shadow->limit)
        return true;
    uint64_t shades = (shadow->shade_count - shadow->dead_count) * sizeof(cm_shade);
    return shadow->memory + shades + walk->noted <= shadow->limit;
}

/* Room for a note of `count` words; 0: none, or not wanted. */
static uint32_t room(cm_walk *walk, const PyObject *object, size_t count)
{
    cm_shade *shade = walk->shade;
    if (!shade || shade->opaque || walk->repeating)
        return 0;
    if ((uintptr_t)object & 15) { /* one of the interpreter's own */
        shade->opaque = true;
        return 0;
    }
    if (shade->trace_count == 0)
        shade->trace_count = 1; /* so that no place is 0 */
    if (count > UINT32_MAX / 2 - shade->trace_count || !afford(walk, count, 1)) {
        shade->opaque = true;
        return 0;
    }
    if (shade->trace_count + count > shade->trace_capacity) {
        size_t capacity = shade->trace_capacity ? (size_t)shade->trace_capacity * 2 : 16;
        while (capacity < shade->trace_count + count)
            capacity *= 2;
        uint64_t *trace = realloc(shade->trace, capacity * sizeof *trace);
        if (!trace) {
            shade->opaque = true;
            return 0;
        }
        if (!shade->trace)
            trace[0] = 0;
        shade->trace = trace;
        shade->trace_capacity = (uint32_t)capacity;
    }
    uint32_t at = shade->trace_count;
    shade->trace_count += (uint32_t)count;
    return at;
}

static inline uint64_t note(enum cm_note kind, const PyObject *object)
{
    return (uint64_t)(uintptr_t)object | kind;
}

/* Notes the elements of a set at once, in the order of its table. */
static uint32_t trace_set(cm_walk *walk, PyObject *set, enum cm_note kind)
{
    size_t count = (size_t)PySet_GET_SIZE(set), i = 0;
    uint32_t at = room(walk, set, 2 + count);
    if (!at)
        return 0;
    walk->shade->trace[at] = note(kind, set);
    walk->shade->trace[at + 1] = count;
    PyObject *element;
    for (Py_ssize_t place = 0; i < count && (element = cm_set_next(set, &place)); i++)
        walk->shade->trace[at + 2 + i] = cm_trace_word(walk, element);
    return 0; /* they are not noted a second time */
}

uint32_t cm_trace_elements(cm_walk *walk, PyObject *object, Py_ssize_t count)
{
    if (PySet_CheckExact(object) || PyFrozenSet_CheckExact(object))
        return trace_set(walk, object, PySet_CheckExact(object) ? CM_NOTE_SET : CM_NOTE_FROZENSET);
    uint32_t at = room(walk, object, 2 + (size_t)count);
    if (!at)
        return 0;
    uint64_t *words = walk->shade->trace + at;
    words[0] = note(PyList_CheckExact(object) ? CM_NOTE_LIST : CM_NOTE_TUPLE, object);
    words[1] = (uint64_t)count;
    memset(words + 2, 0, (size_t)count * sizeof *words); /* what is not noted is not the same */
    return at + 2;
}

void cm_trace_dict(cm_walk *walk, PyObject *dict)
{
#if CM_DICT_VERSIONS
    uint32_t at = room(walk, dict, 2);
    if (!at)
        return;
    walk->shade->trace[at] = note(CM_NOTE_DICT, dict);
    walk->shade->trace[at + 1] = cm_dict_version(dict);
#else
    size_t count = (size_t)PyDict_GET_SIZE(dict), i = 0;
    uint32_t at = room(walk, dict, 2 + 2 * count);
    if (!at)
        return;
    walk->shade->trace[at] = note(CM_NOTE_DICT, dict);
    walk->shade->trace[at + 1] = 2 * count;
    PyObject *key, *value;
    for (Py_ssize_t place = 0; i < count && PyDict_Next(dict, &place, &key, &value); i++) {
        walk->shade->trace[at + 2 + 2 * i] = cm_trace_word(walk, key);
        walk->shade->trace[at + 3 + 2 * i] = cm_trace_word(walk, value);
    }
#endif
}

void cm_trace_whole(cm_walk *walk, PyObject *object)
{
    if (PySet_CheckExact(object)) {
        (void)trace_set(walk, object, CM_NOTE_SET);
        return;
    }
    bool list = PyList_CheckExact(object);
    uint32_t at = room(walk, object, list ? 2 : 3);
    if (!at)
        return;
    walk->shade->trace[at] = note(list ? CM_NOTE_LIST_WHOLE : CM_NOTE_DICT_WHOLE, object);
    walk->shade->trace[at + 1] = (uint64_t)(list ? PyList_GET_SIZE(object) : PyDict_GET_SIZE(object));
    if (!list)
        walk->shade->trace[at + 2] = cm_dict_version(object);
}

void cm_trace_instance(cm_walk *walk, PyObject *object, uint64_t class_hash, PyObject *dict)
{
    uint32_t at = room(walk, object, 4);
    if (!at)
        return;
    uint64_t *words = walk->shade->trace + at;
    words[0] = note(CM_NOTE_INSTANCE, object);
    words[1] = class_hash;
    words[2] = (uint64_t)(uintptr_t)Py_TYPE(object);
    words[3] = (uint64_t)(uintptr_t)dict;
}

void cm_trace_value(cm_walk *walk, PyObject *object)
{
    if (!walk->shade || walk->shade->object != object)
        return;
    uint64_t word = cm_trace_word(walk, object); /* a reference, and perhaps opaque */
    uint32_t at = room(walk, object, 1);
    if (at)
        walk->shade->trace[at] = note(CM_NOTE_VALUE, object);
    else
        drop_words(&word, 1);
}

void cm_trace_external(cm_walk *walk, PyObject *object, const cm_memo_entry *entry)
{
    uint32_t at = room(walk, object, 3);
    if (!at)
        return;
    uint64_t *words = walk->shade->trace + at;
    words[0] = note(CM_NOTE_EXTERNAL, object);
    words[1] = cm_pod_page(cm_shade_at(walk->shadow, entry->shade)->pod);
    words[2] = entry->index;
    walk->shade->externals++;
}

void cm_trace_run(cm_walk *walk, PyObject *element)
{
    cm_shade *shade = walk->shade;
    if (shade->run_count == shade->run_capacity) {
        size_t capacity = shade->run_capacity ? (size_t)shade->run_capacity * 2 : 256;
        bool room = capacity <= UINT32_MAX / 2 && afford(walk, capacity - shade->run_capacity, 0);
        uint64_t *run = room ? realloc(shade->run, capacity * sizeof *run) : NULL;
        if (!run) {
            shade->opaque = true;
            return;
        }
        shade->run = run;
        shade->run_capacity = (uint32_t)capacity;
    }
    shade->run[shade->run_count++] = cm_trace_word(walk, element);
}
