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


def test_times_are_kept(store: chipmink.Store) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    first = study.get_trials(deepcopy=False)[0]
    session = store.session("s")
    session.save({"study": study, "first": first})
    loaded = session.load()
    assert loaded["study"].trials == study.trials
    assert loaded["study"].get_trials(deepcopy=False)[0] is loaded["first"]
    assert session.load(names=["first"])["first"] == first
    before = session.save({"study": study}).variables["study"]
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert session.save({"study": study}).variables["study"].content != before.content
    assert session.load()["study"].trials == study.trials
    loaded["study"].optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(loaded["study"].trials) == 4


def test_results_of_a_search_are_where_they_were(store: chipmink.Store) -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    points = numpy.random.default_rng(1).normal(size=(60, 3))
    search = GridSearchCV(DecisionTreeClassifier(random_state=1), {"max_depth": [1, 2]}, cv=2)
    search.fit(points, points[:, 0] > 0)
    session = store.session("s")
    session.save({"results": search.cv_results_, "search": search})
    session.save({"a": search, "results": search.cv_results_})
    for loaded in (session.load(at=1), session.load()):
        found = loaded.get("search") or loaded["a"]
        assert found.cv_results_ is loaded["results"]
        assert list(found.cv_results_) == list(search.cv_results_)
        for name in ("mean_fit_time", "std_score_time", "mean_test_score"):
            assert (found.cv_results_[name] == search.cv_results_[name]).all()
        assert found.refit_time_ == search.refit_time_


def test_a_log_of_events(store: chipmink.Store) -> None:
    pytest.importorskip("gensim")
    from gensim.models import Word2Vec

    model = Word2Vec([["a", "b"], ["b", "c"]], vector_size=4, min_count=1, workers=1)
    model.lifecycle_events.append({"msg": 5, "more": [1]})
    session = store.session("s")
    session.save({"model": model, "events": [model.lifecycle_events]})
    loaded = session.load()
    assert loaded["model"].lifecycle_events == loaded["events"][0] == model.lifecycle_events
    assert [list(event) for event in loaded["model"].lifecycle_events] == [
        list(event) for event in model.lifecycle_events
    ]
    model.lifecycle_events = None
    session.save({"model": model})
    assert session.load()["model"].lifecycle_events is None


def test_a_net_goes_on(store: chipmink.Store) -> None:
    numpy = pytest.importorskip("numpy")
    skorch = pytest.importorskip("skorch")
    torch = pytest.importorskip("torch")
    points = numpy.random.default_rng(1).normal(size=(40, 3)).astype("f4")
    net = skorch.NeuralNetRegressor(torch.nn.Linear, module__in_features=3, module__out_features=1)
    net.set_params(max_epochs=2, verbose=0, optimizer=torch.optim.Adam)
    session = store.session("s")
    session.save({"net": net})  # not initialized
    assert not session.load()["net"].initialized_
    net.fit(points, points[:, :1])
    net.history.note = "kept"
    session.save({"net": net})
    loaded = session.load()["net"]
    assert loaded.history == net.history
    assert loaded.history.note == "kept"
    assert (loaded.predict(points) == net.predict(points)).all()
    for each in (net, loaded):
        torch.manual_seed(2)
        each.partial_fit(points, points[:, :1])
    assert (loaded.predict(points) == net.predict(points)).all()
    assert len(loaded.history) == 4


def test_a_graph_ends_where_it_ends(store: chipmink.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arrays are saved without the rest of their memory; who sees more of it has it all."""
    numpy = pytest.importorskip("numpy")
    sparse = pytest.importorskip("scipy.sparse")
    module: Any = types.ModuleType("umap.umap_")
    monkeypatch.setitem(sys.modules, "umap", types.ModuleType("umap"))
    monkeypatch.setitem(sys.modules, "umap.umap_", module)

    class UMAP:
        graph_: Any = None

    UMAP.__module__, UMAP.__qualname__, module.UMAP = module.__name__, "UMAP", UMAP
    memory = numpy.arange(1000.0)
    model = UMAP()
    model.graph_ = sparse.csr_matrix(sparse.eye(600))
    model.graph_.data = memory[:600]
    namespace = {"a": model, "part": memory[5:50], "more": memory[500:700], "whole": memory}
    session = store.session("s")
    for names in (["a"], list(namespace), ["whole", "a", "part"]):
        saved = session.save({name: namespace[name] for name in names})
        assert saved.unsaved == {}
        loaded = session.load()
        for name in {"part", "more", "whole"} & set(names):
            assert (loaded[name] == namespace[name]).all()
        if "part" in names:
            loaded["part"][0] = -1
            assert loaded["a"].graph_.data[5] == -1
        data = loaded["a"].graph_.data
        assert (data == memory[:600]).all() or "part" in names
        assert data.base.nbytes == (8000 if names[0] == "whole" else 4800)
