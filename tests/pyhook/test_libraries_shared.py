# SPDX-License-Identifier: Apache-2.0
"""Shared memory, mapped files, databases and futures; other processes change what they share."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import mmap
import multiprocessing
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from multiprocessing import shared_memory, sharedctypes
from pathlib import Path
from typing import Any

import chipmink
import pytest
from chipmink import reducers

IN_USE = "ignore:shared memory .* is in use"


def elsewhere(script: str, *arguments: object) -> str:
    """Run a script in another process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        check=True,
        text=True,
        capture_output=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def segment() -> Iterator[shared_memory.SharedMemory]:
    made = shared_memory.SharedMemory(create=True, size=5000)
    yield made
    with contextlib.suppress(BufferError):
        made.close()
    with contextlib.suppress(FileNotFoundError):
        made.unlink()


CHANGE = """
    import mmap, os, sys
    fd = os.open("/dev/shm/" + sys.argv[1], os.O_RDWR)
    mapped = mmap.mmap(fd, 0)
    mapped[int(sys.argv[2])] = int(sys.argv[3])
"""


@pytest.mark.filterwarnings(IN_USE)
def test_segments(session: chipmink.Session, segment: shared_memory.SharedMemory) -> None:
    segment.buf[:5] = b"hello"
    namespace = {"segment": segment, "same": [segment], "other": None}
    first = session.save(namespace)
    assert first.unsaved == {}
    again = session.save(namespace)
    assert again.variables["segment"].changed == 1
    elsewhere(CHANGE, segment.name, 4, ord("!"))
    assert session.save(namespace).variables["segment"].changed == 3
    loaded = session.load()
    assert bytes(loaded["segment"].buf[:5]) == b"hell!"
    old = session.load(at=1)["segment"]
    assert bytes(old.buf[:5]) == b"hello"
    assert loaded["segment"] is loaded["same"][0]
    assert loaded["segment"].size == 5000
    elsewhere(CHANGE, loaded["segment"].name, 0, ord("J"))
    assert bytes(loaded["segment"].buf[:5]) == b"Jell!"
    assert bytes(segment.buf[:5]) == b"hell!"


def test_segments_come_back_under_their_names(
    session: chipmink.Session, segment: shared_memory.SharedMemory
) -> None:
    segment.buf[0] = 7
    session.save({"segment": segment})
    with pytest.warns(UserWarning, match=f"{segment.name} is in use") as caught:
        other = session.load()["segment"]
    assert len(caught) == 1
    assert other.name != segment.name
    assert other.name in str(caught[0].message)
    segment.close()
    segment.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = session.load()["segment"]
    assert back.name == segment.name
    assert back.buf[0] == other.buf[0] == 7


def test_segments_of_a_process_end_with_it(
    path: Path, session: chipmink.Session, segment: shared_memory.SharedMemory
) -> None:
    session.save({"segment": segment})
    name = segment.name
    segment.close()
    segment.unlink()
    link = session.checkpoint()._core.link(buffers=False)
    content = link.read(0, link.size)
    script = """
        import os, pickle, sys
        loaded = pickle.loads(bytes.fromhex(sys.argv[1]))
        print(loaded["segment"].name, os.path.exists("/dev/shm/" + loaded["segment"].name))
    """
    assert elsewhere(script, content.hex()) == f"{name} True\n"
    assert not Path("/dev/shm", name).exists()


@pytest.mark.filterwarnings(IN_USE)
def test_arrays_on_segments(session: chipmink.Session, segment: shared_memory.SharedMemory) -> None:
    np = pytest.importorskip("numpy")
    array = np.ndarray((100, 6), "f8", segment.buf)
    array[:] = 1
    view: Any = segment.buf
    namespace = {"array": array, "segment": segment, "row": array[3], "view": view[:16]}
    assert session.save(namespace).unsaved == {}
    elsewhere(CHANGE, segment.name, 7, 0)
    checkpoint = session.save(namespace)
    assert checkpoint.variables["array"].changed == checkpoint.variables["row"].changed == 2
    for names in (None, ["array", "row"], ["row", "segment"]):
        loaded = session.load(names=names)
        if "array" in loaded:
            np.testing.assert_array_equal(loaded["array"], array)
            loaded["array"][3, 1] = 5
            assert loaded["row"][1] == 5
        if "segment" in loaded:
            loaded["row"][1] = 8
            assert np.ndarray(600, "f8", loaded["segment"].buf)[19] == 8
    session.save(loaded)
    loaded = session.load(names=["view", "array"], at=2)
    loaded["array"][0, 0] = 7
    assert bytes(loaded["view"]) == np.array([7.0, 1.0]).tobytes()
    del array, view, loaded
    namespace.clear()


@pytest.mark.filterwarnings(IN_USE)
def test_shareable_lists(session: chipmink.Session) -> None:
    shared = shared_memory.ShareableList(["text", 5, None, 2.5, b"bytes"])
    try:
        assert session.save({"shared": shared, "segment": shared.shm}).unsaved == {}
        loaded = session.load()
        assert list(loaded["shared"]) == list(shared)
        loaded["shared"][1] = 6
        assert loaded["shared"].shm.name == loaded["segment"].name
        assert shared[1] == 5
    finally:
        shared.shm.close()
        shared.shm.unlink()
    assert "closed" in session.save({"shared": shared}).unsaved["shared"]


class Pair(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


def change(value: Any, raw: Any, text: Any, pair: Any) -> None:
    with value.get_lock():
        value.value += 1
    raw[3] = 33
    text.value = b"other"
    pair.x = 11


def test_values_and_arrays_of_multiprocessing(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    value = multiprocessing.Value("i", 5)
    raw = multiprocessing.RawArray("d", range(1000))
    text = multiprocessing.Array("c", 20, lock=multiprocessing.Lock())
    pair = sharedctypes.Value(Pair, 1, 2.5)
    namespace = {
        "value": value,
        "raw": raw,
        "text": text,
        "pair": pair,
        "array": np.frombuffer(raw),
        "one": multiprocessing.RawValue("l", 9),
        "plain": (ctypes.c_int * 3)(1, 2, 3),
    }
    assert session.save(namespace).unsaved == {}
    process = multiprocessing.get_context("fork").Process(
        target=change, args=(value, raw, text, pair)
    )
    process.start()
    process.join()
    changed = session.save(namespace)
    assert {n for n, v in changed.variables.items() if v.changed == 2} == {
        "value", "raw", "text", "pair", "array",
    }  # fmt: skip
    loaded = session.load()
    assert (loaded["value"].value, loaded["text"].value, loaded["one"].value) == (6, b"other", 9)
    assert (loaded["pair"].x, loaded["pair"].y) == (11, 2.5)
    assert list(loaded["plain"]) == [1, 2, 3]
    assert list(loaded["raw"]) == list(raw)
    loaded["array"][5] = -5
    assert loaded["raw"][5] == -5
    process = multiprocessing.get_context("fork").Process(
        target=change, args=[loaded[name] for name in ("value", "raw", "text", "pair")]
    )
    process.start()
    process.join()
    assert (loaded["value"].value, loaded["array"][3]) == (7, 33)
    assert value.value == 6
    assert session.load(at=1)["value"].value == 5


def test_mapped_files(session: chipmink.Session, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    file = tmp_path / "data"
    file.write_bytes(bytes(range(256)) * 40)
    with open(file, "r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 8192)
        reading = mmap.mmap(opened.fileno(), 4096, access=mmap.ACCESS_READ, offset=4096)
    array = np.memmap(file, "i4", "r+", 16, (50, 8))
    anonymous = mmap.mmap(-1, 4096)
    anonymous[:3] = b"abc"
    namespace = {
        "mapped": mapped,
        "reading": reading,
        "array": array,
        "rows": array[10:20:3, ::-1],
        "anonymous": anonymous,
        "on_map": np.ndarray(1000, "u1", mapped),
    }
    assert session.save(namespace).unsaved == {}
    before = file.read_bytes()
    loaded = session.load()
    assert file.read_bytes() == before
    assert loaded["mapped"][:] == mapped[:]
    assert loaded["reading"][:] == reading[:]
    assert loaded["anonymous"][:3] == b"abc"
    with pytest.raises(TypeError):
        loaded["reading"][0] = 1
    for name in ("array", "rows"):
        assert type(loaded[name]) is np.memmap
        np.testing.assert_array_equal(loaded[name], namespace[name])
    loaded["array"][10, 0] = -1  # it is the file again
    assert array[10, 0] == loaded["rows"][0, -1] == -1
    loaded["mapped"][5000] = 99
    assert mapped[5000] == 99
    loaded["on_map"][7] = 1
    assert loaded["mapped"][7] == 1

    elsewhere("import sys; f = open(sys.argv[1], 'r+b'); f.seek(20); f.write(b'xx')", file)
    changed = session.save(namespace)
    assert {n for n, v in changed.variables.items() if v.changed == 2} >= {"mapped", "array"}
    with pytest.warns(UserWarning, match="is not what it was"):
        old = session.load(at=1, names=["array", "mapped"])
    assert old["array"].tobytes() == before[16:1616]
    assert old["mapped"][:] == before[:8192]
    old["array"][0] = 5
    assert file.read_bytes()[20:22] == b"xx"
    file.unlink()
    with pytest.warns(UserWarning, match="is not what it was"):
        assert session.load(names=["reading"])["reading"][:] == reading[:]


def test_mapped_files_by_reference(session: chipmink.Session, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    file = tmp_path / "data"
    np.arange(1_000_000.0).tofile(file)
    array = np.memmap(file, mode="r", dtype="f8")
    with open(file, "rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    reducers.mapped_files(by_reference=True)
    try:
        checkpoint = session.save({"array": array, "few": array[5:9], "mapped": mapped})
    finally:
        reducers.mapped_files(by_reference=False)
    assert checkpoint.stats["logical_bytes"] < 10_000
    with open(file, "r+b") as writing:
        writing.write(np.float64(7).tobytes())
    loaded = session.load()
    assert loaded["array"][0] == 7
    assert list(loaded["few"]) == [5, 6, 7, 8]
    assert loaded["mapped"][:8] == np.float64(7).tobytes()
    file.unlink()
    with pytest.raises(chipmink.LoadError, match="data"):
        session.load()


def test_databases(session: chipmink.Session, tmp_path: Path) -> None:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    memory.row_factory = sqlite3.Row
    memory.execute("CREATE TABLE t (x, y)")
    memory.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"text {i}") for i in range(5000)])
    memory.execute("ATTACH ':memory:' AS other")
    memory.execute("CREATE TABLE other.u (z)")
    memory.execute("INSERT INTO other.u VALUES (5)")
    stored = sqlite3.connect(tmp_path / "a database")
    stored.execute("CREATE TABLE t (x)")
    stored.execute("INSERT INTO t VALUES (1)")
    stored.commit()
    namespace = {"memory": memory, "stored": stored}
    assert session.save(namespace).unsaved == {}
    assert session.save(namespace).stats["pods_new"] == 0
    memory.execute("UPDATE t SET x = -1 WHERE x = 77")
    second = session.save(namespace)
    assert second.variables["memory"].changed == 3
    assert second.variables["stored"].changed == 1
    assert second.stats["bytes_written"] < 150_000
    loaded = session.load()
    row = loaded["memory"].execute("SELECT sum(x) AS total FROM t").fetchone()
    assert row["total"] == sum(range(5000)) - 78
    assert loaded["memory"].execute("SELECT z FROM other.u").fetchone()[0] == 5
    assert loaded["memory"].isolation_level is None
    old = session.load(at=1)["memory"]
    assert old.execute("SELECT x FROM t WHERE y = 'text 77'").fetchone()["x"] == 77
    assert session.save(loaded).unsaved == {}
    with sqlite3.connect(tmp_path / "a database") as other:
        other.execute("INSERT INTO t VALUES (2)")
    assert loaded["stored"].execute("SELECT count(*) FROM t").fetchone() == (2,)
    (tmp_path / "a database").unlink()
    with pytest.raises(chipmink.LoadError, match="a database: unable to open"):
        session.load(at=1)
    assert not (tmp_path / "a database").exists()
    memory.close()
    assert "closed" in session.save({"memory": memory}).unsaved["memory"]


def test_futures(session: chipmink.Session) -> None:
    with concurrent.futures.ThreadPoolExecutor() as executor:
        done = executor.submit(sorted, [3, 1])
        failed = executor.submit(int, "x")
        concurrent.futures.wait([done, failed])
    cancelled: Any = concurrent.futures.Future()
    cancelled.cancel()
    pending: Any = concurrent.futures.Future()
    namespace = {"done": done, "failed": failed, "cancelled": cancelled, "pending": pending}
    checkpoint = session.save(namespace)
    assert list(checkpoint.unsaved) == ["pending"]
    assert "it is not done" in checkpoint.unsaved["pending"]
    loaded = session.load()
    assert loaded["done"].result(0) == [1, 3]
    assert isinstance(loaded["failed"].exception(0), ValueError)
    assert loaded["cancelled"].cancelled()
    assert set(concurrent.futures.wait(loaded.values(), 1).done) == set(loaded.values())
    assert session.save(loaded).stats["pods_new"] == 0


def test_a_load_needs_chipmink_for_these(session: chipmink.Session) -> None:
    link = session.save({"memory": sqlite3.connect(":memory:")})._core.link(buffers=False)
    assert b"chipmink._libraries.sqlite" in link.read(0, link.size)
    assert pickle.loads(link.read(0, link.size))["memory"].execute("SELECT 1").fetchone() == (1,)
