# SPDX-License-Identifier: Apache-2.0
"""Arrays on devices, where there is none: the library for them over a double of the runtime.

The double (tests/device/double.h) takes memory of the host for that of devices. What needs a device
is in tests/gpu.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import random
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from chipmink import _core
from chipmink._libraries import device as device_module
from chipmink._libraries import dlpack

np = pytest.importorskip("numpy")

CHUNK, HEAD = 65536, 4096
COUNT, ENTER, IS_PLAIN, SYNCHRONIZE, STREAM, PINNED, COPY, HASH, WAIT = range(9)
PACKAGE = Path(chipmink.__file__).parent
PLACES = [
    PACKAGE.parents[1] / "tests" / "device_double.so",
    Path(__file__).parents[2] / "build" / "tests" / "device_double.so",
]


class Double:
    """The double's own functions, and arrays on its devices."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._functions = ctypes.CDLL(str(path))
        for name in ("double_calls", "double_copied", "double_inside"):
            getattr(self._functions, name).restype = ctypes.c_uint64
        self._functions.double_reset()
        self.copies = 0  # made by an array's library

    def declare(self, memory: Any, device: int = 0, *, plain: bool = True) -> None:
        if memory.nbytes:
            address, size = ctypes.c_void_p(memory.ctypes.data), ctypes.c_uint64(memory.nbytes)
            self._functions.double_declare(device, address, size, int(plain))

    def enqueue(self, memory: Any, offset: int, value: int) -> None:
        address = ctypes.c_void_p(memory.ctypes.data + offset)
        self._functions.double_enqueue(address, ctypes.c_uint8(value))

    def fail(self, call: int, n: int = 1) -> None:
        self._functions.double_fail(call, ctypes.c_uint64(n))

    def calls(self, call: int) -> int:
        return int(self._functions.double_calls(call))

    @property
    def copied(self) -> int:
        return int(self._functions.double_copied())

    @property
    def inside(self) -> int:
        return int(self._functions.double_inside())


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    path = next((place for place in PLACES if place.exists()), None)
    if path is None:
        pytest.skip("the double of a device's runtime is not built (CM_TESTS)")
    made = Double(path)
    monkeypatch.setattr(device_module, "devices", device_module.Devices(path))
    yield made
    assert made.inside == 0


@pytest.fixture
def cupy(double: Double, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that does what is used of CuPy, with the memory of the double's devices."""
    module = types.ModuleType("cupy")
    current = [0]

    class ndarray:  # noqa: N801
        def __init__(self, host: Any, device: int, *, plain: bool = True) -> None:
            self._memory = np.array(host)
            double.declare(self._memory, device, plain=plain)
            self._view(self._memory, device)

        def _view(self, host: Any, device: int) -> None:
            self.host, self.dtype, self.shape = host, host.dtype, host.shape
            self.device = types.SimpleNamespace(id=device)

        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            interface: dict[str, Any] = dict(self.host.__array_interface__)
            return {key: interface[key] for key in ("shape", "typestr", "data", "strides")}

        def get(self) -> Any:
            double.copies += 1
            return self.host.copy()

        def cut(self, *at: Any) -> ndarray:
            made = ndarray.__new__(ndarray)
            made._memory = self._memory
            made._view(self.host[at], self.device.id)
            return made

    class Device:
        def __init__(self, number: int) -> None:
            self._number = number

        def __enter__(self) -> None:
            self._before, current[0] = current[0], self._number

        def __exit__(self, *_: object) -> None:
            current[0] = self._before

    ndarray.__module__, ndarray.__qualname__ = "cupy", "ndarray"
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 2)
    contents = {
        "ndarray": ndarray,
        "array": lambda host, device=0, plain=True: ndarray(host, device, plain=plain),
        "asarray": lambda host: ndarray(host, current[0]),
        "cuda": types.SimpleNamespace(Device=Device, runtime=runtime),
    }
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def noise(size: int, seed: int = 1) -> Any:
    return np.frombuffer(random.Random(seed).randbytes(size), dtype="u1").copy()


def test_round_trip(session: chipmink.Session, cupy: Any, double: Double) -> None:
    values = noise(1_000_000)
    namespace = {
        "bytes": cupy.array(values),
        "floats": cupy.array(np.arange(300_000.0).reshape(300, 1000), device=1),
        "dates": cupy.array(np.array(["2024-01-01", "NaT"], dtype="M8[D]").repeat(10_000)),
        "small": cupy.array(np.arange(7, dtype="i2")),
        "scalar": cupy.array(np.float32(3)),
        "empty": cupy.array(np.zeros((0, 3))),
    }
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    assert double.copies == 1  # the empty one
    loaded = session.load()
    for name, array in namespace.items():
        assert type(loaded[name]) is cupy.ndarray
        assert loaded[name].device.id == array.device.id
        assert loaded[name].host.dtype == array.host.dtype
        assert loaded[name].host.shape == array.host.shape
        assert loaded[name].host.tobytes() == array.host.tobytes()
    same = cupy.array(values)
    assert session.save({"array": same, "again": [same]}).unsaved == {}
    loaded = session.load()
    assert loaded["array"] is loaded["again"][0]


def test_only_changed_chunks_cross_the_bus(
    session: chipmink.Session, cupy: Any, double: Double
) -> None:
    array = cupy.array(noise(40 * CHUNK + 1000))
    session.save({"array": array})
    assert array.host.nbytes <= double.copied <= array.host.nbytes + HEAD
    before = double.copied
    again = session.save({"array": array})
    assert double.copied - before <= HEAD
    assert again.variables["array"].changed == 1
    for offset in (5 * CHUNK, 20 * CHUNK + 7, 40 * CHUNK + 999):
        before = double.copied
        array.host[offset] ^= 255
        session.save({"array": array})
        chunk = min(CHUNK, array.host.nbytes - offset // CHUNK * CHUNK)
        assert chunk <= double.copied - before <= chunk + HEAD
        assert session.load()["array"].host.tobytes() == array.host.tobytes()
    assert double.copies == 0


def test_equal_bytes_are_stored_once_wherever_they_lie(
    session: chipmink.Session, cupy: Any, double: Double
) -> None:
    values = noise(2_000_000)
    first = session.save({"host": values})
    second = session.save({"host": values, "device": cupy.array(values)})
    assert second.stats.bytes_written < first.stats.bytes_written / 100
    assert double.copied <= HEAD + 240  # the end of it, if that is short
    other = noise(2_000_000, seed=2)
    third = session.save({"device": cupy.array(other)})
    fourth = session.save({"device": cupy.array(other), "host": other})
    assert fourth.stats.bytes_written < third.stats.bytes_written / 100


def shapes(cupy: Any) -> dict[str, Any]:
    rng = random.Random(5)
    sizes = (1, 239, 240, 241, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 17 * CHUNK + 100)
    many = [
        cupy.array(noise(rng.choice((10, 5_000, 9_000)), seed=i % 50), device=i % 2)
        for i in range(150)
    ]
    cut = cupy.array(np.arange(100_000.0).reshape(100, 1000))
    return {
        **{f"of_{size}": cupy.array(noise(size)) for size in sizes},
        "zeros": cupy.array(np.zeros(40 * CHUNK)),
        "twice": cupy.array(np.tile(noise(CHUNK), 20)),
        "many": many,
        "by_name": {str(i): array for i, array in enumerate(many[:70])},
        "cut": cut.cut(slice(None), slice(3, 500)),
        "rows": cut.cut(slice(10, 50)),
    }


def test_detection_changes_no_byte(
    tmp_path: Path, cupy: Any, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pods, sizes and contents with the library and without."""
    found: list[dict[str, Any]] = []
    for setting in ("on", "off"):
        monkeypatch.setenv("CHIPMINK_DEVICE", setting)
        with chipmink.open(tmp_path / setting) as store:
            session = store.session("s")
            namespace = shapes(cupy)
            double.copies = 0
            saves = [session.save(namespace)]
            namespace["of_65537"].host[70] ^= 1
            namespace["many"][80].host[1] ^= 1
            saves.append(session.save(namespace))
            assert all(save.unsaved == {} for save in saves)
            assert double.copies == (2 if setting == "on" else 2 * (len(namespace) - 2 + 150))
            found += [
                {name: (v.content, v.size, v.pods, v.changed) for name, v in save.variables.items()}
                for save in saves
            ]
    assert found[:2] == found[2:]


def test_what_was_enqueued_counts_as_done(
    session: chipmink.Session, cupy: Any, double: Double
) -> None:
    array, small = cupy.array(noise(300_000)), cupy.array(noise(100))
    session.save({"array": array, "small": small})
    double.enqueue(array.host, 200_000, int(array.host[200_000]) ^ 255)
    double.enqueue(small.host, 3, int(small.host[3]) ^ 255)
    session.save({"array": array, "small": small})
    loaded = session.load()
    assert loaded["array"].host.tobytes() == array.host.tobytes()
    assert loaded["small"].host.tobytes() == small.host.tobytes()


def test_memory_that_others_may_change_is_copied(
    session: chipmink.Session, cupy: Any, double: Double
) -> None:
    managed = cupy.array(noise(200_000), plain=False)
    elsewhere = cupy.array(noise(200_000), device=0)
    elsewhere.device.id = 1
    session.save({"managed": managed, "elsewhere": elsewhere})
    assert double.copies == 2
    assert double.copied == 0
    assert session.load()["managed"].host.tobytes() == managed.host.tobytes()


def test_a_save_behind_keeps_what_was_there(
    session: chipmink.Session, cupy: Any, double: Double
) -> None:
    array = cupy.array(noise(300 * CHUNK))
    session.save({"array": array})
    array.host[: 200 * CHUNK] ^= 1
    expected = array.host.tobytes()
    pending = session.begin_save({"array": array})
    pending.protect()
    array.host[:] = 0
    pending.wait()
    assert session.load()["array"].host.tobytes() == expected
    assert double.copied >= 500 * CHUNK


def test_a_device_that_fails(session: chipmink.Session, cupy: Any, double: Double) -> None:
    array = cupy.array(noise(30 * CHUNK))
    namespace = {"array": array, "other": 1}
    double.fail(HASH)
    checkpoint = session.save(namespace)
    assert "device 0: hashing its memory: hash" in checkpoint.unsaved["array"]
    assert "other" in checkpoint.variables
    double.fail(HASH, 0)
    double.fail(COPY, 2)  # after the first bytes of it
    with pytest.raises(chipmink.StoreError, match="device 0: copying its memory: copy"):
        session.save(namespace)
    double.fail(COPY, 0)
    double.fail(IS_PLAIN)
    assert session.save(namespace).unsaved == {}  # as if there were no library
    assert double.copies == 1
    double.fail(IS_PLAIN, 0)
    assert session.load()["array"].host.tobytes() == array.host.tobytes()


def test_a_failure_while_it_is_protected(
    session: chipmink.Session, cupy: Any, double: Double
) -> None:
    array = cupy.array(noise(30 * CHUNK))
    double.fail(COPY, 2)
    pending = session.begin_save({"array": array})
    pending.protect()
    with pytest.raises(chipmink.StoreError, match="device 0: copying"):
        pending.wait()
    double.fail(COPY, 0)
    session.save({"array": array})
    assert session.load()["array"].host.tobytes() == array.host.tobytes()


def test_a_fork_copies(session: chipmink.Session, cupy: Any, double: Double) -> None:
    array = cupy.array(noise(100_000))
    session.save({"array": array})
    child = os.fork()
    if child == 0:
        reduced = device_module._reduce_cupy(array)
        os._exit(0 if double.copies == 1 and type(reduced[1][0].args[2]) is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_device_arrays_come_back_on_the_cpu(
    session: chipmink.Session, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = noise(100_000)
    session.save({"array": cupy.array(values, device=1)})
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 1)
    with pytest.warns(RuntimeWarning, match="there is no device 1"):
        array = session.load()["array"]
    assert type(array) is np.ndarray
    assert array.tobytes() == values.tobytes()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.warns(RuntimeWarning, match="cupy"):
        array = session.load()["array"]
    array[0] = 1  # may be written to
    assert array[1:].tobytes() == values[1:].tobytes()


# ---- PyTorch -------------------------------------------------------------------------------------


@pytest.fixture
def on_device(double: Double) -> Iterator[Callable[..., Any]]:
    """Make what stands for an UntypedStorage on a device; PyTorch for the CPU cannot make one."""
    torch = pytest.importorskip("torch")
    from chipmink._libraries import torch as reducers

    class Storage:
        def __init__(self, values: Any, index: int = 0) -> None:
            self.values, self.device = values, torch.device("cuda", index)
            double.declare(values, index)

        def nbytes(self) -> int:
            return int(self.values.nbytes)

        def data_ptr(self) -> int:
            return int(self.values.ctypes.data)

        def cpu(self) -> Any:
            double.copies += 1
            return torch.from_numpy(self.values.copy()).untyped_storage()

    name = f"{Storage.__module__}.{Storage.__qualname__}"
    chipmink.reducers.register(name, reduce=lambda obj: reducers._reduce_untyped(obj, None))
    yield Storage
    chipmink.reducers.unregister(name)


def test_torch(session: chipmink.Session, on_device: Callable[..., Any], double: Double) -> None:
    torch = pytest.importorskip("torch")
    values = noise(1_000_000)
    cpu = session.save({"tensor": torch.from_numpy(values.copy())})
    storage = on_device(values)
    checkpoint = session.save(
        {"storage": storage, "same": [storage], "none": on_device(values[:0])}
    )
    assert checkpoint.unsaved == {}
    assert checkpoint.stats.bytes_written < cpu.stats.bytes_written / 100
    assert (double.copies, double.copied <= HEAD) == (0, True)
    values[500_000] ^= 1
    session.save({"storage": storage})
    assert double.copied <= CHUNK + 2 * HEAD
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        loaded = session.load(at=2)
        storage = session.load()["storage"]
    assert len(caught) == 1
    assert "there is no cuda:0" in str(caught[0].message)
    assert loaded["storage"] is loaded["same"][0]
    assert loaded["none"].nbytes() == 0
    assert bytes(storage) == values.tobytes()


def test_torch_without_the_library(
    tmp_path: Path,
    on_device: Callable[..., Any],
    double: Double,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for setting in ("on", "off"):
        monkeypatch.setenv("CHIPMINK_DEVICE", setting)
        with chipmink.open(tmp_path / setting) as store:
            namespace = {str(size): on_device(noise(size)) for size in (1, 5000, 700_000)}
            checkpoint = store.session("s").save(namespace)
            assert checkpoint.unsaved == {}
            assert double.copies == (0 if setting == "on" else 3)
            found.append({name: v.content for name, v in checkpoint.variables.items()})
    assert found[0] == found[1]


# ---- JAX -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class JaxDevice:
    platform: str
    local_hardware_id: int


@pytest.fixture
def jax(double: Double, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that does what is used of JAX, with the memory of the double's devices."""
    module = types.ModuleType("jax")
    devices = [JaxDevice("cpu", 0), JaxDevice("gpu", 0), JaxDevice("gpu", 1)]
    default = [devices[1]]

    class ArrayImpl:
        weak_type, committed = False, False

        def __init__(self, host: Any, *on: JaxDevice, plain: bool = True) -> None:
            self.host = np.array(host)
            self.dtype, self.shape, self.ndim = self.host.dtype, self.host.shape, self.host.ndim
            self.nbytes, self.ready = self.host.nbytes, False
            self.sharding = types.SimpleNamespace(device_set=set(on))
            layout = types.SimpleNamespace(major_to_minor=tuple(range(self.ndim)), tiling=None)
            self.format = types.SimpleNamespace(layout=layout)
            if len(on) == 1 and on[0].platform == "gpu":
                double.declare(self.host, on[0].local_hardware_id, plain=plain)

        def block_until_ready(self) -> None:
            self.ready = True

        def on_device_size_in_bytes(self) -> int:
            return int(self.host.nbytes)

        def unsafe_buffer_pointer(self) -> int:
            assert self.ready
            return int(self.host.ctypes.data)

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            double.copies += 1
            host = self.host.copy()
            host.flags.writeable = False
            return host

        def __reduce__(self) -> tuple[Any, ...]:
            double.copies += 1
            return np.array, (self.host,)

        @property
        def aval(self) -> Any:
            return types.SimpleNamespace(update=lambda weak_type: weak_type)

        @aval.setter
        def aval(self, value: bool) -> None:
            self.weak_type = value

    @contextlib.contextmanager
    def default_device(device: JaxDevice) -> Iterator[None]:
        before, default[0] = default[0], device
        yield
        default[0] = before

    def device_put(host: Any, device: JaxDevice | None = None) -> ArrayImpl:
        made = ArrayImpl(host, device or default[0])
        made.committed = device is not None
        return made

    def local_devices(*, backend: str) -> list[JaxDevice]:
        found = [device for device in devices if device.platform == backend]
        if not found:
            raise RuntimeError(f"Unknown backend {backend}")
        return found

    ArrayImpl.__module__, ArrayImpl.__qualname__ = "jaxlib._jax", "ArrayImpl"
    contents = {
        "ArrayImpl": ArrayImpl,
        "devices": devices,
        "default_device": default_device,
        "device_put": device_put,
        "local_devices": local_devices,
    }
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, "jax", module)
    return module


def test_jax(session: chipmink.Session, jax: Any, double: Double) -> None:
    values = noise(1_000_000)
    host = session.save({"host": values})
    namespace = {
        "bytes": jax.device_put(values),
        "floats": jax.device_put(np.arange(30_000.0).reshape(300, 100), jax.devices[2]),
        "scalar": jax.device_put(np.float32(3)),
    }
    namespace["scalar"].weak_type = True
    checkpoint = session.save({**namespace, "same": [namespace["bytes"]]})
    assert checkpoint.unsaved == {}
    assert checkpoint.stats.bytes_written < host.stats.bytes_written / 2
    assert double.copies == 0
    loaded = session.load()
    assert loaded["same"][0] is loaded["bytes"]
    for name, array in namespace.items():
        found = loaded[name]
        assert type(found) is jax.ArrayImpl
        for fact in ("weak_type", "committed", "shape", "dtype"):
            assert getattr(found, fact) == getattr(array, fact)
        assert found.sharding.device_set == array.sharding.device_set
        assert found.host.tobytes() == array.host.tobytes()
    values[500_000] ^= 1
    before = double.copied
    session.save({"bytes": jax.device_put(values)})
    assert CHUNK <= double.copied - before <= CHUNK + HEAD
    assert session.load()["bytes"].host.tobytes() == values.tobytes()


def test_what_jax_puts_together(session: chipmink.Session, jax: Any, double: Double) -> None:
    values = noise(100_000).reshape(1000, 100)
    transposed, packed, pinned = (jax.device_put(values) for _ in range(3))
    transposed.format.layout.major_to_minor = (1, 0)
    packed.nbytes *= 2
    double.declare(pinned.host, 0, plain=False)
    namespace = {
        "transposed": transposed,
        "packed": packed,
        "pinned": pinned,
        "sharded": jax.ArrayImpl(values, *jax.devices[1:]),
        "cpu": jax.ArrayImpl(values, jax.devices[0]),
    }
    assert session.save(namespace).unsaved == {}
    assert (double.copies, double.copied) == (5, 0)
    loaded = session.load()
    for name in ("transposed", "packed", "pinned"):
        assert loaded[name].sharding.device_set == {jax.devices[1]}
        assert loaded[name].host.tobytes() == values.tobytes()
    assert type(loaded["sharded"]) is type(loaded["cpu"]) is np.ndarray  # as it was told


def test_jax_without_the_device(
    session: chipmink.Session, jax: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = noise(100_000)
    session.save({"array": jax.device_put(values, jax.devices[2])})
    gone = jax.devices.pop()
    with pytest.warns(RuntimeWarning, match="there is no device 1"):
        array = session.load()["array"]
    assert array.sharding.device_set == {jax.devices[0]}
    assert not array.committed
    del jax.devices[1:]
    with pytest.warns(RuntimeWarning, match=f"Unknown backend {gone.platform}"):
        array = session.load()["array"]
    assert array.host.tobytes() == values.tobytes()
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.warns(RuntimeWarning, match="jax"):
        array = session.load()["array"]
    assert type(array) is np.ndarray
    assert array.tobytes() == values.tobytes()


def test_jax_itself(
    session: chipmink.Session, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of JAX, it answers: its arrays on the CPU, taken for those of a device."""
    jax = pytest.importorskip("jax")
    from chipmink._libraries import jax as reducers

    monkeypatch.setattr(reducers, "_HOST", "none")
    device = jax.local_devices()[0]
    namespace = {
        "floats": jax.numpy.arange(30_000.0).reshape(300, 100),
        "half": jax.numpy.ones(5000, dtype="bfloat16"),
        "there": jax.device_put(np.arange(5000), device),
        "weak": jax.numpy.asarray(3.0),
        "packed": jax.numpy.arange(5000).astype("int4"),
    }
    assert namespace["weak"].weak_type
    for name, array in namespace.items():
        if name != "packed":
            memory = (ctypes.c_char * array.nbytes).from_address(array.unsafe_buffer_pointer())
            double.declare(np.frombuffer(memory, dtype="u1"), device.local_hardware_id)
    assert session.save(namespace).unsaved == {}
    assert double.copied >= 120_000
    loaded = session.load()
    for name, array in namespace.items():
        found = loaded[name]
        assert type(found) is type(array)
        for fact in ("weak_type", "committed", "shape", "dtype", "sharding"):
            assert getattr(found, fact) == getattr(array, fact)
        assert (found == array).all()
    namespace["there"].delete()
    assert "deleted" in session.save({"there": namespace["there"]}).unsaved["there"]


# ---- DLPack --------------------------------------------------------------------------------------


@pytest.fixture
def tensors(double: Double, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A library of which only DLPack is known."""
    module = types.ModuleType("tensors")

    class Tensor:
        def __init__(self, host: Any, device: int | None = 0, *, versions: bool = True) -> None:
            self.host, self.device, self._versions = host, device, versions
            self.code: int | None = None
            if device is not None:
                double.declare(host, device)

        def __reduce__(self) -> Any:
            raise TypeError("cannot pickle 'tensors.Tensor' object")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0) if self.device is None else (2, self.device)

        def __dlpack__(self, **options: Any) -> Any:
            if not self._versions and options:
                raise TypeError("no arguments")
            if options.get("dl_device") is not None:
                double.copies += 1
                return self.host.__dlpack__(**options)
            capsule = self.host.__dlpack__(max_version=options.get("max_version"))
            tensor = dlpack.tensor_of(capsule)
            tensor.device_type, tensor.device = self.__dlpack_device__()
            if self.code is not None:
                tensor.code = self.code
            return capsule

    def from_dlpack(array: Any) -> Tensor:
        on_device = hasattr(array, "host")
        return Tensor(array.host, array.device.id) if on_device else Tensor(array, None)

    Tensor.__module__, Tensor.__qualname__ = "tensors", "Tensor"
    vars(module).update({"Tensor": Tensor, "from_dlpack": from_dlpack})
    monkeypatch.setitem(sys.modules, "tensors", module)
    return module


@pytest.mark.parametrize("versions", [True, False])
def test_dlpack(
    session: chipmink.Session, tensors: Any, cupy: Any, double: Double, versions: bool
) -> None:
    values = noise(1_000_000)
    namespace = {
        "bytes": tensors.Tensor(values, versions=versions),
        "floats": tensors.Tensor(np.arange(30_000.0).reshape(300, 100), 1, versions=versions),
        "complex": tensors.Tensor(np.arange(3000) * 1j, versions=versions),
        "part": tensors.Tensor(np.arange(30_000)[5000:9000], versions=versions),
        "flags": tensors.Tensor(np.arange(5000) % 3 == 0, versions=versions),
    }
    references = sys.getrefcount(values)
    assert session.save(namespace).unsaved == {}
    assert double.copies == 0
    assert sys.getrefcount(values) == references  # the capsule has gone
    loaded = session.load()
    for name, tensor in namespace.items():
        assert type(loaded[name]) is tensors.Tensor
        assert loaded[name].device == tensor.device
        assert loaded[name].host.dtype == tensor.host.dtype
        assert (loaded[name].host == tensor.host).all()
    values[700_000] ^= 255
    before = double.copied
    session.save({"bytes": namespace["bytes"]})
    assert double.copied - before <= CHUNK + HEAD
    assert session.load()["bytes"].host.tobytes() == values.tobytes()


def test_dlpack_that_cannot_be_read(
    session: chipmink.Session, tensors: Any, cupy: Any, double: Double
) -> None:
    strided = tensors.Tensor(np.arange(30_000).reshape(100, 300)[:, ::2])
    coded = tensors.Tensor(np.arange(100.0))
    coded.code = 9
    cpu = tensors.Tensor(np.arange(100.0), None)
    checkpoint = session.save({"strided": strided, "coded": coded, "cpu": cpu})
    assert "of a type that NumPy does not have: DLPack's type 9" in checkpoint.unsaved["coded"]
    assert "cannot pickle 'tensors.Tensor'" in checkpoint.unsaved["cpu"]
    assert double.copies == 1
    assert (session.load()["strided"].host == strided.host).all()
    with pytest.raises(BufferError, match="something else"):
        dlpack.tensor_of(5)
    versioned = np.arange(3).__dlpack__(max_version=(1, 0))
    dlpack.versioned_of(versioned).major = 2
    with pytest.raises(BufferError, match="version 2"):
        dlpack.tensor_of(versioned)
    dlpack.versioned_of(versioned).major = 1


def test_dlpack_without_the_device(
    session: chipmink.Session, tensors: Any, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = noise(100_000)
    session.save({"tensor": tensors.Tensor(values, 1)})
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.warns(RuntimeWarning, match="cupy.*torch.*: it is on the CPU"):
        tensor = session.load()["tensor"]
    assert type(tensor) is tensors.Tensor
    assert tensor.device is None
    assert tensor.host.tobytes() == values.tobytes()
    del tensors.from_dlpack
    with pytest.warns(RuntimeWarning, match="tensors has no from_dlpack"):
        array = session.load()["tensor"]
    assert type(array) is np.ndarray
    assert array.tobytes() == values.tobytes()
    session.save({"tensor": tensors.Tensor(values, 1)})
    with pytest.warns(RuntimeWarning, match="its library has no from_dlpack"):
        assert type(session.load()["tensor"]) is np.ndarray


# ---- the library ---------------------------------------------------------------------------------


def test_hashes_and_fetch(double: Double) -> None:
    values = noise(5 * CHUNK + 99)
    double.declare(values)
    library = _core.Device(double.path)
    memory = library.memory(0, values.ctypes.data, values.nbytes, values)
    del library
    to = bytearray(values.nbytes)
    memory.fetch(to)
    assert bytes(to) == values.tobytes()
    assert len(memory.hashes(7)) == 6 * 16
    assert memory.hashes(7) == memory.hashes(7) != memory.hashes(8)
    with pytest.raises(ValueError, match="a buffer of 5 bytes"):
        memory.fetch(bytearray(5))
    double.fail(WAIT)
    with pytest.raises(OSError, match="wait"):
        memory.hashes(7)
    with pytest.raises(OSError, match="wait"):
        memory.fetch(to)
    with pytest.raises(ValueError, match="no memory of 0 bytes"):
        _core.Device(double.path).memory(0, 5, 0, None)


def test_libraries_that_are_none(tmp_path: Path, double: Double) -> None:
    with pytest.raises(OSError, match="cannot open"):
        _core.Device(tmp_path / "missing.so")
    with pytest.raises(OSError, match="cm_device_library"):
        _core.Device(_core.__file__)
    double.fail(COUNT)
    with pytest.raises(OSError, match="count") as caught:
        _core.Device(double.path)
    assert caught.value.errno == 19  # ENODEV


def test_the_real_library_needs_no_device() -> None:
    """Where it was built, it can be loaded, and says itself that there is no device."""
    if not device_module.LIBRARY.exists():
        pytest.skip("the library for CUDA devices is not built (no nvcc)")
    try:
        _core.Device(device_module.LIBRARY)
    except OSError as error:
        assert error.errno == 19, error  # noqa: PT017
    assert device_module.Devices(device_module.LIBRARY).memory(0, 4096, 0, None) is None
