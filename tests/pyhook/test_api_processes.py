# SPDX-License-Identifier: Apache-2.0
"""Several processes on one store, forks, Ctrl-C, and sudden death."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import chipmink
import pytest
from api_support import INTERRUPTED, WALKING, WRITING, finish

Start = Callable[..., "Popen[str]"]


def answer(process: Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


# ---- two processes


WRITER = """
    import sys, chipmink
    with chipmink.open(sys.argv[1]) as store:
        session = store.session("a")
        for i, line in enumerate(sys.stdin, 1):
            print(session.save({"x": i}).number, flush=True)
"""


def test_a_second_writer_is_told_who_writes(path: Path, python: Start) -> None:
    with python(WRITER, path) as writer:
        assert writer.stdin is not None
        print(file=writer.stdin, flush=True)
        assert answer(writer) == "1"
        with chipmink.open(path) as store:
            session = store.session("a")
            assert session.load() == {"x": 1}  # reading is free
            with pytest.raises(chipmink.Busy) as caught:
                session.save({"x": "mine"})
            assert str(writer.pid) in str(caught.value)
            assert str(path) in str(caught.value)
            for use in (lambda: session.tag("t"), lambda: session.checkout(1)):
                with pytest.raises(chipmink.Busy):
                    use()
            assert session.load() == {"x": 1}
            writer.stdin.close()
            assert writer.wait(60) == 0
            assert session.save({"x": "mine"}).number == 2


def test_a_reader_follows_a_writer(path: Path, python: Start) -> None:
    with python(WRITER, path) as writer:
        assert writer.stdin is not None
        print(file=writer.stdin, flush=True)
        answer(writer)
        with chipmink.open(path) as store:
            for i in range(2, 30):
                print(file=writer.stdin, flush=True)
                assert answer(writer) == str(i)
                assert store.session("a").load() == {"x": i}
                assert [c.number for c in store.session("a").log()] == list(range(i, 0, -1))
        writer.stdin.close()


# ---- forks


def test_a_forked_child_is_refused_with_a_sentence(path: Path, python: Start) -> None:
    script = """
        import os, sys, chipmink
        store = chipmink.open(sys.argv[1])
        session = store.session("a")
        checkpoint = session.save({"x": [1]})
        child = os.fork()
        if not child:
            uses = (lambda: session.save({"x": 2}), session.load, store.sessions, store.verify,
                    lambda: session.tag("t"), checkpoint.load)
            for use in uses:
                try:
                    print("used:", use(), flush=True)
                except chipmink.StoreError as error:
                    print("refused:", error, flush=True)
            with chipmink.open(sys.argv[1]) as own:
                print(own.session("a").load(), flush=True)
            sys.exit(0)  # the interpreter ends as usual, with the parent's objects in it
        assert os.waitpid(child, 0)[1] == 0
        print(session.save({"x": [3]}).number, session.load())
        store.close()
    """
    lines = finish(python(script, path))
    assert lines[-2:] == ["{'x': [1]}", "2 {'x': [3]}"]
    assert len(lines) == 8
    for line in lines[:6]:
        assert line.startswith("refused:")
        assert "fork" in line
    with chipmink.open(path) as store:
        assert store.session("a").load() == {"x": [3]}
        assert store.verify().damage == ()


def test_multiprocessing_by_fork_with_an_open_store(path: Path, python: Start) -> None:
    script = """
        import multiprocessing, sys, chipmink
        def double(x):
            return 2 * x
        store = chipmink.open(sys.argv[1])
        store.session("a").save({"x": 1})
        with multiprocessing.get_context("fork").Pool(2) as pool:
            result = pool.map(double, range(100))
        print(store.session("a").save({"result": result}).number)
    """
    assert finish(python(script, path)) == ["2"]
    with chipmink.open(path) as store:
        assert store.session("a").load() == {"result": [2 * x for x in range(100)]}


# ---- Ctrl-C


@pytest.mark.parametrize("make", [WALKING, WRITING], ids=["walking", "writing"])
def test_ctrl_c_during_a_save(path: Path, python: Start, make: str) -> None:
    lines = finish(python(INTERRUPTED.format(make=make), path))
    assert lines == ["interrupted", "{'x': 1}", "{'x': 2}", "True ()"]


def test_ctrl_c_in_the_middle_of_a_variable(session: chipmink.Session) -> None:
    class Interrupts:
        def __reduce__(self) -> tuple[object, ...]:
            signal.raise_signal(signal.SIGINT)
            return (list, ())

    session.save({"x": 1})
    with pytest.raises(KeyboardInterrupt):
        session.save({"x": 2, "y": [Interrupts()], "z": 3})
    assert session.load() == {"x": 1}
    assert session.save({"x": 3}).number == 2


# ---- kill -9


SAVER = """
    import os, random, sys
    import chipmink
    store = chipmink.open(sys.argv[1])
    session = store.session("a")
    number = session.head.number if session.head else 0
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        number += 1
        data = random.Random(number)
        namespace = {
            "number": number,
            "bytes": data.randbytes(120_000),
            "list": [str(data.random()) for _ in range(200)],
            "kept": list(range(1000)),
        }
        assert session.save(namespace, message=str(number)).number == number
        print(number, flush=True)
"""


def expected(number: int) -> dict[str, object]:
    data = random.Random(number)
    return {
        "number": number,
        "bytes": data.randbytes(120_000),
        "list": [str(data.random()) for _ in range(200)],
        "kept": list(range(1000)),
    }


def test_kill_at_any_moment(path: Path, python: Start) -> None:
    """Fifty times: what was acknowledged loads and verifies, whatever the save was doing."""
    chance = random.Random(9)
    acknowledged = 0
    duration = 0.01  # of a save, as seen last
    for _ in range(50):
        saver = python(SAVER, path)
        numbers = []
        try:
            assert answer(saver) == "ready"
            assert saver.stdin is not None
            print(file=saver.stdin, flush=True)
            for _ in range(chance.randrange(4)):
                begin = time.perf_counter()
                numbers.append(int(answer(saver)))
                duration = time.perf_counter() - begin
            time.sleep(chance.uniform(0, 1.5 * duration))
        finally:
            saver.kill()
            assert saver.stdout is not None
            out = saver.stdout.read()  # not communicate(): that passes over what was read ahead
            saver.wait()
        numbers += map(int, out.split())
        assert numbers == list(range(acknowledged + 1, acknowledged + 1 + len(numbers)))
        acknowledged += len(numbers)
        with chipmink.open(path) as store:
            session = store.session("a")
            head = session.head
            last = head.number if head else 0
            # The save that was cut off is there whole, or not at all.
            assert last in (acknowledged, acknowledged + 1)
            for number in {acknowledged, last} - {0}:
                assert session.load(number) == expected(number)
            if last:
                assert store.verify().damage == ()
            acknowledged = last
    assert acknowledged > 50
