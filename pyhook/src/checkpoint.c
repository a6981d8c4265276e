/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c - chipmink._core.Checkpoint: one saved state, immutable. */
#include "module.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    cm_checkpoint *checkpoint; /* never NULL; immutable, so that no call needs a reference of its own */
} Checkpoint;

PyObject *cm_checkpoint_wrap(cm_module *module, cm_checkpoint *checkpoint)
{
    Checkpoint *self = (Checkpoint *)module->checkpoint->tp_alloc(module->checkpoint, 0);
    if (!self) {
        cm_checkpoint_unref(checkpoint);
        return NULL;
    }
    self->checkpoint = checkpoint;
    return (PyObject *)self;
}

cm_checkpoint *cm_checkpoint_unwrap(PyObject *self)
{
    return ((Checkpoint *)self)->checkpoint;
}

static void checkpoint_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cm_checkpoint *checkpoint = cm_checkpoint_unwrap(self);
    if (checkpoint) {
        Py_BEGIN_ALLOW_THREADS
        cm_checkpoint_unref(checkpoint); /* may hold the last reference to its store */
        Py_END_ALLOW_THREADS
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- facts ------------------------------------------------------------------------------------------------------- */

static PyObject *checkpoint_id(PyObject *self, void *Py_UNUSED(closure))
{
    return cm_id_text(cm_checkpoint_id(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_session(PyObject *self, void *Py_UNUSED(closure))
{
    return cm_text(cm_checkpoint_session(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_number(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(cm_checkpoint_number(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_time(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(cm_checkpoint_time(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_message(PyObject *self, void *Py_UNUSED(closure))
{
    return cm_text(cm_checkpoint_message(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_code(PyObject *self, void *Py_UNUSED(closure))
{
    return cm_text(cm_checkpoint_code(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_store(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_DecodeFSDefault(cm_store_path(cm_checkpoint_store(cm_checkpoint_unwrap(self))));
}

static PyObject *checkpoint_variable_count(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(cm_checkpoint_variable_count(cm_checkpoint_unwrap(self)));
}

static PyObject *checkpoint_parents(PyObject *self, void *Py_UNUSED(closure))
{
    const cm_checkpoint *checkpoint = cm_checkpoint_unwrap(self);
    size_t count = cm_checkpoint_parent_count(checkpoint);
    PyObject *parents = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; parents && i < count; i++) {
        PyObject *parent = Py_BuildValue("(KN)", (unsigned long long)cm_checkpoint_parent_number(checkpoint, i),
                                         cm_id_text(cm_checkpoint_parent(checkpoint, i)));
        if (parent)
            PyTuple_SET_ITEM(parents, (Py_ssize_t)i, parent);
        else
            Py_CLEAR(parents);
    }
    return parents;
}

static PyObject *checkpoint_unsaved(PyObject *self, void *Py_UNUSED(closure))
{
    const cm_checkpoint *checkpoint = cm_checkpoint_unwrap(self);
    PyObject *unsaved = PyDict_New();
    for (size_t i = 0; unsaved && i < cm_checkpoint_unsaved_count(checkpoint); i++) {
        PyObject *name = cm_text(cm_checkpoint_unsaved_name(checkpoint, i));
        PyObject *reason = cm_text(cm_checkpoint_unsaved_reason(checkpoint, i));
        if (!name || !reason || PyDict_SetItem(unsaved, name, reason))
            Py_CLEAR(unsaved);
        Py_XDECREF(name);
        Py_XDECREF(reason);
    }
    return unsaved;
}

static PyObject *checkpoint_cell(PyObject *self, void *Py_UNUSED(closure))
{
    const cm_cell *cell = cm_checkpoint_cell(cm_checkpoint_unwrap(self));
    if (!cell)
        Py_RETURN_NONE;
    return Py_BuildValue("(KKN)", (unsigned long long)cell->execution, (unsigned long long)cell->duration_ns,
                         cm_text(cell->error));
}

static PyObject *checkpoint_stats(PyObject *self, void *Py_UNUSED(closure))
{
    const cm_save_stats *s = cm_checkpoint_stats(cm_checkpoint_unwrap(self));
    return Py_BuildValue("(KKKKKK)", (unsigned long long)s->logical_bytes, (unsigned long long)s->bytes_written,
                         (unsigned long long)s->pods, (unsigned long long)s->pods_new, (unsigned long long)s->walk_ns,
                         (unsigned long long)s->write_ns);
}

/* Raises what reading from the checkpoint failed with; it may have been removed. */
static PyObject *raise_for(PyObject *self, int result)
{
    Py_BEGIN_ALLOW_THREADS
    result = cm_checkpoint_failed(cm_checkpoint_unwrap(self), result);
    Py_END_ALLOW_THREADS
    return cm_raise(cm_module_of(self), result);
}

static PyObject *checkpoint_exists(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_checkpoint *checkpoint = cm_checkpoint_unwrap(self);
    cm_object_info info;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_object_stat(cm_checkpoint_store(checkpoint), cm_checkpoint_id(checkpoint), &info);
    Py_END_ALLOW_THREADS
    if (result < 0 && result != -ENOENT)
        return cm_raise(cm_module_of(self), result);
    return PyBool_FromLong(result == 0);
}

/* ---- variables --------------------------------------------------------------------------------------------------- */

static PyObject *checkpoint_variables(PyObject *self, PyObject *Py_UNUSED(none))
{
    const cm_variable *variables = NULL;
    size_t count = 0;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_checkpoint_variables(cm_checkpoint_unwrap(self), &variables, &count);
    Py_END_ALLOW_THREADS
    if (result < 0)
        return raise_for(self, result);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *variable = cm_variable_tuple(&variables[i]);
        if (variable)
            PyList_SET_ITEM(list, (Py_ssize_t)i, variable);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *checkpoint_variable(PyObject *self, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    const cm_variable *variable = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_checkpoint_variable(cm_checkpoint_unwrap(self), name, &variable);
    Py_END_ALLOW_THREADS
    return result < 0 ? raise_for(self, result) : cm_variable_tuple(variable);
}

static PyObject *checkpoint_preview(PyObject *self, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    void *data = NULL;
    size_t size = 0;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_checkpoint_preview(cm_checkpoint_unwrap(self), name, &data, &size);
    Py_END_ALLOW_THREADS
    if (result < 0)
        return raise_for(self, result);
    if (!data)
        Py_RETURN_NONE;
    PyObject *picture = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    free(data);
    return picture;
}

typedef struct differences {
    PyThreadState *state; /* released while the core works, held while a difference is noted */
    PyObject *list;
} differences;

static int note_difference(void *arg, enum cm_change change, const cm_variable *before, const cm_variable *after)
{
    differences *d = arg;
    PyEval_RestoreThread(d->state);
    PyObject *b = before ? cm_variable_tuple(before) : Py_NewRef(Py_None);
    PyObject *a = after ? cm_variable_tuple(after) : Py_NewRef(Py_None);
    PyObject *entry = b && a ? Py_BuildValue("(COO)", (int)change, b, a) : NULL;
    int failed = !entry || PyList_Append(d->list, entry);
    Py_XDECREF(entry);
    Py_XDECREF(a);
    Py_XDECREF(b);
    d->state = PyEval_SaveThread();
    return failed ? -ECANCELED : 0; /* the Python exception stays set on this thread */
}

static PyObject *checkpoint_diff(PyObject *self, PyObject *other)
{
    cm_module *module = cm_module_of(self);
    if (other != Py_None && !Py_IS_TYPE(other, module->checkpoint))
        return PyErr_Format(PyExc_TypeError, "diff() takes a Checkpoint or None, not %s", Py_TYPE(other)->tp_name);
    differences d = {.list = PyList_New(0)};
    if (!d.list)
        return NULL;
    d.state = PyEval_SaveThread();
    int result = cm_checkpoint_diff(other == Py_None ? NULL : cm_checkpoint_unwrap(other), cm_checkpoint_unwrap(self),
                                    note_difference, &d);
    PyEval_RestoreThread(d.state);
    if (result == 0)
        return d.list;
    Py_DECREF(d.list);
    return PyErr_Occurred() ? NULL : raise_for(self, result);
}

typedef struct objects {
    PyThreadState *state;
    PyObject *list;
} objects;

static int note_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    objects *o = arg;
    PyEval_RestoreThread(o->state);
    PyObject *entry = Py_BuildValue("(NsKK)", cm_id_text(id), cm_kind_name(info->kind), (unsigned long long)info->size,
                                    (unsigned long long)info->stored);
    int failed = !entry || PyList_Append(o->list, entry);
    Py_XDECREF(entry);
    o->state = PyEval_SaveThread();
    return failed ? -ECANCELED : 0;
}

static PyObject *checkpoint_objects(PyObject *self, PyObject *Py_UNUSED(none))
{
    objects o = {.list = PyList_New(0)};
    if (!o.list)
        return NULL;
    o.state = PyEval_SaveThread();
    int result = cm_checkpoint_objects(cm_checkpoint_unwrap(self), note_object, &o);
    PyEval_RestoreThread(o.state);
    if (result == 0)
        return o.list;
    Py_DECREF(o.list);
    return PyErr_Occurred() ? NULL : raise_for(self, result);
}

typedef struct alone_types {
    PyThreadState *state; /* released while the core works */
    PyObject *types;
} alone_types;

static bool is_alone(void *arg, const cm_variable *variable)
{
    alone_types *a = arg;
    PyEval_RestoreThread(a->state);
    PyObject *type = cm_text(variable->type);
    bool alone = type && PySet_Contains(a->types, type) == 1;
    Py_XDECREF(type);
    PyErr_Clear();
    a->state = PyEval_SaveThread();
    return alone;
}

static PyObject *checkpoint_groups(PyObject *self, PyObject *types)
{
    if (!PyAnySet_Check(types))
        return PyErr_Format(PyExc_TypeError, "groups() takes a set, not %s", Py_TYPE(types)->tp_name);
    uint32_t *groups = NULL;
    size_t count = 0;
    alone_types alone = {PyEval_SaveThread(), types};
    int result = cm_checkpoint_groups(cm_checkpoint_unwrap(self), is_alone, &alone, &groups, &count);
    PyEval_RestoreThread(alone.state);
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    const cm_variable *variables = NULL;
    result = cm_checkpoint_variables(cm_checkpoint_unwrap(self), &variables, &count); /* loaded already */
    PyObject *found = result < 0 ? cm_raise(cm_module_of(self), result) : PyDict_New();
    for (size_t i = 0; found && i < count; i++) {
        PyObject *leader = cm_text(variables[groups[i]].name);
        if (!leader || PyDict_SetItemString(found, variables[i].name, leader))
            Py_CLEAR(found);
        Py_XDECREF(leader);
    }
    free(groups);
    return found;
}

static PyObject *checkpoint_pages(PyObject *self, PyObject *Py_UNUSED(none))
{
    uint64_t *pages = NULL;
    size_t count = 0;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_checkpoint_pages(cm_checkpoint_unwrap(self), &pages, &count);
    Py_END_ALLOW_THREADS
    if (result < 0)
        return raise_for(self, result);
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)pages, (Py_ssize_t)(count * sizeof *pages));
    free(pages);
    return bytes;
}

/* ---- linking ----------------------------------------------------------------------------------------------------- */

/* The names as C strings borrowed from `names`, a tuple of str; the caller frees the array. */
static const char **borrow_names(PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    const char **array = PyMem_Calloc((size_t)count + 1, sizeof(*array));
    if (!array) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        array[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i)); /* TypeError unless str */
        if (!array[i]) {
            PyMem_Free(array);
            return NULL;
        }
    }
    return array;
}

static PyObject *checkpoint_have(PyObject *self, PyObject *args)
{
    cm_module *module = cm_module_of(self);
    PyObject *here, *sequence = NULL;
    if (!PyArg_ParseTuple(args, "O!|O", module->checkpoint, &here, &sequence))
        return NULL;
    PyObject *names = sequence ? PySequence_Tuple(sequence) : PyTuple_New(0);
    const char **array = names ? borrow_names(names) : NULL;
    PyObject *have = NULL;
    if (array)
        have = cm_have_make(module, cm_checkpoint_unwrap(here), cm_checkpoint_unwrap(self), array,
                            (size_t)PyTuple_GET_SIZE(names));
    PyMem_Free(array);
    Py_XDECREF(names);
    return have;
}

/* The Have that an argument is, or NULL: None. False with an exception. */
static bool have_of(PyObject *self, PyObject *argument, cm_have **have)
{
    *have = NULL;
    if (argument == Py_None)
        return true;
    if (!Py_IS_TYPE(argument, cm_module_of(self)->have)) {
        PyErr_Format(PyExc_TypeError, "have is a Have or None, not %s", Py_TYPE(argument)->tp_name);
        return false;
    }
    *have = cm_have_unwrap(argument);
    return true;
}

static PyObject *checkpoint_link(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"names", "namespace", "buffers", "have", NULL};
    PyObject *sequence = Py_None, *had = Py_None;
    int as_namespace = 1, buffers = 1;
    cm_have *have;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OppO", (char **)keywords, &sequence, &as_namespace, &buffers,
                                     &had) ||
        !have_of(self, had, &have))
        return NULL;
    PyObject *names = sequence == Py_None ? PyTuple_New(0) : PySequence_Tuple(sequence);
    if (!names)
        return NULL;
    const char **array = borrow_names(names);
    if (!array) {
        Py_DECREF(names);
        return NULL;
    }
    unsigned flags = (as_namespace ? CM_LINK_NAMESPACE : 0) | (buffers ? CM_LINK_BUFFERS : 0);
    cm_link *link = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_link_open_have(cm_checkpoint_unwrap(self), array, (size_t)PyTuple_GET_SIZE(names), flags, have, &link);
    Py_END_ALLOW_THREADS
    PyMem_Free(array);
    Py_DECREF(names);
    return result < 0 ? raise_for(self, result) : cm_link_wrap(cm_module_of(self), link);
}

/* The Unpickler's file for the named variables, or NULL with an exception. */
static PyObject *open_ahead(PyObject *self, PyObject *names, cm_have *have)
{
    cm_checkpoint *checkpoint = cm_checkpoint_unwrap(self);
    const char **array = borrow_names(names);
    if (!array)
        return NULL;
    cm_stream *stream = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_stream_open(checkpoint, array, (size_t)PyTuple_GET_SIZE(names), CM_LINK_NAMESPACE | CM_LINK_BUFFERS,
                            &stream);
    if (!result && have)
        cm_stream_have(stream, have);
    Py_END_ALLOW_THREADS
    PyMem_Free(array);
    if (result < 0)
        return raise_for(self, result);
    return cm_ahead_new(cm_module_of(self), cm_checkpoint_store(checkpoint), stream);
}

static PyObject *checkpoint_load(PyObject *self, PyObject *args)
{
    PyObject *sequence = Py_None, *unpickler = Py_None, *had = Py_None;
    cm_have *have;
    if (!PyArg_ParseTuple(args, "|OOO", &sequence, &unpickler, &had) || !have_of(self, had, &have))
        return NULL;
    PyObject *names = sequence == Py_None ? PyTuple_New(0) : PySequence_Tuple(sequence);
    PyObject *ahead = names ? open_ahead(self, names, have) : NULL;
    PyObject *make = unpickler == Py_None ? cm_module_of(self)->unpickler : unpickler;
    PyObject *value = ahead ? cm_unpickle(make, ahead) : NULL;
    if (!value && ahead && cm_ahead_conflicts(ahead)) {
        PyErr_Clear();
        PyObject *link = PyObject_CallMethod(self, "link", "(OiiO)", names, 1, 1, had);
        value = link ? PyObject_CallMethod(link, "load", "(O)", unpickler) : NULL;
        Py_XDECREF(link);
    }
    Py_XDECREF(ahead);
    Py_XDECREF(names);
    return value;
}

/* ---- the type ---------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"exists", checkpoint_exists, METH_NOARGS,
     PyDoc_STR("exists()\n--\n\nWhether it is still in the store: it may have been removed.")},
    {"variables", checkpoint_variables, METH_NOARGS,
     PyDoc_STR("variables()\n--\n\nAll variables by name, each a tuple of the fields of chipmink.Variable.")},
    {"variable", checkpoint_variable, METH_VARARGS, PyDoc_STR("variable(name, /)\n--\n\nThe tuple of one variable.")},
    {"preview", checkpoint_preview, METH_VARARGS,
     PyDoc_STR("preview(name, /)\n--\n\nWhat the variable looks like, a PNG; None: that was not saved.")},
    {"diff", checkpoint_diff, METH_O,
     PyDoc_STR("diff(before, /)\n--\n\n[('A' | 'R' | 'C', variable before or None, after or None)] from `before`.")},
    {"objects", checkpoint_objects, METH_NOARGS,
     PyDoc_STR("objects()\n--\n\n[(id, kind, size, stored)] of all it consists of, each once.")},
    {"link", (PyCFunction)(void (*)(void))checkpoint_link, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("link(names=None, namespace=True, buffers=True, have=None)\n--\n\n"
               "The pickle stream of the named variables (of all); namespace: as a dict, else of the one value.")},
    {"load", checkpoint_load, METH_VARARGS,
     PyDoc_STR(
         "load(names=None, unpickler=None, have=None, /)\n--\n\n"
         "Unpickles the named variables (all) as a dict; unpickler(file, buffers=...): instead of pickle.Unpickler. "
         "`have`: what the program has is not loaded, but asked for with persistent ids.")},
    {"pages", checkpoint_pages, METH_NOARGS,
     PyDoc_STR("pages()\n--\n\nThe pages that something may refer to from elsewhere, 8 bytes each.")},
    {"have", checkpoint_have, METH_VARARGS,
     PyDoc_STR(
         "have(here, by_name=(), /)\n--\n\nWhat of it a program has that is at the checkpoint `here`; variables that "
         "refer to others by name alone are so named.")},
    {"groups", checkpoint_groups, METH_O,
     PyDoc_STR("groups(types, /)\n--\n\n"
               "{name: name}: variables that share objects have the same one of them; what variables of `types`, a set "
               "of type names, refer to does not count.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"id", checkpoint_id, NULL, PyDoc_STR("SHA-256 of its record, 64 hexadecimal digits."), NULL},
    {"session", checkpoint_session, NULL, PyDoc_STR("Name of its session."), NULL},
    {"number", checkpoint_number, NULL, PyDoc_STR("Its number in the session, from 1."), NULL},
    {"time", checkpoint_time, NULL, PyDoc_STR("Nanoseconds since the epoch."), NULL},
    {"message", checkpoint_message, NULL, PyDoc_STR("What was said when it was saved, or None."), NULL},
    {"code", checkpoint_code, NULL, PyDoc_STR("The code that led to it, or None."), NULL},
    {"cell", checkpoint_cell, NULL, PyDoc_STR("(execution number, nanoseconds, error or None), or None."), NULL},
    {"store", checkpoint_store, NULL, PyDoc_STR("Path of its store."), NULL},
    {"parents", checkpoint_parents, NULL, PyDoc_STR("((number, id), ...)."), NULL},
    {"unsaved", checkpoint_unsaved, NULL, PyDoc_STR("{name: reason} of what could not be saved."), NULL},
    {"stats", checkpoint_stats, NULL, PyDoc_STR("(logical bytes, bytes written, pods, new pods, walk ns, write ns)."),
     NULL},
    {"variable_count", checkpoint_variable_count, NULL, PyDoc_STR("How many variables it has."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("One saved state of a session.")},
    {Py_tp_dealloc, (void *)checkpoint_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

PyType_Spec cm_checkpoint_spec = {
    .name = "chipmink._core.Checkpoint",
    .basicsize = sizeof(Checkpoint),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
