# SPDX-License-Identifier: Apache-2.0
"""What the lists of cases are written with."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy


@dataclass(frozen=True)
class Case:
    """One class of one library.

    Attributes
    ----------
    library, name : str
        The distribution it comes from, and the class.
    modules : tuple of str
        What must be importable for it.
    make : callable
        Makes an object; two calls make equal ones, also in two processes.
    change : callable
        Changes such an object, in place (returns None) or by giving a changed one.
    equal : callable
        Tells whether two objects are equal in all that matters of them.
    limitation : str
        What the user cannot have, and why. For the table.
    broken : bool
        It cannot be pickled or unpickled, as the limitation says: the test is that we are told.
    drifts : bool
        It differs from run to run, as the limitation says.
    heavy : bool
        Takes long or starts processes: only in the run of all libraries.
    """

    library: str
    name: str
    modules: tuple[str, ...]
    make: Callable[[], Any]
    change: Callable[[Any], Any]
    equal: Callable[[Any, Any], bool]
    limitation: str = ""
    broken: bool = False
    drifts: bool = False
    heavy: bool = False

    @property
    def id(self) -> str:
        """Its name among all cases."""
        return f"{self.library}-{self.name}"

    def missing(self) -> str | None:
        """Tell which module is not installed, if one is not."""
        absent = (name for name in self.modules if importlib.util.find_spec(name) is None)
        return next(absent, None)

    def version(self) -> str:
        """Tell the installed version of the library."""
        return "" if self.library == "Python" else metadata.version(self.library)

    def changed(self, value: Any) -> Any:
        """Change an object; gives the changed one, often the same."""
        result = self.change(value)
        return value if result is None else result


CASES: list[Case] = []


def library(name: str, *modules: str, **defaults: Any) -> Callable[..., None]:
    """Give a function that adds cases of a library to the table."""

    def case(
        cls: str,
        make: Callable[[], Any],
        change: Callable[[Any], Any],
        equal: Callable[[Any, Any], bool] | None = None,
        **options: Any,
    ) -> None:
        needed = modules or (name.replace("-", "_"),)
        CASES.append(
            Case(name, cls, needed, make, change, equal or same, **{**defaults, **options})
        )

    return case


class Lazy:
    """A module that is imported when something of it is used, and so are its submodules."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        module = importlib.import_module(self._name)
        try:
            return getattr(module, attribute)
        except AttributeError:
            return importlib.import_module(f"{self._name}.{attribute}")


# ---- changes -------------------------------------------------------------------------------------


def put(key: Any, value: Any) -> Callable[[Any], None]:
    """Set an item."""
    return lambda obj: obj.__setitem__(key, value)


def sets(name: str, value: Any) -> Callable[[Any], None]:
    """Set an attribute; of an attribute, with dots."""
    *path, last = name.split(".")
    return lambda obj: setattr(functools.reduce(getattr, path, obj), last, value)


def calls(name: str, *arguments: Any, **options: Any) -> Callable[[Any], None]:
    """Call a method, for what it does to the object."""

    def change(obj: Any) -> None:
        getattr(obj, name)(*arguments, **options)

    return change


# ---- comparisons ---------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Compare by type and value, arrays and frames included, in containers too."""
    if type(a) is not type(b):
        return False
    if isinstance(a, numpy.ndarray) or hasattr(a, "__array_namespace__"):
        return _same_arrays(numpy.asarray(a), numpy.asarray(b))
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, Mapping) and type(a).__eq__ in (dict.__eq__, object.__eq__):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "equals"):  # pandas, polars, Arrow
        return bool(a.equals(b))
    if type(a).__module__ == "torch" and hasattr(a, "dtype"):
        return bool(a.dtype == b.dtype and a.shape == b.shape and (a == b).all())
    return bool(a == b)


def _same_arrays(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return all(same(x, y) for x, y in zip(a.flat, b.flat, strict=True))
    return bool(numpy.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM"))


def by(*views: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    """Compare by what the views give, and by type."""
    return lambda a, b: type(a) is type(b) and all(same(view(a), view(b)) for view in views)


def attributes(*names: str) -> Callable[[Any, Any], bool]:
    """Compare by attributes, and by type."""
    return by(*(lambda obj, name=name: getattr(obj, name) for name in names))


# ---- what cases share ----------------------------------------------------------------------------


def rng() -> Any:
    """Give a random generator with the seed of all cases."""
    return numpy.random.default_rng(7)


@functools.cache
def points() -> Any:
    """Give 120 points in five dimensions."""
    array = rng().normal(size=(120, 5))
    array.flags.writeable = False
    return array


@functools.cache
def labels() -> Any:
    """Give two classes of points, that can be told apart but for some noise."""
    array = (points()[:, 0] + points()[:, 1] * points()[:, 2] > 0).astype(int)
    array.flags.writeable = False
    return array


@functools.cache
def targets() -> Any:
    """Give a real function of the points."""
    array = points() @ numpy.arange(1.0, 6.0) + 0.1 * rng().normal(size=120)
    array.flags.writeable = False
    return array


def fitted(make: Callable[[], Any], target: Callable[[], Any] | None = labels) -> Callable[[], Any]:
    """Make and fit an estimator."""
    return lambda: make().fit(points(), *([target()] if target else []))


predicts = by(lambda model: model.predict(points()))
transforms = by(lambda model: model.transform(points()))


def session(source: str, **given: Any) -> Any:
    """Give ``value`` of a new session in which the source has run."""
    namespace: dict[str, Any] = {"__name__": "__main__", **given}
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), namespace)
    return namespace["value"]
