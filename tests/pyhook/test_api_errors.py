# SPDX-License-Identifier: Apache-2.0
"""Bad input gets a clear error and loses nothing."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import random
import subprocess
import sys
import threading
from pathlib import Path

import chipmink
import pytest

# ---- exceptions


def test_errors_are_what_callers_expect() -> None:
    for kind in (chipmink.StoreError, chipmink.NotFound, chipmink.InvalidName, chipmink.LoadError):
        assert issubclass(kind, chipmink.Error)
    for kind in (chipmink.StoreNotFound, chipmink.Busy, chipmink.ReadOnly, chipmink.FormatError):
        assert issubclass(kind, chipmink.StoreError)
    assert issubclass(chipmink.StoreError, OSError)
    assert issubclass(chipmink.StoreNotFound, FileNotFoundError)
    assert issubclass(chipmink.NotFound, KeyError)
    assert issubclass(chipmink.InvalidName, ValueError)
    assert str(chipmink.NotFound("a sentence")) == "a sentence"
    assert str(pickle.loads(pickle.dumps(chipmink.Corrupt("it")))) == "it"


# ---- stores that are none


def test_a_newer_format(path: Path) -> None:
    with chipmink.open(path) as store:
        store.session("a").save({"x": 1})
    marker = path / "CHIPMINK"
    text = marker.read_text()
    marker.write_text(text.replace("store 1", "store 999"))
    with pytest.raises(chipmink.FormatError, match="newer") as caught:
        chipmink.open(path)
    assert str(path) in str(caught.value)
    marker.write_text(text)
    with chipmink.open(path) as store:
        assert store.session("a").load() == {"x": 1}


def test_a_marker_of_garbage(path: Path) -> None:
    with chipmink.open(path) as store:
        store.session("a").save({"x": 1})
    (path / "CHIPMINK").write_bytes(os.urandom(100))
    with pytest.raises(chipmink.StoreError, match="store"):
        chipmink.open(path)


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(chipmink.StoreError) as caught, chipmink.open(tmp_path) as store:
        store.session("a").save({"x": 1})
    assert str(tmp_path) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(chipmink.StoreError) as caught, chipmink.open(path) as store:
            store.session("a").save({"x": 1})
        assert str(path) in str(caught.value)


# ---- damage


def flip_bit(store: Path, needle: bytes) -> None:
    """Flip one bit of the only record that holds `needle`."""
    hits = 0
    for file in (store / "db").iterdir():
        data = bytearray(file.read_bytes())
        at = data.find(needle)
        if at >= 0:
            data[at + len(needle) // 2] ^= 0x10
            file.write_bytes(data)
            hits += 1
    assert hits == 1


@pytest.fixture(params=[50_000, 9_000_000], ids=["in the log", "in a table"])
def damaged(path: Path, request: pytest.FixtureRequest) -> Path:
    """A store with two checkpoints in which one bit of the variable `bad` is wrong."""
    secret = random.Random(1).randbytes(request.param)
    with chipmink.open(path) as store:
        session = store.session("analysis")
        session.save({"good": [1, 2], "bad": secret, "shared": [3]})
        shared = [3]
        session.save({"good": [shared], "bad": secret, "also": shared})
    flip_bit(path, secret[20_000:20_064])
    return path


def test_damage_names_the_variable_and_spares_the_others(damaged: Path) -> None:
    with chipmink.open(damaged) as store:
        session = store.session("analysis")
        with pytest.raises(chipmink.Corrupt, match=r"analysis@2 is damaged: 'bad'") as caught:
            session.load()
        assert list(caught.value.failed) == ["bad"]
        assert caught.value.loaded == {"good": [[3]], "also": [3]}
        assert caught.value.loaded["good"][0] is caught.value.loaded["also"]
        assert caught.value.__cause__ is caught.value.failed["bad"]
        assert session.load(names=["good", "also"]) == {"good": [[3]], "also": [3]}
        assert session.load(1, names=["good", "shared"]) == {"good": [1, 2], "shared": [3]}
        with pytest.raises(chipmink.Corrupt, match="'bad'"):
            session.load(names=["bad"])


def test_damage_in_an_array(path: Path) -> None:
    np = pytest.importorskip("numpy")
    arrays = np.random.default_rng(1).integers(0, 256, (3, 9_000_000), dtype=np.uint8)
    with chipmink.open(path) as store:
        store.session("analysis").save(dict(zip("abc", arrays, strict=True)))
    flip_bit(path, arrays[1, 20_000:20_064].tobytes())
    with chipmink.open(path) as store:
        with pytest.raises(chipmink.Corrupt, match=r"analysis@1 is damaged: 'b'") as caught:
            store.session("analysis").load()
        assert list(caught.value.failed) == ["b"]
        assert all((caught.value.loaded[name] == arrays["abc".index(name)]).all() for name in "ac")


def test_damage_is_found_by_verify(damaged: Path) -> None:
    with chipmink.open(damaged) as store:
        damage = store.verify().damage
    assert damage
    assert any("bad" in sentence for sentence in damage)
    assert not any("good" in sentence or "also" in sentence for sentence in damage)


def test_a_damaged_store_takes_new_checkpoints(damaged: Path) -> None:
    with chipmink.open(damaged) as store:
        assert store.session("analysis").save({"x": 1}).load() == {"x": 1}
        assert store.session("other").save({"x": 2}).load() == {"x": 2}


def test_a_variable_whose_module_is_gone(
    session: chipmink.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vanishing_module.py").write_text("class C:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import vanishing_module  # type: ignore[import-not-found]

    shared = [1]
    session.save({"a": [shared], "c": vanishing_module.C(), "b": shared})
    (tmp_path / "vanishing_module.py").unlink()
    monkeypatch.delitem(sys.modules, "vanishing_module")
    assert gc.isenabled()
    with pytest.raises(chipmink.LoadError, match=r"'c' \(ModuleNotFoundError") as caught:
        session.load()
    assert gc.isenabled()
    assert not isinstance(caught.value, chipmink.Corrupt)
    assert list(caught.value.loaded) == ["a", "b"]
    assert caught.value.loaded["a"][0] is caught.value.loaded["b"]
    assert isinstance(caught.value.failed["c"], ModuleNotFoundError)


def test_the_collector_stays_off_where_it_was_off(session: chipmink.Session) -> None:
    session.save({"x": [1]})
    gc.disable()
    try:
        session.load()
        assert not gc.isenabled()
    finally:
        gc.enable()
    session.load()
    assert gc.isenabled()


# ---- places that cannot be written


def test_a_full_disk(small_disk: Path) -> None:
    data = random.Random(2).randbytes(1_000_000)
    with chipmink.open(small_disk / "store") as store:
        session = store.session("a")
        session.save({"x": data})
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
        for attempt in range(3):
            with pytest.raises(chipmink.StoreError) as caught:
                session.save({"x": data, "y": random.Random(attempt).randbytes(8_000_000)})
            assert caught.value.errno == errno.ENOSPC
            assert str(small_disk) in str(caught.value)
            assert session.load() == {"x": data}
        filler.unlink()
        saved = session.save({"x": data, "z": 1})
        assert saved.number == 2
        assert session.load() == {"x": data, "z": 1}
    with chipmink.open(small_disk / "store") as store:
        assert store.session("a").load() == {"x": data, "z": 1}
        assert store.verify().damage == ()


def test_a_read_only_file_system(small_disk: Path) -> None:
    path = small_disk / "store"
    with chipmink.open(path) as store:
        store.session("a").save({"x": 1})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with chipmink.open(path) as store:
        with pytest.raises(chipmink.StoreError, match=str(path)):
            store.session("a").save({"x": 2})
        assert store.session("a").load() == {"x": 1}


def test_a_directory_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(chipmink.StoreError) as caught, chipmink.open(tmp_path / "s") as store:
            store.session("a").save({"x": 1})
        assert caught.value.errno == errno.EACCES
    finally:
        tmp_path.chmod(0o700)


# ---- threads


def test_two_threads_saving_at_once(store: chipmink.Store) -> None:
    trouble: list[BaseException] = []
    shared = {"both": [1, 2, 3]}

    def work(name: str) -> None:
        try:
            for i in range(10):
                saved = store.session(name).save({**shared, name: i})
                assert saved.load()[name] == i
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in ("one", "two", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    assert [len(store.session(name).log()) for name in ("one", "two", "three")] == [10, 20, 10]
    parents = [checkpoint.parents for checkpoint in store.session("two").log()]
    assert parents == [(number,) for number in range(19, 0, -1)] + [()]


def test_a_save_inside_a_save(session: chipmink.Session) -> None:
    class Saver:
        def __reduce__(self) -> tuple[object, ...]:
            session.save({"inner": 1})
            return (list, ())

    checkpoint = session.save({"x": 1, "saver": Saver()})
    assert "must not save" in checkpoint.unsaved["saver"]
    assert checkpoint.load() == {"x": 1}
    assert session.save({"x": 2}).number == 2


def test_close_while_others_load(path: Path) -> None:
    data = {"x": [str(i) for i in range(50_000)]}
    store = chipmink.open(path)
    checkpoint = store.session("a").save(data)
    results: list[object] = []

    def load() -> None:
        try:
            results.append(checkpoint.load() == data)
        except chipmink.Error as error:
            results.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    store.close()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


# ---- references


def test_nothing_is_kept_or_lost(session: chipmink.Session) -> None:
    """Once the store is closed, reference counts are as before, whatever became of the saves."""

    class Raises:
        def __reduce__(self) -> str:
            raise RuntimeError("not me")

    class Interrupts:
        def __reduce__(self) -> str:
            raise KeyboardInterrupt

    values = [[1], {"a": object}, "text", b"bytes" * 10_000, Raises(), (i for i in ()), 10**30]
    namespace = {f"v{i}": value for i, value in enumerate(values)}
    before = [sys.getrefcount(value) for value in values]
    session.save(namespace)
    for _ in range(3):
        session.save(namespace).load()
        with pytest.raises(KeyboardInterrupt):
            session.save({**namespace, "last": Interrupts()})
        with pytest.raises(KeyError):
            session.load(names=["v0", "nope"])
    session.save(namespace)
    session.store.close()
    assert [sys.getrefcount(value) for value in values] == before
