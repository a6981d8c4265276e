# SPDX-License-Identifier: Apache-2.0
"""The walker and what must not hurt it: unpicklable values, hostile reducers, changes, Ctrl-C."""

from __future__ import annotations

import copyreg
import gc
import os
import pickle
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import chipmink
import pytest


class Calls:
    """Reduces by calling a function, which may return junk or raise."""

    def __init__(self, reduce: Callable[[], Any]) -> None:
        self.reduce = reduce

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.reduce()


def fail(error: BaseException) -> Any:
    raise error


class StateFails:
    def __getstate__(self) -> Any:
        raise ValueError("no state today")


class BadGetattr:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"asked for {name}")


class LyingClass:
    __class__ = int  # type: ignore[assignment]


class BadStr(Exception):
    def __str__(self) -> str:
        raise ValueError("no text either")


def forever() -> Any:
    return list, ([Calls(forever)],)


def forever_in_state() -> Any:
    return Calls, (None,), {"again": Calls(forever_in_state)}


class InItself:
    def __reduce__(self) -> Any:
        return InItself, (self,)


class InItselfFarAway:
    def __init__(self) -> None:
        self.chain = self
        for _ in range(100):
            self.chain = Calls(lambda inner=self.chain: (list, (inner,)))  # type: ignore[assignment,misc]

    def __reduce__(self) -> Any:
        return InItselfFarAway, (self.chain,)


LOCK = threading.Lock()

UNPICKLABLE: dict[str, tuple[Any, str]] = {
    "generator": ((i for i in ()), "cannot pickle 'generator' object"),
    "lock": (LOCK, "cannot pickle '_thread.lock' object"),
    "frame": (sys._getframe(), "frame"),
    "weakref": (weakref.ref(Calls), "weakref"),
    "raises": (Calls(lambda: fail(ValueError("boom"))), "ValueError: boom"),
    "raises_badly": (Calls(lambda: fail(BadStr())), "BadStr"),
    "none": (Calls(lambda: None), "must return a string or tuple"),
    "number": (Calls(lambda: 5), "must return a string or tuple"),
    "unknown_name": (Calls(lambda: "no such name"), "not found as"),
    "other_name": (Calls(lambda: "UNPICKLABLE"), "not the same object"),
    "empty": (Calls(lambda: ()), "2 through 6"),
    "one": (Calls(lambda: (list,)), "2 through 6"),
    "seven": (Calls(lambda: (list, (), *[None] * 5)), "2 through 6"),
    "not_callable": (Calls(lambda: (5, ())), "must be callable"),
    "no_arguments": (Calls(lambda: (list, [])), "must be a tuple"),
    "null_arguments": (Calls(lambda: (list, None)), "must be a tuple"),
    "no_iterator": (Calls(lambda: (list, (), None, [1])), "must be an iterator"),
    "no_pairs": (Calls(lambda: (dict, (), None, None, iter([1]))), "2-tuples"),
    "odd_pairs": (Calls(lambda: (dict, (), None, None, iter([(1, 2, 3)]))), "2-tuples"),
    "bad_iterator": (Calls(lambda: (list, (), None, (fail(OSError("x")) for _ in "a"))), "OSError"),
    "no_setter": (Calls(lambda: (list, (), 1, None, None, 5)), "must be a function"),
    "newobj_empty": (Calls(lambda: (copyreg.__newobj__, ())), "arglist is empty"),
    "newobj_other": (Calls(lambda: (copyreg.__newobj__, (int,))), "wrong class"),
    "newobj_none": (Calls(lambda: (copyreg.__newobj__, (5,))), "not a type"),
    "newobj_ex": (Calls(lambda: (copyreg.__newobj_ex__, (int, ()))), "exactly 3"),
    "state_fails": (StateFails(), "no state today"),
    "getattr_fails": (BadGetattr(), "asked for"),
    "lying_class": (LyingClass(), "wrong class"),
    "forever": (Calls(forever), "RecursionError"),
    "forever_in_state": (Calls(forever_in_state), "RecursionError"),
    "in_itself": (InItself(), "RecursionError"),
    "in_itself_far_away": (InItselfFarAway(), "RecursionError"),
    "strided": (pickle.PickleBuffer(memoryview(bytes(10))[::2]), "non-contiguous"),
}


@pytest.mark.parametrize("name", UNPICKLABLE)
def test_what_cannot_be_pickled_is_listed_and_the_rest_saved(
    session: chipmink.Session, name: str
) -> None:
    value, reason = UNPICKLABLE[name]
    before, after = [1], [2] * 3000
    namespace = {
        "before": before,
        "alone": value,
        "inside": [before, after, {"key": [value]}, 5],
        "in_big_list": [*range(3000), [after], value, 1],
        "after": {"before": before, "after": after},
    }
    checkpoint = session.save(namespace)
    assert list(checkpoint.unsaved) == ["alone", "inside", "in_big_list"]
    for text in checkpoint.unsaved.values():
        assert reason in text
    loaded = session.load()
    assert loaded == {"before": [1], "after": {"before": [1], "after": [2] * 3000}}
    assert loaded["after"]["before"] is loaded["before"]


def test_reasons_say_where(session: chipmink.Session) -> None:
    holder = Calls(lambda: None)
    holder.__class__ = Holder
    holder.__dict__ = {"items": {"a": [1, (2, LOCK)], 5: 6}}
    namespace = {"x": holder, "y": [LOCK], "z": {("k", 1): LOCK}}
    unsaved = session.save(namespace).unsaved
    reason = "TypeError: cannot pickle '_thread.lock' object (in {})"
    assert unsaved["x"] == reason.format("x.items['a'][1][1]")
    assert unsaved["y"] == reason.format("y[0]")
    assert unsaved["z"] == reason.format("z[a tuple]")


class Holder:
    pass


def test_open_sockets_and_files(session: chipmink.Session, tmp_path: Any) -> None:
    with socket.socket() as connection, open(tmp_path / "f", "w") as file:
        unsaved = session.save({"s": connection, "f": file, "x": 1}).unsaved
    assert set(unsaved) == {"s", "f"}
    assert session.load() == {"x": 1}


def test_a_reducer_that_is_interrupted_ends_the_save(session: chipmink.Session) -> None:
    session.save({"x": 1})
    for error in (KeyboardInterrupt(), SystemExit(3), MemoryError()):
        with pytest.raises(type(error)):
            session.save({"x": 2, "bad": [Calls(lambda error=error: fail(error))]})
        assert session.load() == {"x": 1}
    assert session.save({"x": 3}).number == 2


# ---- changes during the walk --------------------------------------------------------------------


def test_containers_that_change_while_they_are_walked(session: chipmink.Session) -> None:
    def changing(container: Any, change: Callable[[Any], None]) -> Any:
        def reduce() -> Any:
            change(container)
            gc.collect()
            return tuple, ()

        return Calls(reduce)

    shrinking: list[Any] = [[0], None, *([i] for i in range(5000))]
    shrinking[1] = changing(shrinking, list.clear)
    growing: list[Any] = [[0], None]
    growing[1] = changing(growing, lambda c: c.extend([i] for i in range(5000)))
    single: list[Any] = [None]
    single[0] = changing(single, lambda c: c.extend([1, 2]))
    emptied: dict[Any, Any] = {i: [i] for i in range(3000)}
    emptied[5] = changing(emptied, dict.clear)
    replaced: dict[Any, Any] = {i: [i] for i in range(10)}
    replaced[5] = changing(replaced, lambda c: c.update({k: [k, k] for k in c}))
    by_key: dict[Any, Any] = {}
    by_key[changing(by_key, dict.clear)] = [7] * 5
    by_key["more"] = 1
    elements: set[Any] = set(range(50))
    elements.add(changing(elements, set.clear))
    namespace = {
        name: value for name, value in locals().items() if name not in ("session", "changing")
    }
    checkpoint = session.save(namespace)
    loaded = session.load()
    assert loaded["shrinking"] == [[0], ()]
    assert len(loaded["growing"]) == 5002
    assert loaded["single"] == [(), 1, 2]
    for name in ("emptied", "by_key"):
        assert "dictionary changed size during iteration" in checkpoint.unsaved[name]
    assert loaded["replaced"][5] == ()
    assert loaded["replaced"][9] in ([9], [9, 9])
    assert set(checkpoint.unsaved) == {"emptied", "by_key"}
    assert loaded["elements"] == {*range(50), ()}  # of a set, what was in it at first is saved


def test_state_that_changes_while_it_is_walked(session: chipmink.Session) -> None:
    class Node:
        pass

    node: Any = Node()
    node.first = Calls(lambda: (node.__dict__.clear(), list, ())[1:])
    node.second = [1]
    unsaved = session.save({"node": node}).unsaved
    assert "dictionary changed size" in unsaved["node"]


def test_other_threads_change_what_is_walked(session: chipmink.Session) -> None:
    namespace: dict[str, Any] = {
        "lists": [[i] for i in range(3000)],
        "dict": {i: [i] for i in range(3000)},
        "slow": [Calls(lambda: (time.sleep(0.0005), list, ())[1:]) for _ in range(20)],
    }
    namespace["mixed"] = [namespace["slow"], *namespace["lists"]]
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            namespace["lists"][:] = [[i] for i in range(2000 + int(time.time() * 1e6) % 2000)]
            time.sleep(0.001)
            namespace["dict"].pop(next(iter(namespace["dict"])), None)
            namespace["dict"][time.time()] = [1]
            namespace["mixed"].reverse()

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            checkpoint = session.save(namespace)
            for reason in checkpoint.unsaved.values():
                assert "changed size" in reason
            session.load()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_temporaries_do_not_come_to_be_mistaken_for_each_other(session: chipmink.Session) -> None:
    class Fresh:
        """Every state is a new object, whose address the next one would get if it died."""

        def __init__(self, i: int) -> None:
            self.i = i

        def __reduce__(self) -> Any:
            return list, ([self.i, {"i": (self.i, [self.i])}],)

    values = [Fresh(i) for i in range(5000)]
    loaded = session.save({"values": values}) and session.load()["values"]
    assert loaded == [[i, {"i": (i, [i])}] for i in range(5000)]


def test_an_object_that_dies_in_the_walk_is_kept(session: chipmink.Session) -> None:
    lists: list[Any] = [[i] for i in range(100)]
    lists.insert(50, Calls(lambda: (lists.__delitem__(slice(0, 40)), list, ([[5] * 3],))[1:]))
    session.save({"lists": lists, "same": lists})
    loaded = session.load()
    assert loaded["lists"] is loaded["same"]
    assert len({id(item) for item in loaded["lists"]}) == len(loaded["lists"])


# ---- Ctrl-C -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_ctrl_c_stops_the_walk(session: chipmink.Session) -> None:
    session.save({"x": 1})
    big = {
        "ints": list(range(3_000_000)),
        "rows": [{"i": i, "l": [i]} for i in range(200_000)],
        "text": [str(i) for i in range(500_000)],
    }
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)  # as Ctrl-C does
    try:
        for name, value in big.items():
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            with pytest.raises(KeyboardInterrupt):
                session.save({name: value})
            assert session.load() == {"x": 1}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert session.save({"x": 2}).unsaved == {}
    assert session.load() == {"x": 2}


# ---- references ---------------------------------------------------------------------------------


class Tracked:
    def __init__(self) -> None:
        self.attributes = {"a": [1]}


def everything() -> dict[str, Any]:
    local = [1]

    def closure() -> list[int]:
        return local

    class Local:
        attribute = (1, 2)

        def method(self) -> Any:
            return closure

    return {
        "list": [[i] for i in range(3000)],
        "dict": {f"key {i}": (i, str(i)) for i in range(3000)},
        "set": {*range(100), "a", b"b", (1, 2), frozenset({3})},
        "texts": ["x" * 5000, "\u20ac" * 5000, b"y" * 5000, bytearray(5000), 2**200],
        "buffers": [pickle.PickleBuffer(bytearray(10_000)), pickle.PickleBuffer(b"small")],
        "tracked": [Tracked() for _ in range(50)],
        "code": [closure, Local, Local(), len, os.path.join, os],
        "failing": [Tracked(), *UNPICKLABLE.values()],
        "lock": [[1], {"x": LOCK}],
    }


def test_nothing_is_leaked(session: chipmink.Session) -> None:
    namespace = everything()
    marks = [object() for _ in range(20)]
    for i, mark in enumerate(marks):
        namespace[f"mark {i}"] = Calls(lambda mark=mark: (list, (), {"fails": (mark, LOCK)}))

    watched: list[Any] = [*marks, *namespace.values(), Tracked, LOCK, pickle.PicklingError]
    for value in namespace.values():
        watched.extend(value if isinstance(value, (list, set, dict)) else ())
    counted = [x for x in watched if not isinstance(x, (int, str, bytes)) and type(x) is not tuple]
    common = (None, (), int, list, tuple, "__reduce_ex__", "__name__")  # used by everybody

    def references(objects: Iterable[Any]) -> list[int]:
        gc.collect()
        return [sys.getrefcount(x) for x in objects]

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    for _ in range(3):
        session.save(namespace)
    before, before_common, count = references(counted), references(common), objects()
    for _ in range(60):
        session.save(namespace)
    after, after_common, grown = references(counted), references(common), objects()
    changed = [(x, b, a) for x, b, a in zip(counted, before, after, strict=True) if a != b]
    assert changed == []
    for x, y in zip(before_common, after_common, strict=True):
        assert abs(x - y) < 50  # a reference lost per save would show 60 times
    assert abs(grown - count) < 50


def test_a_save_lets_go_of_everything(session: chipmink.Session) -> None:
    tracked = Tracked()
    died = weakref.ref(tracked)
    memory = bytearray(10_000)
    session.save({"t": [tracked], "buffer": pickle.PickleBuffer(memory), "own": memory})
    del tracked
    gc.collect()
    assert died() is None
    memory.extend(b"x")  # no export is left
