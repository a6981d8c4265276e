# SPDX-License-Identifier: Apache-2.0
"""The figures Chipmink sets itself: what is measured, and how it compares with the target.

The functions in `ACTIONS` run in worker processes, one measurement each; `measure` runs them all
and judges.
"""

from __future__ import annotations

import gc
import pickle
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import deltas
import mount_rows
import shapes
from figure import Figure
from meter import timed
from stores import opened
from workloads import WORKLOADS

KINDS = {
    "lists of dicts": ("dicts", 200_000),
    "instances": ("instances", 200_000),
    "strings": ("strings", 1_000_000),
    "a DataFrame": ("frame", 1_000_000),
}


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
    return timed(call, 1)[0]


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
    *_, (_, namespace) = WORKLOADS["flights"].steps(seed=seed)
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
    """Load what `prepare_load` saved: from the store, and with `pickle.load` from a file."""

    def plain() -> Any:
        with (Path(directory) / "plain.pkl").open("rb") as file:
            return pickle.load(file)

    measured: dict[str, list[float]] = {"load": [], "plain": [], "plain, collector off": []}
    with opened(Path(directory) / "store") as store:
        session = store.session("bench")
        for _ in range(repeats):
            measured["plain"].append(clock(plain))
            measured["load"].append(clock(session.load))
            gc.disable()
            measured["plain, collector off"].append(clock(plain))
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


IDS = {
    "walk": "walking a namespace for its first save, beside pickle.dumps",
    "unchanged": "bytes that an unchanged namespace writes",
    "unchanged_notebook": "the same for the namespace of the demo notebook",
    "full_load": "loading everything, beside pickle.load",
    "one_variable": "loading one variable of 100, beside a store of its own",
    "mount": "the mount beside those of restic and borg, and a plain directory",
}
ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    **deltas.ACTIONS,
    "walk": walk,
    "unchanged": unchanged,
    "unchanged_notebook": unchanged_notebook,
    "prepare_load": prepare_load,
    "full_load": full_load,
    "one_variable": one_variable,
    "mount": mount_rows.measure,
}


# ---- the judge ----


@dataclass(frozen=True)
class Limits:
    """How large and how often; `divisor` makes everything smaller for a smoke run."""

    seed: int = 1
    divisor: int = 1
    repeats: int = 5
    mount: mount_rows.Sizes = field(default_factory=mount_rows.Sizes)


def measure(
    call: Callable[..., dict[str, Any]],
    wanted: str,
    scratch: Callable[[], AbstractContextManager[str]],
    limits: Limits,
    no_mount: str | None,
) -> Iterator[Figure]:
    """Measure one target; it may have several figures.

    Parameters
    ----------
    call
        Runs an action in a fresh process.
    wanted
        One of `IDS`.
    scratch
        Makes a temporary directory.
    limits
        Sizes and repeats.
    no_mount
        Why this machine cannot mount; None if it can.
    """
    common = {"seed": limits.seed, "divisor": limits.divisor}
    repeats = limits.repeats
    median = statistics.median

    for kind in KINDS if wanted == "walk" else ():
        with scratch() as directory:
            raw = call("walk", kind=kind, directory=directory, repeats=repeats, **common)
        yield Figure(
            f"first save of {kind}, walking alone",
            median(raw["walk"]) / median(raw["dumps"]),
            "x pickle.dumps",
            1.2,
            note=f"walk {median(raw['walk']):.3f} s, dumps {median(raw['dumps']):.3f} s, "
            f"whole save {median(raw['save']):.3f} s",
            raw=raw,
        )

    if wanted == "unchanged":
        with scratch() as directory:
            raw = call("unchanged", directory=directory, repeats=repeats, **common)
        yield Figure(
            "saving an unchanged namespace writes",
            median(raw["bytes"]),
            "bytes",
            1000,
            note=f"of {raw['first']:,} bytes at first; takes {median(raw['seconds']):.3f} s",
            raw=raw,
        )

    if wanted == "unchanged_notebook":
        with scratch() as directory:
            raw = call("unchanged_notebook", directory=directory, seed=limits.seed, repeats=repeats)
        yield Figure(
            "saving the demo notebook's unchanged namespace writes",
            median(raw["bytes"]),
            "bytes",
            1000,
            note=f"of {raw['first']:,} bytes at first; told as changed: "
            + (", ".join(raw["changed"][-1]) or "nothing"),
            raw=raw,
        )

    for kind in KINDS if wanted == "full_load" else ():
        with scratch() as directory:
            call("prepare_load", kind=kind, directory=directory, **common)
            raw = call("full_load", directory=directory, repeats=repeats)
        yield Figure(
            f"full load of {kind}",
            median(raw["load"]) / median(raw["plain"]),
            "x pickle.load",
            1.0,
            note=f"load {median(raw['load']):.3f} s, pickle.load {median(raw['plain']):.3f} s, "
            f"with the collector off {median(raw['plain, collector off']):.3f} s",
            raw=raw,
        )

    if wanted == "one_variable":
        with scratch() as directory:
            raw = call("one_variable", directory=directory, repeats=2 * repeats + 1, **common)
        yield Figure(
            "loading one variable of 100",
            median(raw["of 100"]) / median(raw["alone"]),
            "x from a store of its own",
            1.1,
            note=f"{median(raw['of 100']) * 1e3:.1f} ms; "
            f"all 100: {median(raw['all']) * 1e3:.0f} ms",
            raw=raw,
        )

    if wanted == "mount":
        yield from _measure_mount(call, scratch, limits, no_mount)


def _measure_mount(
    call: Callable[..., dict[str, Any]],
    scratch: Callable[[], AbstractContextManager[str]],
    limits: Limits,
    no_mount: str | None,
) -> Iterator[Figure]:
    if no_mount:
        note = f"cannot mount here: {no_mount}"
        yield Figure("mount", None, "", 0, note=note, excused=True)
        return
    with scratch() as directory:
        raw = call(
            "mount", patience=mount_rows.PATIENCE, directory=directory, **asdict(limits.mount)
        )
    yield from mount_rows.figures(raw, limits.mount)
