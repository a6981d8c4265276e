# SPDX-License-Identifier: Apache-2.0
"""Which entries of a namespace are the user's."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

from ._errors import NotFound
from ._loading import checked_names

# What IPython writes into the user's namespace: inputs, outputs and their histories.
_HISTORY = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|_[iod]h|_exit_code")
# What it puts there once, under names that a user may take over.
_SERVICES = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})


def is_dunder(name: str) -> bool:
    """Tell whether a name is one of Python's own, as ``__name__`` is."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")


def is_ipythons(name: str, value: object, namespace: Mapping[str, Any]) -> bool:
    """Tell whether a name of an IPython namespace is IPython's own: its history, its services."""
    if name not in _SERVICES:
        return name.startswith("_") and _HISTORY.fullmatch(name) is not None
    if name in ("In", "Out"):
        return value is namespace.get("_ih" if name == "In" else "_oh")
    if isinstance(value, types.FunctionType):
        module = value.__globals__.get(
            "__name__"
        )  # __module__ of its open() is that of the builtin
    else:
        module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0] in ("IPython", "ipykernel")


def select(namespace: Mapping[str, Any], names: Iterable[str] | None) -> list[tuple[str, Any]]:
    """List what a save of `namespace` takes, in its order.

    That is every str key but dunder names and, in an IPython namespace, the names that IPython
    itself put there; or exactly `names`, if given.

    Raises
    ------
    NotFound
        One of `names` is not in the namespace.
    """
    entries = dict(namespace)  # at once: other threads may add to it
    wanted = checked_names(names)
    if wanted is not None:
        missing = [name for name in wanted if name not in entries]
        if missing:
            listing = ", ".join(map(repr, missing))
            raise NotFound(f"the namespace to save has no variable {listing}")
        return [(str(name), entries[name]) for name in wanted]
    ipython = callable(entries.get("get_ipython"))

    def is_users(name: str) -> bool:
        return not is_dunder(name) and not (ipython and is_ipythons(name, entries[name], entries))

    return [
        (str(name), value)
        for name, value in entries.items()
        if isinstance(name, str)
        # most names are told apart by how they begin
        and (not (name in _SERVICES or name.startswith("_")) or is_users(name))
    ]
