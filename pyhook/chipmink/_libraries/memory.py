# SPDX-License-Identifier: Apache-2.0
"""Memory that several objects see: where it is, and memoryviews; and what reducers are made of."""

from __future__ import annotations

import array
import ctypes
import mmap
import operator
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

_SIMPLE = 0  # PyBUF_SIMPLE
_FORMATS = frozenset("cbBhHiIlLqQnNfd?")  # that memoryview.cast knows


class Call:
    """Stands for what a function returns: it is saved as a call, and loaded as its result."""

    __slots__ = ("__weakref__", "args", "function")

    def __init__(self, function: Any, *args: Any) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


class Steady(Call):
    """A call that is saved in a pod of its own: that stays as it is when what it is in differs."""

    __slots__ = ()


def method(name: str, *args: Any) -> Any:
    """Give a function that calls a method; the standard library alone can load it."""
    return operator.methodcaller(name, *args)


def with_state(obj: Any, change: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Reduce an object by the standard protocol, but its state to what `change` makes of it."""
    reduced = obj.__reduce_ex__(5)
    if type(reduced) is not tuple:
        return reduced  # type: ignore[no-any-return]  # a name
    function, args, *rest = reduced
    if rest and rest[0] is not None:
        rest[0] = change(rest[0])
    return function, args, *rest


def with_item(state: Any, name: str, value: Any) -> Any:
    """Give a state, if it is a dict with that item, with another value of it."""
    return {**state, name: value} if type(state) is dict and name in state else state


def varying(obj: Any, *names: str) -> tuple[Any, ...]:
    """Reduce an object by the standard protocol, attributes that differ between runs separately.

    Times and random identifiers are part of the object; they are saved, but what is not so is
    the same in a pod of its own.
    """
    return with_state(obj, lambda state: apart(state, *names))


def apart(state: Any, *names: str, before: Iterable[Any] = ()) -> Any:
    """Give a state, if it is a dict, in a pod of its own, but for what differs between runs.

    That are items with these names, and objects somewhere in it, which are saved `before`: it
    refers to them where they are.
    """
    parts = list(before)
    if type(state) is not dict or not (parts or any(name in state for name in names)):
        return state
    whole: Any = Steady(dict, {**state, **{name: None for name in names if name in state}})
    if parts:
        whole = Call(operator.itemgetter(1), (parts, whole))
    differing = {name: state[name] for name in names if name in state}
    return Call(operator.or_, whole, differing) if differing else whole  # keeps their order


class _Buffer(ctypes.Structure):
    """Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def extent(exporter: Any) -> tuple[int, int, bool]:
    """Give address, size and whether it is read-only, of the memory of a contiguous buffer."""
    buffer = _Buffer()
    api = ctypes.pythonapi
    api.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(buffer), _SIMPLE)
    found = (buffer.buf or 0, buffer.len, bool(buffer.readonly))
    api.PyBuffer_Release(ctypes.byref(buffer))
    return found


def address_of(array: Any) -> int:
    """Give the address of the first element of a NumPy array."""
    return int(array.__array_interface__["data"][0])


def bounds(array: Any) -> tuple[int, int]:
    """Give the addresses that a NumPy array with elements lies between; the second is behind it."""
    low = high = address_of(array)
    for length, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high + int(array.itemsize)


def _reduce_view(view: memoryview) -> tuple[Any, ...]:
    """Reduce a memoryview to one of the same object, where that is one that can be saved."""
    try:
        return _on_object(view).__reduce__()
    except (TypeError, ValueError, BufferError):
        return bytes, (view.tobytes(),)  # as cloudpickle does


def _on_object(view: memoryview) -> Call:
    exporter = view.obj
    cls: Any = type(exporter)
    numpys = cls.__module__ == "numpy" and cls.__name__ == "ndarray"
    named = cls is mmap.mmap and _is_segment(exporter)
    if cls not in (bytes, bytearray, array.array) and not numpys and not named:
        raise TypeError("its object is saved in another way, or not at all")
    with memoryview(exporter) as whole:
        call = Call(memoryview, exporter)
        same = (whole.format, whole.shape) == (view.format, view.shape)
        if not (same and whole.strides == view.strides and whole.nbytes == view.nbytes):
            if view.format not in _FORMATS or not view.nbytes:
                raise TypeError("it cannot be cast to that")
            start = extent(view)[0] - extent(exporter)[0]  # BufferError: not contiguous
            if not 0 <= start <= whole.nbytes - view.nbytes:
                raise ValueError("it is outside of its object")
            call = Call(
                operator.getitem, Call(method("cast", "B"), call), slice(start, start + view.nbytes)
            )
            if (view.format, view.ndim) != ("B", 1):
                shape = (view.shape,) if view.ndim != 1 else ()
                call = Call(method("cast", view.format, *shape), call)
        return Call(method("toreadonly"), call) if view.readonly and not whole.readonly else call


def _is_segment(mapped: Any) -> bool:
    from . import maps

    return maps.is_segment(mapped)


VIEWS = SimpleNamespace(reduce=_reduce_view)
