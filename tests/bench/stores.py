# SPDX-License-Identifier: Apache-2.0
"""Stores for measurements: with their server already running, and stopped afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import chipmink

COMMAND = Path(os.environ.get("CHIPMINK_COMMAND", Path(sys.executable).with_name("chipmink")))


def open_ready(path: Path) -> chipmink.Store:
    """Open a store whose server answers already, so that its start is not measured."""
    import chipmink

    store = chipmink.open(path)
    if not store.sessions():
        store.session("warm-up").save({})
    return store


def server_of(path: Path) -> int | None:
    """Return the process id of a store's server, None if none runs."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[1:2] == [b"serve"] and os.fsencode(path) in words:
                return int(entry.name)
    return None


def stop_server(path: Path) -> None:
    """End the server of a store, if there is one."""
    subprocess.run([COMMAND, "stop", "--store", path], check=True)


@contextmanager
def opened(path: Path) -> Iterator[chipmink.Store]:
    """Open a store for as long as a measurement takes."""
    try:
        with open_ready(path) as store:
            yield store
    finally:
        stop_server(path)
