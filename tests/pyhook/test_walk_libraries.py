# SPDX-License-Identifier: Apache-2.0
"""The walker on what notebooks hold: NumPy, pandas, SciPy, scikit-learn, torch and others."""

from __future__ import annotations

import pickle
import textwrap
import types
from pathlib import Path
from typing import Any

import chipmink
import pytest


def roundtrip(session: chipmink.Session, **namespace: Any) -> types.SimpleNamespace:
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    loaded = session.load()
    again = session.save(loaded)
    assert again.unsaved == {}
    return types.SimpleNamespace(**loaded)


def test_numpy(session: chipmink.Session, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    base = np.arange(24.0).reshape(2, 3, 4)
    big = np.random.default_rng(1).random((300, 400))
    mapped = np.memmap(tmp_path / "file", dtype="i4", mode="w+", shape=(2000,))
    mapped[:] = np.arange(2000)
    readonly = np.arange(5000)
    readonly.flags.writeable = False
    structured = np.zeros(1000, dtype=[("a", "i4"), ("b", "f8", (2,)), ("c", "U5"), ("d", "O")])
    structured["d"] = [[i] for i in range(1000)]
    arrays = {
        "c": base,
        "fortran": np.asfortranarray(big),
        "big": big,
        "view": big[::2, ::-1],
        "transposed": big.T,
        "broadcast": np.broadcast_to(np.arange(3), (1000, 3)),
        "structured": structured,
        "objects": np.array([None, [1], "text", 2.5] * 500, dtype=object),
        "masked": np.ma.masked_array(np.arange(2000), mask=np.arange(2000) % 2 == 0),
        "empty": np.empty((0, 5)),
        "zero_d": np.array(5),
        "texts": np.array(["a", "longer"] * 1000),
        "bytes": np.array([b"a", b"bc"]),
        "times": np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
        "big_endian": np.arange(1000, dtype=">i8"),
        "complex": np.arange(600) * 1j,
        "half": np.arange(10, dtype="f2"),
        "bools": np.ones(5000, dtype=bool),
        "record": np.rec.array([(1, "x")], dtype=[("n", int), ("t", "U1")]),
        "matrix": np.asmatrix(np.eye(3)),
        "readonly": readonly,
        "mapped": mapped,
    }
    loaded = vars(roundtrip(session, **arrays))
    for name, array in arrays.items():
        after = loaded[name]
        if name != "mapped":
            assert type(after) is type(array)
        assert after.dtype == array.dtype
        assert after.shape == array.shape
        np.testing.assert_array_equal(after, array)
    assert loaded["fortran"].flags.f_contiguous
    assert loaded["big"].flags.writeable
    assert not loaded["readonly"].flags.writeable
    assert (loaded["masked"].mask == arrays["masked"].mask).all()
    loaded["big"][0] = 5  # memory of its own
    assert session.load(names=["big"])["big"][0, 0] == big[0, 0]
    scalars = [
        np.float64(1.5),
        np.int8(3),
        np.str_("s"),
        np.bool_(True),
        np.datetime64("2020"),
        np.dtype("i4"),
        np.float32,
        np.add,
        np.random.default_rng(3),
        np.random.RandomState(4),
        np.s_[1:2],
        np.poly1d([1, 2]),
    ]
    after = roundtrip(session, scalars=scalars).scalars
    assert [type(value) for value in after] == [type(value) for value in scalars]
    assert after[8].random() == scalars[8].random()


def test_arrays_are_shared_across_variables(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(10_000)
    s = roundtrip(session, array=array, alias=array, inside=[array, {"a": array}])
    assert s.array is s.alias is s.inside[0] is s.inside[1]["a"]


def test_pandas(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "i": np.arange(3000),
            "f": rng.random(3000),
            "s": [f"text {i % 100}" for i in range(3000)],
            "c": pd.Categorical(["x", "y", "z"] * 1000),
            "t": pd.date_range("2020", periods=3000, freq="h", tz="Europe/Berlin"),
            "n": pd.array([1, None, 3] * 1000, dtype="Int64"),
            "o": [[i] for i in range(3000)],
            "b": rng.random(3000) > 0.5,
        }
    )
    multi = frame.set_index(["c", "i"])[["f"]]
    values = {
        "frame": frame,
        "slice": frame[["f", "i"]][::3],
        "series": frame["s"],
        "multi": multi,
        "grouped": frame.groupby("c", observed=True)["f"].agg(["mean", "std"]),
        "pivot": frame.pivot_table("f", "c", "b", observed=True),
        "empty": pd.DataFrame(),
        "index": frame.index,
        "interval": pd.cut(frame["f"], 5),
        "period": pd.period_range("2020", periods=4, freq="M"),
        "sparse": pd.Series(pd.arrays.SparseArray([0, 0, 1] * 100)),
        "timestamp": pd.Timestamp("2020-01-01", tz="UTC"),
        "timedelta": pd.Timedelta("1h"),
        "missing": [pd.NA, pd.NaT],
    }
    s = roundtrip(session, **values)
    for name in ("frame", "slice", "multi", "grouped", "pivot", "empty"):
        pd.testing.assert_frame_equal(getattr(s, name), values[name])
    for name in ("series", "interval", "sparse"):
        pd.testing.assert_series_equal(getattr(s, name), values[name])
    assert s.missing[0] is pd.NA
    assert s.missing[1] is pd.NaT
    assert s.timestamp == values["timestamp"]
    assert session.load(names=["grouped"])["grouped"].equals(values["grouped"])


def test_rows_of_a_frame_do_not_need_the_frame(session: chipmink.Session) -> None:
    """What pandas shares among frames made from one another ties none of them to another."""
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    count = 20_000
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "x": random.random(count),
            "y": random.integers(0, 5, count),
            "text": [f"text {i}" for i in range(count)],
            "kind": pd.Categorical(random.choice(list("abcdefgh"), count)),
            "when": pd.date_range("2020", periods=count, freq="min"),
        }
    )
    made = {
        "top": frame.nlargest(20, "x"),
        "chosen": frame[frame.x > 0.999],
        "two": frame[["kind", "x"]].head(10).copy(),
        "kinds": frame.kind.head(5).copy(),
        "types": frame.dtypes,
        "means": frame.groupby("kind", observed=True).x.mean(),
        "joined": frame.merge(pd.DataFrame({"y": [1], "z": [2]})).head(5).copy(),
    }
    saved = session.save({"a frame": frame, **made})
    for name, value in made.items():
        assert saved.variables[name].size < 3 * len(pickle.dumps(value, 5)) + 2000
    loaded = session.load()
    pd.testing.assert_frame_equal(loaded["a frame"], frame)
    pd.testing.assert_frame_equal(loaded["top"], made["top"])
    for name in made:
        assert session.load(names=[name])[name].equals(made[name])
    assert session.save({"a frame": frame, **made}).stats["bytes_written"] < 1000


def test_scipy_and_sklearn(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    sparse = pytest.importorskip("scipy.sparse")
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    bunch = load_iris()
    pipeline = make_pipeline(
        StandardScaler(), FunctionTransformer(lambda x: x * 2), LogisticRegression(max_iter=200)
    )
    models = {
        "pipeline": pipeline.fit(bunch.data, bunch.target),
        "forest": RandomForestClassifier(10, random_state=1).fit(bunch.data, bunch.target),
        "search": GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1]}, cv=2).fit(
            bunch.data, bunch.target
        ),
    }
    matrices = [
        sparse.random(50, 60, 0.1, format=f, random_state=1)
        for f in ("csr", "csc", "coo", "lil", "dok")
    ]
    s = roundtrip(session, bunch=bunch, matrices=matrices, **models)
    for name, model in models.items():
        expected = model.predict_proba(bunch.data)
        np.testing.assert_array_equal(getattr(s, name).predict_proba(bunch.data), expected)
    for before, after in zip(matrices, s.matrices, strict=True):
        assert (before != after).sum() == 0
    np.testing.assert_array_equal(s.bunch.data, bunch.data)


def test_matplotlib(session: chipmink.Session) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2)
    axes[0, 0].plot(range(1000), [i**2 for i in range(1000)], label="squares")
    axes[0, 0].legend()
    axes[0, 1].hist(range(100))
    axes[1, 0].scatter([1, 2], [3, 4], c=[5, 6])
    axes[1, 1].imshow([[1, 2], [3, 4]])
    s = roundtrip(session, figure=figure, axes=axes, axis=axes[0, 0], line=axes[0, 0].lines[0])
    assert s.figure.axes[0] is s.axis is s.axes[0, 0]
    assert s.axis.lines[0] is s.line
    assert s.line.get_label() == "squares"
    s.figure.canvas.draw()
    plt.close("all")


def test_networkx(session: chipmink.Session) -> None:
    nx = pytest.importorskip("networkx")
    graph = nx.karate_club_graph()
    graph.graph["self"] = graph
    directed = nx.gnp_random_graph(200, 0.05, seed=1, directed=True)
    s = roundtrip(session, graph=graph, directed=directed, view=directed.subgraph(range(10)))
    assert nx.utils.graphs_equal(s.directed, directed)
    assert s.graph.graph["self"] is s.graph
    assert set(s.graph.edges) == set(graph.edges)
    assert len(s.view) == 10


def test_statsmodels(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    sm = pytest.importorskip("statsmodels.api")
    x = sm.add_constant(np.arange(100.0))
    fit = sm.OLS(np.arange(100.0) * 2 + np.sin(np.arange(100.0)), x).fit()
    np.testing.assert_array_equal(roundtrip(session, fit=fit).fit.params, fit.params)


def test_torch(session: chipmink.Session) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(100, 50), torch.nn.ReLU(), torch.nn.Linear(50, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    tensor = torch.arange(10_000.0)
    values = {
        "model": model,
        "optimizer": optimizer,
        "weights": model.state_dict(),
        "tensor": tensor,
        "view": tensor[::2],
        "reshaped": tensor.view(100, 100),
        "half": tensor.to(torch.bfloat16),
        "sparse": torch.eye(5).to_sparse(),
        "empty": torch.empty(0, 3),
        "types": [torch.float32, torch.device("cpu"), torch.Size([1, 2])],
        "parameter": model[0].weight,
    }
    s = roundtrip(session, **values)
    assert torch.equal(s.model(torch.ones(1, 100)), model(torch.ones(1, 100)))
    for name in ("tensor", "view", "reshaped", "half", "empty", "parameter"):
        assert torch.equal(getattr(s, name), values[name])
        assert getattr(s, name).requires_grad == values[name].requires_grad
    assert s.parameter is s.model[0].weight
    assert s.optimizer.param_groups[0]["params"][0] is s.parameter
    assert s.types == values["types"]
    assert torch.equal(s.sparse.to_dense(), torch.eye(5))


def test_small_objects_of_libraries_many_times(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    stamps = list(pd.date_range("2020", periods=3000))
    numbers = list(np.arange(3000.0))
    arrays = [np.arange(i % 7) for i in range(3000)]
    s = roundtrip(session, stamps=stamps, numbers=numbers, arrays=arrays)
    assert s.stamps == stamps
    assert s.numbers == numbers
    assert all((a == b).all() for a, b in zip(s.arrays, arrays, strict=True))


class Model:
    def __init__(self) -> None:
        self.weights = [1.0, 2.0]


def test_saving_again_writes_nothing(session: chipmink.Session) -> None:
    """What objects and classes change in themselves by being saved or looked at does not show."""
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from sklearn.linear_model import LinearRegression

    definitions: dict[str, Any] = {"__name__": "__main__"}
    source = """
        import abc, dataclasses, enum, functools
        class Plain:
            pass
        class Abstract(abc.ABC):
            @abc.abstractmethod
            def needed(self): ...
        class Concrete(Abstract):
            def needed(self): return Plain
        @dataclasses.dataclass
        class Data:
            x: int = 1
        class Shade(enum.Enum):
            DARK = 1
        def function(x): return Plain, Data, x
        instances = [Plain(), Concrete(), Data(2), Shade.DARK]
    """
    exec(textwrap.dedent(source), definitions)
    del definitions["__name__"], definitions["__builtins__"]
    frame = pd.DataFrame({"a": np.arange(1000.0), "b": list("xy") * 500})
    figure, axes = plt.subplots()
    axes.plot(frame["a"])
    namespace = {
        **definitions,
        "frame": frame,
        "part": frame[frame["b"] == "x"],
        "means": frame.groupby("b").mean(),
        "fitted": LinearRegression().fit(frame[["a"]], frame["a"]),
        "figure": figure,
        "axes": axes,
        "model": Model(),
    }
    session.save(namespace)
    assert session.save(namespace).stats["pods_new"] == 0
    assert isinstance(namespace["instances"][1], definitions["Abstract"])
    repr(frame), frame.index.is_unique, frame["a"].sum(), frame.loc[5]
    hash(namespace["Shade"].DARK)
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    assert checkpoint.stats["pods_new"] == 0
    plt.close("all")
