/* SPDX-License-Identifier: Apache-2.0 */
/* module.c - chipmink._core: the module, its state, its exceptions. */
#include "module.h"
#include "walk_entries.h"

#include <errno.h>
#include <stdlib.h>

/* ---- exceptions -------------------------------------------------------------------------------------------------- */

static const char *const error_class_names[CM_ERROR_CLASS_COUNT] = {
    [CM_ERROR_STORE] = "StoreError",    [CM_ERROR_NO_STORE] = "StoreNotFound", [CM_ERROR_BUSY] = "Busy",
    [CM_ERROR_READ_ONLY] = "ReadOnly",  [CM_ERROR_FORMAT] = "FormatError",     [CM_ERROR_NOT_FOUND] = "NotFound",
    [CM_ERROR_INVALID] = "InvalidName", [CM_ERROR_CORRUPT] = "Corrupt",
};

static cm_error_class class_of(int result)
{
    switch (-result) {
    case ENOENT:
        return CM_ERROR_NOT_FOUND;
    case EBUSY:
        return CM_ERROR_BUSY;
    case EROFS:
        return CM_ERROR_READ_ONLY;
    case EPROTONOSUPPORT:
        return CM_ERROR_FORMAT;
    case EINVAL:
        return CM_ERROR_INVALID;
    case EILSEQ:
    case EBADMSG:
        return CM_ERROR_CORRUPT;
    default:
        return CM_ERROR_STORE;
    }
}

static PyObject *raise(const cm_module *module, cm_error_class cls, int result, const char *sentence)
{
    PyObject *message = cm_text(*sentence ? sentence : strerror(-result));
    if (!message)
        return NULL;
    if (result == -ENOMEM) {
        PyErr_SetObject(PyExc_MemoryError, message);
        Py_DECREF(message);
        return NULL;
    }
    PyObject *error = PyObject_CallOneArg(module->errors[cls], message);
    Py_DECREF(message);
    if (!error)
        return NULL;
    int is_os_error = PyObject_IsInstance(error, PyExc_OSError);
    if (is_os_error > 0) {
        PyObject *code = PyLong_FromLong(-result);
        if (!code || PyObject_SetAttrString(error, "errno", code))
            is_os_error = -1;
        Py_XDECREF(code);
    }
    if (is_os_error >= 0)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

PyObject *cm_raise_as(const cm_module *module, cm_error_class cls, int result)
{
    return raise(module, cls, result, cm_error_message());
}

PyObject *cm_raise_text(const cm_module *module, int result, const char *sentence)
{
    return raise(module, class_of(result), result, sentence);
}

PyObject *cm_raise(const cm_module *module, int result)
{
    return cm_raise_as(module, class_of(result), result);
}

/* ---- conversions ------------------------------------------------------------------------------------------------- */

PyObject *cm_text(const char *s)
{
    if (!s)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(s, (Py_ssize_t)strlen(s), "surrogateescape");
}

PyObject *cm_id_text(const cm_id *id)
{
    char hex[CM_ID_HEX + 1];
    cm_id_hex(id, hex);
    return PyUnicode_FromStringAndSize(hex, CM_ID_HEX);
}

PyObject *cm_variable_tuple(const cm_variable *v)
{
    return Py_BuildValue("(NNNKKKKKLN)", cm_text(v->name), cm_text(v->type), cm_text(v->summary),
                         (unsigned long long)v->rank, (unsigned long long)v->size, (unsigned long long)v->stored,
                         (unsigned long long)v->pods, (unsigned long long)v->changed, (long long)v->changed_time,
                         cm_id_text(&v->content));
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static PyObject *default_path(PyObject *self, PyObject *Py_UNUSED(none))
{
    char *path = NULL;
    int result = cm_store_default_path(&path);
    if (result < 0)
        return cm_raise(PyModule_GetState(self), result);
    PyObject *text = PyUnicode_DecodeFSDefault(path);
    free(path);
    return text;
}

static PyObject *attributes(PyObject *self, PyObject *object)
{
    (void)self;
    if (!cm_attributes_inside(object))
        Py_RETURN_NONE;
    PyObject *dict = PyObject_GenericGetDict(object, NULL), *copy = dict ? PyDict_Copy(dict) : NULL;
    Py_XDECREF(dict);
    cm_attributes_return(object);
    return copy;
}

static PyMethodDef methods[] = {
    {"attributes", attributes, METH_O,
     PyDoc_STR(
         "attributes(object, /)\n--\n\n"
         "A copy of the attributes of an instance whose __dict__ nobody has asked for; None: that was done. To look "
         "at them without making the instance slower.")},
    {"default_path", default_path, METH_NOARGS,
     PyDoc_STR("default_path()\n--\n\n$CHIPMINK_STORE or ~/.chipmink, absolute.")},
    {"save", (PyCFunction)(void (*)(void))cm_py_save, METH_VARARGS | METH_KEYWORDS, cm_py_save_doc},
    {"lent", cm_py_lent, METH_VARARGS, cm_py_lent_doc},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *self, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(self, spec, NULL);
    return *type ? PyModule_AddType(self, *type) : -1;
}

static int import_from(const char *module_name, const char *name, PyObject **object)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (!module)
        return -1;
    *object = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return *object ? 0 : -1;
}

static int exec_module(PyObject *self)
{
    cm_module *module = PyModule_GetState(self);
    if (add_type(self, &cm_store_spec, &module->store) || add_type(self, &cm_checkpoint_spec, &module->checkpoint) ||
        add_type(self, &cm_link_spec, &module->link) || add_type(self, &cm_ahead_spec, &module->ahead) ||
        add_type(self, &cm_view_spec, &module->view) || add_type(self, &cm_shadow_spec, &module->shadow) ||
        add_type(self, &cm_saving_spec, &module->saving) || add_type(self, &cm_device_spec, &module->device) ||
        add_type(self, &cm_device_memory_spec, &module->device_memory) ||
        add_type(self, &cm_have_spec, &module->have) || add_type(self, &cm_met_spec, &module->met))
        return -1;
    for (int i = 0; i < CM_ERROR_CLASS_COUNT; i++)
        if (import_from("chipmink._errors", error_class_names[i], &module->errors[i]))
            return -1;
    if (import_from("_pickle", "Unpickler", &module->unpickler))
        return -1;
    return PyModule_AddStringConstant(self, "__version__", CM_VERSION);
}

static int traverse_module(PyObject *self, visitproc visit, void *arg)
{
    cm_module *module = PyModule_GetState(self);
    Py_VISIT(module->store);
    Py_VISIT(module->checkpoint);
    Py_VISIT(module->link);
    Py_VISIT(module->ahead);
    Py_VISIT(module->view);
    Py_VISIT(module->shadow);
    Py_VISIT(module->saving);
    Py_VISIT(module->device);
    Py_VISIT(module->device_memory);
    Py_VISIT(module->have);
    Py_VISIT(module->met);
    for (int i = 0; i < CM_ERROR_CLASS_COUNT; i++)
        Py_VISIT(module->errors[i]);
    Py_VISIT(module->unpickler);
    return 0;
}

static int clear_module(PyObject *self)
{
    cm_module *module = PyModule_GetState(self);
    Py_CLEAR(module->store);
    Py_CLEAR(module->checkpoint);
    Py_CLEAR(module->link);
    Py_CLEAR(module->ahead);
    Py_CLEAR(module->view);
    Py_CLEAR(module->shadow);
    Py_CLEAR(module->saving);
    Py_CLEAR(module->device);
    Py_CLEAR(module->device_memory);
    Py_CLEAR(module->have);
    Py_CLEAR(module->met);
    for (int i = 0; i < CM_ERROR_CLASS_COUNT; i++)
        Py_CLEAR(module->errors[i]);
    Py_CLEAR(module->unpickler);
    return 0;
}

static void free_module(void *self)
{
    clear_module(self);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)exec_module},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "chipmink._core",
    .m_doc = PyDoc_STR("libchipmink for Python: stores, checkpoints, saving and linking. Use the package chipmink."),
    .m_size = sizeof(cm_module),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
