# SPDX-License-Identifier: Apache-2.0
"""Random object graphs, cyclic and shared, come back isomorphic: whole and in part."""

from __future__ import annotations

import random
from typing import Any

import chipmink
import pytest


class Node:
    """Its attributes are its parts."""


class Reduced:
    """Made without arguments and then filled, by every means that the protocol has."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.mapping: dict[Any, Any] = {}
        self.state: Any = None

    def append(self, item: Any) -> None:
        self.items.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mapping[key] = value

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return Reduced, (), self.state, iter(self.items), iter(self.mapping.items())


class Called(tuple):
    """Made with its parts as arguments."""

    def __new__(cls, *parts: Any) -> Called:
        return super().__new__(cls, parts)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


def atom(rng: random.Random) -> Any:
    return rng.choice(
        [
            None,
            True,
            rng.randrange(10),
            rng.getrandbits(90),
            rng.random(),
            "",
            "key",
            "x" * rng.randrange(400),
            "\u20ac" * rng.randrange(200),
            b"bytes",
            b"y" * rng.choice([5, 300, 5000]),
            (),
            f"k{rng.randrange(9)}",
        ]
    )


def make_graph(rng: random.Random) -> dict[str, Any]:
    """Make objects, fill the mutable ones with any of them, and name some."""
    objects: list[Any] = []

    def some(n: int) -> list[Any]:
        return [
            rng.choice(objects) if objects and rng.random() < 0.7 else atom(rng) for _ in range(n)
        ]

    for _ in range(rng.randrange(1, 60)):
        kind = rng.randrange(10)
        if kind == 0:
            objects.append(tuple(some(rng.choice([1, 2, 3, 4, 7]))))
        elif kind == 1:
            objects.append(Called(*some(rng.randrange(4))))
        elif kind == 2:
            objects.append(
                frozenset(x for x in some(4) if isinstance(x, (str, int, bytes, frozenset)))
            )
        else:
            objects.append(rng.choice([list, list, dict, dict, Node, Reduced, set, bytearray])())
    for thing in objects:
        size = rng.choice([0, 1, 2, 3, 5, 300 if rng.random() < 0.1 else 4])
        if rng.random() < 0.02:
            size = 2500
        if type(thing) is list:
            thing.extend(some(size))
        elif type(thing) is dict:
            thing.update(
                (rng.choice([i, f"key{i}", ("k", i)]), v) for i, v in enumerate(some(size))
            )
        elif type(thing) is Node:
            vars(thing).update((f"a{i}", v) for i, v in enumerate(some(min(size, 80))))
        elif type(thing) is Reduced:
            thing.items.extend(some(min(size, 9)))
            thing.mapping.update((f"k{i}", v) for i, v in enumerate(some(min(size, 9))))
            thing.state = rng.choice([None, *some(1)])
        elif type(thing) is set:
            # the order of two objects without a value of their own would be that of their addresses
            others = [x for x in some(3) if isinstance(x, (Node, Reduced))]
            thing.update(others[:1], (x for x in some(9) if isinstance(x, (str, int))))
        elif type(thing) is bytearray:
            thing.extend(b"z" * rng.choice([0, 10, 5000]))
    names = [f"v{i}" for i in range(rng.randrange(1, 8))]
    return {name: rng.choice(objects) for name in names}


def parts(value: Any) -> list[Any] | None:
    """Give the parts of an object in an order that saving keeps; None for atoms."""
    if type(value) in (list, tuple, Called):
        return list(value)
    if type(value) is dict:
        return [part for item in value.items() for part in item]
    if type(value) is Node:
        return parts(vars(value))
    if type(value) is Reduced:
        return [*value.items, *(parts(value.mapping) or ()), value.state]
    if type(value) is bytearray:
        return [bytes(value)]
    return None


def assert_isomorphic(before: Any, after: Any) -> None:
    """Walk both graphs in step: what is one object in one is one object in the other."""
    seen: dict[int, int] = {}
    back: dict[int, int] = {}
    keep: list[Any] = []
    stack = [(before, after)]
    while stack:
        x, y = stack.pop()
        assert type(x) is type(y)
        inner = parts(x)
        if inner is None or x == ():
            if type(x) in (set, frozenset):
                assert len(x) == len(y)
                plain = {e for e in x if not isinstance(e, (Node, Reduced))}
                assert plain == {e for e in y if not isinstance(e, (Node, Reduced))}
            else:
                assert x == y
            continue
        if id(x) in seen or id(y) in back:
            assert seen.get(id(x)) == id(y)
            assert back.get(id(y)) == id(x)
            continue
        keep.append((x, y))
        seen[id(x)], back[id(y)] = id(y), id(x)
        other = parts(y)
        assert other is not None
        assert len(inner) == len(other)
        stack.extend(zip(inner, other, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(session: chipmink.Session, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5):
        namespace = make_graph(rng)
        checkpoint = session.save(namespace)
        assert checkpoint.unsaved == {}
        names = list(namespace)
        whole = session.load()
        assert_isomorphic([namespace[name] for name in names], [whole[name] for name in names])
        some = rng.sample(names, rng.randrange(1, len(names) + 1))
        loaded = session.load(names=some)
        assert_isomorphic([namespace[name] for name in some], [loaded[name] for name in some])
        again = session.save(whole)
        assert again.stats["pods_new"] == 0
