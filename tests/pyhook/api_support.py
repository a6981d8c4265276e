# SPDX-License-Identifier: Apache-2.0
"""Running the built `chipmink` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import Popen
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


def finish(process: Popen[str]) -> list[str]:
    """What else it prints; it must end well."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.splitlines()


# Saves that are interrupted with Ctrl-C, for ever longer ones, and what a process sees afterwards.
INTERRUPTED = """
    import os, signal, sys, time
    import chipmink

    # The kernel interrupts, as a terminal does: no thread of this process is needed for it.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    {make}

    with chipmink.open(sys.argv[1]) as store:
        session = store.session("a")
        session.save({{"x": 1}})
        scale = 1
        while scale < 64:  # until the machine is slow enough for it
            namespace = make(scale)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                session.save(namespace)
                time.sleep(0.1)
            except KeyboardInterrupt:
                if session.head.number == 1:
                    print("interrupted", flush=True)
                    break
                session.checkout(1)
            scale *= 2
        print(session.load(), flush=True)
        print(session.save({{"x": 2}}).load(), flush=True)
        print(store.embedded, store.verify().damage, flush=True)
"""

WALKING = """
    def make(scale):
        return {"x": 0, "big": [[i] for i in range(1_000_000 * scale)]}
"""

WRITING = """
    data = os.urandom(64_000_000)
    def make(scale):
        return {"x": 0, "big": [bytes([i]) + data for i in range(scale)]}
"""
