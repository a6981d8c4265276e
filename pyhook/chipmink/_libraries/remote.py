# SPDX-License-Identifier: Apache-2.0
"""Objects on a cluster that never change: Ray's references and Dask's futures.

They are saved as their values, which are fetched once. On loading, the value is put into the
cluster that this process is connected to; if there is none, a `Remote` holds it.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

_NEEDS = {
    "ray": "ray.init() connects to a cluster",
    "dask": "dask.distributed.Client() connects to a cluster",
}


class Remote:
    """What was on a cluster, and was loaded by a process that is connected to none.

    Attributes
    ----------
    value : object
        What the reference or future referred to.
    """

    def __init__(self, kind: str, value: Any) -> None:
        self._kind = kind
        self.value = value

    def put(self) -> Any:
        """Put the value into the cluster that the process is connected to by now.

        Returns
        -------
        ray.ObjectRef or distributed.Future
            As it was saved.

        Raises
        ------
        RuntimeError
            There is no such cluster.
        """
        found = put_back(self._kind, self.value)
        if isinstance(found, Remote):
            raise RuntimeError(f"there is no cluster to put it into: {_NEEDS[self._kind]}")
        return found

    def __repr__(self) -> str:
        """Tell what it is, and what is needed."""
        value = f"{type(self.value).__module__}.{type(self.value).__qualname__}"
        return f"<{value} from {self._kind}, as .value; {_NEEDS[self._kind]}, then .put()>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce it to what it stands for."""
        return put_back, (self._kind, self.value)


def put_back(kind: str, value: Any) -> Any:
    """Put a value into the cluster of this kind, if the process is connected to one."""
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


REFERENCE = SimpleNamespace(reduce=_reduce_reference)
FUTURE = SimpleNamespace(reduce=_reduce_future, subclasses=True)
