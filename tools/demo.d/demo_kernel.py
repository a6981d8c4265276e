"""An IPython extension: a checkpoint after every cell, and a full pickle of the same to compare.

Loaded into the demo's kernel with ``--ext=demo_kernel``; it puts nothing into the user's namespace.
What it measures goes to the file named by ``$DEMO_LOG``, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import chipmink
import cloudpickle


class Recorder:
    """Saves the kernel's namespace to a session after each cell that runs.

    Parameters
    ----------
    shell
        The kernel's interactive shell.
    store
        Path of the store.
    session
        Name of the session.
    log
        File that gets a line for every checkpoint.
    references
        Directory for the full pickles that are kept to compare with later, named by number.
    keep
        Numbers of the checkpoints whose full pickles are kept.
    """

    def __init__(
        self, shell: Any, store: str, session: str, log: Path, references: Path, keep: set[int]
    ) -> None:
        self._shell = shell
        self._session = chipmink.open(store).session(session)
        self._log = log
        self._references = references
        self._keep = keep

    def after_cell(self, result: Any) -> None:
        """Save a checkpoint (IPython's ``post_run_cell``)."""
        code = result.info.raw_cell
        namespace = self._shell.user_ns
        begun = time.perf_counter()
        checkpoint = self._session.save(namespace, message=headline(code), code=code)
        seconds = time.perf_counter() - begun
        number = checkpoint.number
        same = {name: namespace[name] for name in checkpoint.variables}
        pickle_bytes, pickle_seconds = self._full_pickle(same, number)
        record = {
            "number": number,
            "message": checkpoint.message,
            "failed": not result.success,
            "variables": len(same),
            "unsaved": dict(checkpoint.unsaved),
            "logical_bytes": checkpoint.stats.logical_bytes,
            "bytes_written": checkpoint.stats.bytes_written,
            "seconds": seconds,
            "pickle_bytes": pickle_bytes,
            "pickle_seconds": pickle_seconds,
        }
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _full_pickle(self, namespace: dict[str, Any], number: int) -> tuple[int, float]:
        """Write what a checkpoint without Chipmink would be; as durable as Chipmink's."""
        path = self._references / f"{number:06d}.pkl"
        begun = time.perf_counter()
        with path.open("wb") as file:
            cloudpickle.dump(namespace, file, protocol=5)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self._references, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
        seconds = time.perf_counter() - begun
        size = path.stat().st_size
        if number not in self._keep:
            path.unlink()
        return size, seconds


def headline(code: str) -> str:
    """Return the first line of a cell that says something."""
    lines = [line.strip("# ") for line in code.splitlines()]
    return next((line for line in lines if line and not line.startswith("%")), "")


def load_ipython_extension(shell: Any) -> None:
    """Start recording; called by IPython."""
    recorder = Recorder(
        shell,
        store=os.environ["CHIPMINK_STORE"],
        session=os.environ["DEMO_SESSION"],
        log=Path(os.environ["DEMO_LOG"]),
        references=Path(os.environ["DEMO_REFERENCES"]),
        keep={int(number) for number in os.environ["DEMO_KEEP"].split(",")},
    )
    shell.events.register("post_run_cell", recorder.after_cell)
