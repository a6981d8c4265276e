/* SPDX-License-Identifier: Apache-2.0 */
/*
 * have.c - chipmink._core.Have: what of a checkpoint the program has; chipmink._core.Met: the objects of the program that a save met.
 */
#include "module.h"

#include <stdlib.h>

#include "walk.h"

/* ---- Have -------------------------------------------------------------------------------------------------------- */

typedef struct have_object {
    PyObject_HEAD
    cm_have *have; /* never NULL */
    PyObject *kept;
} have_object;

cm_have *cm_have_unwrap(PyObject *self)
{
    return ((have_object *)self)->have;
}

/* The names of the variables that are kept. */
static PyObject *list_kept(cm_checkpoint *target, const cm_have *have)
{
    const cm_variable *variables = NULL;
    size_t count = 0;
    PyObject *kept = cm_checkpoint_variables(target, &variables, &count) ? NULL : PyList_New(0); /* loaded already */
    for (size_t i = 0; kept && i < count; i++) {
        PyObject *name = cm_have_keeps(have, i) ? cm_text(variables[i].name) : Py_NewRef(Py_None);
        if (!name || (name != Py_None && PyList_Append(kept, name)))
            Py_CLEAR(kept);
        Py_XDECREF(name);
    }
    return kept;
}

PyObject *cm_have_make(cm_module *module, cm_checkpoint *here, cm_checkpoint *target, const char *const *by_name,
                       size_t count)
{
    cm_have *have = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_have_new(here, target, by_name, count, &have);
    Py_END_ALLOW_THREADS
    if (result < 0)
        return cm_raise(module, result);
    have_object *self = (have_object *)module->have->tp_alloc(module->have, 0);
    if (!self) {
        cm_have_unref(have);
        return NULL;
    }
    self->have = have;
    self->kept = list_kept(target, have);
    if (!self->kept)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void have_dealloc(PyObject *object)
{
    have_object *self = (have_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->kept);
    cm_have_unref(self->have);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *have_kept(PyObject *object, void *Py_UNUSED(closure))
{
    return PyList_GetSlice(((have_object *)object)->kept, 0, PY_SSIZE_T_MAX);
}

static PyGetSetDef have_getset[] = {
    {"kept", have_kept, NULL, PyDoc_STR("Names of the variables that are the same."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot have_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("What of a checkpoint a program has that is at another one; from Checkpoint.have().")},
    {Py_tp_dealloc, (void *)have_dealloc},
    {Py_tp_getset, have_getset},
    {0, NULL},
};

PyType_Spec cm_have_spec = {
    .name = "chipmink._core.Have",
    .basicsize = sizeof(have_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = have_slots,
};

/* ---- Met --------------------------------------------------------------------------------------------------------- */

typedef struct met_object {
    PyObject_HEAD
    cm_met *met; /* by page and index */
    size_t count;
} met_object;

static int by_address(const void *a, const void *b)
{
    const cm_met *x = a, *y = b;
    if (x->page != y->page)
        return x->page < y->page ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

PyObject *cm_met_make(cm_module *module, cm_walk *walk, const uint64_t *pages, size_t count)
{
    met_object *self = (met_object *)module->met->tp_alloc(module->met, 0);
    if (!self)
        return NULL;
    /* Until it is done nothing else may run; the collector knows nothing of it, for what it holds is held elsewhere, too. */
    if (cm_walk_met(walk, pages, count, &self->met, &self->count)) {
        Py_DECREF(self);
        return NULL;
    }
    if (self->count)
        qsort(self->met, self->count, sizeof *self->met, by_address);
    return (PyObject *)self;
}

static PyObject *met_clear(PyObject *object, PyObject *Py_UNUSED(none))
{
    met_object *self = (met_object *)object;
    cm_met *met = self->met;
    size_t count = self->count;
    self->met = NULL; /* before finalizers run */
    self->count = 0;
    for (size_t i = 0; i < count; i++)
        Py_DECREF(met[i].object);
    free(met);
    Py_RETURN_NONE;
}

static void met_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_DECREF(met_clear(object, NULL));
    type->tp_free(object);
    Py_DECREF(type);
}

/* The first one at the page from that index on. */
static size_t place_of(const met_object *self, uint64_t page, uint32_t index)
{
    const cm_met wanted = {.page = page, .index = index};
    size_t low = 0, high = self->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_address(&self->met[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What calls that method of what it is called with. */
static PyObject *adder(PyObject *method)
{
    PyObject *module = PyImport_ImportModule("operator");
    PyObject *caller = module ? PyObject_GetAttrString(module, "methodcaller") : NULL;
    PyObject *made = caller ? PyObject_CallObject(caller, method) : NULL;
    Py_XDECREF(caller);
    Py_XDECREF(module);
    return made;
}

/* `id`: a persistent id, see cm_link_open_have. */
static PyObject *met_find(PyObject *object, PyObject *id)
{
    const met_object *self = (met_object *)object;
    if (!PyBytes_CheckExact(id) || PyBytes_GET_SIZE(id) != CM_HAVE_ID)
        return PyErr_Format(PyExc_TypeError, "find() takes %d bytes", (int)CM_HAVE_ID);
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(id);
    uint64_t page = 0;
    uint32_t index = 0;
    for (int i = 0; i < 8; i++)
        page |= (uint64_t)bytes[i] << (8 * i);
    for (int i = 0; i < 4; i++)
        index |= (uint32_t)bytes[8 + i] << (8 * i);
    bool root = index == CM_INDEX_ROOT;
    for (size_t i = place_of(self, page, root ? 0 : index); i < self->count && self->met[i].page == page; i++)
        if (root ? self->met[i].is_root : self->met[i].index == index)
            return index == CM_INDEX_RUN ? adder(self->met[i].object) : Py_NewRef(self->met[i].object);
        else if (!root)
            break;
    return PyErr_Format(PyExc_LookupError, "the save has met no object %u of page %016llx", (unsigned)index,
                        (unsigned long long)page);
}

static PyMethodDef met_methods[] = {
    {"clear", met_clear, METH_NOARGS, PyDoc_STR("clear()\n--\n\nLets go of them.")},
    {"find", met_find, METH_O, PyDoc_STR("find(id, /)\n--\n\nThe object with that persistent id, or LookupError.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot met_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Objects that a save has met, by their addresses; from Saving.met().")},
    {Py_tp_dealloc, (void *)met_dealloc},
    {Py_tp_methods, met_methods},
    {0, NULL},
};

PyType_Spec cm_met_spec = {
    .name = "chipmink._core.Met",
    .basicsize = sizeof(met_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = met_slots,
};
