# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what one saved state is made of, and what differs between two."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from . import _core, _loading


def _moment(nanoseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.timezone.utc)


class Variable(NamedTuple):
    """What is known of a variable without unpickling it.

    Attributes
    ----------
    name : str
    type : str
        Qualified name of its type, as ``pandas.core.frame.DataFrame``.
    summary : str
        One or more lines: length or shape, element types, a short preview.
    rank : int
        Its place in the namespace.
    size : int
        Bytes of its pickle, which is what ``vars/<name>.pkl`` has in a mount.
    stored : int
        Bytes on disk of the pods and chunks it consists of, each counted once.
    pods : int
        How many pods it consists of.
    changed : int
        Number of the checkpoint it last changed in.
    changed_time : datetime.datetime
        When that was (UTC).
    content : str
        Equal for two variables if and only if their pickles are equal.
    """

    name: str
    type: str
    summary: str
    rank: int
    size: int
    stored: int
    pods: int
    changed: int
    changed_time: datetime.datetime
    content: str


def _variable(facts: Any) -> Variable:
    return Variable._make((*facts[:8], _moment(facts[8]), facts[9]))


class Cell(NamedTuple):
    """How the code of a checkpoint was run.

    Attributes
    ----------
    execution : int
        Its number in the notebook, as in ``In [7]``; 0 if it has none.
    seconds : float
        How long it ran.
    error : str or None
        ``ZeroDivisionError: division by zero``; None if it did not fail.
    """

    execution: int
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Stats(Mapping[str, Any]):
    """What a save did. Also a mapping of its own attributes: ``dict(stats)``.

    Attributes
    ----------
    logical_bytes : int
        Bytes of all variables' pickles, shared content counted once.
    bytes_written : int
        Bytes newly written to the store for this checkpoint.
    pods, pods_new : int
        Pods that the checkpoint consists of, and how many of them were not in the store before.
    seconds : dict[str, float]
        By phase: ``walk`` (taking the namespace apart) and ``write`` (until it was durable).
    """

    logical_bytes: int
    bytes_written: int
    pods: int
    pods_new: int
    seconds: dict[str, float]

    def __getitem__(self, key: str) -> Any:
        """Look an attribute up by name."""
        if key not in _STATS_FIELDS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the attributes' names."""
        return iter(_STATS_FIELDS)

    def __len__(self) -> int:
        """Count the attributes."""
        return len(_STATS_FIELDS)


_STATS_FIELDS = tuple(field.name for field in fields(Stats))


class Diff(NamedTuple):
    """What differs between two checkpoints; iterating over each attribute gives names.

    Attributes
    ----------
    added, removed : dict[str, Variable]
    changed : dict[str, tuple[Variable, Variable]]
        Before and after.
    """

    added: dict[str, Variable]
    removed: dict[str, Variable]
    changed: dict[str, tuple[Variable, Variable]]

    def __bool__(self) -> bool:
        """Tell whether anything differs."""
        return bool(self.added or self.removed or self.changed)


class Checkpoint:
    """One saved state of a session. Immutable; stays usable after its store was closed.

    Attributes
    ----------
    session : str
    number : int
        In its session, from 1.
    id : str
        SHA-256 of its record, 64 hexadecimal digits.
    parents : tuple[int, ...]
        Numbers of the checkpoints it descends from; none for the first.
    parent_ids : tuple[str, ...]
        The same as ids.
    time : datetime.datetime
        When it was saved (UTC).
    message, code : str or None
    cell : Cell or None
        How the code was run, if that is known.
    unsaved : Mapping[str, str]
        What could not be saved: name to reason.
    stats : Stats
    arrived : tuple[str, ...]
        Variables that others had put into the session meanwhile, and which this save took over;
        only known right after `Session.save`. See `Session.pull`.
    conflicts : Mapping[str, str]
        Variables that both this save and others changed, each with the branch on which theirs is.
    """

    arrived: tuple[str, ...] = ()
    conflicts: Mapping[str, str] = MappingProxyType({})

    def __init__(self, core: _core.Checkpoint, reopen: Callable[[], _core.Store]) -> None:
        self._reopen = reopen
        self._open_core: _core.Checkpoint | None = core
        self.session = core.session
        self.number = core.number
        self.id = core.id
        self.parents = tuple(number for number, _ in core.parents)
        self.parent_ids = tuple(id_ for _, id_ in core.parents)
        self.time = _moment(core.time)
        self.message = core.message
        self.code = core.code
        cell = core.cell
        self.cell = None if cell is None else Cell(cell[0], cell[1] / 1e9, cell[2])
        self.unsaved: Mapping[str, str] = MappingProxyType(core.unsaved)
        logical, written, pods, new, walk, write = core.stats
        seconds = {"walk": walk / 1e9, "write": write / 1e9}
        self.stats = Stats(logical, written, pods, new, seconds)

    @property
    def _core(self) -> _core.Checkpoint:
        core = self._open_core
        if core is None:
            core = self._open_core = self._reopen().checkpoint_id(self.id)
        return core

    def _release(self) -> None:
        """Let go of the store, so that it can close; `_core` opens it for reading when needed."""
        self._open_core = None

    @cached_property
    def variables(self) -> Mapping[str, Variable]:
        """All variables by name, in the order of the namespace."""
        found = map(_variable, self._core.variables())
        return MappingProxyType({v.name: v for v in sorted(found, key=lambda v: v.rank)})

    def preview(self, name: str) -> bytes | None:
        """Give what a variable looked like, as a PNG: that of a figure of matplotlib.

        None if there is none: it is no figure, or one that took too long to draw. Runs no code.

        Raises
        ------
        NotFound
            There is no such variable.
        Corrupt
            Stored bytes are damaged.
        """
        return self._core.preview(name)

    def load(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Load its variables, or the named ones; see `Session.load`."""
        return _loading.load(self._core, names)

    def groups(self) -> dict[str, str]:
        """Tell which variables share objects: these have the same name of one of them.

        What functions and classes refer to by name is not shared: it is looked up by name.
        """
        return self._core.groups(_loading.CODE_TYPES)

    def diff(self, before: Checkpoint | None) -> Diff:
        """Tell what differs from `before`; from nothing at all if that is None."""
        diff = Diff({}, {}, {})
        for _, old, new in self._core.diff(None if before is None else before._core):
            if old is None:
                after = _variable(new)
                diff.added[after.name] = after
            elif new is None:
                gone = _variable(old)
                diff.removed[gone.name] = gone
            else:
                after = _variable(new)
                diff.changed[after.name] = (_variable(old), after)
        return diff

    def __eq__(self, other: object) -> bool:
        """Compare ids: equal ids are equal checkpoints, wherever they are stored."""
        return self.id == other.id if isinstance(other, Checkpoint) else NotImplemented

    def __hash__(self) -> int:
        """Hash the id."""
        return hash(self.id)

    def __repr__(self) -> str:
        """Give address, time and message."""
        message = "" if self.message is None else f" {self.message!r}"
        return f"<Checkpoint {self.session}@{self.number} {self.time:%Y-%m-%d %H:%M:%S}Z{message}>"
