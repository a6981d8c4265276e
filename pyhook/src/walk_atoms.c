/* SPDX-License-Identifier: Apache-2.0 */
/* walk_atoms.c - emits values that have no parts: numbers, text, bytes, buffers, globals. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "walk_private.h"

/* A four-byte or eight-byte little-endian operand. */
static inline void put_operand(uint8_t *to, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static void emit_with_operand(cm_walk *walk, uint8_t opcode, uint64_t value, int size)
{
    uint8_t bytes[9] = {opcode};
    put_operand(bytes + 1, value, size);
    cm_body_bytes(walk->body, bytes, (size_t)size + 1);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

void cm_emit_long(cm_walk *walk, long long value)
{
    cm_mix(walk, (uint64_t)value ^ CM_OP_BININT);
    cm_body *body = walk->body;
    if (!cm_body_room(body, 16))
        return; /* the error sticks to the body */
    uint8_t *to = body->cursor;
    if (value >= 0 && value <= 0xff) {
        to[0] = CM_OP_BININT1;
        to[1] = (uint8_t)value;
        body->cursor = to + 2;
    } else if (value >= 0 && value <= 0xffff) {
        to[0] = CM_OP_BININT2;
        put_operand(to + 1, (uint64_t)value, 2);
        body->cursor = to + 3;
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        to[0] = CM_OP_BININT;
        put_operand(to + 1, (uint64_t)value, 4);
        body->cursor = to + 5;
    } else {
        put_operand(to + 2, (uint64_t)value, 8);
        /* two's complement without superfluous sign bytes */
        uint8_t size = 8, sign = value < 0 ? 0xff : 0;
        while (to[1 + size] == sign && ((to[size] ^ sign) & 0x80) == 0)
            size--;
        to[0] = CM_OP_LONG1;
        to[1] = size;
        body->cursor = to + 2 + size;
    }
}

static int emit_big_int(cm_walk *walk, PyObject *object)
{
    PyObject *bits = PyObject_CallMethod(object, "bit_length", NULL);
    if (!bits)
        return -1;
    Py_ssize_t size = PyLong_AsSsize_t(bits);
    Py_DECREF(bits);
    if (size == -1 && PyErr_Occurred())
        return -1;
    size = size / 8 + 1;
    if (size > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "int too large to pickle");
        return -1;
    }
    PyObject *method = PyObject_GetAttrString(object, "to_bytes");
    PyObject *args = Py_BuildValue("(ns)", size, "little");
    PyObject *kwargs = Py_BuildValue("{sO}", "signed", Py_True);
    PyObject *bytes = method && args && kwargs ? PyObject_Call(method, args, kwargs) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    if (!bytes)
        return -1;
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(bytes);
    if (size > 1 && data[size - 1] == 0xff && (data[size - 2] & 0x80)) /* a negative power of two */
        size--;
    cm_mix(walk, XXH3_64bits(data, (size_t)size));
    if (size < 256)
        emit_with_operand(walk, CM_OP_LONG1, (uint64_t)size, 1);
    else
        emit_with_operand(walk, CM_OP_LONG4, (uint64_t)size, 4);
    cm_body_bytes(walk->body, data, (size_t)size);
    Py_DECREF(bytes);
    return 0;
}

/* An int of one digit, as most are. */
static inline bool compact_value(PyObject *object, long long *value)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)object))
        return false;
    *value = PyUnstable_Long_CompactValue((PyLongObject *)object);
#else
    Py_ssize_t size = Py_SIZE(object);
    if (size < -1 || size > 1)
        return false;
    *value = size == 0 ? 0 : size * (long long)((PyLongObject *)object)->ob_digit[0];
#endif
    return true;
}

int cm_emit_int(cm_walk *walk, PyObject *object)
{
    long long small;
    if (compact_value(object, &small)) {
        cm_emit_long(walk, small);
        return 0;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow)
        return emit_big_int(walk, object);
    cm_emit_long(walk, value);
    return 0;
}

/* ---- small values shared inside a pod ------------------------------------------------------------------------------- */

static inline bool atom_is(const cm_walk *walk, const cm_atom *atom, uint64_t hash, uint64_t value, const void *bytes)
{
    if (atom->hash != hash)
        return false;
    if (!bytes)
        return atom->value == value;
    return atom->value >> 32 == value >> 32 &&
           memcmp(walk->body->start + (uint32_t)atom->value, bytes, (size_t)(value >> 32 & 0xffff)) == 0;
}

/* The value's slot in the current pod: in use if its generation is the table's, else where it belongs. */
static inline cm_atom *atom_slot(const cm_walk *walk, uint64_t hash, uint64_t value, const void *bytes)
{
    const cm_atoms *atoms = walk->atoms;
    uint32_t at = (uint32_t)hash & atoms->mask;
    while (atoms->slots[at].generation == atoms->generation && !atom_is(walk, &atoms->slots[at], hash, value, bytes))
        at = (at + 1) & atoms->mask;
    return &atoms->slots[at];
}

static inline int atoms_ready(cm_walk *walk)
{
    const cm_atoms *atoms = walk->atoms;
    return atoms && atoms->count * 2 <= atoms->mask ? 0 : cm_atoms_room(walk);
}

static inline cm_recent *recent_place(cm_walk *walk, const PyObject *text)
{
    return &walk->recent[((uintptr_t)text >> 4) % CM_RECENT];
}

/* Text or bytes of at most CM_ATOM_MOST bytes. `text`: the str it is from, or NULL. */
static inline int emit_small(cm_walk *walk, enum cm_atom_tag tag, uint8_t opcode, const uint8_t *bytes, size_t size,
                             PyObject *text)
{
    uint64_t hash = XXH3_64bits(bytes, size) + tag;
    cm_mix(walk, hash);
    cm_body *body = walk->body;
    if (!cm_body_room(body, CM_ATOM_MOST + 8))
        return 0;           /* the error sticks to the body */
    bool shared = size > 1; /* shorter ones are single objects in CPython anyway */
    cm_atom *slot = NULL;
    if (shared) {
        if (atoms_ready(walk) < 0)
            return -1;
        uint64_t value = (uint64_t)tag << 48 | (uint64_t)size << 32;
        slot = atom_slot(walk, hash, value, bytes);
        if (slot->generation == walk->atoms->generation) {
            cm_pod_get(walk->pod, slot->index);
            if (text) {
                cm_recent *recent = recent_place(walk, text);
                recent->hash = hash;
                recent->generation = slot->generation;
                recent->index = slot->index;
                Py_XSETREF(recent->text, Py_NewRef(text)); /* no code runs when an exact str goes */
            }
            return 0;
        }
        uint32_t place = (uint32_t)(cm_body_size(body) + (size < 256 ? 2 : 5));
        *slot = (cm_atom){hash, value | place, walk->atoms->generation, body->memo_count};
        walk->atoms->count++;
    }
    uint8_t *to = body->cursor;
    if (size < 256) {
        *to++ = opcode;
        *to++ = (uint8_t)size;
    } else {
        *to++ = tag == CM_ATOM_STR ? CM_OP_BINUNICODE : CM_OP_BINBYTES;
        put_operand(to, size, 4);
        to += 4;
    }
    memcpy(to, bytes, size);
    body->cursor = to + size;
    if (shared)
        cm_body_memoize(body);
    return 0;
}

/* ---- text and bytes --------------------------------------------------------------------------------------------------- */

/* UTF-8 with surrogates encoded as if they were characters ("surrogatepass"). `to` may be NULL; returns the size. */
static size_t encode_utf8(PyObject *text, uint8_t *to)
{
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    size_t size = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        uint8_t bytes[4];
        size_t count;
        if (c < 0x80) {
            bytes[0] = (uint8_t)c;
            count = 1;
        } else if (c < 0x800) {
            bytes[0] = (uint8_t)(0xc0 | c >> 6);
            bytes[1] = (uint8_t)(0x80 | (c & 0x3f));
            count = 2;
        } else if (c < 0x10000) {
            bytes[0] = (uint8_t)(0xe0 | c >> 12);
            bytes[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            bytes[2] = (uint8_t)(0x80 | (c & 0x3f));
            count = 3;
        } else {
            bytes[0] = (uint8_t)(0xf0 | c >> 18);
            bytes[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
            bytes[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            bytes[3] = (uint8_t)(0x80 | (c & 0x3f));
            count = 4;
        }
        for (size_t j = 0; to && j < count; j++)
            to[size + j] = bytes[j];
        size += count;
    }
    return size;
}

/* Emits bytes that are too long to be repeated, in the body or as a payload, and memoizes the object. */
static int emit_long_bytes(cm_walk *walk, PyObject *object, uint8_t opcode, enum cm_buffer_kind payload,
                           const uint8_t *bytes, size_t size)
{
    int opened = cm_walk_place(walk, object, CM_CLASS_BYTES, 0, size);
    if (opened < 0)
        return -1;
    cm_mix(walk, XXH3_64bits(bytes, size < 4096 ? size : 4096) + size);
    if (payload == CM_PAYLOAD_BYTEARRAY)
        cm_trace_opaque(walk);
    else if (opened)
        cm_trace_value(walk, object);
    if (size >= CM_PAYLOAD_MIN) {
        cm_pod_buffer(walk->pod, payload, bytes, size);
        walk->splices++;
    } else {
        emit_with_operand(walk, opcode, size, payload == CM_PAYLOAD_BYTEARRAY ? 8 : 4);
        cm_body_bytes(walk->body, bytes, size);
    }
    return cm_walk_memoize(walk, object) < 0 ? -1 : opened;
}

static int emit_wide_str(cm_walk *walk, PyObject *object)
{
    uint8_t small[4 * CM_ATOM_MOST];
    size_t size = CM_ATOM_MOST + 1;
    if (PyUnicode_GET_LENGTH(object) <= CM_ATOM_MOST)
        size = encode_utf8(object, small);
    if (size <= CM_ATOM_MOST)
        return emit_small(walk, CM_ATOM_STR, CM_OP_SHORT_BINUNICODE, small, size, NULL);
    int known = cm_walk_known(walk, object);
    if (known)
        return known < 0 ? -1 : 0;
    size = encode_utf8(object, NULL);
    PyObject *encoded = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!encoded)
        return -1;
    encode_utf8(object, (uint8_t *)PyBytes_AS_STRING(encoded));
    int result = size >= CM_PAYLOAD_MIN ? cm_walk_keep(walk, encoded) : 0;
    if (result == 0)
        result = emit_long_bytes(walk, object, CM_OP_BINUNICODE, CM_PAYLOAD_STR,
                                 (const uint8_t *)PyBytes_AS_STRING(encoded), size);
    Py_DECREF(encoded);
    return result;
}

int cm_emit_str(cm_walk *walk, PyObject *object)
{
    const cm_recent *recent = recent_place(walk, object);
    if (recent->text == object && walk->atoms && recent->generation == walk->atoms->generation) {
        cm_mix(walk, recent->hash);
        cm_pod_get(walk->pod, recent->index);
        return 0;
    }
    if (PyUnicode_READY(object) < 0)
        return -1;
    if (!PyUnicode_IS_COMPACT_ASCII(object))
        return emit_wide_str(walk, object);
    const uint8_t *bytes = PyUnicode_DATA(object);
    size_t size = (size_t)PyUnicode_GET_LENGTH(object);
    if (size <= CM_ATOM_MOST)
        return emit_small(walk, CM_ATOM_STR, CM_OP_SHORT_BINUNICODE, bytes, size, object);
    int known = cm_walk_known(walk, object);
    if (known)
        return known < 0 ? -1 : 0;
    return emit_long_bytes(walk, object, CM_OP_BINUNICODE, CM_PAYLOAD_STR, bytes, size);
}

int cm_emit_bytes(cm_walk *walk, PyObject *object)
{
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(object);
    size_t size = (size_t)PyBytes_GET_SIZE(object);
    if (size <= CM_ATOM_MOST)
        return emit_small(walk, CM_ATOM_BYTES, CM_OP_SHORT_BINBYTES, bytes, size, NULL);
    int known = cm_walk_known(walk, object);
    if (known)
        return known < 0 ? -1 : 0;
    return emit_long_bytes(walk, object, CM_OP_BINBYTES, CM_PAYLOAD_BYTES, bytes, size);
}

int cm_emit_bytearray(cm_walk *walk, PyObject *object)
{
    /* A copy: the payload is read later, and an export would keep the program from resizing its own object. */
    size_t size = (size_t)PyByteArray_GET_SIZE(object);
    const char *bytes = PyByteArray_AS_STRING(object);
    if (size >= CM_PAYLOAD_MIN) {
        PyObject *copy = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
        if (!copy)
            return -1;
        int result = cm_walk_keep(walk, copy);
        bytes = PyBytes_AS_STRING(copy);
        Py_DECREF(copy); /* kept */
        if (result < 0)
            return -1;
    }
    return emit_long_bytes(walk, object, CM_OP_BYTEARRAY8, CM_PAYLOAD_BYTEARRAY, (const uint8_t *)bytes, size);
}

/* ---- buffers ------------------------------------------------------------------------------------------------------ */

/* Room for one more export, held until the walk ends. */
static Py_buffer *next_buffer(cm_walk *walk)
{
    if (walk->buffer_count == walk->buffer_capacity) {
        size_t capacity = walk->buffer_capacity ? walk->buffer_capacity * 2 : 16;
        Py_buffer **buffers = PyMem_Realloc(walk->buffers, capacity * sizeof(Py_buffer *));
        if (!buffers) {
            PyErr_NoMemory();
            return NULL;
        }
        walk->buffers = buffers;
        walk->buffer_capacity = capacity;
    }
    Py_buffer *view = PyMem_Calloc(1, sizeof *view);
    if (!view)
        PyErr_NoMemory();
    return view;
}

/* Takes an export of its own of the memory, and holds it until the walk ends. */
static const Py_buffer *hold_buffer(cm_walk *walk, PyObject *object)
{
    Py_buffer *view = next_buffer(walk);
    if (view && PyObject_GetBuffer(object, view, PyBUF_FULL_RO) < 0) {
        PyMem_Free(view);
        return NULL;
    }
    if (view)
        walk->buffers[walk->buffer_count++] = view;
    return view;
}

/* Notes a buffer that stands here, by its size and the first of its bytes. */
static void mix_buffer(cm_walk *walk, const void *bytes, size_t size)
{
    cm_trace_opaque(walk);
    cm_mix(walk, XXH3_64bits(bytes, size < CM_DEVICE_HEAD ? size : CM_DEVICE_HEAD) + size);
}

/* One that is too small for a chunk of its own. */
static void emit_small_buffer(cm_walk *walk, const void *bytes, size_t size, bool readonly)
{
    if (readonly && size < 256)
        emit_with_operand(walk, CM_OP_SHORT_BINBYTES, size, 1);
    else if (readonly)
        emit_with_operand(walk, CM_OP_BINBYTES, size, 4);
    else
        emit_with_operand(walk, CM_OP_BYTEARRAY8, size, 8);
    cm_body_bytes(walk->body, bytes, size);
}

int cm_emit_picklebuffer(cm_walk *walk, PyObject *object)
{ /* the caller's reference to `object` is not needed once its memory is exported to the walk */
    const Py_buffer *view = PyPickleBuffer_GetBuffer(object);
    if (!view)
        return -1;
    if (view->suboffsets || !PyBuffer_IsContiguous(view, 'A')) {
        PyErr_SetString(walk->pickling_error,
                        "PickleBuffer can not be pickled when pointing to a non-contiguous buffer");
        return -1;
    }
    size_t size = (size_t)view->len;
    bool readonly = view->readonly;
    if (cm_idle_memory(walk, (uintptr_t)view->buf, size) < 0)
        return -1;
    mix_buffer(walk, view->buf, size);
    if (size < CM_PAYLOAD_MIN) {
        emit_small_buffer(walk, view->buf, size, readonly);
        return 0;
    }
    view = hold_buffer(walk, object);
    if (!view)
        return -1;
    cm_pod_buffer(walk->pod, readonly ? CM_BUFFER_READONLY : CM_BUFFER_WRITABLE, view->buf, size);
    walk->splices++;
    return 0;
}

_Static_assert((int)CM_PAYLOAD_MIN <= (int)CM_DEVICE_HEAD, "small buffers are in the head");

int cm_emit_device_memory(cm_walk *walk, PyObject *object)
{
    const cm_device_memory *memory = cm_device_memory_of(object);
    uint8_t head[CM_DEVICE_HEAD];
    bool small = memory->size < CM_PAYLOAD_MIN;
    if (cm_idle_memory(walk, memory->address, memory->size) < 0 ||
        cm_walk_foreign(walk) < 0) /* other threads run meanwhile */
        return -1;
    Py_buffer *view = small ? NULL : next_buffer(walk);
    if (!small && !view)
        return -1;
    int result;
    Py_INCREF(object);
    Py_BEGIN_ALLOW_THREADS
    result = small ? cm_device_read(memory, head) : cm_pod_device_buffer(walk->pod, memory, head);
    Py_END_ALLOW_THREADS
    if (result) {
        PyErr_SetString(walk->pickling_error, cm_error_message());
        PyMem_Free(view);
        Py_DECREF(object);
        return -1;
    }
    mix_buffer(walk, head, memory->size);
    if (small) {
        emit_small_buffer(walk, head, memory->size, false);
        Py_DECREF(object);
        return 0;
    }
    view->obj = object; /* let go of with the exports */
    walk->buffers[walk->buffer_count++] = view;
    walk->splices++;
    return 0;
}

/* ---- what is repeated in every pod -------------------------------------------------------------------------------------- */

static int get_repeated(cm_walk *walk, uint64_t hash, const void *address)
{
    if (atoms_ready(walk) < 0)
        return -1;
    const cm_atom *known = atom_slot(walk, hash, (uint64_t)(uintptr_t)address, NULL);
    if (known->generation != walk->atoms->generation)
        return 0;
    cm_pod_get(walk->pod, known->index);
    return 1;
}

static int memoize_repeated(cm_walk *walk, uint64_t hash, const void *address)
{
    if (atoms_ready(walk) < 0)
        return -1;
    uint64_t value = (uint64_t)(uintptr_t)address;
    *atom_slot(walk, hash, value, NULL) = (cm_atom){hash, value, walk->atoms->generation, walk->body->memo_count};
    walk->atoms->count++;
    cm_body_memoize(walk->body);
    return 0;
}

int cm_emit_repeated(cm_walk *walk, const cm_global *global)
{
    int known = get_repeated(walk, global->hash, global);
    if (known > 0)
        cm_mix(walk, global->hash);
    return known;
}

int cm_memoize_repeated(cm_walk *walk, const cm_global *global)
{
    return memoize_repeated(walk, global->hash, global);
}

int cm_emit_within(cm_walk *walk, const PyObject *object)
{
    return get_repeated(walk, cm_address_hash(object), object);
}

int cm_memoize_within(cm_walk *walk, PyObject *object)
{
    return cm_walk_keep(walk, object) < 0 ? -1 : memoize_repeated(walk, cm_address_hash(object), object);
}

/*
 * An object of another pod is memoized here a second time when it is first referred to: further references are local, and a
 * hundred thousand instances of one class refer to the pod of the class once.
 */
int cm_emit_reference(cm_walk *walk, const cm_memo_entry *entry)
{
    cm_mix(walk, CM_OP_POP);
    PyObject *object = entry->object;
    cm_shade *shade = cm_shade_at(walk->shadow, entry->shade);
    if (shade->pod == walk->pod) {
        cm_pod_get(walk->pod, entry->index);
        return 0;
    }
    uint64_t hash = cm_address_hash(object);
    int known = get_repeated(walk, hash, object);
    if (known)
        return known < 0 ? -1 : 0;
    cm_idle_link(walk, shade);
    cm_pod_external(walk->pod, shade->pod, entry->index);
    cm_trace_external(walk, object, entry);
    return memoize_repeated(walk, hash, object);
}

int cm_emit_global(cm_walk *walk, const cm_global *global)
{
    uint64_t outer = walk->hash;
    int known = get_repeated(walk, global->hash, global);
    if (known < 0)
        return -1;
    if (!known) {
        bool final = walk->final;
        walk->final = true; /* no pods for monstrous names */
        int result = cm_emit_str(walk, global->module) < 0 || cm_emit_str(walk, global->name) < 0 ? -1 : 0;
        walk->final = final;
        if (result < 0)
            return -1;
        cm_emit(walk, CM_OP_STACK_GLOBAL);
        if (memoize_repeated(walk, global->hash, global) < 0)
            return -1;
    }
    walk->hash = outer;
    cm_mix(walk, global->hash);
    return 0;
}
