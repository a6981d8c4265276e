/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.c - chipmink._core.save: one checkpoint, from a list of (name, value); chipmink._core.Saving: while it is written.
 *
 * The walk runs under the GIL, variable by variable; hashing, compressing and writing go on beside it in the store's
 * workers, and on after it. Who waits for the end of that does it without the GIL, and looks for Ctrl-C twenty times a second.
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
    if (result < 0)
        cm_raise(module, result);
    return result;
}

typedef struct saving_object {
    PyObject_HEAD
    cm_save *save; /* NULL: it has ended */
    cm_walk *walk;
    PyObject *bases, *shadow, *describe; /* owned: the walk borrows them */
    PyObject *base;                      /* that was set; NULL: none */
    PyObject *met;                       /* owned: what was asked for; NULL: nothing */
    char *session;
    pid_t process;
    bool busy;    /* a thread is in a method */
    bool awaited; /* a thread is in over(), beside which others may be in one */
} saving_object;

/* ---- merging ----------------------------------------------------------------------------------------------------- */

/* What bases[session] has, {name: content id}, as the base of the save. Non-zero: an exception is set. */
static int set_base(const cm_module *module, saving_object *saving)
{
    PyObject *base = PyDict_GetItemString(saving->bases, saving->session);
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
    if (!result && (result = cm_save_set_base(saving->save, names, contents, count)))
        cm_raise(module, result);
    if (!result)
        Py_XSETREF(saving->base, Py_NewRef(base));
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

/*
 * The base for the next save; no Python code runs, so that nothing can come between this and the commit. `before`: the one that was
 * set, which is mended if it still is the base; may be NULL.
 */
static int keep_base(cm_save *save, PyObject *bases, const char *session, PyObject *before)
{
    if (before && PyDict_GetItemString(bases, session) == before && cm_save_keeps_names(save))
        return cm_save_changes(save, note_content, before);
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

/* ---- while it is written ------------------------------------------------------------------------------------------ */

/* Ends the save and lets go of everything. Keeps the exception that is set, if any. */
static void end_saving(saving_object *self)
{
    cm_save *save = self->save;
    cm_walk *walk = self->walk;
    self->save = NULL;
    self->walk = NULL;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* what is let go of may run finalizers */
    /* The save first: until it ends its workers read memory of objects that the walk keeps alive. */
    Py_BEGIN_ALLOW_THREADS
    cm_save_free(save);
    Py_END_ALLOW_THREADS
    cm_walk_free(walk);
    Py_CLEAR(self->bases);
    Py_CLEAR(self->base);
    Py_CLEAR(self->shadow);
    Py_CLEAR(self->describe);
    PyErr_Restore(type, value, traceback);
}

/* The checkpoint has been made: what the next save needs to know of it. Keeps the exception that is set, if any. */
static int keep(saving_object *self)
{
    if (!self->walk)
        return 0; /* nothing was taken in */
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    cm_walk_keep_shadow(self->walk);
    int result = keep_base(self->save, self->bases, self->session, self->base);
    if (type)
        PyErr_Restore(type, value, traceback);
    return result;
}

/* Cancels, unless it is too late for that: then the checkpoint has been made. */
static void give_up(saving_object *self)
{
    int late;
    Py_BEGIN_ALLOW_THREADS
    late = cm_save_cancel(self->save);
    Py_END_ALLOW_THREADS
    if (late == 0 && keep(self) < 0)
        PyErr_Clear(); /* the next save just replaces what is there */
    end_saving(self);
}

/* False with an exception if it has ended, or another thread is at it. */
static bool enter(saving_object *self)
{
    if (self->save && !self->busy)
        return self->busy = true;
    PyErr_SetString(PyExc_RuntimeError, self->save ? "another thread is at the save" : "the save has ended");
    return false;
}

/* False with an exception if another thread waits for its end, which this one is to do. */
static bool may_await(const saving_object *self)
{
    if (self->save && !self->awaited)
        return true;
    PyErr_SetString(PyExc_RuntimeError, self->save ? "another thread waits for the save" : "the save has ended");
    return false;
}

/* Waits until it has ended, up to `timeout` milliseconds; negative: for ever. -EINTR: an exception is set; -EAGAIN. */
static int await(saving_object *self, double timeout)
{
    cm_save *save = self->save;
    int result;
    do {
        double most = timeout >= 0 && timeout < WAIT_MS ? timeout : WAIT_MS;
        int left = (int)most + (most > (int)most);
        Py_BEGIN_ALLOW_THREADS
        result = cm_save_wait(save, left);
        Py_END_ALLOW_THREADS
        if (timeout >= 0)
            timeout = left < timeout ? timeout - left : 0;
        if (result == -EAGAIN && PyErr_CheckSignals())
            result = -EINTR;
    } while (result == -EAGAIN && timeout != 0);
    return result;
}

static PyObject *over(PyObject *object, PyObject *args)
{
    saving_object *self = (saving_object *)object;
    double timeout;
    if (!PyArg_ParseTuple(args, "d", &timeout) || !may_await(self))
        return NULL;
    self->awaited = true;
    int result = await(self, timeout);
    self->awaited = false;
    return result == -EINTR ? NULL : PyBool_FromLong(result != -EAGAIN);
}

static PyObject *wait_saving(PyObject *object, PyObject *args)
{
    saving_object *self = (saving_object *)object;
    cm_module *module = cm_module_of(object);
    double timeout;
    int cancel;
    if (!PyArg_ParseTuple(args, "dp", &timeout, &cancel) || !may_await(self) || !enter(self))
        return NULL;
    int result = await(self, timeout);
    self->busy = false;
    if (result == -EAGAIN)
        Py_RETURN_NONE;
    PyObject *told = NULL;
    if (result == -EINTR) {
        if (cancel)
            give_up(self);
        return NULL;
    }
    if (result == 0 && keep(self) == 0)
        told = tell(module, self->save);
    else if (result)
        cm_raise(module, result);
    end_saving(self);
    return told;
}

/* Where the exported memory of some objects begins. The caller's to free; NULL: out of memory. */
static const void **addresses_of(const saving_object *self, const PyObject *objects, size_t *count)
{
    size_t buffers = 0, n = objects ? (size_t)PyList_GET_SIZE(objects) : 0;
    const Py_buffer *const *views = self->walk && n ? cm_walk_buffers(self->walk, &buffers) : NULL;
    const void **addresses = PyMem_Calloc(buffers + 1, sizeof *addresses);
    *count = 0;
    for (size_t i = 0; addresses && i < buffers; i++)
        for (size_t k = 0; k < n; k++)
            if (views[i]->obj == PyList_GET_ITEM(objects, (Py_ssize_t)k)) {
                addresses[(*count)++] = views[i]->buf;
                break;
            }
    return addresses;
}

static PyObject *detach(PyObject *object, PyObject *args)
{
    saving_object *self = (saving_object *)object;
    PyObject *spared = NULL;
    unsigned long long limit;
    uint64_t taken;
    bool detached;
    if (!PyArg_ParseTuple(args, "K|O!", &limit, &PyList_Type, &spared) || !enter(self))
        return NULL;
    size_t count = 0;
    const void **addresses = addresses_of(self, spared, &count);
    if (!addresses) {
        self->busy = false;
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    detached = cm_save_detach(self->save, limit, addresses, count, &taken);
    Py_END_ALLOW_THREADS
    if (detached && self->walk)
        cm_walk_release_buffers(self->walk, addresses, count);
    PyMem_Free(addresses);
    self->busy = false;
    if (!detached)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(taken);
}

static PyObject *make_way(PyObject *object, PyObject *busy)
{
    const saving_object *self = (saving_object *)object;
    int truth = PyObject_IsTrue(busy);
    if (truth < 0)
        return NULL;
    if (self->save) /* beside all other methods */
        cm_save_make_way(self->save, truth);
    Py_RETURN_NONE;
}

static PyObject *start(PyObject *object, PyObject *args)
{
    saving_object *self = (saving_object *)object;
    cm_module *module = cm_module_of(object);
    const char *message, *code;
    if (!PyArg_ParseTuple(args, "zz", &message, &code) || !enter(self))
        return NULL;
    int result = set_base(module, self);
    if (!result) {
        Py_BEGIN_ALLOW_THREADS
        result = cm_save_start(self->save);
        Py_END_ALLOW_THREADS
        if (result)
            cm_raise(module, result);
    }
    if (!result)
        result = commit(module, self->save, message, code);
    self->busy = false;
    if (!result)
        Py_RETURN_NONE;
    end_saving(self);
    return NULL;
}

static int add_unsaved(void *dict, const char *name, const char *reason)
{
    PyObject *key = cm_text(name), *value = cm_text(reason);
    int result = key && value ? PyDict_SetItem(dict, key, value) : -1;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return result;
}

static PyObject *met(PyObject *object, PyObject *Py_UNUSED(none))
{
    saving_object *self = (saving_object *)object;
    PyObject *found = self->met;
    self->met = NULL;
    return found ? found : Py_NewRef(Py_None);
}

static PyObject *unsaved(PyObject *object, PyObject *Py_UNUSED(none))
{
    saving_object *self = (saving_object *)object;
    if (!enter(self))
        return NULL;
    PyObject *found = PyDict_New();
    if (found && cm_save_list_unsaved(self->save, add_unsaved, found))
        Py_CLEAR(found);
    self->busy = false;
    return found;
}

static void dealloc(PyObject *object)
{
    saving_object *self = (saving_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->save && self->process == getpid()) /* its threads are not here otherwise */
        give_up(self);
    Py_XDECREF(self->met);
    PyMem_Free(self->session);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"wait", wait_saving, METH_VARARGS,
     PyDoc_STR("wait(timeout_ms, cancel)\n--\n\n"
               "(checkpoint, [(what, name)], branch) when it is durable, and the save has ended; None: not yet. A "
               "negative timeout is none. An exception of a signal handler leaves it as it is, or cancels.")},
    {"over", over, METH_VARARGS,
     PyDoc_STR("over(timeout_ms)\n--\n\n"
               "Waits until wait() need not, which is to be called then; whether that is so. Another thread may be in "
               "detach() or unsaved() meanwhile, and none in wait().")},
    {"detach", detach, METH_VARARGS,
     PyDoc_STR("detach(limit, spared=[])\n--\n\n"
               "Copies what has not been read of buffers, up to `limit` bytes, and waits for the rest to be read: "
               "afterwards all objects may change but those `spared`, which another call is for. Returns the bytes "
               "copied. For later: the bytes that are kept in "
               "memory; None: there would be more than `limit`, and nothing may change yet.")},
    {"start", start, METH_VARARGS,
     PyDoc_STR("start(message, code)\n--\n\nGoes on with a save for later; if that fails, it has ended.")},
    {"make_way", make_way, METH_O,
     PyDoc_STR("make_way(busy)\n--\n\nOf a save behind: while others are `busy`, one thread works for it.")},
    {"met", met, METH_NOARGS, PyDoc_STR("met()\n--\n\nOnce: the Met of the pages that it was asked for, or None.")},
    {"unsaved", unsaved, METH_NOARGS, PyDoc_STR("unsaved()\n--\n\n{name: reason} of what cannot be saved.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A save that is being written. Made by save(); given up when it is let go of.")},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec cm_saving_spec = {
    .name = "chipmink._core.Saving",
    .basicsize = sizeof(saving_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

/* ---- whose memory is lent ------------------------------------------------------------------------------------------- */

enum { LENT_MOST = 1024 /* more is not looked through */ };

const char cm_py_lent_doc[] = PyDoc_STR("lent(savings, namespace)\n--\n\n"
                                        "[(object, [name])]: objects whose memory a save of the list `savings` is "
                                        "still to read, and to which nothing refers but these "
                                        "saves and these names of the dict `namespace`. There may be more.");

static size_t count_exports(PyObject *savings, const PyObject *object)
{
    size_t found = 0, count;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(savings); i++) {
        const saving_object *saving = (saving_object *)PyList_GET_ITEM(savings, i);
        const Py_buffer *const *views = saving->walk ? cm_walk_buffers(saving->walk, &count) : NULL;
        for (size_t k = 0; views && k < count; k++)
            found += views[k]->obj == object;
    }
    return found;
}

/* Adds an object to the list, unless somebody else refers to it. Non-zero: an exception is set. */
static int add_lent(PyObject *found, PyObject *object, PyObject *savings, PyObject *namespace)
{
    PyObject *names = PyList_New(0), *name, *value;
    Py_ssize_t position = 0;
    int result = names ? 0 : -1;
    while (!result && PyDict_Next(namespace, &position, &name, &value))
        if (value == object)
            result = PyList_Append(names, name);
    if (!result && (size_t)Py_REFCNT(object) == (size_t)PyList_GET_SIZE(names) + count_exports(savings, object)) {
        PyObject *item = PyTuple_Pack(2, object, names);
        result = item ? PyList_Append(found, item) : -1;
        Py_XDECREF(item);
    }
    Py_XDECREF(names);
    return result;
}

PyObject *cm_py_lent(PyObject *self, PyObject *args)
{
    cm_module *module = PyModule_GetState(self);
    PyObject *savings, *namespace;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &savings, &PyDict_Type, &namespace))
        return NULL;
    size_t count, all = (size_t)PyDict_GET_SIZE(namespace);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(savings); i++) {
        saving_object *saving = (saving_object *)PyList_GET_ITEM(savings, i);
        if (!PyObject_TypeCheck(saving, module->saving))
            return PyErr_Format(PyExc_TypeError, "savings are Saving, not %s", Py_TYPE(saving)->tp_name);
        if (saving->walk && cm_walk_buffers(saving->walk, &count))
            all += count;
    }
    PyObject *found = PyList_New(0);
    for (Py_ssize_t i = 0; found && all <= LENT_MOST && i < PyList_GET_SIZE(savings); i++) {
        const saving_object *saving = (saving_object *)PyList_GET_ITEM(savings, i);
        if (!saving->save || !saving->walk || saving->busy)
            continue;
        const Py_buffer *const *views = cm_walk_buffers(saving->walk, &count);
        for (size_t k = 0; found && k < count; k++)
            if (views[k]->obj && cm_save_lends(saving->save, views[k]->buf) &&
                add_lent(found, views[k]->obj, savings, namespace))
                Py_CLEAR(found);
    }
    return found;
}

/* ---- saving --------------------------------------------------------------------------------------------------------- */

/* A converter: (execution number, nanoseconds, error or None) or None; the error is borrowed from the tuple. */
static int convert_cell(PyObject *object, void *out)
{
    cm_cell *cell = out;
    unsigned long long execution, duration;
    if (object == Py_None)
        return 1;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "a cell is a tuple (execution number, nanoseconds, error)");
        return 0;
    }
    if (!PyArg_ParseTuple(object, "KKz", &execution, &duration, &cell->error))
        return 0;
    cell->execution = execution;
    cell->duration_ns = duration;
    return 1;
}

static int set_cell(const cm_module *module, cm_save *save, const cm_cell *cell)
{
    if (!cell->execution && !cell->duration_ns && !cell->error)
        return 0;
    int result = cm_save_set_cell(save, cell);
    if (result < 0)
        cm_raise(module, result);
    return result;
}

const char cm_py_save_doc[] = PyDoc_STR(
    "save(store, session, items, message, code, describe, bases, shadow, branch=None, cell=None, "
    "if_changed=False, previews=None, behind=False, later=False, pages=b'')\n--\n\n"
    "Begins to save the list `items` of (name, value) as the next checkpoint: they have been taken in when it returns, "
    "but "
    "for the memory of buffers. describe(value) gives (type, summary). With bases[session], {name: content id}, merges "
    "with what others saved, and puts the base for the next save there at the end. `shadow` remembers what was saved, "
    "for "
    "the next save of the same namespace. With `branch` the checkpoint is made on that branch, wherever the head is. "
    "`cell`: (execution number, nanoseconds, error or None). `if_changed`: without a change none is made, and the "
    "parent "
    "is given. With items None the variables are those that the parent has. `previews`: {name: PNG}, what variables "
    "look like; of those that cannot be saved they are ignored. `behind`: nobody waits for it. `later`: it is begun "
    "beside another save, with a "
    "`shadow` of its own that is empty; start() goes on with it, and has its message and code. `pages`, as of "
    "Checkpoint.pages(): the objects found there "
    "can be had from met(). Returns a Saving.");

/* With items NULL the save is of what the head has. Non-zero: an exception is set. */
static int begin(const cm_module *module, saving_object *saving, PyObject *store_object, const char *branch,
                 const PyObject *items, bool later)
{
    cm_store *store = cm_store_unwrap(store_object);
    int result = -EINVAL;
    if (!store)
        return result;
    Py_BEGIN_ALLOW_THREADS
    if (later)
        result = cm_save_begin_later(store, saving->session, branch, &saving->save);
    else if (items)
        result = cm_save_begin_on(store, saving->session, branch, &saving->save);
    else
        result = cm_save_begin_edit(store, saving->session, branch, &saving->save);
    cm_store_unref(store); /* the save keeps it open */
    Py_END_ALLOW_THREADS
    if (result < 0)
        cm_raise(module, result);
    return result;
}

static int compare_pages(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Right after the walk. Non-zero: an exception is set. */
static int note_met(cm_module *module, saving_object *saving, const char *bytes, size_t count)
{
    uint64_t *pages = PyMem_Malloc(count * sizeof *pages);
    if (!pages) {
        PyErr_NoMemory();
        return -ENOMEM;
    }
    memcpy(pages, bytes, count * sizeof *pages);
    qsort(pages, count, sizeof *pages, compare_pages);
    saving->met = cm_met_make(module, saving->walk, pages, count);
    PyMem_Free(pages);
    return saving->met ? 0 : -ENOMEM;
}

static int take_in(const cm_module *module, saving_object *saving, PyObject *items, bool later)
{
    saving->walk = cm_walk_new(saving->save, cm_shadow_unwrap(saving->shadow), saving->describe);
    if (!saving->walk)
        return -ENOMEM;
    int result = later ? 0 : set_base(module, saving);
    if (!result && cm_idle_begin(saving->walk, items) < 0)
        result = -ECANCELED;
    return result ? result : save_items(module, saving->save, saving->walk, items);
}

static int give_previews(const cm_module *module, cm_save *save, PyObject *previews)
{
    PyObject *name, *picture;
    Py_ssize_t position = 0;
    int result = 0;
    while (previews && !result && PyDict_Next(previews, &position, &name, &picture)) {
        Py_ssize_t size = 0;
        const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &size) : NULL;
        PyErr_Clear();
        if (!text || strlen(text) != (size_t)size)
            continue; /* no store can hold the variable under its name */
        if (!PyBytes_Check(picture)) {
            PyErr_SetString(PyExc_TypeError, "previews are bytes");
            return -EINVAL;
        }
        result =
            cm_save_preview(save, text, "image/png", PyBytes_AS_STRING(picture), (size_t)PyBytes_GET_SIZE(picture));
        if (result == -ENOENT)
            result = 0; /* the variable is unsaved */
    }
    if (result < 0)
        cm_raise(module, result);
    return result;
}

PyObject *cm_py_save(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"store",  "session", "items",  "message", "code",       "describe",
                                           "bases",  "shadow",  "branch", "cell",    "if_changed", "previews",
                                           "behind", "later",   "pages",  NULL};
    cm_module *module = PyModule_GetState(self);
    PyObject *store, *items, *describe, *bases, *shadow, *previews = NULL;
    const char *session, *message, *code, *branch = NULL, *pages = NULL;
    Py_ssize_t pages_size = 0;
    cm_cell cell = {0};
    int if_changed = 0, behind = 0, later = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!sOzzOO!O!|zO&pOppy#", (char **)keywords, module->store, &store,
                                     &session, &items, &message, &code, &describe, &PyDict_Type, &bases, module->shadow,
                                     &shadow, &branch, convert_cell, &cell, &if_changed, &previews, &behind, &later,
                                     &pages, &pages_size))
        return NULL;
    if (items == Py_None)
        items = NULL;
    if (previews == Py_None)
        previews = NULL;
    if ((items ? !PyList_Check(items) : later) || (previews && !PyDict_Check(previews))) {
        PyErr_SetString(PyExc_TypeError,
                        "items is a list or, of a save that begins now, None; previews a dict or None");
        return NULL;
    }
    saving_object *saving = (saving_object *)module->saving->tp_alloc(module->saving, 0);
    if (!saving)
        return NULL;
    saving->process = getpid();
    saving->bases = Py_NewRef(bases);
    saving->shadow = Py_NewRef(shadow);
    saving->describe = Py_NewRef(describe);
    saving->session = PyMem_Malloc(strlen(session) + 1);
    if (!saving->session) {
        PyErr_NoMemory();
        goto failed;
    }
    strcpy(saving->session, session);
    if (begin(module, saving, store, branch, items, later))
        goto failed;
    if (if_changed)
        cm_save_if_changed(saving->save);
    if (behind)
        cm_save_behind(saving->save);
    if (set_cell(module, saving->save, &cell) || (items && take_in(module, saving, items, later)) ||
        (items && pages_size && note_met(module, saving, pages, (size_t)pages_size / sizeof(uint64_t))) ||
        give_previews(module, saving->save, previews) || (!later && commit(module, saving->save, message, code)))
        goto failed;
    if (saving->walk)
        cm_walk_release(saving->walk);
    return (PyObject *)saving;
failed:
    if (saving->save)
        end_saving(saving); /* given up: nothing was committed */
    Py_DECREF(saving);
    return NULL;
}
