# SPDX-License-Identifier: Apache-2.0
"""One measurement in a process of its own: ``worker.py ACTION JSON`` prints lines of JSON.

The last one has the answer; those before it say how far it has come, for a person.

Fresh processes, because what a process did before shows: warm allocators, imported modules, the
collector's counts.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import systems
from meter import background, costs, disk_bytes, timed
from workloads import WORKLOADS


class Sieve:
    """Leaves out of a namespace what a system cannot save, as its user would have to.

    Parameters
    ----------
    target
        The system.
    """

    def __init__(self, target: systems.System) -> None:
        self._target = target
        self._known: dict[str, tuple[Any, bool]] = {}

    def accepted(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Try each value that has not been tried under its name before."""
        before, self._known = self._known, {}
        for name, value in namespace.items():
            known = before.get(name)
            if known is None or known[0] is not value:
                known = (value, self._target.accepts(value))
            self._known[name] = known
        return {name: value for name, (value, accepted) in self._known.items() if accepted}

    def forget(self) -> None:
        """Try all of them anew: a value became unacceptable where it is."""
        self._known.clear()


def series(
    system: str, workload: str, directory: str, scale: float, seed: int, session: str | None = None
) -> dict[str, Any]:
    """Save after every step of a workload.

    Parameters
    ----------
    system, workload
        Their names.
    directory
        Where the system keeps what it saves.
    scale, seed
        Of the workload.
    session
        Chipmink's session, another than the usual one.
    """
    steps = WORKLOADS[workload].steps(scale, seed)
    step = next(steps)  # replaces __main__, before any system has looked at it
    place = Path(directory)
    target = systems.Chipmink(place, session) if session else systems.SYSTEMS[system](place)
    sieve = Sieve(target)
    saves: list[dict[str, Any]] = []
    left_out: set[str] = set()
    while step:
        title, namespace = step
        accepted = sieve.accepted(namespace)
        try:
            with costs(target.server) as found:
                said = target.save(accepted)
        except Exception:
            sieve.forget()
            accepted = sieve.accepted(namespace)
            with costs(target.server) as found:
                said = target.save(accepted)
        left_out |= set(namespace) - set(accepted) | set(said.pop("unsaved", ()))
        del namespace, accepted, step
        step = next(steps, None)
        after = background(target.server, found)
        saves.append({"title": title, **found, "background_cpu": after, **said})
    target.close()
    return {"saves": saves, "left_out": sorted(left_out), "disk_bytes": disk_bytes(place)}


def load(system: str, workload: str, directory: str, repeats: int) -> dict[str, Any]:
    """Load the last state that an earlier process saved: one variable, then all of them."""
    for module in WORKLOADS[workload].needs:
        with suppress(ImportError):
            importlib.import_module(module)
    target = systems.SYSTEMS[system](Path(directory))
    one = timed(lambda: target.load(WORKLOADS[workload].one), repeats)
    found = {"one": one, "all": timed(target.load, repeats)}
    target.close()
    return found


def main() -> None:
    """Run the action named on the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # by way of all `finally`
    actions: dict[str, Callable[..., Any]] = {"series": series, "load": load}
    action, arguments = sys.argv[1:]
    if action not in actions:
        import ablation
        import gpu
        import targets  # and pandas with it, which others have no use for

        actions |= targets.ACTIONS | ablation.ACTIONS | gpu.ACTIONS
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a notebook prints is not the answer
    found = actions[action](**json.loads(arguments))
    with output:
        answer = told(found, output) if isinstance(found, Generator) else found
        print(json.dumps({"answer": answer}), file=output)


def told(steps: Generator[str, None, Any], output: IO[str]) -> Any:
    """Say at once what each step has found; the generator's value is the answer."""
    while True:
        try:
            print(json.dumps({"said": next(steps)}), file=output, flush=True)
        except StopIteration as end:
            return end.value


if __name__ == "__main__":
    main()
