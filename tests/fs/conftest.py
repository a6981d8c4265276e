# SPDX-License-Identifier: Apache-2.0
"""What the tests of the mount share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chipmink
import pytest
from mounting import BIG, Mount, stop_server, why_no_mount


@pytest.fixture(autouse=True)
def _no_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the user's own store, nor their mounts' logs."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("CHIPMINK_STORE", str(tmp_path / "default-store"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[chipmink.Store]:
    with chipmink.open(tmp_path / "store") as opened:
        yield opened
    stop_server(tmp_path / "store")


@pytest.fixture
def unmounted(tmp_path: Path) -> Iterator[Mount]:
    """A place for a mount; whatever the test leaves there is taken away."""
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(f"no mount here: {reason}")
    point = tmp_path / "mount point"
    point.mkdir()
    mount = Mount(tmp_path / "store", point.resolve())
    yield mount
    if mount.is_mounted():
        mount.umount("--lazy")


@pytest.fixture
def mounted(store: chipmink.Store, unmounted: Mount) -> Mount:
    """A mount of a store that this process writes."""
    if not store.sessions():
        store.session("analysis").save({"x": 1})
    done = unmounted.mount()
    if done.returncode != 0 and "not permitted" in done.stderr:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return unmounted


@pytest.fixture
def two(store: chipmink.Store) -> tuple[chipmink.Session, chipmink.Session]:
    """Sessions "a", with two checkpoints, and "b"."""
    a, b = store.session("a"), store.session("b")
    shared = [1, 2, 3]
    a.save({"x": 1, "big": BIG, "one": {"of": shared}, "two": [shared]})
    a.save({"x": 2, "big": BIG})
    b.save({"y": 5})
    return a, b
