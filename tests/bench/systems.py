# SPDX-License-Identifier: Apache-2.0
"""Chipmink and what it is compared with, behind one interface.

All of them keep every state that is saved, and are as durable: a state is on disk when `save`
returns. Each is used as its own documentation shows it, on the interpreter as it comes.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import pickle
import sys
import sysconfig
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stores import open_ready, server_of, stop_server


class System(ABC):
    """Saves states of a namespace in a directory, and loads the last one.

    Parameters
    ----------
    directory
        Empty, or that of an earlier process to load from.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server: int | None = None  # the process that works for it, if there is one

    @abstractmethod
    def save(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Save a state durably; return what the system itself says of it (may be empty)."""

    @abstractmethod
    def load(self, name: str | None = None) -> Mapping[str, Any]:
        """Load the last state, or one variable of it."""

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Tell whether the value can be saved here and loaded in another process."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Let go of the directory."""


class Chipmink(System):
    """A session of a store.

    Parameters
    ----------
    directory
        Of the store.
    session
        Its name.
    """

    def __init__(self, directory: Path, session: str = "bench") -> None:
        super().__init__(directory)
        self._path = directory / "store"
        self._store = open_ready(self._path)
        self._session = self._store.session(session)
        self.server = server_of(self._path)

    def save(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Save a checkpoint."""
        checkpoint = self._session.save(namespace)
        return {
            "bytes": checkpoint.stats.bytes_written,
            "phases": dict(checkpoint.stats.seconds),
            "unsaved": sorted(checkpoint.unsaved),
        }

    def load(self, name: str | None = None) -> Mapping[str, Any]:
        """Load the head."""
        return self._session.load(names=None if name is None else [name])

    def accepts(self, value: Any) -> bool:
        """Chipmink lists what it cannot save, and saves the rest."""
        return True

    def close(self) -> None:
        """Close the store and end its server."""
        self._store.close()
        stop_server(self._path)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def _survives(value: Any, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> bool:
    """Try, with a ``__main__`` as empty as that of the process which will load."""
    try:
        data = dumps(value)
    except Exception:  # whatever the value's own reducers raise
        return False
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        loads(data)
    except Exception:
        return False
    finally:
        sys.modules["__main__"] = main
    return True


class Files(System):
    """One file per save, flushed to disk with its directory, as a careful user would.

    Parameters
    ----------
    directory
        Of the files.
    dump, load
        Write a value to a file, read it from a file.
    """

    def __init__(
        self,
        directory: Path,
        dump: Callable[[Any, BinaryIO], object],
        load: Callable[[BinaryIO], Any],
    ) -> None:
        super().__init__(directory)
        self._dump = dump
        self._load = load
        self._number = len(list(directory.glob("*.pkl")))

    def save(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Write the next file."""
        self._number += 1
        path = self.directory / f"{self._number:06d}.pkl"
        with path.open("wb") as file:
            self._dump(namespace, file)
            file.flush()
            os.fsync(file.fileno())
        _sync(self.directory)
        return {}

    def load(self, name: str | None = None) -> Mapping[str, Any]:
        """Read the last file; all of it, whatever is wanted."""
        with (self.directory / f"{self._number:06d}.pkl").open("rb") as file:
            namespace = self._load(file)
        return namespace if name is None else {name: namespace[name]}

    def accepts(self, value: Any) -> bool:
        """Try it."""

        def dumps(value: Any) -> bytes:
            buffer = io.BytesIO()
            self._dump(value, buffer)
            return buffer.getvalue()

        return _survives(value, dumps, lambda data: self._load(io.BytesIO(data)))


def _pickle(directory: Path) -> System:
    return Files(directory, lambda v, file: pickle.dump(v, file, protocol=5), pickle.load)


def _pickle_zstd(directory: Path) -> System:
    import zstandard

    def dump(value: Any, file: BinaryIO) -> None:
        compressor = zstandard.ZstdCompressor(level=3)
        with compressor.stream_writer(file, closefd=False) as stream:
            pickle.dump(value, stream, protocol=5)

    def load(file: BinaryIO) -> Any:
        with zstandard.ZstdDecompressor().stream_reader(file) as stream:
            return pickle.load(io.BufferedReader(stream, 1 << 20))

    return Files(directory, dump, load)


def _cloudpickle(directory: Path) -> System:
    import cloudpickle

    return Files(directory, cloudpickle.dump, pickle.load)


def _dill(directory: Path) -> System:
    import dill

    return Files(directory, lambda v, file: dill.dump(v, file, protocol=5), dill.load)


def _joblib(directory: Path) -> System:
    import joblib

    return Files(directory, lambda v, file: joblib.dump(v, file, protocol=5), joblib.load)


def gnu_dbm() -> Any:
    """Return the module ``dbm.gnu``.

    An interpreter that was built without it takes the system's own, where the version is the same.
    """
    if importlib.util.find_spec("_gdbm") is None:
        file = f"_gdbm{sysconfig.get_config_var('EXT_SUFFIX')}"
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        loader = importlib.machinery.ExtensionFileLoader(
            "_gdbm", str(Path("/usr/lib") / version / "lib-dynload" / file)
        )
        spec = importlib.util.spec_from_loader("_gdbm", loader)
        if spec is None:
            raise ImportError("dbm.gnu")
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        sys.modules["_gdbm"] = module
    import dbm.gnu

    return dbm.gnu


class Shelf(System):
    """A ``shelve`` over ``dbm.gnu``: a key for each variable of each save."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        import shelve

        existing = any(directory.iterdir())
        self._shelf = shelve.Shelf(
            gnu_dbm().open(str(directory / "shelf"), "w" if existing else "c"), protocol=5
        )
        self._number = self._shelf.get("saves", 0)

    def save(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Write every variable under a new key, and synchronise."""
        number = self._number + 1
        for name, value in namespace.items():
            self._shelf[f"{number}/{name}"] = value
        self._shelf[f"{number}"] = list(namespace)
        self._shelf["saves"] = number
        self._shelf.sync()
        _sync(self.directory)
        self._number = number
        return {}

    def load(self, name: str | None = None) -> Mapping[str, Any]:
        """Read the wanted keys."""
        names = self._shelf[f"{self._number}"] if name is None else [name]
        return {name: self._shelf[f"{self._number}/{name}"] for name in names}

    def accepts(self, value: Any) -> bool:
        """It pickles."""
        return _survives(value, lambda v: pickle.dumps(v, protocol=5), pickle.loads)

    def close(self) -> None:
        """Close the shelf."""
        self._shelf.close()


class Zodb(System):
    """ZODB over a FileStorage: a persistent holder for each variable.

    Ordinary values do not tell the database that they changed: every holder is set anew for every
    save. Earlier states stay in the file, as ZODB's history.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        import transaction
        import ZODB
        import ZODB.FileStorage

        self._transaction = transaction
        storage = ZODB.FileStorage.FileStorage(str(directory / "data.fs"))
        self._database = ZODB.DB(storage)
        self._connection = self._database.open()
        self._root = self._connection.root()

    def save(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Set every holder, and commit: FileStorage flushes to disk."""
        from persistent.mapping import PersistentMapping

        for name in [name for name in self._root if name not in namespace]:
            del self._root[name]
        for name, value in namespace.items():
            if name not in self._root:
                self._root[name] = PersistentMapping()
            self._root[name]["value"] = value
        self._transaction.commit()
        return {}

    def load(self, name: str | None = None) -> Mapping[str, Any]:
        """Read the wanted holders."""
        self._connection.cacheMinimize()  # as a process that has not read them yet
        names = list(self._root) if name is None else [name]
        return {name: self._root[name]["value"] for name in names}

    def accepts(self, value: Any) -> bool:
        """ZODB has a pickler of its own."""
        from zodbpickle import pickle as pickler

        return _survives(value, lambda v: pickler.dumps(v, 3), pickler.loads)

    def close(self) -> None:
        """Close the database."""
        self._transaction.abort()
        self._connection.close()
        self._database.close()


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "chipmink": Chipmink,
    "pickle": _pickle,
    "pickle+zstd": _pickle_zstd,
    "cloudpickle": _cloudpickle,
    "dill": _dill,
    "joblib": _joblib,
    "shelve": Shelf,
    "zodb": Zodb,
}

_MODULES = {
    "pickle+zstd": "zstandard",
    "cloudpickle": "cloudpickle",
    "dill": "dill",
    "joblib": "joblib",
    "zodb": "ZODB",
}


def missing(name: str) -> str | None:
    """Why a system cannot be measured here, or None."""
    if name == "shelve":
        try:
            gnu_dbm()
        except ImportError:
            return "no dbm.gnu for this interpreter (package python3-gdbm)"
    module = _MODULES.get(name)
    if module and importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    return None
