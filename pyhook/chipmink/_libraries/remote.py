# SPDX-License-Identifier: Apache-2.0
"""What lives in a cluster and never changes: Ray's references, Dask's futures, Spark's tables.

They are saved as their values, which are fetched once. On loading, the value is put into the
cluster that this process is connected to; if there is none, a `Remote` holds it. The connection
of Spark itself is saved by reference: what is loaded is the one that the process has then.
"""

from __future__ import annotations

import json
import pickle
import sys
import weakref
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

_NEEDS = {
    "ray": "ray.init() connects to a cluster",
    "dask": "dask.distributed.Client() connects to a cluster",
    "spark": "SparkSession.builder.getOrCreate() starts a session",
}
_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"  # where Spark itself leaves it in Parquet


class Remote:
    """What was on a cluster, and was loaded by a process that is connected to none.

    Attributes
    ----------
    value : object
        What the reference, future or table had; a `pyarrow.Table` for a table of Spark. None for
        the connection itself.
    """

    def __init__(self, kind: str, value: Any) -> None:
        self._kind = kind
        self.value = value

    def put(self) -> Any:
        """Put the value into the cluster that the process is connected to by now.

        Returns
        -------
        ray.ObjectRef, distributed.Future, pyspark.sql.DataFrame, SparkSession or SparkContext
            As it was saved.

        Raises
        ------
        RuntimeError
            There is no such cluster.
        """
        found = put_back(self._kind, self.value)
        if isinstance(found, Remote):
            raise RuntimeError(f"there is no cluster to put it into: {self._needs()}")
        return found

    def _needs(self) -> str:
        return _NEEDS[self._kind.partition(" ")[0]]

    def __repr__(self) -> str:
        """Tell what it is, and what is needed."""
        if self.value is None and " " in self._kind:
            return f"<{self._kind}; {self._needs()}, then .put()>"
        value = f"{type(self.value).__module__}.{type(self.value).__qualname__}"
        return f"<{value} from {self._kind}, as .value; {self._needs()}, then .put()>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce it to what it stands for."""
        return put_back, (self._kind, self.value)


def put_back(kind: str, value: Any) -> Any:
    """Put a value into the cluster of this kind, if the process is connected to one."""
    if kind.startswith("spark"):
        return _into_spark(kind, value)
    module: Any = sys.modules.get({"ray": "ray", "dask": "distributed"}[kind])
    if module is None:
        return Remote(kind, value)
    if kind == "ray":
        return module.put(value) if module.is_initialized() else Remote(kind, value)
    try:
        client = module.default_client()
    except ValueError:
        return Remote(kind, value)
    return client.scatter([value])[0]


def _into_spark(kind: str, value: Any) -> Any:
    module: Any = sys.modules.get("pyspark.sql")
    context = module.SparkSession._instantiatedSession if module is not None else None
    context = context._sc if context is not None else None
    if context is None or context._jsc is None:  # there was none, or it has been stopped
        return Remote(kind, value)
    if kind == "spark context":
        return context
    session = module.SparkSession.builder.getOrCreate()
    if kind == "spark session":
        return session
    schema = module.types.StructType.fromJson(json.loads(value.schema.metadata[_SCHEMA]))
    table = session.createDataFrame(value, schema)
    _from_spark[table] = value
    return table


class _Fetched:
    """Values by the identity of what they are of, as long as this process refers to that."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def get(self, key: Any, fetch: Callable[[], Any], living: Callable[[], Collection[Any]]) -> Any:
        if key not in self._values:
            value = fetch()
            alive = living()
            self._values = {known: v for known, v in self._values.items() if known in alive}
            self._values[key] = value
        return self._values[key]


_from_ray, _from_dask = _Fetched(), _Fetched()


def _reduce_reference(reference: Any) -> Any:
    ray: Any = sys.modules["ray"]

    def fetch() -> Any:
        if not ray.is_initialized():
            raise pickle.PicklingError("its cluster has gone")
        if not ray.wait([reference], timeout=0, fetch_local=False)[0]:
            raise pickle.PicklingError("its task has not finished")
        return ray.get(reference)

    def living() -> Collection[Any]:
        worker = ray._private.worker.global_worker.core_worker
        return {bytes.fromhex(key) for key in map(_text, worker.get_all_reference_counts())}

    return put_back, ("ray", _from_ray.get(reference.binary(), fetch, living))


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _reduce_future(future: Any) -> Any:
    state = future._state  # one per key while this process refers to it

    def fetch() -> Any:
        if future.status == "pending":
            raise pickle.PicklingError("its task has not finished")
        if future.client.asynchronous:
            raise pickle.PicklingError("its client is asynchronous; keep what it gives")
        return future.result()

    if state is None:
        raise pickle.PicklingError("it belongs to no client")
    return put_back, ("dask", _from_dask.get(state, fetch, future.client.futures.values))


_from_spark: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _reduce_table(table: Any) -> Any:
    value = _from_spark.get(table)
    if value is None:
        if not hasattr(table, "toArrow"):
            raise pickle.PicklingError("needs PySpark 4; keep what .toPandas() gives")
        schema = table.schema.json().encode()
        # Spark refuses what is larger than spark.driver.maxResultSize
        value = table.toArrow().combine_chunks().replace_schema_metadata({_SCHEMA: schema})
        _from_spark[table] = value
    return put_back, ("spark", value)


def _reduce_session(_: Any) -> Any:
    return put_back, ("spark session", None)


def _reduce_context(_: Any) -> Any:
    return put_back, ("spark context", None)


REFERENCE = SimpleNamespace(reduce=_reduce_reference)
FUTURE = SimpleNamespace(reduce=_reduce_future, subclasses=True)
TABLE = SimpleNamespace(reduce=_reduce_table, subclasses=True)
SESSION = SimpleNamespace(reduce=_reduce_session)
CONTEXT = SimpleNamespace(reduce=_reduce_context)
