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

static int meet(void *arg, const cm_memo_entry *entry)
{
    meeting *m = arg;
    if (!is_wanted(m, entry->shade))
        return 0;
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 64;
        cm_met *met = realloc(m->met, capacity * sizeof *met);
        if (!met)
            return -1;
        m->met = met;
        m->capacity = capacity;
    }
    const cm_shade *shade = cm_shade_at(m->shadow, entry->shade);
    m->met[m->count++] = (cm_met){.page = cm_pod_page(shade->pod),
                                  .index = entry->index,
                                  .is_root = entry->index == shade->root,
                                  .object = Py_NewRef(entry->object)};
    return 0;
}

int cm_walk_met(cm_walk *walk, const uint64_t *pages, size_t count, cm_met **met, size_t *met_count)
{
    meeting m = {.shadow = walk->shadow, .wanted = calloc(walk->shadow->shade_count / 8 + 1, 1)};
    int result = m.wanted ? cm_walk_foreign(walk) : -1;
    if (!result)
        result = choose(walk, &m, pages, count);
    if (!result)
        result = cm_memo_each(walk->shadow, meet, &m);
    if (result && !PyErr_Occurred())
        PyErr_NoMemory();
    free(m.wanted);
    *met = m.met;
    *met_count = m.count;
    return result;
}
