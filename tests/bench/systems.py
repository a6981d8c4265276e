"""Chipmink and what it is compared with, behind one interface.

All of them are as durable: a state is on disk when `save` returns.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stores import open_ready, stop_server


class System(ABC):
    """Saves states of a namespace in a directory, and loads the last one.

    Parameters
    ----------
    directory
        Empty, or that of an earlier process to load from.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def save(self, namespace: dict[str, Any]) -> int:
        """Save a state durably and return the bytes written for it."""

    @abstractmethod
    def load(self, name: str | None = None) -> dict[str, Any]:
        """Load the last state, or one variable of it."""

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Tell whether the value can be saved here and loaded in another process."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Let go of the directory."""


class Chipmink(System):
    """A session of a store."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._path = directory / "store"
        self._store = open_ready(self._path)
        self._session = self._store.session("bench")

    def save(self, namespace: dict[str, Any]) -> int:
        """Save a checkpoint."""
        return self._session.save(namespace).stats.bytes_written

    def load(self, name: str | None = None) -> dict[str, Any]:
        """Load the head."""
        return self._session.load(names=None if name is None else [name])

    def accepts(self, value: Any) -> bool:
        """Chipmink lists what it cannot save, and saves the rest."""
        return True

    def close(self) -> None:
        """Close the store and end its server."""
        self._store.close()
        stop_server(self._path)


class PickleFiles(System):
    """One file per save, flushed to disk with its directory, as a careful user would."""

    def __init__(
        self,
        directory: Path,
        dump: Callable[..., None],
        load: Callable[[io.BufferedReader], Any],
    ) -> None:
        super().__init__(directory)
        self._dump = dump
        self._load = load
        self._number = len(list(directory.glob("*.pkl")))

    def save(self, namespace: dict[str, Any]) -> int:
        """Write the next file."""
        self._number += 1
        path = self.directory / f"{self._number:06d}.pkl"
        with path.open("wb") as file:
            self._dump(namespace, file, protocol=5)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
        return size

    def load(self, name: str | None = None) -> dict[str, Any]:
        """Read the last file; all of it, whatever is wanted."""
        with (self.directory / f"{self._number:06d}.pkl").open("rb") as file:
            namespace = self._load(file)
        return namespace if name is None else {name: namespace[name]}

    def accepts(self, value: Any) -> bool:
        """Try, with a ``__main__`` as empty as that of the process which will load."""
        buffer = io.BytesIO()
        try:
            self._dump(value, buffer, protocol=5)
        except Exception:  # whatever the value's own reducers raise
            return False
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            buffer.seek(0)
            self._load(buffer)
        except Exception:
            return False
        finally:
            sys.modules["__main__"] = main
        return True


def _pickle(directory: Path) -> System:
    return PickleFiles(directory, pickle.dump, pickle.load)


def _cloudpickle(directory: Path) -> System:
    import cloudpickle

    return PickleFiles(directory, cloudpickle.dump, pickle.load)


def _dill(directory: Path) -> System:
    import dill

    return PickleFiles(directory, dill.dump, dill.load)


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "chipmink": Chipmink,
    "pickle": _pickle,
    "cloudpickle": _cloudpickle,
    "dill": _dill,
}
