# SPDX-License-Identifier: Apache-2.0
"""Running the built `chipmink` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import chipmink


def find_command() -> Path | None:
    """The built command: named by the environment, beside the interpreter, or in the build tree."""
    package = Path(chipmink.__file__).parent
    places = [
        os.environ.get("CHIPMINK_COMMAND"),
        package.parents[1] / "tools" / "chipmink",
        Path(sys.executable).with_name("chipmink"),
    ]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


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
