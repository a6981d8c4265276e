/* SPDX-License-Identifier: Apache-2.0 */
/* walk_stack.c - the walker's frames, and the pods that begin and end with them. */
#include "walk_private.h"

#include <errno.h>
#include <stdlib.h>

enum { DEPTH_MOST = 1 << 22, PATH_PARTS_MOST = 12 };

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static inline bool counts(const cm_frame *frame)
{
    return frame->kind != CM_FRAME_POD && !(frame->flags & CM_FLAG_RUN);
}

cm_frame *cm_walk_push(cm_walk *walk, enum cm_frame_kind kind, PyObject *object)
{
    if (walk->frame_count == walk->frame_capacity) {
        size_t capacity = walk->frame_capacity ? walk->frame_capacity * 2 : 64;
        cm_frame *frames = capacity <= DEPTH_MOST ? realloc(walk->frames, capacity * sizeof *frames) : NULL;
        if (!frames) {
            if (capacity > DEPTH_MOST)
                PyErr_SetString(PyExc_RecursionError, "objects are nested too deeply to be saved");
            else
                PyErr_NoMemory();
            return NULL;
        }
        walk->frames = frames;
        walk->frame_capacity = capacity;
    }
    /* Only its container holds it, and the memo if it is memoized before its parts are saved. */
    bool early = kind == CM_FRAME_LIST || kind == CM_FRAME_DICT || kind == CM_FRAME_SET || kind == CM_FRAME_FRAGMENTS;
    uint32_t fresh = 0;
    if (walk->frame_count && object && Py_REFCNT(object) <= (early ? 2 : 1))
        fresh = cm_walk_top(walk)->fresh;
    cm_frame *frame = &walk->frames[walk->frame_count++];
    frame->kind = (uint8_t)kind;
    frame->stage = frame->flags = 0;
    frame->trace = 0;
    frame->batch = 0;
    frame->fresh = fresh;
    frame->object = Py_XNewRef(object);
    frame->held = NULL;
    walk->depth += kind != CM_FRAME_POD;
    return frame;
}

void cm_walk_pop(cm_walk *walk)
{
    cm_frame frame = walk->frames[--walk->frame_count];
    walk->depth -= counts(&frame);
    Py_XDECREF(frame.object);
    Py_XDECREF(frame.held);
    if (frame.kind == CM_FRAME_REDUCE) {
        Py_XDECREF(frame.reduce.value);
        Py_XDECREF(frame.reduce.pending);
        Py_XDECREF(frame.reduce.cells);
    }
}

int cm_walk_memoize(cm_walk *walk, PyObject *object)
{
    if (walk->repeating)
        return cm_memoize_within(walk, object);
    return cm_memo_add(walk, object, cm_body_memoize(walk->body));
}

int cm_walk_keep(cm_walk *walk, PyObject *object)
{
    return PyList_Append(walk->kept, object);
}

int cm_walk_signals(cm_walk *walk)
{
    walk->ticks = 0;
    if (walk->body->error == -E2BIG) {
        PyErr_SetString(PyExc_OverflowError, "an object with all that is in it is too big for one pod");
        return -1;
    }
    if (walk->body->error) {
        PyErr_NoMemory();
        return -1;
    }
    return cm_walk_foreign(walk) < 0 ? -1 : PyErr_CheckSignals();
}

int cm_walk_store_failed(cm_walk *walk, int result)
{
    walk->fatal = true;
    if (result == -ENOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    const char *sentence = cm_error_message();
    PyObject *message = PyUnicode_DecodeUTF8(sentence, (Py_ssize_t)strlen(sentence), "replace");
    PyObject *error = message ? PyObject_CallOneArg(walk->store_error, message) : NULL;
    PyObject *code = error ? PyLong_FromLong(-result) : NULL;
    if (code && PyObject_SetAttrString(error, "errno", code) == 0)
        PyErr_SetObject(walk->store_error, error);
    Py_XDECREF(code);
    Py_XDECREF(error);
    Py_XDECREF(message);
    return -1;
}

/* ---- pods --------------------------------------------------------------------------------------------------------- */

int cm_walk_pod_open(cm_walk *walk, PyObject *object, enum cm_pod_kind kind, bool final)
{
    cm_shade *shade = cm_shade_open(walk, object);
    cm_frame *frame = shade ? cm_walk_push(walk, CM_FRAME_POD, object) : NULL;
    if (!frame)
        return -1;
    if (walk->frame_count > 1)
        frame->fresh = frame[-1].fresh;
    frame->around.pod = walk->pod;
    frame->around.atoms = walk->atoms;
    frame->around.hash = walk->hash;
    frame->around.splices = walk->splices;
    frame->flags = walk->final ? CM_FLAG_FINAL : 0;
    frame->batch = walk->repeating;
    cm_pod *pod = cm_save_pod_new(walk->save, walk->pod, kind);
    if (!pod) {
        walk->fatal = true;
        PyErr_NoMemory();
        return -1;
    }
    shade->pod = pod;
    shade->page = cm_pod_page(pod);
    walk->hash = 0;
    walk->pod = pod;
    walk->body = cm_pod_body(pod);
    walk->atoms = NULL;
    walk->final = final;
    walk->repeating = 0;
    return 0;
}

int cm_walk_place_apart(cm_walk *walk, PyObject *object)
{
    if (walk->depth == 0) /* the variable's own object has its pod already */
        return 0;
    return cm_walk_pod_open(walk, object, CM_POD_OBJECT, walk->final) < 0 ? -1 : 1;
}

/* What functions of a session share has a pod of its own, so that none of them has to be loaded with another. */
static bool is_apart(cm_walk *walk, PyObject *object, enum cm_class cls)
{
    if (walk->frame_count && cm_walk_top(walk)->flags & CM_FLAG_APART)
        return true;
    const cm_mark *mark = cls == CM_CLASS_DICT ? cm_table_find(&walk->marks, object) : NULL;
    return mark && !mark->elements;
}

enum {
    SAMPLES = 4,         /* elements of a container that stand for all */
    SAMPLED_LENGTH = 16, /* of containers that are looked into */
    SAMPLED_DEPTH = 2,
    ATOM_BYTES = 8,
    OBJECT_BYTES = 64,
};

static cm_features features_of(enum cm_class cls, uint32_t depth, uint64_t length, uint64_t size)
{
    return (cm_features){.cls = (uint8_t)cls,
                         .depth = depth < UINT8_MAX ? (uint8_t)depth : UINT8_MAX,
                         .length = cm_magnitude(length),
                         .size = cm_magnitude(size)};
}

static uint64_t sample(const cm_walk *walk, PyObject *object, int depth);

/* An element: what the walk has met is referred to. It may change without its containers being walked again. */
static uint64_t sample_element(const cm_walk *walk, PyObject *object, int depth)
{
    cm_memo_entry entry;
    return !cm_is_value(object) && cm_memo_find(walk, object, &entry) ? CM_SPLICE_SIZE : sample(walk, object, depth);
}

/* Bytes that an object takes in a pod, from its value alone; what gets a pod of its own takes a splice in that around it. */
static uint64_t sample(const cm_walk *walk, PyObject *object, int depth)
{
    uint64_t sum = 0, count = 0, size;
    enum cm_class cls = CM_CLASS_LIST;
    if (PyUnicode_CheckExact(object) || PyBytes_CheckExact(object)) {
        size = PyBytes_CheckExact(object) ? (uint64_t)PyBytes_GET_SIZE(object) : (uint64_t)PyUnicode_GET_LENGTH(object);
        return size < CM_PAYLOAD_MIN ? size + ATOM_BYTES : CM_SPLICE_SIZE;
    }
    if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) {
        size = (uint64_t)Py_SIZE(object);
        for (uint64_t i = 0; depth && i < size; i += size / SAMPLES + 1, count++)
            sum += sample_element(walk, PySequence_Fast_GET_ITEM(object, (Py_ssize_t)i), depth - 1);
    } else if (PyDict_CheckExact(object)) {
        PyObject *key, *value;
        cls = CM_CLASS_DICT;
        size = (uint64_t)PyDict_GET_SIZE(object);
        for (Py_ssize_t at = 0; depth && count < SAMPLES && PyDict_Next(object, &at, &key, &value); count++)
            sum += sample_element(walk, key, depth - 1) + sample_element(walk, value, depth - 1);
    } else { /* which elements of a set come first depends on more than their values */
        size = PyAnySet_CheckExact(object) ? (uint64_t)PySet_GET_SIZE(object) : 0;
        return (cm_is_value(object) ? ATOM_BYTES : OBJECT_BYTES) + size * ATOM_BYTES;
    }
    uint64_t bytes = ATOM_BYTES + (count ? sum * size / count : size * ATOM_BYTES);
    cm_features features = features_of(cls, walk->depth + (uint32_t)(SAMPLED_DEPTH - depth), size, bytes);
    bool apart = depth < SAMPLED_DEPTH && cm_policy_decide(CM_POLICY_SIZE, &features) != CM_BUNDLE;
    return apart ? CM_SPLICE_SIZE : bytes;
}

int cm_walk_place(cm_walk *walk, PyObject *object, enum cm_class cls, uint64_t length, uint64_t size)
{
    if (walk->marks.count && is_apart(walk, object, cls))
        return cm_walk_place_apart(walk, object);
    if (walk->final)
        return 0;
    bool sampled = length >= SAMPLED_LENGTH && (cls == CM_CLASS_LIST || cls == CM_CLASS_DICT || cls == CM_CLASS_SET);
    cm_features features = features_of(cls, walk->depth, length, sampled ? sample(walk, object, SAMPLED_DEPTH) : size);
    enum cm_action action = cm_policy_decide(walk->shadow->policy, &features);
    if (walk->depth == 0) { /* it has its pod already */
        walk->final = action == CM_SPLIT_FINAL;
        return 0;
    }
    if (action == CM_BUNDLE)
        return 0;
    return cm_walk_pod_open(walk, object, CM_POD_OBJECT, action == CM_SPLIT_FINAL) < 0 ? -1 : 1;
}

int cm_walk_pod_close(cm_walk *walk)
{
    if (walk->body->error)
        return cm_walk_signals(walk) < 0 ? -1 : 0;
    cm_frame *frame = cm_walk_top(walk);
    cm_pod *pod = walk->pod;
    cm_shade *shade = walk->shade;
    int result = cm_save_pod_finish(walk->save, pod, shade->root);
    if (result < 0)
        return cm_walk_store_failed(walk, result);
    cm_atoms_release(walk, walk->atoms);
    walk->pod = frame->around.pod;
    walk->atoms = frame->around.atoms;
    walk->final = frame->flags & CM_FLAG_FINAL;
    walk->repeating = frame->batch;
    frame->around.atoms = NULL;
    shade->splices = (uint32_t)(walk->splices - frame->around.splices);
    shade->hash = walk->hash;
    walk->hash = frame->around.hash;
    walk->shadow->walked++;
    cm_shade_close(walk);
    if (walk->pod) {
        walk->body = cm_pod_body(walk->pod);
        cm_pod_child(walk->pod, pod);
        walk->splices++;
        cm_mix(walk, shade->hash);
    }
    cm_walk_pop(walk);
    return 0;
}

/* ---- where the walk is -------------------------------------------------------------------------------------------- */

/* The part of the path that the element in hand of a frame stands for; NULL without an exception: none. */
static PyObject *path_part(cm_walk *walk, size_t i)
{
    cm_frame *frame = &walk->frames[i];
    if (frame->kind == CM_FRAME_LIST || frame->kind == CM_FRAME_TUPLE) {
        /* the arguments of a reducer have no name in the program */
        bool named = i == 0 || walk->frames[i - 1].kind != CM_FRAME_REDUCE;
        return named && frame->at > 0 ? PyUnicode_FromFormat("[%zd]", frame->at - 1) : NULL;
    }
    if (frame->kind != CM_FRAME_DICT || !frame->object)
        return NULL;
    PyObject *key, *value;
    Py_ssize_t at = frame->before;
    if (frame->at == 0 || !PyDict_Next(frame->object, &at, &key, &value))
        return NULL;
    bool state = frame->flags & CM_FLAG_BUILD || (i > 0 && walk->frames[i - 1].kind == CM_FRAME_REDUCE);
    if (state && PyUnicode_CheckExact(key))
        return PyUnicode_FromFormat(".%U", key);
    if (PyUnicode_CheckExact(key) || PyLong_CheckExact(key))
        return PyUnicode_FromFormat("[%R]", key);
    return PyUnicode_FromFormat("[a %.100s]", Py_TYPE(key)->tp_name);
}

PyObject *cm_walk_path(cm_walk *walk, PyObject *name)
{
    PyObject *path = Py_NewRef(name);
    int parts = 0;
    for (size_t i = 0; path && i < walk->frame_count && parts <= PATH_PARTS_MOST; i++) {
        PyObject *part = parts == PATH_PARTS_MOST ? PyUnicode_FromString("...") : path_part(walk, i);
        if (part) {
            Py_SETREF(path, PyUnicode_Concat(path, part));
            Py_DECREF(part);
            parts++;
        }
    }
    PyErr_Clear();
    return path;
}
