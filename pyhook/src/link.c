/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - chipmink._core.Link: variables as one pickle stream with its buffers, and what the Unpickler makes of it. */
#include "module.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    cm_link *link; /* never NULL */
} Link;

/* Buffers from this size on are worth huge pages: fewer page faults while they are filled. */
static const size_t huge_page_min = 4 << 20;

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

static void advise_huge_pages(void *memory, size_t size)
{
    if (size < huge_page_min)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)memory + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)memory + size) & ~(page - 1);
    madvise((void *)start, end - start, MADV_HUGEPAGE); /* only a hint: kernels without it work as well */
}

/*
 * Buffer `i` as what a stream with the buffers in band would give: a bytearray where it was writable, else bytes. The
 * memory is not cleared before it is filled.
 */
static PyObject *read_buffer(PyObject *self, size_t i)
{
    cm_link *link = ((Link *)self)->link;
    uint64_t size = cm_link_buffer_size(link, i);
    if (size > (uint64_t)PY_SSIZE_T_MAX - 64)
        return PyErr_Format(PyExc_MemoryError, "a buffer of %llu bytes", (unsigned long long)size);
    bool readonly = cm_link_buffer_readonly(link, i);
    PyObject *buffer = readonly ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)
                                : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!buffer)
        return NULL;
    void *memory = readonly ? PyBytes_AS_STRING(buffer) : PyByteArray_AS_STRING(buffer);
    int result = 0;
    if (size) {
        Py_BEGIN_ALLOW_THREADS
        advise_huge_pages(memory, (size_t)size);
        result = cm_link_buffer_read(link, i, memory);
        Py_END_ALLOW_THREADS
    }
    if (result < 0 || PyErr_CheckSignals()) {
        Py_DECREF(buffer);
        return result < 0 ? cm_raise(cm_module_of(self), result) : NULL;
    }
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

/* ---- Reader: a link as the file that Unpickler reads ------------------------------------------------------------------ */

enum { READER_WINDOW = 1 << 20 };

typedef struct {
    PyObject_HEAD
    PyObject *link;
    PyObject *window; /* bytes of the stream from `start` on; NULL: nothing read yet */
    uint64_t start;   /* offset of the window */
    uint64_t at;      /* offset of the next byte to give: start <= at <= start + size of the window */
} Reader;

static PyObject *reader_new(cm_module *module, PyObject *link)
{
    Reader *self = (Reader *)module->reader->tp_alloc(module->reader, 0);
    if (self)
        self->link = Py_NewRef(link);
    return (PyObject *)self;
}

static void reader_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Reader *)self)->link);
    Py_XDECREF(((Reader *)self)->window);
    type->tp_free(self);
    Py_DECREF(type);
}

static uint64_t reader_rest(const Reader *r)
{
    return cm_link_size(((Link *)r->link)->link) - r->at;
}

/* What the window still has to give. */
static size_t window_rest(const Reader *r, const char **bytes)
{
    if (!r->window)
        return 0;
    size_t used = (size_t)(r->at - r->start);
    *bytes = PyBytes_AS_STRING(r->window) + used;
    return (size_t)PyBytes_GET_SIZE(r->window) - used;
}

/* Makes a window begin at the present offset. */
static bool fill_window(Reader *r)
{
    uint64_t rest = reader_rest(r);
    size_t size = rest < READER_WINDOW ? (size_t)rest : READER_WINDOW;
    PyObject *window = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!window || !read_exactly(r->link, r->at, PyBytes_AS_STRING(window), size)) {
        Py_XDECREF(window);
        return false;
    }
    Py_XSETREF(r->window, window);
    r->start = r->at;
    return true;
}

/* Copies the next `size` bytes, which must be there. */
static bool take(Reader *r, char *to, size_t size)
{
    const char *bytes = NULL;
    size_t some = window_rest(r, &bytes);
    if (some > size)
        some = size;
    if (some)
        memcpy(to, bytes, some);
    r->at += some;
    if (some == size)
        return true;
    if (!read_exactly(r->link, r->at, to + some, size - some))
        return false;
    r->at += size - some;
    Py_CLEAR(r->window);
    return PyErr_CheckSignals() == 0;
}

static PyObject *reader_read(PyObject *self, PyObject *args)
{
    Reader *r = (Reader *)self;
    Py_ssize_t size = -1;
    if (!PyArg_ParseTuple(args, "|n", &size))
        return NULL;
    uint64_t rest = reader_rest(r);
    if (size < 0 || (uint64_t)size > rest)
        size = (Py_ssize_t)rest;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes && !take(r, PyBytes_AS_STRING(bytes), (size_t)size))
        Py_CLEAR(bytes);
    return bytes;
}

static PyObject *reader_readinto(PyObject *self, PyObject *args)
{
    Reader *r = (Reader *)self;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "w*", &view))
        return NULL;
    uint64_t rest = reader_rest(r);
    size_t size = (uint64_t)view.len > rest ? (size_t)rest : (size_t)view.len;
    bool read = take(r, view.buf, size);
    PyBuffer_Release(&view);
    return read ? PyLong_FromSize_t(size) : NULL;
}

static PyObject *reader_readline(PyObject *self, PyObject *Py_UNUSED(none))
{
    Reader *r = (Reader *)self;
    const char *bytes = NULL, *newline;
    size_t some = window_rest(r, &bytes);
    if (!some || !memchr(bytes, '\n', some)) {
        if (!fill_window(r))
            return NULL;
        some = window_rest(r, &bytes);
    }
    newline = some ? memchr(bytes, '\n', some) : NULL;
    size_t size = newline ? (size_t)(newline - bytes) + 1 : some; /* no pickle has lines longer than a window */
    r->at += size;
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
}

/* At least `size` bytes where that many are left: the Unpickler parses them in place. */
static PyObject *reader_peek(PyObject *self, PyObject *args)
{
    Reader *r = (Reader *)self;
    Py_ssize_t size = 0;
    if (!PyArg_ParseTuple(args, "|n", &size))
        return NULL;
    const char *bytes = NULL;
    size_t some = window_rest(r, &bytes);
    if ((Py_ssize_t)some < size && some < reader_rest(r)) {
        if (!fill_window(r) || PyErr_CheckSignals())
            return NULL;
        some = window_rest(r, &bytes);
    }
    if (r->window && some == (size_t)PyBytes_GET_SIZE(r->window))
        return Py_NewRef(r->window);
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)some);
}

static PyMethodDef reader_methods[] = {
    {"read", reader_read, METH_VARARGS, PyDoc_STR("read(size=-1, /)\n--\n\nAs io.BufferedReader.read.")},
    {"readinto", reader_readinto, METH_VARARGS, PyDoc_STR("readinto(buffer, /)\n--\n\nAs io.BufferedReader.readinto.")},
    {"readline", reader_readline, METH_NOARGS, PyDoc_STR("readline()\n--\n\nAs io.BufferedReader.readline.")},
    {"peek", reader_peek, METH_VARARGS, PyDoc_STR("peek(size=0, /)\n--\n\nAs io.BufferedReader.peek.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The stream of a Link as a file.")},
    {Py_tp_dealloc, (void *)reader_dealloc},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

PyType_Spec cm_reader_spec = {
    .name = "chipmink._core.Reader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};

/* ---- loading ----------------------------------------------------------------------------------------------------- */

/*
 * The cyclic collector is off meanwhile: it would search the growing graph again and again, and find nothing, for nothing
 * that is being loaded is garbage.
 */
PyObject *cm_unpickle(cm_module *module, PyObject *file, PyObject *buffers)
{
    PyObject *args = PyTuple_Pack(1, file);
    PyObject *kwargs = Py_BuildValue("{sO}", "buffers", buffers);
    PyObject *unpickler = args && kwargs ? PyObject_Call(module->unpickler, args, kwargs) : NULL;
    int collecting = PyGC_Disable();
    PyObject *value = unpickler ? PyObject_CallMethod(unpickler, "load", NULL) : NULL;
    if (collecting)
        PyGC_Enable();
    Py_XDECREF(unpickler);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    return value;
}

static PyObject *link_load(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_module *module = cm_module_of(self);
    PyObject *buffers = read_buffers(self);
    PyObject *reader = buffers ? reader_new(module, self) : NULL;
    PyObject *value = reader ? cm_unpickle(module, reader, buffers) : NULL;
    Py_XDECREF(reader);
    Py_XDECREF(buffers);
    return value;
}

/* Reads everything a load reads, and unpickles nothing. */
static PyObject *link_check(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_link *link = ((Link *)self)->link;
    char *window = PyMem_Malloc(READER_WINDOW);
    if (!window)
        return PyErr_NoMemory();
    uint64_t size = cm_link_size(link);
    bool good = true;
    for (uint64_t at = 0; good && at < size; at += READER_WINDOW)
        good = read_exactly(self, at, window, size - at < READER_WINDOW ? (size_t)(size - at) : READER_WINDOW) &&
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

static PyObject *link_open(PyObject *self, PyObject *Py_UNUSED(none))
{
    return reader_new(cm_module_of(self), self);
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
    {"load", link_load, METH_NOARGS, PyDoc_STR("load()\n--\n\nUnpickles it, which runs what is stored in it.")},
    {"check", link_check, METH_NOARGS,
     PyDoc_STR("check()\n--\n\nReads all that load() reads and unpickles nothing; raises what is wrong.")},
    {"read", link_read, METH_VARARGS, PyDoc_STR("read(offset, size, /)\n--\n\nBytes of the stream.")},
    {"buffers", link_buffers, METH_NOARGS,
     PyDoc_STR("buffers()\n--\n\nThe out-of-band buffers, in order: bytearray where writable, else bytes.")},
    {"open", link_open, METH_NOARGS, PyDoc_STR("open()\n--\n\nThe stream as a binary file to read.")},
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
