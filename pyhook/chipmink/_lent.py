# SPDX-License-Identifier: Apache-2.0
"""What a cell cannot get hold of, and so may be read by a save while the cell runs."""

from __future__ import annotations

import sys
import weakref
from typing import Any

from . import _cells, _core

_LEAST = 1 << 20  # bytes: less is copied sooner than a cell is looked at


def spared(savings: list[_core.Saving], code: str, namespace: dict[str, Any]) -> list[object]:
    """Give the arrays that saves read and that a cell neither reads nor changes.

    These are arrays of NumPy to which nothing refers but names of the namespace (no view, no
    container, no other variable, no weak reference), none of which the cell can reach: whatever it
    does with what it can reach, it finds no way to their memory. When it has run that still holds,
    for it could not make a reference to what it could not reach. Only who knows their bare address
    can write to them, as with ctypes, of which `_cells` knows nothing and so lets all be copied.

    Parameters
    ----------
    savings
        All that go on.
    code, namespace
        The cell, and the variables that it will run with.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return []
    lent = [
        (array, names)
        for array, names in _core.lent(savings, namespace)
        if type(array) is numpy.ndarray
        and array.flags.owndata
        and not weakref.getweakrefcount(array)
    ]
    if sum(array.nbytes for array, _ in lent) < _LEAST:
        return []
    touched = _cells.touches(code, namespace)
    if touched is None:
        return []
    return [array for array, names in lent if touched.isdisjoint(names)]


__all__ = ["spared"]
