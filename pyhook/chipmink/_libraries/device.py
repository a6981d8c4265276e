# SPDX-License-Identifier: Apache-2.0
"""Arrays in the memory of CUDA devices.

They are saved as NumPy arrays or CPU storages of the same bytes, with the device beside. Where the
library that reads such memory was built and finds a device, chunks are hashed on the device and
only those that are new are copied; else the array's own library copies all of it. What is stored is
the same.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .. import _core
from .memory import Call

LIBRARY = Path(_core.__file__).with_name("_device.so")


class Devices:
    """The library at a path, loaded when it is first asked for memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._library: Any = None
        self._asked = False
        self._process = os.getpid()

    def memory(self, device: int, address: int, size: int, owner: Any) -> Any:
        """Give what memory of a device is saved as, while `owner` keeps it.

        None: it has to be copied by who has it. There is no such library, no device that it can
        use, the process that used it has forked this one, or the memory is of a kind that it leaves
        alone.
        """
        library = self._loaded() if size else None
        try:
            return library and library.memory(device, address, size, owner)
        except OSError:
            return None

    def _loaded(self) -> Any:
        forked = self._asked and os.getpid() != self._process
        if forked or os.environ.get("CHIPMINK_DEVICE") == "off":
            return None
        with self._lock:
            if not self._asked:
                self._process = os.getpid()
                self._asked = True
                try:
                    self._library = _core.Device(self._path)
                except OSError:
                    self._library = None
            return self._library


devices = Devices(LIBRARY)


def stays_here(what: str, why: str) -> None:
    """Warn that what was loaded is in the memory of the host."""
    message = f"{what} was saved from a device that cannot be used here ({why}): it is on the CPU"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def array_of(
    owner: Any, device: int, address: int | None, shape: tuple[int, ...], dtype: Any, copy: Any
) -> Call:
    """Give what is a NumPy array when loaded, of memory of a device in C order, kept by `owner`.

    None as the address: it is what `copy` gives, as it is where the library cannot read the memory.
    """
    numpy: Any = sys.modules["numpy"]
    buffer = None
    if address is not None:
        size = math.prod(shape) * dtype.itemsize
        buffer = devices.memory(device, address, size, owner)
    if buffer is None:
        host = numpy.require(copy(), requirements="CW").reshape(-1)
        buffer = pickle.PickleBuffer(host.view("u1"))
    return Call(numpy.ndarray, shape, dtype, buffer)


def absence(count: Callable[[], int], device: int) -> str | None:
    """Tell why a device cannot be used, by a function that counts them; None: it can."""
    try:
        return None if device < count() else f"there is no device {device}"
    except Exception as error:
        return str(error) or type(error).__name__


# ---- CuPy and Numba ------------------------------------------------------------------------------


def _reduce(array: Any, device: int, copy: Any, back: Any) -> tuple[Any, ...]:
    """Reduce what has a __cuda_array_interface__ to a NumPy array, and how that goes `back`."""
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), array.dtype
    compact = interface.get("strides") in (None, c_strides(shape, dtype.itemsize))
    address = interface["data"][0] if compact else None
    return back, (array_of(array, device, address, shape, dtype, copy), device)


def c_strides(shape: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Give the strides of an array in C order whose elements are a step apart."""
    return tuple(math.prod(shape[i + 1 :]) * step for i in range(len(shape)))


def _reduce_cupy(array: Any) -> tuple[Any, ...]:
    return _reduce(array, array.device.id, array.get, to_cupy)


def _reduce_numba(array: Any) -> tuple[Any, ...]:
    current = sys.modules["numba.cuda"].current_context().device.id
    return _reduce(array, current, array.copy_to_host, to_numba)


def count_cupy() -> int:
    """Count the devices that CuPy sees."""
    import cupy  # type: ignore[import-not-found, unused-ignore]

    return int(cupy.cuda.runtime.getDeviceCount())


def to_cupy(host: Any, device: int) -> Any:
    """Make a CuPy array on a device; where there is none, the NumPy array stays one."""
    why = absence(count_cupy, device)
    if why:
        stays_here("a CuPy array", why)
        return host
    cupy: Any = sys.modules["cupy"]
    with cupy.cuda.Device(device):
        return cupy.asarray(host)


def _count_numba() -> int:
    from numba import cuda  # type: ignore[import-not-found, unused-ignore]

    return len(cuda.gpus)


def to_numba(host: Any, device: int) -> Any:
    """Make an array of Numba's on a device; where there is none, the NumPy array stays one."""
    why = absence(_count_numba, device)
    if why:
        stays_here("an array of Numba", why)
        return host
    cuda: Any = sys.modules["numba.cuda"]
    with cuda.gpus[device]:
        return cuda.to_device(host)


CUPY = SimpleNamespace(reduce=_reduce_cupy)
NUMBA = SimpleNamespace(reduce=_reduce_numba)
