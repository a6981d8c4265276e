# SPDX-License-Identifier: Apache-2.0
"""Whatever gets a pod of its own: the pods follow from the objects, and changes stay local."""

from __future__ import annotations

import random
from typing import Any

import chipmink
import numpy as np
import pytest
from chipmink import _core
from shadow_graph import Graph
from test_shadow import same

POLICIES = ("size", "near", "bundle", "split", "random")


def session_of(store: chipmink.Store, name: str, policy: str) -> chipmink.Session:
    """Give a session that saves with a policy."""
    store._shadows[name] = _core.Shadow(policy=policy)
    return store.session(name)


def nested(count: int = 60) -> dict[str, Any]:
    """Many short containers in one another, some megabytes of them."""
    rng = random.Random(1)
    grid = [[[rng.random() for _ in range(100)] for _ in range(100)] for _ in range(count)]
    orders = [{"number": i, "items": [rng.randbytes(6).hex() for _ in range(20)]} for i in range(9)]
    return {"grid": grid, "orders": {f"customer {i}": [*orders] for i in range(count)}}


def test_unknown() -> None:
    with pytest.raises(ValueError, match=r"no policy 'best': there are size, near"):
        _core.Shadow(policy="best")


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_graph_gives_the_same_pods(store: chipmink.Store, policy: str) -> None:
    for seed in range(8):
        graph = Graph(seed)
        for _ in range(12):
            graph.change()
        one = session_of(store, f"one{seed}", policy).save(graph.namespace)
        loaded = store.session(f"one{seed}").load()
        two = session_of(store, f"two{seed}", policy).save(loaded)
        assert two.stats["pods_new"] == 0
        assert two.stats["pods"] == one.stats["pods"]
        assert same(dict(sorted(graph.namespace.items())), dict(sorted(loaded.items())), {})


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_remembered_does_not_show(store: chipmink.Store, policy: str) -> None:
    for seed in range(6):
        graph = Graph(100 + seed)
        remembers = session_of(store, f"remembers{seed}", policy)
        for _ in range(6):
            graph.change()
            ours = remembers.save(graph.namespace).variables
            theirs = session_of(store, f"forgets{seed}", policy).save(graph.namespace).variables
            assert {n: v.content for n, v in ours.items()} == {
                n: v.content for n, v in theirs.items()
            }


@pytest.mark.parametrize("policy", ["size", "split"])
def test_a_leaf_of_many_short_containers(store: chipmink.Store, policy: str) -> None:
    value = nested(20)
    session = session_of(store, "nested", policy)
    first = session.save(value).stats
    before = first["pods"]
    for i in range(5):
        value["grid"][3 * i][i][50] = float(i)
        value["orders"][f"customer {i}"][i]["items"][i] = "another"
        stats = session.save(value).stats
        assert stats["pods_new"] <= 12
        assert stats["bytes_written"] < first.bytes_written / 20
        assert stats["pods"] == before  # what was decided of an object stays
    assert session.load() == value


def test_pods_keep_it_local(store: chipmink.Store) -> None:
    value = nested()
    written = {}
    for policy in ("size", "bundle"):
        session = session_of(store, policy, policy)
        session.save(value)
        value["grid"][7][7][7] = random.Random(policy).random()
        written[policy] = session.save(value).stats.bytes_written
    assert written["size"] * 20 < written["bundle"]


@pytest.mark.parametrize("policy", ["size", "split", "random"])
def test_inserted_in_front(store: chipmink.Store, policy: str) -> None:
    rows = [{"id": i * 7919 % 100_003, "text": f"row {i}"} for i in range(5_000)]
    session = session_of(store, "rows", policy)
    session.save({"rows": rows})
    rows.insert(0, {"id": -1, "text": "first"})
    assert session.save({"rows": rows}).stats["pods_new"] <= 3
    assert session.load()["rows"] == rows


def test_what_has_a_pod_of_its_own_does_not_count(store: chipmink.Store) -> None:
    """A container of big ones is small, and so is one of long texts."""
    session = session_of(store, "s", "size")
    big = [[float(i + j) for j in range(300)] for i in range(20)]
    texts = [f"{i}" * 5000 for i in range(20)]
    alone = session.save({"a": [big[0]]}).stats["pods"]
    assert session.save({"a": [1, big, 2]}).stats["pods"] == alone + len(big) - 1
    assert session.save({"a": [1, texts, 2]}).stats["pods"] == 1 + len(texts)


def test_what_is_near_to_a_variable_is_loaded_by_itself(store: chipmink.Store) -> None:
    """Long texts, lists and arrays that other variables have, too, do not drag those along."""
    texts = [f"{i:06}" * 1500 for i in range(3000)]
    lists = [[f"{i} {j}" for j in range(300)] for i in range(3000)]
    arrays = {f"{i}": np.full(1000, i) for i in range(500)}
    session = store.session("s")
    one = {"a": texts[1234], "b": lists[1234], "c": arrays["123"]}
    whole = {"texts": texts, "lists": lists, "arrays": arrays}
    handle = session.save({**whole, **one})._core
    for name in one:
        link = handle.link([name], False)
        assert link.size + sum(link.buffer_sizes) < 20_000
    loaded = session.load()
    assert loaded["texts"][1234] is loaded["a"]
    assert loaded["lists"][1234] is loaded["b"]
