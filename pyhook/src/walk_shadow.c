/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_shadow.c - shades: their life, and their notes.
 *
 * A note is a word of four bytes with the kind of note in its lowest four bits and a number above; the object's address; and what
 * follows by kind. Numbers of two words have their lower half first.
 *
 *     LIST, TUPLE          number of elements; elements
 *     SET, FROZENSET       the same, in the order of the set's table
 *     DICT                 version, its lower bits; upper 32 bits. Or without versions: as a list, keys and values by turns
 *     LIST_WHOLE           -; length (2 words)    what is built of fragments has its elements there
 *     DICT_WHOLE           -; length (2), version or 0 (2)
 *     INSTANCE             number of the class; dict or 0
 *     EXTERNAL             -; page (2), index     an object of another pod
 *     VALUE                -;                     owned
 *
 * An address takes one word, for half the memory and half the time that comparing takes: in the lowest bit whether the shade owns the object, above
 * that the distance from the beginning of a region in units of 16 bytes, in the uppermost byte which region that is. Regions are 128 MiB
 * and given as they are met; one serves addresses that are the same number of bytes from a multiple of 16. 0 is no address.
 *
 * Notes stand in the order of the walk, so that comparing them one after the other never follows the address of an object that
 * has not been found in one that is the same.
 */
#include "walk_private.h"

#include <stdlib.h>

#include "walk_notes.h"

/* ---- shades ------------------------------------------------------------------------------------------------------- */

cm_shadow *cm_shadow_new(uint64_t limit, enum cm_policy policy, bool filtered)
{
    cm_shadow *shadow = calloc(1, sizeof *shadow);
    if (shadow) {
        shadow->names = PyDict_New();
        shadow->aliases = PyDict_New();
        shadow->lost = PySet_New(NULL);
        shadow->limit = limit;
        shadow->policy = policy;
        shadow->filtered = filtered;
    } else
        PyErr_NoMemory();
    if (shadow && (!shadow->names || !shadow->aliases || !shadow->lost)) {
        cm_shadow_free(shadow);
        shadow = NULL;
    }
    return shadow;
}

/* Words are let go of, and what they own: values, whose end runs no code. */
static void drop_words(const cm_shadow *shadow, const uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (words[i] & 1)
            Py_DECREF(cm_note_object(shadow, words[i]));
}

static void drop_notes(const cm_shadow *shadow, const uint32_t *notes, size_t count)
{
    for (size_t at = 0; at < count; at += cm_note_size(notes + at)) {
        drop_words(shadow, notes + at + CM_NOTE_HEAD, cm_note_elements(notes + at));
        if (cm_note_kind(notes + at) == CM_NOTE_VALUE)
            Py_DECREF(cm_note_object(shadow, notes[at + 1]));
    }
}

/* The notes of what is open, from there on. */
static void drop_open(cm_walk *walk, size_t notes, size_t runs)
{
    if (walk->notes.count > notes)
        drop_notes(walk->shadow, walk->notes.words + notes, walk->notes.count - notes);
    if (walk->runs.count > runs)
        drop_words(walk->shadow, walk->runs.words + runs, walk->runs.count - runs);
    walk->notes.count = notes;
    walk->runs.count = runs;
}

/* It is not to be used again. */
static void end(cm_shadow *shadow, cm_shade *shade)
{
    Py_XDECREF(shade->description);
    drop_notes(shadow, shade->trace, shade->trace_count);
    drop_words(shadow, cm_shade_run(shade), shade->run_count);
    free(shade->trace);
    cm_kept_free(shade->kept);
    uint32_t number = shade->number;
    *shade = (cm_shade){.number = number, .group = number, .dead = true};
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
    free(shadow->extents);
    cm_memo_clear(shadow);
    for (size_t i = 0; i < shadow->class_count; i++)
        free(shadow->classes[i]);
    free(shadow->classes);
    free(shadow->class_table.slots);
    if (shadow->names)
        PyDict_Clear(shadow->names);
    if (shadow->aliases)
        PyDict_Clear(shadow->aliases);
    if (shadow->lost)
        PySet_Clear(shadow->lost);
    *shadow = (cm_shadow){.policy = shadow->policy,
                          .names = shadow->names,
                          .aliases = shadow->aliases,
                          .lost = shadow->lost,
                          .generation = shadow->generation,
                          .limit = shadow->limit,
                          .filtered = shadow->filtered,
                          .touched = shadow->touched};
}

void cm_shadow_free(cm_shadow *shadow)
{
    if (!shadow)
        return;
    cm_shadow_clear(shadow);
    Py_XDECREF(shadow->names);
    Py_XDECREF(shadow->aliases);
    Py_XDECREF(shadow->lost);
    Py_XDECREF(shadow->touched);
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
    cm_memo_entry entry;
    cm_shade *old = object && cm_memo_at(shadow, object, &entry) ? cm_shade_at(shadow, entry.shade) : NULL;
    cm_shade *shade = make(shadow);
    if (!shade) {
        PyErr_NoMemory();
        return NULL;
    }
    shade->object = object;
    shade->context = cm_walk_context(walk);
    shade->root = CM_INDEX_ROOT;
    shade->group = shade->number;
    shade->linked_in = 0;
    shade->trace_begin = (uint32_t)walk->notes.count;
    shade->run_begin = (uint32_t)walk->runs.count;
    shade->old = old && old->object == object && old->kept ? old->first : NULL;
    if (cm_shade_join(walk, shade, walk->shade) < 0)
        return NULL;
    walk->shade = shade;
    return shade;
}

void cm_shade_close(cm_walk *walk)
{
    cm_shade *shade = walk->shade;
    size_t notes = walk->notes.count - shade->trace_begin, runs = walk->runs.count - shade->run_begin;
    shade->old = NULL;
    if (!shade->opaque && notes + runs && !(shade->trace = malloc((notes + runs) * sizeof *shade->trace)))
        shade->opaque = true;
    if (shade->trace) {
        if (notes)
            memcpy(shade->trace, walk->notes.words + shade->trace_begin, notes * sizeof *shade->trace);
        if (runs)
            memcpy(shade->trace + notes, walk->runs.words + shade->run_begin, runs * sizeof *shade->trace);
        shade->trace_count = (uint32_t)notes;
        shade->run_count = (uint32_t)runs;
        walk->notes.count = shade->trace_begin;
        walk->runs.count = shade->run_begin;
    }
    drop_open(walk, shade->trace_begin, shade->run_begin);
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
    drop_open(walk, 0, 0);
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

static uint64_t memory_of(const cm_shadow *shadow)
{
    uint64_t shades = shadow->shade_count - shadow->dead_count - shadow->spare_count;
    return shadow->noted + shadow->memo.bytes + shades * sizeof(cm_shade);
}

void cm_walk_keep_shadow(cm_walk *walk)
{
    enum { DEAD_MOST = 4 * CM_SHADE_SLAB };
    cm_shadow *shadow = walk->shadow;
    shadow->noted = 0;
    for (uint32_t i = 0; i < shadow->shade_count; i++) {
        cm_shade *shade = cm_shade_at(shadow, i);
        if (shade->dead)
            continue;
        if (shade->seen == shadow->generation && !shade->kept && (!shade->opaque || shadow->filtered))
            shade->kept = cm_pod_keep(shade->pod);
        shade->pod = NULL;
        if (shade->seen != shadow->generation)
            end(shadow, shade);
        else
            shadow->noted += ((uint64_t)shade->trace_count + shade->run_count) * sizeof *shade->trace;
    }
    if ((shadow->dead_count > DEAD_MOST && shadow->dead_count * 4 > shadow->shade_count) ||
        shadow->memo.bytes > 2 * shadow->memo.trimmed || (shadow->limit && memory_of(shadow) > shadow->limit))
        cm_memo_trim(shadow);
    cm_idle_keep(shadow);
    shadow->memory = memory_of(shadow);
    walk->kept_shadow = !shadow->limit || shadow->memory <= shadow->limit; /* else it is cleared */
}

int cm_walk_foreign(cm_walk *walk)
{
    for (; walk->part_held < walk->part_count; walk->part_held++) {
        const cm_shade *shade = walk->part[walk->part_held];
        const uint32_t *trace = shade->trace;
        if (!shade->kept || shade->idle == walk->shadow->generation)
            continue;
        for (uint32_t at = 0; at < shade->trace_count; at += cm_note_size(trace + at))
            if (cm_note_kind(trace + at) != CM_NOTE_VALUE &&
                cm_walk_hold(walk, cm_note_object(walk->shadow, trace[at + 1])) < 0)
                return -1;
    }
    return 0;
}

void cm_shades_free(cm_walk *walk)
{
    drop_open(walk, 0, 0);
    free(walk->notes.words);
    free(walk->runs.words);
    if (!walk->kept_shadow)
        cm_shadow_clear(walk->shadow); /* what it says of pods would be of a save that never was */
    for (size_t i = 0; i < walk->held_count; i++)
        Py_DECREF(walk->held[i]);
    free(walk->held);
    free(walk->part);
}

/* ---- notes -------------------------------------------------------------------------------------------------------- */

uint32_t cm_note_word_elsewhere(cm_shadow *shadow, const void *address)
{
    const uint64_t size = (uint64_t)1 << CM_REGION_SHIFT, at = (uint64_t)(uintptr_t)address;
    if (!address)
        return 0;
    uint64_t region = (at & ~(size - 1)) | (at & 15);
    uint32_t i = 1;
    while (i < shadow->region_count && shadow->regions[i] != region)
        i++;
    if (i == CM_REGIONS)
        return 0;
    if (i >= shadow->region_count) {
        shadow->regions[i] = region;
        shadow->region_count = i + 1;
    }
    shadow->region = i;
    return i << 24 | (uint32_t)((at - region) >> 3);
}

/* Whether that many words more may be noted. The table of the memo may double. */
static bool afford(cm_walk *walk, size_t words)
{
    const cm_shadow *shadow = walk->shadow;
    walk->noted += words * sizeof(uint32_t);
    if (!shadow->limit)
        return true;
    uint64_t table = shadow->memo.slots ? (shadow->memo.mask + 1) * sizeof *shadow->memo.slots : 0;
    return memory_of(shadow) + table + walk->noted <= shadow->limit;
}

static bool more_words(cm_words *words, size_t count)
{
    if (words->count + count <= words->capacity)
        return true;
    size_t capacity = words->capacity ? words->capacity * 2 : 1024;
    while (capacity < words->count + count)
        capacity *= 2;
    uint32_t *grown = capacity <= UINT32_MAX / 2 ? realloc(words->words, capacity * sizeof *grown) : NULL;
    if (!grown)
        return false;
    words->words = grown;
    words->capacity = capacity;
    return true;
}

/* A note of an object, with `count` words behind its head; NULL: none, or not wanted. */
static uint32_t *room(cm_walk *walk, enum cm_note kind, uint64_t number, const PyObject *object, uint64_t count)
{
    cm_shade *shade = walk->shade;
    if (!shade || shade->opaque || walk->repeating)
        return NULL;
    uint32_t word = cm_note_word(walk->shadow, object);
    if (!word || number > CM_NOTE_NUMBER_MOST || count > CM_NOTE_NUMBER_MOST || !afford(walk, CM_NOTE_HEAD + count) ||
        !more_words(&walk->notes, CM_NOTE_HEAD + count)) {
        shade->opaque = true;
        return NULL;
    }
    uint32_t *note = walk->notes.words + walk->notes.count;
    walk->notes.count += CM_NOTE_HEAD + count;
    note[0] = kind | (uint32_t)number << CM_NOTE_KIND_BITS;
    note[1] = word;
    return note + CM_NOTE_HEAD;
}

static void put_u64(uint32_t *words, uint64_t value)
{
    words[0] = (uint32_t)value;
    words[1] = (uint32_t)(value >> 32);
}

/* Notes the elements of a set at once, in the order of its table. */
static void trace_set(cm_walk *walk, PyObject *set, enum cm_note kind)
{
    size_t count = (size_t)PySet_GET_SIZE(set), i = 0;
    uint32_t *words = room(walk, kind, count, set, count);
    if (!words)
        return;
    PyObject *element;
    for (Py_ssize_t place = 0; i < count && (element = cm_set_next(set, &place)); i++)
        words[i] = cm_trace_word(walk, element);
}

uint32_t cm_trace_elements(cm_walk *walk, PyObject *object, Py_ssize_t count)
{
    if (PySet_CheckExact(object) || PyFrozenSet_CheckExact(object)) {
        trace_set(walk, object, PySet_CheckExact(object) ? CM_NOTE_SET : CM_NOTE_FROZENSET);
        return 0; /* they are not noted a second time */
    }
    enum cm_note kind = PyList_CheckExact(object) ? CM_NOTE_LIST : CM_NOTE_TUPLE;
    uint32_t *words = room(walk, kind, (uint64_t)count, object, (uint64_t)count);
    if (!words)
        return 0;
    memset(words, 0, (size_t)count * sizeof *words); /* what is not noted is not the same */
    return (uint32_t)(words - walk->notes.words);
}

void cm_trace_dict(cm_walk *walk, PyObject *dict)
{
#if CM_DICT_VERSIONS
    uint64_t version = cm_dict_version(dict);
    uint32_t *words = room(walk, CM_NOTE_DICT, version & CM_NOTE_NUMBER_MOST, dict, 1);
    if (words && version >> CM_NOTE_NUMBER_BITS > UINT32_MAX)
        walk->shade->opaque = true;
    if (words)
        words[0] = (uint32_t)(version >> CM_NOTE_NUMBER_BITS);
#else
    size_t count = (size_t)PyDict_GET_SIZE(dict), i = 0;
    uint32_t *words = room(walk, CM_NOTE_DICT, 2 * count, dict, 2 * count);
    if (!words)
        return;
    PyObject *key, *value;
    for (Py_ssize_t place = 0; i < count && PyDict_Next(dict, &place, &key, &value); i++) {
        words[2 * i] = cm_trace_word(walk, key);
        words[2 * i + 1] = cm_trace_word(walk, value);
    }
#endif
}

void cm_trace_whole(cm_walk *walk, PyObject *object)
{
    if (PySet_CheckExact(object)) {
        trace_set(walk, object, CM_NOTE_SET);
        return;
    }
    bool list = PyList_CheckExact(object);
    uint32_t *words = room(walk, list ? CM_NOTE_LIST_WHOLE : CM_NOTE_DICT_WHOLE, 0, object, list ? 2 : 4);
    if (!words)
        return;
    put_u64(words, (uint64_t)(list ? PyList_GET_SIZE(object) : PyDict_GET_SIZE(object)));
    if (!list)
        put_u64(words + 2, cm_dict_version(object));
}

/* NULL: it could not be noted. */
static const cm_noted_class *class_of(cm_shadow *shadow, const PyTypeObject *type, uint64_t hash)
{
    const cm_noted_class *known = cm_table_find(&shadow->class_table, type);
    if (known && known->hash == hash)
        return known;
    size_t capacity = shadow->class_capacity ? shadow->class_capacity * 2 : 8;
    cm_noted_class *noted = malloc(sizeof *noted), **classes = shadow->classes;
    if (noted && shadow->class_count == shadow->class_capacity) {
        classes = realloc(classes, capacity * sizeof(cm_noted_class *));
        if (classes) {
            shadow->classes = classes;
            shadow->class_capacity = capacity;
        }
    }
    if (!noted || !classes) {
        free(noted);
        return NULL;
    }
    *noted = (cm_noted_class){type, hash, (uint32_t)shadow->class_count};
    if (cm_table_add(&shadow->class_table, noted) < 0) {
        PyErr_Clear();
        free(noted);
        return NULL;
    }
    shadow->classes[shadow->class_count++] = noted;
    return noted;
}

void cm_trace_instance(cm_walk *walk, PyObject *object, uint64_t class_hash, PyObject *dict)
{
    const cm_noted_class *noted = class_of(walk->shadow, Py_TYPE(object), class_hash);
    if (!noted)
        cm_trace_opaque(walk);
    uint32_t *words = noted ? room(walk, CM_NOTE_INSTANCE, noted->number, object, 1) : NULL;
    if (!words)
        return;
    words[0] = dict ? cm_note_word(walk->shadow, dict) : 0;
    if (dict && !words[0])
        walk->shade->opaque = true;
}

void cm_trace_value(cm_walk *walk, PyObject *object)
{
    if (!walk->shade || walk->shade->object != object)
        return;
    uint32_t word = cm_trace_word(walk, object); /* a reference, and perhaps opaque */
    if (!room(walk, CM_NOTE_VALUE, 0, object, 0))
        drop_words(walk->shadow, &word, 1);
}

void cm_trace_external(cm_walk *walk, PyObject *object, const cm_memo_entry *entry)
{
    uint32_t *words = room(walk, CM_NOTE_EXTERNAL, 0, object, 3);
    if (!words)
        return;
    put_u64(words, cm_pod_page(cm_shade_at(walk->shadow, entry->shade)->pod));
    words[2] = entry->index;
    walk->shade->externals++;
}

void cm_trace_run(cm_walk *walk, PyObject *element)
{
    if (walk->shade->opaque)
        return;
    if (walk->runs.count == walk->runs.capacity && !more_words(&walk->runs, 1)) {
        walk->shade->opaque = true;
        return;
    }
    if (!afford(walk, 1)) {
        walk->shade->opaque = true;
        return;
    }
    walk->runs.words[walk->runs.count++] = cm_trace_word(walk, element);
}
