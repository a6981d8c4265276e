# SPDX-License-Identifier: Apache-2.0
"""Files of h5py, and what is in them: files in memory by content, others by path and mode."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from .memory import Call

_BY_PATH = ("sec2", "stdio")  # drivers: those that have one file with that name


def _open(obj: Any, save: Any) -> Call:
    """Give what stands for the file of an object: the same for all that is in it."""
    if not obj.id.valid:
        raise ValueError("it is closed")
    file = obj.file
    key = ("hdf5", file.id.id)  # what is in a file has the number of the file as it was opened
    if key not in save.memory:
        save.memory[key] = Call(open_file, *_facts(file))
    call: Call = save.memory[key]
    return call


def _facts(file: Any) -> tuple[str, str, bool, bytes | None]:
    if file.driver == "core" and not file.id.get_access_plist().get_fapl_core()[1]:
        file.flush()
        return "", file.mode, False, file.id.get_file_image()
    if file.driver not in _BY_PATH:
        raise ValueError(f"it is in a file that driver {file.driver} of HDF5 has opened")
    return os.path.abspath(file.filename), file.mode, bool(file.swmr_mode), None


def open_file(path: str, mode: str, swmr: bool, content: bytes | None) -> Any:
    """Open a file, or make one in memory, and give its identifier."""
    import h5py  # type: ignore[import-not-found, unused-ignore]

    if content is not None:
        return h5py.File.in_memory(content).id
    return h5py.File(path, mode, swmr=swmr and mode == "r").id


def item(file: Any, name: str) -> Any:
    """Give what a file has under a name."""
    import h5py

    return h5py.File(file)[name]


def _reduce_file(file: Any, save: Any) -> Any:
    return type(file), (_open(file, save),)


def _reduce_item(obj: Any, save: Any) -> Any:
    file = _open(obj, save)
    if obj.name is None:
        raise ValueError("it has no name in its file")
    return item, (file, obj.name)


FILE = SimpleNamespace(reduce=_reduce_file, needs_save=True)
ITEM = SimpleNamespace(reduce=_reduce_item, needs_save=True)
