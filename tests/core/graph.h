/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph.h - small object graphs for the suites: saved through save.h as a walker would, and read back from linked streams
 * by a machine for the few opcodes that occur. Two graphs are the same if their descriptions are.
 */
#ifndef CM_TESTS_GRAPH_H
#define CM_TESTS_GRAPH_H

#include "support.h"

#include <chipmink/save.h>

enum node_type {
    NODE_INT,
    NODE_NONE,
    NODE_STR,
    NODE_BYTES,
    NODE_BYTEARRAY,
    NODE_BUFFER,
    NODE_LIST,
    NODE_TUPLE,
    NODE_DICT
};

typedef struct node {
    enum node_type type;
    long number;         /* INT; BUFFER: which */
    const uint8_t *text; /* STR, BYTES, BYTEARRAY: owned by the arena */
    size_t size;
    struct node **items; /* LIST, TUPLE; DICT: key, value, ... */
    size_t count, capacity;
    bool readonly; /* BUFFER */
    /* while saving */
    cm_pod *pod;
    uint32_t index;
    /* while describing */
    unsigned label;
} node;

/* Everything of a graph, freed together. */
typedef struct arena {
    void **blocks;
    size_t count, capacity;
} arena;

void arena_free(arena *a);
node *node_new(arena *a, enum node_type type);
node *node_int(arena *a, long number);
node *node_text(arena *a, enum node_type type, const void *text, size_t size);
void node_add(arena *a, node *container, node *item);

/* What a graph is, with "#n=" before each object that has an identity and "#n" where it occurs again. The caller frees it. */
char *describe(node *root);

/* Runs a pickle. NULL with *why set if it is none that we understand, or leaves bytes over. */
node *unpickle(arena *a, const uint8_t *stream, size_t size, const char **why);

/* How a graph is cut into pods: the chance of each, of 256, for every list, dict and tuple. */
typedef struct cutting {
    seeded random;
    unsigned own_pod, fragment;
} cutting;

/* Saves `root` as the variable `name`; objects saved before are referred to. */
void save_node(cm_save *save, const char *name, node *root, cutting *cut);

/* A store of its own for the test. */
cm_store *open_store(const char *name, unsigned flags);
cm_save *begin(cm_store *store, const char *session);
/* Commits, waits, frees the save. */
cm_checkpoint *finish(cm_save *save);
/* The linked stream, read whole. The caller frees it. */
uint8_t *link_whole(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags, size_t *size);
/* The description of what a variable (or with names NULL the whole namespace) links to. */
char *describe_linked(cm_checkpoint *checkpoint, const char *name);
void check_description(cm_checkpoint *checkpoint, const char *name, const char *expected);

#endif
