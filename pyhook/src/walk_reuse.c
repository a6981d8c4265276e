/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_reuse.c - comparing memory with notes, and using pods again.
 *
 * A pod is tried together with all below it. First every shade's notes are compared with memory, in the order of the walk, and
 * the shades counted as part of the walk; then the references that leave them are looked up in the memo, which may lead to
 * any of them. If anything differs, none is part of it, and the walk goes into the object; it tries again further down.
 */
#include "walk_entries.h"
#include "walk_notes.h"

enum { FRAGMENTS_TRIED = 256 };

/* ---- one shade ---------------------------------------------------------------------------------------------------- */

/* Notes of elements and the elements, without a branch for each. */
static bool same_elements(const cm_shadow *shadow, const uint32_t *words, PyObject *const *elements, size_t count)
{
    enum { STEP = 256 };
    for (size_t start = 0; start < count; start += STEP) {
        size_t end = count - start < STEP ? count : start + STEP;
        uint64_t differences = 0;
        for (size_t i = start; i < end; i++)
            differences |= cm_note_address(shadow, words[i]) ^ (uint64_t)(uintptr_t)elements[i];
        if (differences)
            return false;
    }
    return true;
}

static inline bool same_word(const cm_shadow *shadow, uint32_t word, const PyObject *object)
{
    return cm_note_address(shadow, word) == (uint64_t)(uintptr_t)object;
}

/* The length is the number of the note. */
static bool same_set(const cm_shadow *shadow, const uint32_t *note, PyObject *set)
{
    Py_ssize_t place = 0;
    for (uint32_t i = 0; i < cm_note_number(note); i++) {
        const PyObject *element = cm_set_next(set, &place);
        if (!element || !same_word(shadow, note[CM_NOTE_HEAD + i], element))
            return false;
    }
    return true;
}

/* Keys and values by turns, and those of a dict from *place on; moves *place behind them. */
static bool same_items(const cm_shadow *shadow, const uint32_t *words, uint32_t count, PyObject *dict,
                       Py_ssize_t *place)
{
    cm_entries table;
    if (!cm_dict_entries(dict, &table)) {
        PyObject *key, *value;
        for (uint32_t i = 0; i < count; i += 2)
            if (!PyDict_Next(dict, place, &key, &value) || !same_word(shadow, words[i], key) ||
                !same_word(shadow, words[i + 1], value))
                return false;
        return true;
    }
    size_t at = (size_t)*place;
    for (uint32_t i = 0; i < count; i += 2, at++) {
        while (at < table.count && !table.first[at * table.stride + 1])
            at++;
        if (at >= table.count)
            return false;
        PyObject *const *item = table.first + at * table.stride;
        if (!same_word(shadow, words[i], item[0]) || !same_word(shadow, words[i + 1], item[1]))
            return false;
    }
    *place = (Py_ssize_t)at;
    return true;
}

static bool same_dict(const cm_shadow *shadow, const uint32_t *note, PyObject *dict)
{
#if CM_DICT_VERSIONS
    (void)shadow;
    return cm_dict_version(dict) == ((uint64_t)note[CM_NOTE_HEAD] << CM_NOTE_NUMBER_BITS | cm_note_number(note));
#else
    Py_ssize_t place = 0;
    return (uint64_t)PyDict_GET_SIZE(dict) * 2 == cm_note_number(note) &&
           same_items(shadow, note + CM_NOTE_HEAD, cm_note_number(note), dict, &place);
#endif
}

/* 1: the same; 0; -1 with an exception. */
static int same_instance(cm_walk *walk, const uint32_t *note, PyObject *object)
{
    const cm_noted_class *noted = walk->shadow->classes[cm_note_number(note)];
    uint32_t noted_dict = note[CM_NOTE_HEAD];
    if (Py_TYPE(object) != noted->type)
        return 0;
    uint64_t class_hash;
    int plain = cm_walk_is_plain(walk, Py_TYPE(object), &class_hash);
    if (plain <= 0 || class_hash != noted->hash)
        return plain < 0 ? -1 : 0;
    if (!noted_dict)
        return Py_TYPE(object)->tp_dictoffset == 0;
    if (cm_attributes_inside(object)) /* which asking for the dict would end */
        return 0;
    PyObject **dict = _PyObject_GetDictPtr(object);
    return dict && *dict && same_word(walk->shadow, noted_dict, *dict) && PyDict_CheckExact(*dict);
}

static int same_notes(cm_walk *walk, cm_shade *shade)
{
    const cm_shadow *shadow = walk->shadow;
    shade->covers = false;
    for (const uint32_t *note = shade->trace, *end = cm_shade_run(shade); note < end; note += cm_note_size(note)) {
        const uint32_t *words = note + CM_NOTE_HEAD;
        PyObject *object = cm_note_object(shadow, note[1]);
        uint64_t number = cm_note_number(note), version;
        int same = 1;
        switch (cm_note_kind(note)) {
        case CM_NOTE_LIST:
            same = PyList_CheckExact(object) && (uint64_t)PyList_GET_SIZE(object) == number &&
                   same_elements(shadow, words, ((PyListObject *)object)->ob_item, number);
            break;
        case CM_NOTE_TUPLE:
            same = PyTuple_CheckExact(object) && (uint64_t)PyTuple_GET_SIZE(object) == number &&
                   same_elements(shadow, words, ((PyTupleObject *)object)->ob_item, number);
            break;
        case CM_NOTE_SET:
            same = PySet_CheckExact(object) && (uint64_t)PySet_GET_SIZE(object) == number &&
                   same_set(shadow, note, object);
            shade->covers = true;
            break;
        case CM_NOTE_FROZENSET:
            same = PyFrozenSet_CheckExact(object) && (uint64_t)PySet_GET_SIZE(object) == number &&
                   same_set(shadow, note, object);
            break;
        case CM_NOTE_DICT:
            same = PyDict_CheckExact(object) && same_dict(shadow, note, object);
            break;
        case CM_NOTE_LIST_WHOLE:
            same = PyList_CheckExact(object) && (uint64_t)PyList_GET_SIZE(object) == cm_note_u64(words);
            break;
        case CM_NOTE_DICT_WHOLE:
            same = PyDict_CheckExact(object) && (uint64_t)PyDict_GET_SIZE(object) == cm_note_u64(words);
            version = cm_note_u64(words + 2);
            if (same && version && cm_dict_version(object) == version)
                shade->covers = true;
            break;
        case CM_NOTE_INSTANCE:
            same = same_instance(walk, note, object);
            break;
        case CM_NOTE_EXTERNAL: /* see same_externals */
        case CM_NOTE_VALUE:    /* owned: nothing else can be at its address */
            break;
        }
        if (same <= 0)
            return same;
    }
    return 1;
}

/* Whether the elements of a fragment stand in its container from *at on; moves *at behind them. */
static bool same_run(const cm_shadow *shadow, const cm_shade *run, PyObject *container, uint64_t *at)
{
    const uint32_t *words = cm_shade_run(run);
    if (run->run_kind == CM_FRAME_LIST) {
        uint64_t size = (uint64_t)PyList_GET_SIZE(container);
        if (*at > size || run->run_count > size - *at ||
            !same_elements(shadow, words, ((PyListObject *)container)->ob_item + *at, run->run_count))
            return false;
        *at += run->run_count;
        return true;
    }
    Py_ssize_t place = (Py_ssize_t)*at;
    if (!same_items(shadow, words, run->run_count, container, &place))
        return false;
    *at = (uint64_t)place;
    return true;
}

/*
 * Compares; the notes once in a walk. `container`, `at`: of a fragment, where it would begin; moved on behind it. Its elements come
 * first: the notes are about them, and only of those that are still there may the memory be read.
 */
static int same_own(cm_walk *walk, cm_shade *shade, PyObject *container, uint64_t *at)
{
    uint32_t generation = walk->shadow->generation;
    if (shade->opaque || !shade->kept)
        return 0;
    if (at && (shade->placed != generation || shade->begin != *at)) {
        uint64_t end = *at;
        if (!same_run(walk->shadow, shade, container, &end))
            return 0; /* it may stand elsewhere */
        shade->begin = *at;
        shade->end = end;
        shade->placed = generation;
    }
    if (shade->checked != generation) {
        int same = same_notes(walk, shade);
        if (same < 0)
            return -1;
        shade->checked = generation;
        shade->same = same;
    }
    if (shade->same && at)
        *at = shade->end;
    return shade->same;
}

bool cm_shade_is_run(const cm_shadow *shadow, const cm_shade *run, PyObject *container, uint64_t *at)
{
    return same_run(shadow, run, container, at);
}

int cm_shade_is_same(cm_walk *walk, cm_shade *shade)
{
    return same_notes(walk, shade);
}

/* ---- a pod and all below it ------------------------------------------------------------------------------------------ */

cm_shade *cm_shade_following(const cm_shade *shade, const cm_shade *top)
{
    if (shade->first)
        return shade->first;
    while (shade != top && !shade->next)
        shade = shade->parent;
    return shade == top ? NULL : shade->next;
}

/* `last`: the last one that was counted as part of the walk; NULL: none. */
static void leave(cm_walk *walk, cm_shade *top, const cm_shade *last)
{
    for (cm_shade *shade = top; shade && last; shade = cm_shade_following(shade, top)) {
        shade->seen = walk->shadow->generation - 1;
        if (shade == last)
            return;
    }
}

static bool same_externals(cm_walk *walk, const cm_shade *shade)
{
    const cm_shadow *shadow = walk->shadow;
    uint32_t left = shade->externals;
    for (const uint32_t *note = shade->trace, *end = cm_shade_run(shade); left && note < end;
         note += cm_note_size(note)) {
        if (cm_note_kind(note) != CM_NOTE_EXTERNAL)
            continue;
        const uint32_t *words = note + CM_NOTE_HEAD;
        cm_memo_entry entry;
        if (!cm_memo_at(shadow, cm_note_object(shadow, note[1]), &entry))
            return false;
        cm_shade *target = cm_shade_at(shadow, entry.shade);
        if (target->dead || target->seen != shadow->generation || target->idle == shadow->generation ||
            target->page != cm_note_u64(words) || entry.index != words[2])
            return false;
        cm_idle_link(walk, target);
        left--;
    }
    return true;
}

/* Whether the fragment may end where it would. */
static bool may_end(const cm_shade *run, PyObject *container, uint64_t at)
{
    if (run->ended)
        return true;
    if (run->run_kind == CM_FRAME_LIST)
        return at == (uint64_t)PyList_GET_SIZE(container);
    PyObject *key, *value;
    Py_ssize_t place = (Py_ssize_t)at;
    return !PyDict_Next(container, &place, &key, &value);
}

/* Compares `top`, which would have that page, and all below it. 1: all of them are part of the walk now. 0; -1 with an exception. */
static int same_all(cm_walk *walk, cm_shade *top, uint64_t page, PyObject *container, uint64_t *at)
{
    uint32_t generation = walk->shadow->generation;
    const cm_shade *last = NULL;
    uint64_t after = at ? *at : 0;
    int same = 1;
    for (cm_shade *shade = top; shade; shade = cm_shade_following(shade, top)) {
        if (shade->seen == generation || shade->robbed == generation) {
            same = 0;
        } else if (shade == top) {
            same = same_own(walk, shade, container, at ? &after : NULL);
            if (same > 0 && at && !may_end(shade, container, after))
                same = 0;
        } else if (shade->object || shade->parent->covers) {
            same = same_own(walk, shade, NULL, NULL);
        } else {
            same = same_own(walk, shade, shade->parent->object, &shade->parent->cursor);
        }
        if (same <= 0)
            break;
        shade->page = shade == top ? page : cm_page_of_child(shade->parent->page, shade->ordinal);
        shade->seen = generation;
        shade->cursor = 0;
        last = shade;
    }
    for (cm_shade *shade = top; same > 0 && shade; shade = cm_shade_following(shade, top))
        same = !shade->externals || same_externals(walk, shade);
    if (same <= 0)
        leave(walk, top, last);
    else if (at)
        *at = after;
    return same;
}

int cm_shade_use_again(cm_walk *walk, cm_shade *top)
{
    cm_shade *around = walk->shade, *shade = top;
    top->parent = around;
    for (;;) {
        cm_pod *above = shade == top ? walk->pod : shade->parent->pod;
        shade->pod = cm_save_pod_again(walk->save, above, shade->kept);
        if (!shade->pod) {
            walk->fatal = true;
            PyErr_NoMemory();
            return -1;
        }
        walk->shadow->reused++;
        if (shade == top ? cm_shade_join(walk, shade, around) < 0 : cm_shade_count(walk, shade) < 0)
            return -1;
        if (shade->first) {
            shade = shade->first;
            continue;
        }
        for (;; shade = shade->parent) { /* what is whole now */
            int result = cm_save_pod_again_end(walk->save, shade->pod);
            if (result < 0)
                return cm_walk_store_failed(walk, result);
            if (shade == top)
                return 0;
            if (shade->next)
                break;
        }
        shade = shade->next;
    }
}

/* Emits the pod as a child of the current one. */
static void emit_again(cm_walk *walk, const cm_shade *shade)
{
    cm_pod_child(walk->pod, shade->pod);
    walk->splices += shade->splices + 1;
    cm_mix(walk, shade->hash);
}

/* ---- from the walk -------------------------------------------------------------------------------------------------- */

int cm_walk_known(cm_walk *walk, PyObject *object)
{
    cm_memo_entry entry;
    if (!cm_memo_at(walk->shadow, object, &entry))
        return 0;
    cm_shade *shade = cm_shade_at(walk->shadow, entry.shade);
    if (shade->idle == walk->shadow->generation)
        return 0;
    if (shade->seen == walk->shadow->generation) {
        if (walk->repeating && !PyType_Check(object) && !PyFunction_Check(object))
            return 0;
        return cm_emit_reference(walk, &entry) < 0 ? -1 : 1;
    }
    if (shade->object != object || walk->shade->object == object || walk->repeating || !walk->pod ||
        shade->failed == walk->shadow->generation || shade->context != cm_walk_context(walk))
        return 0;
    int same = same_all(walk, shade, cm_pod_next_page(walk->pod), NULL, NULL);
    if (same <= 0) {
        shade->failed = walk->shadow->generation;
        return same;
    }
    /* It may be a reducer's, and die before the others that are noted are held on to. */
    if (cm_walk_hold(walk, object) < 0 || cm_shade_use_again(walk, shade) < 0)
        return -1;
    emit_again(walk, shade);
    return 1;
}

int cm_shade_reuse_root(cm_walk *walk, PyObject *name, PyObject *object, cm_shade **found)
{
    const PyObject *number = PyDict_GetItemWithError(walk->shadow->names, name);
    if (!number)
        return PyErr_Occurred() ? -1 : 0;
    const char *text = PyUnicode_AsUTF8(name);
    if (!text) {
        PyErr_Clear(); /* it has no page of its own */
        return 0;
    }
    cm_shade *shade = cm_shade_at(walk->shadow, (uint32_t)PyLong_AsUnsignedLong((PyObject *)number));
    if (shade->dead || shade->parent || shade->object != object || shade->context != cm_walk_context(walk))
        return 0;
    walk->root = shade;
    shade->group = shade->number;
    int same = same_all(walk, shade, cm_page_of_variable(text), NULL, NULL);
    if (same <= 0) {
        shade->failed = walk->shadow->generation;
        return same;
    }
    *found = shade;
    return cm_shade_use_again(walk, shade) < 0 ? -1 : 1;
}

int cm_shade_reuse_run(cm_walk *walk, PyObject *container, enum cm_frame_kind kind, Py_ssize_t *at)
{
    if (kind == CM_FRAME_SET || walk->repeating)
        return 0; /* of a set all elements are sorted first: then there is little to win */
    PyObject *first = NULL, *value;
    Py_ssize_t place = *at;
    if (kind == CM_FRAME_LIST && *at < PyList_GET_SIZE(container))
        first = PyList_GET_ITEM(container, *at);
    else if (kind == CM_FRAME_DICT && !PyDict_Next(container, &place, &first, &value))
        first = NULL;
    cm_shade *run = walk->shade->old;
    for (int i = 0; first && run && i < FRAGMENTS_TRIED; i++, run = run->next) {
        const uint32_t *words = run->run_count ? cm_shade_run(run) : NULL;
        if (run->run_kind != kind || !words || !same_word(walk->shadow, words[0], first) ||
            run->seen == walk->shadow->generation)
            continue;
        cm_shade *next = run->next;
        uint64_t after = (uint64_t)*at;
        int same = same_all(walk, run, cm_pod_next_page(walk->pod), container, &after);
        if (same < 0)
            return -1;
        if (!same)
            continue;
        if (cm_shade_use_again(walk, run) < 0)
            return -1;
        emit_again(walk, run);
        walk->shade->old = next;
        *at = (Py_ssize_t)after;
        return 1;
    }
    return 0;
}
