/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include <pthread.h>
#include <stdlib.h>

struct cm_windows {
    pthread_mutex_t lock;
    cm_window *spare;
    size_t out;  /* windows that are held */
    bool closed; /* freed when `out` is 0 */
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

cm_windows *cm_windows_new(void)
{
    cm_windows *windows = calloc(1, sizeof *windows);
    if (windows)
        pthread_mutex_init(&windows->lock, NULL);
    return windows;
}

static void free_window(cm_window *window)
{
    if (window) {
        cm_piece_free(window->piece);
        free(window->own);
    }
    free(window);
}

static cm_window *make_window(cm_windows *origin)
{
    cm_window *window = calloc(1, sizeof *window);
    if (window) {
        window->origin = origin;
        window->piece = cm_piece_new();
    }
    if (window && !window->piece) {
        free_window(window);
        window = NULL;
    }
    return window;
}

static void end(cm_windows *windows)
{
    while (windows->spare) {
        cm_window *next = windows->spare->next;
        free_window(windows->spare);
        windows->spare = next;
    }
    pthread_mutex_destroy(&windows->lock);
    free(windows);
}

void cm_windows_free(cm_windows *windows)
{
    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    windows->closed = true;
    bool last = windows->out == 0;
    pthread_mutex_unlock(&windows->lock);
    if (last)
        end(windows);
}

cm_window *cm_window_new(cm_windows *origin)
{
    pthread_mutex_lock(&origin->lock);
    cm_window *window = origin->spare;
    if (window)
        origin->spare = window->next;
    else
        window = make_window(origin);
    if (window) {
        window->holders = 1;
        origin->out++;
    }
    pthread_mutex_unlock(&origin->lock);
    return window;
}

cm_window *cm_window_hold(cm_window *window)
{
    pthread_mutex_lock(&window->origin->lock);
    window->holders++;
    pthread_mutex_unlock(&window->origin->lock);
    return window;
}

void cm_window_drop(cm_window *window)
{
    if (!window)
        return;
    cm_windows *origin = window->origin;
    pthread_mutex_lock(&origin->lock);
    if (--window->holders == 0) {
        window->next = origin->spare;
        origin->spare = window;
        origin->out--;
    }
    bool last = origin->closed && origin->out == 0;
    pthread_mutex_unlock(&origin->lock);
    if (last)
        end(origin);
}

/* ---- chipmink._core.View ------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    cm_window *window;
    size_t at, size;
} View;

PyObject *cm_view_new(const cm_module *module, cm_window *window, size_t at, size_t size)
{
    View *self = (View *)module->view->tp_alloc(module->view, 0);
    if (self) {
        self->window = cm_window_hold(window);
        self->at = at;
        self->size = size;
    }
    return (PyObject *)self;
}

static void view_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    cm_window_drop(((View *)object)->window);
    type->tp_free(object);
    Py_DECREF(type);
}

static int view_getbuffer(PyObject *object, Py_buffer *buffer, int flags)
{
    const View *self = (View *)object;
    return PyBuffer_FillInfo(buffer, object, (char *)self->window->bytes + self->at, (Py_ssize_t)self->size, 1, flags);
}

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Bytes of a stream that is being loaded.")},
    {Py_tp_dealloc, (void *)view_dealloc},
    {Py_bf_getbuffer, (void *)view_getbuffer},
    {0, NULL},
};

PyType_Spec cm_view_spec = {
    .name = "chipmink._core.View",
    .basicsize = sizeof(View),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
