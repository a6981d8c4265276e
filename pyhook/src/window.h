/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.h - pieces of a stream that go from the thread that reads them to the Unpickler without being copied.
 *
 * A window is memory with a count of who holds it. When nobody does any more it goes back to where it came from, and is filled anew: fresh
 * memory would cost a page fault for each 4 kB.
 */
#ifndef CM_PYHOOK_WINDOW_H
#define CM_PYHOOK_WINDOW_H

#include "module.h"

typedef struct cm_windows cm_windows;

typedef struct cm_window {
    cm_windows *origin;
    struct cm_window *next; /* among those that nobody holds */
    unsigned holders;       /* under the lock of the origin */
    cm_piece *piece;        /* of a stream; what is in it */
    char *own;              /* for what is read from a link; NULL: was not needed yet */
    const char *bytes;      /* in one of the two */
    size_t size;
} cm_window;

/* These functions may be called in any thread, with or without the GIL. NULL: out of memory. */
cm_windows *cm_windows_new(void);
void cm_windows_free(cm_windows *windows);    /* when the last window has been let go of. Accepts NULL */
cm_window *cm_window_new(cm_windows *origin); /* what is in it is undefined */
cm_window *cm_window_hold(cm_window *window);
void cm_window_drop(cm_window *window); /* accepts NULL */

/* An object that lends bytes of a window, read-only, and holds it. NULL with an exception. With the GIL. */
PyObject *cm_view_new(const cm_module *module, cm_window *window, size_t at, size_t size);

#endif
