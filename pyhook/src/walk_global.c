/* SPDX-License-Identifier: Apache-2.0 */
/* walk_global.c - what is saved by name, and how the instances of a type are saved; each found out once per walk. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "walk_private.h"

#include <stdlib.h>

/* ---- globals ------------------------------------------------------------------------------------------------------ */

static void global_free(cm_global *global)
{
    Py_XDECREF(global->object);
    Py_XDECREF(global->module);
    Py_XDECREF(global->name);
    free(global);
}

static int hash_text(PyObject *text, uint64_t seed, uint64_t *hash)
{
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    if (!bytes)
        return -1;
    *hash = XXH3_64bits_withSeed(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), seed);
    Py_DECREF(bytes);
    return 0;
}

/* Keeps what chipmink._reducers said: (module, name) in exact str, or None. Steals `names`. */
static int add_global(cm_walk *walk, PyObject *object, PyObject *names, const cm_global **result)
{
    *result = NULL;
    if (!names)
        return -1;
    cm_global *global = calloc(1, sizeof *global);
    if (!global) {
        Py_DECREF(names);
        PyErr_NoMemory();
        return -1;
    }
    global->object = Py_NewRef(object);
    if (names != Py_None) {
        PyObject *module, *name;
        if (!PyTuple_CheckExact(names) || PyTuple_GET_SIZE(names) != 2 ||
            !PyUnicode_CheckExact(module = PyTuple_GET_ITEM(names, 0)) ||
            !PyUnicode_CheckExact(name = PyTuple_GET_ITEM(names, 1))) {
            PyErr_SetString(PyExc_TypeError, "a global's address is not a pair of strings");
            goto failed;
        }
        global->module = Py_NewRef(module);
        global->name = Py_NewRef(name);
        if (hash_text(module, 0, &global->hash) < 0 || hash_text(name, global->hash, &global->hash) < 0)
            goto failed;
    }
    if (cm_table_add(&walk->globals, global) < 0)
        goto failed;
    Py_DECREF(names);
    *result = global->name ? global : NULL;
    return 0;
failed:
    Py_DECREF(names);
    global_free(global);
    return -1;
}

/* A record of an object that stands for itself (same NULL) or for what an equal one was recorded as. */
static cm_global *add_value(cm_walk *walk, PyObject *object, const cm_global *same, uint64_t hash)
{
    cm_global *value = calloc(1, sizeof *value);
    if (!value) {
        PyErr_NoMemory();
        return NULL;
    }
    value->object = Py_NewRef(object);
    value->same = same ? same : value;
    value->hash = hash;
    if (cm_table_add(&walk->globals, value) < 0) {
        global_free(value);
        return NULL;
    }
    return value;
}

int cm_walk_locate_value(cm_walk *walk, PyObject *object, const cm_global **value)
{
    const cm_global *known = cm_table_find(&walk->globals, object);
    if (known) {
        *value = known->same;
        return 0;
    }
    *value = NULL;
    PyObject *found = PyObject_CallMethodOneArg(walk->reducers, walk->str_value, object);
    if (!found)
        return -1;
    cm_global *record = NULL;
    if (found == Py_None) {
        record = add_value(walk, object, NULL, 0);
        if (record)
            record->same = NULL;
    } else if (PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == 2 &&
               PyBytes_CheckExact(PyTuple_GET_ITEM(found, 1))) {
        PyObject *first = PyTuple_GET_ITEM(found, 0), *key = PyTuple_GET_ITEM(found, 1);
        uint64_t hash = XXH3_64bits(PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
        const cm_global *same = cm_table_find(&walk->globals, first);
        if (!same)
            same = add_value(walk, first, NULL, hash);
        if (same && same->object != object)
            record = add_value(walk, object, same, hash);
        else
            record = (cm_global *)same;
    } else {
        PyErr_SetString(PyExc_TypeError, "a value is not a pair of an object and bytes");
    }
    Py_DECREF(found);
    if (!record)
        return -1;
    *value = record->same;
    return 0;
}

int cm_walk_mark(cm_walk *walk, PyObject *dict, bool elements)
{
    if (cm_table_find(&walk->marks, dict))
        return 0;
    cm_mark *mark = calloc(1, sizeof *mark);
    if (!mark) {
        PyErr_NoMemory();
        return -1;
    }
    *mark = (cm_mark){Py_NewRef(dict), elements};
    if (cm_table_add(&walk->marks, mark) < 0) {
        Py_DECREF(dict);
        free(mark);
        return -1;
    }
    return 0;
}

int cm_walk_locate(cm_walk *walk, PyObject *object, const cm_global **global)
{
    const cm_global *known = cm_table_find(&walk->globals, object);
    if (known) {
        *global = known->name ? known : NULL;
        return 0;
    }
    *global = NULL;
    if (!PyType_Check(object) && !PyFunction_Check(object))
        return 0;
    Py_INCREF(object);
    PyObject *names = PyObject_CallMethodOneArg(walk->reducers, walk->str_locate, object);
    int result = add_global(walk, object, names, global);
    Py_DECREF(object);
    return result;
}

int cm_walk_locate_named(cm_walk *walk, PyObject *object, PyObject *name, const cm_global **global)
{
    const cm_global *known = cm_table_find(&walk->globals, object);
    if (known && known->name) {
        *global = known;
        return 0;
    }
    PyObject *names = PyObject_CallMethod(walk->reducers, "locate_named", "OO", object, name);
    if (names && known) { /* a class without a name whose metaclass has reducers that give it one */
        Py_DECREF(names);
        PyErr_Format(walk->pickling_error, "Can't pickle %R: it is not found as %U", object, name);
        return -1;
    }
    return add_global(walk, object, names, global);
}

/* ---- types -------------------------------------------------------------------------------------------------------- */

static bool same_as_object(PyTypeObject *type, PyObject *name)
{
    return _PyType_Lookup(type, name) == _PyType_Lookup(&PyBaseObject_Type, name);
}

static bool has(PyTypeObject *type, const char *name)
{
    PyObject *text = PyUnicode_InternFromString(name);
    bool result = !text || _PyType_Lookup(type, text);
    PyErr_Clear();
    Py_XDECREF(text);
    return result;
}

/* object.__reduce_ex__ refuses instances that have more in them than Python objects. */
static bool size_accounted(const PyTypeObject *type)
{
    Py_ssize_t size = PyBaseObject_Type.tp_basicsize;
    bool managed_dict = false, managed_weakrefs = false;
#ifdef Py_TPFLAGS_MANAGED_DICT
    managed_dict = type->tp_flags & Py_TPFLAGS_MANAGED_DICT;
#endif
#ifdef Py_TPFLAGS_MANAGED_WEAKREF
    managed_weakrefs = type->tp_flags & Py_TPFLAGS_MANAGED_WEAKREF;
#endif
    if (type->tp_dictoffset != 0 && !managed_dict)
        size += (Py_ssize_t)sizeof(PyObject *);
    if (type->tp_weaklistoffset != 0 && !managed_weakrefs)
        size += (Py_ssize_t)sizeof(PyObject *);
    return type->tp_itemsize == 0 && type->tp_basicsize <= size;
}

/*
 * Whether object.__reduce_ex__(5) of every instance is (copyreg.__newobj__, (type,), its __dict__ or None): nothing on the way
 * is overridden, there are no slots, and all classes but object are made by class statements. -1 with an exception.
 */
static int is_plain(cm_walk *walk, PyTypeObject *type)
{
    static const char *const overrides[] = {"__getnewargs_ex__", "__getnewargs__", "__getattr__"};
    if (!same_as_object(type, walk->str_reduce_ex) || !same_as_object(type, walk->str_reduce) ||
        !same_as_object(type, walk->str_getstate) || !same_as_object(type, walk->str_class) ||
        type->tp_getattro != PyObject_GenericGetAttr || !size_accounted(type))
        return 0;
    for (size_t i = 0; i < 3; i++)
        if (has(type, overrides[i]))
            return 0;
    PyObject *mro = type->tp_mro;
    if (!mro || !PyTuple_Check(mro))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (!PyType_Check(base) ||
            (base != (PyObject *)&PyBaseObject_Type && !PyType_HasFeature((PyTypeObject *)base, Py_TPFLAGS_HEAPTYPE)))
            return 0;
    }
    PyObject *dict_name = PyUnicode_InternFromString("__dict__");
    if (!dict_name)
        return -1;
    PyObject *descriptor = _PyType_Lookup(type, dict_name);
    Py_DECREF(dict_name);
    if (descriptor && !Py_IS_TYPE(descriptor, &PyGetSetDescr_Type))
        return 0;
    PyObject *names = PyObject_CallOneArg(walk->slotnames, (PyObject *)type);
    if (!names)
        return -1;
    int plain = PyList_CheckExact(names) && PyList_GET_SIZE(names) == 0;
    Py_DECREF(names);
    return plain;
}

static bool is_named(PyObject *nature, const char *name)
{
    return PyUnicode_Check(nature) && PyUnicode_CompareWithASCIIString(nature, name) == 0;
}

static int classify(cm_walk *walk, cm_type *info)
{
    PyTypeObject *type = info->type;
    Py_CLEAR(info->reducer);
    if (PyType_IsSubtype(type, &PyFunction_Type)) {
        info->kind = CM_TYPE_FUNCTION;
        return 0;
    }
    PyObject *reducer = PyObject_CallMethodOneArg(walk->reducers, walk->str_dispatch, (PyObject *)type);
    PyObject *nature = reducer ? PyObject_CallMethodOneArg(walk->reducers, walk->str_nature, (PyObject *)type) : NULL;
    if (!nature) {
        Py_XDECREF(reducer);
        return -1;
    }
    bool value = is_named(nature, "value"), apart = is_named(nature, "apart");
    info->owner = apart || is_named(nature, "owner");
    info->apart = apart || is_named(nature, "steady");
    Py_DECREF(nature);
    if (reducer != Py_None)
        info->reducer = Py_NewRef(reducer);
    Py_DECREF(reducer);
    if (PyType_IsSubtype(type, &PyType_Type)) {
        info->kind = CM_TYPE_CLASS;
    } else if (value) {
        info->kind = CM_TYPE_VALUE;
    } else if (info->reducer) {
        info->kind = CM_TYPE_DISPATCH;
    } else {
        int plain = is_plain(walk, type);
        if (plain < 0)
            return -1;
        info->kind = plain ? CM_TYPE_PLAIN : CM_TYPE_GENERIC;
    }
    info->version = type->tp_version_tag; /* after what was looked up and cached in the type */
    return 0;
}

cm_type *cm_walk_type(cm_walk *walk, PyTypeObject *type)
{
    cm_type *info = cm_table_find(&walk->types, type);
    if (info) {
        /* A class that was changed meanwhile may reduce otherwise now. */
        if (info->version != type->tp_version_tag && info->kind == CM_TYPE_PLAIN && classify(walk, info) < 0)
            return NULL;
        info->version = type->tp_version_tag;
        return info;
    }
    info = calloc(1, sizeof *info);
    if (!info) {
        PyErr_NoMemory();
        return NULL;
    }
    info->type = (PyTypeObject *)Py_NewRef((PyObject *)type);
    if (classify(walk, info) < 0 || cm_table_add(&walk->types, info) < 0) {
        Py_XDECREF(info->reducer);
        Py_DECREF(type);
        free(info);
        return NULL;
    }
    return info;
}

void cm_walk_globals_free(cm_walk *walk)
{
    for (size_t i = 0; walk->globals.slots && i <= walk->globals.mask; i++)
        if (walk->globals.slots[i])
            global_free(walk->globals.slots[i]);
    for (size_t i = 0; walk->types.slots && i <= walk->types.mask; i++) {
        cm_type *info = walk->types.slots[i];
        if (info) {
            Py_XDECREF(info->reducer);
            Py_DECREF(info->type);
            free(info);
        }
    }
    for (size_t i = 0; walk->marks.slots && i <= walk->marks.mask; i++) {
        cm_mark *mark = walk->marks.slots[i];
        if (mark) {
            Py_DECREF(mark->dict);
            free(mark);
        }
    }
    free(walk->globals.slots);
    free(walk->types.slots);
    free(walk->marks.slots);
    walk->globals = walk->types = walk->marks = (cm_table){0};
}
