# SPDX-License-Identifier: Apache-2.0
"""The targets for notebooks: what a person waits for after a cell, by driving real kernels.

A cell's time is what passes between the client sending it and the kernel's reply, which a save
after the last cell and the wait before this one are part of. The wait that Chipmink adds is that
time less the median of the same cell in a kernel without it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from figure import Figure, of_that_size
from stores import COMMAND, stop_server
from workloads import cells_of

START = 120.0  # seconds until a kernel answers, and most that a cell takes
LEAD_IN = 4  # cells that are not measured
THINKING = 0.5  # seconds between bursts of cells
SMALL = 0.01  # sizes at which only whether it runs matters
LEAST = 0.05  # scale that the cells of a notebook can do with

# How much of the two means a kernel has, as in the paper's comparison.
MODES = {
    "without": None,
    "synchronous": "background = None",
    "background": "protects = _attachment._checks = False",
    "protecting": "checks = False",
    "checking": "protects = False",
    "both": "",
    "active": "",  # both, and only what cells could reach is looked at
}


@dataclass(frozen=True)
class Case:
    """Cells that are run one right after the other.

    Attributes
    ----------
    text
        What is measured.
    setup
        Run first; `size` is 1 for the size that the target is stated for.
    cell
        Makes the cell with that number.
    cells
        How many.
    burst
        So many at once; then the client waits as long as a person would at least.
    median, high
        Targets for the wait that is added, in milliseconds: median, 99th percentile.
    modes
        To be compared.
    """

    text: str
    setup: str
    cell: Callable[[int], str]
    cells: int
    burst: int = 1
    median: float | None = None
    high: float | None = None
    modes: tuple[str, ...] = ("without", "both")


ARRAYS = """
import numpy as np
rng = np.random.default_rng({seed})
for i in range(98):
    globals()[f"rest{{i}}"] = rng.random(int(1_250_000 * {size}))
x, y = rng.random(int(1_250_000 * {size})), rng.random(int(1_250_000 * {size}))
del i
"""
FRAME = """
import pandas as pd
x = np.arange(12.0).reshape(3, 4)
df = pd.DataFrame({{"a": range(1000), "b": range(1000)}})
"""
OBJECTS = """
rows = [[i * 10 + j for j in range(9)] for i in range(int(1_000_000 * {size}))]
"""
LOOP = """
total = 0
for i in range(400_000):
    total += i * scale
    if total > limit:
        total -= limit
point.x = total
for i in range(200_000):
    point.x += point.step
"""
ALLOWED = ("x.shape", "df.head()", "print(len(df))", "df.describe()", "x.sum() + 1")

CASES = {
    "notebook_other": Case(
        "1 GB of arrays, 10 MB of it changes; the next cell at once changes others",
        ARRAYS,
        lambda i: "x += 1" if i % 2 else "y += 1",
        60,
        2,
        5,
        30,
        tuple(MODES),
    ),
    "notebook_same": Case(
        "the same, but the next cell changes the very variable that is being saved",
        ARRAYS,
        lambda i: "x += 1",
        60,
        2,
        None,
        30,
        tuple(MODES),
    ),
    "notebook_allowed": Case(
        "1 GB of arrays; a cell that changes nothing",
        ARRAYS + FRAME,
        lambda i: ALLOWED[i % len(ALLOWED)],
        100,
        100,
        1,
        None,
        tuple(MODES),
    ),
    "notebook_objects": Case(
        "10^7 objects, one changes",
        OBJECTS,
        lambda i: f"rows[{i * 1009} % len(rows)][3] = {-i}",
        30,
        1,
        60,
    ),
}
LOOPS = "notebook_loops"
UNDO = "notebook_undo"
# Notebooks whose cells are run one right after the other.
WHOLE = {f"waits_{name}": name for name in ("flights", "tabular_eda", "image_arrays")}
IDS = {name: case.text for name, case in CASES.items()} | {
    **{name: f"all cells of {notebook}, without a pause" for name, notebook in WHOLE.items()},
    LOOPS: "pure Python loops over globals and attributes, with Chipmink attached",
    UNDO: "undo of a 10 MB variable among 5 GB",
}


class Kernel:
    """A Jupyter kernel of this interpreter, and the one client of it.

    Parameters
    ----------
    store
        Where it saves to.
    mode
        One of `MODES`.
    """

    def __init__(self, store: Path, mode: str) -> None:
        from jupyter_client.manager import start_new_kernel

        environment = {
            **os.environ,
            "CHIPMINK_STORE": str(store),
            "CHIPMINK_COMMAND": str(COMMAND),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self._manager, self._client = start_new_kernel(
            startup_timeout=START, kernel_name="python3", env=environment
        )
        self._store = store
        self._mode = mode

    def __enter__(self) -> Kernel:
        """Give itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the kernel, and the server of its store."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()
        if self._store.exists():
            stop_server(self._store)

    def attach(self) -> None:
        """Save after every cell from now on."""
        how = MODES[self._mode]
        if how is None:
            return
        option = ", active_only=True" if self._mode == "active" else ""
        self.run(f"import chipmink as _chipmink; _attachment = _chipmink.attach('bench'{option})")
        if how:
            self.run("; ".join(f"_attachment._{part}" for part in how.split("; ")))

    def run(self, code: str) -> float:
        """Run a cell; the seconds until it has answered."""
        begun = time.perf_counter()
        message = self._client.execute(code, store_history=True)
        while True:
            reply = self._client.get_shell_msg(timeout=START)
            if reply["parent_header"].get("msg_id") == message:
                break
        seconds = time.perf_counter() - begun
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{code!r}: {reply['content'].get('evalue')}")
        return seconds


def _times(
    case: Case, mode: str, directory: Path, size: float, seed: int, repeats: int
) -> list[float]:
    """Milliseconds of each cell."""
    found: list[float] = []
    for repeat in range(repeats):
        with Kernel(directory / f"{mode}-{repeat}", mode) as kernel:
            kernel.run(case.setup.format(size=size, seed=seed))
            kernel.attach()
            for i in range(-LEAD_IN, case.cells):
                seconds = kernel.run(case.cell(i))
                if i >= 0:
                    found.append(seconds * 1000)
                if (i + 1) % case.burst == 0 and size >= SMALL:
                    time.sleep(THINKING)
    return found


def _high(values: list[float]) -> float:
    """99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _waits(name: str, raw: dict[str, list[float]], scaled: str) -> Iterator[Figure]:
    case = CASES[name]
    without = statistics.median(raw["without"])
    added = {mode: [t - without for t in times] for mode, times in raw.items()}
    both = added["both"]
    note = ", ".join(
        f"{mode}: {statistics.median(values):.1f} and {_high(values):.1f} ms"
        for mode, values in added.items()
    )
    note = f"median and 99th percentile {note}; the cell itself {without:.1f} ms"
    for what, value, bound in (
        ("median", statistics.median(both), case.median),
        ("99th percentile", _high(both), case.high),
    ):
        if bound is not None:
            text = f"{case.text}{scaled}: added wait, {what}"
            yield Figure(text, value, "ms", bound, note=note, raw=dict(raw))


def _loops(directory: Path, repeats: int) -> Iterator[Figure]:
    setup = "class Point: step = 0.5\npoint = Point(); point.x = 0; scale = 3; limit = 10**9"
    raw: dict[str, list[float]] = {"without": [], "both": []}
    for repeat in range(max(repeats, 3)):  # in turns, for the machine changes meanwhile
        for mode, found in raw.items():
            with Kernel(directory / f"{mode}-{repeat}", mode) as kernel:
                kernel.run(setup)
                kernel.attach()
                kernel.run(LOOP)
                found += [kernel.run(LOOP) for _ in range(10)]
    ratio = statistics.median(raw["both"]) / statistics.median(raw["without"])
    note = f"the loops take {statistics.median(raw['without']) * 1000:.0f} ms"
    yield Figure(IDS[LOOPS], ratio, "x without", 1.02, note=note, raw=dict(raw))


def _undo(directory: Path, size: float, seed: int, repeats: int, scaled: str) -> Iterator[Figure]:
    setup = ARRAYS.format(size=5 * size, seed=seed) + f"x = rng.random(int(1_250_000 * {size}))"
    found = []
    with Kernel(directory / "undo", "both") as kernel:
        kernel.run(setup)
        kernel.attach()
        kernel.run("pass")
        for _ in range(max(repeats, 5)):
            kernel.run("x[:100] += 1")
            time.sleep(0.5)
            found.append(kernel.run("%chipmink undo") * 1000)
    yield Figure(IDS[UNDO] + scaled, statistics.median(found), "ms", 50, raw={"undo": found})


def _whole(
    name: str, directory: Path, size: float, seed: int, repeats: int, scaled: str
) -> Iterator[Figure]:
    """The waits that each mode adds to a notebook: all together, and the longest."""
    small = size < SMALL
    cells = list(cells_of(WHOLE[name], max(size, LEAST) if small else 1, seed))
    modes = ("without", "background", "both") if small else tuple(MODES)
    runs: dict[str, list[list[float]]] = {mode: [] for mode in modes}
    for repeat in range(1 if small else max(repeats, 3)):
        for mode, found in runs.items():  # in turns, for the machine changes meanwhile
            with Kernel(directory / f"{mode}-{repeat}", mode) as kernel:
                kernel.attach()
                found.append([kernel.run(cell) * 1000 for cell in cells])
    medians = {
        mode: [statistics.median(times) for times in zip(*found, strict=True)]
        for mode, found in runs.items()
    }
    without = medians["without"]
    added = {
        mode: [time - bare for time, bare in zip(times, without, strict=True)]
        for mode, times in medians.items()
    }
    raw = {f"{mode}-{i}": run for mode, found in runs.items() for i, run in enumerate(found)}
    takes = f"the {len(cells)} cells take {sum(without):.0f} ms"
    for what, of in (("in all", sum), ("the longest", max)):
        waits = {mode: float(of(times)) for mode, times in added.items() if mode != "without"}
        note = ", ".join(f"{mode}: {value:.0f} ms" for mode, value in waits.items())
        text = f"{IDS[name]}{scaled}: added wait, {what}"
        bound = waits["background"]  # what the two means are there to better
        yield Figure(text, waits["both"], "ms", bound, note=f"{note}; {takes}", raw=raw)


def measure(
    wanted: str,
    scratch: Callable[[], AbstractContextManager[str]],
    size: float,
    seed: int,
    repeats: int,
) -> Iterator[Figure]:
    """Measure one of the rows; it may have several figures.

    Parameters
    ----------
    wanted
        One of `IDS`.
    scratch
        Makes a temporary directory.
    size
        1 is the size that the targets are stated for.
    seed, repeats
        Of the data, and of each kernel.
    """
    scaled = of_that_size(size)
    with scratch() as directory:
        if wanted == LOOPS:
            yield from _loops(Path(directory), repeats)
        elif wanted == UNDO:
            yield from _undo(Path(directory), size, seed, repeats, scaled)
        elif wanted in WHOLE:
            yield from _whole(wanted, Path(directory), size, seed, repeats, scaled)
        else:
            case = CASES[wanted]
            raw = {
                mode: _times(case, mode, Path(directory), size, seed, repeats)
                for mode in case.modes
            }
            yield from _waits(wanted, raw, scaled)
