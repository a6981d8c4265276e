# SPDX-License-Identifier: Apache-2.0
"""What is written depends on the objects alone: not on hash seeds, interning or history."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chipmink
import pytest

PROGRAM = r'''
import abc, collections, dataclasses, datetime, decimal, enum, functools, os.path, sys, typing
import chipmink

VALUE = 3

class Meta(type):
    pass

class Base(abc.ABC):
    """Documented, and more than that: a text that is far too long to be repeated.""" * 5
    table = {"x": {1, 2, "three"}}

    @abc.abstractmethod
    def f(self): ...

class Derived(Base, metaclass=type("Both", (Meta, abc.ABCMeta), {})):
    names = frozenset(["alpha", "beta", "gamma", "delta"])
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b, self.c = 1, {"set": {"p", "q", "r", "s"}}, self

    def f(self):
        return VALUE

    def g(self, x: int = 5, *, y: str = "y") -> str:
        return x in {"u", "v", "w"} or os.path.join("a", "b")

for cls in (dict, list, tuple, set):
    Base.register(cls)

class Color(enum.Enum):
    RED = 1
    GREEN = 2

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: str = "y"

class Pair(typing.NamedTuple):
    a: int
    b: str

@functools.lru_cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

T = typing.TypeVar("T")

def make():
    count = [0]
    def bump():
        count[0] += 1
        return count
    return bump

def make_same(n):
    class Same:
        value = n
    return Same

def namespace():
    derived = Derived()
    setattr(derived, "".join(["not ", "interned"]), 1)
    made = dict(
        derived=derived, Derived=Derived, Base=Base, Color=Color, Point=Point, Pair=Pair, T=T,
        fibonacci=fibonacci, bump=make(), same=[make_same(i) for i in range(4)],
        sets=[
            {"a", "b", "c", "d"}, {1.5, "x", None, (1, "k"), b"y", 2**70, -1},
            {int, str, len, Color.RED},
            {Point(1), Point(2, "z")}, {datetime.date(2020, 1, i) for i in range(1, 20)},
            {decimal.Decimal(i) for i in range(9)}, {frozenset(["m", "n"]), frozenset("op")},
            {Pair(1, "x"), Pair(2, "y")}, {Color.RED, Color.GREEN}, {Derived, Base, Color},
        ],
        big_set={f"key{i}" for i in range(5000)},
        big_dict={f"k{i}": [i, str(i), {"i", "j", i}] for i in range(5000)},
        anonymous=lambda x: x + VALUE, counter=collections.Counter("abracadabra"),
        values=[
            Color.RED, Point(1), Pair(1, "x"), 1j, 2**100, "x" * 300, "x" * 300, "ab",
            "".join("ab"),
        ],
    )
    try:
        import numpy as np, pandas as pd
    except ImportError:
        return made
    random = np.random.default_rng(1)
    made.update(
        array=random.random((100, 100)), generator=random,
        objects=np.array([{"a", "b"}, "t"] * 9, object),
        frame=pd.DataFrame({
            "a": random.random(1000), "s": [f"t{i % 9}" for i in range(1000)],
            "c": pd.Categorical(list("abcd") * 250), "t": pd.date_range("2020", periods=1000),
        }),
        grouped=pd.DataFrame({"k": list("ab") * 5, "v": range(10)}).groupby("k").sum(),
        stamps={pd.Timestamp(2020, 1, i) for i in range(1, 9)},
    )
    return made

path, session, what = sys.argv[1:4]
with chipmink.open(path) as store:
    values = namespace() if what == "make" else store.session(what).load()
    checkpoint = store.session(session).save(values)
    assert not checkpoint.unsaved, checkpoint.unsaved
    print(checkpoint.stats["pods"], checkpoint.stats["pods_new"])
'''


def test_two_processes_write_the_same_and_so_does_what_was_loaded(
    path: Path, python: Callable[..., Any]
) -> None:
    runs = [("one", "make"), ("two", "make"), ("three", "one"), ("four", "three")]
    results = []
    for seed, (session, what) in enumerate(runs):
        process = python(
            PROGRAM, path, session, what, env={**os.environ, "PYTHONHASHSEED": str(seed)}
        )
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0
        results.append([int(number) for number in output.split()])
    assert results[0][0] == results[0][1] > 10
    assert results[1:] == [[results[0][0], 0]] * 3
    with chipmink.open(path) as store:
        contents = [
            {name: v.content for name, v in store.session(session).log()[0].variables.items()}
            for session, _ in runs
        ]
    assert contents[0] == contents[1] == contents[2] == contents[3]


def contents(session: chipmink.Session, value: Any) -> str:
    checkpoint = session.save({"value": value})
    assert checkpoint.unsaved == {}
    return checkpoint.variables["value"].content


def fresh(text: str) -> str:
    """Give an equal str that is another object."""
    return "".join(list(text))


def test_interning_and_identity_of_small_values_do_not_show(session: chipmink.Session) -> None:
    key, data = sys.intern("some key"), b"some bytes"
    shared = [{key: data, "n": 10**10}, {key: data, "n": 10**10}]
    apart = [{fresh(key): bytes(bytearray(data)), "n": int("10000000000")} for _ in range(2)]
    assert contents(session, shared) == contents(session, apart)
    pair = ("a", "b")  # one tuple twice is another graph than two equal ones
    assert contents(session, [pair, pair]) != contents(session, [pair, tuple("ab")])


def test_attributes_set_in_any_way(session: chipmink.Session) -> None:
    class Thing:
        pass

    one, two = Thing(), Thing()
    one.first, one.second = 1, 2  # type: ignore[attr-defined]
    two.__dict__.update({fresh("first"): 1, fresh("second"): 2})
    assert contents(session, [one, Thing]) == contents(session, [two, Thing])


def test_the_history_of_a_set_does_not_show(session: chipmink.Session) -> None:
    grown: set[Any] = set(range(1000)) | {"x", ("y", 1), None}
    for i in range(10, 1000):
        grown.discard(i)
    for plain in (set(range(10)), frozenset(range(10))):
        both = plain | {None, ("y", 1), "x"}
        assert contents(session, both) == contents(session, type(plain)(grown))


def test_other_variables_do_not_show(session: chipmink.Session) -> None:
    value = {"a": [1, 2], "b": ["x"] * 3000, "c": {"d": b"z" * 5000}}
    alone = session.save({"value": value})
    along = session.save({"first": [1, 2], "text": "x", "value": value, "last": ["x"] * 3000})
    assert along.variables["value"].content == alone.variables["value"].content
    assert along.stats["pods_new"] < along.stats["pods"]
    assert session.save({"value": value}).stats["pods_new"] == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("<ipython-input-3-0123456789ab>", "<ipython-input-17-0123456789ab>"),
        ("/tmp/ipykernel_123/4567.py", "/tmp/ipykernel_99/4567.py"),
        ("/var/folders/x/ipykernel_123/4567.py", "/tmp/ipykernel_1/4567.py"),
        ("C:\\Temp\\ipykernel_123\\4567.py", "/tmp/ipykernel_1/4567.py"),
    ],
)
def test_names_of_cells_do_not_show(session: chipmink.Session, first: str, second: str) -> None:
    def define(filename: str) -> Any:
        source = "def f(x):\n    def g():\n        return x\n    return g\nclass C:\n    m = f\n"
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, filename, "exec"), namespace)
        return namespace["f"]

    assert contents(session, define(first)) == contents(session, define(second))
    assert contents(session, define("/home/me/a.py")) != contents(session, define("/home/me/b.py"))
    loaded = session.load()["value"]
    assert loaded.__code__.co_filename == "/home/me/b.py"


def test_an_unchanged_namespace_costs_a_checkpoint_record(session: chipmink.Session) -> None:
    namespace: dict[str, Any] = {
        f"list{i}": [f"element {i} {j}" for j in range(300)] for i in range(100)
    }
    namespace["rows"] = [{"i": i, "text": str(i)} for i in range(20_000)]
    namespace["function"] = lambda x: x
    session.save(namespace)
    for _ in range(3):
        stats = session.save(namespace).stats
        assert stats["pods_new"] == 0
        assert stats["bytes_written"] < 1000


def test_appending_and_inserting_rewrite_few_fragments(session: chipmink.Session) -> None:
    rows = [{"id": i * 7919 % 100_003, "text": f"row {i}"} for i in range(50_000)]
    pods = session.save({"rows": rows}).stats["pods"]
    assert pods > 10
    rows.append({"id": -1, "text": "last"})
    assert session.save({"rows": rows}).stats["pods_new"] <= 2
    rows[25_000] = {"id": -2, "text": "middle"}
    assert session.save({"rows": rows}).stats["pods_new"] <= 3
    loaded = session.load()["rows"]
    assert loaded == rows


SETS = r"""
import sys, weakref
import chipmink

class Point:
    def __init__(self, x): self.x = x

class Large:
    def __init__(self, n): self.n = n

for i in range(200):
    setattr(Large, f"method_{i}", lambda self, i=i: i)

class Slots:
    __slots__ = ("a", "b")
    def __init__(self, a, b): self.a, self.b = a, b

class Ring:
    def __init__(self, name): self.name, self.me, self.names = name, self, {name, "z", "y"}

class Refusing:
    def __reduce_ex__(self, protocol): raise TypeError("not this one")

def make(n):
    def add(x, more={"p", "q"}): return x + n
    class Local:
        value = n
    return add, Local

path, session = sys.argv[1:3]
kept = [Point(i) for i in range(50)]
parts = [make(i) for i in range(20)]
values = dict(
    instances=set(kept), weak=[kept, weakref.WeakSet(kept)],
    large={Large(i) for i in range(50)},
    nested={Point([Point({"k": (i, Point(i))})]) for i in range(20)},
    slots={Slots(i, {str(i), "x", "y"}) for i in range(20)},
    rings={Ring(str(i)) for i in range(20)},
    functions={part[0] for part in parts}, classes={part[1] for part in parts},
    lambdas={lambda: 1, lambda: 2, lambda: "three", lambda x: x, lambda *, x=1: x},
    methods={point.__init__ for point in kept}, bad={Refusing()},
)
with chipmink.open(path) as store:
    checkpoint = store.session(session).save(values)
    assert list(checkpoint.unsaved) == ["bad"], checkpoint.unsaved
    print(*(v.content for v in checkpoint.variables.values()))
"""


def test_sets_are_ordered_by_what_their_elements_hold(
    path: Path, python: Callable[..., Any]
) -> None:
    results = []
    for seed in range(3):
        process = python(SETS, path, f"s{seed}", env={**os.environ, "PYTHONHASHSEED": str(seed)})
        results.append(process.communicate(timeout=120)[0].split())
        assert process.returncode == 0
    assert len(results[0]) == 10
    assert results[0] == results[1] == results[2]
