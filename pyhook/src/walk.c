/* SPDX-License-Identifier: Apache-2.0 */
/* walk.c - a walk and its variables. */
#include "walk_entries.h"
#include "walk_private.h"

#include <stdlib.h>

/* ---- the walk -------------------------------------------------------------------------------------------------------- */

/* Sets *to to an attribute of a module, a new reference; false with an exception. */
static bool import_from(PyObject **to, const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    *to = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return *to != NULL;
}

static bool intern(PyObject **to, const char *text)
{
    *to = PyUnicode_InternFromString(text);
    return *to != NULL;
}

static bool prepare(cm_walk *walk)
{
    PyObject *reducers;
    if (!import_from(&walk->pickling_error, "pickle", "PicklingError") ||
        !import_from(&walk->store_error, "chipmink._errors", "StoreError") ||
        !import_from(&walk->device_memory, "chipmink._core", "DeviceMemory") ||
        !import_from(&walk->newobj, "copyreg", "__newobj__") ||
        !import_from(&walk->newobj_ex, "copyreg", "__newobj_ex__") ||
        !import_from(&walk->slotnames, "copyreg", "_slotnames") ||
        !import_from(&walk->make_cell, "cloudpickle.cloudpickle", "_make_empty_cell") ||
        !import_from(&walk->set_attribute, "builtins", "setattr") ||
        !import_from(&reducers, "chipmink._reducers", "Reducers"))
        return false;
    walk->reducers = PyObject_CallNoArgs(reducers);
    Py_DECREF(reducers);
    walk->protocol = PyLong_FromLong(5);
    walk->kept = PyList_New(0);
    return walk->reducers && walk->protocol && walk->kept && intern(&walk->str_reduce_ex, "__reduce_ex__") &&
           intern(&walk->str_reduce, "__reduce__") && intern(&walk->str_getstate, "__getstate__") &&
           intern(&walk->str_name, "__name__") && intern(&walk->str_contents, "cell_contents") &&
           intern(&walk->str_class, "__class__") && intern(&walk->str_locate, "locate") &&
           intern(&walk->str_value, "value") && intern(&walk->str_dispatch, "dispatch") &&
           intern(&walk->str_nature, "nature") && intern(&walk->str_take_apart, "take_apart") &&
           intern(&walk->str_sort_key, "sort_key") && intern(&walk->str_owning, "owning");
}

cm_walk *cm_walk_new(cm_save *save, cm_shadow *shadow, PyObject *describe)
{
    cm_walk *walk = PyMem_Calloc(1, sizeof *walk);
    if (!walk) {
        PyErr_NoMemory();
        return NULL;
    }
    walk->save = save;
    walk->shadow = shadow;
    walk->describe = describe;
    if (shadow->epoch != cm_save_epoch(save)) /* the store may have lost what it says is there */
        cm_shadow_clear(shadow);
    if (++shadow->generation == UINT32_MAX) {
        cm_shadow_clear(shadow);
        shadow->generation = 1;
    }
    shadow->epoch = cm_save_epoch(save);
    shadow->reused = shadow->walked = 0;
    if (!prepare(walk)) {
        cm_walk_free(walk);
        return NULL;
    }
    return walk;
}

/* Ends the pods and frames that are open. */
static void unwind(cm_walk *walk)
{
    while (walk->frame_count) {
        cm_frame *frame = cm_walk_top(walk);
        if (frame->kind == CM_FRAME_POD) {
            cm_atoms_release(walk, walk->atoms);
            walk->atoms = frame->around.atoms;
        }
        cm_walk_pop(walk);
    }
    walk->pod = NULL;
    walk->body = NULL;
    walk->shade = NULL;
    walk->final = false;
    walk->depth = walk->reducing = walk->repeating = 0;
    if (walk->owning && cm_walk_own(walk, false) < 0)
        PyErr_Clear(); /* of an exact object with room for it: cannot be */
    walk->owning = 0;
}

void cm_walk_release_buffers(cm_walk *walk, const void *const *spared, size_t spared_count)
{
    size_t count = walk->buffer_count, left = 0;
    for (size_t i = 0; i < count; i++) {
        bool spare = false;
        for (size_t k = 0; k < spared_count && !spare; k++)
            spare = walk->buffers[i]->buf == spared[k];
        if (spare) {
            Py_buffer *view = walk->buffers[i];
            walk->buffers[i] = walk->buffers[left];
            walk->buffers[left++] = view;
        }
    }
    walk->buffer_count = left; /* before finalizers run */
    for (size_t i = left; i < count; i++) {
        PyBuffer_Release(walk->buffers[i]);
        PyMem_Free(walk->buffers[i]);
    }
}

const Py_buffer *const *cm_walk_buffers(const cm_walk *walk, size_t *count)
{
    *count = walk->buffer_count;
    return (const Py_buffer *const *)walk->buffers;
}

/* What the reducers know of arrays keeps these alive. */
static void forget_memory(const cm_walk *walk)
{
    PyObject *memory = walk->reducers ? PyObject_GetAttrString(walk->reducers, "memory") : NULL;
    if (memory && PyDict_CheckExact(memory))
        PyDict_Clear(memory);
    Py_XDECREF(memory);
    PyErr_Clear();
}

static void return_attributes(cm_walk *walk)
{
    size_t count = walk->lent_count;
    walk->lent_count = 0;
    for (size_t i = 0; i < count && i < CM_LENT_MOST; i++) {
        if (count <= CM_LENT_MOST)
            cm_attributes_return(walk->lent[i]);
        Py_DECREF(walk->lent[i]);
    }
}

void cm_walk_release(cm_walk *walk)
{
    size_t left = 0, count = walk->held_count;
    for (size_t i = 0; i < count; i++) {
        PyObject *object = walk->held[i];
        bool read = (PyUnicode_CheckExact(object) && PyUnicode_GET_LENGTH(object) >= CM_PAYLOAD_MIN) ||
                    (PyBytes_CheckExact(object) && PyBytes_GET_SIZE(object) >= CM_PAYLOAD_MIN);
        if (read) {
            walk->held[i] = walk->held[left];
            walk->held[left++] = object;
        }
    }
    walk->held_count = left; /* before finalizers run */
    for (size_t i = left; i < count; i++)
        Py_DECREF(walk->held[i]);
    return_attributes(walk);
    forget_memory(walk);
}

void cm_walk_free(cm_walk *walk)
{
    if (!walk)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    unwind(walk);
    return_attributes(walk);
    forget_memory(walk);
    cm_walk_release_buffers(walk, NULL, 0);
    PyMem_Free(walk->buffers);
    cm_shades_free(walk);
    cm_walk_globals_free(walk);
    cm_atoms_free(walk);
    free(walk->frames);
    Py_XDECREF(walk->kept);
    Py_XDECREF(walk->idle);
    PyObject *const objects[] = {
        walk->pickling_error, walk->store_error,   walk->reducers,      walk->newobj,     walk->newobj_ex,
        walk->slotnames,      walk->protocol,      walk->str_name,      walk->str_class,  walk->str_reduce_ex,
        walk->str_reduce,     walk->str_getstate,  walk->str_locate,    walk->str_value,  walk->str_dispatch,
        walk->make_cell,      walk->set_attribute, walk->str_contents,  walk->str_nature, walk->str_take_apart,
        walk->str_sort_key,   walk->str_owning,    walk->device_memory,
    };
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        Py_XDECREF(objects[i]);
    PyMem_Free(walk);
    PyErr_Restore(type, value, traceback);
}

/* ---- variables ------------------------------------------------------------------------------------------------------- */

/* The variable's name in UTF-8, borrowed from *holder, which the caller drops. */
static const char *utf8_name(PyObject *name, PyObject **holder, size_t *size)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length); /* which the name keeps */
    if (text) {
        *holder = Py_NewRef(name);
        *size = (size_t)length;
        return text;
    }
    PyErr_Clear();
    *holder = PyUnicode_AsEncodedString(name, "utf-8", "backslashreplace");
    *size = *holder ? (size_t)PyBytes_GET_SIZE(*holder) : 0;
    return *holder ? PyBytes_AS_STRING(*holder) : NULL;
}

/* "TypeError: cannot pickle 'generator' object (in x[3].foo)": clears the exception; NULL with another one. */
static PyObject *reason_of_failure(cm_walk *walk, PyObject *name)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *text = value ? PyObject_Str(value) : NULL;
    if (!text) { /* an exception whose __str__ fails: its type says something */
        PyErr_Clear();
        text = PyUnicode_FromString("");
    }
    PyObject *path = cm_walk_path(walk, name);
    PyObject *reason = NULL;
    if (text && path) {
        const char *type_name = type ? ((PyTypeObject *)type)->tp_name : "Exception";
        const char *colon = PyUnicode_GET_LENGTH(text) ? ": " : "";
        reason = PyUnicode_FromFormat("%s%s%U (in %U)", type_name, colon, text, path);
    }
    Py_XDECREF(text);
    Py_XDECREF(path);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return reason;
}

static int add_unsaved(cm_walk *walk, PyObject *name, PyObject *reason)
{
    PyObject *name_holder, *reason_holder;
    size_t size;
    const char *name_text = utf8_name(name, &name_holder, &size),
               *reason_text = utf8_name(reason, &reason_holder, &size);
    int result = -1;
    if (name_text && reason_text) {
        result = cm_save_unsaved(walk->save, name_text, reason_text);
        if (result < 0)
            cm_walk_store_failed(walk, result);
    }
    Py_XDECREF(name_holder);
    Py_XDECREF(reason_holder);
    return result < 0 ? -1 : 0;
}

/* After a failure with an exception: 0 if only this variable is lost, and listed as that. */
static int lose_variable(cm_walk *walk, PyObject *name, size_t part_count)
{
    bool ends = walk->fatal || !PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError);
    PyObject *reason = ends ? NULL : reason_of_failure(walk, name);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    unwind(walk);
    cm_shades_cut(walk, part_count);
    cm_save_variable_cancel(walk->save);
    PyErr_Restore(type, value, traceback);
    if (!reason)
        return -1;
    int result = add_unsaved(walk, name, reason);
    Py_DECREF(reason);
    return result < 0 ? -1 : cm_idle_lose(walk, name);
}

/* A new reference to (type, summary); NULL with an exception, after which the save must end. */
static PyObject *describe(cm_walk *walk, PyObject *value)
{
    PyObject *description = PyObject_CallOneArg(walk->describe, value);
    if (description && PyTuple_CheckExact(description) && PyTuple_GET_SIZE(description) == 2 &&
        PyUnicode_Check(PyTuple_GET_ITEM(description, 0)) && PyUnicode_Check(PyTuple_GET_ITEM(description, 1)))
        return description;
    if (description)
        PyErr_SetString(PyExc_TypeError, "describe() returns a tuple (type, summary)");
    Py_XDECREF(description);
    walk->fatal = true;
    return NULL;
}

/*
 * What an array of NumPy looks like need not be worked out again while nothing was written to it: it is described after it was walked.
 * Of other objects a description may depend on more than what is saved, or walking may change it.
 */
static bool is_described_after(PyObject *value)
{
    return strcmp(Py_TYPE(value)->tp_name, "numpy.ndarray") == 0;
}

/* Its memory is what the pod's only buffer was made of. */
static bool has_one_buffer(const cm_walk *walk, const PyObject *value, const cm_shade *shade)
{
    size_t count;
    const Py_buffer *const *views = cm_walk_buffers(walk, &count);
    return count && views[count - 1]->obj == value && shade->splices == 1;
}

/* As describe(). */
static PyObject *describe_array(cm_walk *walk, PyObject *name, PyObject *value, cm_shade *shade)
{
    PyObject *number = PyDict_GetItemWithError(walk->shadow->names, name);
    const cm_shade *before = number ? cm_shade_at(walk->shadow, (uint32_t)PyLong_AsUnsignedLong(number)) : NULL;
    if (!number && PyErr_Occurred())
        return NULL;
    shade->digest = has_one_buffer(walk, value, shade) ? cm_pod_digest(shade->pod) : 0;
    if (shade->digest && before && !before->dead && before->object == value && before->digest == shade->digest &&
        before->description)
        return Py_NewRef(before->description);
    return describe(walk, value);
}

/* Saves `value` into pods of the variable, or finds it among what was saved. */
static int walk_root(cm_walk *walk, PyObject *name, PyObject *value, const cm_pod **pod, uint32_t *index,
                     PyObject **description)
{
    cm_memo_entry entry;
    cm_shade *shade = NULL;
    int idle = cm_idle_use(walk, name, value, &shade, index);
    if (idle < 0)
        return -1;
    if (idle) {
        *pod = shade->pod;
        *description = shade->description ? Py_NewRef(shade->description) : describe(walk, value);
        return *description ? 0 : -1;
    }
    if (cm_memo_find(walk, value, &entry)) {
        *pod = cm_shade_at(walk->shadow, entry.shade)->pod;
        *index = entry.index;
        *description = describe(walk, value);
        return *description ? cm_idle_alias(walk, name, value) : -1;
    }
    if (cm_idle_own(walk, name) < 0)
        return -1;
    int reused = cm_shade_reuse_root(walk, name, value, &shade);
    if (reused < 0)
        return -1;
    bool after = !reused && is_described_after(value);
    if (reused && shade->description) {
        *description = Py_NewRef(shade->description);
    } else if (!after) {
        *description = describe(walk, value);
        if (!*description)
            return -1;
    }
    if (!reused) {
        if (cm_walk_pod_open(walk, value, CM_POD_OBJECT, false) < 0)
            return -1;
        shade = walk->root = walk->shade;
        if (cm_is_value(value))
            cm_trace_value(walk, value);
        if (cm_walk_value(walk, value) < 0)
            return -1;
        while (walk->frame_count)
            if (cm_walk_step(walk) < 0)
                return -1;
    }
    if (after && !(*description = describe_array(walk, name, value, shade)))
        return -1;
    *pod = shade->pod;
    *index = shade->root;
    return cm_shade_name(walk, name, shade, *description);
}

int cm_walk_variable(cm_walk *walk, PyObject *name, PyObject *value)
{
    PyObject *holder;
    size_t size;
    const char *text = utf8_name(name, &holder, &size);
    if (!text)
        return -1;
    if (strlen(text) != size) {
        Py_DECREF(holder);
        PyObject *escaped = PyObject_ASCII(name), *reason = PyUnicode_FromString("its name contains a NUL character");
        int result = escaped && reason ? add_unsaved(walk, escaped, reason) : -1;
        Py_XDECREF(escaped);
        Py_XDECREF(reason);
        return result;
    }
    int result = cm_save_variable_begin(walk->save, text);
    Py_DECREF(holder);
    if (result < 0)
        return cm_walk_store_failed(walk, result);
    size_t part_count = walk->part_count;
    const cm_pod *pod = NULL;
    uint32_t index = CM_INDEX_ROOT;
    PyObject *description = NULL;
    const char *type = NULL, *summary = NULL;
    Py_INCREF(value);
    result = walk_root(walk, name, value, &pod, &index, &description);
    if (result == 0 && (!(type = PyUnicode_AsUTF8(PyTuple_GET_ITEM(description, 0))) ||
                        !(summary = PyUnicode_AsUTF8(PyTuple_GET_ITEM(description, 1))))) {
        walk->fatal = true;
        result = -1;
    }
    if (result == 0) {
        result = cm_save_variable_end(walk->save, pod, index, type, summary);
        if (result < 0)
            cm_walk_store_failed(walk, result);
    } else {
        result = lose_variable(walk, name, part_count);
    }
    Py_XDECREF(description);
    Py_DECREF(value);
    return result < 0 ? -1 : 0;
}
