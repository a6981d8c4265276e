# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: stores, the command, other processes."""

from __future__ import annotations

import copyreg
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from api_support import Command, find_command


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> None:
    """Let tests have Ctrl-C where it is ignored, as by what a shell runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_reducers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out those that other tests have put there: they may run at any time."""
    monkeypatch.setattr(copyreg, "dispatch_table", {})


@pytest.fixture(autouse=True)
def _no_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the user's own store, and start servers only where they are the subject."""
    monkeypatch.setenv("CHIPMINK_STORE", str(tmp_path / "default-store"))
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store can be made."""
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[chipmink.Store]:
    with chipmink.open(path) as opened:
        yield opened


@pytest.fixture
def session(store: chipmink.Store) -> chipmink.Session:
    return store.session("analysis")


@pytest.fixture
def python() -> Callable[..., subprocess.Popen[str]]:
    """Start another interpreter that runs a script; its arguments are in sys.argv."""

    def start(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            **options,
        )

    return start


@pytest.fixture
def command(path: Path) -> Command:
    program = find_command()
    if program is None:
        pytest.skip("the chipmink command is not built (CHIPMINK_COMMAND names it)")
    return Command(program, path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "chipmink-test", place]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
