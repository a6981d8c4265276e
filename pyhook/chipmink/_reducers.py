# SPDX-License-Identifier: Apache-2.0
"""What the walker asks Python: names of globals, and how functions and classes are taken apart.

The walker (C) does the builtin types and the reduce protocol. What a session defines itself is
reduced by cloudpickle, whose functions put it together again on loading, with everything removed
that would differ between two runs of the same program: random class ids, the order of sets and of
``sys.modules``, names of temporary files.
"""

from __future__ import annotations

import copyreg
import dataclasses
import datetime
import enum
import functools
import hashlib
import itertools
import pickle
import re
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as _cp

from . import _order, reducers
from ._libraries import attrs, dlpack, pydantic
from ._libraries.memory import bounds, extent

_BUILTIN_TYPES: dict[type, str] = {
    value: name for name, value in vars(types).items() if isinstance(value, type)
}
_BY_REPR = ("datetime", "decimal", "fractions", "ipaddress", "numpy", "pandas", "pathlib", "uuid")

# Classes whose instances many variables of a notebook have in common; see Reducers.nature.
_KNOWN_BASES = {
    ("chipmink._libraries.memory", "Steady"): "steady",
    ("numpy", "dtype"): "value",
    ("pandas.core.arrays.string_", "StringDtype"): "value",
    ("pandas.core.dtypes.dtypes", "BaseMaskedDtype"): "value",
    ("pandas.core.dtypes.dtypes", "DatetimeTZDtype"): "value",
    ("pandas.core.dtypes.dtypes", "PeriodDtype"): "value",
    ("pandas.core.generic", "NDFrame"): "owner",
    ("pandas.core.dtypes.dtypes", "CategoricalDtype"): "apart",
    ("pandas.core.indexes.base", "Index"): "apart",
    ("pandas", "StringDtype"): "value",
    ("pandas", "DatetimeTZDtype"): "value",
    ("pandas", "PeriodDtype"): "value",
    ("pandas", "CategoricalDtype"): "apart",
    ("pandas", "Index"): "apart",
}

# Ids of classes that cloudpickle already knows under a random id of its own.
_ID_PREFIX = "chipmink-"
_own_ids: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_own_ids_lock = threading.Lock()

# Files that IPython and ipykernel say code is from: the number of the prompt and the process id
# change from run to run, the hash of the cell does not.
_CELL_FILE = re.compile(
    r"<(?:ipython-input)-\d+-(?P<old>[0-9a-f]+)>|.*[\\/]ipykernel_\d+[\\/](?P<new>\d+\.py)"
)

# co_consts and co_filename among the arguments of types.CodeType, CPython 3.10 to 3.13
_CODE_CONSTANTS = 7
_CODE_FILE = 10


class Reducers:
    """The reducers of one save: functions that share their globals do so again when loaded."""

    def __init__(self) -> None:
        # id of a globals dict -> itself, so that the id stays its own, and what stands for it
        self._globals: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._values: dict[Any, Any] = {}
        self.memory: dict[Any, Any] = {}  # of the arrays met; see _libraries/numpy.py
        self.owning = False  # in an object whose arrays are its own; the walker sets it
        self._dispatch: dict[Any, Callable[[Any], Any]] = {
            types.CodeType: _reduce_code,
            types.MethodType: self._reduce_method,
            functools.cached_property: _reduce_cached_property,
            type(functools.lru_cache(len)): _reduce_lru_cache,
            typing.TypeVar: _reduce_typevar,
            # by name, so that fields find their default to be missing after loading too
            type(dataclasses.MISSING): lambda obj: (getattr, (dataclasses, "MISSING")),
            typing.NewType: _reduce_newtype,
            weakref.WeakKeyDictionary: _reduce_weak_dict,
            weakref.WeakValueDictionary: _reduce_weak_dict,
        }
        for name in ("ParamSpec", "TypeVarTuple"):  # the latter since Python 3.11
            if hasattr(typing, name):
                self._dispatch[getattr(typing, name)] = _reduce_parameter

    @staticmethod
    def memory_of(obj: Any) -> tuple[int, int]:
        """Give address and size of what an exporter of memory sees; of all there is, if unknown."""
        try:
            if hasattr(obj, "__array_interface__"):
                if not obj.size or isinstance(obj, sys.modules["numpy"].generic):
                    return 0, 0
                low, high = bounds(obj)
                return low, high - low
            return extent(obj)[:2]
        except Exception:  # it has gaps, or is closed
            return 0, (1 << 64) - 1

    # ---- names ---------------------------------------------------------------------------------

    def locate(self, obj: type | types.FunctionType) -> tuple[str, str] | None:
        """Tell under which (module, qualified name) a class or function can be imported.

        None if it cannot be, or shall not be because its module was registered with
        `cloudpickle.register_pickle_by_value`: it is saved by value.
        """
        if type(obj) is type and obj in _BUILTIN_TYPES:  # others may not be hashable
            return "types", _BUILTIN_TYPES[obj]
        if obj is functools._CacheInfo:  # whose __qualname__ is another
            return "functools", "_CacheInfo"
        found = _cp._lookup_module_and_qualname(obj)
        if found is None or _cp._is_registered_pickle_by_value(found[0]):
            return None
        module_name = _cp._whichmodule(obj, found[1])
        return str(module_name), str(found[1])

    def locate_named(self, obj: object, name: str) -> tuple[str, str]:
        """Tell where an object is whose reducer returned its name; as `pickle` looks for it.

        Raises
        ------
        pickle.PicklingError
            It is not there, or another object is.
        """
        module_name = pickle.whichmodule(obj, name)  # type: ignore[attr-defined]
        try:
            __import__(module_name, level=0)
            found = sys.modules[module_name]
            for part in name.split("."):
                if part == "<locals>":
                    raise AttributeError(part)
                found = getattr(found, part)
        except (ImportError, KeyError, AttributeError, ValueError, TypeError):
            raise pickle.PicklingError(
                f"Can't pickle {obj!r}: it's not found as {module_name}.{name}"
            ) from None
        if found is not obj:
            raise pickle.PicklingError(
                f"Can't pickle {obj!r}: it's not the same object as {module_name}.{name}"
            )
        return str(module_name), str(name)

    # ---- reducers ------------------------------------------------------------------------------

    def dispatch(self, cls: type) -> Callable[[Any], Any] | None:
        """Find the function that reduces instances of exactly this type, if one is registered."""
        found = reducers.find(cls)
        if found is not None:
            return found.for_save(self)
        return (
            self._dispatch.get(cls)
            or cloudpickle.CloudPickler.dispatch_table.get(cls)
            or copyreg.dispatch_table.get(cls)
            or (dlpack.reduce if dlpack.is_offered(cls) else None)
        )

    def take_apart(
        self, obj: type | types.FunctionType
    ) -> tuple[tuple[Any, ...], dict[str, Any] | None, dict[str, Any] | None]:
        """Reduce a class or function that has no name to be imported by.

        Returns
        -------
        reduced : tuple
            As from ``__reduce__``.
        shared : dict or None
            The part of a function that it shares with all functions that have its globals.
        referred : dict or None
            The globals that a function refers to.
        """
        if not isinstance(obj, types.FunctionType):
            return _reduce_class(obj, self), None, None
        reduced = self._reduce_function(obj)
        return reduced, reduced[1][1], reduced[2][1]["__globals__"]

    def _reduce_function(self, func: types.FunctionType) -> tuple[Any, ...]:
        known = self._globals.get(id(func.__globals__))
        if known is None:
            base: dict[str, Any] = {
                name: func.__globals__[name]
                for name in ("__package__", "__name__", "__path__", "__file__")
                if name in func.__globals__
            }
            known = self._globals[id(func.__globals__)] = (func.__globals__, base)
        state, slotstate = _cp._function_getstate(func)
        slotstate["_cloudpickle_submodules"].sort(key=lambda module: module.__name__)
        slotstate["__closure__"] = None  # the walker makes the cells empty and fills them itself
        return (
            _cp._make_function,
            (func.__code__, known[1], None, None, func.__closure__),
            (state, slotstate),
            None,
            None,
            _cp._function_setstate,
        )

    def _reduce_method(self, method: types.MethodType) -> tuple[Any, ...]:
        owner, name = method.__self__, method.__func__.__name__
        if isinstance(owner, type) and self.locate(owner) and getattr(owner, name, None) == method:
            return getattr, (owner, name)  # a class method: its function alone has no address
        return _cp._method_reduce(method)  # type: ignore[no-any-return]

    # ---- what is repeated ----------------------------------------------------------------------

    def nature(self, cls: type) -> str:
        """Tell how instances of a class are shared.

        Returns
        -------
        str
            "value": immutable and shared by everything, each pod has them for itself;
            "owner": after loading, their arrays share memory with nothing: they copy on write,
            and would not know of others; "apart": the same, and often shared and not small, so
            that they get pods of their own; "steady": pods of their own, too, which stay when
            what they are in differs; "": all others.
        """
        if issubclass(cls, (enum.Enum, types.ModuleType, datetime.tzinfo)):
            return "value"
        for base in cls.__mro__:
            name = _KNOWN_BASES.get((base.__module__, base.__name__))
            if name is not None:
                return name
        return ""

    def value(self, obj: Any) -> tuple[Any, bytes] | None:
        """Find what stands for an object whose nature is to be a value.

        Returns
        -------
        tuple or None
            The first object with this value, and bytes that are the same for it in every process.
            None: this one is not to be repeated.
        """
        try:
            key, stable = _value_key(obj)
        except _NoValueError:
            return None
        return self._values.setdefault(key, obj), repr(stable).encode("utf-8", "surrogatepass")

    # ---- order ---------------------------------------------------------------------------------

    def sort_key(self, obj: object) -> bytes | None:
        """Encode an element of a set by its value, or by its content if it has none.

        Objects with equal keys may come in any order. None: its content is not known to be stable.
        """
        try:
            key = _order.content(obj, lambda part: _value_of(part, 0))
        except RecursionError:
            return None
        return repr(key).encode("utf-8", "surrogatepass")


class _NoValueError(LookupError):
    """An object whose value cannot be told from outside."""


def _value_key(obj: Any) -> tuple[object, object]:
    """Give what tells a value from others in this process, and what does so in any."""
    cls = type(obj)
    where = (str(cls.__module__), cls.__qualname__)
    if isinstance(obj, types.ModuleType):
        if not _cp._should_pickle_by_reference(obj):
            raise _NoValueError
        return id(obj), (where, obj.__name__)
    if isinstance(obj, enum.Enum):
        return id(obj), (where, obj._name_, _value_of(obj._value_, 0))
    if isinstance(obj, datetime.tzinfo):
        if where[0].partition(".")[0] not in ("datetime", "zoneinfo", "pytz"):
            raise _NoValueError
        return (where, repr(obj)), (where, repr(obj))
    if where[0].partition(".")[0] == "numpy":
        if obj.fields is not None or obj.subdtype is not None or obj.metadata is not None:
            raise _NoValueError
        value = (where, repr(obj.__reduce__()[1:]))
        return value, value
    stable = (where, repr(obj), str(getattr(obj, "storage", "")))
    return stable, stable


def _value_of(obj: object, depth: int) -> object:
    """Give something whose repr is the same for equal values in every process."""
    cls = type(obj)
    if depth > 16:
        raise _NoValueError
    if obj is None or obj is ... or cls in (bool, int, float, complex, str, bytes):
        return obj
    if isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
        return "global", str(obj.__module__), obj.__qualname__
    where = (str(cls.__module__), cls.__qualname__)
    if isinstance(obj, enum.Enum):
        return where, obj.name
    if isinstance(obj, tuple):
        return where, [_value_of(item, depth + 1) for item in tuple.__iter__(obj)]
    if isinstance(obj, frozenset):
        return where, sorted(repr(_value_of(item, depth + 1)) for item in frozenset.__iter__(obj))
    if where[0].partition(".")[0] in _BY_REPR:
        return where, repr(obj)
    if dataclasses.is_dataclass(obj):
        values = [getattr(obj, field.name, None) for field in dataclasses.fields(obj)]
        return where, [_value_of(value, depth + 1) for value in values]
    raise _NoValueError


# ---- code ----------------------------------------------------------------------------------------


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    code = attrs.without_hash(code)
    constructor, args = _cp._code_reduce(code)
    cell = _CELL_FILE.fullmatch(code.co_filename)
    args = list(args)
    args[_CODE_CONSTANTS] = attrs.constants(code)
    # cloudpickle 3.1.3 and later leave it out; tracebacks are to show where the code came from
    args[_CODE_FILE] = f"<cell {cell['old'] or cell['new']}>" if cell else code.co_filename
    return constructor, tuple(args)


def _reduce_cached_property(descriptor: functools.cached_property[Any]) -> tuple[Any, ...]:
    state = dict(vars(descriptor))
    state.pop("lock", None)  # before Python 3.12; made anew
    return functools.cached_property, (descriptor.func,), state


def _reduce_lru_cache(wrapper: Any) -> Any:
    """Reduce a function with a cache: without what is in the cache, which is not accessible."""
    if _cp._lookup_module_and_qualname(wrapper) is not None:
        return wrapper.__qualname__
    parameters = wrapper.cache_parameters()
    state = {**vars(wrapper), "cache_parameters": functools.partial(dict, **parameters)}
    args = wrapper.__wrapped__, parameters["maxsize"], parameters["typed"], functools._CacheInfo
    return type(wrapper), args, state


# ---- classes -------------------------------------------------------------------------------------


def _reduce_class(cls: type, save: Reducers) -> tuple[Any, ...]:
    tracker_id = class_id(cls)
    reduced = _cp._dynamic_class_reduce(cls)
    args, (members, slotstate) = reduced[1], reduced[2]
    if issubclass(cls, enum.Enum):  # cloudpickle forgets aliases and composite flags
        values = {name: member.value for name, member in cls.__members__.items()}
        args = (*args[:3], values, *args[4:])
        for name in values:
            members.pop(name, None)
    elif "__slots__" in members and not issubclass(cls, tuple):  # when the class is made
        args = (*args[:3], {**args[3], "__slots__": members.pop("__slots__")}, *args[4:])
        for name, value in list(members.items()):
            if isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls:
                del members[name]
    args = (*args[:-2], tracker_id, args[-1])
    members.pop("__slotnames__", None)  # a cache that copyreg keeps in the class
    inherited: dict[str, Any] = {}
    for base in reversed(cls.__bases__):
        inherited.update(vars(base))
    for name, value in list(members.items()):
        # cloudpickle leaves out what is inherited, but compares the identity of strings
        known = inherited.get(name)
        if type(value) in (str, bytes, int) and type(known) is type(value) and known == value:
            del members[name]
    if "__pydantic_core_schema__" in members:
        members["__pydantic_core_schema__"] = pydantic.without_addresses(
            members["__pydantic_core_schema__"], save
        )
    if "_abc_impl" in members:  # the registered subclasses, from a set of weak references
        members["_abc_impl"].sort(key=lambda sub: (str(sub.__module__), sub.__qualname__))
    attributes = members.get("__static_attributes__")
    if type(attributes) is tuple and all(type(name) is str for name in attributes):
        members["__static_attributes__"] = tuple(sorted(attributes))
    return (reduced[0], args, (members, slotstate), *reduced[3:])


def _reduce_typevar(var: typing.TypeVar) -> Any:
    class_id(var)
    return _cp._typevar_reduce(var)


def _reduce_weak_dict(weak: Any) -> tuple[Any, ...]:
    """Reduce it to its items; after loading they live on only where something else holds them."""
    return type(weak), (), None, None, iter(list(weak.items()))


def _reduce_newtype(new: Any) -> Any:
    if _cp._lookup_module_and_qualname(new) is not None:
        return new.__qualname__
    state = {"__module__": new.__module__, "__qualname__": new.__qualname__}
    return typing.NewType, (new.__name__, new.__supertype__), state


def _reduce_parameter(parameter: Any) -> Any:
    if _cp._lookup_module_and_qualname(parameter, parameter.__name__) is not None:
        return parameter.__name__
    return type(parameter), (parameter.__name__,)


def class_id(cls: Any) -> str:
    """Give the id under which cloudpickle finds a class again that this process already has.

    It is derived from the definition instead of random, so that two runs of a program give the
    same id; two classes alive at once never share one.
    """
    with _cp._DYNAMIC_CLASS_TRACKER_LOCK, _own_ids_lock:
        by_class, by_id = _cp._DYNAMIC_CLASS_TRACKER_BY_CLASS, _cp._DYNAMIC_CLASS_TRACKER_BY_ID
        known: str | None = by_class.get(cls)
        if known is not None and known.startswith(_ID_PREFIX):
            return known
        own: str = _own_ids.get(cls, "")
        if not own:
            digest = _definition_digest(cls)
            for number in itertools.count():
                own = f"{_ID_PREFIX}{digest}-{number}"
                if by_id.get(own) is None:
                    break
            _own_ids[cls] = own
        by_id[own] = cls
        if known is None:
            by_class[cls] = own
        return own


def _definition_digest(cls: Any) -> str:
    digest = hashlib.sha256()
    for part in _definition(cls, 0):
        digest.update(repr(part).encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()[:32]


def _definition(obj: Any, depth: int) -> typing.Iterator[object]:
    """Give what tells a class from others, in an order and a form that does not vary."""
    if isinstance(obj, (staticmethod, classmethod)):
        obj = obj.__func__
    if isinstance(obj, property):
        obj = obj.fget
    if isinstance(obj, types.FunctionType):
        obj = obj.__code__
    if depth > 8:
        return
    if isinstance(obj, types.CodeType):
        obj = attrs.without_hash(obj)
        yield from (obj.co_name, obj.co_code, obj.co_names, obj.co_varnames, obj.co_freevars)
        for constant in obj.co_consts:
            yield from _definition(constant, depth + 1)
    elif isinstance(obj, type):
        yield from (str(obj.__module__), obj.__qualname__)
        if depth > 1:
            return
        for base in obj.__bases__:
            yield from _definition(base, depth + 1)
        for name in sorted(map(str, vars(obj))):
            yield name
            yield from _definition(vars(obj).get(name), depth + 1)
    elif isinstance(obj, typing.TypeVar):
        yield from ("TypeVar", obj.__name__, str(obj.__module__))
    else:
        try:
            yield _value_of(obj, 0)
        except _NoValueError:
            yield type(obj).__qualname__
