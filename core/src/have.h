/* SPDX-License-Identifier: Apache-2.0 */
/* have.h - linking with what a program has already: for have.c, plan.c and the planners. */
#ifndef CM_HAVE_H
#define CM_HAVE_H

#include <chipmink/chipmink.h>

/* Addresses in the virtual memo space, each with a number. Open addressing; page 0 is none. */
typedef struct cm_addressed {
    uint64_t page;
    uint32_t index, number;
} cm_addressed;

typedef struct cm_address_table {
    cm_addressed *slots;
    size_t count, capacity;
} cm_address_table;

/* The number noted for the address; false: none. */
bool cm_address_find(const cm_address_table *table, uint64_t page, uint32_t index, uint32_t *number);
/* -ENOMEM */
CM_MUST_USE int cm_address_add(cm_address_table *table, uint64_t page, uint32_t index, uint32_t number);

/* Whether a tree of pods that is the program's begins at this page; `*fragment`, if not NULL: with a fragment. */
bool cm_have_begins(const cm_have *have, uint64_t page, bool *fragment);
/* [blocks] The same of any page in such a tree. */
CM_MUST_USE int cm_have_page(const cm_have *have, uint64_t page, bool *has);

#endif
