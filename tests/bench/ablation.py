# SPDX-License-Identifier: Apache-2.0
"""Which objects get pods of their own: the policy in use beside simpler ones, on every workload.

All policies save the same steps of a workload in turns, in one process, each into a store of its
own without a server: ratios between them hold also on a machine that does other things.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from figure import Figure
from runner import MeasurementError
from workloads import WORKLOADS

ID = "ablation"
TEXT = "pods by size beside other policies: bytes written and processor time, every workload"
POLICIES = ("size", "near", "bundle", "split", "random")
CLOSE = 1.02  # times the best is as good
SYNTHETIC = ("rmtree_1e5", "rmlist")


def compare(workload: str, directory: str, scale: float, seed: int) -> dict[str, Any]:
    """Save after every step of a workload, with every policy.

    Returns
    -------
    dict
        For each policy the sum over the saves of ``seconds`` of processor time, all threads, and
        of ``bytes`` written; ``pods`` of the last checkpoint.
    """
    os.environ["CHIPMINK_EMBEDDED"] = "1"
    steps = WORKLOADS[workload].steps(scale, seed)
    step = next(steps)  # replaces __main__, before anything has looked at it
    import chipmink
    from chipmink import _core

    found = {policy: {"seconds": 0.0, "bytes": 0, "pods": 0} for policy in POLICIES}
    with ExitStack() as stack:
        sessions = {}
        for policy in POLICIES:
            store = stack.enter_context(chipmink.open(Path(directory) / policy))
            sessions[policy] = store.session("ablation")
            sessions[policy].save({})
            store._shadows["ablation"] = _core.Shadow(policy=policy)
        with chipmink.open(Path(directory) / "warm-up") as store:
            store.session("ablation").save(step[1])  # not counted: memory and caches are cold
        number = 0
        while step:
            turn = number % len(POLICIES)
            for policy in POLICIES[turn:] + POLICIES[:turn]:
                gc.collect()
                begun = time.process_time()
                stats = sessions[policy].save(step[1]).stats
                found[policy]["seconds"] += time.process_time() - begun
                found[policy]["bytes"] += stats.bytes_written
                found[policy]["pods"] = stats.pods
            number += 1
            step = next(steps, None)
    return found


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {"ablation": compare}


def _figure(workload: str, what: str, found: dict[str, Any], shown: str) -> Figure:
    amounts = {policy: found[policy][what] for policy in POLICIES}
    note = ", ".join(f"{policy} {shown.format(amount)}" for policy, amount in amounts.items())
    ratio = amounts["size"] / min(amounts.values())
    return Figure(f"{workload}: {what}", ratio, "x the best", CLOSE, note=note, raw=found)


def measure(
    call: Callable[..., dict[str, Any]],
    scratch: Callable[[], AbstractContextManager[str]],
    scale: float,
    seed: int,
) -> Iterator[Figure]:
    """Measure the notebooks, scripts and patterns that can run here, and some synthetic ones.

    Parameters
    ----------
    call
        Runs an action in a fresh process.
    scratch
        Makes a temporary directory.
    scale, seed
        Of the workloads.
    """
    for name, workload in WORKLOADS.items():
        if workload.missing or (workload.kind == "synthetic" and name not in SYNTHETIC):
            continue
        try:
            with scratch() as directory:
                found = call("ablation", workload=name, directory=directory, scale=scale, seed=seed)
        except MeasurementError as error:
            yield Figure(name, None, "x the best", CLOSE, note=str(error))
            continue
        pods = ", ".join(f"{policy} {found[policy]['pods']:,}" for policy in POLICIES)
        size = _figure(name, "bytes", found, "{:,.0f}")
        size.note += f"; pods in the end: {pods}"
        yield size
        yield _figure(name, "seconds", found, "{:.2f}")
