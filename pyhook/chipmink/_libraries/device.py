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


# ---- CuPy and Numba ------------------------------------------------------------------------------


def _reduce(array: Any, device: int, copy: Any, back: Any) -> tuple[Any, ...]:
    """Reduce what has a __cuda_array_interface__ to a NumPy array, and how that goes `back`."""
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), array.dtype
    size = math.prod(shape) * dtype.itemsize
    buffer = None
    if interface.get("strides") is None or interface["strides"] == _c_strides(shape, dtype):
        buffer = devices.memory(device, interface["data"][0], size, array)
    if buffer is None:
        host = sys.modules["numpy"].ascontiguousarray(copy()).reshape(-1)
        buffer = pickle.PickleBuffer(host.view("u1"))
    return back, (Call(sys.modules["numpy"].ndarray, shape, dtype, buffer), device)


def _c_strides(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape)))


def _reduce_cupy(array: Any) -> tuple[Any, ...]:
    return _reduce(array, array.device.id, array.get, to_cupy)


def _reduce_numba(array: Any) -> tuple[Any, ...]:
    current = sys.modules["numba.cuda"].current_context().device.id
    return _reduce(array, current, array.copy_to_host, to_numba)


def to_cupy(host: Any, device: int) -> Any:
    """Make a CuPy array on a device; where there is none, the NumPy array stays one."""
    try:
        import cupy  # type: ignore[import-not-found, unused-ignore]

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        stays_here("a CuPy array", str(error))
        return host
    if device >= count:
        stays_here("a CuPy array", f"there is no device {device}")
        return host
    with cupy.cuda.Device(device):
        return cupy.asarray(host)


def to_numba(host: Any, device: int) -> Any:
    """Make an array of Numba's on a device; where there is none, the NumPy array stays one."""
    try:
        from numba import cuda  # type: ignore[import-not-found, unused-ignore]

        count = len(cuda.gpus)
    except Exception as error:
        stays_here("an array of Numba", str(error))
        return host
    if device >= count:
        stays_here("an array of Numba", f"there is no device {device}")
        return host
    with cuda.gpus[device]:
        return cuda.to_device(host)


CUPY = SimpleNamespace(reduce=_reduce_cupy)
NUMBA = SimpleNamespace(reduce=_reduce_numba)
