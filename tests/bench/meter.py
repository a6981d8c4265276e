# SPDX-License-Identifier: Apache-2.0
"""What a save costs, told by the kernel: for this process, and for a server that works for it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def _status(process: int, key: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def resident(process: int | None = None) -> int:
    """Return the bytes that a process has in memory now."""
    return _status(process or os.getpid(), "VmRSS:")


def _written(process: int) -> int:
    for line in Path(f"/proc/{process}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _forget_peak(process: int) -> None:
    Path(f"/proc/{process}/clear_refs").write_text("5")


def disk_bytes(directory: Path) -> int:
    """Return what the files of a directory occupy."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


@contextmanager
def costs(server: int | None) -> Iterator[dict[str, float]]:
    """Measure what happens inside the block.

    Yields
    ------
    dict
        Filled at its end: ``seconds`` that it took, ``written`` bytes handed to the disk, ``peak``
        bytes of memory more than this process had before (with a server: and all that the
        server has), ``server_cpu`` seconds that the server worked. The last may go on for a while
        afterwards; see `background`.
    """
    me = os.getpid()
    processes = [me] if server is None else [me, server]
    found: dict[str, float] = {}
    gc.collect()
    for process in processes:
        _forget_peak(process)
    before = resident()
    written = sum(map(_written, processes))
    cpu = 0.0 if server is None else _cpu(server)
    begun = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - begun
    found["written"] = sum(map(_written, processes)) - written
    found["peak"] = _status(me, "VmHWM:") - before
    if server is not None:
        found["peak"] += _status(server, "VmHWM:")
        found["server_cpu"] = _cpu(server) - cpu
        found["cpu_at_end"] = _cpu(server)


def background(server: int | None, found: dict[str, float]) -> float:
    """Return the seconds that a server worked since the end of the costs `found`."""
    return 0.0 if server is None else _cpu(server) - found.pop("cpu_at_end")


def timed(call: Callable[[], Any], repeats: int) -> list[float]:
    """Return the seconds that calls take, the death of their results not included."""
    seconds = []
    for _ in range(repeats):
        gc.collect()
        begun = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begun)
        del result
    return seconds
