# SPDX-License-Identifier: Apache-2.0
"""Runs workloads through systems, each in a process of its own, and sums up what they cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import systems
from workloads import Workload

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 1800  # seconds for one process
GRACE = 60  # seconds in which it may end what it began, once it is told to


class MeasurementError(Exception):
    """A worker did not come to its end; the message says why."""


def call(action: str, *, patience: float = PATIENCE, **arguments: Any) -> Any:
    """Run an action of worker.py in a fresh process and return its answer.

    What it says meanwhile is printed. Cells compute on one thread: what is measured is not how fast
    they are, and spinning OpenMP threads would take the other cores from whoever saves.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", WORKER, action, json.dumps(arguments)]
    deadline = time.monotonic() + patience
    answer: dict[str, Any] = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as worker,
    ):
        late = threading.Timer(patience, _end, [worker])
        late.start()
        try:
            for line in worker.stdout or ():
                answer = json.loads(line)
                if "said" in answer:
                    print(answer["said"], flush=True)
            worker.wait()
        except BaseException:
            _end(worker)
            raise
        finally:
            late.cancel()
        if time.monotonic() > deadline:
            raise MeasurementError(f"{action}: not done after {patience:g} s")
        if worker.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or ["no output"]
            raise MeasurementError(f"{action}: status {worker.returncode}: {lines[-1]}")
    return answer["answer"]


def _end(worker: subprocess.Popen[str]) -> None:
    """Let it unmount what it has mounted, and stop its servers."""
    worker.terminate()
    try:
        worker.wait(GRACE)
    except subprocess.TimeoutExpired:
        worker.kill()


def _once(
    workload: Workload, system: str, scale: float, seed: int, loads: int, scratch: Path
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        place = {"system": system, "workload": workload.name, "directory": directory}
        run = call("series", scale=scale, seed=seed, **place)
        if workload.one not in run["left_out"]:
            run["loads"] = call("load", repeats=loads, **place)
        if system == "chipmink" and workload.kind in ("notebook", "script"):
            again = call("series", scale=scale, seed=seed, session="again", **place)
            run["again_bytes"] = sum(save["bytes"] for save in again["saves"])
        return run


def _median(values: list[Any]) -> Any:
    return statistics.median(values) if isinstance(values[0], (int, float)) else values[0]


def combined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the repeats of one workload with one system: medians, save by save."""
    saves = [
        {key: _median([save[key] for save in same]) for key in same[0]}
        for same in zip(*(run["saves"] for run in runs), strict=True)
    ]
    for save in saves:
        phases = save.get("phases", {})
        save["held"] = phases.get("walk", save["seconds"])
    later = saves[1:] or saves
    found = {
        "saves": saves,
        "seconds": sum(save["seconds"] for save in saves),
        "held": sum(save["held"] for save in saves),
        "background_cpu": sum(save["background_cpu"] for save in saves),
        "server_cpu": sum(save.get("server_cpu", 0.0) for save in saves),
        "median_seconds": statistics.median(save["seconds"] for save in later),
        "median_written": statistics.median(save["written"] for save in later),
        "written": sum(save["written"] for save in saves),
        "peak": max(save["peak"] for save in saves),
        "disk_bytes": _median([run["disk_bytes"] for run in runs]),
        "left_out": runs[0]["left_out"],
        "runs": runs,
    }
    if "bytes" in saves[0]:
        found["said_bytes"] = sum(save["bytes"] for save in saves)
    if "again_bytes" in runs[0]:
        found["again_bytes"] = _median([run["again_bytes"] for run in runs])
    loads = [run["loads"] for run in runs if "loads" in run]
    for key in ("one", "all"):
        times = [seconds for load in loads for seconds in load[key]]
        found[f"load_{key}"] = statistics.median(times) if times else None
    return found


def measure(
    workload: Workload, names: list[str], scale: float, seed: int, repeats: int, scratch: Path
) -> dict[str, dict[str, Any]]:
    """Measure systems on one workload, in turns.

    Returns
    -------
    dict
        For each system the medians over the repeats and all that is behind them; or
        ``{"failed": why}``.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            reason = systems.missing(name)
            if reason is None and name not in failed:
                try:
                    runs[name].append(_once(workload, name, scale, seed, 3, scratch))
                except MeasurementError as error:
                    reason = str(error)
            if reason:
                failed[name] = reason
    return {
        name: {"failed": failed[name]} if name in failed else combined(runs[name]) for name in names
    }
