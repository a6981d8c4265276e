# SPDX-License-Identifier: Apache-2.0
"""How objects of a library are saved, where the library or its user knows better than `pickle`.

>>> chipmink.reducers.register("boxes.Box", save=to_state, load=from_state)

Types are named, and not imported: a registration takes effect when an object of that type is saved.
Packages register theirs with the entry point group ``chipmink.reducers``; see docs/REDUCERS.md.
"""

from __future__ import annotations

import functools
import pickle
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ._libraries import BUILT_IN

GROUP = "chipmink.reducers"

Reduce = Callable[[Any], Any]
Token = int | float | str | bytes | tuple["Token", ...] | None

_MODULE = type.__dict__["__module__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_MRO = type.__dict__["__mro__"].__get__

# What the walker takes apart itself, without asking anybody.
_NATIVE = {
    *("builtins.NoneType", "builtins.bool", "builtins.int", "builtins.float", "builtins.str"),
    *("builtins.bytes", "builtins.bytearray", "builtins.tuple", "builtins.list", "builtins.dict"),
    *("builtins.set", "builtins.frozenset", "builtins.function", "types.FunctionType"),
    "pickle.PickleBuffer",
}


class Reducer:
    """What is registered for one type; see `register`."""

    def __init__(
        self,
        name: str,
        *,
        save: Reduce | None,
        load: Callable[[Any], Any] | None,
        reduce: Reduce | None,
        unchanged: Callable[[Any], Token] | None,
        subclasses: bool,
        origin: str,
        needs_save: bool = False,
    ) -> None:
        if (save is None) == (reduce is None) or (save is None) != (load is None):
            raise TypeError(f"{origin}: a reducer has save and load, or reduce alone")
        if reduce is not None and unchanged is not None:
            raise TypeError(f"{origin}: unchanged needs save and load")
        for function in (save, load, reduce, unchanged):
            if function is not None and not callable(function):
                raise TypeError(f"{origin}: {function!r} is no function")
        self.name, self.subclasses, self.origin = name, bool(subclasses), origin
        self._save, self._load, self._unchanged = save, load, unchanged
        self._reduce: Any = reduce
        self._needs_save = needs_save
        # by id of the object: a weak reference to it, its token, and what stands for it
        self._kept: dict[int, tuple[weakref.ref[Any], Token, Any]] = {}

    def for_save(self, save: Any) -> Callable[[Any], Any]:
        """Give the function for one save, an instance of `_reducers.Reducers`."""
        return functools.partial(self, save=save) if self._needs_save else self

    def __call__(self, obj: Any, save: Any = None) -> Any:
        """Reduce an object, as ``obj.__reduce__()`` would."""
        try:
            return self._reduced(obj) if save is None else self._reduce(obj, save)
        except MemoryError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise pickle.PicklingError(f"{self.origin} failed: {what}") from error

    def _reduced(self, obj: Any) -> Any:
        # before it is saved, so that a change meanwhile shows in the next token
        token = self._unchanged(obj) if self._unchanged is not None else None
        if token is None:
            return self._anew(obj)
        _check_token(token)
        known = self._kept.get(id(obj))
        if known is not None and known[0]() is obj and known[1] == token:
            return known[2]
        reduced = self._anew(obj)
        try:
            reference = weakref.ref(obj, functools.partial(_forget, self._kept, id(obj)))
        except TypeError:  # then nothing tells another object at its address from this one
            return reduced
        self._kept[id(obj)] = (reference, token, reduced)
        return reduced

    def _anew(self, obj: Any) -> Any:
        if self._reduce is not None:
            return self._reduce(obj)
        return self._load, (self._save(obj),)  # type: ignore[misc]


def _forget(kept: dict[int, Any], address: int, _: object) -> None:
    kept.pop(address, None)


def _check_token(token: object) -> None:
    if type(token) is tuple:
        for part in token:
            _check_token(part)
    elif token is not None and type(token) not in (int, float, str, bytes, bool):
        raise TypeError(f"unchanged() returned a {type(token).__name__}; see docs/REDUCERS.md")


class _Layer:
    """Reducers, or where they are, by the names of types; never changed."""

    def __init__(self, entries: Mapping[str, Reducer | EntryPoint]) -> None:
        self.entries = dict(entries)
        self._by_package: dict[str, list[str]] = {}
        for name in entries:
            self._by_package.setdefault(name.partition(".")[0], []).append(name)

    def named(self, cls: type) -> Iterator[Reducer | EntryPoint]:
        """Give what is there for a class: under its own name, or one it was imported to."""
        module, qualname = _MODULE(cls), _QUALNAME(cls)
        if type(module) is not str:
            return
        candidates = self._by_package.get(module.partition(".")[0])
        if candidates:
            own = f"{module}.{qualname}"  # of a class before its module was reloaded, too
            if own in self.entries:
                candidates = [own]
            for name in candidates:
                if name == own or _resolve(name) is cls:
                    yield self.entries[name]


class Registry:
    """Reducers by the names of types; what a user registers goes before plug-ins and built-ins.

    Finding takes no lock, for it may import plug-ins, which may register more.
    """

    def __init__(self, built_in: Iterable[EntryPoint]) -> None:
        self._lock = threading.Lock()
        self._own = _Layer({})
        self._built_in = _Layer({point.name: point for point in built_in})
        self._plug_ins: _Layer | None = None  # not read yet
        self._loaded: dict[EntryPoint, Reducer | None] = {}

    def add(self, reducer: Reducer) -> None:
        with self._lock:
            self._own = _Layer({**self._own.entries, reducer.name: reducer})

    def remove(self, name: str) -> bool:
        with self._lock:
            left = dict(self._own.entries)
            found = left.pop(name, None)
            self._own = _Layer(left)
            return found is not None

    def find(self, cls: type) -> Reducer | None:
        """Find what is registered for instances of a class."""
        if self._plug_ins is None:
            self._plug_ins = _Layer(_installed())
        for layer in (self._own, self._plug_ins, self._built_in):
            for base in _MRO(cls):
                found = self._in_layer(layer, base)
                if found is not None and (base is cls or found.subclasses):
                    return found
        return None

    def _in_layer(self, layer: _Layer, base: type) -> Reducer | None:
        for found in layer.named(base):
            reducer = found if isinstance(found, Reducer) else self._from_point(found)
            if reducer is not None:
                return reducer
        return None

    def _from_point(self, point: EntryPoint) -> Reducer | None:
        if point in self._loaded:
            return self._loaded[point]
        reducer = None
        try:
            reducer = _from_plug_in(point)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            message = f"the reducer of {point.name} ({_origin(point)}) cannot be used: {what}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return self._loaded.setdefault(point, reducer)


def _resolve(name: str) -> Any:
    """Give what a dotted name is, if its module is loaded; nothing is imported, and no code run."""
    module, _, attribute = name.rpartition(".")
    loaded = sys.modules.get(module)
    return vars(loaded).get(attribute) if type(loaded) is types.ModuleType else None


def _installed() -> dict[str, EntryPoint]:
    try:
        return {point.name: point for point in entry_points(group=GROUP)}
    except Exception as error:  # metadata of any package, which may be damaged
        message = f"reducers of other packages cannot be used: {type(error).__name__}: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return {}


def _origin(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name}" if point.dist is not None else point.value


def _from_plug_in(point: EntryPoint) -> Reducer:
    found = point.load()
    return Reducer(
        point.name,
        save=getattr(found, "save", None),
        load=getattr(found, "load", None),
        reduce=getattr(found, "reduce", None),
        unchanged=getattr(found, "unchanged", None),
        subclasses=getattr(found, "subclasses", False),
        origin=f"the reducer of {point.name} ({_origin(point)})",
        needs_save=getattr(found, "needs_save", False),
    )


_registry = Registry(EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items())


def find(cls: type) -> Reducer | None:
    """Find the reducer of instances of a class; None: the standard protocol is asked."""
    return _registry.find(cls)


def register(
    name: str,
    *,
    save: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    reduce: Callable[[Any], Any] | None = None,
    unchanged: Callable[[Any], Token] | None = None,
    subclasses: bool = False,
) -> None:
    """Tell how objects of a type are saved; replaces what was registered for it before.

    Parameters
    ----------
    name : str
        The type, as ``package.module.Type``. It need not be imported, nor installed.
    save : callable
        ``save(obj)`` gives the state to be stored: anything that can be saved itself, the same
        for equal objects, and without the object itself in it.
    load : callable
        ``load(state)`` gives the object back. It is stored by its name, like any global function.
    reduce : callable
        Instead of both: returns what ``obj.__reduce__()`` would. For objects that are in their
        own state.
    unchanged : callable
        ``unchanged(obj)`` gives a token (numbers, text, bytes, or tuples of them). While it is
        equal to the one before the last ``save(obj)``, that is not called: what it returned then
        stands for the object. None: that cannot be told. Needs objects that can be referred to
        weakly.
    subclasses : bool
        Whether it is for subclasses, too, that have no reducer of their own.

    Raises
    ------
    ValueError
        The name is none, or of a type that is always saved in one way (``builtins.dict``).
    """
    parts = name.split(".") if isinstance(name, str) else []
    if len(parts) < 2 or not all(part.isidentifier() or part == "<locals>" for part in parts):
        raise ValueError(f"a type is named as package.module.Type: {name!r}")
    if name in _NATIVE:
        raise ValueError(f"{name} is always saved as what it is")
    _registry.add(
        Reducer(
            name,
            save=save,
            load=load,
            reduce=reduce,
            unchanged=unchanged,
            subclasses=subclasses,
            origin=f"the reducer of {name}",
        )
    )


def unregister(name: str) -> None:
    """Take back what `register` did; what plug-ins say of the type counts again.

    Raises
    ------
    KeyError
        Nothing was registered under that name.
    """
    if not _registry.remove(name):
        raise KeyError(f"no reducer is registered for {name}")


def mapped_files(*, by_reference: bool) -> None:
    """Choose how mapped files (`mmap`, `numpy.memmap`) are saved from now on, in this process.

    Parameters
    ----------
    by_reference : bool
        False, as it is to begin with: by path and content; what comes back is what was there.
        True: by path alone; what comes back is what the file has then.
    """
    from ._libraries import maps

    maps.by_reference = bool(by_reference)


__all__ = ["mapped_files", "register", "unregister"]
