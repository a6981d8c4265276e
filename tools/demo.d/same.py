"""Are two values equal, all the way down? For values that come from two different pickles."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure


def difference(left: Any, right: Any) -> str | None:
    """Compare two object graphs by value and by shape (sharing and cycles included).

    Parameters
    ----------
    left, right
        What to compare.

    Returns
    -------
    str or None
        Where they differ first, as a path like ``['scores'].baseline``, and how; None if equal.
    """
    return _Comparison().compare(left, right, "")


class _Comparison:
    """One comparison; remembers which objects of the two sides belong together."""

    def __init__(self) -> None:
        self._partner: dict[int, Any] = {}
        self._alive: list[Any] = []  # an address is a key only while its object lives

    def compare(self, left: Any, right: Any, path: str) -> str | None:
        if type(left).__qualname__ != type(right).__qualname__:
            return f"{path}: {type(left).__qualname__} and {type(right).__qualname__}"
        if isinstance(left, (type(None), bool, int, str, bytes, types.ModuleType)):
            return None if left == right else f"{path}: {left!r:.60} and {right!r:.60}"
        if isinstance(left, (float, complex, np.generic)):
            equal = left == right or (left != left and right != right)
            return None if equal else f"{path}: {left!r} and {right!r}"
        if id(left) in self._partner:
            shared = self._partner[id(left)] is right
            return None if shared else f"{path}: shared on one side only"
        self._partner[id(left)] = right
        self._alive.append(left)
        return self._contents(left, right, path)

    def _contents(self, left: Any, right: Any, path: str) -> str | None:
        if isinstance(left, (pd.DataFrame, pd.Series, pd.Index)):
            same = left.equals(right) and _labels(left) == _labels(right)
            return None if same else f"{path}: different data"
        if isinstance(left, np.ndarray) and left.dtype != object:
            same = left.dtype == right.dtype and np.array_equal(
                left, right, equal_nan=left.dtype.kind in "fc"
            )
            return None if same else f"{path}: different array"
        if isinstance(left, Figure):
            return None if _picture(left) == _picture(right) else f"{path}: different picture"
        if isinstance(left, Artist):  # part of a figure, which is compared as a whole
            return self.compare(left.get_figure(), right.get_figure(), f"{path}.figure")
        if isinstance(left, types.BuiltinFunctionType):
            return None if left == right else f"{path}: {left!r:.60} and {right!r:.60}"
        if isinstance(left, types.FunctionType):
            return self.compare(_code(left.__code__), _code(right.__code__), f"{path}.__code__")
        if isinstance(left, type):
            return self._class(left, right, path)
        if isinstance(left, dict):
            return self._mapping(left, right, path)
        if isinstance(left, (list, tuple, np.ndarray)):
            if len(left) != len(right):
                return f"{path}: {len(left)} and {len(right)} elements"
            pairs = zip(left, right, strict=True)
            return self._first(self.compare(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(pairs))
        if isinstance(left, (set, frozenset)):
            return None if left == right else f"{path}: different elements"
        return self._instance(left, right, path)

    def _mapping(self, left: dict, right: dict, path: str) -> str | None:
        if list(map(repr, left)) != list(map(repr, right)):
            return f"{path}: different keys"
        pairs = zip(left.values(), right.values(), strict=True)
        return self._first(
            self.compare(a, b, f"{path}[{key!r}]") for key, (a, b) in zip(left, pairs, strict=True)
        )

    def _class(self, left: type, right: type, path: str) -> str | None:
        if left is right:
            return None
        functions = {k: v for k, v in vars(left).items() if isinstance(v, types.FunctionType)}
        others = {k: v for k, v in vars(right).items() if isinstance(v, types.FunctionType)}
        return self._mapping(functions, others, f"{path}.__dict__")

    def _instance(self, left: Any, right: Any, path: str) -> str | None:
        # What they would pickle, so that caches they leave out do not count. The constructor (the
        # first item) and its arguments, the state, the items of subclasses of list and dict.
        state, other = left.__reduce_ex__(5), right.__reduce_ex__(5)
        if isinstance(state, str) or isinstance(other, str):
            return None if state == other else f"{path}: {state!r:.60} and {other!r:.60}"
        parts, others = list(map(_listed, state)), list(map(_listed, other))
        if len(parts) != len(others):
            return f"{path}: different state"
        return self._first(
            self.compare(a, b, f"{path}<{name}>")
            for name, a, b in zip(_REDUCED, parts, others, strict=False)
        )

    @staticmethod
    def _first(results: Any) -> str | None:
        return next((result for result in results if result), None)


_REDUCED = ("constructor", "arguments", "state", "elements", "items", "setter")


def _listed(part: Any) -> Any:
    """Make a list of an iterator, which a reduction may hold."""
    return list(part) if isinstance(part, Iterator) else part


def _labels(frame: Any) -> list[str]:
    if isinstance(frame, pd.DataFrame):
        return [*map(str, frame.columns), *map(str, frame.dtypes), str(frame.index.dtype)]
    return [str(frame.dtype), str(getattr(frame, "name", None))]


def _code(code: types.CodeType) -> tuple:
    constants = tuple(_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    return code.co_name, code.co_code, code.co_names, code.co_varnames, repr(constants)


def _picture(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50, metadata={"Software": None})
    return buffer.getvalue()
