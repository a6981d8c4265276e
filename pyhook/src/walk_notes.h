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

enum { CM_NOTE_HEAD = 2, CM_NOTE_KIND_BITS = 4, CM_NOTE_NUMBER_BITS = 28 };
#define CM_NOTE_NUMBER_MOST (((uint32_t)1 << CM_NOTE_NUMBER_BITS) - 1)

static inline enum cm_note cm_note_kind(const uint32_t *note)
{
    return (enum cm_note)(note[0] & ((1 << CM_NOTE_KIND_BITS) - 1));
}

static inline uint32_t cm_note_number(const uint32_t *note)
{
    return note[0] >> CM_NOTE_KIND_BITS;
}

static inline uint64_t cm_note_u64(const uint32_t *words)
{
    return words[0] | (uint64_t)words[1] << 32;
}

/* The address that a word stands for; 0: none. */
static inline uint64_t cm_note_address(const cm_shadow *shadow, uint32_t word)
{
    return shadow->regions[word >> 24] + ((uint64_t)(word & 0xfffffe) << 3);
}

static inline PyObject *cm_note_object(const cm_shadow *shadow, uint32_t word)
{
    return (PyObject *)(uintptr_t)cm_note_address(shadow, word);
}

/* Every change of a dict gives it a version that no dict had before: Python up to 3.12. */
#define CM_DICT_VERSIONS (PY_VERSION_HEX < 0x030d0000)

static inline uint64_t cm_dict_version(PyObject *dict)
{
#if PY_VERSION_HEX >= 0x030d0000
    (void)dict;
    return 0;
#elif PY_VERSION_HEX >= 0x030c0000
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return ((PyDictObject *)dict)->ma_version_tag >> 8; /* what is below counts watchers */
#pragma GCC diagnostic pop
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

/* How many elements follow the head of a note. */
static inline uint32_t cm_note_elements(const uint32_t *note)
{
    switch (cm_note_kind(note)) {
    case CM_NOTE_LIST:
    case CM_NOTE_TUPLE:
    case CM_NOTE_SET:
    case CM_NOTE_FROZENSET:
        return cm_note_number(note);
    case CM_NOTE_DICT:
        return CM_DICT_VERSIONS ? 0 : cm_note_number(note);
    default:
        return 0;
    }
}

static inline uint32_t cm_note_size(const uint32_t *note)
{
    switch (cm_note_kind(note)) {
    case CM_NOTE_DICT:
        return CM_NOTE_HEAD + (CM_DICT_VERSIONS ? 1 : cm_note_number(note));
    case CM_NOTE_LIST_WHOLE:
        return CM_NOTE_HEAD + 2;
    case CM_NOTE_EXTERNAL:
        return CM_NOTE_HEAD + 3;
    case CM_NOTE_DICT_WHOLE:
        return CM_NOTE_HEAD + 4;
    case CM_NOTE_INSTANCE:
        return CM_NOTE_HEAD + 1;
    case CM_NOTE_VALUE:
        return CM_NOTE_HEAD;
    default:
        return CM_NOTE_HEAD + cm_note_number(note);
    }
}

/* Of a fragment that is closed: its elements. */
static inline const uint32_t *cm_shade_run(const cm_shade *shade)
{
    return shade->trace ? shade->trace + shade->trace_count : NULL;
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
