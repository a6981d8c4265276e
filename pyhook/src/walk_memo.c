/* SPDX-License-Identifier: Apache-2.0 */
/* walk_memo.c - the walker's tables: objects by identity, small values by value, records by address. */
#include "walk_private.h"

#include <stdlib.h>

enum { MEMO_SLOTS_LEAST = 64, ATOM_SLOTS_LEAST = 32, ATOM_SLOTS_KEPT = 1 << 14, TABLE_SLOTS_LEAST = 64 };

/* ---- objects by identity ------------------------------------------------------------------------------------------ */

/*
 * Many objects lie on one page of memory, side by side: what is said of them stands together, and a byte for each says where on the page
 * it is. That is 9 bytes for an object, and some 50 for a page of them.
 */
typedef struct memo_place {
    uint32_t shade, index;
} memo_place;

typedef struct cm_memo_page {
    uint16_t count, capacity;
    memo_place places[]; /* `capacity` of them; behind them, in the same order, a byte for each */
} cm_memo_page;

enum { PAGE_SHIFT = 12, UNIT_SHIFT = 4, MALLOC_HEAD = 8 };

static inline uint8_t *page_units(const cm_memo_page *page)
{
    return (uint8_t *)(page->places + page->capacity);
}

static inline size_t page_bytes(size_t capacity)
{
    return MALLOC_HEAD + sizeof(cm_memo_page) + capacity * (sizeof(memo_place) + 1);
}

/* The page, and where between units addresses are, which is nowhere but for objects of the interpreter's own. */
static inline uint64_t key_of(const void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    return address >> PAGE_SHIFT << UNIT_SHIFT | (address & ((1 << UNIT_SHIFT) - 1));
}

static inline uint8_t unit_of(const void *object)
{
    return (uint8_t)((uintptr_t)object >> UNIT_SHIFT);
}

/* The slot with that key, or the free one where it belongs. */
static inline cm_memo_slot *slot_of(const cm_memo *memo, uint64_t key)
{
    size_t at =
        key * 0x9e3779b97f4a7c15u >> 32 & memo->mask; /* pages side by side must not stand in one another's way */
    while (memo->slots[at].page && memo->slots[at].key != key)
        at = (at + 1) & memo->mask;
    return &memo->slots[at];
}

static inline memo_place *place_in(cm_memo_page *page, uint8_t unit)
{
    const uint8_t *units = page_units(page), *found = memchr(units, unit, page->count);
    return found ? &page->places[found - units] : NULL;
}

bool cm_memo_at(const cm_shadow *shadow, PyObject *object, cm_memo_entry *entry)
{
    if (!shadow->memo.slots)
        return false;
    const cm_memo_slot *slot = slot_of(&shadow->memo, key_of(object));
    const memo_place *place = slot->page ? place_in(slot->page, unit_of(object)) : NULL;
    if (place)
        *entry = (cm_memo_entry){object, place->shade, place->index};
    return place;
}

int cm_memo_each(const cm_shadow *shadow, int (*visit)(void *arg, const cm_memo_entry *entry), void *arg)
{
    const cm_memo *memo = &shadow->memo;
    for (size_t i = 0; memo->slots && i <= memo->mask; i++) {
        const cm_memo_page *page = memo->slots[i].page;
        const uint64_t between = (1 << UNIT_SHIFT) - 1, key = memo->slots[i].key;
        for (size_t k = 0; page && k < page->count; k++) {
            uint64_t address =
                key >> UNIT_SHIFT << PAGE_SHIFT | (uint64_t)page_units(page)[k] << UNIT_SHIFT | (key & between);
            const cm_memo_entry entry = {(PyObject *)(uintptr_t)address, page->places[k].shade, page->places[k].index};
            int result = visit(arg, &entry);
            if (result)
                return result;
        }
    }
    return 0;
}

/* Whether an entry is of use: in the walk in progress, or (`kept`) in the next one. */
static bool is_living(const cm_shadow *shadow, const memo_place *place, bool kept)
{
    const cm_shade *shade = cm_shade_at(shadow, place->shade);
    return !shade->dead && (!kept || shade->kept);
}

/* Replaces the page by one with what is living and room for `more`; by none if that is nothing. -1: out of memory. */
static int remake_page(cm_shadow *shadow, cm_memo_page **to, size_t more, bool kept)
{
    static const uint16_t capacities[] = {8, 24, 48, 64, 88, 128, 256}; /* 64, 88: of what most containers take */
    cm_memo_page *old = *to, *page = NULL;
    size_t need = more, step = 0;
    for (size_t i = 0; old && i < old->count; i++)
        need += is_living(shadow, &old->places[i], kept);
    while (need > capacities[step])
        step++;
    size_t capacity = more ? capacities[step] : need;
    if (capacity) {
        page = malloc(page_bytes(capacity) - MALLOC_HEAD);
        if (!page)
            return -1;
        page->count = 0;
        page->capacity = (uint16_t)capacity;
        shadow->memo.bytes += page_bytes(capacity);
    }
    for (size_t i = 0; page && old && i < old->count; i++) {
        if (!is_living(shadow, &old->places[i], kept))
            continue;
        page_units(page)[page->count] = page_units(old)[i];
        page->places[page->count++] = old->places[i];
    }
    if (old)
        shadow->memo.bytes -= page_bytes(old->capacity);
    free(old);
    *to = page;
    return 0;
}

/* A table without pages. -1: out of memory. */
static int new_slots(size_t pages, cm_memo *fresh)
{
    size_t slots = MEMO_SLOTS_LEAST;
    while (slots * 2 < pages * 3)
        slots *= 2;
    *fresh = (cm_memo){.slots = calloc(slots, sizeof *fresh->slots), .mask = slots - 1};
    return fresh->slots ? 0 : -1;
}

/* Moves the pages over into a table that `new_slots` made. */
static void move_pages(cm_memo *memo, cm_memo *fresh)
{
    size_t before = memo->slots ? memo->mask + 1 : 0;
    for (size_t i = 0; i < before; i++) {
        if (!memo->slots[i].page)
            continue;
        *slot_of(fresh, memo->slots[i].key) = memo->slots[i];
        fresh->page_count++;
    }
    fresh->trimmed = memo->trimmed;
    fresh->bytes = memo->bytes + (fresh->mask + 1) * sizeof *fresh->slots - before * sizeof *memo->slots;
    free(memo->slots);
    *memo = *fresh;
}

static bool has_living(const cm_shadow *shadow, const cm_memo_page *page)
{
    for (size_t i = 0; page && i < page->count; i++)
        if (is_living(shadow, &page->places[i], true))
            return true;
    return false;
}

void cm_memo_trim(cm_shadow *shadow)
{
    cm_memo *memo = &shadow->memo, fresh;
    size_t pages = 0;
    for (size_t i = 0; memo->slots && i <= memo->mask; i++)
        pages += has_living(shadow, memo->slots[i].page);
    if (new_slots(pages, &fresh) < 0)
        return; /* it stays as it is */
    bool whole = true;
    for (size_t i = 0; memo->slots && i <= memo->mask; i++)
        whole = remake_page(shadow, &memo->slots[i].page, 0, true) == 0 && whole;
    move_pages(memo, &fresh);
    memo->trimmed = memo->bytes;
    if (whole)
        (void)cm_shades_spare(shadow);
}

void cm_memo_clear(cm_shadow *shadow)
{
    cm_memo *memo = &shadow->memo;
    for (size_t i = 0; memo->slots && i <= memo->mask; i++)
        free(memo->slots[i].page);
    free(memo->slots);
    *memo = (cm_memo){0};
}

/* Makes room for an object on its page; *slot is moved. -1: out of memory. */
static int memo_room(cm_shadow *shadow, const PyObject *object, cm_memo_slot **slot)
{
    cm_memo *memo = &shadow->memo, fresh;
    uint64_t key = key_of(object);
    if (!memo->slots || (!(*slot)->page && (memo->page_count + 1) * 3 > (memo->mask + 1) * 2)) {
        if (new_slots(memo->page_count * 2 + 1, &fresh) < 0)
            return -1;
        move_pages(memo, &fresh);
        *slot = slot_of(memo, key);
    }
    bool first = !(*slot)->page;
    if (remake_page(shadow, &(*slot)->page, 1, false) < 0)
        return -1;
    memo->page_count += first;
    (*slot)->key = key;
    return 0;
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
    cm_memo_slot *slot = shadow->memo.slots ? slot_of(&shadow->memo, key_of(object)) : NULL;
    memo_place *place = slot && slot->page ? place_in(slot->page, unit_of(object)) : NULL;
    if (place) { /* if its shade is part of this walk it was asked for the object, and refused */
        cm_shade_at(shadow, place->shade)->robbed = shadow->generation;
    } else {
        bool full = !slot || !slot->page || slot->page->count == slot->page->capacity;
        if (full && memo_room(shadow, object, &slot) < 0) {
            PyErr_NoMemory();
            return -1;
        }
        page_units(slot->page)[slot->page->count] = unit_of(object);
        place = &slot->page->places[slot->page->count++];
    }
    *place = (memo_place){shade->number, index};
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
    size_t at = cm_address_hash(address) & mask;
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
