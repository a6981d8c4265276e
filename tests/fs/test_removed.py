# SPDX-License-Identifier: Apache-2.0
"""The mount while checkpoints are removed: what is listed, and what is still open."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import BinaryIO

import chipmink
import pytest
from mounting import Mount, names, run, wait_until

GONE = (errno.ESTALE, errno.ENOENT)


def read_to_the_end(file: BinaryIO) -> int | None:
    """Give what error that meets, if any."""
    try:
        while file.read(1_000_000):
            pass
    except OSError as error:
        return error.errno
    return None


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(3_000_000)


@pytest.fixture
def session(store: chipmink.Store) -> chipmink.Session:
    """Nine checkpoints, of which the fourth has a tag."""
    made = store.session("analysis")
    for i in range(9):
        made.save({"x": i, "big": noise(i), **({"late": 1} if i > 4 else {})})
    made.tag("fourth", 4)
    return made


def numbers(log: Path) -> list[int]:
    return sorted(int(name) for name in names(log) if not name.endswith(".pkl"))


@pytest.mark.parametrize("looked", [False, True])
def test_listings_leave_gaps(session: chipmink.Session, mounted: Mount, looked: bool) -> None:
    tree = mounted.session()
    if looked:
        assert len(names(tree / "by-time")) == 9
        run("find", tree, "-ls")
    session.prune(last=2, tagged=True)
    session.store.gc()
    assert wait_until(lambda: numbers(tree / "log") == [4, 8, 9])
    assert len(names(tree / "log")) == 6
    assert wait_until(lambda: len(names(tree / "by-time")) == 3)
    targets = sorted(os.readlink(link) for link in (tree / "by-time").iterdir())
    assert targets == ["../log/000004", "../log/000008", "../log/000009"]
    assert os.readlink(tree / "tags/fourth") == "../log/000004"
    for number in (4, 8, 9):
        place = tree / f"log/{number:06}"
        assert (place / "vars/big.pkl").stat().st_size > 3_000_000
        assert chipmink.load(place)["big"] == noise(number - 1)
    if not looked:
        assert not (tree / "log/000005").exists()
        assert names(tree / "log/000008/delta/added") == {"late.pkl"}
        assert names(tree / "log/000008/delta/changed") == {"x.pkl", "big.pkl"}
        with pytest.raises(FileNotFoundError):
            (tree / "by-time/2020-01-01T00-00-00.000Z").readlink()
    session.prune(last=1)
    session.store.gc()
    assert wait_until(lambda: numbers(tree / "log") == [9])
    assert names(tree / "tags") == set()
    assert session.save({"x": 10}).number == 10
    assert wait_until(lambda: numbers(tree / "log") == [9, 10])


def test_what_is_open_when_it_is_removed(
    session: chipmink.Session, mounted: Mount, tmp_path: Path
) -> None:
    """It says so: neither wrong bytes nor damage, and the daemon's log has no complaint."""
    tree = mounted.session()
    with (
        (tree / "log/000001/vars/big.pkl").open("rb", buffering=0) as read,
        (tree / "log/000002/vars/big.pkl").open("rb", buffering=0) as unread,
    ):
        begin = read.read(1000)
        session.prune(last=1)
        session.store.gc()
        assert begin[-100:] in noise(0)[:1000]
        for file in (read, unread):
            assert read_to_the_end(file) in GONE
    assert (tree / "head/vars/x.pkl").read_bytes()
    with pytest.raises(FileNotFoundError):
        (tree / "log/000003/vars/big.pkl").read_bytes()
    for log in tmp_path.glob("runtime/chipmink/*.log"):
        assert "missing" not in log.read_text()


def test_a_copy_of_what_is_removed(session: chipmink.Session, mounted: Mount) -> None:
    """Copied into work/ by reference before, it stays; after, it cannot be copied any more."""
    tree = mounted.session()
    run("cp", tree / "log/000002/vars/big.pkl", tree / "work/kept.pkl")
    run("sync", tree / "work/kept.pkl")
    with (tree / "log/000003/vars/big.pkl").open("rb"):
        session.prune(last=1)
        session.store.gc()
    assert session.load(names=["kept"])["kept"] == noise(1)
    assert session.store.verify().damage == ()
