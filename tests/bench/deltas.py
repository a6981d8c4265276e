# SPDX-License-Identifier: Apache-2.0
"""The targets for what a small change costs: measurements in worker processes, and their rows."""

from __future__ import annotations

import ctypes
import gc
import pickle
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapes
import systems
from figure import Figure, of_that_size
from meter import background, costs, resident, timed

Namespace = dict[str, Any]
MIB = 1 << 20


# ---- namespaces, and what changes in them ----


@dataclass
class Case:
    """A namespace, a small change to it, and the bytes that the change is made of."""

    namespace: Namespace
    change: Callable[[], object] = lambda: None
    changed: int = 0


def _list_element(size: float, seed: int) -> Case:
    rng = random.Random(seed)
    values = [rng.getrandbits(40) for _ in range(round(1e7 * size))]

    def change() -> None:
        values[rng.randrange(len(values))] = rng.getrandbits(40)

    return Case({"x": values}, change, 8)


def _dict_element(size: float, seed: int) -> Case:
    rng = random.Random(seed)
    values = {f"key-{i}": rng.random() for i in range(round(1e6 * size))}

    def change() -> None:
        values[f"key-{rng.randrange(len(values))}"] = rng.random()

    return Case({"x": values}, change, 8)


def _front(size: float, seed: int) -> Case:
    rng = random.Random(seed)
    values = shapes.strings(rng, round(1e6 * size))
    return Case({"x": values}, lambda: values.insert(0, rng.randbytes(12).hex()), 24)


def _slice(size: float, seed: int) -> Case:
    generator = np.random.default_rng(seed)
    values = shapes.incompressible(seed, round(1e9 * size))
    part = round(MIB * min(1.0, size)) // 8

    def change() -> None:
        begin = int(generator.integers(0, len(values) - part))
        values[begin : begin + part] = generator.integers(0, 2**63, size=part)

    return Case({"x": values}, change, part * 8)


def _column(size: float, seed: int) -> Case:
    generator = np.random.default_rng(seed)
    rows = round(1.25e6 * size)
    frame = pd.DataFrame(generator.random((rows, 100)), columns=[f"c{i}" for i in range(100)])

    def change() -> None:
        frame[f"new{frame.shape[1]}"] = generator.random(rows)

    return Case({"x": frame}, change, rows * 8)


def _objects(size: float, seed: int) -> Case:
    rng = random.Random(seed)
    lists = {f"v{i}": [rng.randbytes(100) for _ in range(round(1e5 * size))] for i in range(100)}
    return Case(lists)


def _arrays(size: float, seed: int) -> Case:
    part = round(4e9 * size) // 8
    return Case({f"a{i}": shapes.incompressible(seed + i, part) for i in range(8)})


CASES: dict[str, Callable[[float, int], Case]] = {
    "list_element": _list_element,
    "dict_element": _dict_element,
    "front_insert": _front,
    "array_slice": _slice,
    "frame_column": _column,
    "unchanged_objects": _objects,
    "unchanged_arrays": _arrays,
}


# ---- measurements, in worker processes ----


def small_change(
    case: str, directory: str, size: float, seed: int, repeats: int, dumps: bool
) -> dict[str, Any]:
    """Save, then change a little and save again, several times.

    Parameters
    ----------
    case
        One of `CASES`.
    directory
        For the store.
    size
        1 is what the target is stated for.
    seed, repeats
        Of the changes.
    dumps
        Whether `pickle.dumps` of the same is timed, too, after each change.
    """
    made = CASES[case](size, seed)
    target = systems.Chipmink(Path(directory))
    with costs(target.server) as first:
        first |= target.save(made.namespace)
    saves, times = [], []
    for _ in range(repeats + 1):
        made.change()
        if dumps:
            times += timed(lambda: pickle.dumps(made.namespace, protocol=5), 1)
        with costs(target.server) as found:
            said = target.save(made.namespace)
        saves.append({**found, **said, "background_cpu": background(target.server, found)})
    target.close()
    # The save after the first may still learn what is worth watching.
    return {"first": first, "saves": saves[1:], "dumps": times[1:], "changed": made.changed}


def _settle() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


def shadow(kind: str, directory: str, size: float, seed: int) -> dict[str, Any]:
    """Measure the memory a session keeps of what it has saved, beside the namespace's own."""
    target = systems.Chipmink(Path(directory))
    target.save({"warm": list(range(1000))})
    empty = _settle()
    if kind in CASES:
        namespace = CASES[kind](size, seed).namespace
    elif kind == "a DataFrame":
        namespace = {"x": shapes.frame(seed, round(1e6 * size))}
    else:
        maker = {"lists of dicts": shapes.dicts, "instances": shapes.instances}[kind]
        namespace = {"x": maker(random.Random(seed), round(1e6 * size))}
    full = _settle()
    for _ in range(3):
        target.save(namespace)
    after = _settle()
    target.close()
    return {"namespace": full - empty, "shadow": after - full}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "small_change": small_change,
    "shadow": shadow,
}


# ---- the rows ----


def _times(raw: dict[str, Any]) -> float:
    return statistics.median(save["seconds"] for save in raw["saves"])


def _bytes(raw: dict[str, Any]) -> float:
    return statistics.median(save["written"] for save in raw["saves"])


def _note(raw: dict[str, Any]) -> str:
    text = f"save {_times(raw) * 1e3:.1f} ms, {_bytes(raw):,.0f} bytes to disk"
    if raw["dumps"]:
        text += f", pickle.dumps {statistics.median(raw['dumps']) * 1e3:.0f} ms"
    return f"{text}; first save {raw['first']['seconds']:.2f} s"


SHADOWS = ("unchanged_objects", "lists of dicts", "instances", "a DataFrame", "array_slice")

_SIZES = {
    "list_element": "a list of 10^7 ints, one replaced",
    "dict_element": "a dict of 10^6 floats, one replaced",
    "front_insert": "a list of 10^6 strings, one put in front",
    "array_slice": "a 1 GB array, a slice of 1 MB replaced",
    "frame_column": "a 1 GB DataFrame, a column added",
    "unchanged_objects": "10^7 objects, unchanged",
    "unchanged_arrays": "4 GB of arrays, unchanged",
}
IDS = {**_SIZES, "shadow": "memory that a session keeps of what it has saved"}


def _judged(case: str, raw: dict[str, Any], name: str) -> Iterator[Figure]:
    note = _note(raw)

    def figure(what: str, value: float, unit: str, bound: float, at_most: bool = True) -> Figure:
        return Figure(f"{name}: {what}", value, unit, bound, at_most, note, raw)

    seconds, written = _times(raw), _bytes(raw)
    if case in ("list_element", "dict_element"):
        dumps = statistics.median(raw["dumps"])
        yield figure("time", seconds / dumps, "x pickle.dumps", 0.05)
        yield figure("written", written, "bytes", 64_000)
    elif case == "front_insert":
        yield figure("written", written, "bytes", 128_000)
    elif case == "array_slice":
        yield figure("written", written, "bytes", 1_300_000)
        yield figure("time", seconds * 1e3, "ms", 20)
    elif case == "frame_column":
        yield figure("written", written / raw["changed"], "x the column", 1.05)
    elif case == "unchanged_objects":
        yield figure("time", seconds * 1e3, "ms", 50)
    else:
        yield figure("time", seconds * 1e3, "ms", 5)


def measure(
    call: Callable[..., dict[str, Any]],
    wanted: str,
    scratch: Callable[[], AbstractContextManager[str]],
    size: float,
    seed: int,
    repeats: int,
) -> Iterator[Figure]:
    """Measure one of the rows; it may have several figures.

    Parameters
    ----------
    call
        Runs an action in a fresh process.
    wanted
        One of `IDS`.
    scratch
        Makes a temporary directory.
    size
        1 is the size that the targets are stated for.
    seed, repeats
        Of the changes.
    """
    common = {"size": size, "seed": seed}
    scaled = of_that_size(size)
    if wanted in _SIZES:
        with scratch() as directory:
            raw = call(
                "small_change",
                case=wanted,
                directory=directory,
                repeats=repeats,
                dumps=wanted in ("list_element", "dict_element", "front_insert"),
                **common,
            )
        yield from _judged(wanted, raw, _SIZES[wanted] + scaled)
    else:
        for kind in SHADOWS:
            with scratch() as directory:
                smaller = {**common, "size": size / 10}
                raw = call("shadow", kind=kind, directory=directory, **smaller)
            yield Figure(
                f"memory kept of {kind.replace('_', ' ')}",
                raw["shadow"] / max(raw["namespace"], 1),
                "x the namespace",
                0.25,
                note=f"{raw['shadow'] / 1e6:.1f} MB of {raw['namespace'] / 1e6:.1f} MB",
                raw=raw,
            )


# ---- rows that follow from the workloads ----


@dataclass
class _Rivals:
    """The baselines of a workload that could be measured."""

    systems: dict[str, dict[str, Any]]

    def best(self, key: str, complete: bool = False) -> tuple[float, str]:
        """Return the smallest figure and whose it is; of those that left nothing out, if told."""
        return min(
            (found[key], name)
            for name, found in self.systems.items()
            if not (complete and found["left_out"])
        )

    def note(self, key: str, text: Callable[[float], str]) -> str:
        """Tell the best, what it left out, and who is best of those that left nothing out."""
        value, name = self.best(key)
        gone = len(self.systems[name]["left_out"])
        if not gone:
            return f"{name} {text(value)}"
        told = f"{name} {text(value)} without {gone} variable{'s'[: gone > 1]}"
        if all(found["left_out"] for found in self.systems.values()):
            return told
        value, name = self.best(key, complete=True)
        return f"{told}, {name} {text(value)} with all"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.2f} MB"


def _of_tree(name: str, scale: float, own: dict[str, Any], rivals: _Rivals) -> Iterator[Figure]:
    best, _ = rivals.best("median_seconds")
    spent = own["median_seconds"]
    note = f"save {_seconds(spent)}, {rivals.note('median_seconds', _seconds)}"
    if name == "mutation_100":
        title = f"rmtree of {0.1 * scale:g} GB, tml 100: time"
        yield Figure(title, spent / best, "x the best baseline", 1.1, note=note)
    elements = round(float(name.removeprefix("rmtree_")) * scale) if name[0] == "r" else 0
    if elements >= 1e6:
        title = f"rmtree, {elements:.0e} objects, tml 1"
        yield Figure(f"{title}: faster", best / spent, "x the best baseline", 15, False, note)
        changed = elements / 100 * 103  # 100 bytes, in a pickle 103
        yield Figure(
            f"{title}: written",
            own["median_written"] / changed,
            "x what changed",
            1.03,
            note=f"{own['median_written']:,.0f} bytes to disk, {changed:,.0f} changed",
        )


def _of_program(name: str, own: dict[str, Any], rivals: _Rivals) -> Iterator[Figure]:
    for key, what, unit, text in (
        ("seconds", "time of all saves", "x the fastest baseline", _seconds),
        ("disk_bytes", "bytes on disk", "x the smallest baseline", _megabytes),
    ):
        note = f"{text(own[key])}, {rivals.note(key, text)}"
        yield Figure(f"{name}: {what}", own[key] / rivals.best(key)[0], unit, 1.0, note=note)


def of_workloads(results: dict[str, dict[str, Any]]) -> Iterator[Figure]:
    """Judge what the workloads have measured, where Chipmink and a baseline ran.

    Parameters
    ----------
    results
        For each workload: its kind, its scale, and what each system took.
    """
    for name, result in results.items():
        measured = {n: found for n, found in result["systems"].items() if "failed" not in found}
        own = measured.pop("chipmink", None)
        if own is None:
            continue
        if measured and name.startswith(("rmtree_", "mutation_")):
            yield from _of_tree(name, result["scale"], own, _Rivals(measured))
        if measured and result["kind"] in ("notebook", "script"):
            yield from _of_program(name, own, _Rivals(measured))
        if "again_bytes" in own:
            yield Figure(
                f"{name}, run again in another session: written",
                100 * own["again_bytes"] / own["said_bytes"],
                "% of the first run",
                1.0,
                note=f"{own['again_bytes']:,} of {own['said_bytes']:,} bytes",
            )
