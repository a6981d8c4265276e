# SPDX-License-Identifier: Apache-2.0
"""Arrays: views of the same memory share it again when loaded.

An array that has all of its memory to itself is saved as NumPy pickles it. So is the first one of
a save that covers all the memory that others see too; those are saved as ``numpy.ndarray`` on its
buffer. Where no array was met that covers the memory, the one that owns it is saved for a view of
at least half of it, or if it is small; else the view is saved alone, with memory of its own.

What is loaded needs NumPy alone. Not shared are arrays of Python objects, and those in objects
that copy on write (pandas), whose libraries would not know that the memory is not theirs alone.
"""

from __future__ import annotations

import mmap
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

from .memory import Call, address_of, bounds, extent, method

_SMALL = 1 << 16  # bytes of memory that are saved for any view of it


class _Memory(NamedTuple):
    """Memory that an array sees and another object has."""

    owner: Any  # an array, or what NumPy made one of
    address: int
    size: int
    lasting: bool = False  # the owner is saved however little of it is seen
    foreign: bool = False  # no array stands for the owner


def _reduce_array(array: Any, save: Any) -> Any:
    if save.owning or array.dtype.hasobject or array.size == 0:
        return array.__reduce_ex__(5)
    if array.base is not None:
        memory = _memory(array)
    elif id(array) in save.memory:  # a view of it came first, of all of it
        memory = _Memory(array, address_of(array), array.nbytes)
    else:
        if array.flags.forc:
            _stands_for(array, array, save)
        return array.__reduce_ex__(5)
    reduced = _reduce_view(array, memory, save) if memory is not None else None
    return reduced or array.__reduce_ex__(5)


def _stands_for(array: Any, owner: Any, save: Any) -> None:
    save.memory[id(owner)] = array
    save.memory.setdefault("arrays", []).append(array)


def end_here(array: Any, save: Any) -> None:
    """Let an array stand for all of its memory: what is behind its end was never written."""
    owner = array.base
    if type(owner) is not type(array) or owner.base is not None or not array.flags.c_contiguous:
        return
    if address_of(owner) == address_of(array) and array.nbytes < owner.nbytes:
        save.memory.setdefault(id(owner), array)


def array_at(address: int, size: int, save: Any) -> Any:
    """Find the array that was met and has this memory, or None."""
    addresses = save.memory.setdefault("addresses", {})
    arrays = save.memory.get("arrays", ())
    while arrays:
        array = arrays.pop()
        addresses[address_of(array)] = array
    found = addresses.get(address)
    return found if found is not None and found.nbytes == size else None


def _reduce_view(array: Any, memory: _Memory, save: Any) -> tuple[Any, ...] | None:
    """Reduce an array that does not own its memory; None: as if it did."""
    owner, start = memory.owner, address_of(array) - memory.address
    known = save.memory.get(id(owner))
    if known is array:
        return None
    if known is None:
        whole = array.nbytes == memory.size and start == 0 and array.flags.forc
        # NumPy puts what it unpickles on bytes, and writes to it all the same
        alike = type(owner) is bytes or array.flags.writeable == _is_writable(owner)
        if whole and alike and not memory.foreign:
            _stands_for(array, owner, save)
            return None
        low, high = bounds(array)
        if memory.size > _SMALL and 2 * (high - low) < memory.size and not memory.lasting:
            return None
        known = owner
    if array.flags.writeable and not _is_writable(known):
        return None
    if type(known) is type(array) and bounds(array)[1] > memory.address + known.nbytes:
        return None  # behind where that ends; see end_here
    save.memory[id(owner)] = known
    cls = type(array)
    reduced = cls, (array.shape, array.dtype, _whole(known), start, array.strides)
    if array.flags.writeable == _is_writable(known):
        return reduced
    return (*reduced, False, None, None, cls.setflags)


def _memory(array: Any) -> _Memory | None:
    """Find what owns the memory of a view; None: that cannot be told."""
    cls: Any = type(array)
    owner, base = array, array.base
    while base is not None:
        if type(base) is cls:
            owner = base
        elif type(base).__name__ != "DummyArray":  # of numpy.lib.stride_tricks
            break
        base = base.base
    if base is None:
        if owner is array or not owner.flags.forc or owner.dtype.hasobject:
            return None
        return _Memory(owner, address_of(owner), owner.nbytes)
    return _of_exporter(base.obj if type(base) is memoryview else base)


def _of_exporter(exporter: Any) -> _Memory | None:
    cls: Any = type(exporter)
    if cls in (bytes, bytearray):
        return _Memory(exporter, *extent(exporter)[:2])
    if cls is mmap.mmap:
        from . import maps

        address, size, _ = extent(exporter)
        return _Memory(exporter, address, size, maps.is_segment(exporter), True)
    if cls.__module__ == "torch" and cls.__name__ == "Tensor":
        storage = exporter.untyped_storage()
        return _Memory(storage, storage.data_ptr(), storage.nbytes(), foreign=True)
    if "multiprocessing.heap" in sys.modules:
        from .sharedctypes import in_shared_memory

        if in_shared_memory(exporter):
            return _Memory(exporter, *extent(exporter)[:2], lasting=True, foreign=True)
    return None


def _is_writable(owner: Any) -> bool:
    if hasattr(owner, "flags"):
        return bool(owner.flags.writeable)
    if type(owner).__module__.startswith("torch"):
        return True
    return not extent(owner)[2]


def _whole(owner: Any) -> Any:
    """Give what the memory of an object is when loaded, as a C-contiguous buffer."""
    if type(owner).__module__.startswith("torch"):
        from .torch import bytes_of

        return bytes_of(owner)
    if not hasattr(owner, "flags"):
        return owner
    whole = owner
    if owner.dtype.kind in "mM":  # which export no buffer
        whole = Call(method("view", "i8"), whole)
    if not owner.flags.c_contiguous:
        whole = Call(getattr, whole, "T")
    return whole


ARRAYS = SimpleNamespace(reduce=_reduce_array, needs_save=True)
