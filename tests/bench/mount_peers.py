# SPDX-License-Identifier: Apache-2.0
"""The mount beside those of restic and borg, and beside the same files in a plain directory.

All of them show the same data: one pickle of incompressible bytes, and a directory of many small
ones. Cold means: the caches of the kernel were dropped (as root; otherwise only what a fresh mount
does not know) and the mount was made anew. `run` measures; `lines` makes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import chipmink
import numpy as np

MIB = 1 << 20


def _run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, arguments)), check=True, capture_output=True, text=True, **options
    )


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the mount does not come")
        time.sleep(0.02)


def drop_caches() -> bool:
    """Empty the kernel's caches; False where that is not permitted."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def _memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


class Peer:
    """A way to have the files: where they are, and how they come there.

    Attributes
    ----------
    big, many
        The large pickle and the directory of small ones, while it is mounted.
    missing
        Why it is not measured, or None.
    """

    name = ""
    missing: str | None = None

    def __init__(self, scratch: Path, source: Path) -> None:
        self.scratch = scratch / self.name
        self.scratch.mkdir()
        self.source = source
        self.point = self.scratch / "mount"
        self.point.mkdir()
        self.daemon: subprocess.Popen[bytes] | None = None

    @property
    def big(self) -> Path:
        raise NotImplementedError

    @property
    def many(self) -> Path:
        raise NotImplementedError

    def prepare(self) -> None:
        """Take the source in."""

    def mount(self) -> None:
        """Show it."""

    def umount(self) -> None:
        """Take it away again."""

    def memory(self) -> int | None:
        """Bytes its process has in memory."""
        return _memory(self.daemon.pid) if self.daemon else None


class Plain(Peer):
    """The source itself."""

    name = "directory"

    @property
    def big(self) -> Path:
        return self.source / "big.pkl"

    @property
    def many(self) -> Path:
        return self.source / "many"


class Restic(Peer):
    """restic, in a repository without compression of its own choosing (automatic)."""

    name = "restic"
    missing = None if shutil.which("restic") else "restic is not installed"

    def _restic(self, *arguments: object) -> list[str]:
        return [
            "restic",
            "--no-cache",
            "-q",
            "-r",
            str(self.scratch / "repository"),
            *map(str, arguments),
        ]

    def prepare(self) -> None:
        os.environ["RESTIC_PASSWORD"] = "bench"
        _run(*self._restic("init"))
        _run(*self._restic("backup", "."), cwd=self.source)

    def mount(self) -> None:
        self.daemon = subprocess.Popen(
            self._restic("mount", self.point), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait(lambda: self.point.is_mount() and self.big.exists())

    def umount(self) -> None:
        _run("umount", self.point)
        if self.daemon:
            self.daemon.wait(60)
            self.daemon = None

    @property
    def _root(self) -> Path:
        snapshots = self.point / "snapshots"
        root = next(entry for entry in snapshots.iterdir() if entry.name != "latest")
        return next(Path(at) for at, _, files in os.walk(root) if "big.pkl" in files)

    @property
    def big(self) -> Path:
        return self._root / "big.pkl"

    @property
    def many(self) -> Path:
        return self._root / "many"


class Borg(Peer):
    """borg, without encryption."""

    name = "borg"
    missing = None if shutil.which("borg") else "borg is not installed"

    def prepare(self) -> None:
        os.environ["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        os.environ["BORG_BASE_DIR"] = str(self.scratch)
        _run("borg", "init", "-e", "none", self.scratch / "repository")
        _run("borg", "create", f"{self.scratch / 'repository'}::one", ".", cwd=self.source)

    def mount(self) -> None:
        self.daemon = subprocess.Popen(
            ["borg", "mount", "-f", f"{self.scratch / 'repository'}::one", self.point],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait(lambda: self.point.is_mount() and self.big.exists())

    def umount(self) -> None:
        _run("umount", self.point)
        if self.daemon:
            self.daemon.wait(60)
            self.daemon = None

    @property
    def big(self) -> Path:
        return self.point / "big.pkl"

    @property
    def many(self) -> Path:
        return self.point / "many"


class Chipmink(Peer):
    """The mount of a store that has the same pickles as variables."""

    name = "chipmink"

    def __init__(self, scratch: Path, source: Path) -> None:
        super().__init__(scratch, source)
        self.store = self.scratch / "store"
        self.command = _command()
        self.missing = None if os.path.exists("/dev/fuse") else "/dev/fuse is missing"

    def mount(self) -> None:
        _run(self.command, "mount", "--store", self.store, self.point)

    def umount(self) -> None:
        _run(self.command, "umount", self.point)

    def memory(self) -> int | None:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if arguments[1:2] == [b"mount"] and os.fsencode(self.point) in arguments:
                    return _memory(int(entry.name))
        return None

    @property
    def big(self) -> Path:
        return self.point / "sessions/big/head/vars/big.pkl"

    @property
    def many(self) -> Path:
        return self.point / "sessions/many/head/vars"


def _command() -> Path:
    places = [
        os.environ.get("CHIPMINK_COMMAND"),
        Path(chipmink.__file__).parents[2] / "tools" / "chipmink",
        Path(sys.executable).with_name("chipmink"),
    ]
    return next(Path(place) for place in places if place and Path(place).is_file())


# ---- what is measured


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while file.readinto(buffer):
            pass


def _read_randomly(path: Path, count: int) -> float:
    choose, size = random.Random(1), path.stat().st_size
    with path.open("rb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(count):
            os.pread(file.fileno(), 4096, choose.randrange(size - 4096) // 4096 * 4096)
        return (time.perf_counter() - start) / count


def _stat_all(directory: Path) -> None:
    _run("find", directory, "-printf", "%s %T@\n")


def _list(directory: Path) -> None:
    _run("ls", "-l", directory)


def _fresh(peer: Peer) -> None:
    if not isinstance(peer, Plain):
        peer.umount()
    drop_caches()
    if not isinstance(peer, Plain):
        peer.mount()


def measure(peer: Peer, reads: int) -> dict[str, float | None]:
    """Measure the rows that all peers have. Seconds, bytes per second, bytes.

    Parameters
    ----------
    peer
        Prepared and mounted.
    reads
        How many random reads.
    """
    figures: dict[str, float | None] = {}
    memory = []

    def remember() -> None:
        used = peer.memory()
        if used is not None:
            memory.append(used)

    size = peer.big.stat().st_size
    _fresh(peer)
    figures["cold read"] = size / _timed(lambda: _read(peer.big))
    remember()
    figures["warm read"] = size / statistics.median(
        _timed(lambda: _read(peer.big)) for _ in range(3)
    )
    remember()
    _fresh(peer)
    figures["cold random 4 kB"] = _read_randomly(peer.big, reads)
    remember()
    _fresh(peer)
    figures["find and stat, cold"] = _timed(lambda: _stat_all(peer.many))
    remember()
    figures["find and stat, warm"] = _timed(lambda: _stat_all(peer.many))
    figures["ls -l, warm"] = _timed(lambda: _list(peer.many))
    remember()
    _fresh(peer)
    figures["ls -l, cold"] = _timed(lambda: _list(peer.many))
    remember()
    figures["memory"] = max(memory) if memory else None
    return figures


def _measure_own(peer: Chipmink, checkpoints: int) -> dict[str, float | None]:
    """Measure what only a store of sessions has: copies by reference, du over its history."""
    sessions = peer.point / "sessions"
    times = []
    for i in range(5):
        times.append(_timed(lambda i=i: _run("cp", peer.big, sessions / f"other/work/copy{i}.pkl")))
    directory = os.open(sessions / "other/work", os.O_RDONLY)
    commit = _timed(lambda: os.fsync(directory))
    os.close(directory)
    _fresh(peer)
    cold = _timed(lambda: _run("du", "-s", sessions / "long/log"))
    return {
        "cp by reference": statistics.median(times),
        "commit of five copies": commit,
        f"du over {checkpoints} checkpoints": cold,
        "memory after du": peer.memory(),
    }


# ---- the whole


def run(options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Measure all of them.

    Parameters
    ----------
    options
        ``scratch`` (a directory on the disk to measure), ``smoke`` (small: does it run at all?),
        ``bytes``, ``files``, ``checkpoints``, ``reads``.

    Returns
    -------
    dict
        ``figures`` by peer, ``skipped`` by peer, ``targets`` (name, value, bound, met), ``cold``
        (whether the kernel's caches could be dropped) and the ``options`` used.
    """
    options = dict(options or {})
    smoke = options.get("smoke", False)
    sizes = {
        "bytes": 8 * MIB if smoke else 1000 * MIB,
        "files": 500 if smoke else 100_000,
        "checkpoints": 20 if smoke else 1000,
        "reads": 100 if smoke else 2000,
    }
    sizes |= {key: options[key] for key in sizes if options.get(key)}
    with tempfile.TemporaryDirectory(dir=options.get("scratch"), prefix="mount-bench-") as name:
        result = _run_in(Path(name), sizes)
    return result | {"options": sizes}


def _fill(own: Chipmink, source: Path, sizes: dict[str, int]) -> None:
    data = np.random.default_rng(1).bytes(sizes["bytes"])
    with chipmink.open(own.store) as store:
        store.session("big").save({"big": data})
        store.session("many").save({f"v{i:06}": i for i in range(sizes["files"])})
        store.session("other").save({"x": 1})
        long, namespace = store.session("long"), {f"v{i}": i for i in range(10)}
        for i in range(sizes["checkpoints"]):
            long.save(namespace | {"i": i})
    own.mount()
    shutil.copyfile(own.big, source / "big.pkl")
    _run("cp", "-r", own.many, source / "many")
    own.umount()


def _run_in(scratch: Path, sizes: dict[str, int]) -> dict[str, Any]:
    source = scratch / "source"
    source.mkdir()
    own = Chipmink(scratch, source)
    if own.missing:
        return {"figures": {}, "skipped": {"chipmink": own.missing}, "targets": [], "cold": False}
    figures: dict[str, dict[str, float | None]] = {}
    skipped: dict[str, str] = {}
    _fill(own, source, sizes)
    cold = drop_caches()
    try:
        for kind in (Plain, Restic, Borg, Chipmink):
            peer = own if kind is Chipmink else kind(scratch, source)
            if peer.missing:
                skipped[peer.name] = peer.missing
                continue
            if peer is not own:
                peer.prepare()
            peer.mount()
            try:
                figures[peer.name] = measure(peer, sizes["reads"])
                if peer is own:
                    figures[peer.name] |= _measure_own(own, sizes["checkpoints"])
            finally:
                peer.umount()
    finally:
        subprocess.run(
            [own.command, "stop", "--store", own.store], check=False, capture_output=True
        )
    return {"figures": figures, "skipped": skipped, "targets": judge(figures), "cold": cold}


RATES = ("cold read", "warm read")
COMMON = (
    *RATES,
    "cold random 4 kB",
    "find and stat, cold",
    "find and stat, warm",
    "ls -l, cold",
    "ls -l, warm",
)


def judge(figures: dict[str, dict[str, float | None]]) -> list[dict[str, Any]]:
    """Compare with the targets."""
    own, plain = figures["chipmink"], figures["directory"]
    targets: list[dict[str, Any]] = []

    def add(name: str, value: float, bound: float, at_most: bool) -> None:
        met = value <= bound if at_most else value >= bound
        targets.append(
            {"name": name, "value": value, "bound": bound, "at_most": at_most, "met": met}
        )

    for peer in ("restic", "borg"):
        for row in COMMON if peer in figures else ():
            theirs, ours = figures[peer][row], own[row]
            add(f"{row}, times {peer}", ours / theirs if row in RATES else theirs / ours, 10, False)
    add("warm read, part of the directory's", own["warm read"] / plain["warm read"], 0.9, False)
    add("cold read, GB/s", own["cold read"] / 1e9, 2, False)
    add("cp by reference, ms", own["cp by reference"] * 1000, 20, True)
    add("memory, MB", max(own["memory"] or 0, own["memory after du"] or 0) / 1e6, 200, True)
    return targets


def _text(row: str, value: float | None) -> str:
    if value is None:
        return "-"
    if row in RATES:
        return f"{value / 1e9:.2f} GB/s"
    if row.startswith("memory"):
        return f"{value / 1e6:.0f} MB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table."""
    figures = result["figures"]
    if not figures:
        return [f"mount: not measured: {why}" for why in result["skipped"].values()]
    rows = list(dict.fromkeys(row for peer in figures.values() for row in peer))
    text = [f"{'':28}" + "".join(f"{peer:>14}" for peer in figures)]
    text += [
        f"{row:28}" + "".join(f"{_text(row, peer.get(row)):>14}" for peer in figures.values())
        for row in rows
    ]
    text += [f"{peer}: {why}" for peer, why in result["skipped"].items()]
    if not result["cold"]:
        text.append(
            "the kernel's caches could not be dropped: cold figures are warmer than they say"
        )
    text += [
        f"{'met' if target['met'] else 'missed':8}{target['name']:44}{target['value']:>10.3g}"
        f" ({'at most' if target['at_most'] else 'at least'} {target['bound']:g})"
        for target in result["targets"]
    ]
    return text


def main() -> int:
    """Run as a program: the table on stdout, the figures as JSON with --json FILE."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="small: does it run at all?")
    parser.add_argument("--scratch", help="a directory on the disk to measure")
    parser.add_argument("--json", type=Path, help="write the figures there")
    for name in ("bytes", "files", "checkpoints", "reads"):
        parser.add_argument(f"--{name}", type=int)
    arguments = vars(parser.parse_args())
    file = arguments.pop("json")
    result = run(arguments)
    print("\n".join(lines(result)))
    if file:
        file.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
