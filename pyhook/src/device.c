/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - chipmink._core.Device, a library that reads the memory of accelerators, and DeviceMemory, some of that memory, which the
 * walk takes as it does a PickleBuffer of the same bytes.
 */
#include "device.h"
#include "module.h"

#include <dlfcn.h>
#include <errno.h>

typedef struct {
    PyObject_HEAD
    const cm_device_ops *ops; /* its library stays loaded: what a driver has begun may not be unloaded */
    cm_device_context *context;
} device_object;

typedef struct {
    PyObject_HEAD
    PyObject *device, *owner;
    cm_device_memory memory;
} memory_object;

const cm_device_memory *cm_device_memory_of(PyObject *object)
{
    return &((memory_object *)object)->memory;
}

static PyObject *raise_os_error(int result, const char *what, const char *why)
{
    PyObject *args = Py_BuildValue("(iN)", -result, PyUnicode_FromFormat("%s: %s", what, why));
    if (args)
        PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    return NULL;
}

/* ---- Device -------------------------------------------------------------------------------------------------------- */

static const cm_device_ops *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const cm_device_ops *ops = library ? dlsym(library, CM_DEVICE_SYMBOL) : NULL;
    const char *why = ops ? NULL : dlerror();
    if (ops && ops->version != CM_DEVICE_VERSION)
        why = "it is of another version of chipmink";
    if (!why)
        return ops;
    raise_os_error(-ENOEXEC, path, why);
    if (library)
        dlclose(library);
    return NULL;
}

static PyObject *new_device(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"path", NULL};
    PyObject *path;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&", (char **)keywords, PyUnicode_FSConverter, &path))
        return NULL;
    device_object *self = (device_object *)type->tp_alloc(type, 0);
    if (self && (self->ops = load(PyBytes_AS_STRING(path)))) {
        int result;
        Py_BEGIN_ALLOW_THREADS
        result = self->ops->open(&self->context);
        Py_END_ALLOW_THREADS
        if (result)
            raise_os_error(result, PyBytes_AS_STRING(path), self->ops->message());
    }
    Py_DECREF(path);
    if (self && !self->context)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void dealloc_device(PyObject *object)
{
    device_object *self = (device_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->context)
        self->ops->close(self->context);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *memory(PyObject *object, PyObject *args)
{
    device_object *self = (device_object *)object;
    cm_device_memory found = {.ops = self->ops, .context = self->context};
    unsigned long long address, size;
    PyObject *owner;
    if (!PyArg_ParseTuple(args, "iKKO", &found.device, &address, &size, &owner))
        return NULL;
    if (size == 0 || address + size < address)
        return PyErr_Format(PyExc_ValueError, "there is no memory of %llu bytes at %llu", size, address);
    found.address = address;
    found.size = size;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = self->ops->check(self->context, found.device, address, size);
    Py_END_ALLOW_THREADS
    if (result == -ENOTSUP)
        Py_RETURN_NONE;
    if (result)
        return raise_os_error(result, "its memory cannot be read", self->ops->message());
    PyTypeObject *type = cm_module_of(object)->device_memory;
    memory_object *made = (memory_object *)type->tp_alloc(type, 0);
    if (made) {
        made->memory = found;
        made->device = Py_NewRef(object);
        made->owner = Py_NewRef(owner);
    }
    return (PyObject *)made;
}

static PyMethodDef device_methods[] = {
    {"memory", memory, METH_VARARGS,
     PyDoc_STR("memory(device, address, size, owner)\n--\n\n"
               "Memory of a device, which `owner` keeps; None: it is of a kind that others may change unseen.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot device_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Device(path)\n--\n\nA library that reads the memory of accelerators. OSError: it "
                                  "cannot be loaded, or finds none.")},
    {Py_tp_new, (void *)new_device},
    {Py_tp_dealloc, (void *)dealloc_device},
    {Py_tp_methods, device_methods},
    {0, NULL},
};

PyType_Spec cm_device_spec = {
    .name = "chipmink._core.Device",
    .basicsize = sizeof(device_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = device_slots,
};

/* ---- DeviceMemory -------------------------------------------------------------------------------------------------- */

static void dealloc_memory(PyObject *object)
{
    memory_object *self = (memory_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->owner);
    Py_XDECREF(self->device);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *hashes(PyObject *object, PyObject *args)
{
    const cm_device_memory *m = cm_device_memory_of(object);
    unsigned long long seed;
    if (!PyArg_ParseTuple(args, "K", &seed))
        return NULL;
    uint64_t chunks = m->size / CM_DEVICE_CHUNK + (m->size % CM_DEVICE_CHUNK != 0);
    PyObject *found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(chunks * sizeof(cm_device_hash)));
    if (!found)
        return NULL;
    uint8_t head[CM_DEVICE_HEAD];
    void *to = PyBytes_AS_STRING(found);
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = m->ops->look(m->context, m->device, m->address, m->size, seed, head, to);
    Py_END_ALLOW_THREADS
    if (!result)
        return found;
    Py_DECREF(found);
    return raise_os_error(result, "its memory cannot be hashed", m->ops->message());
}

static PyObject *fetch(PyObject *object, PyObject *args)
{
    const cm_device_memory *m = cm_device_memory_of(object);
    Py_buffer to;
    if (!PyArg_ParseTuple(args, "w*", &to))
        return NULL;
    if ((uint64_t)to.len != m->size) {
        PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes for %llu", to.len, (unsigned long long)m->size);
        PyBuffer_Release(&to);
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = m->ops->fetch(m->context, m->device, m->address, m->size, NULL, to.buf);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&to);
    if (result)
        return raise_os_error(result, "its memory cannot be read", m->ops->message());
    Py_RETURN_NONE;
}

static PyMethodDef memory_methods[] = {
    {"hashes", hashes, METH_VARARGS,
     PyDoc_STR("hashes(seed)\n--\n\n"
               "What a save would look at: XXH3-128 of each chunk of 64 KiB, low and high half as they lie in memory, "
               "when all that was enqueued is done.")},
    {"fetch", fetch, METH_VARARGS,
     PyDoc_STR("fetch(buffer)\n--\n\nCopies it to writable memory of the same size, as a save would.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Memory of an accelerator; saved as a PickleBuffer of its bytes would be.")},
    {Py_tp_dealloc, (void *)dealloc_memory},
    {Py_tp_methods, memory_methods},
    {0, NULL},
};

PyType_Spec cm_device_memory_spec = {
    .name = "chipmink._core.DeviceMemory",
    .basicsize = sizeof(memory_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = memory_slots,
};
