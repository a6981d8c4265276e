/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_reduce.c - objects saved by the reduce protocol: what __reduce_ex__ and its kin return, as save_reduce of
 * CPython's Modules/_pickle.c treats it, with the stages of a frame in place of recursion.
 */
#include "walk_entries.h"
#include "walk_private.h"

#include <stdlib.h>

enum cm_call { CALL_REDUCE, CALL_NEWOBJ, CALL_NEWOBJ_EX };

enum stage {
    STAGE_CALLABLE,
    STAGE_ARGUMENTS,
    STAGE_KEYWORDS, /* of NEWOBJ_EX */
    STAGE_CALL,
    STAGE_LIST,
    STAGE_DICT,
    STAGE_STATE,
    STAGE_SETTER_OBJECT,
    STAGE_SETTER_STATE,
    STAGE_SETTER_CALL,
    STAGE_BUILD,
    STAGE_CELL,
    STAGE_FILL_CELL,
    STAGE_END,
};

enum { METHOD_FRAMES_MOST = 64, STATE_DICT_BUNDLED = 64, REDUCING_CHECKED = 1024, REENTRIES_MOST = 16 };

/* ---- checking what a reducer returned --------------------------------------------------------------------------------- */

static PyObject *item_or_null(PyObject *value, Py_ssize_t i)
{
    PyObject *item = i < PyTuple_GET_SIZE(value) ? PyTuple_GET_ITEM(value, i) : NULL;
    return item == Py_None ? NULL : item;
}

/* As pickle: recognised by name, whatever module it is from. -1 with an exception. */
static int call_kind(cm_walk *walk, PyObject *callable)
{
    if (callable == walk->newobj)
        return CALL_NEWOBJ;
    if (callable == walk->newobj_ex)
        return CALL_NEWOBJ_EX;
    if (PyType_Check(callable) || PyCFunction_CheckExact(callable))
        return CALL_REDUCE;
    PyObject *name = PyObject_GetAttr(callable, walk->str_name);
    int kind = CALL_REDUCE;
    if (!name) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
    } else if (PyUnicode_Check(name)) {
        if (PyUnicode_CompareWithASCIIString(name, "__newobj__") == 0)
            kind = CALL_NEWOBJ;
        else if (PyUnicode_CompareWithASCIIString(name, "__newobj_ex__") == 0)
            kind = CALL_NEWOBJ_EX;
    }
    Py_XDECREF(name);
    return kind;
}

static int refuse(cm_walk *walk, const char *what)
{
    PyErr_SetString(walk->pickling_error, what);
    return -1;
}

static int check_newobj_ex(cm_walk *walk, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) != 3) {
        PyErr_Format(walk->pickling_error, "length of the NEWOBJ_EX argument tuple must be exactly 3, not %zd",
                     PyTuple_GET_SIZE(args));
        return -1;
    }
    if (!PyType_Check(PyTuple_GET_ITEM(args, 0)))
        return refuse(walk, "first item from NEWOBJ_EX argument tuple must be a class");
    if (!PyTuple_Check(PyTuple_GET_ITEM(args, 1)))
        return refuse(walk, "second item from NEWOBJ_EX argument tuple must be a tuple");
    if (!PyDict_Check(PyTuple_GET_ITEM(args, 2)))
        return refuse(walk, "third item from NEWOBJ_EX argument tuple must be a dict");
    return 0;
}

static int check_newobj(cm_walk *walk, PyObject *args, PyObject *object)
{
    if (PyTuple_GET_SIZE(args) < 1)
        return refuse(walk, "__newobj__ arglist is empty");
    PyObject *cls = PyTuple_GET_ITEM(args, 0);
    if (!PyType_Check(cls))
        return refuse(walk, "args[0] from __newobj__ args is not a type");
    PyObject *own = PyObject_GetAttr(object, walk->str_class);
    if (!own)
        return -1;
    Py_DECREF(own); /* only compared */
    return own == cls ? 0 : refuse(walk, "args[0] from __newobj__ args has the wrong class");
}

/* The kind of call, or -1 with an exception. */
static int check_reduced(cm_walk *walk, PyObject *value, PyObject *object)
{
    if (!PyTuple_Check(value))
        return refuse(walk, "__reduce__ must return a string or tuple");
    Py_ssize_t size = PyTuple_GET_SIZE(value);
    if (size < 2 || size > 6)
        return refuse(walk, "tuple returned by __reduce__ must contain 2 through 6 elements");
    PyObject *callable = PyTuple_GET_ITEM(value, 0), *args = PyTuple_GET_ITEM(value, 1);
    if (!PyCallable_Check(callable))
        return refuse(walk, "first item of the tuple returned by __reduce__ must be callable");
    if (!PyTuple_Check(args))
        return refuse(walk, "second item of the tuple returned by __reduce__ must be a tuple");
    static const char *const names[] = {"fourth", "fifth"};
    for (Py_ssize_t i = 3; i < 5; i++) {
        PyObject *items = item_or_null(value, i);
        if (items && !PyIter_Check(items)) {
            PyErr_Format(walk->pickling_error,
                         "%s element of the tuple returned by __reduce__ must be an iterator, not %.200s", names[i - 3],
                         Py_TYPE(items)->tp_name);
            return -1;
        }
    }
    PyObject *state_setter = item_or_null(value, 5);
    if (state_setter && !PyCallable_Check(state_setter)) {
        PyErr_Format(walk->pickling_error,
                     "sixth element of the tuple returned by __reduce__ must be a function, not %.200s",
                     Py_TYPE(state_setter)->tp_name);
        return -1;
    }
    int kind = call_kind(walk, callable);
    if ((kind == CALL_NEWOBJ_EX && check_newobj_ex(walk, args) < 0) ||
        (kind == CALL_NEWOBJ && check_newobj(walk, args, object) < 0))
        return -1;
    return kind;
}

/* ---- endless reduction --------------------------------------------------------------------------------------------------- */

/*
 * An object is memoized after its arguments, so one that is among its own arguments is reduced again and again. Legal
 * structures do that a few times, until a container in between is found in the memo.
 */
static int check_reentry(cm_walk *walk, const PyObject *object)
{
    uint32_t reducing = walk->reducing;
    if (reducing < REDUCING_CHECKED || (reducing & (reducing - 1)) != 0)
        return 0;
    int entries = 0;
    for (size_t i = 0; i < walk->frame_count; i++)
        entries += walk->frames[i].object == object && walk->frames[i].kind == CM_FRAME_REDUCE;
    if (entries < REENTRIES_MOST)
        return 0;
    PyErr_Format(PyExc_RecursionError, "the reduction of a '%.200s' object contains the object itself",
                 Py_TYPE(object)->tp_name);
    return -1;
}

/* ---- beginning ------------------------------------------------------------------------------------------------------ */

/* Whether a function is met as an attribute of a class that is being saved by value: it belongs to the class. */
static bool is_method(const cm_walk *walk, const PyObject *object)
{
    if (!PyFunction_Check(object))
        return false;
    size_t least = walk->frame_count > METHOD_FRAMES_MOST ? walk->frame_count - METHOD_FRAMES_MOST : 0;
    for (size_t i = walk->frame_count; i-- > least;) {
        const cm_frame *frame = &walk->frames[i];
        if (frame->kind == CM_FRAME_REDUCE && (PyType_Check(frame->object) || PyFunction_Check(frame->object)))
            return PyType_Check(frame->object);
    }
    return false;
}

/*
 * Classes and functions are referred to from everywhere, and what refers to an object needs the whole pod it is in when it is
 * loaded by itself: so they have pods of their own. For other objects the policy is told the size of the buffer or bytes they
 * hand out.
 */
static int place_reduced(cm_walk *walk, PyObject *object, PyObject *value, bool apart)
{
    if (apart || PyType_Check(object) || PyFunction_Check(object))
        return is_method(walk, object) ? 0 : cm_walk_place_apart(walk, object);
    enum cm_class cls = CM_CLASS_INSTANCE;
    uint64_t size = (uint64_t)Py_TYPE(object)->tp_basicsize, length = 0;
    if (PyModule_Check(object) || PyCode_Check(object))
        cls = CM_CLASS_CODE;
    PyObject *args = PyTuple_GET_ITEM(value, 1), *state = item_or_null(value, 2);
    PyObject *parts[] = {args, state};
    for (int i = 0; i < 2; i++) {
        for (Py_ssize_t j = 0; parts[i] && PyTuple_CheckExact(parts[i]) && j < PyTuple_GET_SIZE(parts[i]); j++) {
            PyObject *part = PyTuple_GET_ITEM(parts[i], j);
            if (Py_IS_TYPE(part, &PyPickleBuffer_Type)) {
                const Py_buffer *view = PyPickleBuffer_GetBuffer(part);
                if (!view)
                    return -1;
                cls = CM_CLASS_ARRAY;
                size += (uint64_t)view->len;
            } else if (cm_is_device_memory(walk, part)) {
                cls = CM_CLASS_ARRAY;
                size += cm_device_memory_of(part)->size;
            } else if (PyBytes_CheckExact(part)) {
                size += (uint64_t)PyBytes_GET_SIZE(part);
            }
        }
    }
    if (state && PyDict_CheckExact(state))
        length = (uint64_t)PyDict_GET_SIZE(state);
    return cm_walk_place(walk, object, cls, length, size);
}

/*
 * Pushes the frame of an object with what its reducer returned, a reference to which is stolen. `repeated`: it goes into
 * this pod as a value; `apart`: into a pod of its own.
 */
static int begin_reduced(cm_walk *walk, PyObject *object, PyObject *value, const cm_global *repeated, bool apart)
{
    int call = check_reduced(walk, value, object);
    if (call < 0 || check_reentry(walk, object) < 0 || (!repeated && place_reduced(walk, object, value, apart) < 0)) {
        Py_DECREF(value);
        return -1;
    }
    bool fresh = Py_REFCNT(object) <= 2; /* the container it was found in and the caller */
    uint32_t generation = walk->frame_count ? cm_walk_top(walk)->fresh : 0;
    cm_frame *frame = cm_walk_push(walk, CM_FRAME_REDUCE, object);
    if (!frame) {
        Py_DECREF(value);
        return -1;
    }
    frame->reduce.value = value;
    frame->reduce.pending = frame->reduce.cells = NULL;
    frame->reduce.repeated = repeated;
    frame->reduce.call = call;
    frame->stage = STAGE_CALLABLE;
    frame->fresh = fresh ? generation + 1 : 0;
    walk->reducing++;
    walk->repeating += repeated != NULL;
    cm_mix(walk, CM_OP_REDUCE);
    if (frame->fresh > CM_FRESH_MOST) {
        PyErr_Format(PyExc_RecursionError, "reducing a '%.200s' object makes new objects without end",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    return 1;
}

/* ---- instances whose reduction is known ---------------------------------------------------------------------------------- */

/* The class of a plain instance, if it can be pushed at once: by name, or because it was saved before. */
static int plain_class(cm_walk *walk, cm_type *info, cm_memo_entry *entry)
{
    if (!info->global_known) {
        if (cm_walk_locate(walk, (PyObject *)info->type, &info->global) < 0)
            return -1;
        info->global_known = true;
    }
    return info->global || cm_memo_find(walk, (PyObject *)info->type, entry);
}

int cm_walk_is_plain(cm_walk *walk, PyTypeObject *type, uint64_t *class_hash)
{
    cm_type *info = walk->last_type;
    if (!info || info->type != type || info->version != type->tp_version_tag)
        info = walk->last_type = cm_walk_type(walk, type);
    if (!info)
        return -1;
    if (info->kind != CM_TYPE_PLAIN)
        return 0;
    cm_memo_entry entry;
    int known = plain_class(walk, info, &entry);
    *class_hash = info->global ? info->global->hash : 0;
    return known;
}

/* Some class looks for the method in the instance first, as object.__reduce_ex__ does. */
static int overridden(cm_walk *walk, PyObject *dict)
{
    PyObject *const names[] = {walk->str_reduce_ex, walk->str_reduce, walk->str_getstate, walk->str_class};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int contains = PyDict_Contains(dict, names[i]);
        if (contains)
            return contains;
    }
    return 0;
}

/* What comes next may take the attributes out of the instance: they are put back when the walk is over. */
static void lend_attributes(cm_walk *walk, PyObject *object)
{
    if (walk->lent_count > CM_LENT_MOST || !cm_attributes_inside(object))
        return;
    if (walk->lent_count < CM_LENT_MOST)
        walk->lent[walk->lent_count] = Py_NewRef(object);
    walk->lent_count++;
}

/* 0 or 1 as cm_walk_value; -1 with an exception; 2: it is to be asked like any other. */
static int walk_plain(cm_walk *walk, PyObject *object, cm_type *info)
{
    cm_memo_entry entry;
    int known = plain_class(walk, info, &entry);
    if (known <= 0)
        return known < 0 ? -1 : 2;
    PyObject *dict = NULL;
    Py_ssize_t length = 0;
    if (info->type->tp_dictoffset != 0) {
        lend_attributes(walk, object);
        dict = PyObject_GenericGetDict(object, NULL);
        if (!dict)
            return -1;
        length = PyDict_GET_SIZE(dict);
        int ask = PyDict_CheckExact(dict) ? (length ? overridden(walk, dict) : 0) : 1;
        if (ask) {
            Py_DECREF(dict);
            return ask < 0 ? -1 : 2;
        }
    }
    int result = cm_walk_place(walk, object, CM_CLASS_INSTANCE, (uint64_t)length, (uint64_t)info->type->tp_basicsize);
    if (result < 0)
        goto out;
    cm_mix(walk, CM_OP_NEWOBJ);
    if (info->global) {
        if (cm_emit_global(walk, info->global) < 0) {
            result = -1;
            goto out;
        }
    } else {
        if (cm_emit_reference(walk, &entry) < 0) {
            result = -1;
            goto out;
        }
    }
    cm_emit(walk, CM_OP_EMPTY_TUPLE);
    cm_emit(walk, CM_OP_NEWOBJ);
    cm_trace_instance(walk, object, info->global ? info->global->hash : 0, dict);
    if (dict && length == 0)
        cm_trace_dict(walk, dict);
    if (cm_walk_memoize(walk, object) < 0) {
        result = -1;
    } else if (length > 0) {
        if (!walk->repeating && cm_memo_find(walk, dict, &entry)) {
            if (cm_emit_reference(walk, &entry) < 0)
                result = -1;
            cm_emit(walk, CM_OP_BUILD);
        } else if (length < STATE_DICT_BUNDLED) {
            bool final = walk->final;
            walk->final = true; /* a state of that size belongs to its object */
            result = cm_walk_dict(walk, dict, CM_FLAG_BUILD);
            walk->final = final;
        } else {
            result = cm_walk_push(walk, CM_FRAME_BUILD, object) ? cm_walk_dict(walk, dict, 0) : -1;
        }
    }
out:
    Py_XDECREF(dict);
    return result;
}

/* ---- the choice of reducer ---------------------------------------------------------------------------------------------- */

static bool is_class_attribute(const PyObject *object, PyObject *key, const PyObject *value)
{
    return (PyList_CheckExact(value) || PyDict_CheckExact(value)) && PyUnicode_CheckExact(key) &&
           _PyType_Lookup(Py_TYPE(object), key) == value;
}

/*
 * Some reducers put containers of the class into the state of every instance (pandas: _metadata). Sharing them would tie all
 * instances together, and does not make them the class's again on loading: each instance gets a copy. Steals `value` and
 * returns a reference.
 */
static PyObject *without_class_attributes(const PyObject *object, PyObject *value)
{
    PyObject *state = PyTuple_CheckExact(value) ? item_or_null(value, 2) : NULL, *own = NULL, *key, *item;
    if (!state || !PyDict_CheckExact(state))
        return value;
    for (Py_ssize_t at = 0; PyDict_Next(state, &at, &key, &item);) {
        if (!is_class_attribute(object, key, item))
            continue;
        if (!own && !(own = PyDict_Copy(state)))
            goto failed;
        PyObject *copy = PyList_CheckExact(item) ? PySequence_List(item) : PyDict_Copy(item);
        int result = copy ? PyDict_SetItem(own, key, copy) : -1;
        Py_XDECREF(copy);
        if (result < 0)
            goto failed;
    }
    if (!own)
        return value;
    PyObject *items = PySequence_List(value), *changed = NULL;
    if (items && PyList_SetItem(items, 2, own) == 0) /* steals `own` in any case */
        changed = PyList_AsTuple(items);
    else if (!items)
        Py_DECREF(own);
    Py_XDECREF(items);
    Py_DECREF(value);
    return changed;
failed:
    Py_XDECREF(own);
    Py_DECREF(value);
    return NULL;
}

static int walk_reduced(cm_walk *walk, PyObject *object, PyObject *value, bool apart)
{
    if (value && !PyUnicode_Check(value))
        value = without_class_attributes(object, value);
    if (!value)
        return -1;
    if (!PyUnicode_Check(value))
        return begin_reduced(walk, object, value, NULL, apart);
    const cm_global *global;
    int result = cm_walk_locate_named(walk, object, value, &global);
    Py_DECREF(value);
    return result < 0 ? -1 : cm_emit_global(walk, global);
}

/* A class or function by value. What its reducer makes up is told from what the program made. */
static int take_apart(cm_walk *walk, PyObject *object)
{
    PyObject *parts = PyObject_CallMethodOneArg(walk->reducers, walk->str_take_apart, object);
    if (!parts)
        return -1;
    PyObject *value = NULL, *shared, *referred;
    if (PyArg_ParseTuple(parts, "OOO", &value, &shared, &referred) &&
        (shared == Py_None || cm_walk_mark(walk, shared, false) == 0) &&
        (referred == Py_None || cm_walk_mark(walk, referred, true) == 0))
        Py_INCREF(value);
    else
        value = NULL;
    Py_DECREF(parts);
    return walk_reduced(walk, object, value, false);
}

/* Classes and functions: by name where they can be imported; else taken apart as cloudpickle does. */
static int walk_code(cm_walk *walk, PyObject *object, cm_type *info)
{
    const cm_global *global;
    if (cm_walk_locate(walk, object, &global) < 0)
        return -1;
    if (info->reducer) /* registered for the metaclass */
        return walk_reduced(walk, object, PyObject_CallOneArg(info->reducer, object), false);
    return global ? cm_emit_global(walk, global) : take_apart(walk, object);
}

/* What the reducer of an object that is neither class nor function returns; a new reference. */
static PyObject *call_reducer(cm_walk *walk, PyObject *object, const cm_type *info)
{
    lend_attributes(walk, object);
    if (cm_idle_exporter(walk, object) < 0)
        return NULL;
    if (info->reducer)
        return PyObject_CallOneArg(info->reducer, object);
    PyObject *method = PyObject_GetAttr(object, walk->str_reduce_ex);
    if (method) {
        PyObject *value = PyObject_CallOneArg(method, walk->protocol);
        Py_DECREF(method);
        return value;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return NULL;
    PyErr_Clear();
    return PyObject_CallMethodNoArgs(object, walk->str_reduce);
}

/* An object that every pod has for itself. 2: this one is not. */
static int walk_repeated(cm_walk *walk, PyObject *object, const cm_type *info)
{
    const cm_global *value;
    if (cm_walk_locate_value(walk, object, &value) < 0)
        return -1;
    if (!value)
        return 2;
    int known = cm_emit_repeated(walk, value);
    if (known)
        return known < 0 ? -1 : 0;
    PyObject *reduced = call_reducer(walk, value->object, info);
    if (!reduced)
        return -1;
    if (PyUnicode_Check(reduced)) {
        Py_DECREF(reduced);
        return 2;
    }
    return begin_reduced(walk, value->object, reduced, value, false);
}

/* Emits what needs no frames: a global, an object that was saved. */
static int emit_whole(cm_walk *walk, PyObject *object)
{
    int result = cm_walk_value(walk, object);
    return result > 0 ? refuse(walk, "setattr or cloudpickle was replaced by something that has no name") : result;
}

/*
 * A cell in the closure of a function that is being made is made empty, so that a function in its own closure comes to no
 * harm, and filled when the function is there. Functions that share the cell go on sharing it. 2: the cell is elsewhere.
 */
static int walk_cell(cm_walk *walk, PyObject *cell)
{
    size_t count = walk->frame_count;
    if (count < 3 || walk->frames[count - 1].kind != CM_FRAME_TUPLE || walk->frames[count - 2].kind != CM_FRAME_TUPLE)
        return 2;
    cm_frame *frame = &walk->frames[count - 3];
    if (frame->kind != CM_FRAME_REDUCE || frame->stage != STAGE_CALL || !PyFunction_Check(frame->object))
        return 2;
    if (!frame->reduce.cells && !(frame->reduce.cells = PyList_New(0)))
        return -1;
    if (PyList_Append(frame->reduce.cells, cell) < 0 || emit_whole(walk, walk->make_cell) < 0)
        return -1;
    cm_emit(walk, CM_OP_EMPTY_TUPLE);
    cm_emit(walk, CM_OP_REDUCE);
    return cm_walk_memoize(walk, cell);
}

int cm_walk_own(cm_walk *walk, bool owning)
{
    return PyObject_SetAttr(walk->reducers, walk->str_owning, owning ? Py_True : Py_False);
}

int cm_walk_reduce(cm_walk *walk, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    cm_type *info = walk->last_type;
    Py_INCREF(object);
    int result = -1;
    if (!info || info->type != type || info->version != type->tp_version_tag)
        info = walk->last_type = cm_walk_type(walk, type);
    if (!info)
        goto out;
    result = info->kind == CM_TYPE_PLAIN ? walk_plain(walk, object, info) : 2;
    if (result != 2)
        goto out;
    result = cm_walk_foreign(walk) < 0 ? -1 : 2;
    if (result == 2 && info->kind == CM_TYPE_VALUE)
        result = walk_repeated(walk, object, info);
    else if (result == 2 && type == &PyCell_Type)
        result = walk_cell(walk, object);
    if (result != 2)
        goto opaque;
    const cm_global *global = NULL;
    if (info->kind == CM_TYPE_CLASS || info->kind == CM_TYPE_FUNCTION)
        result = walk_code(walk, object, info);
    else if (cm_walk_locate(walk, object, &global) < 0)
        result = -1;
    else if (global)
        result = cm_emit_global(walk, global);
    else
        result = walk_reduced(walk, object, call_reducer(walk, object, info), info->apart);
    if (result == 1 && info->owner) {
        cm_walk_top(walk)->flags |= CM_FLAG_OWNER;
        if (walk->owning++ == 0 && cm_walk_own(walk, true) < 0)
            result = -1;
    }
opaque:
    cm_trace_opaque(walk); /* its own pod's shade, if it has got one */
out:
    Py_DECREF(object);
    return result;
}

/* ---- the stages -------------------------------------------------------------------------------------------------------- */

static int save_arguments(cm_walk *walk, const cm_frame *frame)
{
    PyObject *args = PyTuple_GET_ITEM(frame->reduce.value, 1);
    if (frame->reduce.call == CALL_REDUCE)
        return cm_walk_value(walk, args);
    if (frame->reduce.call == CALL_NEWOBJ_EX)
        return cm_walk_value(walk, PyTuple_GET_ITEM(args, 1));
    PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    if (!rest)
        return -1;
    int result = cm_walk_value(walk, rest);
    Py_DECREF(rest);
    return result;
}

/* Makes the object. It may turn out to have been made further in, when its arguments were saved; then that is all. */
static int emit_call(cm_walk *walk, cm_frame *frame)
{
    static const uint8_t opcodes[] = {CM_OP_REDUCE, CM_OP_NEWOBJ, CM_OP_NEWOBJ_EX};
    cm_emit(walk, opcodes[frame->reduce.call]);
    walk->reducing--;
    frame->stage = STAGE_LIST;
    if (frame->reduce.repeated)
        return cm_memoize_repeated(walk, frame->reduce.repeated);
    cm_memo_entry entry;
    if (!walk->repeating && cm_memo_find(walk, frame->object, &entry)) {
        cm_emit(walk, CM_OP_POP);
        frame->stage = STAGE_END;
        return cm_emit_reference(walk, &entry);
    }
    return cm_walk_memoize(walk, frame->object);
}

/* One element of the fourth item. 0 or 1 as cm_walk_value; 2: there are no more. */
static int save_list_item(cm_walk *walk, cm_frame *frame, PyObject *iterator)
{
    PyObject *item = PyIter_Next(iterator);
    if (!item && PyErr_Occurred())
        return -1;
    if (frame->batch && (!item || frame->batch == CM_BATCH)) {
        cm_emit(walk, CM_OP_APPENDS);
        frame->batch = 0;
    }
    if (!item)
        return 2;
    if (frame->batch++ == 0)
        cm_emit(walk, CM_OP_MARK);
    int result = cm_walk_value(walk, item);
    Py_DECREF(item);
    return result;
}

/* One key or value of the fifth item. */
static int save_dict_item(cm_walk *walk, cm_frame *frame, PyObject *iterator)
{
    if (frame->reduce.pending) {
        PyObject *value = frame->reduce.pending;
        frame->reduce.pending = NULL;
        int result = cm_walk_value(walk, value);
        Py_DECREF(value);
        return result;
    }
    PyObject *pair = PyIter_Next(iterator);
    if (!pair && PyErr_Occurred())
        return -1;
    if (pair && (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)) {
        Py_DECREF(pair);
        PyErr_SetString(PyExc_TypeError, "dict items iterator must return 2-tuples");
        return -1;
    }
    if (frame->batch && (!pair || frame->batch == CM_BATCH)) {
        cm_emit(walk, CM_OP_SETITEMS);
        frame->batch = 0;
    }
    if (!pair)
        return 2;
    if (frame->batch++ == 0)
        cm_emit(walk, CM_OP_MARK);
    frame->reduce.pending = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    int result = cm_walk_value(walk, PyTuple_GET_ITEM(pair, 0));
    Py_DECREF(pair);
    return result;
}

/* Calls setattr(cell, "cell_contents", contents) for the next cell of a function; without contents it stays empty. */
static int save_cell(cm_walk *walk, cm_frame *frame)
{
    PyObject *cells = frame->reduce.cells;
    while (cells && frame->batch < (size_t)PyList_GET_SIZE(cells)) {
        PyObject *cell = PyList_GET_ITEM(cells, frame->batch++);
        PyObject *contents = PyCell_Get(cell);
        if (!contents)
            continue;
        frame->stage = STAGE_FILL_CELL;
        int result = -1;
        if (emit_whole(walk, walk->set_attribute) == 0 && emit_whole(walk, cell) == 0 &&
            emit_whole(walk, walk->str_contents) == 0)
            result = cm_walk_value(walk, contents);
        Py_DECREF(contents);
        return result;
    }
    frame->stage = STAGE_END;
    return 0;
}

/* The value to be saved in a stage that saves one; NULL: none. Moves on to the next stage. */
static PyObject *stage_value(cm_frame *frame)
{
    PyObject *value = frame->reduce.value, *args = PyTuple_GET_ITEM(value, 1);
    switch (frame->stage) {
    case STAGE_CALLABLE:
        frame->stage = STAGE_ARGUMENTS;
        return frame->reduce.call == CALL_REDUCE ? PyTuple_GET_ITEM(value, 0) : PyTuple_GET_ITEM(args, 0);
    case STAGE_KEYWORDS:
        frame->stage = STAGE_CALL;
        return PyTuple_GET_ITEM(args, 2);
    case STAGE_STATE:
        if (!item_or_null(value, 2)) {
            frame->stage = STAGE_CELL;
            return NULL;
        }
        frame->stage = item_or_null(value, 5) ? STAGE_SETTER_OBJECT : STAGE_BUILD;
        return frame->stage == STAGE_BUILD ? item_or_null(value, 2) : item_or_null(value, 5);
    case STAGE_SETTER_OBJECT:
        frame->stage = STAGE_SETTER_STATE;
        return frame->object;
    case STAGE_SETTER_STATE:
        frame->stage = STAGE_SETTER_CALL;
        return item_or_null(value, 2);
    default:
        return NULL;
    }
}

int cm_step_reduce(cm_walk *walk)
{
    cm_frame *frame = cm_walk_top(walk);
    for (;;) {
        int result = 0;
        PyObject *items;
        switch ((enum stage)frame->stage) {
        case STAGE_ARGUMENTS:
            frame->stage = frame->reduce.call == CALL_NEWOBJ_EX ? STAGE_KEYWORDS : STAGE_CALL;
            result = save_arguments(walk, frame);
            break;
        case STAGE_CALL:
            result = emit_call(walk, frame);
            break;
        case STAGE_LIST:
            items = item_or_null(frame->reduce.value, 3);
            result = items ? save_list_item(walk, frame, items) : 2;
            if (result == 2)
                frame->stage = STAGE_DICT;
            break;
        case STAGE_DICT:
            items = item_or_null(frame->reduce.value, 4);
            result = items ? save_dict_item(walk, frame, items) : 2;
            if (result == 2)
                frame->stage = STAGE_STATE;
            break;
        case STAGE_CALLABLE:
        case STAGE_KEYWORDS:
        case STAGE_STATE:
        case STAGE_SETTER_OBJECT:
        case STAGE_SETTER_STATE:
            items = stage_value(frame);
            result = items ? cm_walk_value(walk, items) : 0;
            break;
        case STAGE_SETTER_CALL: /* setter(object, state), whose result is dropped */
            cm_emit(walk, CM_OP_TUPLE2);
            cm_emit(walk, CM_OP_REDUCE);
            cm_emit(walk, CM_OP_POP);
            frame->stage = STAGE_CELL;
            break;
        case STAGE_BUILD:
            cm_emit(walk, CM_OP_BUILD);
            frame->stage = STAGE_CELL;
            break;
        case STAGE_CELL:
            result = save_cell(walk, frame);
            break;
        case STAGE_FILL_CELL:
            cm_emit(walk, CM_OP_TUPLE3);
            cm_emit(walk, CM_OP_REDUCE);
            cm_emit(walk, CM_OP_POP);
            frame->stage = STAGE_CELL;
            break;
        case STAGE_END:
            walk->repeating -= frame->reduce.repeated != NULL;
            if (frame->flags & CM_FLAG_OWNER && --walk->owning == 0 && cm_walk_own(walk, false) < 0)
                return -1;
            cm_walk_pop(walk);
            return 0;
        }
        if (result < 0 || result == 1) /* in the latter case `frame` may have moved */
            return result < 0 ? -1 : 0;
    }
}
