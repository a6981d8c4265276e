# SPDX-License-Identifier: Apache-2.0
"""work/: changing a session's variables with ordinary tools."""

from __future__ import annotations

import errno
import io
import os
import pickle
import pickletools
import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import chipmink
import cloudpickle
import numpy as np
import pandas as pd
import pytest
from mounting import BIG, Mount, commit, errors, names, run, server_of, wait_until

# ---- by reference


def test_copy_by_reference(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """cp of a variable makes a checkpoint that has it, and writes none of its bytes."""
    b = two[1]
    work = mounted.session("b") / "work"
    assert names(work) == {"y.pkl"}
    run("cp", mounted.session("a") / "head/vars/big.pkl", work)
    assert names(work) == {"y.pkl", "big.pkl"}, "seen at once"
    assert (work / "big.pkl").read_bytes() == (
        mounted.session("a") / "head/vars/big.pkl"
    ).read_bytes()
    commit(work)
    assert b.head.number == 2
    assert b.head.message == "work: added big"
    assert b.head.stats.pods_new == 0
    assert b.head.stats.bytes_written < 10_000
    assert b.load() == {"y": 5, "big": BIG}
    assert os.readlink(mounted.session("b") / "head") == "log/000002"
    assert names(work) == {"y.pkl", "big.pkl"}


def test_copies_by_reading_and_writing(store: chipmink.Store, mounted: Mount) -> None:
    """What was read from vars/ and written as it is, is what it was, whoever copies."""
    store.session("a").save({"text": "abc" * 100_000, "twin": "abd" * 100_000, "x": [1]})
    store.session("b").save({"y": 1})
    work, source = mounted.session("b") / "work", mounted.session("a") / "head/vars"
    assert wait_until(work.exists)
    run("cp", "--sparse=auto", source / "text.pkl", work / "c.pkl")
    shutil.copyfileobj((source / "twin.pkl").open("rb"), (work / "p.pkl").open("wb"))
    (work / "changed.pkl").write_bytes(
        (source / "text.pkl").read_bytes().replace(b"abc", b"abx", 1)
    )
    commit(work)
    head = store.session("b").head
    assert head is not None
    original = store.session("a").head.variables
    assert head.variables["c"].summary == original["text"].summary
    assert head.variables["c"].content == original["text"].content
    assert head.variables["p"].content == original["twin"].content
    assert head.variables["changed"].summary.startswith("written through the mount")
    assert head.load()["changed"] == "abx" + "abc" * 99_999
    assert head.load()["p"] == "abd" * 100_000


def test_copy_from_anywhere(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """From older checkpoints, without their sharing; under another name; onto what is there."""
    a, b = two
    work = mounted.session("b") / "work"
    log = mounted.session("a") / "log"
    run("cp", log / "000001/vars/one.pkl", log / "000001/vars/two.pkl", work)
    run("cp", log / "000001/vars/x.pkl", work / "y.pkl")
    run("ln", log / "000002/vars/x.pkl", work / "linked.pkl")
    run("cp", mounted.session("a") / "work/big.pkl", work / "again.pkl")
    run("cp", "-a", mounted.session("a") / "work/big.pkl", work / "more.pkl")
    commit(work)
    assert b.load() == {
        "one": {"of": [1, 2, 3]},
        "two": [[1, 2, 3]],
        "y": 1,
        "linked": 2,
        "again": BIG,
        "more": BIG,
    }
    assert b.head.number == 2, "one checkpoint for all of them"
    assert b.head.message == "work: added again, linked, more, one, two; changed y"
    # back to an older state of the same session
    run("cp", log / "000001/vars/x.pkl", mounted.session("a") / "work/x.pkl")
    commit(mounted.session("a") / "work")
    assert a.load() == {"x": 1, "big": BIG}
    assert a.head.number == 3


def test_big_copies_move_nothing(
    store: chipmink.Store, two: tuple[chipmink.Session, chipmink.Session], mounted: Mount
) -> None:
    """More than fits an answer of the protocol: it is the whole variable all the same."""
    zeros = np.zeros(5_000_000_000, np.uint8)
    store.session("zeros").save({"z": zeros})
    source = mounted.session("zeros") / "head/vars/z.pkl"
    assert wait_until(source.exists)
    assert source.stat().st_size > 5_000_000_000
    work = mounted.session("b") / "work"
    run("cp", source, work)
    commit(work)
    assert (work / "z.pkl").stat().st_size == source.stat().st_size
    variable = two[1].head.variables["z"]
    assert variable.size == source.stat().st_size
    assert two[1].head.stats.bytes_written < 100_000


def test_partial_copies_are_data(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount
) -> None:
    """Half a variable is none; the other half makes it one, in whatever order it comes."""
    work = mounted.session("b") / "work"
    source = mounted.session("a") / "head/vars/big.pkl"
    size = source.stat().st_size
    with source.open("rb") as read, (work / "c.pkl").open("wb") as write:
        assert os.copy_file_range(read.fileno(), write.fileno(), 1_000_000, 0, 0) == 1_000_000
        os.lseek(read.fileno(), 1_000_000, 0)
        write.seek(1_000_000)
        while chunk := os.read(read.fileno(), 1 << 20):
            write.write(chunk)
    assert (work / "c.pkl").read_bytes() == source.read_bytes()
    with source.open("rb") as read:
        out = os.open(work / "d.pkl", os.O_WRONLY | os.O_CREAT)
        os.copy_file_range(read.fileno(), out, size - 1000, 0, 0)
        with pytest.raises(OSError, match="Invalid argument"):
            os.close(out)
    assert "d.pkl" in errors(work)
    commit(work)
    assert two[1].load() == {"y": 5, "c": BIG}
    assert (work / "d.pkl").stat().st_size == size - 1000, "it is not lost"


# ---- names


def test_rename_and_remove(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    a = two[0]
    work = mounted.session("a") / "work"
    run("mv", work / "x.pkl", work / "renamed.pkl")
    assert names(work) == {"renamed.pkl", "big.pkl"}
    run("rm", work / "big.pkl")
    assert names(work) == {"renamed.pkl"}
    commit(work)
    assert a.load() == {"renamed": 2}
    assert a.head.message == "work: added renamed; removed big, x"
    run("mv", work / "renamed.pkl", mounted.session("b") / "work/x.pkl")
    commit(work)
    commit(mounted.session("b") / "work")
    assert a.load() == {}
    assert two[1].load() == {"y": 5, "x": 2}
    # made and gone again: nothing to commit
    (work / "t.pkl").write_bytes(pickle.dumps(1))
    (work / "t.pkl").unlink()
    number = a.head.number
    commit(work)
    assert a.head.number == number


def test_open_while_renamed(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """What is open is written to under the name it has come to, also if the head had it."""
    work = mounted.session("a") / "work"
    with (work / "x.pkl").open("r+b", buffering=0) as file:
        (work / "x.pkl").rename(work / "moved.pkl")
        file.write(pickle.dumps("later"))
        file.truncate()
    assert names(work) == {"moved.pkl", "big.pkl"}
    commit(work)
    assert two[0].load() == {"moved": "later", "big": BIG}


def test_mixed_writes(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """What is left out has its reason in .errors under each name it has then, and no other."""
    b = two[1]
    work = mounted.session("b") / "work"
    with (work / "one.pkl").open("wb") as file, (work / "one.pkl").open("wb") as other:
        file.write(pickle.dumps("x" * 100))
        file.flush()
        other.write(pickle.dumps("short"))
        with pytest.raises(OSError, match="Invalid argument"):
            other.close()
        assert {line.split()[1] for line in errors(work).splitlines()} == {"one.pkl:"}
        (work / "two.pkl").hardlink_to(work / "one.pkl")
        (work / "one.pkl").rename(work / "three.pkl")
        with pytest.raises(OSError, match="Invalid argument"):
            file.close()
    commit(work)
    assert b.load() == {"y": 5}
    said = errors(work).splitlines()
    assert {line.split()[1] for line in said} == {"two.pkl:", "three.pkl:"}
    assert all("more bytes follow" in line for line in said)
    (work / "two.pkl").write_bytes(pickle.dumps("mended"))
    commit(work)
    assert errors(work) == ""
    assert b.load() == {"y": 5, "two": "mended", "three": "mended"}


def test_temporary_names(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """What editors and rsync do: write beside, rename onto; keep what was there."""
    b = two[1]
    work = mounted.session("b") / "work"
    for temporary in (".y.pkl.aB3dEf", "y.pkl~", "y.pkl.tmp", "y.part"):
        (work / temporary).write_bytes(b"no pickle")
        assert temporary in names(work)
    commit(work)
    assert b.head.number == 1, "temporary files are never committed"
    (work / ".new").write_bytes(pickle.dumps("new"))
    os.rename(work / "y.pkl", work / "y.pkl~")
    os.rename(work / ".new", work / "y.pkl")
    commit(work)
    assert b.load() == {"y": "new"}
    assert pickle.loads((work / "y.pkl~").read_bytes()) == 5
    (work / ".bad").write_bytes(b"no pickle")
    with pytest.raises(OSError, match="Invalid argument"):
        os.rename(work / ".bad", work / "y.pkl")
    assert "y.pkl: not a complete pickle" in errors(work)
    assert pickle.loads((work / "y.pkl").read_bytes()) == "new"


def test_other_names_are_refused(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount
) -> None:
    work = mounted.session("b") / "work"
    with pytest.raises(OSError, match="Invalid argument"):
        (work / "notes.txt").write_text("x")
    assert "notes.txt: no name" in errors(work)
    with pytest.raises(PermissionError):
        (work / "directory").mkdir()
    with pytest.raises(PermissionError):
        (work / "link.pkl").symlink_to("y.pkl")
    (work / ".errors").unlink()
    assert names(work) == {"y.pkl"}
    with pytest.raises(OSError, match="Read-only"):
        (mounted.session("b") / "log/new").mkdir()
    with pytest.raises(OSError, match="Read-only"):
        (mounted.session("b") / "head/vars/y.pkl").unlink()


def test_odd_variable_names(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    a, b = two
    long = "n" * 300
    a.save({"a/b": 1, ".dot": 2, "": 3, long: 4})
    files = names(mounted.session("a") / "log/000003/vars")
    work = mounted.session("b") / "work"
    for file in files:
        run("cp", mounted.session("a") / "log/000003/vars" / file, work)
    commit(work)
    assert b.load() == {"y": 5, "a/b": 1, ".dot": 2, "": 3, long: 4}
    cut = next(file for file in names(work) if len(file) > 200)
    (work / cut).write_bytes(pickle.dumps("changed"))
    run("rm", work / "a%2Fb.pkl")
    commit(work)
    assert b.load() == {"y": 5, ".dot": 2, "": 3, long: "changed"}


# ---- arbitrary bytes


class Thing:
    def __init__(self) -> None:
        self.me = self
        self.text = "é" * 3


def _values() -> dict[str, object]:
    rows = [{"row": i, "text": str(i)} for i in range(300)]
    loop: list[object] = [1]
    loop.append(loop)
    return {
        "numbers": [0, -1, 255, 65536, 2**31, -(2**70), 2**3000, 1.5, float("inf"), -0.0, 1j],
        "texts": ["", "plain", "new\nline", "ünï\U0001f600", "\ud800", "x" * 10_000, b"\0\xff" * 9],
        "large": {"bytes": BIG[:50_000], "text": "ä" * 9000, "array": bytearray(b"z" * 5000)},
        "nested": ({"k": (1, [2, {3, 4}, frozenset({5})])}, None, True, False, ..., NotImplemented),
        "shared": [rows, rows, loop],
        "classes": [int, ValueError("x"), ValueError, len, dict.fromkeys, range(3), slice(1, 2)],
        "tree": ([[[[]]]], ((), ((),)), {}, {"": {}}),
    }


def same(one: object, other: object) -> bool:
    """Tell whether two objects pickle alike."""
    return pickletools.optimize(pickle.dumps(one, 4)) == pickletools.optimize(
        pickle.dumps(other, 4)
    )


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_all_protocols(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount, protocol: int
) -> None:
    """What is written is stored as it was: loading it gives the same objects."""
    work = mounted.session("b") / "work"
    values = _values()
    frame = pd.DataFrame({"a": range(2000), "b": [str(i) for i in range(2000)]})
    array = np.arange(10_000.0).reshape(100, 100)
    tail = array[3:, ::2]
    for name, value in values.items():
        (work / f"{name}.pkl").write_bytes(pickle.dumps(value, protocol))
        (work / f"slow_{name}.pkl").write_bytes(_slow(value, protocol))
    (work / "frame.pkl").write_bytes(pickle.dumps(frame, protocol))
    (work / "arrays.pkl").write_bytes(pickle.dumps([array, tail, array], protocol))
    (work / "function.pkl").write_bytes(cloudpickle.dumps(lambda n: n + len(values), protocol))
    commit(work)
    assert errors(work) == ""
    loaded = two[1].load()
    for name, value in values.items():
        for stored in (loaded[name], loaded[f"slow_{name}"]):
            assert same(stored, pickle.loads(pickle.dumps(value, protocol))), name
        assert same(pickle.loads((work / f"{name}.pkl").read_bytes()), stored), name
    rows, again, loop = loaded["shared"]
    assert rows is again
    assert loop[1] is loop
    pd.testing.assert_frame_equal(loaded["frame"], frame)
    assert np.array_equal(loaded["arrays"][1], tail)
    assert loaded["arrays"][0] is loaded["arrays"][2]
    assert loaded["function"](1) == 1 + len(values)
    whole = pickle.loads((mounted.session("b") / "log/000002.pkl").read_bytes())
    assert set(whole) == set(loaded), "beside variables that the walker took apart"
    assert whole["y"] == 5


def _slow(value: object, protocol: int) -> bytes:
    """Pickle with the Python implementation, which memoizes and frames otherwise."""
    out = io.BytesIO()
    pickle._Pickler(out, protocol).dump(value)
    return out.getvalue()


def test_old_names(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """Pickles of Python 2 name modules that were renamed since."""
    work = mounted.session("b") / "work"
    (work / "old.pkl").write_bytes(
        b"c__builtin__\nset\n(lp0\nI1\nag0\na.".replace(b"(lp0\nI1\nag0\na", b"((lp0\nI1\natR")
    )
    (work / "two.pkl").write_bytes(b"(c__builtin__\nxrange\n\x80\x04ccollections\nOrderedDict\nt.")
    commit(work)
    assert errors(work) == ""
    loaded = two[1].load()
    assert loaded["old"] == {1}
    assert loaded["two"][0] is range
    assert pickle.loads((mounted.session("b") / "head/vars/old.pkl").read_bytes()) == {1}


def test_types_are_told(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    work = mounted.session("b") / "work"
    values = {"f": pd.DataFrame({"a": [1]}), "l": [1], "t": (1, 2), "s": "x", "a": np.zeros(3)}
    for name, value in values.items():
        (work / f"{name}.pkl").write_bytes(pickle.dumps(value, 4))
    commit(work)
    types = {name: variable.type for name, variable in two[1].head.variables.items()}
    assert types["f"] == f"{pd.DataFrame.__module__}.DataFrame"
    assert types["l"] == "list"
    assert types["t"] == "tuple"
    assert types["s"] == "str"
    assert types["a"] == "numpy.ndarray"
    assert "written through the mount" in two[1].head.variables["f"].summary


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        pickle.dumps(_values())[:-1],
        pickle.dumps(_values()) + b"x",
        pickle.dumps(BIG)[:-1000],
        b"N",
        b".",
        b"NN.",
        b"(N.",
        b"h\x00.",
        b"\x94.",
        b"a.",
        b"(a.",
        b"]Ne.",
        b"\x8c\xff.",
        b"\x8d" + b"\xff" * 8 + b".",
        b"\x80\x06N.",
        b"\x95" + b"\xff" * 8 + b"N.",
        b"Ppersistent\n.",
        b"\x97.",
        b"\xff.",
        b"cos\n.",
        b"I\n.",
        b"X\x02\0\0\0\xff\xff.",
        b"N\x80",
        b"p0\n.",
    ],
)
def test_incomplete_is_refused(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount, data: bytes
) -> None:
    """The close fails, .errors says why, and the session keeps what it had."""
    work = mounted.session("b") / "work"
    file = os.open(work / "y.pkl", os.O_WRONLY | os.O_TRUNC)
    if data:
        assert os.write(file, data) == len(data)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        os.close(file)
    assert caught.value.errno == errno.EINVAL
    lines = errors(work).splitlines()
    assert len(lines) == 1
    assert "y.pkl: not a complete pickle: at byte" in lines[0]
    commit(work)
    assert two[1].head.number == 1
    (work / "y.pkl").write_bytes(pickle.dumps("mended"))
    assert errors(work) == ""
    commit(work)
    assert two[1].load() == {"y": "mended"}


def test_nothing_is_run(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    program = f"cos\nsystem\n(S'touch {trap}'\ntR."
    (mounted.session("b") / "work/evil.pkl").write_bytes(program.encode())
    commit(mounted.session("b") / "work")
    assert two[1].head.variables["evil"].size > 0
    assert b"system\n" in (mounted.session("b") / "head/vars/evil.pkl").read_bytes()
    assert "written through the mount" in (mounted.session("b") / "head/info/evil.txt").read_text()
    assert not trap.exists()


def test_large_bytes_are_deduplicated(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount
) -> None:
    work = mounted.session("b") / "work"
    (work / "again.pkl").write_bytes(pickle.dumps(BIG, 5))
    commit(work)
    assert two[1].head.stats.bytes_written < 100_000
    assert two[1].load(names=["again"]) == {"again": BIG}


def test_writing_in_place(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """Seeking, overwriting, appending, truncating: files, as everywhere."""
    work = mounted.session("b") / "work"
    reference, choose = bytearray(), random.Random(3)
    with (work / ".scratch").open("w+b", buffering=0) as file:
        for _ in range(300):
            action = choose.randrange(4)
            if action == 0:
                at, data = (
                    choose.randrange(len(reference) + 1000),
                    choose.randbytes(choose.randrange(1, 9000)),
                )
                os.pwrite(file.fileno(), data, at)
                reference.extend(bytes(max(0, at - len(reference))))
                reference[at : at + len(data)] = data
            elif action == 1:
                size = choose.randrange(len(reference) + 100)
                os.ftruncate(file.fileno(), size)
                del reference[size:]
                reference.extend(bytes(size - len(reference)))
            elif action == 2:
                at = choose.randrange(len(reference) + 10)
                assert os.pread(file.fileno(), 5000, at) == reference[at : at + 5000]
            else:
                assert os.fstat(file.fileno()).st_size == len(reference)
    assert (work / ".scratch").read_bytes() == reference
    value = pickle.dumps(list(range(1000)))
    (work / "y.pkl").write_bytes(value)
    with (work / "y.pkl").open("r+b") as file:  # unchanged bytes, written again in the middle
        file.seek(100)
        file.write(value[100:200])
    whole = mounted.session("a") / "work/big.pkl"
    before = whole.read_bytes()
    with whole.open("r+b") as file:  # a variable of the head, changed in place
        file.seek(1000)
        file.write(b"changed")
    commit(work)
    commit(whole.parent)
    assert two[1].load() == {"y": list(range(1000))}
    assert (
        two[0].load()["big"]
        == BIG[: 1000 - before.index(BIG)] + b"changed" + BIG[1007 - before.index(BIG) :]
    )
    assert (mounted.session("a") / "log/000001/vars/big.pkl").read_bytes() == before


# ---- when


def test_commits_by_itself(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """A moment after the last change; many of them make one checkpoint."""
    b = two[1]
    work = mounted.session("b") / "work"
    for i in range(200):
        (work / f"v{i}.pkl").write_bytes(pickle.dumps(i))
    assert wait_until(lambda: len(b.head.variables) == 201)
    assert b.head.number <= 4
    assert b.load() == {"y": 5} | {f"v{i}": i for i in range(200)}
    assert "and" in b.head.message
    assert wait_until(
        lambda: os.readlink(mounted.session("b") / "head") == f"log/{b.head.number:06}"
    )


def test_fsync_commits(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    b = two[1]
    with (mounted.session("b") / "work/z.pkl").open("wb") as file:
        file.write(pickle.dumps("z"))
        file.flush()
        os.fsync(file.fileno())
        assert b.load()["z"] == "z"
        file.write(b"more")
        file.flush()
        with pytest.raises(OSError, match="Invalid argument"):
            os.fsync(file.fileno())
        file.seek(0)
        file.truncate()
        file.write(pickle.dumps("zz"))
    commit(mounted.session("b") / "work")
    assert b.load()["z"] == "zz"


def test_unmounting_commits(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    (mounted.session("b") / "work/z.pkl").write_bytes(pickle.dumps("z"))
    assert mounted.umount().returncode == 0
    assert two[1].load()["z"] == "z"


def test_the_session_learns_of_it(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount
) -> None:
    """The next save of the running process keeps what arrived."""
    b = two[1]
    run("cp", mounted.session("a") / "head/vars/x.pkl", mounted.session("b") / "work")
    commit(mounted.session("b") / "work")
    b.save({"y": 6})
    assert b.load() == {"y": 6, "x": 2}
    assert wait_until(lambda: names(mounted.session("b") / "work") == {"y.pkl", "x.pkl"})
    assert pickle.loads((mounted.session("b") / "work/y.pkl").read_bytes()) == 6


def test_a_killed_server(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """The mount starts another one and goes on: reading, and committing."""
    work = mounted.session("b") / "work"
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                data = (mounted.session("a") / "log/000001/vars/big.pkl").read_bytes()
                assert pickle.loads(data) == BIG
                names(mounted.session("b") / "head/vars")
                names(mounted.point / "pods/00")
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(15):
            (work / f"v{i}.pkl").write_bytes(pickle.dumps([i, BIG[:100_000]]))
            pid = server_of(mounted.store)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            commit(work)
    finally:
        stop.set()
        reader.join(120)
    assert not failures
    loaded = two[1].load()
    assert {name: value[0] for name, value in loaded.items() if name != "y"} == {
        f"v{i}": i for i in range(15)
    }
    assert errors(work) == ""


def test_embedded_is_for_reading(
    two: tuple[chipmink.Session, chipmink.Session], unmounted: Mount
) -> None:
    assert unmounted.mount("--embedded").returncode == 0
    session = unmounted.session("b")
    assert names(session) == {"head", "branches", "tags", "log", "by-time"}
    with pytest.raises(OSError, match="Read-only"):
        (session / "work").mkdir()


# ---- what else there is


def test_by_time(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    a = two[0]
    moments = mounted.session("a") / "by-time"
    listed = sorted(names(moments))
    assert [os.readlink(moments / name) for name in listed] == ["../log/000001", "../log/000002"]
    assert listed[1].startswith(a.head.time.strftime("%Y-%m-%dT%H-%M-%S."))
    assert listed[1].endswith("Z")
    assert pickle.loads((moments / listed[0] / "vars/x.pkl").read_bytes()) == 1
    assert not (moments / "2026-01-01T00-00-00.000Z").exists()
    a.save({"x": 3})
    assert wait_until(lambda: len(names(moments)) == 3)


def test_extended_attributes(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount
) -> None:
    variable = two[0].head.variables["big"]
    for file in (mounted.session("a") / "head/vars/big.pkl", mounted.session("a") / "work/big.pkl"):
        facts = {
            key: os.getxattr(file, f"user.chipmink.{key}").decode()
            for key in ("id", "type", "pods", "stored", "changed")
        }
        assert len(facts["id"]) == 64
        assert facts["type"] == "bytes"
        assert int(facts["stored"]) == variable.stored
        assert facts["changed"] == "1"
        assert os.listxattr(file) == []
        with pytest.raises(OSError, match="No data"):
            os.getxattr(file, "user.chipmink.other")
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(mounted.session("a") / "head/vars/big.pkl", "security.capability")


def test_one_session_at_the_top(
    two: tuple[chipmink.Session, chipmink.Session], unmounted: Mount
) -> None:
    assert unmounted.mount("--session", "a").returncode == 0
    point = unmounted.point
    assert names(point) == {"head", "branches", "tags", "log", "by-time", "work", "pods"}
    assert pickle.loads((point / "head/vars/x.pkl").read_bytes()) == 2
    for link in [*(point / "head/pods").iterdir(), *(point / "head/delta/pods").iterdir()]:
        assert len(os.readlink(link)) == link.lstat().st_size
        assert link.resolve(strict=True) == point / "pods" / link.name[:2] / link.name
    (point / "work/new.pkl").write_bytes(pickle.dumps("new"))
    commit(point / "work")
    assert two[0].load()["new"] == "new"
    assert os.readlink(point / "head") == "log/000003"
    assert unmounted.umount().returncode == 0
    refused = unmounted.mount("--session", "none")
    assert refused.returncode == 1
    assert "none" in refused.stderr


# ---- tools


def test_tools_write(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount, tmp_path: Path
) -> None:
    """cp -a, rsync -a, tar, mv, touch, dd and the shell, into work/ and out of it."""
    b = two[1]
    work = mounted.session("b") / "work"
    source = tmp_path / "source"
    source.mkdir()
    values = {f"v{i}": [i] * 1000 for i in range(20)}
    for name, value in values.items():
        (source / f"{name}.pkl").write_bytes(pickle.dumps(value))
    run("cp", "-a", *sorted(source.iterdir()), work)
    run("rm", *[work / f"{name}.pkl" for name in values])
    commit(work)
    if shutil.which("rsync"):
        run("rsync", "-a", "--no-o", "--no-g", f"{source}/", work)
        commit(work)
        assert b.load() == {"y": 5} | values
        run("rsync", "-a", "--delete", "--exclude=y.pkl", "--size-only", f"{source}/", work)
        run("rm", *[work / f"{name}.pkl" for name in values])
        commit(work)
    archive = tmp_path / "values.tar"
    run("tar", "-C", source, "-cf", archive, *sorted(names(source)))
    run("tar", "-C", work, "-xf", archive)
    run("dd", f"if={source / 'v1.pkl'}", f"of={work / 'dd.pkl'}", "bs=1k", "status=none")
    run("sh", "-c", f"cat '{source}/v2.pkl' > '{work}/shell.pkl'")
    run("mv", "--", str(source / "v3.pkl"), str(work / "moved.pkl"))
    run("touch", work / "y.pkl")
    commit(work)
    assert errors(work) == ""
    expected = {"y": 5, "dd": values["v1"], "shell": values["v2"], "moved": values["v3"]}
    assert b.load() == expected | values
    out = tmp_path / "out"
    run("cp", "-a", work, out)
    assert {name: pickle.loads((out / f"{name}.pkl").read_bytes()) for name in expected} == expected
    run("diff", "-r", work, out)
    run("tar", "-C", work.parent, "-cf", tmp_path / "work.tar", "work")
    if shutil.which("git"):
        run("git", "init", "-q", out)
        run("git", "-C", out, "add", "-A")


def test_find_newer_and_times(
    two: tuple[chipmink.Session, chipmink.Session], mounted: Mount, tmp_path: Path
) -> None:
    log = mounted.session("a") / "log"
    x, big = log / "000002/vars/x.pkl", log / "000002/vars/big.pkl"
    assert run("find", log / "000002/vars", "-newer", big).splitlines() == [
        str(log / "000002/vars"),
        str(x),
    ]
    work = mounted.session("b") / "work"
    marker = tmp_path / "marker"
    marker.touch()
    (work / "late.pkl").write_bytes(pickle.dumps(1))
    assert str(work / "late.pkl") in run("find", work, "-newer", marker).splitlines()
    order = run("ls", "-t", log / "000002/vars").split()
    assert order == ["x.pkl", "big.pkl"]


# ---- trees at random


def _random_value(choose: random.Random, depth: int = 0) -> object:
    kind = choose.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return choose.randrange(-(10 ** choose.randrange(1, 40)), 10**30)
    if kind == 1:
        return choose.random()
    if kind == 2:
        return "".join(map(chr, choose.choices(range(1, 0x2FF), k=choose.randrange(40))))
    if kind == 3:
        return choose.randbytes(choose.choice([0, 5, 300, 5000, 200_000]))
    if kind == 4:
        return choose.choice([None, True, False, int, ...])
    if kind == 5:
        return np.frombuffer(choose.randbytes(8 * choose.randrange(2000)), "i8").copy()
    items = [_random_value(choose, depth + 1) for _ in range(choose.randrange(6))]
    if kind == 6:
        return items + items
    if kind == 7:
        return tuple(items)
    return dict(enumerate(items))


@pytest.mark.parametrize("seed", range(3))
def test_random_trees(store: chipmink.Store, unmounted: Mount, tmp_path: Path, seed: int) -> None:
    """A dump of the mount is, byte for byte, what the core gives for each variable."""
    choose = random.Random(seed)
    sessions = [store.session(name) for name in ("one", "two")]
    state: list[dict[str, object]] = [{}, {}]
    for _ in range(12):
        which = choose.randrange(2)
        for _ in range(choose.randrange(1, 5)):
            name = f"v{choose.randrange(12)}"
            if choose.random() < 0.2:
                state[which].pop(name, None)
            else:
                state[which][name] = _random_value(choose)
        sessions[which].save(dict(state[which]))
    assert unmounted.mount().returncode == 0
    dump = tmp_path / "dump"
    run("cp", "-a", unmounted.point / "sessions", dump)
    files = 0
    for session in sessions:
        if session.head is None:
            continue
        for checkpoint in session.log():
            directory = dump / session.name / "log" / f"{checkpoint.number:06}"
            assert names(directory / "vars") == {f"{name}.pkl" for name in checkpoint.variables}
            for name, variable in checkpoint.variables.items():
                data = (directory / "vars" / f"{name}.pkl").read_bytes()
                assert len(data) == variable.size
                direct = subprocess.run(
                    [
                        unmounted.command,
                        "cat",
                        "--store",
                        unmounted.store,
                        f"{session.name}@{checkpoint.number}",
                        name,
                    ],
                    capture_output=True,
                    check=True,
                ).stdout
                assert data == direct
                files += 1
            loaded = session.load(at=checkpoint.number)
            whole = pickle.loads((directory.parent / f"{checkpoint.number:06}.pkl").read_bytes())
            assert repr(whole) == repr(loaded)
    assert files > 30
