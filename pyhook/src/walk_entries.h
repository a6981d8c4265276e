/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_entries.h - the table of a dict, as it lies in memory.
 *
 * PyDict_Next looks up the hash of each key in the key: for a dict of a million strings that reads 64 MB more than comparing addresses
 * needs. Where the layout is known, by the headers of the very interpreter that this is compiled for, addresses alone are read.
 */
#ifndef CM_WALK_ENTRIES_H
#define CM_WALK_ENTRIES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>

/* Entries in the order of insertion, `stride` addresses apart: key, value; both NULL where one was removed. Borrowed, until the dict changes. */
typedef struct cm_entries {
    PyObject *const *first;
    size_t stride, count;
} cm_entries;

/* False: PyDict_Next has to do. Positions are the same ones as its. */
bool cm_dict_entries(PyObject *dict, cm_entries *entries);

#endif
