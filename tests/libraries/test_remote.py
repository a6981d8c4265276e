# SPDX-License-Identifier: Apache-2.0
"""Objects on real local clusters: Ray's references, Dask's futures and persisted collections."""

from __future__ import annotations

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
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as opened,
    ):
        yield opened


def elsewhere(path: Path) -> list[str]:
    """What another process, which is connected to nothing, finds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=False
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
