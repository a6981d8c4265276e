# SPDX-License-Identifier: Apache-2.0
"""Figures: saving one must not change it."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace
from typing import Any


def _reduce_callbacks(registry: Any) -> Any:
    """Reduce a figure's callbacks without the number that their ``__getstate__`` uses up."""
    counted = re.fullmatch(r"count\((\d+)\)", repr(getattr(registry, "_cid_gen", None)))
    try:
        return registry.__reduce_ex__(5)
    finally:
        if counted:
            registry._cid_gen = itertools.count(int(counted[1]))


CALLBACKS = SimpleNamespace(reduce=_reduce_callbacks)


def _reduce_transform(node: Any) -> Any:
    """Reduce a part of a transformation: it knows those that it is a part of by their addresses."""
    function, args, *rest = node.__reduce_ex__(5)
    state = rest[0] if rest else None
    if type(state) is dict and type(state.get("_parents")) is dict:
        parents = (parent for parent in state["_parents"].values() if parent is not None)
        rest[0] = {**state, "_parents": dict(enumerate(parents))}
    return function, args, *rest


TRANSFORMS = SimpleNamespace(reduce=_reduce_transform, subclasses=True)
