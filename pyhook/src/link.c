/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - chipmink._core.Link: variables as one pickle stream with its buffers. */
#include "module.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    cm_link *link; /* never NULL */
} Link;

PyObject *cm_link_wrap(cm_module *module, cm_link *link)
{
    Link *self = (Link *)module->link->tp_alloc(module->link, 0);
    if (!self) {
        cm_link_close(link);
        return NULL;
    }
    self->link = link;
    return (PyObject *)self;
}

static void link_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cm_link *link = ((Link *)self)->link;
    Py_BEGIN_ALLOW_THREADS
    cm_link_close(link);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

/* Reads exactly `size` bytes without the GIL. False: an exception is set. */
static bool read_exactly(PyObject *self, uint64_t offset, void *memory, size_t size)
{
    size_t done = 0;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = cm_link_read(((Link *)self)->link, offset, memory, size, &done);
    Py_END_ALLOW_THREADS
    cm_module *module = cm_module_of(self);
    if (result < 0)
        return cm_raise(module, result) != NULL;
    if (done != size) {
        PyErr_Format(module->errors[CM_ERROR_CORRUPT], "the stream ended at byte %llu, %zu bytes early",
                     (unsigned long long)(offset + done), size - done);
        return false;
    }
    return true;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static PyObject *read_buffer(PyObject *self, size_t i)
{
    cm_link *link = ((Link *)self)->link;
    uint64_t size = cm_link_buffer_size(link, i);
    void *memory = NULL;
    PyObject *buffer = cm_buffer_new(size, cm_link_buffer_readonly(link, i), &memory);
    int result = 0;
    if (buffer && size) {
        Py_BEGIN_ALLOW_THREADS
        result = cm_link_buffer_read(link, i, memory);
        Py_END_ALLOW_THREADS
    }
    if (result < 0)
        cm_raise(cm_module_of(self), result);
    if (result < 0 || PyErr_CheckSignals())
        Py_CLEAR(buffer);
    return buffer;
}

static PyObject *read_buffers(PyObject *self)
{
    size_t count = cm_link_buffer_count(((Link *)self)->link);
    PyObject *buffers = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; buffers && i < count; i++) {
        PyObject *buffer = read_buffer(self, i);
        if (buffer)
            PyList_SET_ITEM(buffers, (Py_ssize_t)i, buffer);
        else
            Py_CLEAR(buffers);
    }
    return buffers;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static PyObject *link_load(PyObject *self, PyObject *args)
{
    cm_module *module = cm_module_of(self);
    PyObject *unpickler = Py_None;
    if (!PyArg_ParseTuple(args, "|O", &unpickler))
        return NULL;
    PyObject *ahead = cm_ahead_of_link(module, self, ((Link *)self)->link);
    PyObject *value = ahead ? cm_unpickle(unpickler == Py_None ? module->unpickler : unpickler, ahead) : NULL;
    Py_XDECREF(ahead);
    return value;
}

enum { CHECK_BYTES = 1 << 20 };

/* Reads everything a load reads, and unpickles nothing. */
static PyObject *link_check(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_link *link = ((Link *)self)->link;
    char *window = PyMem_Malloc(CHECK_BYTES);
    if (!window)
        return PyErr_NoMemory();
    uint64_t size = cm_link_size(link);
    bool good = true;
    for (uint64_t at = 0; good && at < size; at += CHECK_BYTES)
        good = read_exactly(self, at, window, size - at < CHECK_BYTES ? (size_t)(size - at) : CHECK_BYTES) &&
               PyErr_CheckSignals() == 0;
    PyMem_Free(window);
    for (size_t i = 0; good && i < cm_link_buffer_count(link); i++) {
        PyObject *buffer = read_buffer(self, i);
        good = buffer != NULL;
        Py_XDECREF(buffer);
    }
    if (!good)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *link_read(PyObject *self, PyObject *args)
{
    unsigned long long offset;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Kn", &offset, &size))
        return NULL;
    uint64_t total = cm_link_size(((Link *)self)->link);
    uint64_t rest = offset < total ? total - offset : 0;
    if (size < 0 || (uint64_t)size > rest)
        size = (Py_ssize_t)rest;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes && size && !read_exactly(self, offset, PyBytes_AS_STRING(bytes), (size_t)size))
        Py_CLEAR(bytes);
    return bytes;
}

static PyObject *link_buffers(PyObject *self, PyObject *Py_UNUSED(none))
{
    return read_buffers(self);
}

static PyObject *link_size(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(cm_link_size(((Link *)self)->link));
}

static PyObject *link_buffer_sizes(PyObject *self, void *Py_UNUSED(closure))
{
    cm_link *link = ((Link *)self)->link;
    size_t count = cm_link_buffer_count(link);
    PyObject *sizes = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; sizes && i < count; i++) {
        PyObject *size = PyLong_FromUnsignedLongLong(cm_link_buffer_size(link, i));
        if (size)
            PyTuple_SET_ITEM(sizes, (Py_ssize_t)i, size);
        else
            Py_CLEAR(sizes);
    }
    return sizes;
}

static PyMethodDef methods[] = {
    {"load", link_load, METH_VARARGS,
     PyDoc_STR("load(unpickler=None, /)\n--\n\nUnpickles it, which runs what is stored in it.")},
    {"check", link_check, METH_NOARGS,
     PyDoc_STR("check()\n--\n\nReads all that load() reads and unpickles nothing; raises what is wrong.")},
    {"read", link_read, METH_VARARGS, PyDoc_STR("read(offset, size, /)\n--\n\nBytes of the stream.")},
    {"buffers", link_buffers, METH_NOARGS,
     PyDoc_STR("buffers()\n--\n\nThe out-of-band buffers, in order: bytearray where writable, else bytes.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"size", link_size, NULL, PyDoc_STR("Bytes of the stream."), NULL},
    {"buffer_sizes", link_buffer_sizes, NULL, PyDoc_STR("Bytes of the out-of-band buffers."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Variables linked into one pickle stream; from Checkpoint.link().")},
    {Py_tp_dealloc, (void *)link_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

PyType_Spec cm_link_spec = {
    .name = "chipmink._core.Link",
    .basicsize = sizeof(Link),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
