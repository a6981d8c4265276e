# SPDX-License-Identifier: Apache-2.0
"""Elements of big containers in other variables, which load without the rest of these."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import tempfile
from pathlib import Path
from typing import Any

import chipmink
import pytest
from test_returning import Notebook
from test_walk_random import Node, assert_isomorphic

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

LENGTH = 20_000
EXAMPLES = 1000 if os.environ.get("CHIPMINK_LONG") else 10


def item(number: int) -> Node:
    node = Node()
    node.number, node.text = number, f"the text of object {number}"
    return node


def filled(kind: type, items: list[Node]) -> Any:
    return dict(enumerate(items)) if kind is dict else kind(items)


def plain(checkpoint: chipmink.Checkpoint, name: str) -> bytes:
    """What the mount shows as the file of a variable."""
    link = checkpoint._core.link([name], namespace=False, buffers=False)
    assert link.size == checkpoint.variables[name].size
    return bytes(link.read(0, link.size))


@pytest.mark.parametrize("kind", [list, dict, set])
def test_a_few_elements_are_small(session: chipmink.Session, kind: type) -> None:
    items = [item(number) for number in range(LENGTH)]
    objects = filled(kind, items)
    order = list(objects.values() if kind is dict else objects)
    first = session.save({"objects": objects, "best": order[:5], "top": order[LENGTH // 2]})
    whole, best, top = (first.variables[name] for name in ("objects", "best", "top"))
    assert whole.pods > 20
    assert top.pods == 1
    assert top.size < whole.size // 10
    assert best.pods <= (6 if kind is set else 2)  # a set has an order of its own
    assert best.size < whole.size // (2 if kind is set else 10)
    loaded = pickle.loads(plain(first, "best"))
    assert [node.number for node in loaded] == [node.number for node in order[:5]]
    assert pickle.loads(plain(first, "top")).number == order[LENGTH // 2].number
    both = session.load(names=["best", "objects"])
    values = both["objects"].values() if kind is dict else both["objects"]
    assert len(values) == LENGTH
    assert {id(node) for node in both["best"]} < {id(node) for node in values}


def test_a_change_elsewhere_is_none(session: chipmink.Session) -> None:
    """What is not in its fragments may change: it is the variable that it was."""
    objects = [item(number) for number in range(LENGTH)]
    session.save({"objects": objects, "best": objects[:5]})
    objects[LENGTH // 2].text = "another"
    checkpoint = session.save({"objects": objects, "best": objects[:5]})
    assert checkpoint.variables["objects"].changed == 2
    assert checkpoint.variables["best"].changed == 1


@pytest.mark.parametrize("above", [False, True])
def test_elements_with_an_owner_bring_all(session: chipmink.Session, above: bool) -> None:
    objects = [item(number) for number in range(LENGTH)]
    owner = Node()
    owner.objects = objects
    for node in objects:
        node.owner = owner if above else objects
    checkpoint = session.save({"all": owner if above else objects, "best": objects[:5]})
    for loaded in (session.load(names=["best"])["best"], pickle.loads(plain(checkpoint, "best"))):
        owner = loaded[0].owner
        again = owner.objects if above else owner
        assert len(again) == LENGTH
        assert all(node.owner is owner for node in again)
        assert all(a is b for a, b in zip(loaded, again, strict=False))


@pytest.mark.parametrize("behind", [False, True])
def test_going_back_leaves_one_of_each(path: Path, behind: bool) -> None:
    """Whichever of the list and its elements is replaced, both have the same ones."""
    book = Notebook(path, behind)
    book.cell("objects = [[i, str(i)] for i in range(20_000)]")
    book.cell("best = objects[:5]")
    book.cell("objects[15_000].append(1)")
    assert "objects" in book.command("undo")
    n = book.n
    objects = n["objects"]
    assert objects[15_000] == [15_000, "15000"]
    assert all(n["best"][i] is objects[i] for i in range(5))
    book.cell("best = best[:2]")
    assert book.command("undo").endswith("replaced best")
    assert n["objects"] is objects
    assert len(n["best"]) == 5
    assert all(n["best"][i] is objects[i] for i in range(5))
    book.nb._detach()
    book.store.close()


@st.composite
def namespaces(draw: Any) -> dict[str, Any]:
    """Big containers whose elements refer to anything; variables that refer to some of these."""
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    kinds = draw(st.lists(st.sampled_from([list, dict, set]), min_size=1, max_size=2))
    items = [[item(number) for number in range(rng.randrange(2048, 2700))] for _ in kinds]
    containers = [filled(kind, some) for kind, some in zip(kinds, items, strict=True)]
    everything = [*itertools.chain(*items), *containers]
    outer = Node()
    outer.parts = containers
    everything.append(outer)
    for _ in range(draw(st.integers(0, 30))):
        rng.choice(rng.choice(items)).link = rng.choice(everything)
    if draw(st.booleans()):  # an owner
        for node in rng.choice(items):
            node.owner = rng.choice([outer, containers[0]])
    values: list[Any] = [rng.choice([outer, *containers])]
    for _ in range(draw(st.integers(1, 5))):
        some = rng.choice(items)
        begin = rng.randrange(len(some))
        values.append(
            rng.choice(
                [
                    some[begin],
                    some[begin : begin + 5],
                    rng.sample(some, 3),
                    {"of": rng.choice(containers)},
                    [rng.choice(everything), rng.choice(some)],
                ]
            )
        )
    order = draw(st.permutations(range(len(values))))
    return {f"v{n}": values[n] for n in order}


@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
@hypothesis.given(namespaces(), st.randoms(use_true_random=False))
def test_random_namespaces(namespace: dict[str, Any], rng: random.Random) -> None:
    names = list(namespace)
    with tempfile.TemporaryDirectory() as directory, chipmink.open(Path(directory, "s")) as store:
        session = store.session("s")
        checkpoint = session.save(namespace)
        assert checkpoint.unsaved == {}
        subsets = [[name] for name in names] + list(itertools.combinations(names, 2))
        subsets = [*rng.sample(subsets, min(4, len(subsets))), names]
        for some in subsets:
            loaded = session.load(names=some)
            assert_isomorphic([namespace[n] for n in some], [loaded[n] for n in some])
        for name in names:
            assert_isomorphic(namespace[name], pickle.loads(plain(checkpoint, name)))
        whole = session.load()
        assert_isomorphic([namespace[n] for n in names], [whole[n] for n in names])
