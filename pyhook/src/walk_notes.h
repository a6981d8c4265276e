/* SPDX-License-Identifier: Apache-2.0 */
/* walk_notes.h - how the notes of a shade are read; walk_shadow.c describes them. */
#ifndef CM_WALK_NOTES_H
#define CM_WALK_NOTES_H

#include "walk_private.h"

enum cm_note {
    CM_NOTE_LIST = 1,
    CM_NOTE_TUPLE,
    CM_NOTE_SET,
    CM_NOTE_FROZENSET,
    CM_NOTE_DICT,
    CM_NOTE_LIST_WHOLE,
    CM_NOTE_DICT_WHOLE,
    CM_NOTE_INSTANCE,
    CM_NOTE_EXTERNAL,
    CM_NOTE_VALUE,
};

static inline enum cm_note cm_note_kind(uint64_t word)
{
    return (enum cm_note)(word & 15);
}

static inline PyObject *cm_note_object(uint64_t word)
{
    return (PyObject *)(uintptr_t)(word & ~(uint64_t)15);
}

/* Every change of a dict gives it a version that no dict had before: Python up to 3.12. */
#define CM_DICT_VERSIONS (PY_VERSION_HEX < 0x030d0000)

static inline uint64_t cm_dict_version(PyObject *dict)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)dict;
    return 0;
#elif PY_VERSION_HEX >= 0x030c0000
    Py_COMP_DIAG_PUSH Py_COMP_DIAG_IGNORE_DEPR_DECLS return ((PyDictObject *)dict)->ma_version_tag >>
        8; /* what is below counts watchers */
    Py_COMP_DIAG_POP
#else
    return ((PyDictObject *)dict)->ma_version_tag;
#endif
}

/* The next element of a set's table; NULL: no more. */
static inline PyObject *cm_set_next(PyObject *set, Py_ssize_t *place)
{
    const PySetObject *table = (const PySetObject *)set;
    while (*place <= table->mask) {
        const setentry *entry = &table->table[(*place)++];
        if (entry->key && entry->hash != -1) /* -1: removed */
            return entry->key;
    }
    return NULL;
}

/* How many of the words of a note are elements, and where they begin. */
static inline uint32_t cm_note_elements(const uint64_t *words, uint32_t *begin)
{
    *begin = 2;
    switch (cm_note_kind(words[0])) {
    case CM_NOTE_LIST:
    case CM_NOTE_TUPLE:
    case CM_NOTE_SET:
    case CM_NOTE_FROZENSET:
        return (uint32_t)words[1];
    case CM_NOTE_DICT:
        return CM_DICT_VERSIONS ? 0 : (uint32_t)words[1];
    default:
        return 0;
    }
}

static inline uint32_t cm_note_size(const uint64_t *words)
{
    uint32_t begin, count = cm_note_elements(words, &begin);
    switch (cm_note_kind(words[0])) {
    case CM_NOTE_DICT_WHOLE:
    case CM_NOTE_EXTERNAL:
        return 3;
    case CM_NOTE_INSTANCE:
        return 4;
    case CM_NOTE_VALUE:
        return 1;
    default:
        return begin + count;
    }
}

/* What decides on the pods below a place, other than the objects. */
static inline uint32_t cm_walk_context(const cm_walk *walk)
{
    bool apart = walk->frame_count && walk->frames[walk->frame_count - 1].flags & CM_FLAG_APART;
    return walk->depth << 2 | (uint32_t)walk->final << 1 | (uint32_t)apart;
}

/* The shade becomes part of the walk. -1 with MemoryError. */
CM_MUST_USE int cm_shade_count(cm_walk *walk, cm_shade *shade);
/* The same, as the next pod below `parent`. -1 with MemoryError. */
CM_MUST_USE int cm_shade_join(cm_walk *walk, cm_shade *shade, cm_shade *parent);

#endif
