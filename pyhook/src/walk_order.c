/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_order.c - the order in which the elements of a set are saved.
 *
 * A set's own order depends on its history, on addresses and on the seed of the hash of str. Elements that are plain values
 * (or tuples and frozensets of such, or objects that chipmink._reducers can tell apart by value) are sorted by an encoding of
 * their values; the others come after them, by type, and those of one type in the set's order. The order means nothing: it
 * only has to be the same every time.
 */
#include "walk_private.h"

#include <stdlib.h>

enum { KEY_DEPTH_MOST = 16, SORT_RUN = 1 << 14 };

typedef struct sort_key {
    uint64_t prefix;   /* the first eight bytes, big endian: most comparisons end here */
    PyObject *element; /* borrowed from the list */
    const uint8_t *bytes;
    size_t offset, size;
} sort_key;

/* A growing arena of keys. Growing moves it, so keys are offsets until all are there. */
typedef struct key_arena {
    uint8_t *data;
    size_t size, capacity;
} key_arena;

static int arena_append(key_arena *arena, const void *bytes, size_t size)
{
    if (arena->capacity - arena->size < size) {
        size_t capacity = (arena->size + size) * 2 + 256;
        uint8_t *data = realloc(arena->data, capacity);
        if (!data) {
            PyErr_NoMemory();
            return -1;
        }
        arena->data = data;
        arena->capacity = capacity;
    }
    if (size)
        memcpy(arena->data + arena->size, bytes, size);
    arena->size += size;
    return 0;
}

static int arena_number(key_arena *arena, uint8_t tag, uint64_t value)
{
    uint8_t bytes[9] = {tag};
    for (int i = 0; i < 8; i++)
        bytes[1 + i] = (uint8_t)(value >> (56 - 8 * i));
    return arena_append(arena, bytes, sizeof bytes);
}

static int compare(const void *a, const void *b)
{
    const sort_key *x = a, *y = b;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    int order = memcmp(x->bytes, y->bytes, x->size < y->size ? x->size : y->size);
    if (order == 0 && x->size != y->size)
        order = x->size < y->size ? -1 : 1;
    return order ? order : x->offset < y->offset ? -1 : x->offset > y->offset; /* equal ones as they came */
}

/* Merges the sorted halves of keys[0..count), the first of `half` keys, by way of `spare`. */
static int merge(sort_key *keys, size_t half, size_t count, sort_key *spare)
{
    size_t i = 0, j = half;
    for (size_t to = 0; to < count; to++) {
        bool first = j == count || (i < half && compare(&keys[i], &keys[j]) <= 0);
        spare[to] = keys[first ? i++ : j++];
        if (to % SORT_RUN == 0 && PyErr_CheckSignals() < 0)
            return -1;
    }
    memcpy(keys, spare, count * sizeof *keys);
    return 0;
}

/* Sorts in steps, between which signals are looked at: big sets take a second. -1 with an exception. */
static int sort_keys(sort_key *keys, size_t count, const uint8_t *base)
{
    for (size_t i = 0; i < count; i++) {
        keys[i].bytes = base + keys[i].offset;
        keys[i].prefix = 0;
        for (size_t j = 0; j < 8; j++)
            keys[i].prefix = keys[i].prefix << 8 | (j < keys[i].size ? keys[i].bytes[j] : 0);
    }
    for (size_t at = 0; at < count; at += SORT_RUN) {
        qsort(keys + at, count - at < SORT_RUN ? count - at : SORT_RUN, sizeof *keys, compare);
        if (at && PyErr_CheckSignals() < 0)
            return -1;
    }
    if (count <= SORT_RUN)
        return 0;
    sort_key *spare = calloc(count, sizeof *spare);
    if (!spare) {
        PyErr_NoMemory();
        return -1;
    }
    int result = 0;
    for (size_t half = SORT_RUN; half < count && result == 0; half *= 2)
        for (size_t at = 0; at + half < count && result == 0; at += 2 * half)
            result = merge(keys + at, half, count - at < 2 * half ? count - at : 2 * half, spare);
    free(spare);
    return result;
}

static int append_key(cm_walk *walk, key_arena *arena, PyObject *object, int depth);

/* What the Python side says the object's value is: bytes, or None. */
static int append_foreign_key(cm_walk *walk, key_arena *arena, PyObject *object)
{
    PyObject *bytes = PyObject_CallMethodOneArg(walk->reducers, walk->str_sort_key, object);
    if (!bytes)
        return -1;
    int result = 0;
    if (PyBytes_CheckExact(bytes))
        result = arena_number(arena, 'o', (uint64_t)PyBytes_GET_SIZE(bytes)) < 0 ||
                         arena_append(arena, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)) < 0
                     ? -1
                     : 1;
    Py_DECREF(bytes);
    return result;
}

static int append_text_key(key_arena *arena, PyObject *text)
{
    if (PyUnicode_READY(text) < 0)
        return -1;
    /* Kind and characters of the canonical representation: equal if and only if the texts are. */
    size_t size = (size_t)PyUnicode_GET_LENGTH(text) * (size_t)PyUnicode_KIND(text);
    return arena_append(arena, "s", 1) < 0 || arena_append(arena, PyUnicode_DATA(text), size) < 0 ||
                   arena_number(arena, (uint8_t)PyUnicode_KIND(text), size) < 0
               ? -1
               : 1;
}

static int append_frozenset_key(cm_walk *walk, key_arena *arena, PyObject *set, int depth)
{
    PyObject *list = PySequence_List(set);
    if (!list)
        return -1;
    size_t count = (size_t)PyList_GET_SIZE(list);
    key_arena inner = {0};
    sort_key *keys = calloc(count + 1, sizeof *keys);
    int result = keys ? 1 : -1;
    if (!keys)
        PyErr_NoMemory();
    for (size_t i = 0; result > 0 && i < count; i++) {
        keys[i].offset = inner.size;
        result = append_key(walk, &inner, PyList_GET_ITEM(list, (Py_ssize_t)i), depth + 1);
        keys[i].size = inner.size - keys[i].offset;
    }
    if (result > 0) {
        if (sort_keys(keys, count, inner.data) < 0 || arena_number(arena, 'z', count) < 0)
            result = -1;
        for (size_t i = 0; result > 0 && i < count; i++)
            if (arena_append(arena, keys[i].bytes, keys[i].size) < 0)
                result = -1;
    }
    free(keys);
    free(inner.data);
    Py_DECREF(list);
    return result;
}

static int append_int_key(cm_walk *walk, key_arena *arena, PyObject *object)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow)
        return append_foreign_key(walk, arena, object);
    return arena_number(arena, 'i', (uint64_t)value ^ (uint64_t)1 << 63) < 0 ? -1 : 1;
}

/* Appends bytes that stand for the value. 1; 0: it is no plain value; -1 with an exception. */
static int append_key(cm_walk *walk, key_arena *arena, PyObject *object, int depth)
{
    PyTypeObject *type = Py_TYPE(object);
    if (depth > KEY_DEPTH_MOST)
        return 0;
    if (type == &PyUnicode_Type)
        return append_text_key(arena, object);
    if (type == &PyLong_Type)
        return append_int_key(walk, arena, object);
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(object);
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        return arena_number(arena, 'f', bits) < 0 ? -1 : 1;
    }
    if (type == &PyBytes_Type) {
        size_t size = (size_t)PyBytes_GET_SIZE(object);
        return arena_append(arena, "y", 1) < 0 || arena_append(arena, PyBytes_AS_STRING(object), size) < 0 ||
                       arena_number(arena, 0, size) < 0
                   ? -1
                   : 1;
    }
    if (object == Py_None || object == Py_True || object == Py_False)
        return arena_append(arena, object == Py_None ? "N" : object == Py_True ? "T" : "F", 1) < 0 ? -1 : 1;
    if (type == &PyTuple_Type) {
        int result = arena_number(arena, 't', (uint64_t)PyTuple_GET_SIZE(object)) < 0 ? -1 : 1;
        for (Py_ssize_t i = 0; result > 0 && i < PyTuple_GET_SIZE(object); i++)
            result = append_key(walk, arena, PyTuple_GET_ITEM(object, i), depth + 1);
        return result;
    }
    if (type == &PyFrozenSet_Type)
        return append_frozenset_key(walk, arena, object, depth);
    return append_foreign_key(walk, arena, object);
}

/* For an object without a value: after all that have one. */
static int append_type_key(key_arena *arena, PyObject *object)
{
    const char *name = Py_TYPE(object)->tp_name;
    return arena_append(arena, "\xff", 1) < 0 || arena_append(arena, name, strlen(name)) < 0 ? -1 : 1;
}

PyObject *cm_walk_ordered(cm_walk *walk, PyObject *set)
{
    PyObject *list = PySequence_List(set);
    if (!list || PyList_GET_SIZE(list) < 2)
        return list;
    size_t count = (size_t)PyList_GET_SIZE(list);
    key_arena arena = {0};
    sort_key *keys = calloc(count, sizeof *keys);
    int result = keys ? 1 : -1;
    if (!keys)
        PyErr_NoMemory();
    for (size_t i = 0; result > 0 && i < count; i++) {
        if (i % SORT_RUN == SORT_RUN - 1 && PyErr_CheckSignals() < 0) {
            result = -1;
            break;
        }
        keys[i].element = PyList_GET_ITEM(list, (Py_ssize_t)i);
        keys[i].offset = arena.size;
        result = append_key(walk, &arena, keys[i].element, 0);
        if (result == 0) {
            arena.size = keys[i].offset;
            result = append_type_key(&arena, keys[i].element);
        }
        keys[i].size = arena.size - keys[i].offset;
    }
    if (result > 0 && sort_keys(keys, count, arena.data) < 0)
        result = -1;
    if (result > 0) {
        for (size_t i = 0; i < count; i++) /* a permutation: every element keeps its one reference */
            PyList_SET_ITEM(list, (Py_ssize_t)i, keys[i].element);
    }
    free(keys);
    free(arena.data);
    if (result < 0)
        Py_CLEAR(list);
    return list;
}
