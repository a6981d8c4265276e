# SPDX-License-Identifier: Apache-2.0
"""Those whose mounts are compared: Chipmink, restic, borg; and a plain directory.

Each is made of a list of directories: the states of one tree, one after the other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from stores import COMMAND


def run(*arguments: object, **options: Any) -> None:
    """Run a program that must not fail."""
    done = subprocess.run(
        list(map(str, arguments)), check=False, capture_output=True, text=True, **options
    )
    if done.returncode:
        raise RuntimeError(f"{arguments[0]}: {(done.stderr or done.stdout).strip()}")


def _wait(
    daemon: subprocess.Popen[bytes], condition: Callable[[], bool], seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("the mount does not come")
        time.sleep(0.02)


def peak_memory(pid: int) -> int:
    """Return the bytes a process has had in memory at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Peer:
    """A way to have files: how they come there, and where they are.

    Parameters
    ----------
    scratch
        A directory of its own.
    states
        The directories it is to have, oldest first.

    Attributes
    ----------
    files
        What it reads from, for whoever wants that in the page cache.
    """

    name = ""

    def __init__(self, scratch: Path, states: list[Path]) -> None:
        self.scratch = scratch
        self.states = states
        self.files = scratch / "repository"
        self.point = scratch / "mount"
        self.point.mkdir(parents=True)

    @staticmethod
    def missing() -> str | None:
        """Return why it cannot be measured here."""
        return None

    def prepare(self) -> None:
        """Take the states in."""

    def mount(self) -> None:
        """Show them."""

    def umount(self) -> None:
        """Take them away again; nothing happens if they are not shown."""
        if self.point.is_mount():
            run("umount", self.point)

    @property
    def root(self) -> Path:
        """The newest state, while it is mounted."""
        raise NotImplementedError

    @property
    def all(self) -> list[Path]:
        """What holds all states."""
        raise NotImplementedError

    def process(self) -> int | None:
        """Return the process that serves the mount."""
        return None


class Plain(Peer):
    """The directories themselves."""

    name = "directory"

    def __init__(self, scratch: Path, states: list[Path]) -> None:
        super().__init__(scratch, states)
        self.files = states[-1]

    @property
    def root(self) -> Path:
        return self.states[-1]

    @property
    def all(self) -> list[Path]:
        return self.states


class _Repository(Peer):
    """A program that stays in the foreground while its mount is there."""

    def __init__(self, scratch: Path, states: list[Path]) -> None:
        super().__init__(scratch, states)
        self.daemon: subprocess.Popen[bytes] | None = None

    def _show(self, *arguments: object) -> None:
        self.daemon = subprocess.Popen(
            list(map(str, arguments)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait(
            self.daemon,
            lambda: self.point.is_mount() and next(self.point.iterdir(), None) is not None,
        )

    def umount(self) -> None:
        super().umount()
        if self.daemon:
            self.daemon.wait(60)
            self.daemon = None

    def process(self) -> int | None:
        return self.daemon.pid if self.daemon else None


class Restic(_Repository):
    """restic, as it is by default."""

    name = "restic"

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("restic") else "restic is not installed"

    def _words(self, *words: object) -> list[object]:
        os.environ["RESTIC_PASSWORD"] = "bench"
        os.environ["RESTIC_CACHE_DIR"] = str(self.scratch / "cache")
        return ["restic", "-q", "-r", self.files, *words]

    def prepare(self) -> None:
        run(*self._words("init"))
        for state in self.states:
            run(*self._words("backup", "."), cwd=state)

    def mount(self) -> None:
        self._show(*self._words("mount", self.point))

    @property
    def root(self) -> Path:
        return self.point / "ids" / sorted(os.listdir(self.point / "ids"))[-1]

    @property
    def all(self) -> list[Path]:
        return [self.point / "ids"]


class Borg(_Repository):
    """borg, without encryption."""

    name = "borg"

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("borg") else "borg is not installed"

    def prepare(self) -> None:
        os.environ["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        os.environ["BORG_BASE_DIR"] = str(self.scratch.parent)
        run("borg", "init", "-e", "none", self.files)
        for number, state in enumerate(self.states):
            run("borg", "create", f"{self.files}::{number:06}", ".", cwd=state)

    def mount(self) -> None:
        self._show("borg", "mount", "-f", self.files, self.point)

    @property
    def root(self) -> Path:
        return self.point / sorted(os.listdir(self.point))[-1]

    @property
    def all(self) -> list[Path]:
        return [self.point]


class Chipmink(Peer):
    """A store that has what the states hold as variables; the caller saves them."""

    name = "chipmink"

    @staticmethod
    def missing() -> str | None:
        return None if os.path.exists("/dev/fuse") else "/dev/fuse is missing"

    def mount(self) -> None:
        run(COMMAND, "mount", "--store", self.files, self.point)

    def umount(self) -> None:
        if self.point.is_mount():
            run(COMMAND, "umount", self.point)

    @property
    def root(self) -> Path:
        return self.point / "sessions"

    @property
    def all(self) -> list[Path]:
        return [self.point / "sessions/long/log"]

    def process(self) -> int | None:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[1:2] == [b"mount"] and os.fsencode(self.point) in words:
                    return int(entry.name)
        return None
