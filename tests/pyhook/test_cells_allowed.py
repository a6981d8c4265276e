# SPDX-License-Identifier: Apache-2.0
"""What the code checker's tables allow is called, and changes none of what it is given."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
sns = pytest.importorskip("seaborn")
matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from cells_support import digest, session, state  # noqa: E402
from chipmink import _allowed, _kinds  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # many calls make no sense


def samples() -> dict[str, list[Any]]:
    """Make values of all kinds, new for each call of something on them."""
    times = pd.date_range("2024-01-01", periods=4, freq="D")
    frame = pd.DataFrame({"a": [3.0, 1.0, 2.0, 1.0], "b": list("xyxz"), "c": [1, 2, 3, 4]})
    numbers = pd.Series([3.0, 1.0, 2.0, 1.0], name="a")
    texts = pd.Series(["u v", "w", "u", "x"], name="b")
    dates = pd.Series(times)
    pairs = pd.MultiIndex.from_product([["p", "q"], [1, 2]])
    return {
        "number": [3, 2.5, 1j, True],
        "text": ["some text", "a"],
        "bytes": [b"ab"],
        "list": [[3, 1, 2]],
        "tuple": [(3, 1)],
        "dict": [{"a": 1, "b": [2]}],
        "set": [{1, 2}],
        "range": [range(4)],
        "array": [np.array([3.0, 1.0, 2.0, 1.0]), np.arange(4).reshape(2, 2)],
        "npscalar": [np.float64(2.5), np.int64(3)],
        "time": [times[0], times[0] - times[1], times[0].to_pydatetime()],
        "frame": [frame, frame.set_index(pairs), frame[["a", "c"]]],
        "series": [numbers, texts, dates, numbers.set_axis(times)],
        "index": [frame.index, pd.Index(["v", "u"]), times, pairs],
        "extension": [texts.astype("category").array, dates.array],
        "frame_groups": [frame.groupby("b"), frame[["b", "c"]].groupby("b")],
        "series_groups": [frame.groupby("b")["a"]],
        "window": [numbers.rolling(2), frame[["a"]].expanding()],
        "strings": [texts.str],
        "dates": [dates.dt],
    }


ARGUMENTS: list[Callable[[], Any]] = [
    *(lambda: 1, lambda: 0.5, lambda: "a", lambda: "b", lambda: ["a"], lambda: [1, 0]),
    *(lambda: "mean", lambda: {"a": "a"}, lambda: float, lambda: 0),
    lambda: np.array([1.0, 3.0, 2.0, 0.0]),
    lambda: pd.Series([4.0, 1.0, 2.0, 1.0]),
    lambda: pd.DataFrame({"a": [1.0, 2.0], "d": [1, 2]}),
]


LONG = "CHIPMINK_LONG" in os.environ
if not LONG:
    ARGUMENTS = [ARGUMENTS[0], ARGUMENTS[2], ARGUMENTS[-2]]
PAIRS = ARGUMENTS[:4] if LONG else ARGUMENTS[:1]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(Exception),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        yield


def described(value: Any) -> Any:
    """Describe a value of the kinds above."""
    if type(value) is type:
        return value
    if type(value).__module__.startswith(
        "pandas"
    ):  # groups, windows, .str and .dt: what is in them
        value = getattr(value, "obj", getattr(value, "_parent", value))
    return digest(value, {"__name__": ""})


def all_described(given: list[list[Any]]) -> list[Any]:
    return [described(value) for values in given for value in values]


@pytest.mark.parametrize("kind", list(samples()))
def test_methods_change_nothing(kind: str) -> None:
    called = 0
    owners = range(len(samples()[kind]))[: None if LONG else 1]
    names = [*_kinds.METHODS.get(kind, ()), *_kinds.ENDS.get(kind, ())]
    for number, name in itertools.product(owners, names):
        rule = _kinds.METHODS.get(kind, {}).get(name, _kinds.Rule(1, "", frozenset()))
        if rule.draws or not hasattr(type(samples()[kind][number]), name):
            continue
        given: list[list[Any]] = [[]]
        if rule.positional >= 1:
            given += [[make()] for make in ARGUMENTS]
        if rule.positional >= 2:
            given += [[make(), other()] for make in ARGUMENTS for other in PAIRS]
        owner = samples()[kind][number]
        before = described(owner), all_described(given)
        for arguments in given:
            with quietly():
                getattr(owner, name)(*arguments)
                called += 1
        assert (described(owner), all_described(given)) == before, name
    assert called > 0 or kind in ("window", "range")


@pytest.mark.parametrize("module", ["numpy", "numpy.linalg", "numpy.fft", "pandas", "builtins"])
def test_functions_change_nothing(module: str) -> None:
    called = 0
    values = [each for several in samples().values() for each in several]
    if not LONG:
        values = [samples()[kind][0] for kind in ("array", "list", "frame", "series", "index")]
    for name in _kinds.FUNCTIONS[module]:
        function = getattr(sys.modules[module], name, None)
        rule = _kinds.function_rule(function)
        if rule is None:
            continue
        given = [[value] for value in values]
        if rule.positional >= 2:
            several = ("array", "number", "series", "list", "text")
            few = [samples()[kind][0] for kind in several[: 5 if LONG else 2]]
            given += [[value, other] for value in few for other in few]
        if rule.positional >= 3:
            given += [[value, other, value] for value in few for other in few]
        before = all_described(given)
        for arguments in given:
            with quietly():
                function(*arguments)
                called += 1
        assert all_described(given) == before, name
    assert called > 10


def plots() -> Iterator[str]:
    for name in _kinds.FUNCTIONS["matplotlib.pyplot"]:
        several = ("x, x", "'t'", "grid", "x", "", "2", "x, x, grid", "1, 2, 't'")
        for arguments in several[: 8 if LONG else 2]:
            yield f"plt.{name}({arguments})"
    for name in _kinds.FUNCTIONS["seaborn"]:
        if name not in ("pairplot", "jointplot"):  # slow, and made of the others
            yield f"sns.{name}(data=df, x='a', y='c')"
        if name in ("histplot", "kdeplot", "ecdfplot", "boxplot", "violinplot", "countplot"):
            yield f"sns.{name}(x)"
    yield "sns.heatmap(grid)"
    for name in _kinds.METHODS["plotter"]:
        yield f"df.plot.{name}()"
        yield f"df.plot.{name}(x='a', y='c')"
        yield f"s.plot.{name}()"


def test_plots_change_nothing() -> None:
    matplotlib.use("agg")
    namespace = session("cells_plots")
    pyplot = namespace["plt"]
    before = state(namespace)
    generator = np.random.get_state()[1].tobytes()
    for cell in plots():
        with quietly():
            exec(cell, namespace)
        if pyplot.get_fignums() and cell.startswith("plt.show"):
            pyplot.close("all")
        assert np.random.get_state()[1].tobytes() == generator, cell
        pyplot.close("all")
    assert state(namespace) == before


def test_models_change_nothing() -> None:
    """Predicting leaves all that a model is made of as it was, and what it predicts from."""
    namespace = session("cells_models")
    rows = np.abs(np.random.default_rng(1).normal(size=(30, 3)))
    labels = (rows[:, 0] > 0.6).astype(int)
    for path in _allowed.TYPES["model"].split():
        module, _, name = path.partition(":")
        exec(f"from {module} import {name}", namespace)
        made = namespace[name]
        with quietly():
            steps = [("scale", namespace["StandardScaler"]()), ("fit", namespace["model"])]
            model = made(steps) if name == "Pipeline" else made()
            model.fit(labels if name.startswith("Label") else rows, labels)
        before = pickle.dumps([model, rows, labels])
        checked = _kinds.Look()
        assert _kinds.kind_of(model) == "model"
        if name not in ("SGDClassifier", "SGDRegressor"):  # they hold a loss, which is not known
            checked.at(model)
        for method in _kinds.METHODS["model"]:
            for arguments in ([rows], [labels], [rows, labels], []):
                with quietly():
                    getattr(model, method)(*arguments)
        repr(model)
        model._repr_html_() if hasattr(model, "_repr_html_") else None
        assert pickle.dumps([model, rows, labels]) == before, name
