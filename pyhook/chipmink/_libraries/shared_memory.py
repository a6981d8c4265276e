# SPDX-License-Identifier: Apache-2.0
"""Segments of `multiprocessing.shared_memory`: by name and content.

A segment comes back under its name where that is free, else under a new one, with a warning. What
a load made is unlinked when the process ends, unless the program did so before.
"""

from __future__ import annotations

import atexit
import functools
import mmap
import os
import warnings
from multiprocessing.shared_memory import ShareableList, SharedMemory
from types import SimpleNamespace
from typing import Any

from .memory import Call

_made: dict[int, set[str]] = {}  # by the process that made them


def open_segment(name: str, content: bytes) -> str:
    """Make a segment with this content and give its name."""
    try:
        segment = SharedMemory(name, create=True, size=len(content))
    except FileExistsError:
        segment = SharedMemory(create=True, size=len(content))
        warnings.warn(
            f"shared memory {name} is in use: what was saved of it is in {segment.name} now",
            UserWarning,
            stacklevel=2,
        )
    memory: Any = segment.buf
    memory[: len(content)] = content
    del memory
    segment.close()
    if not _made:
        atexit.register(_unlink_all)
    _made.setdefault(os.getpid(), set()).add(segment.name)
    return segment.name


def _unlink_all() -> None:
    for name in _made.get(os.getpid(), ()):
        try:
            segment = SharedMemory(name)
        except FileNotFoundError:
            continue
        segment.close()
        segment.unlink()


def map_segment(name: str) -> mmap.mmap:
    """Map a segment, as `SharedMemory` does inside."""
    fd = os.open(f"/dev/shm/{name}", os.O_RDWR)
    try:
        return mmap.mmap(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def segment(name: str, content: Any, save: Any) -> Call:
    """Give what stands for a segment: the same for all that is in it."""
    key = ("segment", name)
    if key not in save.memory:
        # a copy: while a buffer is exported, the program could not close its segment
        save.memory[key] = Call(open_segment, name, bytes(content))
    call: Call = save.memory[key]
    return call


def _reduce_segment(shared: SharedMemory, save: Any) -> Any:
    if shared.buf is None:
        raise ValueError(f"shared memory {shared.name} is closed")
    return SharedMemory, (segment(shared.name, shared.buf, save),)


def _reduce_list(shared: ShareableList[Any], save: Any) -> Any:
    memory = shared.shm
    if memory.buf is None:
        raise ValueError(f"shared memory {memory.name} is closed")
    name: Any = segment(memory.name, memory.buf, save)
    return functools.partial(ShareableList, name=name), ()


SEGMENT = SimpleNamespace(reduce=_reduce_segment, needs_save=True)
LIST = SimpleNamespace(reduce=_reduce_list, needs_save=True)
