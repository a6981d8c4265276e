# SPDX-License-Identifier: Apache-2.0
"""`multiprocessing.Value` and `Array`, with a lock and without: by content.

Loaded ones are in shared memory of the process that loads, and of those forked from it later.
"""

from __future__ import annotations

import ctypes
import operator
from types import SimpleNamespace
from typing import Any

from .memory import Call


def in_shared_memory(obj: Any) -> bool:
    """Tell whether a ctypes object is one that `multiprocessing` made."""
    attributes = getattr(obj, "__dict__", None)
    wrapper = attributes.get("_wrapper") if type(attributes) is dict else None
    return type(wrapper).__module__ == "multiprocessing.heap"


def _reduce_raw(obj: Any) -> Any:
    if not in_shared_memory(obj):
        reduced = obj.__reduce_ex__(5)
        if not isinstance(obj, ctypes.Array):
            return reduced
        return reduced[0], (_class(type(obj)), *reduced[1][1:])
    if isinstance(obj, ctypes.Array):
        return load_raw, (_class(obj._type_), len(obj), bytes(obj))
    return load_raw, (type(obj), None, bytes(obj))


def _class(cls: Any) -> Any:
    """Give what a class is when loaded: that of an array has no name, and is made again."""
    if issubclass(cls, ctypes.Array) and cls.__bases__ == (ctypes.Array,):
        element = cls._type_
        made: Any = element * cls._length_  # ctypes keeps the classes that it made
        return Call(operator.mul, _class(element), cls._length_) if made is cls else cls
    return cls


def load_raw(cls: Any, length: int | None, content: bytes) -> Any:
    """Make a `RawValue` or `RawArray`."""
    from multiprocessing import sharedctypes

    raw: Any = sharedctypes.RawValue(cls) if length is None else sharedctypes.RawArray(cls, length)
    ctypes.memmove(ctypes.addressof(raw), content, len(content))
    return raw


def _reduce_synchronized(obj: Any) -> Any:
    kind = type(obj.get_lock()).__name__
    return load_synchronized, (obj.get_obj(), kind == "Lock")


def load_synchronized(raw: Any, plain_lock: bool) -> Any:
    """Put a lock around a `RawValue` or `RawArray`."""
    import multiprocessing
    from multiprocessing import sharedctypes

    return sharedctypes.synchronized(raw, multiprocessing.Lock() if plain_lock else None)


RAW = SimpleNamespace(reduce=_reduce_raw, subclasses=True)
SYNCHRONIZED = SimpleNamespace(reduce=_reduce_synchronized, subclasses=True)
