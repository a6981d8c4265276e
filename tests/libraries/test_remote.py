# SPDX-License-Identifier: Apache-2.0
"""Objects on real local clusters: Ray's references, Dask's futures and collections, Spark."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest

PROGRAM = """
import sys
import chipmink
with chipmink.open(sys.argv[1], embedded=True) as store:
    loaded = store.session("s").load()
    print(repr(loaded["big"]), loaded["big"].value.sum(), loaded["same"] is loaded["big"])
with chipmink.open(sys.argv[1] + "-copy", embedded=True) as store:
    print(store.session("s").save(loaded).variables["big"].content)
    try:
        loaded["big"].put()
    except RuntimeError as error:
        print(error)
"""

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _wanted(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--table"):
        pytest.skip("starts a cluster (tools/check --libraries)")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[chipmink.Store]:
    with chipmink.open(tmp_path / "store", embedded=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    module = pytest.importorskip("ray")
    module.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield module
    module.shutdown()


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("needs Java")
    builder = sql.SparkSession.builder.master("local[1]")
    options = {
        "spark.driver.memory": "512m",
        "spark.driver.maxResultSize": "8m",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    opened = builder.getOrCreate()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as opened,
    ):
        yield opened


def elsewhere(path: Path, program: str = PROGRAM) -> list[str]:
    """What another process, which is connected to nothing, finds."""
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_ray(ray: Any, store: chipmink.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy

    @ray.remote
    def slow(seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    @ray.remote
    def failing() -> None:
        raise ValueError("this one fails")

    big = ray.put(numpy.arange(100_000.0))
    failed, running = failing.remote(), slow.remote(5)
    fetched = []
    get = ray.get
    monkeypatch.setattr(ray, "get", lambda *a, **k: fetched.append(a) or get(*a, **k))
    session = store.session("s")
    ray.wait([failed])
    values = {"big": big, "same": big, "inside": {"x": [big, 5]}}
    first = session.save({**values, "failed": failed, "running": running})
    assert sorted(first.unsaved) == ["failed", "running"]
    assert "this one fails" in first.unsaved["failed"]
    assert "has not finished" in first.unsaved["running"]
    assert fetched.count((big,)) == 1
    second = session.save(values)
    assert second.stats["bytes_written"] < 1000
    assert fetched.count((big,)) == 1  # known by its id
    loaded = session.load()
    assert isinstance(loaded["big"], ray.ObjectRef)
    assert loaded["inside"]["x"][0] is loaded["same"] is loaded["big"]
    assert (get(loaded["big"]) == numpy.arange(100_000.0)).all()
    assert get(running) == "done"
    assert session.save({**values, "running": running}).unsaved == {}
    assert get(session.load()["running"]) == "done"
    third = session.save({**values, "big": ray.put(numpy.arange(100_000.0) + 1)})
    assert third.variables["big"].content != second.variables["big"].content
    last = session.save(values)
    found = elsewhere(store.path)
    assert "ray.init() connects to a cluster, then .put()" in found[0]
    assert "4999950000.0 True" in found[0]
    assert found[1] == last.variables["big"].content  # as it was saved
    assert "no cluster" in found[2]


def test_dask(client: Any, store: chipmink.Store) -> None:
    import dask.array
    import dask.dataframe
    import dask.distributed
    import numpy
    import pandas

    session = store.session("s")
    calls = []
    gather = client._gather
    client._gather = lambda *a, **k: calls.append(a) or gather(*a, **k)
    big = client.submit(numpy.arange, 100_000.0)
    failed = client.submit(divmod, 1, 0)
    dask.distributed.wait(failed)
    array = dask.array.ones((1000, 100), chunks=500).persist()
    frame = dask.dataframe.from_pandas(pandas.DataFrame({"n": range(9)}), npartitions=2).persist()
    dask.distributed.wait([big, array, frame])
    running = client.submit(time.sleep, 20)
    values = {"big": big, "same": big, "array": array + 1, "frame": frame}
    first = session.save({**values, "failed": failed, "running": running})
    assert sorted(first.unsaved) == ["failed", "running"]
    assert "has not finished" in first.unsaved["running"]
    assert "ZeroDivisionError" in first.unsaved["failed"]
    count = len(calls)
    second = session.save(values)
    assert len(calls) == count  # all are known
    assert second.stats["bytes_written"] < 1000
    loaded = session.load()
    assert loaded["same"] is loaded["big"]
    assert isinstance(loaded["big"], dask.distributed.Future)
    assert (loaded["big"].result() == numpy.arange(100_000.0)).all()
    assert float(loaded["array"].sum().compute()) == 200_000
    assert loaded["frame"].compute().equals(frame.compute())
    running.result()
    assert session.save({**values, "running": running}).unsaved == {}
    last = session.save(values)
    found = elsewhere(store.path)
    assert "dask.distributed.Client() connects to a cluster, then .put()" in found[0]
    assert "4999950000.0 True" in found[0]
    assert found[1] == last.variables["big"].content


SPARK_PROGRAM = """
import sys
import chipmink
with chipmink.open(sys.argv[1], embedded=True) as store:
    loaded = store.session("s").load()
    table = loaded["table"]
    print(repr(table), table.value.num_rows, loaded["same"] is table)
    print(repr(loaded["spark"]))
    print(repr(loaded["context"]))
    try:
        table.put()
    except RuntimeError as error:
        print(error)
with chipmink.open(sys.argv[1] + "-copy", embedded=True) as store:
    print(store.session("s").save(loaded).variables["table"].content)
"""


def test_spark(spark: Any, store: chipmink.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime
    import decimal

    from pyspark.sql import functions, types

    schema = types.StructType(
        [
            types.StructField("name", types.StringType(), False, {"comment": "of a place"}),
            types.StructField("price", types.DecimalType(10, 2)),
            types.StructField("days", types.ArrayType(types.DateType(), False)),
            types.StructField("counts", types.MapType(types.StringType(), types.LongType())),
        ]
    )
    rows = [
        ("p", decimal.Decimal("1.50"), [datetime.date(2020, 1, 2)], {"x": 1}),
        ("q", None, None, {"y": None}),
    ]
    nested = spark.createDataFrame(rows, schema)
    table = spark.range(20_000).select("id", functions.rand(1).alias("by chance"))
    fetched = []
    get = type(table).toArrow
    monkeypatch.setattr(type(table), "toArrow", lambda self: fetched.append(self) or get(self))
    values = {
        "spark": spark,
        "context": spark.sparkContext,
        "nested": nested,
        "table": table,
        "same": table,
        "inside": [table],
    }
    session = store.session("s")
    large = spark.range(4_000_000)
    first = session.save({**values, "large": large})
    assert list(first.unsaved) == ["large"]
    assert "maxResultSize" in first.unsaved["large"]
    assert len(fetched) == 3
    second = session.save(values)
    assert len(fetched) == 3  # known by now
    assert second.stats["bytes_written"] < 1000
    loaded = session.load()
    assert loaded["spark"] is spark
    assert loaded["context"] is spark.sparkContext
    assert loaded["inside"][0] is loaded["same"] is loaded["table"]
    assert loaded["table"].collect() == table.collect()
    assert loaded["nested"].schema == schema
    assert loaded["nested"].schema["name"].metadata == {"comment": "of a place"}
    assert loaded["nested"].collect() == nested.collect()
    again = session.save({**loaded, "inside": [loaded["same"]]})
    assert len(fetched) == 3  # what was loaded is known, too
    assert again.variables["table"].content == second.variables["table"].content
    third = session.save({**values, "table": table.filter("id > 5")})
    assert third.variables["table"].content != second.variables["table"].content
    assert session.load(names=["table"])["table"].count() == 20_000 - 6
    session.save(values)
    found = elsewhere(store.path, SPARK_PROGRAM)
    assert "SparkSession.builder.getOrCreate() starts a session, then .put()" in found[0]
    assert found[0].endswith("20000 True")
    assert found[1].startswith("<spark session; ")
    assert found[2].startswith("<spark context; ")
    assert "there is no cluster" in found[3]
    assert found[4] == second.variables["table"].content  # as it was saved
