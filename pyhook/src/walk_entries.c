/* SPDX-License-Identifier: Apache-2.0 */
#define Py_BUILD_CORE 1 /* for what is below internal/; this file uses it for nothing else */
#include "walk_entries.h"

#if PY_VERSION_HEX >= 0x030b0000 && PY_VERSION_HEX < 0x030e0000
#include <internal/pycore_dict.h>

bool cm_dict_entries(PyObject *dict, cm_entries *entries)
{
    PyDictKeysObject *keys = ((PyDictObject *)dict)->ma_keys;
    if (((PyDictObject *)dict)->ma_values) /* they are an instance's, and lie elsewhere */
        return false;
    if (DK_IS_UNICODE(keys))
        *entries = (cm_entries){&DK_UNICODE_ENTRIES(keys)->me_key, sizeof(PyDictUnicodeEntry) / sizeof(PyObject *), 0};
    else
        *entries = (cm_entries){&DK_ENTRIES(keys)->me_key, sizeof(PyDictKeyEntry) / sizeof(PyObject *), 0};
    entries->count = (size_t)keys->dk_nentries;
    return true;
}
#else
bool cm_dict_entries(PyObject *dict, cm_entries *entries)
{
    (void)dict;
    (void)entries;
    return false;
}
#endif

#if PY_VERSION_HEX >= 0x030b0000 && PY_VERSION_HEX < 0x030c0000
#include <internal/pycore_object.h>

bool cm_attributes_inside(PyObject *object)
{
    return _PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_MANAGED_DICT) && *_PyObject_ValuesPointer(object);
}

void cm_attributes_return(PyObject *object)
{
    if (!_PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_MANAGED_DICT))
        return;
    PyObject **place = _PyObject_ManagedDictPointer(object), *dict = *place;
    const PyDictKeysObject *keys = ((PyHeapTypeObject *)Py_TYPE(object))->ht_cached_keys;
    if (!dict || Py_REFCNT(dict) != 1 || !PyDict_CheckExact(dict))
        return;
    PyDictObject *table = (PyDictObject *)dict;
    if (!table->ma_values || table->ma_keys != keys)
        return;
    *_PyObject_ValuesPointer(object) = table->ma_values;
    *place = NULL;
    table->ma_values = NULL; /* it has none of its own, and knows the keys: it goes as one that is empty does */
    table->ma_used = 0;
    Py_DECREF(dict);
}
#else
bool cm_attributes_inside(PyObject *object)
{
    (void)object;
    return false;
}

void cm_attributes_return(PyObject *object)
{
    (void)object;
}
#endif
