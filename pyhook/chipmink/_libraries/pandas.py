# SPDX-License-Identifier: Apache-2.0
"""Blocks of pandas' frames: frames made from one another share the places of their columns.

A place that is shared would make one frame need the other to be loaded, for three numbers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def _reduce(block: Any) -> Any:
    function, (values, places, *rest) = block.__reduce__()
    if isinstance(places, slice):
        own: Any = slice(places.start, places.stop, places.step)
    else:
        own = places.copy()  # an array
    return function, (values, own, *rest)


BLOCK = SimpleNamespace(reduce=_reduce, subclasses=True)
