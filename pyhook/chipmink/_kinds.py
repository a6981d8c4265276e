# SPDX-License-Identifier: Apache-2.0
"""The kinds of live values, found without running code of the session.

Types are told apart by identity: hashing or comparing a class may run the code of its metaclass.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from . import _allowed

BUDGET = 20_000  # elements looked at in one check
_DEPTH = 24  # containers in containers
ENDS_SEEN = 100  # rows at either end of a table that displaying it may show


class Refused(Exception):
    """The cell may change something, as far as can be told; the message says what."""


class Rule(NamedTuple):
    """How something may be called, and what kinds it gives."""

    positional: int
    required: str
    result: frozenset[str]
    draws: bool = False


def kinds(names: str) -> frozenset[str]:
    """Resolve a list of kinds, some of which stand for several."""
    found: set[str] = set()
    for name in names.split():
        union = _allowed.UNIONS.get(name)
        found.update(kinds(union) if union else (name,))
    return frozenset(found)


def _rules(
    table: Mapping[str, str], positional: int = _allowed.POSITIONAL, draws: bool = False
) -> dict[str, Rule]:
    rules = {}
    for names, result in table.items():
        for entry in names.split():
            name, _, required = entry.partition("!")
            name, _, count = name.partition("/")
            rules[name] = Rule(int(count) if count else positional, required, kinds(result), draws)
    return rules


_Attributes = dict[str, dict[str, frozenset[str]]]


def _attributes(table: Mapping[str, Mapping[str, str]]) -> _Attributes:
    return {
        kind: {name: kinds(result) for names, result in entries.items() for name in names.split()}
        for kind, entries in table.items()
    }


METHODS = {
    kind: _rules(table, draws=kind in _allowed.DRAWING) for kind, table in _allowed.METHODS.items()
}
for _kind, _table in _allowed.PLOTTING.items():
    METHODS[_kind].update(_rules(_table, draws=True))
ATTRIBUTES = _attributes(_allowed.ATTRIBUTES)
STRUCTURE = _attributes(_allowed.STRUCTURE)
ENDS = _attributes(_allowed.ENDS)
FUNCTIONS = {
    module: _rules(table, draws=module in _allowed.DRAWING)
    for module, table in _allowed.FUNCTIONS.items()
}
MAKERS = {
    path: Rule(_allowed.MAKER_POSITIONAL, "", kinds(result))
    for paths, result in _allowed.MAKERS.items()
    for path in paths.split()
}
DATA = kinds("data")

_PATHS = {kind: tuple(paths.split()) for kind, paths in _allowed.TYPES.items()}
_BY_NAME: dict[str, list[tuple[str, str]]] = {}
for _kind, _paths in _PATHS.items():
    for _path in _paths:
        _BY_NAME.setdefault(_path.partition(":")[2], []).append((_path, _kind))

# By id of the type, which is held so that no other can come to its address.
_found: dict[int, tuple[type, str]] = {}

_MODULE = type.__dict__["__module__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_MRO = type.__dict__["__mro__"].__get__
_DICT = type.__dict__["__dict__"].__get__
NOTHING: Any = type("_Nothing", (), {})()


def resolve(path: str) -> Any:
    """Give what `module:name` is, if the module is loaded; nothing is imported."""
    module, _, name = path.partition(":")
    if name == "NoneType" or name == "ellipsis":
        return type(None) if name == "NoneType" else type(...)
    loaded = sys.modules.get(module)
    return loaded.__dict__.get(name, NOTHING) if type(loaded) is types.ModuleType else NOTHING


def kind_of_type(cls: type) -> str:
    """Give the kind that a type belongs to, or an empty string."""
    known = _found.get(id(cls))
    if known is not None:
        return known[1]
    name = _QUALNAME(cls)
    if type(name) is not str:
        return ""
    for path, kind in _BY_NAME.get(name, ()):
        if resolve(path) is cls:
            _found[id(cls)] = (cls, kind)
            return kind
    return ""


def kind_of(value: object) -> str:
    """Give the kind of a value, or an empty string."""
    return kind_of_type(type(value))


def maker(cls: type) -> Rule | None:
    """Give how a type may be called."""
    module = _MODULE(cls)
    name = _QUALNAME(cls)
    if type(module) is not str:
        return None
    for path in (f"{module}:{name}", f"{module.partition('.')[0]}:{name}"):
        if path in MAKERS and resolve(path) is cls:
            return MAKERS[path]
    return None


def is_number_type(value: object) -> bool:
    """Tell whether a value is a type of numbers, as a parameter `dtype` may be."""
    return issubclass(type(value), type) and maker(value) is not None  # type: ignore[arg-type]


def root(module: object) -> str:
    """Give the name of the top package of a module."""
    return module.partition(".")[0] if type(module) is str else ""


def lookup(cls: type, name: str) -> Any:
    """Find an attribute on a type or its bases without binding it, as `inspect.getattr_static`."""
    for base in _MRO(cls):
        found = _DICT(base).get(name, NOTHING)
        if found is not NOTHING:
            return found
    return NOTHING


def is_shipped(function: object, package: str) -> bool:
    """Tell whether a function or descriptor is the one that came with a library.

    What is compiled is; a Python function has the globals of one of the library's modules, and so
    has what it wraps.
    """
    for _ in range(8):
        if type(function) is types.FunctionType:
            names = function.__globals__
            module = names.get("__name__")
            loaded = sys.modules.get(module) if type(module) is str else None
            if type(loaded) is not types.ModuleType or loaded.__dict__ is not names:
                return False
            if root(module) not in (package, "functools", "contextlib"):
                return False
            function = function.__dict__.get("__wrapped__")
        elif type(function) is property:
            function = function.fget
        elif type(function) is staticmethod or type(function) is classmethod:
            function = function.__func__
        else:
            origin = root(_MODULE(type(function)))
            if _QUALNAME(type(function)) == "cython_function_or_method":
                return root(getattr(function, "__module__", None)) == package
            if origin not in ("builtins", "functools", package):
                return False
            made = accessor(function)
            if made is not None and root(_MODULE(made)) != package:
                return False
            if origin == "builtins":
                return True
            function = getattr(function, "_implementation", getattr(function, "func", None))
        if function is None:
            return True
    return False


def accessor(member: object) -> type | None:
    """Give the class that an accessor of pandas (as .str and .dt are) makes."""
    cls = type(member)
    if root(_MODULE(cls)) != "pandas" or _QUALNAME(cls) not in ("Accessor", "CachedAccessor"):
        return None
    made: type = object.__getattribute__(member, "_accessor")
    return made


def function_rule(function: object) -> Rule | None:
    """Give how a function may be called, if it is one that changes nothing."""
    cls = type(function)
    if cls is types.BuiltinFunctionType:
        owner = function.__self__  # type: ignore[attr-defined]
        if type(owner) is not types.ModuleType:
            return None
        module: Any = function.__module__
    elif cls is types.FunctionType:
        module = function.__module__
    elif root(_MODULE(cls)) == "numpy":  # ufuncs, and what dispatches to __array_function__
        module = getattr(function, "__module__", None) or "numpy"
    else:
        return None
    name = function.__name__  # type: ignore[attr-defined]
    if type(module) is not str or type(name) is not str:
        return None
    for candidate in (module, root(module)):
        rule = FUNCTIONS.get(candidate, {}).get(name)
        if rule is not None:
            genuine = is_shipped(function, root(module)) and _is_there(function, candidate, name)
            if _QUALNAME(cls) == "ufunc":  # what follows the inputs are outputs
                rule = rule._replace(positional=function.nin)  # type: ignore[attr-defined]
            return rule if genuine else None
    return None


def _is_there(function: object, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and loaded.__dict__.get(name) is function


# ---- elements


class Ends(NamedTuple):
    """The first and last rows of a table or series."""

    of: Any


class Column(NamedTuple):
    """One column of a table."""

    of: Any
    name: str


class Types(NamedTuple):
    """The element types of a table or series."""

    of: Any


class Look:
    """A look into values: whether all that they hold is plain data.

    Plain data are values of the kinds in ``DATA`` and containers of them: comparing, hashing,
    showing or adding them runs no code but that of their types. A model is looked at as what it is
    made of. The look is bounded; what it does not get to see is refused.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._left = budget
        self._seen: dict[int, Any] = {}  # held, so that ids stay theirs
        self._in_model = False

    def at(self, value: Any) -> None:
        """Look at a value, or at what one of the classes above says of one."""
        cls = type(value)
        if cls is Ends:
            self._table(value.of, _DEPTH, ends=True)
        elif cls is Column:
            self._column(value.of, value.name)
        elif cls is Types:
            self._types(value.of)
        elif kind_of_type(cls) in _allowed.IN_DICT:
            self._in_model = True
            try:
                self._value(value, _DEPTH)
            finally:
                self._in_model = False
        else:
            self._value(value, _DEPTH)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Refused("there is more to look at than a check has time for")

    def _value(self, value: Any, depth: int) -> None:
        kind = kind_of(value)
        if kind in _LEAVES or id(value) in self._seen:
            return
        if depth <= 0:
            raise Refused("containers are nested too deeply")
        self._spend(1)
        self._seen[id(value)] = value
        if kind in ("list", "tuple", "set"):
            self._elements(value, depth)
        elif kind == "dict":
            self._elements(value, depth)
            self._elements(value.values(), depth)
        elif kind in ("frame", "series"):
            self._table(value, depth)
        elif kind == "index":
            self._index(value, depth)
        elif kind in ("array", "extension"):
            self._array(value, depth)
        elif kind == "sparse":
            self._elements(value.__dict__.values(), depth)
        elif kind == "time":
            self._clock(getattr(value, "tzinfo", None))
        elif kind == "dtype":
            self._clock(getattr(value, "tz", None))
        elif kind == "slice":
            self._elements((value.start, value.stop, value.step), depth)
        elif self._in_model and kind in _allowed.IN_DICT:
            attributes = object.__getattribute__(value, "__dict__")
            if attributes.get("copy") is False:
                raise Refused(f"this {type_name(value)} changes what it is given")
            self._elements(attributes.values(), depth)
        elif not (self._in_model and (kind == "fitted" or is_number_type(value))):
            self._other(value)

    def _other(self, value: Any) -> None:
        """Meet what is no plain data."""
        raise Refused(f"nothing is known about {type_name(value)} objects")

    def _elements(self, values: Collection[Any], depth: int) -> None:
        self._spend(len(values))
        self._held(list(values), depth)

    def _held(self, held: list[Any], depth: int) -> None:
        if _LEAF_IDS.issuperset(map(id, map(type, held))):
            return
        for value in held:
            self._value(value, depth - 1)

    def _array(self, values: Any, depth: int, rows: slice | None = None) -> None:
        kind = kind_of(values)
        if kind == "array":
            if not values.dtype.hasobject:
                return
            if values.dtype.kind != "O":
                raise Refused("an array has objects in its fields")
            part = values if rows is None else values[..., rows]
            self._spend(part.size)
            self._held(part.ravel().tolist(), depth)
        elif kind != "extension":
            raise Refused(f"nothing is known about {type_name(values)} objects")
        elif type(values).__name__ == "Categorical":
            self._index(values.categories, depth)
        else:
            self._clock(getattr(values.dtype, "tz", None))
            self._clock(getattr(values, "_freq", None))

    def _clock(self, clock: Any) -> None:
        """Check time zones and frequencies: those of others may run any code."""
        if clock is not None and root(_MODULE(type(clock))) not in _CLOCKS:
            raise Refused(f"nothing is known about {type_name(clock)} objects")

    def _table(self, table: Any, depth: int, ends: bool = False) -> None:
        kind = kind_of(table)
        if kind not in ("frame", "series"):  # what a slice of something else gives
            self._value(table, depth)
            return
        if table._attrs:
            raise Refused("a table has attrs")
        *labels, rows = table._mgr.axes
        ends = ends and len(rows) > 2 * ENDS_SEEN
        parts = (slice(0, ENDS_SEEN), slice(-ENDS_SEEN, None)) if ends else (None,)
        for part in parts:
            for block in table._mgr.blocks:
                self._array(block.values, depth, part)
            self._index(rows, depth, part)
        for axis in labels:
            self._index(axis, depth)
        if kind == "series":
            self._value(table._name, depth - 1)

    def _column(self, frame: Any, name: str) -> None:
        """Look at one column; the labels are plain, so that finding it runs no other code."""
        labels, rows = frame._mgr.axes
        self._index(labels, _DEPTH)
        self._index(rows, _DEPTH)
        if frame._attrs:
            raise Refused("a table has attrs")
        place = labels.get_loc(name) if name in labels else None
        if type(place) is int:
            self._array(frame._mgr.blocks[frame._mgr.blknos[place]].values, _DEPTH)
        elif place is not None:  # several of that name
            self._table(frame, _DEPTH)

    def _types(self, table: Any) -> None:
        for block in table._mgr.blocks:
            if not kind_of(block.values):
                raise Refused(f"nothing is known about {type_name(block.values)} objects")
            self._clock(getattr(block.values.dtype, "tz", None))
        self._index(table._mgr.axes[0], _DEPTH)

    def _index(self, index: Any, depth: int, rows: slice | None = None) -> None:
        if kind_of(index) != "index":
            raise Refused(f"nothing is known about {type_name(index)} objects")
        name = type(index).__name__
        if name == "MultiIndex":
            for level in index._levels:
                self._index(level, depth)
            self._elements(index._names, depth)
            return
        self._value(index._name, depth - 1)
        if name != "RangeIndex":
            self._array(index._data, depth, rows)


_LEAVES = kinds("number text bytes none npscalar range")
_CLOCKS = frozenset({"datetime", "zoneinfo", "pytz", "dateutil", "pandas"})
_LEAF_IDS = frozenset(map(id, (int, float, complex, bool, str, bytes, type(None))))


def type_name(value: object) -> str:
    """Give a short name of a value's type."""
    name = _QUALNAME(type(value))
    return str(name)
