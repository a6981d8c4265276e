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
