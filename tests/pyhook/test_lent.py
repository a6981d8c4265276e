# SPDX-License-Identifier: Apache-2.0
"""Arrays that a save reads while a cell runs which cannot get hold of them."""

from __future__ import annotations

from typing import Any

import chipmink
import numpy as np
import pytest
from cells_support import usual_output
from chipmink import _lent
from chipmink._pending import PendingSave
from chipmink._store import Job

pytestmark = pytest.mark.usefixtures("no_reducers")

ALL = 1 << 40
SETUP = """
import functools, types, weakref
import numpy as np
x = np.random.default_rng(1).random(200_000)
y = np.random.default_rng(2).random(200_000)
def changes_x():
    x[0] = 0
def changes(array):
    array[0] = 0
class Box:
    def change(self):
        changes_x()
box = Box()
"""


@pytest.fixture
def n() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "a_session"}
    exec(SETUP, namespace)
    return namespace


def hold(session: chipmink.Session, namespace: dict[str, Any], names: str = "xyz") -> PendingSave:
    """A save that reads nothing before it goes on."""
    session.save({})
    items = [(name, namespace[name]) for name in names if name in namespace]
    pending = session._hold(Job(items))
    assert pending is not None
    return pending


def spared(code: str, n: dict[str, Any], *pending: PendingSave) -> set[str]:
    savings = [each._saving for each in pending if each._saving is not None]
    with usual_output():
        found = _lent.spared(savings, code, n)
    return {name for name in "xyz" for each in found if n.get(name) is each}


@pytest.mark.parametrize(
    ("code", "want"),
    [
        ("z = 1", "xy"),
        ("y += 1", "x"),
        ("changes(y)", "x"),
        ("del y", "xy"),
        ("x, y = 1, x", "y"),
        ("changes_x()", "y"),
        ("box.change()", "y"),
        ("for i in range(3):\n    x[i] = i", "y"),
        ("exec('x[0] = 1')", ""),
        ("globals()['x'][0] = 1", ""),
        ("import ctypes", ""),
        ("%timeit x", "y"),
        ("!ls", ""),
        ("await x", ""),
        ("def f():\n    return x", "y"),
    ],
)
def test_what_a_cell_names_is_not_spared(
    session: chipmink.Session, n: dict[str, Any], code: str, want: str
) -> None:
    if code.startswith("%"):
        want = ""  # there is no IPython here that knows its magics
    assert spared(code, n, hold(session, n)) == set(want)


@pytest.mark.parametrize(
    "code",
    [
        "z = x[5:]",
        "z = x[::2]",
        "z = x.T",
        "z = [x]",
        "z = {'x': (x,)}",
        "z = memoryview(x)",
        "z = weakref.ref(x)",
        "z = functools.partial(changes, x)",
        "z = x.sum",
        "z = types.SimpleNamespace(x=x)",
        "z = (i for i in [x])",
        "z = lambda array=x: array",
        "def z():\n    pass\nz.array = x",
        "x = np.random.default_rng(1).random(200_000)[1:]",
        "class Array(np.ndarray):\n    pass\nx = np.zeros(200_000).view(Array).copy()",
    ],
)
def test_what_others_refer_to_is_not_spared(
    session: chipmink.Session, n: dict[str, Any], code: str
) -> None:
    exec(code, n)
    assert spared("n = 1", n, hold(session, n, "xy")) == {"y"}


def test_several_names_and_several_saves(session: chipmink.Session, n: dict[str, Any]) -> None:
    n["z"] = n["x"]
    first, second = hold(session, n), hold(session, n)
    assert spared("y[0] = 1", n, first, second) == {"x", "z"}
    assert spared("z[0] = 1", n, first, second) == {"y"}
    assert spared("y[0] = 1", n, first) == set()  # it is not told of the other save


def test_nothing_is_looked_for_that_is_small(session: chipmink.Session, n: dict[str, Any]) -> None:
    n["x"], n["y"] = n["x"][:10_000].copy(), n["y"][:10_000].copy()
    assert spared("n = 1", n, hold(session, n)) == set()


def test_what_is_spared_is_saved_as_it_was(session: chipmink.Session, n: dict[str, Any]) -> None:
    x, y = n["x"].copy(), n["y"].copy()
    pending = hold(session, n)
    assert spared("y *= 2", n, pending) == {"x"}
    kept = pending._protect(ALL, [n["x"]])
    assert kept is not None
    assert y.nbytes <= kept < y.nbytes + x.nbytes
    n["y"] *= 2
    n["y"].resize(10, refcheck=True)  # it is the program's own again
    assert spared("x *= 2", n, pending) == set()
    assert pending._protect(ALL, []) == x.nbytes
    n["x"] *= 2
    n["x"].resize(10, refcheck=True)
    session._go_on(Job(None), pending)
    loaded = pending.wait().load()
    assert np.array_equal(loaded["x"], x)
    assert np.array_equal(loaded["y"], y)


def test_what_is_spared_may_go(session: chipmink.Session, n: dict[str, Any]) -> None:
    x = n["x"].copy()
    pending = hold(session, n)
    assert spared("x = 1", n, pending) == {"x", "y"}
    pending._protect(ALL, [n["x"], n["y"]])
    n["x"] = 1
    session._go_on(Job(None), pending)
    assert np.array_equal(pending.wait().load()["x"], x)
