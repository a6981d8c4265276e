/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.c - chipmink._core.Ahead: what an Unpickler loads from. It is a binary file, the linked stream of some variables, and
 * the iterator over its out-of-band buffers.
 *
 * A thread of its own links and decompresses the next windows of the stream while the Unpickler, under the GIL, makes objects
 * of the present one. A stream that fits into one window needs no thread.
 */
#include "window.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW = 1 << 20,
    WINDOW_FIRST_SHIFT =
        3, /* the first one is that much smaller, the next ones less: so that the Unpickler can begin */
    WINDOWS = 4,
    SIGNALS_MS = 50,
    LENT = 1 << 10, /* reads from this size on are not copied, of what was peeked at */
};

/* Buffers from this size on are worth huge pages: fewer page faults while they are filled. */
static const size_t huge_page_min = 4 << 20;

/* A buffer out of band: of a stream, or the one with that index of a link. */
typedef struct out_of_band {
    cm_stream_buffer streamed;
    size_t index;
} out_of_band;

typedef struct filled {
    cm_window *window;
    out_of_band *buffers; /* that the window refers to */
    size_t buffer_count, buffer_capacity;
} filled;

typedef struct {
    PyObject_HEAD
    cm_store *store;
    cm_windows *windows;
    /* What is read: a stream, or where that is not possible a link. The thread's, once there is one. */
    cm_stream *stream;
    PyObject *owner; /* keeps the link open */
    cm_link *link;
    uint64_t link_at;
    size_t link_buffer;
    pthread_t thread;
    bool threaded;
    /* Under the lock: a ring of windows, filled by the thread, emptied by the reader. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    filled ring[WINDOWS];
    unsigned filled, taken; /* how many ever */
    bool ended, stop;
    int result; /* of the thread, when ended */
    char message[512];
    /* The reader's: the present window, and buffers not yet asked for. */
    cm_window *present;
    size_t at, peeked; /* peeked: bytes from there on that were given by peek */
    out_of_band *buffers;
    size_t buffer_count, buffer_capacity, buffers_given;
} Ahead;

/* ---- filling ----------------------------------------------------------------------------------------------------- */

static bool add_buffer(out_of_band **buffers, size_t *count, size_t *capacity, const out_of_band *buffer)
{
    if (*count == *capacity) {
        size_t larger = *capacity ? *capacity * 2 : 8;
        out_of_band *grown = realloc(*buffers, larger * sizeof *grown);
        if (!grown)
            return false;
        *buffers = grown;
        *capacity = larger;
    }
    (*buffers)[(*count)++] = *buffer;
    return true;
}

/* Bytes of the window with that number. */
static size_t wanted(unsigned number)
{
    return WINDOW >> (number < WINDOW_FIRST_SHIFT ? WINDOW_FIRST_SHIFT - number : 0);
}

static int read_source(Ahead *self, cm_window *w)
{
    size_t size = wanted(self->filled);
    if (!self->link)
        return cm_stream_read(self->stream, w->bytes, size, &w->size);
    int result = cm_link_read(self->link, self->link_at, w->bytes, size, &w->size);
    self->link_at += w->size;
    return result;
}

static bool next_source_buffer(Ahead *self, out_of_band *buffer)
{
    if (!self->link)
        return cm_stream_next_buffer(self->stream, &buffer->streamed);
    if (self->link_buffer == cm_link_buffer_count(self->link))
        return false;
    buffer->index = self->link_buffer++;
    buffer->streamed.size = cm_link_buffer_size(self->link, buffer->index);
    buffer->streamed.readonly = cm_link_buffer_readonly(self->link, buffer->index);
    return true;
}

/* Without the GIL and unlocked: the window is the caller's. */
static int fill(Ahead *self, filled *to)
{
    out_of_band buffer = {0};
    to->buffer_count = 0;
    if (!to->window && !(to->window = cm_window_new(self->windows)))
        return -ENOMEM;
    int result = read_source(self, to->window);
    while (!result && next_source_buffer(self, &buffer))
        if (!add_buffer(&to->buffers, &to->buffer_count, &to->buffer_capacity, &buffer))
            result = -ENOMEM;
    return result;
}

static void *fill_ahead(void *arg)
{
    Ahead *self = arg;
    pthread_mutex_lock(&self->lock);
    while (!self->stop && !self->ended) {
        if (self->filled - self->taken == WINDOWS) {
            pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        filled *to = &self->ring[self->filled % WINDOWS];
        pthread_mutex_unlock(&self->lock);
        int result = fill(self, to);
        pthread_mutex_lock(&self->lock);
        self->ended = result || to->window->size < wanted(self->filled);
        if (result) {
            self->result = result;
            snprintf(self->message, sizeof self->message, "%s", cm_error_message());
        } else {
            self->filled++;
        }
        pthread_cond_broadcast(&self->changed);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- taking ------------------------------------------------------------------------------------------------------ */

/* Waits a little for a window. Without the GIL. */
static bool await_window(Ahead *self)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SIGNALS_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&self->lock);
    if (self->filled == self->taken && !self->ended)
        pthread_cond_timedwait(&self->changed, &self->lock, &until);
    bool ready = self->filled != self->taken || self->ended;
    pthread_mutex_unlock(&self->lock);
    return ready;
}

static bool raise_result(Ahead *self)
{
    const cm_module *module = cm_module_of((PyObject *)self);
    if (self->result == -ENOMEM)
        PyErr_NoMemory();
    else
        cm_raise_text(module, self->result, self->message);
    return false;
}

/* Makes the next window the present one; at the end that has no bytes. False: an exception is set. */
static bool next_window(Ahead *self)
{
    bool ready = false;
    while (!ready) {
        Py_BEGIN_ALLOW_THREADS
        ready = await_window(self);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals())
            return false;
    }
    cm_window_drop(self->present);
    self->present = NULL;
    self->at = 0;
    pthread_mutex_lock(&self->lock);
    filled *from = self->filled != self->taken ? &self->ring[self->taken % WINDOWS] : NULL;
    pthread_mutex_unlock(&self->lock);
    if (!from)
        return self->result ? raise_result(self) : true;
    for (size_t i = 0; i < from->buffer_count; i++)
        if (!add_buffer(&self->buffers, &self->buffer_count, &self->buffer_capacity, &from->buffers[i])) {
            PyErr_NoMemory();
            return false;
        }
    self->present = from->window;
    from->window = NULL;
    pthread_mutex_lock(&self->lock);
    self->taken++;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return true;
}

static size_t rest(const Ahead *self)
{
    return self->present ? self->present->size - self->at : 0;
}

/* Copies up to `size` bytes; fewer only at the end. -1: an exception is set. */
static Py_ssize_t take(Ahead *self, char *to, size_t size)
{
    size_t done = 0;
    self->peeked = 0;
    while (done < size) {
        if (rest(self) == 0) {
            if (!next_window(self))
                return -1;
            if (rest(self) == 0)
                break;
        }
        size_t some = rest(self) < size - done ? rest(self) : size - done;
        memcpy(to + done, self->present->bytes + self->at, some);
        self->at += some;
        done += some;
    }
    return (Py_ssize_t)done;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static PyObject *ahead_read(PyObject *object, PyObject *args)
{
    Ahead *self = (Ahead *)object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n", &size))
        return NULL;
    if (size >= LENT && (size_t)size <= self->peeked) { /* the Unpickler has had it, and only goes on */
        PyObject *view = cm_view_new(cm_module_of(object), self->present, self->at, (size_t)size);
        self->at += view ? (size_t)size : 0;
        self->peeked = 0;
        return view;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size < 0 ? 0 : size);
    Py_ssize_t done = bytes ? take(self, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)) : -1;
    if (done < 0)
        Py_CLEAR(bytes);
    else if (done < size)
        _PyBytes_Resize(&bytes, done);
    return bytes;
}

static PyObject *ahead_readinto(PyObject *object, PyObject *args)
{
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "w*", &view))
        return NULL;
    Py_ssize_t done = take((Ahead *)object, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return done < 0 ? NULL : PyLong_FromSsize_t(done);
}

/* Asked for by text opcodes, which pickles of old protocols written into a mount's work/ have, where a line goes on in the next window. */
static PyObject *ahead_readline(PyObject *object, PyObject *Py_UNUSED(none))
{
    Ahead *self = (Ahead *)object;
    PyObject *line = PyBytes_FromStringAndSize(NULL, 0);
    self->peeked = 0;
    for (bool ended = false; line && !ended;) {
        if (rest(self) == 0 && !next_window(self)) {
            Py_DECREF(line);
            return NULL;
        }
        if (rest(self) == 0)
            break;
        const char *from = (const char *)self->present->bytes + self->at, *end = memchr(from, '\n', rest(self));
        size_t some = end ? (size_t)(end - from) + 1 : rest(self);
        PyBytes_ConcatAndDel(&line, PyBytes_FromStringAndSize(from, (Py_ssize_t)some));
        self->at += some;
        ended = end != NULL;
    }
    return line;
}

static PyObject *ahead_peek(PyObject *object, PyObject *args)
{
    Ahead *self = (Ahead *)object;
    Py_ssize_t size = 0;
    if (!PyArg_ParseTuple(args, "|n", &size))
        return NULL;
    if (rest(self) == 0 && !next_window(self))
        return NULL;
    if (rest(self) == 0)
        return PyBytes_FromStringAndSize(NULL, 0);
    self->peeked = rest(self);
    return cm_view_new(cm_module_of(object), self->present, self->at, self->peeked);
}

/* ---- the buffers ------------------------------------------------------------------------------------------------- */

static void advise_huge_pages(void *memory, size_t size)
{
    if (size < huge_page_min)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)memory + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)memory + size) & ~(page - 1);
    madvise((void *)start, end - start, MADV_HUGEPAGE); /* only a hint: kernels without it work as well */
}

PyObject *cm_buffer_new(uint64_t size, bool readonly, void **memory)
{
    if (size > (uint64_t)PY_SSIZE_T_MAX - 64)
        return PyErr_Format(PyExc_MemoryError, "a buffer of %llu bytes", (unsigned long long)size);
    PyObject *made = readonly ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)
                              : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (made) {
        *memory = readonly ? PyBytes_AS_STRING(made) : PyByteArray_AS_STRING(made);
        advise_huge_pages(*memory, (size_t)size);
    }
    return made;
}

static PyObject *fetch_buffer(Ahead *self, const out_of_band *buffer)
{
    void *memory = NULL;
    PyObject *made = cm_buffer_new(buffer->streamed.size, buffer->streamed.readonly, &memory);
    if (!made || !buffer->streamed.size)
        return made;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = self->link ? cm_link_buffer_read(self->link, buffer->index, memory)
                        : cm_buffer_fetch(self->store, &buffer->streamed, memory);
    Py_END_ALLOW_THREADS
    if (result < 0)
        cm_raise(cm_module_of((PyObject *)self), result);
    if (result < 0 || PyErr_CheckSignals())
        Py_CLEAR(made);
    return made;
}

static PyObject *ahead_next(PyObject *object)
{
    Ahead *self = (Ahead *)object;
    if (self->buffers_given == self->buffer_count)
        return NULL; /* the Unpickler says that there are not enough buffers */
    return fetch_buffer(self, &self->buffers[self->buffers_given++]);
}

/*
 * The cyclic collector is off meanwhile: it would search the growing graph again and again, and find nothing, for nothing
 * that is being loaded is garbage.
 */
PyObject *cm_unpickle(PyObject *make, PyObject *ahead)
{
    PyObject *args = PyTuple_Pack(1, ahead);
    PyObject *kwargs = Py_BuildValue("{sO}", "buffers", ahead);
    PyObject *unpickler = args && kwargs ? PyObject_Call(make, args, kwargs) : NULL;
    int collecting = PyGC_Disable();
    PyObject *value = unpickler ? PyObject_CallMethod(unpickler, "load", NULL) : NULL;
    if (collecting)
        PyGC_Enable();
    Py_XDECREF(unpickler);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    return value;
}

/* ---- the object -------------------------------------------------------------------------------------------------- */

static void ahead_dealloc(PyObject *object)
{
    Ahead *self = (Ahead *)object;
    PyTypeObject *type = Py_TYPE(object);
    pthread_mutex_lock(&self->lock);
    self->stop = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    Py_BEGIN_ALLOW_THREADS
    if (self->threaded)
        pthread_join(self->thread, NULL);
    cm_stream_close(self->stream);
    cm_store_unref(self->store);
    Py_END_ALLOW_THREADS
    Py_XDECREF(self->owner);
    for (unsigned i = 0; i < WINDOWS; i++) {
        cm_window_drop(self->ring[i].window);
        free(self->ring[i].buffers);
    }
    free(self->buffers);
    cm_window_drop(self->present);
    cm_windows_free(self->windows);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    type->tp_free(object);
    Py_DECREF(type);
}

static Ahead *ahead_new(cm_module *module)
{
    Ahead *self = (Ahead *)module->ahead->tp_alloc(module->ahead, 0);
    if (self) {
        pthread_mutex_init(&self->lock, NULL);
        pthread_cond_init(&self->changed, NULL);
        self->windows = cm_windows_new(WINDOW);
        if (!self->windows) {
            PyErr_NoMemory();
            Py_CLEAR(self);
        }
    }
    return self;
}

/* Reads the first window, and starts the thread unless that is all. Without a thread the load fails. */
static PyObject *ahead_start(Ahead *self)
{
    Py_BEGIN_ALLOW_THREADS
    self->result = fill(self, &self->ring[0]);
    Py_END_ALLOW_THREADS
    if (self->result)
        snprintf(self->message, sizeof self->message, "%s", cm_error_message());
    self->ended = self->result || self->ring[0].window->size < wanted(0);
    self->filled = self->result == 0;
    if (!self->ended) {
        self->threaded = pthread_create(&self->thread, NULL, fill_ahead, self) == 0;
        if (!self->threaded) {
            Py_DECREF(self);
            PyErr_SetString(PyExc_RuntimeError, "no thread for reading the store could be started");
            return NULL;
        }
    }
    return (PyObject *)self;
}

PyObject *cm_ahead_new(cm_module *module, cm_store *store, cm_stream *stream)
{
    Ahead *self = ahead_new(module);
    if (!self) {
        cm_stream_close(stream);
        return NULL;
    }
    self->store = cm_store_ref(store);
    self->stream = stream;
    return ahead_start(self);
}

PyObject *cm_ahead_of_link(cm_module *module, PyObject *owner, cm_link *link)
{
    Ahead *self = ahead_new(module);
    if (!self)
        return NULL;
    self->owner = Py_NewRef(owner);
    self->link = link;
    return ahead_start(self);
}

bool cm_ahead_conflicts(PyObject *object)
{
    Ahead *self = (Ahead *)object;
    pthread_mutex_lock(&self->lock);
    bool conflicts = self->ended && self->result == -EAGAIN;
    pthread_mutex_unlock(&self->lock);
    return conflicts;
}

static PyMethodDef methods[] = {
    {"read", ahead_read, METH_VARARGS,
     PyDoc_STR("read(size, /)\n--\n\nAs io.BufferedReader.read, but lends what was peeked at.")},
    {"readinto", ahead_readinto, METH_VARARGS, PyDoc_STR("readinto(buffer, /)\n--\n\nAs io.BufferedReader.readinto.")},
    {"readline", ahead_readline, METH_NOARGS, PyDoc_STR("readline()\n--\n\nAs io.BufferedReader.readline.")},
    {"peek", ahead_peek, METH_VARARGS, PyDoc_STR("peek(size=0, /)\n--\n\nAs io.BufferedReader.peek, but lends.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A linked stream, read ahead, and the iterator over its buffers.")},
    {Py_tp_dealloc, (void *)ahead_dealloc},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)ahead_next},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec cm_ahead_spec = {
    .name = "chipmink._core.Ahead",
    .basicsize = sizeof(Ahead),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
