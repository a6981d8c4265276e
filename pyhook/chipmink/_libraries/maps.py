# SPDX-License-Identifier: Apache-2.0
"""Mapped files and memory: `mmap.mmap` and `numpy.memmap`.

By content: what a mapping holds is stored with the path of its file. If the file still holds that
when it is loaded, it is mapped again; else the content comes back in memory, with a warning. No
load changes a file. By reference (see `by_reference`): the path alone is stored, and what is in
the file at the time of the load is mapped.
"""

from __future__ import annotations

import mmap
import os
import re
import sys
import warnings
from types import SimpleNamespace
from typing import Any

from .memory import address_of, bounds, extent
from .shared_memory import map_segment, segment

by_reference = False

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ (\d+) *(.*)")
_SEGMENT = re.compile(r"/dev/shm/(?!pym-|torch_|sem\.)([^/]+)")
_DELETED = " (deleted)"


def _mapping(address: int) -> tuple[str, str, int]:
    """Tell what file an address is mapped to: flags, path ("": none), offset in it."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            found = _LINE.match(line)
            if found and int(found[1], 16) <= address < int(found[2], 16):
                path = found[6] if found[5] != "0" else ""
                return found[3], path, int(found[4], 16) + address - int(found[1], 16)
    return "", "", 0


def is_segment(mapped: mmap.mmap) -> bool:
    """Tell whether this maps a segment of shared memory that has a name."""
    _, path, offset = _mapping(extent(mapped)[0])
    return offset == 0 and _SEGMENT.fullmatch(path.removesuffix(_DELETED)) is not None


def _reduce_map(mapped: mmap.mmap, save: Any) -> Any:
    address, size, readonly = extent(mapped)
    save.memory[id(mapped)] = mapped  # for the arrays on it
    flags, path, offset = _mapping(address)
    name = _SEGMENT.fullmatch(path.removesuffix(_DELETED))
    if name and offset == 0:
        return map_segment, (segment(name[1], memoryview(mapped)[:size], save),)
    if not path or path.endswith(_DELETED):
        return map_content, (mapped[:size],)
    access = "r" if readonly else "w" if flags.endswith("s") else "c"
    return map_file, (path, offset, size, access, None if by_reference else mapped[:size])


def map_content(content: bytes) -> mmap.mmap:
    """Make memory with this content, shared with processes forked from this one."""
    mapped = mmap.mmap(-1, len(content))
    mapped[:] = content
    return mapped


def map_file(path: str, offset: int, size: int, access: str, content: bytes | None) -> mmap.mmap:
    """Map a file, or what it had when it was saved."""
    modes = {"r": mmap.ACCESS_READ, "w": mmap.ACCESS_WRITE, "c": mmap.ACCESS_COPY}
    try:
        with open(path, "r+b" if access == "w" else "rb") as file:
            if os.fstat(file.fileno()).st_size < offset + size:
                raise ValueError(f"{path} has become shorter")
            mapped = mmap.mmap(file.fileno(), size, access=modes[access], offset=offset)
        if content is None or mapped[:] == content:
            return mapped
        mapped.close()
    except (OSError, ValueError):
        if content is None:
            raise
    _warn(path)
    return map_content(content)


def _warn(path: str) -> None:
    warnings.warn(
        f"{path} is not what it was when it was saved: what it had then is in memory, and changes "
        "to it do not go to the file",
        UserWarning,
        stacklevel=3,
    )


def _reduce_memmap(array: Any, save: Any) -> Any:
    if array._mmap is None or array.filename is None or array.size == 0:
        return array.__reduce_ex__(5)
    numpy: Any = sys.modules["numpy"]
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    low, high = bounds(array)
    start += low - extent(array._mmap)[0]  # where in the file
    place = (str(array.filename), array.mode, start, high - low)
    layout = (array.shape, array.dtype, address_of(array) - low, array.strides)
    content = None if by_reference else array.view(numpy.ndarray)
    return load_memmap, (place, layout, content)


def load_memmap(place: tuple[Any, ...], layout: tuple[Any, ...], content: Any) -> Any:
    """Map an array from a file, or give what it had when it was saved."""
    import numpy

    path, saved_mode, start, size = place
    shape, dtype, at, strides = layout
    mode: Any = "r+" if saved_mode == "w+" else saved_mode
    try:
        if os.stat(path).st_size < start + size:  # NumPy would make it longer
            raise ValueError(f"{path} has become shorter")
        region = numpy.memmap(path, numpy.uint8, mode, start, (size,))
        array = numpy.ndarray.__new__(numpy.memmap, shape, dtype, region, at, strides)
        for name in ("_mmap", "filename", "offset", "mode"):
            setattr(array, name, getattr(region, name))
        if content is None or _same(array, content):
            return array
    except (OSError, ValueError):
        if content is None:
            raise
    _warn(path)
    return content


def _same(array: Any, content: Any) -> bool:
    if not (array.flags.c_contiguous and content.flags.c_contiguous):
        return bool(array.tobytes() == content.tobytes())
    return bool((array.reshape(-1).view("u1") == content.reshape(-1).view("u1")).all())


MAP = SimpleNamespace(reduce=_reduce_map, needs_save=True)
MEMMAP = SimpleNamespace(reduce=_reduce_memmap, needs_save=True)
