# SPDX-License-Identifier: Apache-2.0
"""Sets and mappings of libraries, whose order is that of hashes: saved in one of their content."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any


def _ordered(elements: Iterable[Any], save: Any) -> list[Any]:
    return sorted(elements, key=lambda element: save.sort_key(element) or b"\xff")


def _reduce_mapping(mapping: Any, save: Any) -> Any:
    function, (items,), *rest = mapping.__reduce__()  # made from a dict
    return function, ({key: items[key] for key in _ordered(items, save)},), *rest


def _reduce_set(elements: Any, save: Any) -> Any:
    function, (items,), *rest = elements.__reduce__()  # made from a list
    return function, (_ordered(items, save),), *rest


def _reduce_weak_set(elements: Any, save: Any) -> Any:
    return type(elements), (_ordered(elements, save),)


MAPPING = SimpleNamespace(reduce=_reduce_mapping, needs_save=True)
SET = SimpleNamespace(reduce=_reduce_set, needs_save=True)
WEAK_SET = SimpleNamespace(reduce=_reduce_weak_set, needs_save=True)
