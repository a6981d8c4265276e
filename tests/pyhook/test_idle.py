# SPDX-License-Identifier: Apache-2.0
"""Variables that nothing could reach since the last save are not looked at; all others are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shadow_graph import BIG, Graph, Node, Reduced, Slotted
from test_shadow import Pair, same

CASES = 10_000 if os.environ.get("CHIPMINK_LONG") else 150


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Give a pair of sessions, of which the first is told what may have changed."""
    return filtered(tmp_path / "store")


def filtered(path: Path) -> Pair:
    """Make it."""
    pair = Pair(path)
    pair.remembers._filter(True)
    return pair


class Told(Graph):
    """A graph that notes through which variable each change is made, one of those there are."""

    def __init__(self, seed: int) -> None:
        self.concerned: set[str] | None = None  # all of them
        super().__init__(seed)

    def told(self) -> set[str] | None:
        """Give the names, and begin anew."""
        concerned, self.concerned = self.concerned, set()
        return concerned

    def reach(self, target: Any) -> None:
        """Note a variable that leads to an object."""
        if self.concerned is None:
            return
        whole, names = self.namespace, []
        for name, value in whole.items():
            self.namespace = {name: value}
            if any(found is target for found in super().objects()):
                names.append(name)
        self.namespace = whole
        if names:
            self.concerned.add(self.random.choice(names))
        else:  # it is behind elements that are not looked at here
            self.concerned = None

    def some(self) -> Any:
        """Give an object of the graph, which a variable may come to hold."""
        found = super().some()
        if self.namespace:
            self.reach(found)
        return found

    def change(self) -> None:
        """Let one thing happen; what is bound, removed or put in another order is noted, too."""
        before = [*self.namespace.items()]
        super().change()
        after = [*self.namespace.items()]
        if self.concerned is None:
            return
        old, new = dict(before), dict(after)
        moved = [name for name in {**old, **new} if old.get(name, old) is not new.get(name, new)]
        self.concerned.update(moved)
        bound = {id(new[name]) for name in moved if name in new}
        self.concerned.update(name for name, value in before if id(value) in bound)
        if [name for name in old if name in new] != [name for name in new if name in old]:
            self.concerned = None


def _noting(method: str) -> Callable[[Told, Any], None]:
    def change(self: Told, target: Any) -> None:
        self.reach(target)
        getattr(Graph, method)(self, target)

    return change


for _kind in ("list", "dict", "set", "bytearray", "node", "slotted", "reduced"):
    setattr(Told, f"in_{_kind}", _noting(f"in_{_kind}"))


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**48))
@example(seed=365)  # a constant of a reducer's code, which no variable shows, is in two of them
def test_random_changes(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Told of one way to each change, a save sees all of it."""
    pair = filtered(tmp_path_factory.mktemp("idle") / "store")
    try:
        graph = Told(seed)
        for _ in range(8):
            for _ in range(graph.random.choice([0, 1, 1, 1, 2, 5])):
                graph.change()
            pair.remembers._touch(graph.told())
            loaded = pair.remembers.save(graph.namespace).load()
            assert same(dict(sorted(graph.namespace.items())), dict(sorted(loaded.items())), {})
    finally:
        pair.store.close()


class Counted:
    """Counts how often it is reduced."""

    def __init__(self, target: Any = None) -> None:
        self.target = target

    reductions = 0

    def __reduce__(self) -> tuple[Any, ...]:
        Counted.reductions += 1
        return (Counted, (self.target,))


def reduced(pair: Pair, namespace: dict[str, Any], touched: set[str] | None) -> int:
    """Save, and tell how many were reduced, beside as many as there are."""
    pair.remembers._touch(touched)
    Counted.reductions = 0
    pair.remembers.save(namespace)
    before, Counted.reductions = Counted.reductions, 0
    pair.save(namespace)
    return before


def test_untouched_variables_are_not_looked_at(pair: Pair) -> None:
    """No reducer of theirs is called; of the others, all are."""
    namespace = {"a": Counted([1]), "b": [Counted(), Counted()], "c": list(range(BIG))}
    assert reduced(pair, namespace, None) == 3
    assert reduced(pair, namespace, set()) == 0
    assert reduced(pair, namespace, {"a"}) == 1
    assert reduced(pair, namespace, {"b", "unknown"}) == 2
    assert reduced(pair, namespace, None) == 3


def test_what_shares_objects_is_looked_at(pair: Pair) -> None:
    """Also by way of a third one, of an alias, and of what a reducer gave."""
    shared, other = [1], {"k": 2}
    namespace = {
        "a": Counted(shared),
        "b": Counted([shared, other]),
        "c": Counted(other),
        "d": other,
        "e": Counted(),
    }
    reduced(pair, namespace, None)
    assert reduced(pair, namespace, set()) == 0
    for name in "abcd":
        assert reduced(pair, namespace, {name}) == 3
    other["k"] = 3
    assert reduced(pair, namespace, {"a"}) == 3
    loaded = pair.remembers.load()
    assert loaded["d"] == {"k": 3}
    assert loaded["c"].target is loaded["d"] is loaded["b"].target[1]
    assert reduced(pair, namespace, {"e"}) == 1


def test_bound_anew_and_removed(pair: Pair) -> None:
    """That shows without being told, for the names themselves and for what they share."""
    shared = [1]
    namespace = {"a": Counted(shared), "b": Counted(shared), "c": Counted(), "d": Counted()}
    reduced(pair, namespace, None)
    namespace["c"] = Counted([2])
    assert reduced(pair, namespace, set()) == 1
    del namespace["a"]
    assert reduced(pair, namespace, set()) == 1
    assert reduced(pair, namespace, set()) == 0
    namespace["new"] = namespace["d"]
    assert reduced(pair, namespace, {"d"}) == 1
    loaded = pair.remembers.load()
    assert loaded["new"] is loaded["d"]
    assert reduced(pair, namespace, set()) == 0
    assert pair.remembers.load()["new"] is not None


def test_groups_come_apart(pair: Pair) -> None:
    """What shared objects, and does not any more, is looked at by itself."""
    shared = [1]
    namespace = {"a": Counted(shared), "b": Counted(shared)}
    reduced(pair, namespace, None)
    namespace["b"].target = [2]
    assert reduced(pair, namespace, {"b"}) == 2
    assert reduced(pair, namespace, {"a"}) == 1
    assert reduced(pair, namespace, {"b"}) == 1


def test_not_told_is_not_seen(pair: Pair) -> None:
    """What is not told is not looked for; once everything is looked at it is seen."""
    namespace = {"a": [1], "b": [2]}
    pair.remembers.save(namespace)
    namespace["a"].append(3)
    pair.remembers._touch({"b"})
    assert pair.remembers.save(namespace).load(["a"]) == {"a": [1]}
    pair.remembers._touch(None)
    assert pair.remembers.save(namespace).load(["a"]) == {"a": [1, 3]}


def test_the_memory_of_what_was_not_told_may_be_gone(pair: Pair) -> None:
    """Being told wrongly gives a wrong checkpoint, and nothing worse."""
    namespace: dict[str, Any] = {"a": [[i] for i in range(3 * BIG)], "b": [Slotted(1, [2])]}
    pair.remembers.save(namespace)
    namespace["a"].clear()
    namespace["b"].clear()
    junk = [[Node(), [i]] for i in range(3 * BIG)]
    for _ in range(3):
        namespace["c"] = [junk[1:], Reduced(junk)]
        pair.remembers._touch({"c"})
        pair.remembers.save(namespace)
    pair.remembers._touch(None)
    pair.save(namespace)
    assert pair.remembers.load()["a"] == []


def test_failures(pair: Pair) -> None:
    """After a save that failed everything is looked at; what cannot be saved is, each time."""
    namespace: dict[str, Any] = {"a": Counted(), "b": Counted([1]), "g": (i for i in ())}
    assert reduced(pair, namespace, None) == 2

    class Ends(Exception):
        pass

    def fail(value: Any) -> Any:
        raise KeyboardInterrupt

    namespace["stop"] = Slotted(None, None)
    Slotted.__reduce__ = fail  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            pair.remembers.save(namespace)
    finally:
        del Slotted.__reduce__
    del namespace["stop"]
    assert reduced(pair, namespace, set()) == 2
    assert reduced(pair, namespace, set()) == 0
    assert [*pair.remembers.head.unsaved] == ["g"]  # type: ignore[union-attr]


class Unsaved:
    """Cannot be saved."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("it cannot be saved")


def test_what_shares_with_something_unsaved(pair: Pair) -> None:
    """That is not known, so everything is looked at when such a variable was touched."""
    shared = [1]
    namespace = {"a": shared, "b": Counted(), "c": Unsaved(shared)}
    reduced(pair, namespace, None)
    assert reduced(pair, namespace, {"new"}) == 0
    shared.append(2)
    assert reduced(pair, namespace, {"c"}) == 1
    assert pair.remembers.load()["a"] == [1, 2]


def test_after_a_collection(pair: Pair) -> None:
    """What was removed from the store is written again."""
    namespace = {"a": Counted([1]), "b": Counted([2])}
    reduced(pair, namespace, None)
    namespace["a"] = Counted([3])
    reduced(pair, namespace, {"a"})
    pair.remembers.prune(last=1)
    pair.forgets.prune(last=1)
    pair.store.gc()
    assert reduced(pair, namespace, set()) == 2
    assert reduced(pair, namespace, set()) == 0
    assert pair.remembers.load()["a"].target == [3]
