# SPDX-License-Identifier: Apache-2.0
"""Arrays of JAX on several devices: those that it makes of the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import chipmink
import jax
import numpy as np
from chipmink._libraries import jax as reducers
from jax.sharding import Mesh, NamedSharding, PartitionSpec

devices = jax.devices()
assert len(devices) == 4
values = np.arange(4000.0, dtype="f4").reshape(40, 100)
sharding = NamedSharding(Mesh(devices, ("x",)), PartitionSpec("x"))
with jax.default_device(devices[3]):
    uncommitted = jax.numpy.asarray(values)
namespace = {
    "plain": jax.numpy.asarray(values),
    "there": jax.device_put(values, devices[2]),
    "uncommitted": uncommitted,
    "sharded": jax.device_put(values, sharding),
    "replicated": jax.device_put(values, NamedSharding(sharding.mesh, PartitionSpec())),
    "key": jax.random.key(3),
    "keys": jax.device_put(jax.random.split(jax.random.key(3), 8), sharding),
    "half": jax.numpy.asarray(values, dtype="bfloat16"),
}
def equal(a, b):
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
        return a.dtype == b.dtype and equal(jax.random.key_data(a), jax.random.key_data(b))
    return a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))
with chipmink.open(sys.argv[1], embedded=True) as store:
    session = store.session("s")
    for host in ("cpu", "none"):  # as they are, and as if these were no processors
        reducers._HOST = host
        first = session.save(namespace)
        assert first.unsaved == {}, first.unsaved
        second = session.save(namespace)
        assert second.stats["pods_new"] == 0
        loaded = session.load()
        for name, array in namespace.items():
            assert type(loaded[name]) is type(array) and equal(loaded[name], array), name
    for name in ("plain", "there", "uncommitted"):
        assert loaded[name].sharding == namespace[name].sharding, name
        assert loaded[name].committed == namespace[name].committed, name
    assert len(loaded["sharded"].sharding.device_set) == 1
print("done")
"""


def test_arrays_on_several_devices(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "store"],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
