# SPDX-License-Identifier: Apache-2.0
"""What going to a checkpoint loads: the variables that differ, on what the program has of it."""

from __future__ import annotations

import types
from typing import Any

from . import _core, _loading
from ._checkpoint import Checkpoint
from ._errors import StoreError
from ._progress import Progress
from ._store import Session, _contents

_LOAD_APART = 64 << 20  # bytes from which on it is loaded group by group, to show how far it is


def load(
    session: Session,
    namespace: dict[str, Any],
    here: Checkpoint | None,
    target: Checkpoint,
    met: _core.Met | None,
) -> dict[str, Any]:
    """Load what differs from `here`, which is the namespace.

    Where these variables refer to objects of those that are the same, they refer to the ones in the
    namespace, which `met` has. If it has not, all variables that share objects are loaded again.
    """
    old = here.variables if here else {}
    differing = [
        name
        for name, variable in target.variables.items()
        if name not in old or old[name].content != variable.content
    ]
    if not differing:
        return {}
    if here is not None and met is not None and _is_the_namespace(session, here):
        by_name = [n for n in differing if _finds_by_name(namespace.get(n), namespace)]
        have = target._core.have(here._core, by_name)
        names = _to_load(target, differing, set(have.kept))
        try:
            return _load(target, names, namespace, met, have) if names else {}
        except (StoreError, MemoryError):
            raise
        except Exception:  # of unpickling it, which comes again below, or something was not met
            pass
    return _load(target, _with_what_they_share(target, differing), namespace)


def _is_the_namespace(session: Session, here: Checkpoint) -> bool:
    """Tell whether the checkpoint has nothing that came from elsewhere."""
    return session.store._bases.get(session.name) == _contents(here)


def _finds_by_name(value: object, namespace: dict[str, Any]) -> bool:
    """Tell whether a value is a function that has nothing of the variables it was made of.

    If it is as it was, it finds those by their names that take their place.
    """
    return (
        type(value) is types.FunctionType
        and value.__globals__ is namespace
        and not (value.__closure__ or value.__defaults__ or value.__kwdefaults__ or vars(value))
        and getattr(value, "__annotate__", None) is None  # it would have to be called
        and all(note is None or type(note) is str for note in value.__annotations__.values())
    )


def _to_load(target: Checkpoint, differing: list[str], kept: set[str]) -> list[str]:
    """List what differs and is not kept.

    Also variables whose content is the same, but not what they share with those that differ.
    """
    differ = {name for name in differing if name not in kept}
    if not all(name in kept or name in differ for name in target.variables):
        sharing = set(_with_what_they_share(target, list(differ))) if differ else set()
        differ |= {name for name in sharing if name not in kept}
    return [name for name in target.variables if name in differ]


def _with_what_they_share(target: Checkpoint, names: list[str]) -> list[str]:
    if len(names) == len(target.variables):
        return names
    groups = target.groups()
    wanted = {groups[name] for name in names}
    return [name for name in target.variables if groups[name] in wanted]


def _load(
    target: Checkpoint,
    names: list[str],
    namespace: dict[str, Any],
    met: _core.Met | None = None,
    have: _core.Have | None = None,
) -> dict[str, Any]:
    """Load some variables; those of one group together, so that they share what they did."""
    unpickler = _loading.into(namespace, met)

    def load(some: list[str]) -> dict[str, Any]:
        if have is None:
            return _loading.load(target._core, some, unpickler)
        return target._core.load(some, unpickler, have)

    sizes = {name: target.variables[name].size for name in names}
    total = sum(sizes.values())
    if total < _LOAD_APART:
        return load(names)
    groups: dict[str, list[str]] = {}
    for name, leader in target.groups().items():
        if name in sizes:
            groups.setdefault(leader, []).append(name)
    loaded = {}
    with Progress(f"{target.session}@{target.number}", total) as progress:
        for members in groups.values():
            loaded.update(load(members))
            progress.add(sum(sizes[name] for name in members))
    return {name: loaded[name] for name in names}


__all__ = ["load"]
