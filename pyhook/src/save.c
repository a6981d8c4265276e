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

/* One variable. Non-zero: an exception is set and the save is lost. */
static int save_variable(const cm_module *module, cm_save *save, cm_walk *walk, PyObject *item)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2 || !PyUnicode_Check(PyTuple_GET_ITEM(item, 0))) {
        PyErr_SetString(PyExc_TypeError, "items are tuples (name, value)");
        return -EINVAL;
    }
    PyObject *name = PyTuple_GET_ITEM(item, 0), *escaped = NULL;
    const char *reason = NULL;
    int result = -ECANCELED;
    const char *utf8 = store_name(name, &escaped, &reason);
    if (utf8 && reason)
        result = save_unsaved(module, save, utf8, reason);
    else if (utf8)
        result = cm_walk_variable(walk, name, PyTuple_GET_ITEM(item, 1));
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

static int save_items(const cm_module *module, cm_save *save, cm_walk *walk, PyObject *items)
{
    /* The collector may run finalizers, which may do anything to the objects that are being looked at. */
    int collecting = PyGC_Disable(), result = 0;
    for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(items, i)); /* the walk runs foreign code */
        result = save_variable(module, save, walk, item);
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

/* What bases[session] has, {name: content id}, as the base of the save. Non-zero: an exception is set. */
static int set_base(const cm_module *module, cm_save *save, PyObject *bases, const char *session)
{
    PyObject *base = PyDict_GetItemString(bases, session);
    if (!base)
        return 0;
    if (!PyDict_Check(base)) {
        PyErr_SetString(PyExc_TypeError, "a base is a dict");
        return -EINVAL;
    }
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
        names[i] = PyUnicode_AsUTF8(name); /* lives as long as the dict */
        if (!names[i] || !PyBytes_Check(content) || PyBytes_GET_SIZE(content) != sizeof contents[i])
            result = -EINVAL;
        else
            memcpy(&contents[i++], PyBytes_AS_STRING(content), sizeof *contents);
    }
    if (result == -EINVAL && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "content ids are bytes");
    if (!result && (result = cm_save_set_base(save, names, contents, count)))
        cm_raise(module, result);
    PyMem_Free(names);
    PyMem_Free(contents);
    return result;
}

static int note_content(void *arg, const char *name, const cm_id *content)
{
    PyObject *id = PyBytes_FromStringAndSize((const char *)content, sizeof *content);
    int result = id ? PyDict_SetItemString(arg, name, id) : -1;
    Py_XDECREF(id);
    return result;
}

/* The base for the next save; no Python code runs, so that nothing can come between this and the commit. */
static int keep_base(cm_save *save, PyObject *bases, const char *session)
{
    PyObject *base = PyDict_New();
    int result = base ? cm_save_contents(save, note_content, base) : -1;
    if (!result)
        result = PyDict_SetItemString(bases, session, base);
    Py_XDECREF(base);
    return result;
}

static int list_arrival(void *arg, enum cm_arrival what, const char *name)
{
    PyObject *item = Py_BuildValue("(CN)", what, cm_text(name));
    int result = item ? PyList_Append(arg, item) : -1;
    Py_XDECREF(item);
    return result;
}

/* (checkpoint, [(what, name)], branch or None) of a save that has succeeded. */
static PyObject *tell(cm_module *module, cm_save *save)
{
    const char *branch = NULL;
    PyObject *arrivals = PyList_New(0);
    PyObject *checkpoint = arrivals ? cm_checkpoint_wrap(module, cm_save_checkpoint(save)) : NULL;
    PyObject *told = NULL;
    if (checkpoint && cm_save_arrivals(save, list_arrival, arrivals, &branch) == 0)
        told = Py_BuildValue("OOz", checkpoint, arrivals, branch);
    Py_XDECREF(checkpoint);
    Py_XDECREF(arrivals);
    return told;
}

/* With an exception set: cancels. Whether it came too late for that. */
static bool give_up(cm_save *save)
{
    int late;
    Py_BEGIN_ALLOW_THREADS
    late = cm_save_cancel(save);
    Py_END_ALLOW_THREADS
    return late == 0;
}

/* The checkpoint has been made: what the next save needs to know of it. Keeps the exception that is set, if any. */
static int keep(cm_save *save, cm_walk *walk, PyObject *bases, const char *session)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    cm_walk_keep_shadow(walk);
    int result = keep_base(save, bases, session);
    if (type)
        PyErr_Restore(type, value, traceback);
    return result;
}

const char cm_py_save_doc[] = PyDoc_STR(
    "save(store, session, items, message, code, describe, bases, shadow)\n--\n\n"
    "Saves the list `items` of (name, value) as the next checkpoint; describe(value) gives (type, summary). With "
    "bases[session], {name: content id}, merges with what others saved, and puts the base for the next save there, "
    "also "
    "if an exception came too late to cancel. `shadow` remembers what was saved, for the next save of the same "
    "namespace. "
    "Returns (checkpoint, [(what, name)], branch).");

PyObject *cm_py_save(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"store",    "session", "items",  "message", "code",
                                           "describe", "bases",   "shadow", NULL};
    cm_module *module = PyModule_GetState(self);
    PyObject *store_object, *items, *describe, *bases, *shadow;
    const char *session, *message, *code;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!sO!zzOO!O!", (char **)keywords, module->store, &store_object,
                                     &session, &PyList_Type, &items, &message, &code, &describe, &PyDict_Type, &bases,
                                     module->shadow, &shadow))
        return NULL;
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

    cm_walk *walk = cm_walk_new(save, cm_shadow_unwrap(shadow), describe);
    if (!walk && !PyErr_Occurred())
        PyErr_NoMemory();
    bool done = walk && set_base(module, save, bases, session) == 0 && save_items(module, save, walk, items) == 0 &&
                commit(module, save, message, code) == 0;
    if ((done || give_up(save)) && keep(save, walk, bases, session) < 0)
        done = false;
    PyObject *made = done ? tell(module, save) : NULL;

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
