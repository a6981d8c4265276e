# SPDX-License-Identifier: Apache-2.0
"""Schemas of pydantic: they name classes by their addresses.

A name has to tell a class from others of the same name, in a schema that others are put together
to. So has what stands in its place: where the class is imported from or, for one that a session
defines, the identifier that is made of its definition.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

_NAMES = ("ref", "schema_ref")
_ADDRESS = re.compile(r"(?<=:)\d+")


def without_addresses(schema: Any, save: Any) -> Any:
    """Give a copy of a schema, always the same in a save."""
    if type(schema) is not dict:
        return schema
    made = save.memory.setdefault("schemas", {})
    if id(schema) not in made:
        classes: dict[int, type] = {}
        _find_classes(schema, classes)
        names = {str(address): _name(cls, save) for address, cls in classes.items()}
        made[id(schema)] = schema, _renamed(schema, names)
    return made[id(schema)][1]


def _find_classes(part: Any, classes: dict[int, type]) -> None:
    if type(part) in (list, tuple):
        for inner in part:
            _find_classes(inner, classes)
    elif type(part) is dict:
        cls = part.get("cls")
        if isinstance(cls, type):
            classes[id(cls)] = cls
        for inner in part.values():
            _find_classes(inner, classes)


def _name(cls: type, save: Any) -> str:
    from .._reducers import class_id

    found = save.locate(cls)
    return ".".join(found) if found is not None else class_id(cls)


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if type(part) in (list, tuple):
        return type(part)(_renamed(inner, names) for inner in part)
    if type(part) is not dict:
        return part
    return {
        key: _ADDRESS.sub(lambda found: names.get(found[0], found[0]), inner)
        if key in _NAMES and type(inner) is str
        else _renamed(inner, names)
        for key, inner in part.items()
    }


def _reduce(compiled: Any, save: Any) -> Any:
    function, (schema, *rest), *more = compiled.__reduce__()
    return function, (without_addresses(schema, save), *rest), *more


COMPILED = SimpleNamespace(reduce=_reduce, needs_save=True)
