"""One measurement in a process of its own: ``worker.py ACTION JSON`` prints one JSON object.

Fresh processes, because what a process did before shows: warm allocators, imported modules, the
collector's counts.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import targets
from namespaces import WORKLOADS, Scale
from systems import SYSTEMS


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds a call took, and its result."""
    gc.collect()
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def series(system: str, workload: str, directory: str, scale: dict[str, Any]) -> dict[str, Any]:
    """Save: the first time, unchanged, and after each cell."""
    work = WORKLOADS[workload](Scale(**scale))
    target = SYSTEMS[system](Path(directory))
    left_out = sorted(n for n, value in work.namespace.items() if not target.accepts(value))
    for name in left_out:
        del work.namespace[name]
    first = timed(lambda: target.save(work.namespace))
    unchanged = timed(lambda: target.save(work.namespace))
    cells = []
    for number in range(1, work.scale.cells + 1):
        work.cell(number)
        cells.append(timed(lambda: target.save(work.namespace)))
    target.close()
    return {
        "first": first,
        "unchanged": unchanged,
        "cells": cells,
        "left_out": left_out,
        "disk_bytes": disk_bytes(Path(directory)),
    }


def load(system: str, workload: str, directory: str, one: bool) -> dict[str, Any]:
    """Load the last state, or one variable of it, that an earlier process saved."""
    for module in WORKLOADS[workload].imports:
        importlib.import_module(module)
    name = WORKLOADS[workload].one if one else None
    target = SYSTEMS[system](Path(directory))
    seconds, namespace = timed(lambda: target.load(name))
    target.close()
    return {"seconds": seconds, "variables": len(namespace)}


def disk_bytes(directory: Path) -> int:
    """Return what the files of a directory occupy."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def main() -> None:
    """Run the action named on the command line."""
    actions: dict[str, Callable[..., Any]] = {"series": series, "load": load, **targets.ACTIONS}
    action, arguments = sys.argv[1:]
    print(json.dumps(actions[action](**json.loads(arguments))))


if __name__ == "__main__":
    main()
