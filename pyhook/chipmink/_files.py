# SPDX-License-Identifier: Apache-2.0
"""Loading from files: a checkpoint directory of a mount, a copy of one, or a pickle in it."""

from __future__ import annotations

import builtins
import contextlib
import gc
import json
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import _core, _loading
from ._errors import Corrupt, LoadError, NotFound, StoreNotFound


def load(path: str | os.PathLike[str], names: Iterable[str] | None = None) -> Any:
    """Load from a checkpoint directory, or from a pickle file. No store is needed.

    This unpickles, and so runs code that is stored there.

    Parameters
    ----------
    path : path-like
        A checkpoint directory as a mount shows it (``sessions/analysis/log/000012``, ``.../head``)
        or a copy of one (``cp -rL``, tar, rsync); or ``000012.pkl``; or ``vars/x.pkl``.
    names : iterable of str, optional
        Load only these variables. Not for a single variable's file.

    Returns
    -------
    dict or object
        Name to value; for ``vars/x.pkl`` the value.

    Raises
    ------
    StoreNotFound
        Nothing there, or a directory that is no checkpoint.
    NotFound
        No such variable.
    Corrupt, LoadError
        As for `Session.load`.

    Warns
    -----
    UserWarning
        The copy lacks ``pods/``: the variables are loaded from ``vars/`` one by one, and are equal
        to what was saved, but no longer share objects with each other.
    """
    place = Path(path)
    wanted = _loading.checked_names(names)
    if place.is_dir():
        return _load_directory(place, wanted)
    if not place.exists():
        raise StoreNotFound(f"there is no {place}")
    value = _load_pickle(place)
    if wanted is None:
        return value
    if not isinstance(value, dict):
        raise TypeError(f"{place} holds one value, not variables: leave names out")
    _require(wanted, value, place)
    return {name: value[name] for name in wanted}


def _require(names: Iterable[str], have: Iterable[str], place: Path) -> None:
    present = set(have)
    missing = [name for name in names if name not in present]
    if missing:
        raise NotFound(f"{place} has no variable {', '.join(map(repr, missing))}")


def _load_directory(place: Path, names: list[str] | None) -> dict[str, Any]:
    file = place / "checkpoint.json"
    if not file.is_file():
        raise StoreNotFound(
            f"{place} is no checkpoint directory: it has no checkpoint.json "
            "(a checkpoint is, for example, sessions/NAME/head in a mount)"
        )
    try:
        facts = json.loads(file.read_bytes())
        checkpoint_id = str(facts["id"])
        files = {name: place / str(entry["file"]) for name, entry in facts["variables"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Corrupt(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if (place / "pods").is_dir():
        snapshot = _core.Store.open_snapshot(place, checkpoint_id)
        checkpoint = snapshot.checkpoint_id(checkpoint_id)
        return _loading.load(checkpoint, names)
    return _load_one_by_one(place, files, names)


def _load_one_by_one(
    place: Path, files: dict[str, Path], names: list[str] | None
) -> dict[str, Any]:
    if files and not (place / "vars").is_dir():
        raise StoreNotFound(f"{place} has neither pods/ nor vars/: copy it whole (cp -rL)")
    if names is not None:
        _require(names, files, place)
    warnings.warn(
        f"{place} has no pods/: its variables no longer share objects with each other",
        stacklevel=4,
    )
    loaded: dict[str, Any] = {}
    failed: dict[str, BaseException] = {}
    for name in files if names is None else names:
        try:
            loaded[name] = _load_pickle(files[name])
        except (LoadError, OSError) as error:
            failed[name] = error
    if failed:
        listing = "; ".join(map(str, failed.values()))
        rest = f"; the other {len(loaded)} are in .loaded of this exception" if loaded else ""
        raise LoadError(listing + rest, loaded, failed) from next(iter(failed.values()))
    return loaded


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the cyclic collector from searching a graph that is only growing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _load_pickle(file: Path) -> Any:
    with builtins.open(file, "rb", buffering=1 << 20) as stream, _collector_off():
        try:
            return pickle.load(stream)
        except (MemoryError, OSError):
            raise
        except Exception as error:
            raise LoadError(
                f"{file} cannot be unpickled: {type(error).__name__}: {error}"
            ) from error


__all__ = ["load"]
