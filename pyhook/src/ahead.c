/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.c - chipmink._core.Ahead: what an Unpickler loads from. It is a binary file, the linked stream of some variables, and
 * the iterator over its out-of-band buffers.
 *
 * While the Unpickler, under the GIL, makes objects of one window of the stream, a thread of its own (the planner) links the next
 * ones, and others (the workers) read what is large: the texts that are missing in these windows, and the buffers that they refer to. When
 * the Unpickler wants something that is not there yet, its thread works along. What fits into one window needs no thread.
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
    LENT = 1 << 10,    /* reads from this size on are not copied, of what was peeked at */
    AT_ONCE = 1 << 20, /* bytes of buffers, and how many of them */
    PARTS = 32,
    BUFFERS_AHEAD = 64 << 20,
    SAME_MIN = 1 << 16, /* buffers from this size on are compared with so many before them */
    SAME_BEFORE = 256,
    WORKERS_MOST = 8,
};

/* Buffers from this size on are worth huge pages: fewer page faults while they are filled. */
static const size_t huge_page_min = 4 << 20;

/* A buffer out of band: of a stream, or the one with that index of a link. */
typedef struct out_of_band {
    cm_stream_buffer streamed;
    size_t index;
    PyObject *object; /* from when it has memory until it is given to the Unpickler */
    uint8_t *memory;
    uint64_t begun, done; /* bytes that somebody reads or has read; that are there */
    size_t same;          /* copied from that one, by its number from 1 on, when it is there; 0: read */
} out_of_band;

typedef struct slot {
    cm_window *window;
    bool begun, whole;    /* what is missing is being read; is there */
    out_of_band *buffers; /* that the window refers to */
    size_t buffer_count, buffer_capacity;
} slot;

typedef struct {
    PyObject_HEAD
    cm_store *store;
    cm_windows *windows;
    /* What is read: a stream, or where that is not possible a link. The planner's, once there is one. */
    cm_stream *stream;
    PyObject *owner; /* keeps the link open */
    cm_link *link;
    uint64_t link_at;
    size_t link_buffer;
    pthread_t planner, workers[WORKERS_MOST]; /* known to the reader alone */
    bool planning;
    unsigned worker_count;
    /* Under the lock: a ring of windows, read by the planner, filled by workers, emptied by the reader. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    slot ring[WINDOWS];
    unsigned planned, taken; /* how many ever */
    bool ended, stop;        /* the planner has; all shall */
    int result;              /* of the planner, when it has ended */
    int failed;              /* of any other */
    char message[512];       /* of the first failure */
    /* Also under the lock, but changed by the reader alone, except for what is begun and done: buffers of windows that are planned. */
    out_of_band *buffers;
    size_t buffer_count, buffer_capacity;
    size_t allocated, given,
        next; /* how many have memory, and were given; the first with parts that nobody has begun */
    /* The reader's. */
    uint64_t bytes_ahead; /* of buffers that have memory and were not given */
    cm_window *present;
    size_t at, peeked; /* peeked: bytes from there on that were given by peek */
} Ahead;

/* ---- planning ---------------------------------------------------------------------------------------------------- */

static bool reserve(out_of_band **buffers, size_t count, size_t *capacity, size_t more)
{
    size_t larger = *capacity ? *capacity : 8;
    while (larger < count + more)
        larger *= 2;
    if (larger == *capacity)
        return true;
    out_of_band *grown = realloc(*buffers, larger * sizeof *grown);
    if (!grown)
        return false;
    *buffers = grown;
    *capacity = larger;
    return true;
}

/* Bytes of the window with that number. */
static size_t wanted(unsigned number)
{
    return WINDOW >> (number < WINDOW_FIRST_SHIFT ? WINDOW_FIRST_SHIFT - number : 0);
}

static int read_source(Ahead *self, cm_window *w)
{
    size_t size = wanted(self->planned);
    int result;
    if (!self->link) {
        result = cm_stream_read(self->stream, size, w->piece);
        w->bytes = cm_piece_bytes(w->piece, &w->size);
        return result;
    }
    if (!w->own && !(w->own = malloc(WINDOW)))
        return -ENOMEM;
    result = cm_link_read(self->link, self->link_at, w->own, size, &w->size);
    w->bytes = w->own;
    self->link_at += w->size;
    return result;
}

static bool next_source_buffer(Ahead *self, out_of_band *buffer)
{
    *buffer = (out_of_band){.index = self->link_buffer};
    if (!self->link)
        return cm_stream_next_buffer(self->stream, &buffer->streamed);
    if (self->link_buffer == cm_link_buffer_count(self->link))
        return false;
    self->link_buffer++;
    buffer->streamed.size = cm_link_buffer_size(self->link, buffer->index);
    buffer->streamed.readonly = cm_link_buffer_readonly(self->link, buffer->index);
    return true;
}

/* Without the GIL and unlocked: the slot is the caller's. */
static int plan(Ahead *self, slot *to)
{
    out_of_band buffer;
    to->buffer_count = 0;
    if (!to->window && !(to->window = cm_window_new(self->windows)))
        return -ENOMEM;
    int result = read_source(self, to->window);
    while (!result && next_source_buffer(self, &buffer)) {
        if (!reserve(&to->buffers, to->buffer_count, &to->buffer_capacity, 1))
            return -ENOMEM;
        to->buffers[to->buffer_count++] = buffer;
    }
    to->whole = to->begun = self->link || cm_piece_is_whole(to->window->piece);
    return result;
}

/* With the lock. */
static void note_failure(Ahead *self, int *where, int result)
{
    if (!self->result && !self->failed)
        snprintf(self->message, sizeof self->message, "%s", cm_error_message());
    if (!*where)
        *where = result;
}

/* With the lock, which is given up meanwhile. */
static void plan_next(Ahead *self)
{
    slot *to = &self->ring[self->planned % WINDOWS];
    pthread_mutex_unlock(&self->lock);
    int result = plan(self, to);
    pthread_mutex_lock(&self->lock);
    self->ended = result || to->window->size < wanted(self->planned);
    if (result)
        note_failure(self, &self->result, result);
    else
        self->planned++;
    pthread_cond_broadcast(&self->changed);
}

static void *plan_ahead(void *arg)
{
    Ahead *self = arg;
    pthread_mutex_lock(&self->lock);
    while (!self->stop && !self->ended) {
        if (self->planned - self->taken == WINDOWS)
            pthread_cond_wait(&self->changed, &self->lock);
        else
            plan_next(self);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

/* What somebody reads at once: parts of buffers that follow each other. */
typedef struct job {
    cm_buffer_part parts[PARTS];
    cm_stream_buffer buffers[PARTS]; /* copies: the array may move */
    size_t first, count, index;      /* first: among the buffers; index: of the link's, where there is one */
} job;

/* With the lock. A link reads one buffer, on several threads. */
static void take_parts(Ahead *self, job *j)
{
    size_t bytes = 0;
    for (; self->next < self->allocated; self->next++) {
        out_of_band *b = &self->buffers[self->next];
        uint64_t left = b->streamed.size - b->begun, room = self->link ? left : AT_ONCE - bytes;
        size_t size = (size_t)(left < room ? left : room);
        if (!left && !j->count)
            continue;
        if (j->count == PARTS || (left && !size) || (j->count && self->link))
            return;
        j->first = j->count ? j->first : self->next;
        j->index = b->index;
        j->buffers[j->count] = b->streamed;
        j->parts[j->count] = (cm_buffer_part){&j->buffers[j->count], b->begun, b->memory + b->begun, size};
        j->count++;
        b->begun += size;
        bytes += size;
        if (size < left)
            return;
    }
}

/* Does the next thing that there is to do, with the lock, which is given up meanwhile. False: there is nothing. */
static bool work(Ahead *self)
{
    slot *missing = NULL;
    job j;
    int result;
    j.count = 0;
    for (unsigned i = self->taken; i != self->planned && !missing; i++)
        if (!self->ring[i % WINDOWS].begun)
            missing = &self->ring[i % WINDOWS];
    if (missing)
        missing->begun = true;
    else
        take_parts(self, &j);
    if (!missing && !j.count)
        return false;
    pthread_mutex_unlock(&self->lock);
    if (missing)
        result = cm_piece_fill(missing->window->piece);
    else
        result = self->link ? cm_link_buffer_read(self->link, j.index, j.parts[0].memory)
                            : cm_buffers_fetch(self->store, j.parts, j.count);
    pthread_mutex_lock(&self->lock);
    if (missing)
        missing->whole = true;
    for (size_t i = 0; i < j.count; i++)
        self->buffers[j.first + i].done += j.parts[i].size;
    if (result)
        note_failure(self, &self->failed, result);
    pthread_cond_broadcast(&self->changed);
    return true;
}

static void *work_ahead(void *arg)
{
    Ahead *self = arg;
    pthread_mutex_lock(&self->lock);
    while (!self->stop && !self->failed)
        if (!work(self))
            pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* As many as there are processors. Without any the reader does it all. */
static void start_workers(Ahead *self)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    while (self->worker_count < WORKERS_MOST && (long)self->worker_count < cores &&
           pthread_create(&self->workers[self->worker_count], NULL, work_ahead, self) == 0)
        self->worker_count++;
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* With the lock, which is given up meanwhile. */
static void wait_a_little(Ahead *self)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SIGNALS_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&self->changed, &self->lock, &until);
}

static bool raise_failure(Ahead *self, int result)
{
    const cm_module *module = cm_module_of((PyObject *)self);
    if (result == -ENOMEM)
        PyErr_NoMemory();
    else
        cm_raise_text(module, result, self->message);
    return false;
}

static bool has_window(const Ahead *self)
{
    return self->taken != self->planned ? self->ring[self->taken % WINDOWS].whole : self->ended;
}

static bool has_buffer(const Ahead *self)
{
    return self->buffers[self->given].done == self->buffers[self->given].streamed.size;
}

/* Works along until it is there. False: an exception is set. */
static bool await(Ahead *self, bool (*is_there)(const Ahead *))
{
    for (;;) {
        bool there;
        int failed;
        Py_BEGIN_ALLOW_THREADS
        pthread_mutex_lock(&self->lock);
        if (!is_there(self) && !self->failed && !work(self))
            wait_a_little(self);
        failed = self->failed;
        there = is_there(self);
        pthread_mutex_unlock(&self->lock);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals())
            return false;
        if (failed)
            return raise_failure(self, failed);
        if (there)
            return true;
    }
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

/* With the lock: takes over the buffers of all windows that are planned. False: no memory. */
static bool collect_buffers(Ahead *self)
{
    for (unsigned i = self->taken; i != self->planned; i++) {
        slot *from = &self->ring[i % WINDOWS];
        if (!reserve(&self->buffers, self->buffer_count, &self->buffer_capacity, from->buffer_count))
            return false;
        if (from->buffer_count)
            memcpy(self->buffers + self->buffer_count, from->buffers, from->buffer_count * sizeof *from->buffers);
        self->buffer_count += from->buffer_count;
        from->buffer_count = 0;
    }
    return true;
}

/* A buffer that has the same content, and memory that nobody else has seen: by its number from 1 on. 0: none. */
static size_t find_same(const Ahead *self, const out_of_band *b)
{
    if (self->link || b->streamed.size < SAME_MIN)
        return 0;
    for (size_t i = self->allocated; i > self->given && self->allocated - i < SAME_BEFORE; i--) {
        const out_of_band *other = &self->buffers[i - 1];
        if (other->streamed.size == b->streamed.size && !other->same &&
            memcmp(&other->streamed.tree, &b->streamed.tree, sizeof b->streamed.tree) == 0)
            return i;
    }
    return 0;
}

/* Gives memory to buffers that will be asked for soon, so that they can be read. False: an exception is set. */
static bool allocate_buffers(Ahead *self)
{
    uint64_t fresh = 0;
    pthread_mutex_lock(&self->lock);
    bool good = collect_buffers(self);
    pthread_mutex_unlock(&self->lock);
    if (!good)
        return PyErr_NoMemory() != NULL;
    while (self->allocated < self->buffer_count &&
           (self->allocated == self->given || self->bytes_ahead < BUFFERS_AHEAD)) {
        out_of_band *b = &self->buffers[self->allocated];
        void *memory = NULL;
        PyObject *made = cm_buffer_new(b->streamed.size, b->streamed.readonly, &memory);
        if (!made && self->allocated == self->given)
            return false;
        if (!made) {
            PyErr_Clear(); /* it is not wanted yet */
            break;
        }
        self->bytes_ahead += b->streamed.size;
        fresh += b->streamed.size;
        pthread_mutex_lock(&self->lock);
        b->object = made;
        b->memory = memory;
        b->same = find_same(self, b);
        b->begun = b->same ? b->streamed.size : 0;
        self->allocated++;
        pthread_mutex_unlock(&self->lock);
    }
    if (fresh > AT_ONCE)
        start_workers(self);
    if (fresh)
        pthread_cond_broadcast(&self->changed);
    return true;
}

/* The next buffer is there, and nobody else has it yet: those of the same content become copies of it. */
static void copy_to_same(Ahead *self)
{
    const out_of_band *b = &self->buffers[self->given];
    if (b->streamed.size < SAME_MIN)
        return;
    Py_BEGIN_ALLOW_THREADS
    for (size_t i = self->given + 1; i < self->allocated; i++) {
        if (self->buffers[i].same != self->given + 1)
            continue;
        memcpy(self->buffers[i].memory, b->memory, b->streamed.size);
        pthread_mutex_lock(&self->lock);
        self->buffers[i].done = b->streamed.size;
        pthread_mutex_unlock(&self->lock);
    }
    Py_END_ALLOW_THREADS
}

static PyObject *ahead_next(PyObject *object)
{
    Ahead *self = (Ahead *)object;
    if (!allocate_buffers(self) || self->given == self->buffer_count)
        return NULL; /* in the latter case the Unpickler says that there are not enough buffers */
    if (!await(self, has_buffer))
        return NULL;
    copy_to_same(self);
    pthread_mutex_lock(&self->lock);
    out_of_band *b = &self->buffers[self->given++];
    PyObject *made = b->object;
    self->bytes_ahead -= b->streamed.size;
    b->object = NULL;
    pthread_mutex_unlock(&self->lock);
    return made;
}

/* ---- the windows ------------------------------------------------------------------------------------------------- */

/* Makes the next window the present one; at the end that has no bytes. False: an exception is set. */
static bool next_window(Ahead *self)
{
    if (!await(self, has_window))
        return false;
    cm_window_drop(self->present);
    self->present = NULL;
    self->at = 0;
    if (!allocate_buffers(self))
        return false;
    pthread_mutex_lock(&self->lock);
    bool more = self->taken != self->planned;
    slot *from = &self->ring[self->taken % WINDOWS];
    if (more) {
        self->taken++;
        self->present = from->window;
        from->window = NULL;
        pthread_cond_broadcast(&self->changed);
    }
    pthread_mutex_unlock(&self->lock);
    return more || !self->result || raise_failure(self, self->result);
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

/* ---- unpickling -------------------------------------------------------------------------------------------------- */

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
    if (self->planning)
        pthread_join(self->planner, NULL);
    for (unsigned i = 0; i < self->worker_count; i++)
        pthread_join(self->workers[i], NULL);
    cm_stream_close(self->stream);
    cm_store_unref(self->store);
    Py_END_ALLOW_THREADS
    Py_XDECREF(self->owner);
    for (unsigned i = 0; i < WINDOWS; i++) {
        cm_window_drop(self->ring[i].window);
        free(self->ring[i].buffers);
    }
    for (size_t i = self->given; i < self->allocated; i++)
        Py_XDECREF(self->buffers[i].object);
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
        self->windows = cm_windows_new();
        if (!self->windows) {
            PyErr_NoMemory();
            Py_CLEAR(self);
        }
    }
    return self;
}

/* Plans the first window, and starts threads unless that is all. Without a planner the load fails. */
static PyObject *ahead_start(Ahead *self)
{
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&self->lock);
    plan_next(self);
    pthread_mutex_unlock(&self->lock);
    Py_END_ALLOW_THREADS
    if (!self->ended) {
        self->planning = pthread_create(&self->planner, NULL, plan_ahead, self) == 0;
        if (!self->planning) {
            Py_DECREF(self);
            PyErr_SetString(PyExc_RuntimeError, "no thread for reading the store could be started");
            return NULL;
        }
        start_workers(self);
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
