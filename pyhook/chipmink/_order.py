# SPDX-License-Identifier: Apache-2.0
"""What instances are told apart by when the elements of a set are put in order: their content.

The order means nothing, it only has to be the same every time: in the next save, and when the same
program runs again, with another hash seed and other addresses. So a part of the content will do:
it is looked at as the reduce protocol gives it, up to a number of parts. What compares equal then
stays in the order that the set has.
"""

from __future__ import annotations

import copyreg
import hashlib
import types
from collections.abc import Callable
from typing import Any

from ._libraries import attrs

_PARTS_MOST = 64
_DEPTH_MOST = 16
_LENGTH_MOST = 256  # of a text
_CUT = "..."
_SHORT = frozenset((type(None), bool, int, float, complex))
_MADE = (
    "__dict__",
    "__weakref__",
    "__slotnames__",
    "__annotations_cache__",
    "__abstractmethods__",
    "_abc_impl",
)


def content(obj: object, value_of: Callable[[object], object]) -> object:
    """Give something whose repr is the same for objects with equal content in every process.

    Parameters
    ----------
    obj : object
        An element of a set.
    value_of : callable
        Gives the same for an object that has a value; raises a `LookupError` for others.
    """
    return _Content(value_of).of(obj)


class _Content:
    """Takes one object apart."""

    def __init__(self, value_of: Callable[[object], object]) -> None:
        self._value_of = value_of
        self._left = _PARTS_MOST
        self._above: list[int] = []  # ids of the objects that this one is in

    def of(self, obj: Any) -> object:
        cls = type(obj)
        if cls in _SHORT:
            return obj
        self._left -= 1
        if self._left < 0 or len(self._above) > _DEPTH_MOST:
            return _CUT
        if cls in (str, bytes):
            return obj[:_LENGTH_MOST]
        if id(obj) in self._above:
            return "above", len(self._above) - self._above.index(id(obj))
        self._above.append(id(obj))
        try:
            return self._parts(cls, obj)
        finally:
            self._above.pop()

    def _parts(self, cls: type, obj: Any) -> object:
        if cls in (list, tuple):
            return cls.__name__, self._each(obj)
        if cls in (set, frozenset):
            # which of them would come first is not known: all or none
            fits = len(obj) <= self._left
            return cls.__name__, len(obj), sorted(map(repr, map(self.of, obj))) if fits else _CUT
        if cls is dict:
            return "dict", [
                (self.of(key), self.of(value)) for key, value in self._some(obj.items())
            ]
        if cls is types.FunctionType:
            cells = [cell.cell_contents for cell in obj.__closure__ or () if _filled(cell)]
            parts = obj.__code__, obj.__defaults__, obj.__kwdefaults__, cells
            return str(obj.__module__), obj.__qualname__, self._each(parts)
        if cls is types.CodeType:
            obj = attrs.without_hash(obj)
            return hashlib.sha256(obj.co_code).hexdigest(), self._each(
                (obj.co_names, obj.co_consts)
            )
        if isinstance(obj, type) and obj.__module__ == "__main__":
            members = [vars(obj).get(name) for name in sorted(vars(obj)) if name not in _MADE]
            return str(obj.__module__), obj.__qualname__, self._each(members)
        try:
            return self._value_of(obj)
        except LookupError:
            return str(cls.__module__), cls.__qualname__, self._reduced(cls, obj)

    def _reduced(self, cls: type, obj: Any) -> object:
        if hasattr(cls, "__array__") or hasattr(cls, "nbytes"):
            return _CUT  # taking it apart may copy all of it
        reducer = copyreg.dispatch_table.get(cls)
        if not reducer and _is_plain(cls) and type(getattr(obj, "__dict__", None)) is dict:
            return self.of(obj.__dict__)
        try:
            reduced = reducer(obj) if reducer else obj.__reduce_ex__(4)
        except Exception:  # whatever the walk says of it later
            return _CUT
        if type(reduced) is not tuple or type(reduced[1]) is not tuple:
            return _CUT
        # the state first: all that is alike has the function, and often the class
        return [self.of(part) for part in (*reduced[2:3], *reduced[1])]

    def _each(self, parts: Any) -> list[object]:
        return [self.of(part) for part in self._some(parts)]

    def _some(self, parts: Any) -> Any:
        for part in parts:
            if self._left <= 0:
                return
            yield part


def _is_plain(cls: type) -> bool:
    """Tell whether all that the reduce protocol would give is the object's dict."""
    found = [getattr(cls, name, None) for name in _PROTOCOL]
    return found == _DEFAULTS and cls.__basicsize__ == _PLAIN_SIZE


class _Plain:
    pass


_PROTOCOL = ["__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__"]
_DEFAULTS = [getattr(object, name, None) for name in _PROTOCOL]
_PLAIN_SIZE = _Plain.__basicsize__  # more: there are slots


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
