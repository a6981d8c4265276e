# SPDX-License-Identifier: Apache-2.0
"""What is not walked again is what has not changed: never anything else.

A save that uses what the last one left is held against one of the same namespace that does
not: the same pods must come out.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chipmink
import pytest
from chipmink import _core
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shadow_graph import BIG, Graph, Node, Reduced, Slotted

CASES = 10_000 if os.environ.get("CHIPMINK_LONG") else 150


class Pair:
    """Two sessions of one store: one that remembers, one that does not."""

    def __init__(self, path: Path) -> None:
        self.store = chipmink.open(path, embedded=True)
        self.remembers = self.store.session("remembers")
        self.forgets = self.store.session("forgets")

    def save(self, namespace: dict[str, Any]) -> dict[str, int]:
        """Save in both, compare, and tell how many pods were used again."""
        fast = self.remembers.save(namespace)
        statistics = self.store._shadows["remembers"].statistics()
        self.store._shadows["forgets"] = _core.Shadow()
        full = self.forgets.save(namespace)
        assert {**fast.unsaved} == {**full.unsaved}
        ours = {n: (v.content, v.size, v.pods) for n, v in fast.variables.items()}
        theirs = {n: (v.content, v.size, v.pods) for n, v in full.variables.items()}
        assert ours == theirs
        return statistics


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Give a pair of sessions."""
    return Pair(tmp_path / "store")


def same(a: Any, b: Any, seen: dict[int, Any]) -> bool:
    """Compare two graphs, with what is shared in them."""
    stack = [(a, b)]
    while stack:
        x, y = stack.pop()
        if type(x) is not type(y):
            return False
        if isinstance(x, (int, float, str, bytes, type(None))):
            if x != y or repr(x) != repr(y):
                return False
            continue
        if id(x) in seen:
            if seen[id(x)] is not y:
                return False
            continue
        seen[id(x)] = y
        if isinstance(x, (list, tuple)):
            if len(x) != len(y):
                return False
            stack.extend(zip(x, y, strict=True))
        elif isinstance(x, dict):
            if [*map(repr, x)] != [*map(repr, y)]:
                return False
            stack.extend(zip(x.values(), y.values(), strict=True))
        elif isinstance(x, Node):
            stack.append((x.__dict__, y.__dict__))
        elif isinstance(x, Slotted):
            stack += [(x.left, y.left), (x.right, y.right)]
        elif isinstance(x, Reduced):
            stack.append((x.target, y.target))
        elif x != y:
            return False
    return True


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**48))
@example(seed=0)
@example(seed=578429)  # what a container refers to elsewhere changes its size
def test_random_changes(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whatever happens to a graph, saving what changed is saving all of it."""
    pair = Pair(tmp_path_factory.mktemp("shadow") / "store")
    try:
        graph = Graph(seed)
        for _ in range(8):
            for _ in range(graph.random.choice([0, 1, 1, 1, 2, 5])):
                graph.change()
            pair.save(graph.namespace)
        loaded = pair.remembers.load()
        assert same(dict(sorted(graph.namespace.items())), dict(sorted(loaded.items())), {})
    finally:
        pair.store.close()


@settings(max_examples=CASES // 5, deadline=None)
@given(seed=st.integers(0, 2**48))
@example(seed=4270)  # a tuple within itself, by way of a pod that is used again
@example(seed=96)  # a tuple within itself, whose pod is linked from another variable
def test_changes_while_saving(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Reducers may change the graph during the walk; when they are quiet again, all is right."""
    pair = Pair(tmp_path_factory.mktemp("shadow") / "store")
    try:
        graph = Graph(seed, meddling=True)
        graph.namespace["a"] = Reduced(graph.some())
        graph.namespace["z"] = Reduced(graph.some())
        for _ in range(6):
            graph.change()
            for value in graph.objects():
                if isinstance(value, Reduced):
                    graph.in_reduced(value)
            pair.remembers.save(graph.namespace)
        graph.calm()
        pair.save(graph.namespace)
        loaded = pair.remembers.load()
        assert same(dict(sorted(graph.namespace.items())), dict(sorted(loaded.items())), {})
    finally:
        pair.store.close()


def test_nothing_changed(pair: Pair) -> None:
    """Lists, dicts, sets, tuples, instances and values are all used again."""
    node = Node()
    node.x = [1000, 2000]
    namespace = {
        "big": [[i, i + 10**6] for i in range(BIG)],
        "wide": {i: str(i) for i in range(BIG)},
        "set": set(range(BIG)),
        "some": ({1, 2}, frozenset("ab"), (10**6, 0.5), {"a": {}}, node),
        "text": "t" * 100_000,
        "value": 10**6,
    }
    pair.save(namespace)
    again = pair.save(namespace)
    assert again["walked"] == 0
    assert again["reused"] > 10


@pytest.mark.parametrize("at", [0, 1300, BIG - 1])
def test_one_element(pair: Pair, at: int) -> None:
    """One changed element of a container built of fragments: its fragment and the container."""
    namespace: dict[str, Any] = {
        "list": [10**6 + i for i in range(20 * BIG)],
        "dict": {f"key{i}": 10**6 + i for i in range(20 * BIG)},
    }
    pair.save(namespace)
    namespace["list"][20 * at] += 1
    assert pair.save(namespace)["walked"] == 2
    namespace["dict"][f"key{20 * at}"] += 1
    assert pair.save(namespace)["walked"] == 2


def test_inserted_and_removed(pair: Pair) -> None:
    """At the front, in the middle: the fragments around it are used again, wherever they are."""
    values = [f"{i:08}" for i in range(40 * BIG)]
    namespace = {"values": values}
    total = pair.save(namespace)["walked"]
    assert total > 10
    values.insert(0, "front")
    assert pair.save(namespace)["walked"] <= 4
    del values[20_000:20_100]
    assert pair.save(namespace)["walked"] <= 5
    values[50_000:50_000] = [f"new{i}" for i in range(10_000)]
    assert pair.save(namespace)["walked"] <= 12


def test_address_reused(pair: Pair) -> None:
    """A container that comes to the address of one that went is another one."""
    for make in (lambda i: [i], lambda i: {"i": i}, lambda i: (i, [i]), lambda i: {10**6 + i}):
        box: list[Any] = [make(0)]
        namespace = {"box": box, "other": [1]}
        pair.save(namespace)
        addresses = set()
        for i in range(1, 20):
            box[0] = None
            box[0] = make(i)
            addresses.add(id(box[0]))
            pair.save(namespace)
        assert len(addresses) < 19  # else this tested nothing


STATE = [f"element {i}" for i in range(300)]
made: list[tuple[str, ...]] = []  # by reducers, and not theirs alone


class Fleeting:
    """Its state is made by its reducer, has a pod of its own, and is gone after it."""

    def __reduce__(self) -> Any:
        return Fleeting, (), tuple(STATE)

    def __setstate__(self, state: Any) -> None: ...


class Making:
    """Its reducer makes what may come to the address of something that is gone."""

    def __reduce__(self) -> Any:
        made.append(tuple(STATE))
        return Making, ()


def test_what_a_reducer_made_is_gone(session: chipmink.Session) -> None:
    made.clear()
    value = [Fleeting(), Fleeting(), Making(), Making(), Making()]
    reused = 0
    for _ in range(4):
        session.save({"value": value})
        reused += session.store._shadows[session.name].statistics()["reused"]
    assert reused
    assert len({sys.getrefcount(state) for state in made}) == 1
    assert made == [tuple(STATE)] * len(made)


def test_moved_between_variables(pair: Pair) -> None:
    """An object that another variable holds now, before the one that had it."""
    many = 400
    shared = [[1, 2], [3, 4]]
    big = [shared[0], *range(many), shared[1]]
    namespace: dict[str, Any] = {"m": big, "n": [*range(many)]}
    pair.save(namespace)
    namespace = {"a": shared, **namespace}
    pair.save(namespace)
    loaded = pair.remembers.load()
    assert loaded["a"][0] is loaded["m"][0]
    assert loaded["a"][1] is loaded["m"][-1]
    del namespace["a"]
    pair.save(namespace)
    namespace["z"] = shared
    pair.save(namespace)
    loaded = pair.remembers.load()
    assert loaded["z"][1] is loaded["m"][-1]


def test_class_replaced(pair: Pair) -> None:
    """A class no longer found under its name is saved by value, and so are its instances."""
    import shadow_graph

    nodes = [Node() for _ in range(10)]
    namespace = {"nodes": nodes}
    pair.save(namespace)
    own = shadow_graph.Node
    try:
        shadow_graph.Node = type("Node", (), {})  # type: ignore[misc]
        pair.save(namespace)
    finally:
        shadow_graph.Node = own
    pair.save(namespace)


def test_class_learns_to_reduce(pair: Pair) -> None:
    """An instance is looked at again when its class has changed how it is pickled."""

    nodes = [Node() for _ in range(10)]
    namespace = {"nodes": nodes}
    pair.save(namespace)
    Node.__reduce__ = lambda self: (Node, ())  # type: ignore[method-assign,assignment]
    try:
        pair.save(namespace)
        nodes[0].x = 1
        pair.save(namespace)
    finally:
        del Node.__reduce__
    pair.save(namespace)


def test_failed_saves_are_forgotten(pair: Pair) -> None:
    """After a save that failed, or a variable that could not be saved, the next one is right."""

    class Stops:
        def __reduce__(self) -> str:
            raise KeyboardInterrupt

    values = [[i] for i in range(BIG)]
    namespace: dict[str, Any] = {"values": values}
    pair.save(namespace)
    values[5].append("changed")
    with pytest.raises(KeyboardInterrupt):
        pair.remembers.save({**namespace, "z": Stops()})
    pair.save(namespace)
    values[6].append(i for i in ())
    pair.save(namespace)
    values[6].pop()
    values[7].append("changed too")
    pair.save(namespace)


def test_checkout_and_other_names(pair: Pair) -> None:
    """Saving some variables, then all, then others."""
    namespace: dict[str, Any] = {c: [[c, i] for i in range(400)] for c in "abc"}
    pair.save(namespace)
    pair.save({"b": namespace["b"]})
    pair.save(namespace)
    pair.save({"x": namespace["b"], "a": namespace["a"]})
    namespace["b"][3].append(1)
    pair.save(namespace)


def test_values_are_kept_alive_no_longer_than_needed(pair: Pair) -> None:
    """Containers and instances are not held by the shadow; values are, until the next save."""
    import gc
    import weakref

    node = Node()
    gone = weakref.ref(node)
    namespace: dict[str, Any] = {"nodes": [node] * 3, "rest": [1000, "text"]}
    pair.save(namespace)
    del node
    namespace["nodes"] = []
    gc.collect()
    assert gone() is None


def test_memory_is_told(pair: Pair) -> None:
    """The shadow of a large list is small beside it, and tells its size."""
    namespace = {"values": [f"{i:0100}" for i in range(50_000)]}
    memory = pair.save(namespace)["memory"]
    assert 4 * 50_000 <= memory < 0.06 * 50_000 * 149


@pytest.mark.parametrize("key", [str, int, lambda i: (i, str(i))], ids=["text", "number", "tuple"])
def test_large_dicts(pair: Pair, key: Callable[[int], Any]) -> None:
    """Tables of dicts are compared as they lie in memory, with gaps where items were removed."""
    table = {key(i): [float(i)] if i % 3 else i + 0.5 for i in range(4 * BIG)}
    keys = list(table)
    assert pair.save({"table": table})["walked"] > 4
    for change in (
        lambda: table.__setitem__(keys[BIG], 0.25),
        lambda: [table.pop(keys[i]) for i in (0, 5, 6, BIG + 1, 4 * BIG - 1)],
        lambda: table.__setitem__(keys[5], "back, at the end"),
        lambda: table.__setitem__("of another type", None),
        lambda: table.__setitem__(7.5, None),
        lambda: table[keys[1]].append(1),
        lambda: table.popitem(),
    ):
        change()
        assert pair.save({"table": table})["reused"] > 2
    assert list(pair.remembers.load()["table"].items()) == list(table.items())


@pytest.mark.parametrize("kind", ["lists", "tuples", "dicts", "instances"])
def test_the_shadow_is_small_beside_small_objects(pair: Pair, kind: str) -> None:
    """A quarter of the memory of what it stands for, where that is nothing but small objects."""

    def instance(i: int) -> Node:
        node = Node()
        node.x, node.y, node.z = i, float(i), str(i)
        return node

    makers: dict[str, Callable[[int], Any]] = {
        "lists": lambda i: [i, i + 1, i + 2],
        "tuples": lambda i: (i, i + 10**6),
        "dicts": lambda i: {"id": i, "score": float(i), "tags": [i, i]},
        "instances": instance,
    }
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    values = [makers[kind](i) for i in range(10**5, 150_000)]
    memory = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0 < pair.save({"values": values})["memory"] < 0.25 * memory
    values[7] = makers[kind](7)
    assert 0 < pair.save({"values": values})["memory"] < 0.25 * memory
    assert pair.save({"values": values})["reused"] > 10


def test_memory_of_what_has_gone_is_given_back(pair: Pair) -> None:
    """Objects that have gone leave nothing in the tables, however often others take their place."""
    memory = []
    for turn in range(12):
        values = [[turn, i] for i in range(20_000)]
        memory.append(pair.save({"values": values, "kept": [turn]})["memory"])
        del values
    assert max(memory[6:]) < 1.5 * max(memory[:6])


def test_objects_all_over_the_address_space(pair: Pair) -> None:
    """Notes tell 255 regions of memory apart; objects in others are saved each time."""
    numpy = pytest.importorskip("numpy")
    apart, values = [], []
    for i in range(300):
        values.append(i.to_bytes(2, "big") * 80_000)  # memory mapped for each alone
        apart.append(numpy.empty(1 << 27, dtype="u1"))  # never touched
    lists = [[v, i] for i, v in enumerate(values)]
    namespace: dict[str, Any] = {"values": values, "lists": lists, "few": [[i] for i in range(99)]}
    pair.save(namespace)
    assert pair.save(namespace)["reused"] > 200
    values[250] = values[7]
    lists[299].append(0)
    namespace["few"][0].append(1)
    pair.save(namespace)
    loaded = pair.remembers.load()
    assert loaded == namespace
    assert loaded["values"][250] is loaded["values"][7] is loaded["lists"][7][0]


# ---- bounded


@pytest.mark.parametrize("limit", [1000, 300_000, 1_000_000, 1 << 40])
def test_the_shadow_keeps_within_its_limit(tmp_path: Path, limit: int) -> None:
    with chipmink.open(tmp_path / "store", shadow_limit=limit) as store:
        session = store.session("s")
        rows = [[i, {"i": i}, Node()] for i in range(5000)]
        for row in rows:
            row[2].row = row
        namespace = {"rows": rows, "table": {str(i): [i] for i in range(5000)}}
        session.save(namespace)
        used = []
        for turn in range(4):
            rows[turn * 1000][0] = -turn
            namespace["table"][str(turn)].append(turn)
            saved = session.save(namespace)
            found = store._shadows["s"].statistics()
            assert found["memory"] <= limit
            used.append(found["reused"])
            again = store.session(f"whole {turn}").save(namespace)
            for name in namespace:
                assert saved.variables[name].content == again.variables[name].content
        if limit == 1000:
            assert max(used) == 0
        elif limit == 1_000_000:
            assert min(used) > 0
        elif limit > 1_000_000:
            assert min(used) > 5


def test_a_limit_is_a_number_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="number of bytes"):
        chipmink.open(tmp_path / "store", shadow_limit=-1)
