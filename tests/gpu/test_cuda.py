# SPDX-License-Identifier: Apache-2.0
"""Arrays on a CUDA device; without one, the same over the double, so that the tests themselves are.

``tools/check --gpu`` runs them on a device, with CHIPMINK_GPU=1 in the environment: then there must
be one.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from chipmink import _core
from chipmink._libraries import device as device_module
from cuda_driver import Array, Driver, NoDeviceError

np = pytest.importorskip("numpy")

CHUNK = 65536
PLACES = [
    Path(chipmink.__file__).parents[2] / "tests" / "device_double.so",
    Path(__file__).parents[2] / "build" / "tests" / "device_double.so",
]
DOUBLE = next((place for place in PLACES if place.exists()), None)


@pytest.fixture(scope="module")
def driver() -> Driver:
    try:
        return Driver()
    except NoDeviceError as error:
        if os.environ.get("CHIPMINK_GPU"):
            pytest.fail(str(error))
        if DOUBLE is None:
            pytest.skip(f"{error}; the double is not built either (CM_TESTS)")
        return Driver(str(DOUBLE))


@pytest.fixture
def library(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library for the device; those of others are copied, and counted."""
    path = device_module.LIBRARY
    if "double" in driver.name:
        assert DOUBLE is not None
        path = DOUBLE
    monkeypatch.setattr(device_module, "devices", device_module.Devices(path))
    return _core.Device(path)


def loaded(host: Any, device: int) -> tuple[Any, int]:
    return host, device


class OnDevice:
    """An array as those of CuPy are."""

    def __init__(self, array: Array) -> None:
        self.array, self.dtype, self.copies = array, np.dtype("u1"), 0

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (self.array.address, False)
        return {"shape": (self.array.size,), "typestr": "|u1", "data": data, "version": 3}

    def get(self) -> Any:
        self.copies += 1
        return np.frombuffer(self.array.read(), dtype="u1")


@pytest.fixture
def session(tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "1")
    name = f"{__name__}.OnDevice"
    chipmink.reducers.register(
        name, reduce=lambda array: device_module._reduce(array, 0, array.get, loaded)
    )
    with chipmink.open(tmp_path / "store") as store:
        yield store.session("s")
    chipmink.reducers.unregister(name)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_hashes_are_those_of_the_host(driver: Driver, library: Any) -> None:
    """What the device's build of the hash gives is what the host's gives, at any size and place."""
    if DOUBLE is None:
        pytest.skip("the host's build of the hash is not there (CM_TESTS)")
    content = noise(3 * CHUNK + 1000)
    array, host = driver.array(content), np.frombuffer(content, dtype="u1")
    double = Driver(str(DOUBLE))
    on_host = double.array(content)
    there = _core.Device(DOUBLE)
    sizes = [*range(1, 1400, 7), *range(240, 260), 4095, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK]
    for number, size in enumerate(sizes):
        at = number % 40
        ours = library.memory(0, array.address + at, size, array)
        theirs = there.memory(0, on_host.address + at, size, on_host)
        assert ours.hashes(number) == theirs.hashes(number), (size, at)
        to = bytearray(size)
        ours.fetch(to)
        assert bytes(to) == host[at : at + size].tobytes()


def test_large(driver: Driver, library: Any) -> None:
    """More than one thread fetches, and all of it comes."""
    content = noise(1 << 20) * 200 + b"end"
    array = driver.array(content)
    memory = library.memory(0, array.address, array.size, array)
    to = bytearray(array.size)
    memory.fetch(to)
    assert to == content
    assert memory.hashes(5) == memory.hashes(5)


def test_save_and_load(session: Any, driver: Driver) -> None:
    content = bytearray(noise(100 * CHUNK + 77))
    first = session.save({"host": np.frombuffer(bytes(content), dtype="u1").copy()})
    array = OnDevice(driver.array(bytes(content)))
    second = session.save({"array": array})
    assert second.unsaved == {}
    assert second.stats.bytes_written < first.stats.bytes_written / 100
    assert session.save({"array": array}).variables["array"].changed == 2
    for at in (0, 50 * CHUNK + 9, 100 * CHUNK + 76):
        content[at] ^= 255
        array.array.write(at, bytes(content[at : at + 1]))
        assert session.save({"array": array}).stats.bytes_written < 3 * CHUNK
        host, device = session.load()["array"]
        assert (host.tobytes() == content, device) == (True, 0)
    assert array.copies == 0


def test_what_was_enqueued_counts_as_done(session: Any, driver: Driver) -> None:
    array = OnDevice(driver.array(noise(10 * CHUNK)))
    long, other, stream = driver.array(256 << 20), driver.array(256 << 20), driver.stream()
    session.save({"array": array})
    expected = bytearray(array.array.read())
    for value in range(3):
        for _ in range(1 if "double" in driver.name else 200):  # milliseconds of them
            other.copy_later(long, stream)
        array.array.set_later(5 * CHUNK, value, stream)
        session.save({"array": array})
        expected[5 * CHUNK] = value
        assert session.load()["array"][0].tobytes() == expected


def test_managed_memory_is_copied(session: Any, driver: Driver) -> None:
    content = noise(3 * CHUNK)
    array = OnDevice(driver.array(content, managed=True))
    session.save({"array": array})
    assert array.copies == 1
    assert session.load()["array"][0].tobytes() == content


def test_a_save_behind(session: Any, driver: Driver) -> None:
    content, other = noise(200 * CHUNK), noise(200 * CHUNK, seed=2)
    array = OnDevice(driver.array(content))
    pending = session.begin_save({"array": array})
    pending.protect()
    array.array.write(0, other)
    pending.wait()
    assert session.load()["array"][0].tobytes() == content


def test_the_thread_keeps_its_context(session: Any, driver: Driver) -> None:
    array, found = OnDevice(driver.array(noise(CHUNK))), []

    def save() -> None:
        before = driver.current()
        found.append(session.save({"array": array}).unsaved)
        found.append((before, driver.current()))

    thread = threading.Thread(target=save)
    thread.start()
    thread.join()
    assert found == [{}, (None, None)]
    before = driver.current()
    session.save({"array": array})
    assert driver.current() == before is not None


def test_torch(tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "1")
    base = torch.randn(1000, 1000, device="cuda")
    model = torch.nn.Linear(1000, 1000).cuda()
    with chipmink.open(tmp_path / "store") as store:
        session = store.session("s")
        namespace = {"base": base, "row": base[3], "model": model}
        assert session.save(namespace).unsaved == {}
        base[5] = 7
        session.save(namespace)
        found = session.load()
        assert found["base"].device == base.device
        assert torch.equal(found["base"], base)
        found["base"][3, 0] = 99
        assert found["row"][0] == 99  # on one storage again
        assert torch.equal(found["model"].weight, model.weight)
        assert found["model"].weight.device == base.device


def test_cupy(tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = pytest.importorskip("cupy")
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "1")
    with chipmink.open(tmp_path / "store") as store:
        session = store.session("s")
        array = cupy.arange(1_000_000.0).reshape(1000, 1000)
        assert session.save({"array": array, "cut": array[:, 3:500]}).unsaved == {}
        found = session.load()
        assert type(found["array"]) is cupy.ndarray
        assert (found["array"] == array).all()
        assert (found["cut"] == array[:, 3:500]).all()
