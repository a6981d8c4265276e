# SPDX-License-Identifier: Apache-2.0
"""What looking after a store gives."""

from __future__ import annotations

from typing import NamedTuple


class Verification(NamedTuple):
    """What `Store.verify` read, and what was wrong.

    Attributes
    ----------
    sessions, checkpoints, variables, objects, bytes : int
        How much was read and checked.
    damage : tuple[str, ...]
        A sentence for each damaged thing, with the variables concerned.
    """

    sessions: int
    checkpoints: int
    variables: int
    objects: int
    bytes: int
    damage: tuple[str, ...]


class Collection(NamedTuple):
    """What `Store.gc` removed, and what stays.

    Attributes
    ----------
    removed, kept : int
        Objects: pods, chunks, what holds them together.
    removed_bytes, kept_bytes : int
        Of their records.
    disk_before, disk_after : int
        Bytes of the store's directory.
    """

    removed: int
    removed_bytes: int
    kept: int
    kept_bytes: int
    disk_before: int
    disk_after: int


class Pruning(NamedTuple):
    """What `Session.prune` removed, or would remove.

    Attributes
    ----------
    removed, kept : tuple[int, ...]
        Numbers of checkpoints.
    """

    removed: tuple[int, ...]
    kept: tuple[int, ...]


__all__ = ["Collection", "Pruning", "Verification"]
