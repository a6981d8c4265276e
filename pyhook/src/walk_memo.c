/* SPDX-License-Identifier: Apache-2.0 */
/* walk_memo.c - the walker's tables: objects by identity, small values by value, records by address. */
#include "walk_private.h"

#include <stdlib.h>

enum { MEMO_SLOTS_LEAST = 1024, ATOM_SLOTS_LEAST = 32, ATOM_SLOTS_KEPT = 1 << 14, TABLE_SLOTS_LEAST = 64 };

/* ---- objects by identity ------------------------------------------------------------------------------------------ */

static void memo_place(cm_memo_entry *table, size_t mask, const cm_memo_entry *entry)
{
    size_t at = cm_memo_hash(entry->object) & mask;
    while (table[at].object)
        at = (at + 1) & mask;
    table[at] = *entry;
}

/* Whether an entry is of use: in the walk in progress, or (`kept`) in the next one. */
static bool memo_living(const cm_shadow *shadow, const cm_memo_entry *entry, bool kept)
{
    const cm_shade *shade = entry->object ? cm_shade_at(shadow, entry->shade) : NULL;
    return shade && !shade->dead && (!kept || shade->kept);
}

/* A table of at least `least` slots, half full at most, without what is of no use. -1: out of memory. */
static int memo_rebuild(cm_shadow *shadow, size_t least, bool kept)
{
    size_t slots = shadow->memo ? shadow->memo_mask + 1 : 0, live = 0, wanted = least;
    for (size_t i = 0; i < slots; i++)
        live += memo_living(shadow, &shadow->memo[i], kept);
    while (wanted / 2 < live + 1)
        wanted *= 2;
    cm_memo_entry *table = calloc(wanted, sizeof *table);
    if (!table || cm_shades_spare(shadow) < 0) {
        free(table);
        return -1;
    }
    for (size_t i = 0; i < slots; i++)
        if (memo_living(shadow, &shadow->memo[i], kept))
            memo_place(table, wanted - 1, &shadow->memo[i]);
    free(shadow->memo);
    shadow->memo = table;
    shadow->memo_mask = wanted - 1;
    shadow->memo_count = live;
    return 0;
}

static int memo_grow(cm_shadow *shadow)
{
    size_t slots = shadow->memo ? shadow->memo_mask + 1 : MEMO_SLOTS_LEAST;
    if (memo_rebuild(shadow, slots, false) == 0)
        return 0;
    PyErr_NoMemory();
    return -1;
}

void cm_memo_trim(cm_shadow *shadow)
{
    (void)memo_rebuild(shadow, MEMO_SLOTS_LEAST, true); /* else it stays as it is */
}

int cm_walk_hold(cm_walk *walk, PyObject *object)
{
    if (walk->held_count == walk->held_capacity) {
        size_t capacity = walk->held_capacity ? walk->held_capacity * 2 : 1024;
        PyObject **held = realloc(walk->held, capacity * sizeof *held);
        if (!held) {
            PyErr_NoMemory();
            return -1;
        }
        walk->held = held;
        walk->held_capacity = capacity;
    }
    walk->held[walk->held_count++] = Py_NewRef(object);
    return 0;
}

int cm_memo_add(cm_walk *walk, PyObject *object, uint32_t index)
{
    cm_shadow *shadow = walk->shadow;
    cm_shade *shade = walk->shade;
    if (cm_walk_hold(walk, object) < 0)
        return -1;
    if (shade->object == object)
        shade->root = index;
    cm_memo_entry *entry = cm_memo_at(shadow, object);
    if (entry) {
        cm_shade *owner = cm_shade_at(shadow, entry->shade);
        owner->robbed = shadow->generation; /* if it is part of this walk it was asked for the object, and refused */
    } else {
        if ((!shadow->memo || shadow->memo_count * 4 > shadow->memo_mask * 3) && memo_grow(shadow) < 0)
            return -1;
        size_t at = cm_memo_hash(object) & shadow->memo_mask;
        while (shadow->memo[at].object)
            at = (at + 1) & shadow->memo_mask;
        entry = &shadow->memo[at];
        shadow->memo_count++;
    }
    *entry = (cm_memo_entry){object, shade->number, index};
    return 0;
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
