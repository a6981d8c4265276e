# SPDX-License-Identifier: Apache-2.0
"""Random cells, one right after the other: a checkpoint has what its cell left, whatever came next.

The arrays, texts and frames are large enough to be read while the next cell changes them.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Callable
from typing import Any

import chipmink
import pytest
from cells_support import usual_output
from chipmink import _lent, _pending
from chipmink._attachment import Attachment
from chipmink._checkpoint import Cell

hypothesis = pytest.importorskip("hypothesis")
np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_reducers")

EXAMPLES = 2000 if os.environ.get("CHIPMINK_LONG") else 30
NAMES = "abcdefgh"
SIZES = 10, 9_000, 70_000, 300_000


class Loop:
    """A host with a loop that gets to what waits between cells, sooner or later."""

    asks_before = True
    call = "{}"

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def say(self, line: str) -> None:
        pass

    def warn(self, line: str) -> None:
        raise AssertionError(line)

    run = warn

    def soon(self, call: Callable[[], None]) -> bool:
        self.calls.append(call)
        return True

    def leave(self) -> None:
        pass


def snapshot(namespace: dict[str, Any]) -> Any:
    """What it has, and which objects are the same, as something that does not change any more."""
    seen: dict[int, int] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, (list, dict, bytearray, np.ndarray, pd.DataFrame)):
            if id(value) in seen:
                return ("seen", seen[id(value)])
            seen[id(value)] = len(seen)
        if isinstance(value, np.ndarray):
            return ("array", value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, pd.DataFrame):
            columns = ((name, *contents(value[name].to_numpy())) for name in value.columns)
            return ("frame", tuple(value.index), tuple(columns))
        if isinstance(value, list):
            return ("list", *map(walk, value))
        if isinstance(value, dict):
            return ("dict", *((key, walk(item)) for key, item in value.items()))
        return bytes(value) if isinstance(value, bytearray) else value

    def contents(values: Any) -> tuple[str, Any]:
        plain = values.dtype.kind != "O"
        return values.dtype.str, values.tobytes() if plain else tuple(values)

    return {name: walk(namespace[name]) for name in NAMES if name in namespace}


def part(value: Any, name: str, random_: random.Random) -> str:
    """Code for a view of some of an array's memory."""
    start = random_.randrange(len(value)) if len(value) else 0
    return f"{name}[{start} : {start + random_.randrange(1, 1 + len(value))}]"


# What cells call, which finds variables by their names.
FUNCTIONS = """
def double(array):
    array *= 2

def touch(array, seen=[]):
    return double(array)

def change_a():
    a[::2] += 1

def change_b(function=touch):
    function(b)
"""


def statement(n: dict[str, Any], random_: random.Random) -> str:
    """A statement of a cell."""
    name, other = random_.choice(NAMES), random_.choice(NAMES)
    value = n.get(other)
    there = other if other in n else "None"
    what = random_.randrange(14)
    numbers = f"np.random.default_rng({random_.randrange(1 << 30)})"
    if what == 0:
        return f"{name} = {numbers}.random({random_.choice(SIZES)})"
    if what == 1:
        return f"{name} = {numbers}.integers(0, 99, {random_.choice(SIZES)}, dtype='i1')"
    if what == 2:
        rows = random_.choice(SIZES[:3])
        columns = f"'x': {numbers}.random({rows}), 'y': range({rows})"
        return f"{name} = pd.DataFrame({{{columns}, 'z': [str(i % 7) for i in range({rows})]}})"
    if what == 3:
        text = f"'text' * {random_.randrange(40_000)}"
        return f"{name} = [bytearray({numbers}.bytes(100_000)), {text}, {{'v': {there}}}]"
    if what == 4:
        return f"{name} = {there}"  # an alias
    if what == 5:
        return f"del {other}" if other in n else "pass"
    if isinstance(value, np.ndarray):
        if what == 6 and value.flags.owndata:
            return f"{name} = {part(value, other, random_)}"  # both have the same memory
        if what == 7 and value.flags.c_contiguous:
            return f"{part(value, other, random_)}[::3] += 1"
        if what == 8 and value.flags.owndata:
            return f"{name} = {other}[::2]"  # which is saved as a copy
        if what == 9:
            return random_.choice(("change_a()", "change_b()"))
        return random_.choice(
            (f"{other} *= 2", f"touch({other})", f"exec('{other} *= 2')", f"{other}[:5] = 0")
        )
    if isinstance(value, pd.DataFrame):
        if what == 6:
            return f"{other}['x'] += 1.0"
        if what == 7:
            return f"{other}[{random_.choice('uvw')!r}] = {numbers}.random({len(value)})"
        return f"{other}.loc[{random_.randrange(len(value))}, 'y'] = -1"
    if isinstance(value, list):
        if what == 6:
            return f"{other}[0].extend(b'more')"
        if what == 7:
            return f"{other}[0][{random_.randrange(len(value[0]))}] ^= 1"
        return f"{other}.append({name if what == 8 and name in n else random_.random()})"
    return "pass"


def check(random_: random.Random) -> None:
    n: dict[str, Any] = {"np": np, "pd": pd}
    exec(FUNCTIONS, n)
    left: dict[str, Any] = {}  # by each cell
    host = Loop()
    with tempfile.TemporaryDirectory() as directory, chipmink.open(directory) as store:
        nb = Attachment(store.session("s"), n, host, None, active_only=random_.random() < 0.5)
        for number in range(random_.randrange(2, 9)):
            harmless = random_.random() < 0.1
            code = f"{number} + 1"
            for _ in range(0 if harmless else random_.randrange(1, 4)):
                code += f"\n{statement(n, random_)}"  # of what is there before the cell
            nb._before_cell(code)
            with contextlib.suppress(Exception):  # the statement before has changed that
                exec(code, n)
            left[code] = snapshot(n)
            nb._after_cell(code, Cell(number, 0, None), own=False)
            for _ in range(random_.choice((0, 0, 0, 1, 2))):
                if host.calls:
                    host.calls.pop(0)()
        nb._finish()
        saved = store.session("s").log()
        assert {checkpoint.code for checkpoint in saved} == left.keys()
        for checkpoint in saved:
            assert snapshot(checkpoint.load()) == left[checkpoint.code], checkpoint
        assert store.verify().damage == ()
        nb._detach()


@pytest.mark.parametrize("room", [1 << 30, 100_000])
def test_what_a_cell_left_is_saved(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pending, "COPY_MOST", room)
    monkeypatch.setattr(_lent, "_LEAST", 1)  # what is not copied is looked for always

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.randoms(use_true_random=False))
    def run(random_: random.Random) -> None:
        with usual_output():
            check(random_)

    run()
