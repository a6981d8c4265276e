/* SPDX-License-Identifier: Apache-2.0 */
/* walk_memo.c - the walker's tables: objects by identity, small values by value, records by address. */
#include "walk_private.h"

#include <stdlib.h>

enum { MEMO_SLOTS_LEAST = 1024, ATOM_SLOTS_LEAST = 32, ATOM_SLOTS_KEPT = 1 << 14, TABLE_SLOTS_LEAST = 64 };

/* ---- objects by identity ------------------------------------------------------------------------------------------ */

static void memo_index(cm_memo *memo, size_t place)
{
    const PyObject *object = memo->entries[place].object;
    size_t at = cm_memo_hash(object) & memo->mask;
    while (memo->slots[at].place)
        at = (at + 1) & memo->mask;
    memo->slots[at] = (cm_memo_slot){(uint32_t)((uintptr_t)object >> 4), (uint32_t)place + 1};
}

static int memo_grow(cm_memo *memo)
{
    if (memo->count == memo->capacity) {
        size_t capacity = memo->capacity ? memo->capacity * 2 : MEMO_SLOTS_LEAST / 2;
        if (capacity > UINT32_MAX)
            capacity = UINT32_MAX - 1;
        cm_memo_entry *entries =
            capacity > memo->count ? realloc(memo->entries, capacity * sizeof *memo->entries) : NULL;
        if (!entries) {
            PyErr_NoMemory();
            return -1;
        }
        memo->entries = entries;
        memo->capacity = capacity;
    }
    if (memo->slots == NULL || memo->count * 2 > memo->mask) {
        size_t slots = memo->slots ? (memo->mask + 1) * 4 : MEMO_SLOTS_LEAST;
        cm_memo_slot *fresh = calloc(slots, sizeof *fresh);
        if (!fresh) {
            PyErr_NoMemory();
            return -1;
        }
        free(memo->slots);
        memo->slots = fresh;
        memo->mask = slots - 1;
        for (size_t i = 0; i < memo->count; i++)
            memo_index(memo, i);
    }
    return 0;
}

int cm_memo_add(cm_memo *memo, PyObject *object, cm_pod *pod, uint32_t index)
{
    if ((memo->count == memo->capacity || memo->count * 2 > memo->mask) && memo_grow(memo) < 0)
        return -1;
    memo->entries[memo->count] = (cm_memo_entry){Py_NewRef(object), pod, index};
    memo_index(memo, memo->count++);
    return 0;
}

/*
 * Without deletions in between, taking back the newest entry leaves the table as it was before the entry came: no
 * later one has been placed around it.
 */
void cm_memo_cut(cm_memo *memo, size_t count)
{
    while (memo->count > count) {
        size_t place = --memo->count;
        PyObject *object = memo->entries[place].object;
        size_t at = cm_memo_hash(object) & memo->mask;
        while (memo->slots[at].place != place + 1)
            at = (at + 1) & memo->mask;
        memo->slots[at] = (cm_memo_slot){0, 0};
        Py_DECREF(object);
    }
}

void cm_memo_clear(cm_memo *memo)
{
    for (size_t i = 0; i < memo->count; i++)
        Py_DECREF(memo->entries[i].object);
    free(memo->entries);
    free(memo->slots);
    *memo = (cm_memo){0};
}

/* ---- small values ------------------------------------------------------------------------------------------------- */

static cm_atoms *atoms_new(cm_walk *walk)
{
    cm_atoms *atoms = walk->spare;
    if (atoms) {
        walk->spare = atoms->next;
        atoms->count = 0;
        atoms->mask = ATOM_SLOTS_LEAST - 1;
        atoms->generation = ++walk->generations;
        return atoms;
    }
    atoms = malloc(sizeof *atoms);
    cm_atom *slots = calloc(ATOM_SLOTS_LEAST, sizeof *slots);
    if (!atoms || !slots) {
        free(atoms);
        free(slots);
        PyErr_NoMemory();
        return NULL;
    }
    *atoms = (cm_atoms){.slots = slots, .mask = ATOM_SLOTS_LEAST - 1, .capacity = ATOM_SLOTS_LEAST};
    atoms->generation = ++walk->generations;
    return atoms;
}

/* A reused table starts small again, however much memory it has: a small pod should touch little of it. */
static int atoms_grow(cm_atoms *atoms)
{
    uint32_t slots = (atoms->mask + 1) * 4;
    cm_atom *fresh = slots ? calloc(slots, sizeof *fresh) : NULL;
    if (!fresh) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i <= atoms->mask; i++) {
        if (atoms->slots[i].generation != atoms->generation)
            continue;
        uint32_t at = (uint32_t)atoms->slots[i].hash & (slots - 1);
        while (fresh[at].generation)
            at = (at + 1) & (slots - 1);
        fresh[at] = atoms->slots[i];
    }
    free(atoms->slots);
    atoms->slots = fresh;
    atoms->mask = slots - 1;
    atoms->capacity = slots;
    return 0;
}

int cm_atoms_room(cm_walk *walk)
{
    if (!walk->atoms) {
        walk->atoms = atoms_new(walk);
        return walk->atoms ? 0 : -1;
    }
    return walk->atoms->count * 2 > walk->atoms->mask ? atoms_grow(walk->atoms) : 0;
}

void cm_atoms_release(cm_walk *walk, cm_atoms *atoms)
{
    if (!atoms)
        return;
    if (atoms->capacity > ATOM_SLOTS_KEPT) {
        free(atoms->slots);
        free(atoms);
        return;
    }
    atoms->next = walk->spare;
    walk->spare = atoms;
}

void cm_atoms_free(cm_walk *walk)
{
    for (size_t i = 0; i < CM_RECENT; i++)
        Py_CLEAR(walk->recent[i].text);
    while (walk->spare) {
        cm_atoms *next = walk->spare->next;
        free(walk->spare->slots);
        free(walk->spare);
        walk->spare = next;
    }
}

/* ---- records by address --------------------------------------------------------------------------------------------- */

static void **table_slot(void **slots, size_t mask, const void *address)
{
    size_t at = cm_memo_hash(address) & mask;
    while (slots[at] && *(void **)slots[at] != address)
        at = (at + 1) & mask;
    return &slots[at];
}

void *cm_table_find(const cm_table *table, const void *address)
{
    return table->slots ? *table_slot(table->slots, table->mask, address) : NULL;
}

int cm_table_add(cm_table *table, void *record)
{
    if (!table->slots || table->count * 2 > table->mask) {
        size_t slots = table->slots ? (table->mask + 1) * 2 : TABLE_SLOTS_LEAST;
        void **fresh = calloc(slots, sizeof *fresh);
        if (!fresh) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; table->slots && i <= table->mask; i++)
            if (table->slots[i])
                *table_slot(fresh, slots - 1, *(void **)table->slots[i]) = table->slots[i];
        free(table->slots);
        table->slots = fresh;
        table->mask = slots - 1;
    }
    *table_slot(table->slots, table->mask, *(void **)record) = record;
    table->count++;
    return 0;
}
