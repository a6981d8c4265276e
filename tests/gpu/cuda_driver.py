# SPDX-License-Identifier: Apache-2.0
"""Memory of a CUDA device by way of the driver alone: for tests and benchmarks, which need no more.

As a program: says why there is no device that can be used; nothing, if there is one.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE
_GLOBAL = 1  # CU_MEM_ATTACH_GLOBAL
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class NoDeviceError(Exception):
    """There is no device, or no driver."""


def _size(number: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(number)


def _address(number: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(number)


class Driver:
    """The first device, current in the thread that made this.

    Parameters
    ----------
    path
        Of the driver's library, or of one that stands for it.

    Raises
    ------
    NoDeviceError
        There is none.
    """

    def __init__(self, path: str = "libcuda.so.1") -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise NoDeviceError(f"there is no driver for CUDA ({error})") from None
        count, device, self._context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        if self._library.cuInit(0) or self._library.cuDeviceGetCount(ctypes.byref(count)):
            raise NoDeviceError("the driver for CUDA finds no device")
        if count.value == 0:
            raise NoDeviceError("there is no CUDA device")
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.call("cuCtxSetCurrent", self._context)
        name = ctypes.create_string_buffer(100)
        self.call("cuDeviceGetName", name, 100, device)
        self.name = name.value.decode()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver."""
        error = getattr(self._library, name)(*arguments)
        if error:
            raise RuntimeError(f"{name} failed with error {error} of the CUDA driver")

    def current(self) -> int | None:
        """Give the context of this thread."""
        context = ctypes.c_void_p()
        self.call("cuCtxGetCurrent", ctypes.byref(context))
        return context.value

    def stream(self) -> ctypes.c_void_p:
        """Make a stream that waits for no other."""
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        return stream

    def synchronize(self) -> None:
        """Wait for all that was enqueued."""
        self.call("cuCtxSynchronize")

    def pinned(self, size: int) -> ctypes.c_void_p:
        """Allocate pinned memory, which stays until the process ends."""
        memory = ctypes.c_void_p()
        self.call("cuMemHostAlloc", ctypes.byref(memory), _size(size), _PORTABLE)
        return memory

    def array(self, content: bytes | int, *, managed: bool = False) -> Array:
        """Make an array of bytes, or of a size."""
        return Array(self, content, managed)


class Array:
    """Bytes on the device."""

    def __init__(self, driver: Driver, content: bytes | int, managed: bool) -> None:
        self._driver = driver
        self.size = content if isinstance(content, int) else len(content)
        address = ctypes.c_uint64()
        if managed:
            driver.call("cuMemAllocManaged", ctypes.byref(address), _size(self.size), _GLOBAL)
        else:
            driver.call("cuMemAlloc_v2", ctypes.byref(address), _size(self.size))
        self.address = address.value
        if not isinstance(content, int):
            self.write(0, content)

    def __del__(self) -> None:
        if getattr(self, "address", 0):
            self._driver.call("cuMemFree_v2", _address(self.address))

    def write(self, at: int, content: bytes) -> None:
        """Copy bytes to it; done when this returns."""
        self._driver.call(
            "cuMemcpyHtoD_v2", _address(self.address + at), content, _size(len(content))
        )
        self._driver.synchronize()

    def read(self) -> bytes:
        """Copy it to the host."""
        to = ctypes.create_string_buffer(self.size)
        self._driver.call("cuMemcpyDtoH_v2", to, _address(self.address), _size(self.size))
        return to.raw

    def set_later(self, at: int, value: int, stream: ctypes.c_void_p) -> None:
        """Enqueue that a byte is written."""
        self._driver.call("cuMemsetD8Async", _address(self.address + at), value, _size(1), stream)

    def copy_later(self, source: Array, stream: ctypes.c_void_p | None = None) -> None:
        """Enqueue a copy of all of another one."""
        self._driver.call(
            "cuMemcpyDtoDAsync_v2",
            _address(self.address),
            _address(source.address),
            _size(min(self.size, source.size)),
            stream,
        )

    def fetch_later(self, pinned: ctypes.c_void_p, size: int) -> None:
        """Enqueue a copy of its first bytes to pinned memory."""
        self._driver.call("cuMemcpyDtoHAsync_v2", pinned, _address(self.address), _size(size), None)


if __name__ == "__main__":
    try:
        Driver()
    except NoDeviceError as error:
        print(error)
    sys.exit(0)
