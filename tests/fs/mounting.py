# SPDX-License-Identifier: Apache-2.0
"""Mounts for tests: the command, its daemon, whether mounting is possible here."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import chipmink

BIG = random.Random(1).randbytes(5_000_000)


def find_command() -> Path | None:
    package = Path(chipmink.__file__).parent
    places = [
        os.environ.get("CHIPMINK_COMMAND"),
        package.parents[1] / "tools" / "chipmink",
        Path(sys.executable).with_name("chipmink"),
    ]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def why_no_mount() -> str | None:
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is missing, and only root mounts without it"
    if find_command() is None:
        return "the command chipmink is not built or not installed"
    return None


def stop_server(store: Path) -> None:
    """End the server of a store, should one run; it is started again when somebody needs it."""
    subprocess.run(
        [str(find_command()), "stop", "--store", store],
        capture_output=True,
        timeout=60,
        check=False,
    )


def server_of(store: Path) -> int | None:
    """Give the process that serves a store."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[1:2] == [b"serve"] and os.fsencode(store) in arguments:
            return int(entry.name)
    return None


def wait_until(condition: Callable[[], object], seconds: float = 30) -> bool:
    """Poll generously: the machine may be busy."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def has_ended(pid: int) -> bool:
    """Gone, or only waiting for init to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Mount:
    """A mounted store, or one that is about to be."""

    def __init__(self, store: Path, point: Path) -> None:
        self.store = store
        self.point = point
        self.command = find_command()

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.command), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def mount(self, *options: object) -> subprocess.CompletedProcess[str]:
        return self.run("mount", "--store", self.store, *options, self.point)

    def umount(self, *options: object) -> subprocess.CompletedProcess[str]:
        return self.run("umount", *options, self.point)

    def is_mounted(self) -> bool:
        point = str(self.point).replace(" ", r"\040")
        mounts = Path("/proc/self/mountinfo").read_text()
        return any(line.split()[4] == point for line in mounts.splitlines())

    def daemon(self) -> int:
        """The process that serves this mount."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"mount" in arguments and os.fsencode(self.point) in arguments:
                return int(entry.name)
        raise AssertionError(f"no daemon serves {self.point}")

    def session(self, name: str = "analysis") -> Path:
        return self.point / "sessions" / name


# ---- what tests do there


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def run(*arguments: object, cwd: Path | None = None) -> str:
    """Run a program that must neither fail nor complain."""
    done = subprocess.run(
        list(map(str, arguments)), capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )
    assert done.returncode == 0, (arguments, done.stderr)
    assert done.stderr == ""
    return done.stdout


def commit(work: Path) -> None:
    """Commit what is pending, now."""
    directory = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def errors(work: Path) -> str:
    return (work / ".errors").read_text() if (work / ".errors").exists() else ""
