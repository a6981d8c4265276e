/* SPDX-License-Identifier: Apache-2.0 */
/* fixed.h - inside the view: the names that are always the same, and which directory has what. */
#ifndef CM_FIXED_H
#define CM_FIXED_H

#include "parts.h"

typedef struct cm_fixed {
    enum cm_place parent, place;
    const char *name;
} cm_fixed;

extern const cm_fixed cm_fixed_names[];
extern const size_t cm_fixed_count;

/*
 * Is the fixed entry `place` of the directory `parent` there? It always is but for a head without checkpoints and code.py of a
 * checkpoint without code. 0 and its node, which for the head says where it points to; -ENOENT.
 */
int cm_fixed_node(cm_view *view, cm_node parent, enum cm_place place, cm_node *node);

#endif
