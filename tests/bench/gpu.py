# SPDX-License-Identifier: Apache-2.0
"""Arrays on a GPU: how fast unchanged ones are checked and changed ones copied; a training loop.

The functions in `ACTIONS` run in worker processes; `measure` runs them and judges.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from figure import Figure, of_that_size

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gpu"))

from cuda_driver import Array, Driver, NoDeviceError

ID = "gpu"
TEXT = "10 GB on a GPU, unchanged and changed; a training loop beside torch.save"
ARRAYS = 10
MIB = 1 << 20
MODES = ("none", "torch.save", "save", "begin_save")


def seconds_of(call: Callable[[], object], repeats: int) -> list[float]:
    """Clock a call some times, after one that is not counted."""
    call()
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return found


def _loaded(host: Any, device: int) -> tuple[Any, int]:
    return host, device


class _OnDevice:
    """An array as those of CuPy are."""

    def __init__(self, array: Array) -> None:
        import numpy as np

        self.array, self.dtype = array, np.dtype("u1")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (self.array.address, False)
        return {"shape": (self.array.size,), "typestr": "|u1", "data": data, "version": 3}

    def get(self) -> Any:
        raise RuntimeError("chipmink's library for devices is not used: it was not built, or fails")


def arrays(
    directory: str, size: float, repeats: int, driver: str = "", library: str = ""
) -> dict[str, Any]:
    """Check, fetch and save 10 GB on a device, beside its own copies.

    Parameters
    ----------
    directory
        Where the store can be.
    size
        1 is 10 GB.
    repeats
        Of every measurement.
    driver, library
        What stands for those of CUDA; "": they themselves.
    """
    os.environ["CHIPMINK_EMBEDDED"] = "1"
    import chipmink
    from chipmink import _core
    from chipmink._libraries import device as devices

    device = Driver(driver or "libcuda.so.1")
    place = Path(library) if library else devices.LIBRARY
    devices.devices = devices.Devices(place)
    reader = _core.Device(place)
    part = max(round(1e9 * size) // MIB, 1) * MIB
    block = os.urandom(16 * MIB)
    held = [device.array(part) for _ in range(ARRAYS)]
    for number, array in enumerate(held):
        for at in range(0, part, len(block)):
            array.write(at, (number.to_bytes(8, "little") + block[8:])[: part - at])
    found: dict[str, Any] = {"device": device.name, "bytes": part * ARRAYS}

    def copy() -> None:
        held[0].copy_later(held[1])
        held[1].copy_later(held[0])
        device.synchronize()

    found["copy"] = [2 * part / s for s in seconds_of(copy, repeats)]  # bytes copied a second
    memories = [reader.memory(0, array.address, part, array) for array in held]
    if None in memories:
        raise RuntimeError("the library does not take the memory of the device for its own")
    look = seconds_of(lambda: [memory.hashes(1) for memory in memories], repeats)
    found["check"] = [part * ARRAYS / s for s in look]

    pinned = device.pinned(part)

    def bus() -> None:
        held[0].fetch_later(pinned, part)
        device.synchronize()

    found["pinned"] = [part / s for s in seconds_of(bus, repeats)]
    to = bytearray(part)
    ctypes.memset((ctypes.c_char * part).from_buffer(to), 1, part)
    found["fetch"] = [part / s for s in seconds_of(lambda: memories[0].fetch(to), repeats)]

    name = f"{_OnDevice.__module__}.{_OnDevice.__qualname__}"
    chipmink.reducers.register(name, reduce=lambda a: devices._reduce(a, 0, a.get, _loaded))
    namespace = {f"a{i}": _OnDevice(array) for i, array in enumerate(held)}
    with chipmink.open(Path(directory) / "store") as store:
        session = store.session("bench")
        begun = time.perf_counter()
        if session.save(namespace).unsaved:
            raise RuntimeError("arrays on the device cannot be saved")
        found["first save"] = time.perf_counter() - begun
        found["unchanged save"] = seconds_of(lambda: session.save(namespace), repeats)
        waits, whole = [], []
        for number in range(repeats):
            held[0].write(0, os.urandom(8))
            for at in range(0, part, len(block)):
                held[0].write(at, (os.urandom(8) + bytes([number]) + block[9:])[: part - at])
            begun = time.perf_counter()
            pending = session.begin_save(namespace)
            pending.protect()
            waits.append(time.perf_counter() - begun)
            pending.wait()
            whole.append(time.perf_counter() - begun)
        found["changed wait"] = [part / s for s in waits]
        found["changed whole"] = [part / s for s in whole]
    return found


def training(
    directory: str, size: float, epochs: int, seed: int, device: str = "cuda"
) -> dict[str, Any]:
    """Train a quarter of a model, with a checkpoint after each epoch; each way by itself, in turns.

    Returns
    -------
    dict
        For each of `MODES` the seconds of each epoch, that of the first left out.
    """
    os.environ["CHIPMINK_EMBEDDED"] = "1"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return {"missing": "this PyTorch has no CUDA"}
    import chipmink

    torch.manual_seed(seed)
    width = max(round(8192 * size**0.5), 16)
    layers = [torch.nn.Linear(width, width) for _ in range(4)]
    model = torch.nn.Sequential(*layers).to(device)
    for layer in layers[:3]:
        layer.requires_grad_(False)
    optimizer = torch.optim.Adam(layers[3].parameters(), lr=1e-4)
    batch = torch.randn(256, width, device=device)

    def epoch() -> None:
        for _ in range(50):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    def to_file(number: int) -> None:
        path = Path(directory) / f"epoch-{number}.pt"
        with path.open("wb") as file:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()

    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    with chipmink.open(Path(directory) / "store") as store:
        session = store.session("bench")
        namespace = {"model": model, "optimizer": optimizer}
        session.save(namespace)
        for number in range(epochs + 1):
            pending = None
            for mode in MODES:
                begun = time.perf_counter()
                epoch()
                if mode == "torch.save":
                    to_file(number)
                elif mode == "save":
                    session.save(namespace)
                elif mode == "begin_save":
                    pending = session.begin_save(namespace)
                    pending.protect()
                found[mode].append(time.perf_counter() - begun)
            if pending is not None:
                pending.wait()
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    return {"bytes": parameters, **{mode: times[1:] for mode, times in found.items()}}


ACTIONS: dict[str, Callable[..., Any]] = {"gpu_arrays": arrays, "gpu_training": training}


def of_arrays(found: dict[str, Any], scaled: str) -> Iterator[Figure]:
    """Judge what `arrays` has measured."""
    rate = {key: statistics.median(found[key]) for key in ("copy", "check", "pinned", "fetch")}
    giga = {key: f"{value / 1e9:.1f} GB/s" for key, value in rate.items()}
    yield Figure(
        f"10 GB unchanged on the GPU{scaled}: checked",
        100 * rate["check"] / (2 * rate["copy"]),
        "% of the device's copy bandwidth",
        70,
        at_most=False,
        note=f"{found['device']}: {giga['check']} read; copies {giga['copy']}, read and written; "
        f"a save of all of it {1000 * statistics.median(found['unchanged save']):.1f} ms",
        raw=found,
    )
    yield Figure(
        f"1 GB changed on the GPU{scaled}: copied to the host",
        100 * rate["fetch"] / rate["pinned"],
        "% of the pinned rate",
        80,
        at_most=False,
        note=f"{giga['fetch']}, pinned {giga['pinned']}",
    )
    wait = statistics.median(found["changed wait"])
    yield Figure(
        f"1 GB changed on the GPU{scaled}: wait of a save",
        100 * wait / rate["pinned"],
        "% of the pinned rate",
        80,
        at_most=False,
        note=f"{wait / 1e9:.1f} GB/s until it may change again; until it was on disk "
        f"{statistics.median(found['changed whole']) / 1e9:.2f} GB/s",
    )


def of_training(found: dict[str, Any], scaled: str) -> Iterator[Figure]:
    """Judge what `training` has measured."""
    name = f"training on the GPU{scaled}, a checkpoint each epoch"
    if "missing" in found:
        yield Figure(name, None, "", 0, note=found["missing"], excused=True)
        return
    middle = {mode: statistics.median(found[mode]) for mode in MODES}
    added = {mode: max(middle[mode] - middle["none"], 1e-6) for mode in MODES[1:]}
    note = ", ".join(f"{mode} {1000 * s:.1f} ms" for mode, s in added.items())
    for mode in MODES[2:]:
        yield Figure(
            f"{name}: time added by {mode}",
            added[mode] / added["torch.save"],
            "x torch.save",
            1.0,
            note=f"{found['bytes'] / 1e6:.0f} MB of parameters, a quarter trained; {note}",
            raw=found,
        )


def measure(
    call: Callable[..., Any],
    place: Callable[[], AbstractContextManager[str]],
    size: float,
    seed: int,
    repeats: int,
) -> Iterator[Figure]:
    """Measure and judge, if there is a GPU; `call` runs an action in a worker."""
    scaled = of_that_size(size)
    try:
        Driver()
    except NoDeviceError as error:
        yield Figure("GPU", None, "", 0, note=str(error), excused=True)
        return
    with place() as directory:
        found = call("gpu_arrays", directory=directory, size=size, repeats=repeats)
        yield from of_arrays(found, scaled)
    with place() as directory:
        found = call("gpu_training", directory=directory, size=size, epochs=repeats, seed=seed)
        yield from of_training(found, scaled)
