/* SPDX-License-Identifier: Apache-2.0 */
/* walk_steps.c - the builtin containers, one step at a time, and the choice of how an object is saved. */
#include "walk_private.h"

/* ---- batches, runs ------------------------------------------------------------------------------------------------- */

/* Between two elements: does the fragment end here? Then the fingerprint of the next element begins. */
static inline bool run_ends(cm_walk *walk, const cm_frame *frame)
{
    if (!(frame->flags & CM_FLAG_RUN) || frame->batch == 0)
        return false;
    uint64_t size = cm_body_size(walk->body) + CM_SPLICE_SIZE * (walk->splices - frame->outer);
    bool ends = cm_policy_fragment_end(size, walk->hash);
    walk->hash = 0;
    return ends;
}

/* Before an element: a MARK, unless it is known to be the only one. */
static inline void open_batch(cm_walk *walk, cm_frame *frame, bool single)
{
    frame->batch = 1;
    if (single)
        frame->flags |= CM_FLAG_SINGLE;
    else
        cm_emit(walk, CM_OP_MARK);
}

static inline int close_batch(cm_walk *walk, cm_frame *frame, uint8_t many, uint8_t one)
{
    cm_emit(walk, frame->flags & CM_FLAG_SINGLE ? one : many);
    frame->flags &= (uint8_t)~CM_FLAG_SINGLE;
    walk->ticks += frame->batch;
    frame->batch = 0;
    return walk->ticks >= CM_TICKS ? cm_walk_signals(walk) : 0;
}

static inline bool batch_full(const cm_frame *frame)
{
    return frame->batch == CM_BATCH || (frame->batch && frame->flags & CM_FLAG_SINGLE);
}

/* All elements are emitted, or those of a run. */
static int end_elements(cm_walk *walk, cm_frame *frame, bool cut)
{
    if (frame->flags & CM_FLAG_RUN) { /* where the next run begins */
        walk->frames[walk->frame_count - 3].at = frame->at;
        walk->shade->ended = cut;
    }
    if (frame->flags & CM_FLAG_BUILD)
        cm_emit(walk, CM_OP_BUILD);
    cm_walk_pop(walk);
    return 0;
}

/*
 * Begins a container that is built up after its MEMOIZE: in fragments when it is big, which needs a pod of its own for the
 * empty container. 1, or -1 with an exception.
 */
static int begin_elements(cm_walk *walk, enum cm_frame_kind kind, PyObject *object, Py_ssize_t length,
                          enum cm_class cls, uint8_t opcode, uint8_t flags, PyObject *held)
{
    int opened = cm_walk_place(walk, object, cls, (uint64_t)length, (uint64_t)length * sizeof(PyObject *));
    if (opened < 0)
        return -1;
    bool fragments = length >= CM_FRAGMENT_MIN_LENGTH && !walk->final;
    if (fragments && !opened && walk->depth > 0 && (opened = cm_walk_pod_open(walk, object, CM_POD_OBJECT, false)) < 0)
        return -1;
    cm_mix(walk, opcode + ((uint64_t)length << 8));
    cm_emit(walk, opcode);
    if (cm_walk_memoize(walk, object) < 0)
        return -1;
    cm_frame *frame = cm_walk_push(walk, fragments ? CM_FRAME_FRAGMENTS : kind, object);
    if (!frame)
        return -1;
    frame->flags = flags;
    if (walk->marks.count && !fragments && kind == CM_FRAME_DICT) {
        const cm_mark *mark = cm_table_find(&walk->marks, object);
        if (mark && mark->elements)
            frame->flags |= CM_FLAG_APART;
    }
    frame->held = Py_XNewRef(held);
    frame->at = frame->before = 0;
    frame->size = length;
    frame->outer = walk->hash;
    if (fragments) {
        frame->stage = (uint8_t)kind;
        cm_trace_whole(walk, object);
    } else if (kind == CM_FRAME_DICT) {
        cm_trace_dict(walk, object);
    } else {
        frame->trace = cm_trace_elements(walk, object, length);
    }
    return 1;
}

static int dict_changed(void)
{
    PyErr_SetString(PyExc_RuntimeError, "dictionary changed size during iteration");
    return -1;
}

static bool fragments_left(const cm_frame *frame)
{
    PyObject *key, *value;
    Py_ssize_t at = frame->at;
    if (frame->stage == CM_FRAME_LIST)
        return at < PyList_GET_SIZE(frame->object);
    if (frame->stage == CM_FRAME_SET)
        return at < PyList_GET_SIZE(frame->held);
    return PyDict_Next(frame->object, &at, &key, &value);
}

static int step_fragments(cm_walk *walk)
{
    cm_frame frame = *cm_walk_top(walk);
    if (frame.stage == CM_FRAME_DICT && PyDict_GET_SIZE(frame.object) != frame.size)
        return dict_changed();
    if (!fragments_left(&frame)) {
        walk->hash = frame.outer;
        cm_walk_pop(walk);
        return 0;
    }
    int reused = cm_shade_reuse_run(walk, frame.object, (enum cm_frame_kind)frame.stage, &frame.at);
    if (reused) {
        cm_walk_top(walk)->at = frame.at;
        return reused < 0 ? -1 : 0;
    }
    if (cm_walk_pod_open(walk, NULL, CM_POD_FRAGMENT, false) < 0)
        return -1;
    walk->shade->run_kind = frame.stage;
    cm_frame *run = cm_walk_push(walk, (enum cm_frame_kind)frame.stage, frame.object);
    if (!run)
        return -1;
    walk->depth--; /* it stands for the frame of the container */
    run->flags = CM_FLAG_RUN;
    run->fresh = frame.fresh;
    run->held = Py_XNewRef(frame.held);
    run->at = run->before = frame.at;
    run->size = frame.size;
    run->outer = walk->splices;
    walk->hash = 0;
    return 0;
}

/* ---- lists and sets -------------------------------------------------------------------------------------------------- */

static int step_list(cm_walk *walk)
{
    cm_frame *frame = cm_walk_top(walk);
    bool is_set = frame->kind == CM_FRAME_SET;
    PyObject *list = is_set ? frame->held : frame->object;
    for (;;) {
        Py_ssize_t left = PyList_GET_SIZE(list) - frame->at;
        bool cut = run_ends(walk, frame);
        if (frame->batch && (left <= 0 || cut || batch_full(frame))) {
            if (close_batch(walk, frame, is_set ? CM_OP_ADDITEMS : CM_OP_APPENDS, CM_OP_APPEND) < 0)
                return -1;
            left = PyList_GET_SIZE(list) - frame->at; /* a signal handler may have run */
        }
        if (left <= 0 || cut)
            return end_elements(walk, frame, cut);
        if (frame->batch)
            frame->batch++;
        else
            open_batch(walk, frame, left == 1 && !is_set && !(frame->flags & CM_FLAG_RUN));
        PyObject *element = PyList_GET_ITEM(list, frame->at);
        if (frame->trace)
            cm_trace_element(walk, frame->trace, frame->at, frame->size, element);
        else if (!is_set && frame->flags & CM_FLAG_RUN)
            cm_trace_run(walk, element);
        frame->at++;
        int result = cm_walk_value(walk, element);
        if (result)
            return result < 0 ? -1 : 0;
    }
}

static int walk_set(cm_walk *walk, PyObject *set)
{
    Py_INCREF(set); /* ordering may run Python code */
    PyObject *elements = cm_walk_ordered(walk, set);
    int result = -1;
    if (elements)
        result = begin_elements(walk, CM_FRAME_SET, set, PyList_GET_SIZE(elements), CM_CLASS_SET, CM_OP_EMPTY_SET, 0,
                                elements);
    Py_XDECREF(elements);
    Py_DECREF(set);
    return result;
}

/* ---- dicts ------------------------------------------------------------------------------------------------------- */

static int step_dict(cm_walk *walk)
{
    cm_frame *frame = cm_walk_top(walk);
    PyObject *dict = frame->object;
    for (;;) {
        int result;
        if (frame->held) { /* the value whose key needed frames */
            PyObject *value = frame->held;
            frame->held = NULL;
            result = cm_walk_value(walk, value);
            Py_DECREF(value);
            if (result)
                return result < 0 ? -1 : 0;
        }
        bool cut = run_ends(walk, frame);
        if (frame->batch && (cut || batch_full(frame)) && close_batch(walk, frame, CM_OP_SETITEMS, CM_OP_SETITEM) < 0)
            return -1;
        if (PyDict_GET_SIZE(dict) != frame->size)
            return dict_changed();
        PyObject *key, *value;
        frame->before = frame->at;
        if (cut || !PyDict_Next(dict, &frame->at, &key, &value)) {
            if (frame->batch && close_batch(walk, frame, CM_OP_SETITEMS, CM_OP_SETITEM) < 0)
                return -1;
            return end_elements(walk, frame, cut);
        }
        if (frame->batch)
            frame->batch++;
        else
            open_batch(walk, frame, frame->size == 1 && !(frame->flags & CM_FLAG_RUN));
        if (frame->flags & CM_FLAG_RUN) {
            cm_trace_run(walk, key);
            cm_trace_run(walk, value);
        }
        if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key) && PyUnicode_GET_LENGTH(key) <= CM_ATOM_MOST) {
            if (cm_emit_str(walk, key) < 0)
                return -1;
        } else {
            frame->held = Py_NewRef(value);
            result = cm_walk_value(walk, key);
            if (result)
                return result < 0 ? -1 : 0;
            continue; /* Python code may have run: the value was held */
        }
        result = cm_walk_value(walk, value);
        if (result)
            return result < 0 ? -1 : 0;
    }
}

int cm_walk_dict(cm_walk *walk, PyObject *dict, uint8_t flags)
{
    return begin_elements(walk, CM_FRAME_DICT, dict, PyDict_GET_SIZE(dict), CM_CLASS_DICT, CM_OP_EMPTY_DICT, flags,
                          NULL);
}

/* ---- tuples and frozensets --------------------------------------------------------------------------------------------- */

/*
 * An immutable container that contains itself (through something mutable) was completed further in, when its elements were
 * saved: what is on the stack is dropped for that one, as pickle does.
 */
static int completed_within(cm_walk *walk, PyObject *object, size_t on_stack)
{
    cm_memo_entry entry;
    if (!cm_memo_find(walk, object, &entry))
        return 0;
    if (on_stack > 3)
        cm_emit(walk, CM_OP_POP_MARK);
    else
        while (on_stack-- > 0)
            cm_emit(walk, CM_OP_POP);
    return cm_emit_reference(walk, &entry) < 0 ? -1 : 1;
}

static int step_tuple(cm_walk *walk)
{
    static const uint8_t opcodes[] = {CM_OP_TUPLE1, CM_OP_TUPLE2, CM_OP_TUPLE3};
    cm_frame *frame = cm_walk_top(walk);
    PyObject *tuple = frame->object;
    size_t size = (size_t)PyTuple_GET_SIZE(tuple);
    /* Only if some element needed frames, or a pod was used again, can the tuple be within itself. */
    bool resumed = frame->at > 0;
    uint64_t reused = walk->shadow->reused;
    while ((size_t)frame->at < size) {
        cm_trace_element(walk, frame->trace, frame->at, frame->size, PyTuple_GET_ITEM(tuple, frame->at));
        int result = cm_walk_value(walk, PyTuple_GET_ITEM(tuple, frame->at++));
        if (result)
            return result < 0 ? -1 : 0;
    }
    walk->ticks += (uint32_t)(size < CM_TICKS ? size : CM_TICKS);
    resumed |= walk->shadow->reused != reused;
    int completed = resumed && !walk->repeating ? completed_within(walk, tuple, size) : 0;
    if (completed < 0)
        return -1;
    if (!completed) {
        cm_emit(walk, size <= 3 ? opcodes[size - 1] : CM_OP_TUPLE);
        if (cm_walk_memoize(walk, tuple) < 0)
            return -1;
    }
    cm_walk_pop(walk);
    return 0;
}

static int walk_tuple(cm_walk *walk, PyObject *tuple)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (size > 0 && cm_walk_place(walk, tuple, CM_CLASS_LIST, (uint64_t)size, (uint64_t)size * sizeof(PyObject *)) < 0)
        return -1;
    cm_mix(walk, CM_OP_TUPLE + ((uint64_t)size << 8)); /* in its pod, as all that is mixed for it */
    if (size == 0) {
        cm_emit(walk, CM_OP_EMPTY_TUPLE);
        return 0;
    }
    cm_frame *frame = cm_walk_push(walk, CM_FRAME_TUPLE, tuple);
    if (!frame)
        return -1;
    frame->at = frame->before = 0;
    frame->size = size;
    frame->trace = cm_trace_elements(walk, tuple, size);
    if (size > 3)
        cm_emit(walk, CM_OP_MARK);
    return 1;
}

static int step_frozenset(cm_walk *walk)
{
    cm_frame *frame = cm_walk_top(walk);
    PyObject *elements = frame->held;
    bool resumed = frame->at > 0;
    uint64_t reused = walk->shadow->reused;
    while (frame->at < PyList_GET_SIZE(elements)) {
        int result = cm_walk_value(walk, PyList_GET_ITEM(elements, frame->at++));
        if (result)
            return result < 0 ? -1 : 0;
    }
    resumed |= walk->shadow->reused != reused;
    int completed = resumed && !walk->repeating ? completed_within(walk, frame->object, SIZE_MAX) : 0;
    if (completed < 0)
        return -1;
    if (!completed) {
        cm_emit(walk, CM_OP_FROZENSET);
        if (cm_walk_memoize(walk, frame->object) < 0)
            return -1;
    }
    cm_walk_pop(walk);
    return 0;
}

static int walk_frozenset(cm_walk *walk, PyObject *set)
{
    uint64_t size = (uint64_t)PySet_GET_SIZE(set);
    Py_INCREF(set); /* ordering may run Python code */
    PyObject *elements = cm_walk_ordered(walk, set);
    cm_frame *frame = NULL;
    if (elements && cm_walk_place(walk, set, CM_CLASS_SET, size, size * sizeof(PyObject *)) >= 0)
        frame = cm_walk_push(walk, CM_FRAME_FROZENSET, set);
    Py_DECREF(set);
    if (!frame) {
        Py_XDECREF(elements);
        return -1;
    }
    frame->held = elements;
    frame->at = frame->before = 0;
    frame->size = (Py_ssize_t)size;
    cm_mix(walk, CM_OP_FROZENSET + (size << 8));
    (void)cm_trace_elements(walk, set, (Py_ssize_t)size);
    cm_emit(walk, CM_OP_MARK);
    return 1;
}

/* ---- the choice ----------------------------------------------------------------------------------------------------- */

static inline void emit_float(cm_walk *walk, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    cm_mix(walk, bits ^ CM_OP_BINFLOAT);
    if (!cm_body_room(walk->body, 9))
        return; /* the error sticks to the body */
    uint8_t *to = walk->body->cursor;
    to[0] = CM_OP_BINFLOAT;
    for (int i = 0; i < 8; i++) /* big endian */
        to[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
    walk->body->cursor = to + 9;
}

/* Values that are neither memoized nor have parts. */
static inline bool emit_constant(cm_walk *walk, PyObject *object)
{
    uint8_t opcode;
    if (object == Py_None)
        opcode = CM_OP_NONE;
    else if (object == Py_True)
        opcode = CM_OP_NEWTRUE;
    else if (object == Py_False)
        opcode = CM_OP_NEWFALSE;
    else
        return false;
    cm_mix(walk, opcode);
    cm_emit(walk, opcode);
    return true;
}

int cm_walk_value(cm_walk *walk, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyUnicode_Type)
        return cm_emit_str(walk, object);
    if (type == &PyLong_Type)
        return cm_emit_int(walk, object);
    if (type == &PyFloat_Type) {
        emit_float(walk, PyFloat_AS_DOUBLE(object));
        return 0;
    }
    if (emit_constant(walk, object))
        return 0;
    if (type == &PyBytes_Type)
        return cm_emit_bytes(walk, object);

    int known = cm_walk_known(walk, object);
    if (!known && walk->repeating)
        known = cm_emit_within(walk, object);
    if (known)
        return known < 0 ? -1 : 0;
    if (type == &PyDict_Type)
        return cm_walk_dict(walk, object, 0);
    if (type == &PyList_Type)
        return begin_elements(walk, CM_FRAME_LIST, object, PyList_GET_SIZE(object), CM_CLASS_LIST, CM_OP_EMPTY_LIST, 0,
                              NULL);
    if (type == &PyTuple_Type)
        return walk_tuple(walk, object);
    if (type == &PySet_Type)
        return walk_set(walk, object);
    if (type == &PyFrozenSet_Type)
        return walk_frozenset(walk, object);
    if (type == &PyByteArray_Type)
        return cm_emit_bytearray(walk, object);
    if (type == &PyPickleBuffer_Type)
        return cm_emit_picklebuffer(walk, object);
    if (cm_is_device_memory(walk, object))
        return cm_emit_device_memory(walk, object);
    return cm_walk_reduce(walk, object);
}

int cm_walk_step(cm_walk *walk)
{
    if (++walk->ticks >= CM_TICKS && cm_walk_signals(walk) < 0)
        return -1;
    switch ((enum cm_frame_kind)cm_walk_top(walk)->kind) {
    case CM_FRAME_POD:
        return cm_walk_pod_close(walk);
    case CM_FRAME_LIST:
    case CM_FRAME_SET:
        return step_list(walk);
    case CM_FRAME_TUPLE:
        return step_tuple(walk);
    case CM_FRAME_DICT:
        return step_dict(walk);
    case CM_FRAME_FROZENSET:
        return step_frozenset(walk);
    case CM_FRAME_FRAGMENTS:
        return step_fragments(walk);
    case CM_FRAME_REDUCE:
        return cm_step_reduce(walk);
    case CM_FRAME_BUILD:
        cm_emit(walk, CM_OP_BUILD);
        cm_walk_pop(walk);
        return 0;
    }
    return 0;
}
