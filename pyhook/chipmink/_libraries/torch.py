# SPDX-License-Identifier: Apache-2.0
"""Tensors: those on one storage are on one again when loaded, and bytes are read where they are.

PyTorch pickles a storage by value for each tensor on it. Here it is a buffer, which the storage is
made on when loaded: that needs PyTorch alone. Storages on CUDA devices are saved as those on the
CPU, and brought back to the device when loaded; those on other devices are left to PyTorch.
"""

from __future__ import annotations

import functools
import pickle
import sys
from types import SimpleNamespace
from typing import Any

from . import device
from .memory import Call, method
from .numpy import array_at


def bytes_of(storage: Any) -> Call:
    """Give what is a NumPy array of the bytes of a storage when loaded."""
    torch: Any = sys.modules["torch"]
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.uint8, _internal=True)
    tensor = Call(torch._utils._rebuild_tensor, typed, 0, (storage.nbytes(),), (1,))
    return Call(method("numpy"), tensor)


def _reduce_untyped(storage: Any, save: Any) -> Any:
    torch: Any = sys.modules["torch"]
    if storage.device.type not in ("cpu", "cuda"):
        return storage.__reduce_ex__(5)
    if storage.device.type == "cuda":
        return to_device, (_on_cpu(storage), str(storage.device))
    if storage.nbytes() == 0:
        return torch.UntypedStorage, (0,)
    save.memory[id(storage)] = storage  # for the arrays on it
    array = array_at(storage.data_ptr(), storage.nbytes(), save)
    if array is not None and array.dtype.kind in "biuf" and array.flags.writeable:
        tensor = Call(torch.from_numpy, array)
        return Call(method("untyped_storage"), tensor).__reduce__()
    made = _storage_on(pickle.PickleBuffer(_bytes(storage).numpy()))
    if storage.is_shared():
        made = Call(method("share_memory_"), made)
    return made.__reduce__()


def _bytes(storage: Any) -> Any:
    """Give a tensor of the bytes of a storage, where they are."""
    torch: Any = sys.modules["torch"]
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _storage_on(buffer: Any) -> Call:
    torch: Any = sys.modules["torch"]
    tensor = Call(functools.partial(torch.frombuffer, dtype=torch.uint8), buffer)
    return Call(method("untyped_storage"), tensor)


def _on_cpu(storage: Any) -> Call:
    """Give what a storage on the CPU with the bytes of one on a CUDA device is saved as."""
    torch: Any = sys.modules["torch"]
    size = storage.nbytes()
    if size == 0:
        return Call(torch.UntypedStorage, 0)
    memory = device.devices.memory(storage.device.index, storage.data_ptr(), size, storage)
    return _storage_on(memory or pickle.PickleBuffer(_bytes(storage.cpu()).numpy()))


def to_device(storage: Any, name: str) -> Any:
    """Bring a loaded storage to its device; where there is none, it stays on the CPU."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if torch.device(name).index >= count:
        device.stays_here("a PyTorch tensor", f"there is no {name}")
        return storage
    return _bytes(storage).to(name).untyped_storage()


def _reduce_typed(storage: Any) -> Any:
    torch: Any = sys.modules["torch"]
    untyped = storage._untyped_storage
    if untyped.device.type not in ("cpu", "cuda"):
        return storage.__reduce_ex__(5)
    options = {"wrap_storage": untyped, "dtype": storage.dtype, "_internal": True}
    return functools.partial(torch.storage.TypedStorage, **options), ()


UNTYPED = SimpleNamespace(reduce=_reduce_untyped, needs_save=True)
TYPED = SimpleNamespace(reduce=_reduce_typed)
