# SPDX-License-Identifier: Apache-2.0
"""What a cell may change, told before it runs.

`effect` answers two questions about the source of a cell and the namespace it will run in:

- Does it provably change nothing? ``df.head()``, ``x.shape``, ``print(a)``, arithmetic on numbers
  and ``plt.plot(x)`` do not, if the names mean what they usually do. The answer comes from an
  allowlist (`_allowed`) of exact types, functions and arguments; what is not on it may change
  anything.
- Otherwise, which variables can it reach at all? Those that its code names, and that the functions
  and classes of the session name which it can call. Where that cannot be told (``exec``, unknown
  libraries, running threads), any variable counts.

Both are sound, not complete: a harmless cell may be taken for one that changes things, never the
other way round. The limits: objects shared between variables, memory that arrays share included,
are left to the caller; installed libraries are taken to be as they were shipped, but for the
functions that a cell names; what the finalizers of objects do that no variable names is not seen.

Nothing of the cell, and no method or property of a class of the session, is run to find out.
"""

from __future__ import annotations

import ast
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import _around, _purity, _reach
from ._allowed import words
from ._kinds import Refused
from ._namespace import is_dunder

_NONE: frozenset[str] = frozenset()
_FEW = 4000  # elements that are looked at where time is short
# What Python and IPython put into a namespace themselves.
_PYTHONS = words(
    "__name__ __doc__ __package__ __loader__ __spec__ __builtin__ __builtins__ __file__ __cached__ "
    "__annotations__ __conditional_annotations__ __warningregistry__"
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a cell may do to the variables of its namespace.

    Attributes
    ----------
    pure
        It provably changes no object that is reachable from the namespace and binds no name.
    assigns
        Names that it may bind or delete. If `touches` is None, it may also bind others.
    touches
        Names of variables whose objects it may read or change, itself or through the functions and
        classes of the session that it can call; None if that may be any.
    reason
        Why it is not pure, or why what it reaches cannot be told, in one line. Empty if pure.
    """

    pure: bool
    assigns: frozenset[str]
    touches: frozenset[str] | None
    reason: str


def effect(source: str, namespace: Mapping[str, Any]) -> Effect:
    """Tell what running a cell may change.

    Parameters
    ----------
    source
        The cell, as typed: lines for IPython (``%magic``, ``!command``) are seen as such.
    namespace
        The variables that it will run with, ``globals()`` or IPython's ``user_ns``.

    Returns
    -------
    Effect
        It holds for the cell if it starts to run before anything else does.
    """
    try:
        return _effect(_reach.without_timing(source), namespace)
    except RecursionError:
        return Effect(False, _NONE, None, "it is nested too deeply to be checked")
    except Exception as error:  # the check may never stand in the way of the cell
        return Effect(False, _NONE, None, f"it cannot be checked ({type(error).__name__}: {error})")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Leave the warnings about a cell's syntax to when it runs.

    The filter is put in by hand: `warnings.catch_warnings` would make Python forget which warnings
    it has shown already.
    """
    ignore = ("ignore", None, Warning, None, 0)
    warnings.filters.insert(0, ignore)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        warnings.filters.remove(ignore)  # type: ignore[attr-defined]


def is_pure(source: str, namespace: Mapping[str, Any]) -> bool:
    """Tell whether a cell provably changes nothing: `effect`, without what else it can reach."""
    try:
        tree, _ = _parse(_reach.without_timing(source))
        if _around.unnamed_code():
            return False
        _purity.check(tree, namespace)
    except Exception:  # refused, or it cannot be checked
        return False
    return True


def touches(source: str, namespace: Mapping[str, Any]) -> frozenset[str] | None:
    """Give the variables that a cell may reach: `effect`, in a few milliseconds at most."""
    found = _reached(source, namespace)
    return found and found[1]


def concerns(source: str, namespace: Mapping[str, Any]) -> frozenset[str] | None:
    """Give the variables that a cell may reach, and the names that it may bind or delete.

    None: that may be any. Names like ``__mine__`` are no variables, and would lead to theirs.
    """
    for name, value in list(namespace.items()):
        if is_dunder(name) and name not in _PYTHONS and type(value) is not str:
            return None
    found = _reached(source, namespace)
    return found and found[0] | found[1]


def _reached(
    source: str, namespace: Mapping[str, Any]
) -> tuple[frozenset[str], frozenset[str]] | None:
    try:
        tree, code = _parse(_reach.without_timing(source))
        if _around.unnamed_code():
            return None
        return _reach.reach(tree, code, namespace, _FEW)
    except Exception:  # refused, or it cannot be checked
        return None


def _parse(source: str) -> tuple[ast.Module, types.CodeType]:
    with _without_warnings():
        tree = ast.parse(source)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return tree, compile(tree, "<cell>", "exec", flags, dont_inherit=True)


def _effect(source: str, namespace: Mapping[str, Any]) -> Effect:
    try:
        tree, code = _parse(source)
    except (SyntaxError, ValueError):
        return Effect(False, _NONE, None, "it is not plain Python")
    named = _reach.named(code)
    along = _around.unnamed_code()
    if along:
        return Effect(False, named.stored, None, along)
    try:
        _purity.check(tree, namespace)
    except Refused as refusal:
        reason = str(refusal)
    else:
        return Effect(
            True,
            _NONE,
            frozenset(name for name in named.loaded if name in namespace and not is_dunder(name)),
            "",
        )
    try:
        assigns, touches = _reach.reach(tree, code, namespace)
    except Refused as refusal:
        return Effect(False, named.stored, None, str(refusal))
    return Effect(False, assigns, touches, reason)
