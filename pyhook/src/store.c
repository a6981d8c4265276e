/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - chipmink._core.Store: an open store or snapshot. */
#include "module.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct {
    PyObject_HEAD
    cm_store *store; /* NULL: closed */
} Store;

/*
 * Runs `call` without the GIL on a store kept open meanwhile: another thread may close the object. `call` sees it as
 * `store`; its result is in `result`.
 */
#define WITH_STORE(self, call)                                                                                         \
    do {                                                                                                               \
        cm_store *store = cm_store_unwrap(self);                                                                       \
        if (!store)                                                                                                    \
            return NULL;                                                                                               \
        PyThreadState *thread_state = PyEval_SaveThread();                                                             \
        result = (call);                                                                                               \
        cm_store_unref(store);                                                                                         \
        PyEval_RestoreThread(thread_state);                                                                            \
    } while (0)

cm_store *cm_store_unwrap(PyObject *self)
{
    Store *s = (Store *)self;
    if (!s->store) {
        PyErr_SetString(cm_module_of(self)->errors[CM_ERROR_STORE], "this store is closed: open it again");
        return NULL;
    }
    return cm_store_ref(s->store);
}

/* ---- opening and closing --------------------------------------------------------------------------------------------- */

static PyObject *store_wrap(PyTypeObject *type, cm_store *store)
{
    Store *self = (Store *)type->tp_alloc(type, 0);
    if (!self) {
        cm_store_unref(store);
        return NULL;
    }
    self->store = store;
    return (PyObject *)self;
}

/* What opening came to: a Store, or an exception of a kind that tells the directory from what is in a store. */
static PyObject *store_opened(PyTypeObject *type, cm_store *store, int result)
{
    cm_module *module = PyType_GetModuleState(type);
    if (result == -ENOENT)
        return cm_raise_as(module, CM_ERROR_NO_STORE, result);
    if (result == -EINVAL)
        return cm_raise_as(module, CM_ERROR_STORE, result);
    return result < 0 ? cm_raise(module, result) : store_wrap(type, store);
}

static PyObject *store_open(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"path", "write", "create", "command", NULL};
    PyObject *path, *command = NULL;
    int write = 0, create = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|ppO&", (char **)names, PyUnicode_FSConverter, &path, &write,
                                     &create, PyUnicode_FSConverter, &command))
        return NULL;
    unsigned flags = (write ? CM_OPEN_WRITE : CM_OPEN_READ) | (create ? CM_OPEN_CREATE : 0);
    cm_store *store = NULL;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = command ? cm_store_connect(PyBytes_AS_STRING(path), flags, PyBytes_AS_STRING(command), &store)
                     : cm_store_open(PyBytes_AS_STRING(path), flags, &store);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    Py_XDECREF(command);
    return store_opened((PyTypeObject *)type, store, result);
}

static PyObject *store_open_snapshot(PyObject *type, PyObject *args)
{
    PyObject *path;
    const char *hex;
    cm_id id;
    if (!PyArg_ParseTuple(args, "O&s", PyUnicode_FSConverter, &path, &hex))
        return NULL;
    cm_store *store = NULL;
    int result = cm_id_parse(hex, &id);
    Py_BEGIN_ALLOW_THREADS
    if (result == 0)
        result = cm_store_open_snapshot(PyBytes_AS_STRING(path), &id, &store);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    return store_opened((PyTypeObject *)type, store, result);
}

static void release(Store *self)
{
    cm_store *store = self->store;
    self->store = NULL;
    if (!store)
        return;
    Py_BEGIN_ALLOW_THREADS
    cm_store_unref(store); /* the last reference flushes and closes the database */
    Py_END_ALLOW_THREADS
}

static PyObject *store_close(PyObject *self, PyObject *Py_UNUSED(none))
{
    release((Store *)self);
    Py_RETURN_NONE;
}

static void store_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    release((Store *)self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *store_path(PyObject *self, void *Py_UNUSED(closure))
{
    cm_store *store = cm_store_unwrap(self);
    if (!store)
        return NULL;
    PyObject *path = PyUnicode_DecodeFSDefault(cm_store_path(store));
    cm_store_unref(store);
    return path;
}

static PyObject *store_writable(PyObject *self, void *Py_UNUSED(closure))
{
    const Store *s = (const Store *)self;
    return PyBool_FromLong(s->store && cm_store_writable(s->store));
}

static PyObject *store_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Store *)self)->store == NULL);
}

static PyObject *nothing(PyObject *self, int result)
{
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    Py_RETURN_NONE;
}

static PyObject *store_refresh(PyObject *self, PyObject *Py_UNUSED(none))
{
    int result;
    WITH_STORE(self, cm_store_refresh(store));
    return nothing(self, result);
}

/* ---- names collected without the GIL ----------------------------------------------------------------------------------- */

typedef struct names {
    size_t count, capacity;
    struct {
        char *name;
        uint64_t number;
    } * items;
} names;

static int names_add(void *arg, const char *name, uint64_t number)
{
    names *n = arg;
    if (n->count == n->capacity) {
        size_t capacity = n->capacity ? 2 * n->capacity : 32;
        void *items = realloc(n->items, capacity * sizeof(*n->items));
        if (!items)
            return -ENOMEM;
        n->items = items;
        n->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    n->items[n->count].name = copy;
    n->items[n->count++].number = number;
    return 0;
}

static void names_free(names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i].name);
    free(n->items);
}

/* Frees `n` and returns its list of (name, number), or raises what `result` says. */
static PyObject *names_finish(names *n, cm_module *module, int result)
{
    if (result < 0) {
        names_free(n);
        return cm_raise(module, result);
    }
    PyObject *list = PyList_New((Py_ssize_t)n->count);
    for (size_t i = 0; list && i < n->count; i++) {
        PyObject *pair = Py_BuildValue("(NK)", cm_text(n->items[i].name), (unsigned long long)n->items[i].number);
        if (pair)
            PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
        else
            Py_CLEAR(list);
    }
    names_free(n);
    return list;
}

/* ---- sessions and refs ----------------------------------------------------------------------------------------------- */

static PyObject *store_sessions(PyObject *self, PyObject *Py_UNUSED(none))
{
    int result;
    names found = {0};
    WITH_STORE(self, cm_session_list(store, names_add, &found));
    return names_finish(&found, cm_module_of(self), result);
}

static PyObject *store_session(PyObject *self, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    cm_session_info info = {0};
    int result;
    WITH_STORE(self, cm_session_get(store, name, &info));
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    PyObject *tuple = Py_BuildValue("(KKN)", (unsigned long long)info.last_number, (unsigned long long)info.head_number,
                                    cm_text(info.branch));
    cm_session_info_clear(&info);
    return tuple;
}

static int ref_kind(const char *text, enum cm_ref_kind *kind)
{
    if (strcmp(text, "branch") && strcmp(text, "tag")) {
        PyErr_Format(PyExc_ValueError, "a ref is a 'branch' or a 'tag', not '%s'", text);
        return -1;
    }
    *kind = *text == 'b' ? CM_REF_BRANCH : CM_REF_TAG;
    return 0;
}

static PyObject *store_refs(PyObject *self, PyObject *args)
{
    const char *session, *text;
    enum cm_ref_kind kind;
    if (!PyArg_ParseTuple(args, "ss", &session, &text) || ref_kind(text, &kind))
        return NULL;
    int result;
    names found = {0};
    WITH_STORE(self, cm_ref_list(store, session, kind, names_add, &found));
    return names_finish(&found, cm_module_of(self), result);
}

static PyObject *store_set_ref(PyObject *self, PyObject *args)
{
    const char *session, *text, *name;
    unsigned long long number;
    enum cm_ref_kind kind;
    if (!PyArg_ParseTuple(args, "sssK", &session, &text, &name, &number) || ref_kind(text, &kind))
        return NULL;
    int result;
    WITH_STORE(self, cm_ref_set(store, session, kind, name, number));
    return nothing(self, result);
}

static PyObject *store_set_head(PyObject *self, PyObject *args)
{
    const char *session, *branch;
    unsigned long long number = 0;
    if (!PyArg_ParseTuple(args, "szK", &session, &branch, &number))
        return NULL;
    int result;
    WITH_STORE(self, cm_head_set(store, session, branch, number));
    return nothing(self, result);
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

/* Takes over the checkpoint. */
static PyObject *checkpoint_opened(PyObject *self, cm_checkpoint *checkpoint, int result)
{
    return result < 0 ? cm_raise(cm_module_of(self), result) : cm_checkpoint_wrap(cm_module_of(self), checkpoint);
}

static PyObject *store_checkpoint(PyObject *self, PyObject *args)
{
    const char *session, *revision = NULL;
    if (!PyArg_ParseTuple(args, "s|z", &session, &revision))
        return NULL;
    cm_checkpoint *checkpoint = NULL;
    int result;
    WITH_STORE(self, cm_checkpoint_open(store, session, revision, &checkpoint));
    return checkpoint_opened(self, checkpoint, result);
}

static PyObject *store_checkpoint_number(PyObject *self, PyObject *args)
{
    const char *session;
    unsigned long long number;
    if (!PyArg_ParseTuple(args, "sK", &session, &number))
        return NULL;
    cm_checkpoint *checkpoint = NULL;
    int result;
    WITH_STORE(self, cm_checkpoint_open_number(store, session, number, &checkpoint));
    return checkpoint_opened(self, checkpoint, result);
}

static PyObject *store_checkpoint_id(PyObject *self, PyObject *args)
{
    const char *hex;
    cm_id id;
    if (!PyArg_ParseTuple(args, "s", &hex))
        return NULL;
    int result = cm_id_parse(hex, &id);
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    cm_checkpoint *checkpoint = NULL;
    WITH_STORE(self, cm_checkpoint_open_id(store, &id, &checkpoint));
    return checkpoint_opened(self, checkpoint, result);
}

static int add_number(void *arg, uint64_t number, const cm_id *id)
{
    (void)id;
    return names_add(arg, "", number);
}

static PyObject *store_checkpoints(PyObject *self, PyObject *args)
{
    const char *session;
    if (!PyArg_ParseTuple(args, "s", &session))
        return NULL;
    int result;
    names found = {0};
    WITH_STORE(self, cm_checkpoint_list(store, session, add_number, &found));
    PyObject *numbers = result < 0 ? cm_raise(cm_module_of(self), result) : PyList_New((Py_ssize_t)found.count);
    for (size_t i = 0; numbers && i < found.count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(found.items[i].number);
        if (number)
            PyList_SET_ITEM(numbers, (Py_ssize_t)i, number);
        else
            Py_CLEAR(numbers);
    }
    names_free(&found);
    return numbers;
}

static PyObject *store_prune(PyObject *self, PyObject *args)
{
    const char *session;
    unsigned long long last, hourly, daily, weekly;
    int tagged, dry_run;
    if (!PyArg_ParseTuple(args, "sKKKKpp", &session, &last, &hourly, &daily, &weekly, &tagged, &dry_run))
        return NULL;
    const cm_retention keep = {.last = last, .hourly = hourly, .daily = daily, .weekly = weekly, .tagged = tagged};
    cm_prune_entry *entries = NULL;
    size_t count = 0;
    int result;
    WITH_STORE(self, cm_prune(store, session, &keep, dry_run, &entries, &count));
    PyObject *list = result < 0 ? cm_raise(cm_module_of(self), result) : PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *entry = Py_BuildValue("(KI)", (unsigned long long)entries[i].number, entries[i].kept_for);
        if (entry)
            PyList_SET_ITEM(list, (Py_ssize_t)i, entry);
        else
            Py_CLEAR(list);
    }
    free(entries);
    return list;
}

/* ---- objects, statistics, verify ------------------------------------------------------------------------------------- */

static PyObject *store_object(PyObject *self, PyObject *args)
{
    const char *hex;
    cm_id id;
    if (!PyArg_ParseTuple(args, "s", &hex))
        return NULL;
    int result = cm_id_parse(hex, &id);
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    cm_object_info info = {0};
    WITH_STORE(self, cm_object_stat(store, &id, &info));
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    return Py_BuildValue("(sKK)", cm_kind_name(info.kind), (unsigned long long)info.size,
                         (unsigned long long)info.stored);
}

static PyObject *store_read_object(PyObject *self, PyObject *args)
{
    const char *hex;
    cm_id id;
    if (!PyArg_ParseTuple(args, "s", &hex))
        return NULL;
    int result = cm_id_parse(hex, &id);
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    void *data = NULL;
    size_t size = 0;
    WITH_STORE(self, cm_object_read(store, &id, &data, &size));
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    free(data);
    return bytes;
}

static PyObject *store_statistics(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_store_stat s = {0};
    int result;
    WITH_STORE(self, cm_store_statistics(store, &s));
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    return Py_BuildValue("{sKsKsKsKsKsK}", "objects", (unsigned long long)s.objects, "raw_bytes",
                         (unsigned long long)s.raw_bytes, "stored_bytes", (unsigned long long)s.stored_bytes,
                         "disk_bytes", (unsigned long long)s.disk_bytes, "sessions", (unsigned long long)s.sessions,
                         "checkpoints", (unsigned long long)s.checkpoints);
}

static PyObject *store_watching(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_store *store = cm_store_unwrap(self);
    if (!store)
        return NULL;
    cm_watch_stat s;
    cm_store_watching(store, &s);
    cm_store_unref(store);
    return Py_BuildValue("{sKsKsK}", "buffers", (unsigned long long)s.buffers, "bytes", (unsigned long long)s.bytes,
                         "unread", (unsigned long long)s.unread);
}

/* Something long, without the GIL, that Ctrl-C ends. */
typedef struct watch {
    pthread_t thread; /* the one that has the thread state */
    PyThreadState *state;
    bool interrupted;
} watch;

static int watch_signals(void *arg, uint64_t Py_UNUSED(done), uint64_t Py_UNUSED(total))
{
    watch *w = arg;
    if (!pthread_equal(pthread_self(), w->thread))
        return 0;
    PyEval_RestoreThread(w->state);
    w->interrupted = PyErr_CheckSignals() != 0;
    w->state = PyEval_SaveThread();
    return w->interrupted ? -EINTR : 0;
}

typedef struct verification {
    watch watch;  /* first: watch_signals */
    names damage; /* "where: what" */
} verification;

static int verify_damage(void *arg, const char *where, const char *what)
{
    verification *v = arg;
    char *sentence = NULL;
    if (asprintf(&sentence, "%s: %s", where, what) < 0)
        return -ENOMEM;
    int result = names_add(&v->damage, sentence, 0);
    free(sentence);
    return result;
}

static PyObject *store_verify(PyObject *self, PyObject *Py_UNUSED(none))
{
    cm_module *module = cm_module_of(self);
    cm_store *store = cm_store_unwrap(self);
    if (!store)
        return NULL;
    verification v = {.watch = {.thread = pthread_self()}};
    cm_verify_report report = {0};
    v.watch.state = PyEval_SaveThread();
    int result = cm_verify(store, verify_damage, watch_signals, &v, &report);
    cm_store_unref(store);
    PyEval_RestoreThread(v.watch.state);
    if (v.watch.interrupted || (result < 0 && !v.damage.count)) {
        names_free(&v.damage);
        return v.watch.interrupted ? NULL : cm_raise(module, result);
    }
    PyObject *damage = PyTuple_New((Py_ssize_t)v.damage.count);
    for (size_t i = 0; damage && i < v.damage.count; i++) {
        PyObject *sentence = cm_text(v.damage.items[i].name);
        if (sentence)
            PyTuple_SET_ITEM(damage, (Py_ssize_t)i, sentence);
        else
            Py_CLEAR(damage);
    }
    names_free(&v.damage);
    if (!damage)
        return NULL;
    return Py_BuildValue("(KKKKKN)", (unsigned long long)report.sessions, (unsigned long long)report.checkpoints,
                         (unsigned long long)report.variables, (unsigned long long)report.objects,
                         (unsigned long long)report.bytes, damage);
}

static PyObject *store_gc(PyObject *self, PyObject *args)
{
    int dry_run;
    if (!PyArg_ParseTuple(args, "p", &dry_run))
        return NULL;
    cm_store *store = cm_store_unwrap(self);
    if (!store)
        return NULL;
    watch w = {.thread = pthread_self()};
    cm_gc_report r = {0};
    w.state = PyEval_SaveThread();
    int result = cm_gc(store, dry_run, watch_signals, &w, &r);
    cm_store_unref(store);
    PyEval_RestoreThread(w.state);
    if (w.interrupted)
        return NULL;
    if (result < 0)
        return cm_raise(cm_module_of(self), result);
    return Py_BuildValue("(KKKKKK)", (unsigned long long)r.removed, (unsigned long long)r.removed_bytes,
                         (unsigned long long)r.kept, (unsigned long long)r.kept_bytes,
                         (unsigned long long)r.disk_before, (unsigned long long)r.disk_after);
}

/* ---- the type ---------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"open", (PyCFunction)(void (*)(void))store_open, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("open(path, write=False, create=False)\n--\n\nOpens the store in the directory `path`.")},
    {"open_snapshot", store_open_snapshot, METH_VARARGS | METH_CLASS,
     PyDoc_STR("open_snapshot(directory, id, /)\n--\n\nOpens the directory of a checkpoint as a store of it alone.")},
    {"close", store_close, METH_NOARGS,
     PyDoc_STR("close()\n--\n\nGives the store back; what was made of it stays usable. Idempotent.")},
    {"refresh", store_refresh, METH_NOARGS, PyDoc_STR("refresh()\n--\n\nA reader catches up with the writer.")},
    {"sessions", store_sessions, METH_NOARGS, PyDoc_STR("sessions()\n--\n\n[(name, last checkpoint's number)].")},
    {"session", store_session, METH_VARARGS,
     PyDoc_STR("session(name, /)\n--\n\n(last number, head number or 0, branch or None).")},
    {"refs", store_refs, METH_VARARGS,
     PyDoc_STR("refs(session, kind, /)\n--\n\n[(name, number)] of the branches ('branch') or tags ('tag').")},
    {"set_ref", store_set_ref, METH_VARARGS,
     PyDoc_STR("set_ref(session, kind, name, number, /)\n--\n\nMakes or moves a branch or tag.")},
    {"set_head", store_set_head, METH_VARARGS,
     PyDoc_STR("set_head(session, branch, number, /)\n--\n\nHead on a branch, or (branch None) on a checkpoint.")},
    {"checkpoint", store_checkpoint, METH_VARARGS,
     PyDoc_STR("checkpoint(session, revision=None, /)\n--\n\nThe checkpoint; None is the head.")},
    {"checkpoint_number", store_checkpoint_number, METH_VARARGS,
     PyDoc_STR("checkpoint_number(session, number, /)\n--\n\nThe checkpoint with that number.")},
    {"checkpoint_id", store_checkpoint_id, METH_VARARGS,
     PyDoc_STR("checkpoint_id(id, /)\n--\n\nThe checkpoint with that id, 64 hexadecimal digits.")},
    {"checkpoints", store_checkpoints, METH_VARARGS,
     PyDoc_STR("checkpoints(session, /)\n--\n\nThe numbers of its checkpoints, ascending.")},
    {"prune", store_prune, METH_VARARGS,
     PyDoc_STR(
         "prune(session, last, hourly, daily, weekly, tagged, dry_run, /)\n--\n\n[(number, kept for)]; 0: it goes.")},
    {"object", store_object, METH_VARARGS,
     PyDoc_STR("object(id, /)\n--\n\n(kind, bytes of content, bytes stored) of an object.")},
    {"read_object", store_read_object, METH_VARARGS,
     PyDoc_STR("read_object(id, /)\n--\n\nThe verified content of an object.")},
    {"statistics", store_statistics, METH_NOARGS, PyDoc_STR("statistics()\n--\n\nSizes and counts, as a dict.")},
    {"watching", store_watching, METH_NOARGS,
     PyDoc_STR("watching()\n--\n\nBuffers and bytes whose pages are watched; bytes the last save left unread.")},
    {"verify", store_verify, METH_NOARGS,
     PyDoc_STR("verify()\n--\n\n(sessions, checkpoints, variables, objects, bytes, damage): reads everything again.")},
    {"gc", store_gc, METH_VARARGS,
     PyDoc_STR("gc(dry_run, /)\n--\n\n(removed, its bytes, kept, its bytes, disk before, disk after).")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"path", store_path, NULL, PyDoc_STR("The store's directory."), NULL},
    {"writable", store_writable, NULL, PyDoc_STR("Whether this is the writing process."), NULL},
    {"closed", store_closed, NULL, PyDoc_STR("Whether close() was called."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("An open store: Store.open(path) or Store.open_snapshot(directory, id).")},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

PyType_Spec cm_store_spec = {
    .name = "chipmink._core.Store",
    .basicsize = sizeof(Store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
