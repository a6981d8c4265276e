# SPDX-License-Identifier: Apache-2.0
"""What stands for addresses and hashes in saved classes and models does what they did."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest

MODELS = """
import dataclasses
from pydantic import BaseModel
def make(kind):
    class Point(BaseModel):
        x: kind
    return Point
Whole, Text = make(int), make(str)
class Pair(BaseModel):
    whole: Whole
    text: Text
pair = Pair(whole=Whole(x=1), text=Text(x="t"))
"""
PAIRS = """
import sys
import chipmink
from pydantic import BaseModel, ValidationError
with chipmink.open(sys.argv[1], embedded=True) as store:
    loaded = store.session("s").load()
Pair, Whole, Text = loaded["Pair"], loaded["Whole"], loaded["Text"]
assert Whole is not Text
assert loaded["pair"] == Pair(whole={"x": "1"}, text={"x": "t"})
for whole, text in (("t", "t"), (1, 1)):
    try:
        Pair(whole={"x": whole}, text={"x": text})
    except ValidationError as error:
        print(error.errors()[0]["loc"])
class Outer(BaseModel):
    first: Whole
    second: Text
    pairs: list[Pair]
print(Outer(first=Whole(x=2), second=Text(x="u"), pairs=[loaded["pair"]]).model_dump_json())
"""
FROZEN = """
import attrs
@attrs.frozen
class Key:
    text: str
    number: int = 3
{other}
value = {{Key("p"): 1, Key("q"): 2}}
"""
KEYS = """
import sys
import chipmink
with chipmink.open(sys.argv[1], embedded=True) as store:
    loaded = store.session("s").load()
Key, value = loaded["Key"], loaded["value"]
assert hash(Key("p")) == hash(Key("p")) != hash(Key("q")) and {Key("p"), Key("p")} == {Key("p")}
print(value[Key("p")], value[Key("q")], Key("r") in value)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[chipmink.Store]:
    with chipmink.open(tmp_path / "store", embedded=True) as opened:
        yield opened


def defined(source: str) -> dict[str, Any]:
    """Give the namespace of a session in which the source has run."""
    module = types.ModuleType("__main__")
    exec(compile(source, "<cell>", "exec"), vars(module))
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def elsewhere(program: str, store: chipmink.Store) -> list[str]:
    """What another process prints that loads from a store which this one has closed."""
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", program, store.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_models_of_one_name_stay_apart(store: chipmink.Store) -> None:
    pytest.importorskip("pydantic")
    names = defined(MODELS)
    saved = store.session("s").save(
        {name: names[name] for name in ("Whole", "Text", "Pair", "pair")}
    )
    assert saved.unsaved == {}
    found = elsewhere(PAIRS, store)
    assert found[:2] == ["('whole', 'x')", "('text', 'x')"]
    assert found[2] == (
        '{"first":{"x":2},"second":{"x":"u"},"pairs":[{"whole":{"x":1},"text":{"x":"t"}}]}'
    )


def test_keys_of_attrs_are_found_again(store: chipmink.Store) -> None:
    pytest.importorskip("attrs")
    names = defined(FROZEN.format(other=""))
    session = store.session("s")
    first = session.save({"Key": names["Key"], "value": names["value"]})
    assert first.unsaved == {}
    assert session.load()["value"] == names["value"]
    other = defined(FROZEN.format(other="    more: int = 4"))
    second = session.save({"Key": other["Key"], "value": other["value"]})
    assert second.variables["Key"].content != first.variables["Key"].content
    assert elsewhere(KEYS, store) == ["1 2 False"]


def test_nodes_of_trees_keep_what_is_read(store: chipmink.Store) -> None:
    numpy = pytest.importorskip("numpy")
    tree = pytest.importorskip("sklearn.tree")
    points = numpy.random.default_rng(1).normal(size=(200, 3))
    points[::7, 1] = numpy.nan
    model = tree.DecisionTreeRegressor(random_state=1).fit(points, points[:, 0])
    nodes = model.tree_.__getstate__()["nodes"]
    before = {name: nodes[name].copy() for name in nodes.dtype.names}
    nodes.view("u1").reshape(len(nodes), -1)[:, -1] = 7  # as if never written
    session = store.session("s")
    session.save({"model": model})
    saved = model.tree_.__getstate__()["nodes"]
    assert all((saved[name] == before[name]).all() for name in before)
    loaded = session.load()["model"]
    assert (loaded.predict(points) == model.predict(points)).all()


def test_attributes_keep_their_order_and_sharing(store: chipmink.Store) -> None:
    frames = pytest.importorskip("pandas")
    pytest.importorskip("jinja2")
    table = frames.DataFrame({"n": [1, 2]})
    style = table.style.format(precision=1)
    session = store.session("s")
    session.save({"style": style, "table": style.data})
    loaded = session.load()
    assert list(vars(loaded["style"])) == list(vars(style))
    assert loaded["style"].data is loaded["table"]
    assert loaded["style"].to_html() == style.to_html()  # with its random identifier
