# SPDX-License-Identifier: Apache-2.0
"""Random work in an attached namespace: going anywhere gives what was there, sharing included."""

from __future__ import annotations

import contextlib
import copy
import os
import random
from pathlib import Path
from typing import Any

import chipmink
import pytest
from attached import Silent
from chipmink import _returning
from chipmink._attachment import Attachment
from chipmink._checkpoint import Cell

LONG = bool(os.environ.get("CHIPMINK_LONG"))
NAMES = "abcdef"


def shape(namespace: dict[str, Any]) -> Any:
    """The values and what they share, as something that can be compared."""
    seen: dict[int, int] = {}

    def walk(value: Any) -> Any:
        if not isinstance(value, (list, tuple, dict, Box)) and not is_long(value):
            return value
        if id(value) in seen:
            return ("seen", seen[id(value)])
        seen[id(value)] = len(seen)
        if isinstance(value, str):
            return value
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(walk, value)]
        parts = vars(value) if isinstance(value, Box) else value
        return [type(value).__name__, *((key, walk(part)) for key, part in parts.items())]

    return {name: walk(namespace[name]) for name in sorted(namespace)}


class Box:
    pass


def is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 256


def lists(value: Any, most: int = 40) -> list[list[Any]]:
    found, todo, seen = [], [value], set()
    while todo and len(found) < most:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, list):
            found.append(one)
        if isinstance(one, (list, tuple)):
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
    what = random_.randrange(11)
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
    elif what == 9:
        n[name] = (other, random_.choice("xy") * random_.choice((300, 5000)), *range(300))
    elif what == 10 and deep and isinstance(other, tuple):
        random_.choice(deep).append(other[1])


class Returned(list[dict[str, Any]]):
    """What was to stay the object that it is, each time that something was loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load, load_these = _returning.load, _returning._load

        def watched(
            session: Any, namespace: dict[str, Any], here: Any, target: Any, met: Any
        ) -> dict[str, Any]:
            kept = target._core.have(here._core).kept if here else []
            self.append({name: namespace[name] for name in kept})
            return load(session, namespace, here, target, met)

        def these(
            target: Any, names: Any, namespace: Any, met: Any = None, have: Any = None
        ) -> Any:
            assert have or not (self and self[-1] and target._core.pages()), "loaded the old way"
            return load_these(target, names, namespace, met, have)

        monkeypatch.setattr(_returning, "load", watched)
        monkeypatch.setattr(_returning, "_load", these)

    def check(self, namespace: dict[str, Any]) -> None:
        for name, value in (self.pop() if self else {}).items():
            assert namespace[name] is value, name


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("seed", range(60 if LONG else 3))
def test_going_anywhere(
    seed: int, behind: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = Returned(monkeypatch)
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
            returned.check(n)
            assert shape(n) == shape(states[number]), (step, number)
            if shape(states[number]) == before:
                assert {name: id(value) for name, value in n.items()} == here
        else:
            with contextlib.suppress(chipmink.Error):  # nothing to undo
                nb.undo()
                returned.check(n)
                changed = True
            if not changed:
                continue
            undone = shape(n)
            assert undone != before
            assert undone in shapes
            if way < 0.8:
                nb.redo()
                returned.check(n)
                assert shape(n) == before
        states[nb._at] = copy.deepcopy(n)
    store.close()
    with chipmink.open(path) as store:
        for number in random_.sample([*states], 5):
            assert shape(store.session("s").load(number)) == shape(states[number])
