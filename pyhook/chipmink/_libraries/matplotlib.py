# SPDX-License-Identifier: Apache-2.0
"""Figures: saving one must not change it, nor look different because it was drawn or copied."""

from __future__ import annotations

import itertools
import re
import weakref
from types import SimpleNamespace
from typing import Any

from .memory import with_item, with_state

# What was saved of registries last: the number of the next callback, and those that there were.
_numbers: weakref.WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = weakref.WeakKeyDictionary()


def _reduce_callbacks(registry: Any) -> Any:
    """Reduce a figure's callbacks without the number that their ``__getstate__`` uses up.

    Others that pickle or copy the figure use it up, too: as long as there are the same callbacks,
    the number that was saved is still free, and stays.
    """
    counted = re.fullmatch(r"count\((\d+)\)", repr(getattr(registry, "_cid_gen", None)))
    if not counted:
        return registry.__reduce_ex__(5)
    number, callbacks = int(counted[1]), frozenset(itertools.chain(*registry.callbacks.values()))
    before = _numbers.get(registry)
    if before is None or before[0] > number or before[1] != callbacks:
        before = _numbers[registry] = number, callbacks
    try:
        function, args, state = registry.__reduce_ex__(5)[:3]
    finally:
        registry._cid_gen = itertools.count(number)
    # Loading puts the number behind the others.
    return function, args, dict(sorted({**state, "_cid_gen": before[0]}.items()))


CALLBACKS = SimpleNamespace(reduce=_reduce_callbacks)


def _number_parents(state: Any) -> Any:
    parents = state.get("_parents") if type(state) is dict else None
    if type(parents) is not dict:
        return state
    found = (parent for parent in parents.values() if parent is not None)
    return with_item(state, "_parents", dict(enumerate(found)))


def _reduce_transform(node: Any) -> Any:
    """Reduce a part of a transformation: it knows those that it is a part of by their addresses."""
    return with_state(node, _number_parents)


TRANSFORMS = SimpleNamespace(reduce=_reduce_transform, subclasses=True)


def _reduce_artist(artist: Any) -> Any:
    """Reduce a part of a figure as one that is to be drawn: when loaded, it is on no screen."""
    return with_state(artist, lambda state: with_item(state, "_stale", True))


ARTISTS = SimpleNamespace(reduce=_reduce_artist, subclasses=True)
