# SPDX-License-Identifier: Apache-2.0
"""Tensors on CUDA devices of which nothing is known but that they offer DLPack.

They are those that cannot be pickled. What is read is the structure that the standard lays down
(dlpack.h, in both of its forms); what is loaded is what ``from_dlpack`` of their library makes.
"""

from __future__ import annotations

import ctypes
import importlib
import pickle
import sys
from typing import Any

from . import device as devices

_CUDA, _MANAGED = 2, 13  # of DLDeviceType
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}  # of DLDataTypeCode, as NumPy calls them
_BFLOAT = 4


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned; DLManagedTensor begins with its tensor."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


def is_offered(cls: type) -> bool:
    """Tell whether objects of a class may be such: the class alone does not say that they are."""
    asked = ("__dlpack__", "__dlpack_device__", "__reduce_ex__")
    defined = {name for name in asked for base in cls.__mro__[:-1] if name in vars(base)}
    return defined == {"__dlpack__", "__dlpack_device__"}


def reduce(obj: Any) -> Any:
    """Reduce an object by the standard protocol, or a tensor on a device that has no other way."""
    try:
        return obj.__reduce_ex__(5)
    except (TypeError, NotImplementedError, pickle.PicklingError):
        if obj.__dlpack_device__()[0] not in (_CUDA, _MANAGED):
            raise
    try:
        capsule = obj.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before there were versions
        capsule = obj.__dlpack__()
    tensor = tensor_of(capsule)
    dtype, shape = _dtype(tensor), tuple(tensor.shape[: tensor.ndim])
    compact = not tensor.strides or tuple(tensor.strides[: tensor.ndim]) == devices.c_strides(
        shape, 1
    )
    address = (tensor.data or 0) + tensor.byte_offset if compact else None
    host = devices.array_of(capsule, tensor.device, address, shape, dtype, lambda: _copy(obj))
    cls = type(obj)
    return load, (host, f"{cls.__module__}.{cls.__qualname__}", _maker(cls), tensor.device)


def tensor_of(capsule: Any) -> Any:
    """Give the structure in a capsule, which keeps it."""
    plain = _inside(capsule, b"dltensor", _Tensor)
    if plain is not None:
        return plain
    versioned = versioned_of(capsule)
    if versioned is None:
        raise BufferError("__dlpack__ returned something else than a new capsule")
    if versioned.major != 1:
        raise BufferError(f"its DLPack is of version {versioned.major}, not 1")
    return versioned.tensor


def versioned_of(capsule: Any) -> Any:
    """Give the structure in a capsule of the later form, or None."""
    return _inside(capsule, b"dltensor_versioned", _Versioned)


def _inside(capsule: Any, name: bytes, structure: Any) -> Any:
    api, handle = ctypes.pythonapi, ctypes.py_object(capsule)
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    if not api.PyCapsule_IsValid(handle, name):
        return None
    return structure.from_address(api.PyCapsule_GetPointer(handle, name))


def _dtype(tensor: Any) -> Any:
    import numpy

    if (tensor.code, tensor.bits, tensor.lanes) == (_BFLOAT, 16, 1):
        return numpy.dtype(importlib.import_module("ml_dtypes").bfloat16)
    if tensor.code not in _KINDS or tensor.bits % 8 or tensor.lanes != 1:
        raise TypeError(
            "its elements are of a type that NumPy does not have: DLPack's type "
            f"{tensor.code}, {tensor.lanes} x {tensor.bits} bits"
        )
    return numpy.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")


def _copy(obj: Any) -> Any:
    return sys.modules["numpy"].from_dlpack(obj, device="cpu", copy=True)


def _maker(cls: type) -> str:
    """Find the module of a class's library that has from_dlpack, or ""."""
    parts = cls.__module__.split(".")
    names = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return next((name for name in names if hasattr(sys.modules.get(name), "from_dlpack")), "")


def _count_torch() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _to_torch(host: Any, device: int) -> Any:
    return sys.modules["torch"].from_numpy(host).to(f"cuda:{device}")


def load(host: Any, name: str, maker: str, device: int) -> Any:
    """Make a tensor on a device, where CuPy or PyTorch can bring it there; else on the CPU.

    It stays an array of NumPy without the library, or if that takes no such tensor.
    """
    try:
        make = importlib.import_module(maker).from_dlpack
    except (ImportError, ValueError, AttributeError) as error:
        devices.stays_here(f"a {name}", f"{maker or 'its library'} has no from_dlpack: {error}")
        return host
    why = ""
    for count, put in ((devices.count_cupy, devices.to_cupy), (_count_torch, _to_torch)):
        absent = devices.absence(count, device)
        if absent is None:
            return make(put(host, device))
        why += f"; {absent}" if why else absent
    devices.stays_here(f"a {name}", why)
    try:
        return make(host)
    except Exception:  # it takes none on the CPU
        return host
