# SPDX-License-Identifier: Apache-2.0
"""Random cells, one right after the other: a checkpoint has what its cell left, whatever came next.

The arrays, texts and frames are large enough to be read while the next cell changes them.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from typing import Any

import chipmink
import pytest
from chipmink import _pending
from chipmink._attachment import Attachment
from chipmink._checkpoint import Cell

hypothesis = pytest.importorskip("hypothesis")
np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

from hypothesis import strategies as st  # noqa: E402

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

    return {name: walk(namespace[name]) for name in sorted(namespace)}


def part(array: Any, random_: random.Random) -> Any:
    """A view of some of an array's memory."""
    start = random_.randrange(len(array)) if len(array) else 0
    return array[start : start + random_.randrange(1, 1 + len(array))]


def change(n: dict[str, Any], random_: random.Random) -> None:
    """What a statement of a cell may do."""
    name, value = random_.choice(NAMES), n.get(random_.choice(NAMES))
    what = random_.randrange(12)
    seed = np.random.default_rng(random_.randrange(1 << 30))
    if what == 0:
        n[name] = seed.random(random_.choice(SIZES))
    elif what == 1:
        n[name] = seed.integers(0, 99, random_.choice(SIZES), dtype="i1")
    elif what == 2:
        rows = random_.choice(SIZES[:3])
        n[name] = pd.DataFrame(
            {"x": seed.random(rows), "y": range(rows), "z": [str(i % 7) for i in range(rows)]}
        )
    elif what == 3:
        n[name] = [bytearray(seed.bytes(100_000)), "text" * random_.randrange(40_000), {"v": value}]
    elif what == 4:
        n[name] = value  # an alias
    elif what == 5:
        n.pop(name, None)
    elif isinstance(value, np.ndarray):
        if what == 6 and value.flags.owndata:
            n[name] = part(value, random_)  # both have the same memory
        elif what == 7 and value.flags.c_contiguous:
            part(value, random_)[::3] += 1
        else:
            value *= 2
    elif isinstance(value, pd.DataFrame):
        if what == 6:
            value["x"] += 1.0
        elif what == 7:
            value[random_.choice("uvw")] = seed.random(len(value))
        else:
            value.loc[random_.randrange(len(value)), "y"] = -1
    elif isinstance(value, list):
        if what == 6:
            value[0].extend(b"more")
        elif what == 7:
            value[0][random_.randrange(len(value[0]))] ^= 1
        else:
            value.append(n.get(name) if what == 8 else random_.random())


def check(random_: random.Random) -> None:
    n: dict[str, Any] = {}
    left: dict[str, Any] = {}  # by each cell
    host = Loop()
    with tempfile.TemporaryDirectory() as directory, chipmink.open(directory) as store:
        nb = Attachment(store.session("s"), n, host, None)
        for number in range(random_.randrange(2, 9)):
            harmless = random_.random() < 0.1
            code = f"{number} + 1" if harmless else f"cell {number}"
            nb._before_cell(code)
            for _ in range(0 if harmless else random_.randrange(1, 4)):
                change(n, random_)
            left[code] = snapshot(n)
            nb._after_cell(code, Cell(number, 0, None), own=False)
            while host.calls and random_.random() < 0.3:
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

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.randoms(use_true_random=False))
    def run(random_: random.Random) -> None:
        check(random_)

    run()
