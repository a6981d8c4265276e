# SPDX-License-Identifier: Apache-2.0
"""Going back replaces what differs alone: what that shares with the rest stays one object."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from attached import Silent
from chipmink._attachment import Attachment
from chipmink._checkpoint import Cell


class Box:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


class Notebook:
    """A namespace that is attached, and cells that are functions of it."""

    def __init__(self, path: Path, behind: bool, active_only: bool = False) -> None:
        self.store = chipmink.open(path)
        self.n: dict[str, Any] = {"__name__": "__main__"}
        self.host = Silent(behind)
        self.nb = Attachment(self.store.session("s"), self.n, self.host, None, active_only)
        self.count = 0

    def cell(self, code: str) -> None:
        self.count += 1
        self.nb._before_cell(code)
        exec(code, self.n)
        self.nb._after_cell(code, Cell(self.count, 0, None), own=False)

    def command(self, name: str, *args: Any) -> str:
        """As a cell that has nothing but this; what it says."""
        self.nb._before_cell(f"%chipmink {name}", own=True)
        getattr(self.nb, name)(*args)
        said = self.host.lines[-1]
        self.nb._after_cell(f"%chipmink {name}", Cell(0, 0, None), own=True)
        return said


@pytest.fixture(params=["waiting", "behind", "active only"])
def book(path: Path, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    notebook = Notebook(path, request.param != "waiting", request.param == "active only")
    yield notebook
    notebook.nb._detach()
    notebook.store.close()


def test_a_table_and_a_part_of_it(book: Notebook) -> None:
    book.cell("import pandas as pd; import numpy as np")
    book.cell("df = pd.DataFrame({'x': np.arange(1000), 'y': np.arange(1000.0), 'z': 'text'})")
    book.cell("top = df[df.x < 10]; held = [top, 1]; s = df['x'] * 2")
    n = book.n
    assert top_shares(n)
    book.cell("df.loc[5, 'y'] = -1.0")
    top, held, s, df = n["top"], n["held"], n["s"], n["df"]
    assert book.command("undo").endswith("replaced df")
    assert n["top"] is top
    assert n["held"] is held
    assert n["s"] is s
    assert held[0] is top
    assert n["df"] is not df
    assert n["df"].y[5] == 5.0
    assert top_shares(n)
    at = book.nb._at
    book.cell("pass")
    book.nb._finish()
    last = book.nb.session.checkpoint(book.nb._at)
    assert not last.diff(book.nb.session.checkpoint(at))
    assert last.stats.pods_new == 0
    assert book.command("redo").endswith("replaced df")
    assert n["df"].y[5] == -1.0
    assert n["top"] is top
    assert n["s"] is s
    assert top_shares(n)


def top_shares(n: dict[str, Any]) -> bool:
    """Tell whether the names of the columns are in one place: pandas may make an index for each."""
    return n["df"].columns._data is n["top"].columns._data


SHARED = {
    "text": "'x' * 5000",
    "bytes": "b'x' * 5000",
    "list": "[[i] for i in range(300)]",
    "long list": "[[i] for i in range(5000)]",
    "dict": "{str(i): [i] for i in range(5000)}",
    "tuple": "tuple((i, 'a') for i in range(300))",
    "frozenset": "frozenset(map(str, range(20_000)))",
    "set": "set(map(str, range(5000)))",
    "array": "__import__('numpy').arange(10_000)",
    "index": "__import__('pandas').Index(['a', 'b', 'c'])",
    "function": "lambda x: x + 1",
    "class": "type('C', (), {'a': 1})",
    "bytearray": "bytearray(5000)",
}


@pytest.mark.parametrize("what", SHARED)
@pytest.mark.parametrize("order", ["a b", "b a"])
def test_shared_between_two(book: Notebook, what: str, order: str) -> None:
    first, second = order.split()
    book.cell(f"{first} = [{SHARED[what]}, 0]")
    book.cell(f"{second} = {{'k': {first}[0], 'n': 1}}")
    book.cell("a[1] = 'changed'" if first == "a" else "a['n'] = 'changed'")
    n = book.n
    a, b = n["a"], n["b"]
    said = book.command("undo")

    def shared(v: Any) -> Any:
        return v[0] if isinstance(v, list) else v["k"]

    assert said.endswith("replaced a"), said
    assert n["b"] is b
    assert n["a"] is not a
    assert shared(n["a"]) is shared(b)
    at = book.nb.session.checkpoint(book.nb._at)
    book.cell("pass")
    book.nb._finish()
    last = book.nb.session.checkpoint(book.nb._at)
    assert not last.diff(at)
    assert last.stats.pods_new == 0
    assert book.command("redo").endswith("replaced a")
    assert n["b"] is b
    assert shared(n["a"]) is shared(b)
    assert (n["a"][1] if isinstance(n["a"], list) else n["a"]["n"]) == "changed"


@pytest.mark.parametrize("what", ["list", "dict"])
def test_an_element_of_a_long_one_stays(book: Notebook, what: str) -> None:
    """What an element is stored with is the same; the container is not."""
    many = "[[i] for i in range(20_000)]" if what == "list" else "{i: [i] for i in range(20_000)}"
    book.cell(f"rows = {many}")
    book.cell("one = rows[17]; other = {'of': rows[400]}; last = rows[19_999]")
    book.cell("rows[10_000].append('changed')")
    n = book.n
    one, other, last = n["one"], n["other"], n["last"]
    for command in "undo", "redo", "undo":
        rows = n["rows"]
        assert book.command(command).endswith("replaced rows")
        assert n["rows"] is not rows
        assert len(n["rows"]) == 20_000
        assert n["rows"][10_000] == [10_000, "changed"][: 2 if command == "redo" else 1]
        assert list(n["rows"].values() if what == "dict" else n["rows"])[9_000:9_003] == [
            [9_000],
            [9_001],
            [9_002],
        ]
        assert n["one"] is one is n["rows"][17]
        assert n["other"] is other
        assert other["of"] is n["rows"][400]
        assert n["last"] is last is n["rows"][19_999]
    n["rows"][5_000].append("not saved yet")
    assert book.command("undo").endswith("replaced rows")
    assert n["rows"][5_000] == [5_000]
    assert n["one"] is one is n["rows"][17]
    assert n["last"] is last is n["rows"][19_999]
    at = book.nb.session.checkpoint(book.nb._at)
    book.cell("pass")
    book.nb._finish()
    found = book.nb.session.checkpoint(book.nb._at)
    assert not found.diff(at)
    assert found.stats.pods_new == 0


def test_brought_back_onto_what_stayed(book: Notebook) -> None:
    book.cell("big = [[i] for i in range(1000)]")
    book.cell("alias = big; part = big[3]; both = [big, big[5]]; del alias")
    book.cell("alias = big")
    book.cell("del both, alias")
    n = book.n
    big = n["big"]
    assert book.command("undo").endswith("brought both, alias")
    assert n["big"] is big
    assert n["alias"] is big
    assert n["both"][0] is big
    assert n["both"][1] is big[5]
    assert list(n)[-4:] == ["big", "part", "both", "alias"]


def test_functions_stay_and_see_what_is_there(book: Notebook) -> None:
    book.cell("scale = list(range(500))\ntable = {'a': 1}")
    book.cell("def f():\n    return scale[3] + table['a']")
    book.cell("g = [f, 1]")
    book.cell("g[1] = 2")
    n = book.n
    f, scale = n["f"], n["scale"]
    assert book.command("undo").endswith("replaced g")
    assert n["f"] is f
    assert n["g"] == [f, 1]
    assert n["scale"] is scale
    book.cell("table['a'] = 10")
    book.command("undo")
    assert n["f"]() == 4
    assert n["g"][0]() == 4
    assert n["scale"] is scale


def test_functions_stay_when_what_they_name_is_replaced(book: Notebook) -> None:
    book.cell("data = [[i] for i in range(300)]; other = [1]")
    book.cell("def f(x: 'int') -> None:\n    return len(data)\nheld = [f, data, 0]")
    book.cell("def g(x=data):\n    return x")
    book.cell("def h():\n    return f, g")
    book.cell("data.append(1); held[2] = 1")
    n = book.n
    f, g, h, other = n["f"], n["g"], n["h"], n["other"]
    assert book.command("undo").endswith("replaced data, held, g")
    assert n["f"] is f
    assert n["h"] is h
    assert n["other"] is other
    assert n["g"] is not g
    assert f(0) == 300
    assert n["held"][0] is f
    assert n["held"][1] is n["data"] is n["g"]()
    assert n["h"]() == (f, n["g"])
    assert book.command("redo").endswith("replaced data, held, g")
    assert n["f"] is f
    assert f(0) == 301


def test_instances_keep_their_class(book: Notebook) -> None:
    book.cell("class P:\n    def __init__(self): self.values = list(range(300))")
    book.cell("p = P(); q = P(); q.other = p; q.n = 1")
    book.cell("q.n = 2")
    n = book.n
    p, cls = n["p"], n["P"]
    assert book.command("undo").endswith("replaced q")
    assert n["p"] is p
    assert n["P"] is cls
    assert type(n["q"]) is cls
    assert n["q"].other is p


def test_views_of_an_array_that_stayed(book: Notebook) -> None:
    book.cell("import numpy as np\nx = np.arange(10_000)")
    book.cell("pair = [x[::2], 1]")
    book.cell("pair[1] = 2")
    n = book.n
    x = n["x"]
    assert book.command("undo").endswith("replaced pair")
    assert n["x"] is x
    x[0] = -1
    assert n["pair"][0][0] == -1


def test_a_circle_through_both_is_replaced(book: Notebook) -> None:
    book.cell("a = [list(range(300)), 0]; b = {'a': a}; a.append(b)")
    book.cell("a[1] = 1")
    book.command("undo")
    n = book.n
    assert n["a"][1] == 0
    assert n["a"][2] is n["b"]
    assert n["b"]["a"] is n["a"]


def test_more_steps(book: Notebook) -> None:
    book.cell("keep = [[i] for i in range(400)]")
    book.cell("x = [keep, 0]")
    for i in range(3):
        book.cell(f"x[1] = {i + 1}")
    keep = book.n["keep"]
    book.command("undo", 2)
    assert book.n["x"] == [keep, 1]
    assert book.n["x"][0] is keep is book.n["keep"]
    book.command("redo", 2)
    assert book.n["x"] == [keep, 3]
    assert book.n["x"][0] is keep is book.n["keep"]
    book.n["x"][1] = 7  # not saved yet
    book.command("undo")
    assert book.n["x"] == [keep, 3]
    assert book.n["x"][0] is keep is book.n["keep"]
    book.command("checkout", 2)
    assert book.n["x"] == [keep, 0]
    assert book.n["x"][0] is keep is book.n["keep"]
    with pytest.raises(chipmink.Error, match="nothing to undo: 1 is the first checkpoint"):
        book.command("undo", 50)


def test_nothing_is_held_afterwards(book: Notebook) -> None:
    book.n["Box"] = Box
    book.cell("box = Box(a=list(range(300)))")
    book.cell("x = [box, 0]")
    book.cell("x[1] = 1")
    gone = weakref.ref(book.n["box"])
    book.command("undo")
    book.cell("del x, box")
    book.nb._finish()
    gc.collect()
    assert gone() is None


def test_what_is_made_while_it_is_saved_does_no_harm(book: Notebook) -> None:
    """Objects that die while a save looks are not given to what is loaded."""
    book.cell("import numpy as np\nkeep = {'t' * i: 'text' * 200 + str(i) for i in range(300)}")
    book.cell("x = [keep, list(keep.values()), 0]; arrays = [np.arange(5) for _ in range(50)]")
    stop = threading.Event()
    keep = book.n["keep"]

    def churn() -> None:
        i = 0
        while not stop.is_set():
            i += 1
            keep["t" * (i % 300)] = "other" * 200 + str(i)

    book.cell("x[2] = 1")
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(10):
            book.n["x"][2] += 1
            book.command("undo")
            assert isinstance(book.n["x"][1], list)
    finally:
        stop.set()
        thread.join()
    assert all(isinstance(text, str) for text in book.n["x"][0].values())
