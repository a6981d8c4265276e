# SPDX-License-Identifier: Apache-2.0
"""Random work in an attached namespace: going anywhere gives what was there, sharing included."""

from __future__ import annotations

import contextlib
import copy
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chipmink
import pytest
from chipmink._attachment import Attachment
from chipmink._checkpoint import Cell

LONG = bool(os.environ.get("CHIPMINK_LONG"))
NAMES = "abcdef"


class Silent:
    """A host that runs nothing."""

    call = "{}"

    def __init__(self, asks_before: bool) -> None:
        self.asks_before = asks_before  # saves go on behind the cells
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        raise AssertionError(line)

    def run(self, code: str) -> None:
        raise AssertionError(code)

    def soon(self, call: Callable[[], None]) -> bool:
        return False

    def leave(self) -> None:
        pass


def shape(namespace: dict[str, Any]) -> Any:
    """The values and what they share, as something that can be compared."""
    seen: dict[int, int] = {}

    def walk(value: Any) -> Any:
        if not isinstance(value, (list, dict, Box)):
            return value
        if id(value) in seen:
            return ("seen", seen[id(value)])
        seen[id(value)] = len(seen)
        if isinstance(value, list):
            return ["list", *map(walk, value)]
        parts = vars(value) if isinstance(value, Box) else value
        return [type(value).__name__, *((key, walk(part)) for key, part in parts.items())]

    return {name: walk(namespace[name]) for name in sorted(namespace)}


class Box:
    pass


def lists(value: Any, most: int = 40) -> list[list[Any]]:
    found, todo, seen = [], [value], set()
    while todo and len(found) < most:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, list):
            found.append(one)
            todo += one
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, Box):
            todo += vars(one).values()
    return found


def work(n: dict[str, Any], random_: random.Random) -> None:
    """What a cell may do."""
    name = random_.choice(NAMES)
    other = n.get(random_.choice(NAMES))
    deep = lists(other)
    what = random_.randrange(9)
    if what == 0:
        n[name] = [random_.random()]
    elif what == 1:
        n[name] = [[i] for i in range(random_.choice((10, 3000)))]
    elif what == 2 and deep:
        random_.choice(deep).append(random_.random())
    elif what == 3:
        n[name] = {"held": other, "n": random_.randrange(3)}
    elif what == 4 and deep:
        n[name] = random_.choice(deep)  # an alias, or part of another
    elif what == 5:
        n.pop(name, None)
    elif what == 6:
        box = n[name] = Box()
        box.held = other
    elif what == 7 and deep and name in n:
        random_.choice(deep).append(n[name])  # perhaps a cycle
    elif what == 8 and deep:
        del random_.choice(deep)[1:]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("seed", range(60 if LONG else 3))
def test_going_anywhere(seed: int, behind: bool, path: Path) -> None:
    random_ = random.Random(seed)
    n: dict[str, Any] = {}
    states: dict[int, Any] = {}
    shapes: list[Any] = []  # of all states
    store = chipmink.open(path)
    nb = Attachment(store.session("s"), n, Silent(behind), None)
    for step in range(60):
        way = random_.random()
        if random_.random() < 0.65 or len(states) < 3:
            nb._before_cell(f"step {step}")
            work(n, random_)
            nb._after_cell(f"step {step}", Cell(step, 0, None), own=False)
            shapes.append(shape(n))
            if random_.random() < 0.5:  # else it may still be written in the next step
                nb._finish()
                states[nb._at] = copy.deepcopy(n)
            continue
        changed = False
        before, here = shape(n), {name: id(value) for name, value in n.items()}
        if way < 0.1:  # another process goes on
            nb._detach()
            store.close()
            store, n = chipmink.open(path), {}
            nb = Attachment(store.session("s"), n, Silent(behind), None)
            nb.checkout()
            assert shape(n) == before
        elif way < 0.4:
            number = random_.choice([*states])
            nb.checkout(number)
            assert shape(n) == shape(states[number]), (step, number)
            if shape(states[number]) == before:
                assert {name: id(value) for name, value in n.items()} == here
        else:
            with contextlib.suppress(chipmink.Error):  # nothing to undo
                nb.undo()
                changed = True
            if not changed:
                continue
            undone = shape(n)
            assert undone != before
            assert undone in shapes
            if way < 0.8:
                nb.redo()
                assert shape(n) == before
        states[nb._at] = copy.deepcopy(n)
    store.close()
    with chipmink.open(path) as store:
        for number in random_.sample([*states], 5):
            assert shape(store.session("s").load(number)) == shape(states[number])
