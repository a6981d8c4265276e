# SPDX-License-Identifier: Apache-2.0
"""Arrays of JAX on one device that is no CPU: they come back there, as they were.

JAX pickles an array as one of NumPy, which goes to the device that is the default where it is
loaded. So it is with arrays on the CPU, and with those that lie on several devices: JAX puts these
together in the memory of the host.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from . import device as devices

_HOST = "cpu"  # the platform whose arrays JAX pickles


def _reduce(array: Any) -> Any:
    device, *others = array.sharding.device_set
    if others or device.platform == _HOST:
        return array.__reduce__()
    array.block_until_ready()  # it may not even have been enqueued
    shape, number = tuple(array.shape), device.local_hardware_id
    address = array.unsafe_buffer_pointer() if _is_plain(array) else None
    host = devices.array_of(
        array, number, address, shape, array.dtype, lambda: sys.modules["numpy"].asarray(array)
    )
    return load, (host, device.platform, number, array.committed, array.weak_type)


def _is_plain(array: Any) -> bool:
    """Tell whether its memory is that of an array of NumPy in C order."""
    layout = getattr(getattr(array, "format", None), "layout", None)  # JAX from 0.7 on
    return (
        layout is not None
        and array.on_device_size_in_bytes() == array.nbytes  # some types take less than a byte
        and layout.major_to_minor == tuple(range(array.ndim))
        and not layout.tiling
    )


def load(host: Any, platform: str, number: int, committed: bool, weak: bool) -> Any:
    """Make an array on a device; where there is none, on the CPU, and of NumPy without JAX."""
    what = "an array of JAX"
    try:
        import jax  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        devices.stays_here(what, str(error))
        return host
    try:
        here = jax.local_devices(backend=platform)
        device = next((each for each in here if each.local_hardware_id == number), None)
        why = f"there is no device {number}"
    except RuntimeError as error:  # no such platform
        device, why = None, str(error)
    if device is None:
        devices.stays_here(what, why)
        device, committed = jax.local_devices(backend=_HOST)[0], False
    with jax.default_device(device):
        array = jax.device_put(host, device if committed else None)
    if weak:
        array.aval = array.aval.update(weak_type=True)  # as JAX does it
    return array


ARRAY = SimpleNamespace(reduce=_reduce)
