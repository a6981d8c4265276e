/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_entries.h - the table of a dict, and the attributes of an instance, as they lie in memory.
 *
 * PyDict_Next looks up the hash of each key in the key: for a dict of a million strings that reads 64 MB more than comparing addresses
 * needs. Where the layout is known, by the headers of the very interpreter that this is compiled for, addresses alone are read.
 *
 * CPython 3.11 keeps attributes in an array of the instance until somebody asks for its __dict__, which takes the array over; from then on all
 * code that uses the attributes is slower, a loop over them by half. Those that only looked put it back. (3.12 does that by itself, and
 * 3.13 leaves the array where it is.)
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

/* Whether the attributes would be taken out of the instance by asking for its __dict__. */
bool cm_attributes_inside(PyObject *object);
/* Puts them back in, if nobody else has the __dict__ and nothing was done to it that does not fit in. */
void cm_attributes_return(PyObject *object);

#endif
