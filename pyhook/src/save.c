/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.c - chipmink._core.save: one checkpoint, from a list of (name, value).
 *
 * The walk runs under the GIL, variable by variable; hashing, compressing and writing go on beside it in the store's
 * workers, and the end of it is waited for without the GIL. Ctrl-C is looked for between variables and twenty times a
 * second while waiting, and cancels: the store stays as it was.
 */
#include "module.h"

#include <chipmink/save.h>
#include <errno.h>

#include "walk.h"

enum { WAIT_MS = 50 };

/*
 * The name for the store, borrowed from `name` or from *escaped, which the caller gives up; *reason is set where a store
 * cannot hold the variable under its name, and the name is then an escaped one. NULL: an exception is set.
 */
static const char *store_name(PyObject *name, PyObject **escaped, const char **reason)
{
    Py_ssize_t size = 0;
    const char *utf8 = PyUnicode_AsUTF8AndSize(name, &size);
    if (!utf8) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return NULL;
        PyErr_Clear();
        *reason = "its name is not valid Unicode (lone surrogates)";
    } else if (strlen(utf8) != (size_t)size) {
        *reason = "its name contains a NUL character";
    } else {
        return utf8;
    }
    *escaped = PyObject_ASCII(name);
    return *escaped ? PyUnicode_AsUTF8(*escaped) : NULL;
}

static int save_unsaved(const cm_module *module, cm_save *save, const char *name, const char *reason)
{
    int result = cm_save_unsaved(save, name, reason);
    if (result < 0)
        cm_raise(module, result);
    return result;
}

/* One variable: described, then taken apart. Non-zero: an exception is set and the save is lost. */
static int save_variable(const cm_module *module, cm_save *save, cm_walk *walk, PyObject *item, PyObject *describe)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2 || !PyUnicode_Check(PyTuple_GET_ITEM(item, 0))) {
        PyErr_SetString(PyExc_TypeError, "items are tuples (name, value)");
        return -EINVAL;
    }
    PyObject *name = PyTuple_GET_ITEM(item, 0), *value = PyTuple_GET_ITEM(item, 1);
    PyObject *escaped = NULL, *description = NULL;
    const char *reason = NULL, *type, *summary;
    int result = -ECANCELED;
    const char *utf8 = store_name(name, &escaped, &reason);
    if (utf8 && reason) {
        result = save_unsaved(module, save, utf8, reason);
    } else if (utf8) {
        description = PyObject_CallOneArg(describe, value);
        if (description && !PyTuple_Check(description))
            PyErr_SetString(PyExc_TypeError, "describe() returns a tuple (type, summary)");
        else if (description && PyArg_ParseTuple(description, "ss", &type, &summary))
            result = cm_walk_variable(walk, name, value, type, summary);
        if (result < 0 && !PyErr_Occurred())
            cm_raise(module, result);
    }
    Py_XDECREF(description);
    Py_XDECREF(escaped);
    return result;
}

/* Waits until the checkpoint is durable, or a signal handler raises. */
static int wait_for_commit(const cm_module *module, cm_save *save)
{
    for (;;) {
        int result;
        Py_BEGIN_ALLOW_THREADS
        result = cm_save_wait(save, WAIT_MS);
        Py_END_ALLOW_THREADS
        if (result == 0)
            return 0;
        if (result != -EAGAIN) {
            cm_raise(module, result);
            return result;
        }
        if (PyErr_CheckSignals())
            return -EINTR;
    }
}

static int save_items(const cm_module *module, cm_save *save, cm_walk *walk, PyObject *items, PyObject *describe)
{
    /* The collector may run finalizers, which may do anything to the objects that are being looked at. */
    int collecting = PyGC_Disable(), result = 0;
    for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(items, i)); /* the walk runs foreign code */
        result = save_variable(module, save, walk, item, describe);
        Py_DECREF(item);
        if (!result && PyErr_CheckSignals())
            result = -EINTR;
    }
    if (collecting)
        PyGC_Enable();
    return result;
}

static int commit(const cm_module *module, cm_save *save, const char *message, const char *code)
{
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_save_commit(save, message, code);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        cm_raise(module, result);
        return result;
    }
    return wait_for_commit(module, save);
}

/* ---- merging ----------------------------------------------------------------------------------------------------- */

/* {name: content id in hex} as the base of the save. Non-zero: an exception is set. */
static int set_base(const cm_module *module, cm_save *save, PyObject *base)
{
    size_t count = (size_t)PyDict_GET_SIZE(base), i = 0;
    const char **names = PyMem_Calloc(count + 1, sizeof *names);
    cm_id *contents = PyMem_Calloc(count + 1, sizeof *contents);
    PyObject *name, *content;
    Py_ssize_t position = 0;
    int result = 0;
    if (!names || !contents) {
        PyErr_NoMemory();
        result = -ENOMEM;
    }
    while (!result && PyDict_Next(base, &position, &name, &content)) {
        const char *hex = PyUnicode_AsUTF8(content);
        names[i] = PyUnicode_AsUTF8(name); /* lives as long as the dict */
        result = names[i] && hex ? cm_id_parse(hex, &contents[i]) : -EINVAL;
        i++;
    }
    if (!result)
        result = cm_save_set_base(save, names, contents, count);
    if (result && !PyErr_Occurred())
        cm_raise(module, result);
    PyMem_Free(names);
    PyMem_Free(contents);
    return result;
}

static int list_arrival(void *arg, enum cm_arrival what, const char *name)
{
    PyObject *item = Py_BuildValue("(CN)", what, cm_text(name));
    int result = item ? PyList_Append(arg, item) : -1;
    Py_XDECREF(item);
    return result;
}

/* Calls done(checkpoint, [(what, name)], branch or None) for a save that has succeeded. */
static PyObject *tell(cm_module *module, cm_save *save, PyObject *done)
{
    const char *branch = NULL;
    PyObject *arrivals = PyList_New(0);
    PyObject *checkpoint = arrivals ? cm_checkpoint_wrap(module, cm_save_checkpoint(save)) : NULL;
    PyObject *told = NULL;
    if (checkpoint && cm_save_arrivals(save, list_arrival, arrivals, &branch) == 0)
        told = PyObject_CallFunction(done, "OOz", checkpoint, arrivals, branch);
    Py_XDECREF(checkpoint);
    Py_XDECREF(arrivals);
    return told;
}

/* With an exception set, and a checkpoint that was made all the same: done() is told. */
static void tell_late(cm_module *module, cm_save *save, PyObject *done)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *told = tell(module, save, done);
    if (!told)
        PyErr_WriteUnraisable(done);
    Py_XDECREF(told);
    PyErr_Restore(type, value, traceback);
}

/* Tells done(); a Ctrl-C that comes just now must not keep it from noting what was saved. */
static PyObject *finish(cm_module *module, cm_save *save, PyObject *done)
{
    PyObject *told = tell(module, save, done);
    if (!told && !PyErr_ExceptionMatches(PyExc_Exception))
        tell_late(module, save, done);
    return told;
}

/* With an exception set: cancels, unless it came too late for that. */
static void give_up(cm_module *module, cm_save *save, PyObject *done)
{
    int late;
    Py_BEGIN_ALLOW_THREADS
    late = cm_save_cancel(save);
    Py_END_ALLOW_THREADS
    if (late == 0)
        tell_late(module, save, done);
}

const char cm_py_save_doc[] =
    PyDoc_STR("save(store, session, items, message, code, describe, base, done, shadow)\n--\n\n"
              "Saves the list `items` of (name, value) as the next checkpoint; describe(value) gives (type, summary). "
              "With `base`, "
              "{name: content id}, merges with what others saved; without one base is None. Calls done(checkpoint, "
              "[(what, name)], branch) when the checkpoint has been made, also if an exception came too late, and "
              "gives what that gives. `shadow` remembers what was saved, for the next save of the same namespace.");

PyObject *cm_py_save(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"store",    "session", "items", "message", "code",
                                           "describe", "base",    "done",  "shadow",  NULL};
    cm_module *module = PyModule_GetState(self);
    PyObject *store_object, *items, *describe, *base, *done, *shadow;
    const char *session, *message, *code;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!sO!zzOOOO!", (char **)keywords, module->store, &store_object,
                                     &session, &PyList_Type, &items, &message, &code, &describe, &base, &done,
                                     module->shadow, &shadow))
        return NULL;
    if (base != Py_None && !PyDict_Check(base))
        return PyErr_Format(PyExc_TypeError, "base is a dict or None");
    cm_store *store = cm_store_unwrap(store_object);
    if (!store)
        return NULL;
    cm_save *save = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_save_begin(store, session, &save);
    cm_store_unref(store); /* the save keeps it open */
    Py_END_ALLOW_THREADS
    if (result < 0)
        return cm_raise(module, result);

    cm_walk *walk = cm_walk_new(save, cm_shadow_unwrap(shadow));
    if (!walk && !PyErr_Occurred())
        PyErr_NoMemory();
    PyObject *made = NULL;
    if (walk && (base == Py_None || set_base(module, save, base) == 0) &&
        save_items(module, save, walk, items, describe) == 0 && commit(module, save, message, code) == 0) {
        cm_walk_keep_shadow(walk);
        made = finish(module, save, done);
    } else if (PyErr_Occurred())
        give_up(module, save, done);

    /* The save first: until it ends its workers read memory of objects that the walk keeps alive. */
    Py_BEGIN_ALLOW_THREADS
    cm_save_free(save);
    Py_END_ALLOW_THREADS
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* what the walk lets go of may run finalizers */
    cm_walk_free(walk);
    PyErr_Restore(type, value, traceback);
    return made;
}
