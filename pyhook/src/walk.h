/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.h - takes Python objects apart into pods.
 *
 * One walk serves one save: identity and sharing are kept over all its variables. All functions need the GIL and hold it
 * throughout, except that objects may run Python code of their own (__reduce__ and its kin).
 */
#ifndef CM_WALK_H
#define CM_WALK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include <chipmink/policy.h>
#include <chipmink/save.h>

typedef struct cm_walk cm_walk;
/* What walks of one namespace leave for the next one (walk_shadow.h). One walk at a time. */
typedef struct cm_shadow cm_shadow;

/*
 * It takes up to `limit` bytes (0: any number) between walks: what is noted beyond that is walked each time. `filtered`: what may have
 * changed is told with cm_shadow_touch, and the rest is not looked at. NULL with an exception.
 */
cm_shadow *cm_shadow_new(uint64_t limit, enum cm_policy policy, bool filtered);
/*
 * The variables of these names (an iterable; NULL: all there are), or objects reached from them, may have changed, or the names have
 * been bound or removed. -1 with an exception.
 */
int cm_shadow_touch(cm_shadow *shadow, PyObject *names);
/* Forgets everything. */
void cm_shadow_clear(cm_shadow *shadow);
void cm_shadow_free(cm_shadow *shadow);

/*
 * A walk into `save`; it, the shadow and `describe` must outlive the walk. describe(value) gives (type, summary) of a variable,
 * which depend on nothing but the value. NULL with an exception.
 */
cm_walk *cm_walk_new(cm_save *save, cm_shadow *shadow, PyObject *describe);
/* Before the first variable: finds which of the list `items` of (name, value) are as they were. -1 with an exception. */
int cm_idle_begin(cm_walk *walk, PyObject *items);
/* When cm_save_wait has returned 0: the shadow is now that of the namespace as it was walked. Else it is cleared. */
void cm_walk_keep_shadow(cm_walk *walk);

/*
 * Saves one variable: cm_save_variable_begin to _end.
 * 0: saved, or listed with cm_save_unsaved because it cannot be pickled. -1 with an exception: the save must end
 * (KeyboardInterrupt and other exceptions that are no Exception, MemoryError, chipmink.StoreError).
 */
int cm_walk_variable(cm_walk *walk, PyObject *name, PyObject *value);

/* An object, owned, that a walk met, and where: `index` in the pod at that page. */
typedef struct cm_met {
    uint64_t page;
    uint32_t index;
    bool is_root; /* it is what the pod evaluates to */
    PyObject
        *object; /* with CM_INDEX_RUN: a tuple, the name of the method that adds to a container, and what it adds */
} cm_met;

/*
 * When all variables were walked, and before anything else runs: the objects at these pages, which ascend. The caller frees *met and lets
 * go of what is in it, also on failure: -1 with an exception.
 */
int cm_walk_met(cm_walk *walk, const uint64_t *pages, size_t count, cm_met **met, size_t *met_count);

/*
 * When all variables were walked: lets go of the objects that were kept alive, but for what the save reads: texts, bytes and the
 * exports of buffers. May run finalizers.
 */
void cm_walk_release(cm_walk *walk);
/* When cm_save_detach has returned: ends the exports of buffers, but for those that begin at one of the `spared` addresses. */
void cm_walk_release_buffers(cm_walk *walk, const void *const *spared, size_t spared_count);
/* The exports that there are; borrowed. */
const Py_buffer *const *cm_walk_buffers(const cm_walk *walk, size_t *count);

/*
 * Lets go of the objects and buffers the walk kept alive: when cm_save_wait has returned 0, or after cm_save_free.
 * Keeps the exception that is set, if any. Accepts NULL.
 */
void cm_walk_free(cm_walk *walk);

#endif
