/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - what the walk needs of memory of accelerators. */
#ifndef CM_PYHOOK_DEVICE_H
#define CM_PYHOOK_DEVICE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <chipmink/save.h>

/* Of an object whose type is chipmink._core.DeviceMemory; borrowed from it. */
const cm_device_memory *cm_device_memory_of(PyObject *object);

#endif
