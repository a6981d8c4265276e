/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.h - what the types of chipmink._core share: the module's state, exceptions, and small conversions.
 *
 * The extension is a thin layer over libchipmink: it converts arguments, releases the GIL around whatever blocks and turns
 * error sentences into exceptions. What is pleasant to use is made of it in Python (chipmink/_api.py).
 *
 * All state is in the module (no globals), so that several interpreters can use it in one process.
 */
#ifndef CM_PYHOOK_MODULE_H
#define CM_PYHOOK_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <chipmink/chipmink.h>

/* The classes of chipmink._errors that the extension raises. */
typedef enum cm_error_class {
    CM_ERROR_STORE,     /* StoreError: anything the operating system refused */
    CM_ERROR_NO_STORE,  /* StoreNotFound */
    CM_ERROR_BUSY,      /* Busy */
    CM_ERROR_READ_ONLY, /* ReadOnly */
    CM_ERROR_FORMAT,    /* FormatError */
    CM_ERROR_NOT_FOUND, /* NotFound: session, revision, variable */
    CM_ERROR_INVALID,   /* InvalidName: bad argument */
    CM_ERROR_CORRUPT,   /* Corrupt */
    CM_ERROR_CLASS_COUNT,
} cm_error_class;

typedef struct cm_module {
    PyTypeObject *store, *checkpoint, *link, *ahead, *view, *shadow, *saving, *device, *device_memory, *have, *met;
    PyObject *errors[CM_ERROR_CLASS_COUNT];
    PyObject *unpickler; /* _pickle.Unpickler */
} cm_module;

/* The state of the module that defines the type of `self`; the types cannot be subclassed. */
static inline cm_module *cm_module_of(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

extern PyType_Spec cm_store_spec, cm_checkpoint_spec, cm_link_spec, cm_ahead_spec, cm_view_spec, cm_shadow_spec,
    cm_saving_spec, cm_device_spec, cm_device_memory_spec, cm_have_spec, cm_met_spec;

/* ---- exceptions -------------------------------------------------------------------------------------------------- */

/*
 * Raises what a negative result of libchipmink means, with this thread's error sentence, and returns NULL. Call it before
 * anything else of libchipmink fails on this thread. `result` must be negative.
 */
PyObject *cm_raise(const cm_module *module, int result);
/* The same with a sentence that another thread left. */
PyObject *cm_raise_text(const cm_module *module, int result, const char *sentence);
/* As cm_raise, but as the given class. */
PyObject *cm_raise_as(const cm_module *module, cm_error_class cls, int result);

/* ---- conversions ------------------------------------------------------------------------------------------------- */

/* A str from the UTF-8 of a store, None for NULL. Bytes that are not UTF-8 become lone surrogates: never an error. */
PyObject *cm_text(const char *s);
/* An id as 64 hexadecimal digits. */
PyObject *cm_id_text(const cm_id *id);
/* (name, type, summary, rank, size, stored, pods, changed, changed_time, content): the fields of chipmink.Variable. */
PyObject *cm_variable_tuple(const cm_variable *variable);

/* ---- objects of one type made by another ----------------------------------------------------------------------------- */

/* Takes over the caller's reference to `checkpoint`, also on failure. */
PyObject *cm_checkpoint_wrap(cm_module *module, cm_checkpoint *checkpoint);
cm_checkpoint *cm_checkpoint_unwrap(PyObject *self); /* borrowed */
/* Takes over `link`, also on failure. */
PyObject *cm_link_wrap(cm_module *module, cm_link *link);
/* Takes over `stream`, also on failure. The Unpickler's file and buffers. */
PyObject *cm_ahead_new(cm_module *module, cm_store *store, cm_stream *stream);
/* After a failed load: it was not the stream, which only has to be linked with cm_link_open. */
bool cm_ahead_conflicts(PyObject *ahead);
/* The same for a link that `owner` keeps open: slower to begin, but never in conflict. */
PyObject *cm_ahead_of_link(cm_module *module, PyObject *owner, cm_link *link);
/* Unpickles what `ahead` reads, by make(ahead, buffers=ahead).load(); `make` is pickle.Unpickler or like it. */
PyObject *cm_unpickle(PyObject *make, PyObject *ahead);
/*
 * A buffer as a stream with its buffers in band would give it: a bytearray where it was writable, else bytes. Its memory
 * (*memory) is not cleared.
 */
PyObject *cm_buffer_new(uint64_t size, bool readonly, void **memory);
/* A new reference to the open store of a Store object, or NULL with an exception: it was closed. */
cm_store *cm_store_unwrap(PyObject *self);

/* What of `target` a program has that is at `here`; see cm_have_new; NULL with an exception. */
PyObject *cm_have_make(cm_module *module, cm_checkpoint *here, cm_checkpoint *target, const char *const *by_name,
                       size_t count);
cm_have *cm_have_unwrap(PyObject *self); /* borrowed */
struct cm_walk;
/* The objects that a walk has met at these pages, see cm_walk_met; NULL with an exception. */
PyObject *cm_met_make(cm_module *module, struct cm_walk *walk, const uint64_t *pages, size_t count);

struct cm_shadow;
struct cm_shadow *cm_shadow_unwrap(PyObject *self); /* borrowed */

/* ---- functions of the module ------------------------------------------------------------------------------------------ */

PyObject *cm_py_save(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *cm_py_lent(PyObject *module, PyObject *args);

extern const char cm_py_save_doc[], cm_py_lent_doc[];

#endif
