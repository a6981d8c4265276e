"""The figures Chipmink sets itself: what is measured, and how it compares with the target.

The functions in `ACTIONS` run in worker processes, one measurement each; `measure` runs them all
and judges.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import namespaces
import shapes
from stores import COMMAND, opened, stop_server

KINDS = {
    "lists of dicts": ("dicts", 200_000),
    "instances": ("instances", 200_000),
    "strings": ("strings", 1_000_000),
    "a DataFrame": ("frame", 1_000_000),
}


@dataclass
class Figure:
    """One line of the table of targets.

    Attributes
    ----------
    name, unit
        What is measured.
    value
        The median; None if it could not be measured.
    target
        The bound.
    at_most
        Whether the bound is an upper one.
    note
        What the reader should know; why there is no value.
    raw
        All measurements behind the value.
    """

    name: str
    value: float | None
    unit: str
    target: float
    at_most: bool = True
    note: str = ""
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """'met', 'missed' or 'not measured'."""
        if self.value is None:
            return "not measured"
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return "met" if met else "missed"

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON."""
        return {**asdict(self), "verdict": self.verdict}


# ---- measurements, in worker processes ----


def value_of(kind: str, seed: int, divisor: int) -> Any:
    """Build the value of one of `KINDS`, smaller by `divisor`."""
    maker, count = KINDS[kind]
    count //= divisor
    if maker == "frame":
        return shapes.frame(seed, count)
    return getattr(shapes, maker)(random.Random(seed), count)


def clock(call: Callable[[], Any]) -> float:
    """Return the seconds a call takes, its result's death not included."""
    gc.collect()
    begun = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - begun
    del result
    return seconds


def walk(kind: str, directory: str, seed: int, divisor: int, repeats: int) -> dict[str, Any]:
    """First saves into fresh stores, beside `pickle.dumps` of the same."""
    value = value_of(kind, seed, divisor)
    measured: dict[str, list[float]] = {"walk": [], "save": [], "dumps": []}
    for number in range(repeats):
        measured["dumps"].append(clock(lambda: pickle.dumps(value, protocol=5)))
        with opened(Path(directory) / f"store-{number}") as store:
            gc.collect()
            begun = time.perf_counter()
            checkpoint = store.session("bench").save({"value": value})
            measured["save"].append(time.perf_counter() - begun)
            measured["walk"].append(checkpoint.stats.seconds["walk"])
    return measured


def unchanged(directory: str, seed: int, divisor: int, repeats: int) -> dict[str, Any]:
    """Saves of a namespace of all kinds and of 100 small variables, unchanged since the last."""
    namespace = {kind: value_of(kind, seed, divisor) for kind in KINDS}
    namespace |= {f"small{i}": list(range(i)) for i in range(100)}
    with opened(Path(directory) / "store") as store:
        session = store.session("bench")
        first = session.save(namespace).stats
        later, seconds = [], []
        for _ in range(repeats):
            begun = time.perf_counter()
            later.append(session.save(namespace).stats.bytes_written)
            seconds.append(time.perf_counter() - begun)
    return {"first": first.bytes_written, "bytes": later, "seconds": seconds}


def unchanged_notebook(directory: str, seed: int, repeats: int) -> dict[str, Any]:
    """Saves of what the demo notebook has built, unchanged since the last."""
    namespace = namespaces.Notebook(namespaces.Scale(seed=seed)).namespace
    with opened(Path(directory) / "store") as store:
        session = store.session("bench")
        first = session.save(namespace).stats.bytes_written
        saves = [session.save(namespace) for _ in range(repeats)]
        changed = [sorted(session.diff(save.number - 1, save.number).changed) for save in saves]
    return {"first": first, "bytes": [s.stats.bytes_written for s in saves], "changed": changed}


def prepare_load(kind: str, directory: str, seed: int, divisor: int) -> dict[str, Any]:
    """Save a value, and a plain pickle of it beside."""
    value = value_of(kind, seed, divisor)
    with opened(Path(directory) / "store") as store:
        store.session("bench").save({"value": value})
    (Path(directory) / "plain.pkl").write_bytes(pickle.dumps({"value": value}, protocol=5))
    return {}


def full_load(directory: str, repeats: int) -> dict[str, Any]:
    """Load what `prepare_load` saved: from the store, and with `pickle.loads` from memory."""
    plain = (Path(directory) / "plain.pkl").read_bytes()
    measured: dict[str, list[float]] = {"load": [], "loads": [], "loads, collector off": []}
    with opened(Path(directory) / "store") as store:
        session = store.session("bench")
        for _ in range(repeats):
            measured["loads"].append(clock(lambda: pickle.loads(plain)))
            measured["load"].append(clock(session.load))
            gc.disable()
            measured["loads, collector off"].append(clock(lambda: pickle.loads(plain)))
            gc.enable()
    return measured


def one_variable(directory: str, seed: int, divisor: int, repeats: int) -> dict[str, Any]:
    """Load one variable of 100, beside the same from a store that holds nothing else."""
    rng = random.Random(seed)
    values = {f"v{i:03d}": shapes.dicts(rng, max(20_000 // divisor, 10)) for i in range(100)}
    name = "v050"
    measured: dict[str, list[float]] = {"of 100": [], "alone": [], "all": []}
    with (
        opened(Path(directory) / "many") as many,
        opened(Path(directory) / "alone") as alone,
    ):
        many.session("bench").save(values)
        alone.session("bench").save({name: values[name]})
        values.clear()
        for _ in range(repeats):
            measured["alone"].append(clock(lambda: alone.session("bench").load(names=[name])))
            measured["of 100"].append(clock(lambda: many.session("bench").load(names=[name])))
        measured["all"].append(clock(lambda: many.session("bench").load()))
    return measured


@contextmanager
def mounted(directory: Path) -> Iterator[Path]:
    """Mount the store in `directory` freshly: the kernel knows nothing of it."""
    mount_point = directory / "mnt"
    mount_point.mkdir(exist_ok=True)
    environment = {**os.environ, "CHIPMINK_STORE": str(directory / "store")}
    subprocess.run([COMMAND, "mount", mount_point], env=environment, check=True)
    try:
        yield mount_point
    finally:
        subprocess.run([COMMAND, "umount", mount_point], env=environment, check=True)
        stop_server(directory / "store")


def run_clocked(command: list[str | Path]) -> float:
    """Return the seconds a command takes, its output thrown away."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def mount_cat(
    directory: str, seed: int, size: int, repeats: int, drop_caches: bool
) -> dict[str, Any]:
    """`cat` of one incompressible array through a fresh mount, then again from the page cache."""
    place = Path(directory)
    with opened(place / "store") as store:
        store.session("bench").save({"array": shapes.incompressible(seed, size)})
    measured: dict[str, Any] = {"cold": [], "warm": [], "cold disk": []}
    path = Path("sessions/bench/head/vars/array.pkl")
    for _ in range(repeats):
        with mounted(place) as mount_point:
            measured["bytes"] = (mount_point / path).stat().st_size
            measured["cold"].append(run_clocked(["cat", mount_point / path]))
            measured["warm"] += [run_clocked(["cat", mount_point / path]) for _ in range(3)]
        if drop_caches:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
            with mounted(place) as mount_point:
                measured["cold disk"].append(run_clocked(["cat", mount_point / path]))
    return measured


def mount_list(directory: str, variables: int, repeats: int) -> dict[str, Any]:
    """`ls -l` of a directory of many variables through a fresh mount."""
    place = Path(directory)
    with opened(place / "store") as store:
        store.session("bench").save({f"variable_{i:06d}": [i, str(i)] for i in range(variables)})
    cold, warm = [], []
    for _ in range(repeats):
        with mounted(place) as mount_point:
            path = mount_point / "sessions/bench/head/vars/"
            cold.append(run_clocked(["ls", "-l", path]))
            warm.append(run_clocked(["ls", "-l", path]))
    return {"cold": cold, "warm": warm}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "walk": walk,
    "unchanged": unchanged,
    "unchanged_notebook": unchanged_notebook,
    "prepare_load": prepare_load,
    "full_load": full_load,
    "one_variable": one_variable,
    "mount_cat": mount_cat,
    "mount_list": mount_list,
}


# ---- the judge ----


@dataclass(frozen=True)
class Limits:
    """How large and how often; `divisor` makes everything smaller for a smoke run."""

    seed: int = 1
    divisor: int = 1
    repeats: int = 5
    array_bytes: int = 1_000_000_000
    variables: int = 10_000
    drop_caches: bool = False


def measure(
    call: Callable[..., dict[str, Any]], scratch: Path, limits: Limits, no_mount: str | None
) -> Iterator[Figure]:
    """Measure everything, one figure after the other.

    Parameters
    ----------
    call
        Runs an action in a fresh process.
    scratch
        Where the stores go.
    limits
        Sizes and repeats.
    no_mount
        Why this machine cannot mount; None if it can.
    """
    common = {"seed": limits.seed, "divisor": limits.divisor}
    median = statistics.median

    for kind in KINDS:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            raw = call("walk", kind=kind, directory=directory, repeats=limits.repeats, **common)
        yield Figure(
            f"first save of {kind}, walking alone",
            median(raw["walk"]) / median(raw["dumps"]),
            "x pickle.dumps",
            1.2,
            note=f"walk {median(raw['walk']):.3f} s, dumps {median(raw['dumps']):.3f} s, "
            f"whole save {median(raw['save']):.3f} s",
            raw=raw,
        )

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        raw = call("unchanged", directory=directory, repeats=limits.repeats, **common)
    yield Figure(
        "saving an unchanged namespace writes",
        median(raw["bytes"]),
        "bytes",
        1000,
        note=f"of {raw['first']:,} bytes at first; takes {median(raw['seconds']):.3f} s",
        raw=raw,
    )

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        raw = call(
            "unchanged_notebook", directory=directory, seed=limits.seed, repeats=limits.repeats
        )
    yield Figure(
        "saving the demo notebook's unchanged namespace writes",
        median(raw["bytes"]),
        "bytes",
        1000,
        note=f"of {raw['first']:,} bytes at first; told as changed: "
        + (", ".join(raw["changed"][-1]) or "nothing"),
        raw=raw,
    )

    for kind in KINDS:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            call("prepare_load", kind=kind, directory=directory, **common)
            raw = call("full_load", directory=directory, repeats=limits.repeats)
        yield Figure(
            f"full load of {kind}",
            median(raw["load"]) / median(raw["loads"]),
            "x pickle.loads",
            1.1,
            note=f"load {median(raw['load']):.3f} s, loads {median(raw['loads']):.3f} s, with the "
            f"collector off {median(raw['loads, collector off']):.3f} s",
            raw=raw,
        )

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        raw = call("one_variable", directory=directory, repeats=2 * limits.repeats + 1, **common)
    yield Figure(
        "loading one variable of 100",
        median(raw["of 100"]) / median(raw["alone"]),
        "x from a store of its own",
        1.1,
        note=f"{median(raw['of 100']) * 1e3:.1f} ms; all 100: {median(raw['all']) * 1e3:.0f} ms",
        raw=raw,
    )

    yield from measure_mount(call, scratch, limits, no_mount)


def measure_mount(
    call: Callable[..., dict[str, Any]], scratch: Path, limits: Limits, no_mount: str | None
) -> Iterator[Figure]:
    """Measure what goes through the mount."""
    shown = f"{limits.array_bytes / 1e9:g} GB" if limits.array_bytes >= 1e8 else "a small array"
    cold = Figure(f"cat of {shown} through a fresh mount", None, "GB/s", 1.0, at_most=False)
    warm = Figure(f"cat of {shown} from the page cache", None, "GB/s", 5.0, at_most=False)
    disk = Figure(
        f"cat of {shown}, the store not in memory either", None, "GB/s", 1.0, at_most=False
    )
    listing = Figure(f"ls -l of {limits.variables:,} variables, fresh mount", None, "s", 0.3)
    if no_mount:
        for figure in (cold, warm, listing):
            figure.note = f"cannot mount here: {no_mount}"
            yield figure
        return

    median = statistics.median
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        raw = call(
            "mount_cat",
            directory=directory,
            seed=limits.seed,
            size=limits.array_bytes,
            repeats=limits.repeats,
            drop_caches=limits.drop_caches,
        )
    cold.value = raw["bytes"] / median(raw["cold"]) / 1e9
    cold.note = "random data; the store's own files are in the page cache"
    warm.value = raw["bytes"] / median(raw["warm"]) / 1e9
    cold.raw = warm.raw = disk.raw = raw
    yield cold
    if limits.drop_caches:
        disk.value = raw["bytes"] / median(raw["cold disk"]) / 1e9
        disk.note = "after drop_caches: bounded by the disk"
        yield disk
    yield warm

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        raw = call(
            "mount_list", directory=directory, variables=limits.variables, repeats=limits.repeats
        )
    listing.value, listing.raw = median(raw["cold"]), raw
    listing.note = f"again from the kernel's cache: {median(raw['warm']):.3f} s"
    yield listing
