/* SPDX-License-Identifier: Apache-2.0 */
/* shadow.c - chipmink._core.Shadow: what a save remembers of a namespace for the next one. */
#include "module.h"

#include "walk_shadow.h"

typedef struct shadow_object {
    PyObject_HEAD
    cm_shadow *shadow;
} shadow_object;

struct cm_shadow *cm_shadow_unwrap(PyObject *self)
{
    return ((shadow_object *)self)->shadow;
}

static PyObject *new_shadow(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"limit", "policy", "filtered", NULL};
    unsigned long long limit = 0;
    const char *name = "size";
    enum cm_policy policy;
    int filtered = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Ksp", (char **)keywords, &limit, &name, &filtered))
        return NULL;
    if (cm_policy_find(name, &policy) < 0) {
        PyErr_SetString(PyExc_ValueError, cm_error_message());
        return NULL;
    }
    shadow_object *self = (shadow_object *)type->tp_alloc(type, 0);
    if (self && !(self->shadow = cm_shadow_new(limit, policy, filtered)))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cm_shadow_free(((shadow_object *)self)->shadow);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *clear(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_shadow_clear(cm_shadow_unwrap(self));
    Py_RETURN_NONE;
}

static PyObject *statistics(PyObject *self, PyObject *Py_UNUSED(none))
{
    const cm_shadow *shadow = cm_shadow_unwrap(self);
    uint64_t memo = shadow->memo.bytes; /* also before the first walk is kept */
    return Py_BuildValue("{sKsKsK}", "reused", shadow->reused, "walked", shadow->walked, "memory",
                         shadow->memory > memo ? shadow->memory : memo);
}

static PyObject *touch(PyObject *self, PyObject *names)
{
    if (cm_shadow_touch(cm_shadow_unwrap(self), names == Py_None ? NULL : names) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"clear", clear, METH_NOARGS, PyDoc_STR("clear()\n--\n\nForgets everything; not while a save uses it.")},
    {"statistics", statistics, METH_NOARGS,
     PyDoc_STR("statistics()\n--\n\nOf the last save: pods reused, pods walked; memory in bytes.")},
    {"touch", touch, METH_O,
     PyDoc_STR("touch(names, /)\n--\n\nThese variables, None for all, may have changed since they were saved.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR(
         "Shadow(limit=0, policy=\"size\", filtered=False)\n--\n\nWhat was saved of a namespace, to find what "
         "changed since. Takes up to `limit` bytes; 0: any number. `policy` decides on pods. Of one that is "
         "`filtered` only what touch() names is looked at, and what shares objects with it.")},
    {Py_tp_new, new_shadow},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec cm_shadow_spec = {
    .name = "chipmink._core.Shadow",
    .basicsize = sizeof(shadow_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
