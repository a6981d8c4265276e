# SPDX-License-Identifier: Apache-2.0
"""The mount beside those of restic and borg, and beside the same files in a plain directory.

All show the same data: a pickle of incompressible bytes, a directory of many small ones, and the
states of a small tree. They are mounted at the same time and measured in turns, row by row.
'fresh' is a mount that was just made, with the files it reads from in the page cache; 'cold' one
after the kernel's caches were dropped, where that was asked for; 'warm' is done again at once.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import chipmink
import numpy as np
from figure import Figure
from mount_peers import Borg, Chipmink, Peer, Plain, Restic, peak_memory, run
from stores import server_of, stop_server

MIB = 1 << 20
PATIENCE = 3 * 3600  # seconds for all rows
SLOW = 10  # seconds for a row beyond which it is not repeated
MEMORY = "mount: memory of its process, at most"  # the figure that has all measurements


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    bytes: int = 1000 * MIB
    files: int = 100_000
    checkpoints: int = 1000
    states: int = 100  # of the checkpoints, for those who need a second for each
    reads: int = 2000
    repeats: int = 3
    drop_caches: bool = False

    def scaled(self, factor: float) -> Sizes:
        """Return smaller ones, with something left of everything."""
        return replace(
            self,
            bytes=max(4 * MIB, int(self.bytes * factor)),
            files=max(300, int(self.files * factor)),
            checkpoints=max(12, int(self.checkpoints * factor)),
            states=max(3, int(self.states * factor)),
            reads=max(50, int(self.reads * factor)),
        )


@dataclass
class Place:
    """A peer with all that is measured of it: where the big file, the many and the states are."""

    data: Peer
    history: Peer

    @property
    def big(self) -> Path:
        inside = "big/head/vars/big.pkl" if isinstance(self.data, Chipmink) else "big.pkl"
        return self.data.root / inside

    @property
    def many(self) -> Path:
        return self.data.root / ("many/head/vars" if isinstance(self.data, Chipmink) else "many")

    def states(self, count: int) -> list[Path]:
        if not isinstance(self.history, Chipmink):
            return self.history.all
        return [self.history.all[0] / f"{number:06}" / "vars" for number in range(1, count + 1)]


# ---- what is measured


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _run_timed(*arguments: object) -> float:
    """Run a program whose output is many lines."""
    words = list(map(str, arguments))
    return _timed(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))


def read_all(path: Path) -> float:
    """Return the bytes per second of reading a file from its beginning."""
    size = path.stat().st_size

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            buffer = bytearray(MIB)
            while file.readinto(buffer):
                pass

    return size / _timed(read)


def read_randomly(path: Path, count: int) -> float:
    """Return the seconds of one read of 4 kB somewhere."""
    choose, size = random.Random(1), path.stat().st_size
    with path.open("rb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(count):
            os.pread(file.fileno(), 4096, choose.randrange(size - 4096) // 4096 * 4096)
        return (time.perf_counter() - start) / count


def copy(place: Place, number: int, outside: Path) -> float:
    """Return the seconds `cp` of the big file to where the next one works with it takes.

    That is another session's work/ here; for the others it is a directory on the disk.
    """
    target = outside / f"{place.data.name}.pkl"
    if isinstance(place.data, Chipmink):
        target = place.data.root / f"other/work/copy{number}.pkl"
    return _run_timed("cp", place.big, target)


def find_all(directory: Path) -> float:
    """Return the seconds of a find that wants everything's attributes."""
    return _run_timed("find", directory, "-printf", "%s %T@ %i %b\n")


def list_all(directory: Path) -> float:
    """Return the seconds of `ls -l`."""
    return _run_timed("ls", "-l", directory)


@dataclass(frozen=True)
class Row:
    """A row of the table: what is measured of each."""

    name: str
    state: str  # cold, fresh, warm
    measure: Callable[[Place, int], float]  # the place and the number of the repeat
    rate: bool = False  # bytes per second, or seconds
    history: bool = False  # of the states, not of the data

    @property
    def title(self) -> str:
        return f"{self.name}, {self.state}"


def rows_of(sizes: Sizes, outside: Path) -> list[Row]:
    """Return all rows, in order."""
    found = [
        Row("sequential read", "cold", lambda p, _: read_all(p.big), rate=True),
        Row("sequential read", "fresh", lambda p, _: read_all(p.big), rate=True),
        Row("sequential read", "warm", lambda p, _: read_all(p.big), rate=True),
        Row("random 4 kB", "cold", lambda p, _: read_randomly(p.big, sizes.reads)),
        Row("random 4 kB", "fresh", lambda p, _: read_randomly(p.big, sizes.reads)),
        Row("find and stat", "cold", lambda p, _: find_all(p.many)),
        Row("find and stat", "fresh", lambda p, _: find_all(p.many)),
        Row("find and stat", "warm", lambda p, _: find_all(p.many)),
        Row("ls -l", "cold", lambda p, _: list_all(p.many)),
        Row("ls -l", "fresh", lambda p, _: list_all(p.many)),
        Row("ls -l", "warm", lambda p, _: list_all(p.many)),
        Row("cp of the big file", "warm", lambda p, n: copy(p, n, outside)),
        Row(
            f"du over {sizes.states} states",
            "fresh",
            lambda p, _: _run_timed("du", "-s", *p.states(sizes.states)),
            history=True,
        ),
    ]
    return [row for row in found if row.state != "cold" or sizes.drop_caches]


def _make_ready(peer: Peer, state: str) -> None:
    if state == "warm":
        return
    peer.umount()
    if state == "cold":
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    else:
        run("sh", "-c", 'find "$1" -type f -exec cat {} + > /dev/null', "sh", peer.files)
    peer.mount()


def _measure_row(row: Row, places: list[Place], repeats: int) -> dict[str, dict[str, Any]]:
    """Measure a row of all, in turns; what a warm one finds in the caches is put there before.

    What takes a peer long is measured once.
    """
    raw: dict[str, list[float]] = {place.data.name: [] for place in places}
    memory: dict[str, int] = {}
    took: dict[str, float] = {}

    def once(place: Place, number: int) -> float:
        began = time.monotonic()
        value = row.measure(place, number)
        took[place.data.name] = time.monotonic() - began
        return value

    for place in places if row.state == "warm" else ():
        once(place, 0)
    for number in range(1, repeats + 1):
        for place in places:
            peer = place.history if row.history else place.data
            if raw[peer.name] and took[peer.name] > SLOW:
                continue
            _make_ready(peer, row.state)
            raw[peer.name].append(once(place, number))
            pid = peer.process()
            if pid is not None:
                memory[peer.name] = max(memory.get(peer.name, 0), peak_memory(pid))
    return {
        name: {"value": statistics.median(values), "raw": values, "memory": memory.get(name)}
        for name, values in raw.items()
    }


# ---- the data


def _fill(store: Path, sizes: Sizes) -> None:
    data = np.random.default_rng(1).bytes(sizes.bytes)
    with chipmink.open(store) as opened:
        opened.session("big").save({"big": data})
        opened.session("many").save({f"v{i:06}": i for i in range(sizes.files)})
        opened.session("other").save({"x": 1})
        long, namespace = opened.session("long"), {f"v{i}": [i] * 100 for i in range(10)}
        for i in range(sizes.checkpoints):
            long.save(namespace | {"i": i, f"v{i % 10}": [i] * 100})


def _source(own: Chipmink, scratch: Path, sizes: Sizes) -> tuple[Path, list[Path]]:
    """Take the files out of the mount, for the others: the data, and the states."""
    data, history = scratch / "data", scratch / "history"
    data.mkdir()
    history.mkdir()
    own.mount()
    sessions = own.root
    run("cp", sessions / "big/head/vars/big.pkl", data)
    run("cp", "-r", sessions / "many/head/vars", data / "many")
    states = []
    for number in range(1, sizes.states + 1):
        states.append(history / f"{number:06}")
        run("cp", "-r", sessions / f"long/log/{number:06}/vars", states[-1])
    own.umount()
    return data, states


# ---- the whole


def measure(directory: str, **sizes: Any) -> Generator[str, None, dict[str, Any]]:
    """Measure all; an action of the worker.

    Yields
    ------
    str
        What a row has shown.

    Returns
    -------
    dict
        ``rows``: by title, by peer: value (seconds, or bytes per second), raw, memory. ``rates``:
        the titles of rows in bytes per second. ``own``: what only a store of sessions has.
        ``skipped``: by peer. ``server_memory``: of the store server, at most.
    """
    limits = Sizes(**sizes)
    scratch = Path(directory)
    own = Chipmink(scratch / "chipmink", [])
    skipped = {kind.name: why for kind in (Restic, Borg) if (why := kind.missing())}
    result: dict[str, Any] = {"rows": {}, "rates": [], "skipped": skipped}
    with ExitStack() as stack:
        stack.callback(stop_server, own.files)
        _fill(own.files, limits)
        stack.callback(own.umount)
        data, states = _source(own, scratch, limits)
        places = [Place(own, own)]
        for kind in (Plain, Restic, Borg):
            if kind.name in skipped:
                continue
            place = Place(
                kind(scratch / kind.name / "data", [data]),
                kind(scratch / kind.name / "history", states),
            )
            for peer in (place.data, place.history):
                peer.prepare()
                stack.callback(peer.umount)
            places.insert(-1, place)
        for place in places:
            _make_ready(place.data, "fresh")
        outside = scratch / "outside"
        outside.mkdir()
        for row in rows_of(limits, outside):
            found = _measure_row(row, places, limits.repeats)
            result["rows"][row.title] = found
            if row.rate:
                result["rates"].append(row.title)
            yield f"{row.title}: " + ", ".join(
                f"{peer} {_show(of['value'], row.rate)}" for peer, of in found.items()
            )
        result["own"] = _measure_own(places[-1], limits)
        server = server_of(own.files)
        result["server_memory"] = peak_memory(server) if server is not None else None
    return result


def _measure_own(place: Place, sizes: Sizes) -> dict[str, Any]:
    """Measure what the others do not have."""
    directory = os.open(place.data.root / "other/work", os.O_RDONLY)
    try:
        commit = _timed(lambda: os.fsync(directory))  # of the row of copies
    finally:
        os.close(directory)
    _make_ready(place.history, "fresh")
    whole = _run_timed("du", "-s", *place.history.all)
    pid = place.data.process()
    return {
        "commit of these copies": commit,
        f"du over all of {sizes.checkpoints} checkpoints": whole,
        "memory": peak_memory(pid) if pid is not None else None,
    }


# ---- the judge


def _show(value: float, rate: bool) -> str:
    if rate:
        return f"{value / 1e9:.2f} GB/s"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _memory(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def table_of(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of all peers, with memory in a second block."""
    rows: dict[str, dict[str, Any]] = result["rows"]
    peers = list(next(iter(rows.values())))
    lines = [
        [title, *(_show(row[peer]["value"], title in result["rates"]) for peer in peers)]
        for title, row in rows.items()
    ]
    lines += [
        [f"memory after: {title}", *(_memory(row[peer]["memory"]) for peer in peers)]
        for title, row in rows.items()
    ]
    for name, value in result["own"].items():
        shown = _memory(value) if name == "memory" else _show(value, rate=False)
        title = "memory after that" if name == "memory" else name
        lines.append([title, *("-" for _ in peers[:-1]), shown])
    return ["", *peers], lines


def figures(result: dict[str, Any], sizes: Sizes) -> Iterator[Figure]:
    """Compare with the targets.

    Parameters
    ----------
    result
        Of `measure`.
    sizes
        As measured.
    """
    rows = result["rows"]

    def values(title: str) -> dict[str, float]:
        return {peer: found["value"] for peer, found in rows[title].items()}

    def times(title: str, value: float, other: float) -> float:
        return value / other if title in result["rates"] else other / value

    for title in rows:
        of = values(title)
        shown = {peer: _show(value, title in result["rates"]) for peer, value in of.items()}
        for peer in ("restic", "borg"):
            if peer in of:
                yield Figure(
                    f"mount: {title}",
                    times(title, of["chipmink"], of[peer]),
                    f"x as fast as {peer}",
                    10,
                    at_most=False,
                    note=f"{shown['chipmink']}; {peer} {shown[peer]}; "
                    f"a plain directory {shown['directory']}",
                )
        if title.endswith("warm") and not title.startswith("cp"):
            yield Figure(
                f"mount: {title}",
                times(title, of["chipmink"], of["directory"]),
                "x as fast as a plain directory",
                0.9,
                at_most=False,
                note=f"{shown['chipmink']}; {shown['directory']}",
            )
    fresh = values("sequential read, fresh")["chipmink"]
    yield Figure(
        "mount: sequential read, fresh", fresh / 1e9, "GB/s", 2, at_most=False, note="random data"
    )
    yield Figure(
        f"mount: cp of {sizes.bytes / 1e9:.3g} GB by reference",
        values("cp of the big file, warm")["chipmink"] * 1000,
        "ms",
        20,
        note=f"their commit, by an fsync: {result['own']['commit of these copies'] * 1000:.3g} ms",
    )
    memory = [row["chipmink"]["memory"] or 0 for row in rows.values()]
    yield Figure(
        MEMORY,
        max(*memory, result["own"]["memory"] or 0) / 1e6,
        "MB",
        200,
        note=f"the store server, with all that was saved before: "
        f"{_memory(result['server_memory'])}",
        raw=result,
    )
