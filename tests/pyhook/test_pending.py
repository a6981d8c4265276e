# SPDX-License-Identifier: Apache-2.0
"""Saves that are written while the program goes on: what is saved is what was there at first."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import chipmink
import numpy as np
import pytest
from api_support import find_command
from chipmink import _pending

Start = Callable[..., "Popen[str]"]
COMMAND = find_command()


def noise(seed: int, count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random(count)


def test_what_changes_after_protect_is_not_saved(session: chipmink.Session) -> None:
    random = np.random.default_rng(7)
    arrays = {f"a{i}": noise(i, size) for i, size in enumerate((1000, 70_000, 300_000, 2_000_000))}
    for _ in range(8):
        for array in arrays.values():
            start = random.integers(len(array))
            array[start : start + random.integers(len(array))] += 1
        namespace = {**arrays, "rows": [[i, str(i)] for i in range(1000)]}
        namespace["view"] = namespace["a2"][100:200_000]
        want = {name: np.copy(array) for name, array in arrays.items()}
        pending = session.begin_save(namespace, message="now")
        pending.protect()
        for array in arrays.values():
            array *= -1
        namespace["rows"][3].append("later")
        saved = pending.wait()
        assert saved.message == "now"
        assert pending.done()
        assert pending.protect() == 0  # there is nothing left to do
        loaded = saved.load()
        for name, array in want.items():
            assert np.array_equal(loaded[name], array), name
        assert np.array_equal(loaded["view"], want["a2"][100:200_000])
        assert loaded["rows"] == [[i, str(i)] for i in range(1000)]
        for array in arrays.values():
            array *= -1
    assert session.store.verify().damage == ()


def test_what_does_not_fit_is_waited_for(
    session: chipmink.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pending, "COPY_MOST", 200_000)
    array = noise(1, 1_000_000)
    pending = session.begin_save({"array": array})
    assert pending.protect() <= 200_000
    array[:] = 0
    assert np.array_equal(pending.wait().load()["array"], noise(1, 1_000_000))


def test_objects_are_the_programs_own_again(session: chipmink.Session) -> None:
    array, grows = noise(1, 400_000), bytearray(b"x" * 100_000)
    pending = session.begin_save({"array": array, "grows": grows})
    pending.protect()
    grows.extend(b"y" * 1_000_000)
    array.resize(10, refcheck=True)  # refused if others hold on to it
    loaded = pending.wait().load()
    assert np.array_equal(loaded["array"], noise(1, 400_000))
    assert loaded["grows"] == b"x" * 100_000


def test_the_next_save_waits_for_the_one_before(session: chipmink.Session) -> None:
    pending = [session.begin_save({"array": noise(i, 300_000), "i": i}) for i in range(5)]
    last = session.save({"i": 5})
    assert [p.wait().number for p in pending] == [1, 2, 3, 4, 5]
    assert [p.wait().load(["i"])["i"] for p in pending] == [0, 1, 2, 3, 4]
    assert last.number == 6
    assert repr(pending[0]).startswith("<PendingSave, on disk")


def test_what_did_not_change_is_not_written_again(session: chipmink.Session) -> None:
    namespace = {"rows": [{"i": i} for i in range(20_000)], "array": noise(1, 100_000)}
    session.begin_save(namespace).wait()
    assert session.begin_save(namespace).wait().stats.bytes_written < 1000
    namespace["rows"][7]["i"] = -7
    assert session.begin_save(namespace).wait().stats.bytes_written < 10_000
    assert session.load()["rows"] == namespace["rows"]


def test_wait_gives_up_waiting(session: chipmink.Session) -> None:
    pending = session.begin_save({"array": noise(1, 4_000_000)})
    with contextlib.suppress(TimeoutError):  # or the machine is that fast
        pending.wait(0)
    assert pending.wait(600).number == 1


def test_reading_goes_on(session: chipmink.Session) -> None:
    session.save({"x": 1})
    pending = session.begin_save({"x": 2, "array": noise(1, 2_000_000)})
    assert session.load(1) == {"x": 1}
    assert pending.wait().load(["x"]) == {"x": 2}


def test_threads_wait_and_protect(session: chipmink.Session) -> None:
    array = noise(3, 1_000_000)
    for _ in range(5):
        array += 1
        want = array.copy()
        pending = session.begin_save({"array": array})
        found: list[chipmink.Checkpoint] = []
        threads = [
            threading.Thread(target=lambda p=pending, f=found: f.append(p.wait())) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        pending.protect()
        array[:] = 0
        for thread in threads:
            thread.join()
        assert found[0] is found[1] is found[2]
        assert np.array_equal(found[0].load()["array"], want)
        array[:] = want


def test_close_and_exit_wait_for_it(path: Path, python: Start) -> None:
    with chipmink.open(path) as store:
        store.session("s").begin_save({"array": noise(1, 2_000_000)})
    script = """
        import sys, chipmink, numpy
        session = chipmink.open(sys.argv[1]).session("s")
        session.begin_save({"array": numpy.random.default_rng(2).random(2_000_000)})
    """
    assert python(script, path).wait() == 0
    with chipmink.open(path) as store:
        first, second = reversed(store.session("s").log())
        assert np.array_equal(first.load()["array"], noise(1, 2_000_000))
        assert np.array_equal(second.load()["array"], noise(2, 2_000_000))


def test_ctrl_c_ends_the_waiting_only(session: chipmink.Session) -> None:
    pending = session.begin_save({"array": noise(1, 3_000_000)})
    timer = threading.Timer(0.001, signal.raise_signal, (signal.SIGINT,))
    with contextlib.suppress(KeyboardInterrupt):
        timer.start()
        pending.wait()
        timer.join()
    assert np.array_equal(pending.wait().load()["array"], noise(1, 3_000_000))


def test_a_fork_leaves_it_to_its_parent(session: chipmink.Session) -> None:
    pending = session.begin_save({"array": noise(1, 2_000_000)})
    child = os.fork()
    if child == 0:
        try:
            pending.wait()
        except chipmink.StoreError as error:
            os._exit(0 if "save was begun by" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert pending.wait().number == 1


def test_what_fails_is_told(path: Path, session: chipmink.Session) -> None:
    first = session.save({"x": 1})
    limit = resource.RLIMIT_FSIZE
    before = resource.getrlimit(limit)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(limit, (1_000_000, before[1]))
        pending = session.begin_save({"array": noise(1, 4_000_000)})
        pending.protect()
        with pytest.raises(chipmink.StoreError):
            pending.wait()
        with pytest.raises(chipmink.StoreError):  # each time it is asked
            pending.wait()
        assert "failed" in repr(pending)
    finally:
        resource.setrlimit(limit, before)
        signal.signal(signal.SIGXFSZ, handler)
    session.store.close()
    with chipmink.open(path) as again:
        head = again.session("analysis").head
        assert head is not None
        assert head.number == first.number
        array = noise(1, 4_000_000)
        assert np.array_equal(again.session("analysis").save({"a": array}).load()["a"], array)


# ---- served


@pytest.fixture
def _served(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if COMMAND is None:
        pytest.skip("the chipmink command is not built")
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "0")
    monkeypatch.setenv("CHIPMINK_COMMAND", str(COMMAND))
    yield
    subprocess.run([str(COMMAND), "stop", "--store", str(path)], check=True)


def kill_server(path: Path) -> None:
    os.kill(int((path / "writer.lock").read_text().split()[1]), signal.SIGKILL)


@pytest.mark.usefixtures("_served")
def test_a_server_that_dies_meanwhile(path: Path) -> None:
    session = chipmink.open(path).session("s")
    session.save({"i": -1})
    lost = 0
    for i in range(6):
        array = noise(i, 1_500_000)
        pending = session.begin_save({"array": array, "i": i})
        protected = i % 2 == 1
        if protected:
            pending.protect()
            array[:] = 0
        kill_server(path)
        try:
            saved = pending.wait()
        except chipmink.StoreError:
            assert protected  # what had not changed was saved again
            lost += 1
            continue
        assert np.array_equal(saved.load()["array"], noise(i, 1_500_000))
        assert session.load(names=["i"]) == {"i": i}
    assert len(session.log()) == 7 - lost
    assert session.save({"i": 6}).load() == {"i": 6}
    assert session.store.verify().damage == ()


@pytest.mark.usefixtures("_served")
def test_a_failure_nobody_asked_for_is_told(path: Path) -> None:
    session = chipmink.open(path).session("s")
    session.save({"i": -1})
    pending = session.begin_save({"array": noise(1, 8_000_000)})
    pending.protect()
    kill_server(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        session.save({"i": 1})
    said = any("a save has failed that was begun before" in str(w.message) for w in told)
    assert said == ("failed" in repr(pending))
    assert session.load() == {"i": 1}
