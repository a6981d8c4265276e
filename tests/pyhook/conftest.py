# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: stores, the command, other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest


def _find_command() -> Path | None:
    """The built command: named by the environment, beside the interpreter, or in the build tree."""
    package = Path(chipmink.__file__).parent
    places = [
        os.environ.get("CHIPMINK_COMMAND"),
        package.parents[1] / "tools" / "chipmink",
        Path(sys.executable).with_name("chipmink"),
    ]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


@pytest.fixture(autouse=True)
def _no_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the user's own store."""
    monkeypatch.setenv("CHIPMINK_STORE", str(tmp_path / "default-store"))


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


class Command:
    """Runs the `chipmink` command on one store."""

    def __init__(self, program: Path, store: Path) -> None:
        self.program = program
        self.store = store

    def run(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "CHIPMINK_STORE": str(self.store), "TZ": "UTC"}
        return subprocess.run(
            [self.program, *map(str, arguments)],
            capture_output=True,
            env=environment,
            check=False,
            **options,
        )

    def text(self, *arguments: object) -> str:
        """What a run that must succeed prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *arguments: object) -> Any:
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture
def command(path: Path) -> Command:
    program = _find_command()
    if program is None:
        pytest.skip("the chipmink command is not built (CHIPMINK_COMMAND names it)")
    return Command(program, path)
