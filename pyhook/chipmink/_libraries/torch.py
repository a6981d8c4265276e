# SPDX-License-Identifier: Apache-2.0
"""Tensors: those on one storage are on one again when loaded, and bytes are read where they are.

PyTorch pickles a storage by value for each tensor on it. Here it is a buffer, which the storage is
made on when loaded: that needs PyTorch alone. Storages on devices are left to PyTorch.
"""

from __future__ import annotations

import functools
import pickle
import sys
from types import SimpleNamespace
from typing import Any

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
    if storage.device.type != "cpu":
        return storage.__reduce_ex__(5)
    if storage.nbytes() == 0:
        return torch.UntypedStorage, (0,)
    save.memory[id(storage)] = storage  # for the arrays on it
    array = array_at(storage.data_ptr(), storage.nbytes(), save)
    if array is not None and array.dtype.kind in "biuf" and array.flags.writeable:
        tensor = Call(torch.from_numpy, array)
        return Call(method("untyped_storage"), tensor).__reduce__()
    memory = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    tensor = Call(
        functools.partial(torch.frombuffer, dtype=torch.uint8), pickle.PickleBuffer(memory)
    )
    made = Call(method("untyped_storage"), tensor)
    if storage.is_shared():
        made = Call(method("share_memory_"), made)
    return made.__reduce__()


def _reduce_typed(storage: Any) -> Any:
    torch: Any = sys.modules["torch"]
    untyped = storage._untyped_storage
    if untyped.device.type != "cpu":
        return storage.__reduce_ex__(5)
    options = {"wrap_storage": untyped, "dtype": storage.dtype, "_internal": True}
    return functools.partial(torch.storage.TypedStorage, **options), ()


UNTYPED = SimpleNamespace(reduce=_reduce_untyped, needs_save=True)
TYPED = SimpleNamespace(reduce=_reduce_typed)
