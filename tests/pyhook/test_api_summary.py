# SPDX-License-Identifier: Apache-2.0
"""Type names and summaries: short, stable, and safe on any object."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import os
import types
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from chipmink._summary import describe


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Colour(enum.Enum):
    RED = 1


class Empty:
    pass


def function(first: int, *rest: int, key: int = 1, **more: int) -> None:
    """Do it.

    At length.
    """


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("NoneType", "None")),
        (True, ("bool", "True")),
        (42, ("int", "42")),
        (10**1000, ("int", "<int of 3322 bits>")),
        (1.5, ("float", "1.5")),
        ("text", ("str", "'text'")),
        ("x" * 70, ("str", "length 70\n'" + "x" * 60 + "'...")),
        ("\ud800\0", ("str", r"'\ud800\x00'")),
        (b"\0\1", ("bytes", r"b'\x00\x01'")),
        (bytearray(100), ("bytearray", f"length 100\n{bytearray(60)!r}...")),
        ([1, [2, [3]]], ("list", "length 2\n[1, [2, <list>]]")),
        (list(range(100)), ("list", "length 100\n[0, 1, 2, 3, 4, 5, ...]")),
        ((1,), ("tuple", "length 1\n(1,)")),
        ({"a": 1}, ("dict", "length 1\n{'a': 1}")),
        ({3, 1, 2}, ("set", "length 3\n{1, 2, 3}")),
        (set(range(7)), ("set", "length 7\n{...}")),
        (range(3), ("range", "range(0, 3)")),
        (collections.deque([1]), ("collections.deque", "length 1\n[1]")),
        (collections.Counter("aab"), ("collections.Counter", "length 2\n{'a': 2, 'b': 1}")),
        (datetime.date(2020, 1, 2), ("datetime.date", "datetime.date(2020, 1, 2)")),
        (decimal.Decimal("1.50"), ("decimal.Decimal", "1.50")),
        (fractions.Fraction(1, 3), ("fractions.Fraction", "1/3")),
        (math, ("module", "math")),
        (Empty(), (f"{__name__}.Empty", "")),
        (Point(1, [2]), (f"{__name__}.Point", "x=1, y=[2]")),
        (Point, ("type", f"class {__name__}.Point(object)")),
        (function, ("function", "function(first, key, *rest, **more)\nDo it.")),
    ],
)
def test_of_builtins(value: object, expected: tuple[str, str]) -> None:
    assert describe(value) == expected


def test_of_arrays() -> None:
    np = pytest.importorskip("numpy")
    assert describe(np.arange(10.0).reshape(2, 5)) == (
        "numpy.ndarray",
        "float64 2 x 5\n[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, ...]",
    )
    assert describe(np.zeros((0, 3), "i4")) == ("numpy.ndarray", "int32 0 x 3")
    assert describe(np.array(3)) == ("numpy.ndarray", "int64 scalar\n[3]")
    assert describe(np.float64(1.5)) == ("numpy.float64", "1.5")
    huge = np.broadcast_to(np.int8(1), (1 << 40,))
    assert describe(huge) == ("numpy.ndarray", f"int8 {1 << 40}\n[1, 1, 1, 1, 1, 1, ...]")


def test_of_tables() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"n": range(100), "text": ["a\nb"] * 100, "x": 1.5})
    name, summary = describe(frame)
    assert name.endswith("DataFrame")
    lines = summary.splitlines()
    assert lines[0] == "100 rows x 3 columns"
    assert lines[1].startswith("n: int64, text: ")
    assert lines[2].split() == ["n", "text", "x"]
    assert lines[3].split() == ["0", "a", "b", "1.5"]
    assert len(lines) == 8
    assert describe(frame["n"])[1] == "int64, length 100, name 'n'\n0, 1, 2, 3, 4, 5, ..."
    assert describe(pd.DataFrame())[1].startswith("0 rows x 0 columns")
    assert describe(frame.index)[1].startswith("int64, length 100")
    wide = pd.DataFrame({f"c{i}": [i] for i in range(1000)})
    assert len(describe(wide)[1]) < 1000


def test_of_liars() -> None:
    """Nothing of an unknown object is called; what it does when asked is no error."""
    called = []

    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise RuntimeError("no module")

        def __eq__(cls, other: object) -> bool:  # and thus no hash
            raise RuntimeError("no comparison")

    class Liar(metaclass=Meta):
        def __repr__(self) -> str:
            called.append("repr")
            raise RuntimeError("no repr")

        __str__ = __len__ = __iter__ = __bool__ = __repr__  # type: ignore[assignment]

        def __getattribute__(self, name: str) -> Any:
            called.append(name)
            raise RuntimeError(name)

    assert describe(Liar())[0] == "Liar"
    assert describe([Liar()])[1] == "length 1\n[<Liar>]"
    assert called == []

    class Named:
        def __init__(self) -> None:
            self.__dict__.update({"a\0\ud800": 1})

    assert describe(Named())[1] == r"a\0\ud800=1"

    module = types.ModuleType("m")
    module.__version__ = object()  # type: ignore[attr-defined]
    assert describe(module) == ("module", "m")
    assert "..." in describe(Colour)[1] or "Enum" in describe(Colour)[1]


def test_summaries_are_bounded() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    long = ["x" * 1000] * 1000
    fat = {("y" * 100, i): long for i in range(100)}
    for value in (deep, long, fat, [fat] * 10, Point(1, [1] * 1000)):
        assert len(describe(value)[1]) < 600


def test_the_same_in_every_process(python: Callable[..., Popen[str]]) -> None:
    """No addresses, no order of hashes."""
    script = """
        import collections
        from chipmink._summary import describe
        class C:
            def __init__(self): self.o, self.s = object(), {"a", "b", "c"}
        values = [{"x", "y", "z"}, C(), [C(), len], lambda x: x, frozenset("ab"), {"k": {1, "a"}}]
        for value in values:
            print(describe(value))
    """
    outputs = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        process = python(script, env=environment)
        out, _ = process.communicate()
        assert process.returncode == 0
        outputs.add(out)
    assert len(outputs) == 1
    assert "0x" not in outputs.pop()


def test_of_a_path() -> None:
    assert describe(Path("/a/b"))[1] == "PosixPath('/a/b')"


def test_figures() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    drawn = figure.Figure(figsize=(8, 4), dpi=100)
    left, right = drawn.subplots(1, 2)
    left.plot([1, 2, 3])
    left.set_title("Delays")
    left.set_xlabel("hour")
    right.bar([1, 2], [3, 4])
    expected = "800 x 400 pixels, 2 axes\ntitle 'Delays', x 'hour', 1 lines\n2 patches"
    assert describe(drawn) == ("matplotlib.figure.Figure", expected)
    assert describe(left)[1] == "title 'Delays', x 'hour', 1 lines"
    assert describe(figure.Figure(figsize=(1, 1), dpi=10))[1] == "10 x 10 pixels, 0 axes"
