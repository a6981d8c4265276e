# SPDX-License-Identifier: Apache-2.0
"""Tables: pandas, Polars, Arrow, Dask, xarray, and what lies on maps."""

from __future__ import annotations

from typing import Any

from .table import Lazy, by, calls, library, put, rng, session, sets

# ---- pandas --------------------------------------------------------------------------------------

pd = Lazy("pandas")
np = Lazy("numpy")
pandas = library("pandas")


def frame() -> Any:
    """Give a table with columns of many types."""
    return pd.DataFrame(
        {
            "number": np.arange(300),
            "real": rng().random(300),
            "text": [f"text {i % 50}" for i in range(300)],
            "kind": pd.Categorical(["x", "y", "z"] * 100),
            "time": pd.date_range("2020", periods=300, freq="h", tz="Europe/Berlin"),
            "maybe": pd.array([1, None, 3] * 100, dtype="Int64"),
            "lists": [[i] for i in range(300)],
        }
    )


def _set_cell(table: Any) -> None:
    table.loc[5, "real"] = -1.0


def _appended(index: Any) -> Any:
    return index.append(index[:1])


pandas("DataFrame", frame, _set_cell)
pandas(
    "DataFrame with a MultiIndex", lambda: frame().set_index(["kind", "number"]), sets("real", 0)
)
pandas("Series", lambda: frame()["text"], put(3, "new"))
pandas("Index", lambda: pd.Index(["a", "b", "c"], name="n"), _appended)
pandas("RangeIndex", lambda: pd.RangeIndex(5), lambda index: pd.RangeIndex(6))
pandas("MultiIndex", lambda: pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]]), _appended)
pandas("DatetimeIndex", lambda: pd.date_range("2020", periods=9, tz="UTC"), _appended)
pandas("PeriodIndex", lambda: pd.period_range("2020", periods=9, freq="M"), _appended)
pandas("IntervalIndex", lambda: pd.interval_range(0, 9), _appended)
pandas("Categorical", lambda: pd.Categorical(["x", "y", "x"]), put(0, "y"))
pandas(
    "arrays.SparseArray",
    lambda: pd.arrays.SparseArray([0, 0, 1] * 20),
    lambda a: pd.arrays.SparseArray([0, 1, 1] * 20),
)
pandas("array of strings", lambda: pd.array(["a", None, "b"], dtype="string"), put(0, "c"))
pandas("Timestamp", lambda: pd.Timestamp("2020-01-01", tz="UTC"), lambda t: t + pd.Timedelta("1s"))
pandas(
    "DataFrameGroupBy",
    lambda: frame().groupby("kind", observed=True),
    lambda groups: _set_cell(groups.obj),
    by(lambda groups: groups["real"].sum()),
)
pandas(
    "Rolling",
    lambda: frame()["real"].rolling(5),
    sets("window", 6),
    by(lambda rolling: rolling.mean()),
)
library("pandas", "pandas", "jinja2")(
    "Styler",
    lambda: frame().head(3).style.format(precision=2),
    lambda style: style.set_caption("new"),
    by(lambda style: style.to_html(uuid="x")),
)

# ---- Polars, Arrow, DuckDB -----------------------------------------------------------------------

pl = Lazy("polars")
polars = library("polars")


def _polars() -> Any:
    return pl.DataFrame(
        {"n": range(100), "t": [f"t{i % 9}" for i in range(100)], "l": [[i] for i in range(100)]}
    )


polars("DataFrame", _polars, lambda table: table.__setitem__((3, "n"), -1))
polars("Series", lambda: _polars()["n"], put(3, -1))
polars(
    "LazyFrame",
    lambda: _polars().lazy().filter(pl.col("n") > 3),
    lambda lazy: lazy.head(2),
    by(lambda lazy: lazy.collect()),
)
polars(
    "Expr",
    lambda: pl.col("n").sum().over("t"),
    lambda expr: expr + 1,
    by(lambda expr: _polars().select(expr)),
)
polars("Categorical", lambda: _polars()["t"].cast(pl.Categorical), lambda s: s.reverse())
polars("Schema", lambda: _polars().schema, lambda schema: schema.update(n=pl.Float64()))

pa = Lazy("pyarrow")
arrow = library("pyarrow")


def _arrow() -> Any:
    return pa.table({"n": list(range(100)), "t": [f"t{i}" for i in range(100)]})


arrow("Table", _arrow, lambda table: table.slice(1))
arrow("RecordBatch", lambda: _arrow().to_batches()[0], lambda batch: batch.slice(1))
arrow("Array", lambda: pa.array([1, None, 3]), lambda a: a.slice(1))
arrow("ChunkedArray", lambda: pa.chunked_array([[1, 2], [3]]), lambda a: a.slice(1))
arrow("StructArray", lambda: pa.array([{"a": 1, "b": ["x"]}] * 5), lambda a: a.slice(1))
arrow(
    "DictionaryArray", lambda: pa.array(["a", "b", "a"]).dictionary_encode(), lambda a: a.slice(1)
)
arrow(
    "Schema",
    lambda: pa.schema([("a", pa.int32()), ("b", pa.list_(pa.string()))], metadata={"k": "v"}),
    lambda schema: schema.remove(0),
)
arrow("Scalar", lambda: pa.scalar({"a": 1}), lambda scalar: pa.scalar({"a": 2}))
arrow(
    "Buffer",
    lambda: pa.py_buffer(b"bytes" * 99),
    lambda buffer: buffer.slice(1),
)

duckdb = library("duckdb")
duckdb(
    "DuckDBPyConnection",
    lambda: Lazy("duckdb").connect(":memory:"),
    calls("execute", "select 1"),
    broken=True,
    limitation="belongs to the process; keep results as tables (.df(), .arrow(), .pl())",
)

# ---- Dask ----------------------------------------------------------------------------------------

dask = library("dask")
da, dd, db = Lazy("dask.array"), Lazy("dask.dataframe"), Lazy("dask.bag")
_computed = by(lambda lazy: lazy.compute(scheduler="synchronous"))
dask("array.Array", lambda: da.ones((40, 40), chunks=10) + 1, lambda a: a * 2, _computed)
dask(
    "array.Array of NumPy",
    lambda: da.from_array(rng().random((40, 40)), chunks=20).sum(axis=0),
    lambda a: a * 2,
    _computed,
)
dask(
    "dataframe.DataFrame",
    lambda: dd.from_pandas(frame()[["number", "real"]], npartitions=3),
    lambda d: d[d.number > 10],
    _computed,
)
dask(
    "bag.Bag",
    lambda: db.from_sequence(range(30), npartitions=3).map(session("def value(x): return x * 2")),
    lambda bag: bag.filter(lambda x: x > 5),
    _computed,
)
dask(
    "delayed.Delayed",
    lambda: Lazy("dask").delayed(sum, pure=True)([1, 2, 3]),
    lambda delayed: Lazy("dask").delayed(sum, pure=True)([delayed, 1]),
    _computed,
)

# ---- xarray --------------------------------------------------------------------------------------

xr = Lazy("xarray")
xarray = library("xarray")


def _data_array() -> Any:
    return xr.DataArray(
        rng().random((4, 3)),
        {"x": [1, 2, 3, 4], "y": list("abc")},
        ("x", "y"),
        name="v",
        attrs={"units": "m"},
    )


_identical = lambda a, b: bool(a.identical(b))  # noqa: E731
xarray("DataArray", _data_array, put((0, 0), 5.0), _identical)
xarray(
    "Dataset",
    lambda: xr.Dataset({"v": _data_array(), "w": ("x", [1, 2, 3, 4])}),
    lambda ds: ds["w"].__setitem__(0, 7),
    _identical,
)
xarray(
    "DataTree",
    lambda: xr.DataTree.from_dict(
        {"/": _data_array().to_dataset(), "/child": xr.Dataset({"a": 1})}
    ),
    lambda tree: tree.__setitem__("other", xr.DataTree()),
    _identical,
)
xarray("Variable", lambda: xr.Variable("x", [1, 2, 3]), put(0, 9), _identical)

# ---- maps ----------------------------------------------------------------------------------------

shapely = library("shapely")
shape = Lazy("shapely")


def _polygon() -> Any:
    return shape.Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2)]])


shapely("Polygon", _polygon, lambda polygon: polygon.buffer(1))
shapely("Point", lambda: shape.Point(1, 2, 3), lambda point: shape.Point(5, 6))
shapely(
    "STRtree",
    lambda: shape.STRtree([_polygon(), shape.Point(9, 9)]),
    lambda tree: shape.STRtree([_polygon()]),
    by(lambda tree: tree.query(shape.Point(1, 1)), lambda tree: list(tree.geometries)),
)

geopandas = library("geopandas")
gpd = Lazy("geopandas")


def _places() -> Any:
    return gpd.GeoDataFrame(
        {"name": ["a", "b"]}, geometry=[shape.Point(1, 2), _polygon()], crs="EPSG:4326"
    )


_as_map = by(lambda table: table.to_json() if hasattr(table, "to_json") else table)
geopandas("GeoDataFrame", _places, lambda places: places.__setitem__("name", ["c", "b"]), _as_map)
geopandas("GeoSeries", lambda: _places().geometry, put(0, None), _as_map)

pyproj = library("pyproj")
pyproj(
    "CRS",
    lambda: Lazy("pyproj").CRS.from_epsg(4326),
    lambda crs: Lazy("pyproj").CRS.from_epsg(3857),
)
pyproj(
    "Transformer",
    lambda: Lazy("pyproj").Transformer.from_crs(4326, 3857),
    lambda transformer: Lazy("pyproj").Transformer.from_crs(4326, 32633),
    by(lambda transformer: transformer.transform(10.0, 20.0)),
)

folium = library("folium")
folium(
    "Map",
    lambda: Lazy("folium").Map([45.0, 13.0], zoom_start=4),
    lambda map_: Lazy("folium").Marker([45, 13]).add_to(map_) and None,
    by(lambda map_: (map_.location, sorted(map_._children))),
    limitation="each part of it has a random id, which names what is in its HTML",
    drifts=True,
)
