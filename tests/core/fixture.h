/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - the store and the graphs that most suites work on: new for each test, gone after it. */
#ifndef CM_TESTS_FIXTURE_H
#define CM_TESTS_FIXTURE_H

#include "graph.h"

enum { CREATE = CM_OPEN_WRITE | CM_OPEN_CREATE };

extern cm_store *store; /* in the scratch directory's "store" */
extern arena nodes;
extern cutting whole; /* a pod for each variable */

/* For tcase_add_checked_fixture, or called by a suite's own. */
void setup_store(void);
void teardown_store(void);

/* A collection, which must succeed. */
cm_gc_report collect(void);
/* All of the store is read again, and is as it should be. */
void no_damage(void);
/* For cm_verify: adds where damage is to the text that `arg` is, as "place; ". */
int note_damage(void *arg, const char *where, const char *what);

#endif
