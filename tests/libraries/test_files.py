# SPDX-License-Identifier: Apache-2.0
"""Files and databases that libraries have open come back open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest


@pytest.fixture
def session(tmp_path: Path) -> Iterator[chipmink.Session]:
    with chipmink.open(tmp_path / "store", embedded=True) as store:
        yield store.session("s")


def test_hdf5_by_path(session: chipmink.Session, tmp_path: Path) -> None:
    h5py: Any = pytest.importorskip("h5py")
    path = tmp_path / "data.h5"
    file = h5py.File(path, "w")
    file["numbers"] = range(100_000)
    file["group/inner"] = [1, 2]
    namespace = {"file": file, "numbers": file["numbers"], "group": file["group"]}
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    assert checkpoint.stats["logical_bytes"] < 5000
    assert session.save(namespace).stats["pods_new"] == 0
    loaded = session.load()
    assert type(loaded["file"]) is h5py.File
    assert (loaded["file"].filename, loaded["file"].mode) == (str(path), "r+")
    assert loaded["numbers"][77] == 77
    assert list(loaded["group"]["inner"]) == [1, 2]
    loaded["numbers"][77] = -1
    assert loaded["file"]["numbers"][77] == -1
    loaded["file"].close()
    assert not loaded["group"]
    file.close()
    assert "it is closed" in session.save({"file": file}).unsaved["file"]
    with h5py.File(path) as reading:
        session.save({"file": reading})
    assert session.load()["file"].mode == "r"
    path.rename(tmp_path / "moved")
    with pytest.raises(chipmink.LoadError, match=r"data\.h5"):
        session.load()
    assert not path.exists()


def test_hdf5_in_memory(session: chipmink.Session) -> None:
    h5py: Any = pytest.importorskip("h5py")
    file = h5py.File("unnamed", "w", driver="core", backing_store=False)
    file["numbers"] = range(100_000)
    namespace = {"file": file, "numbers": file["numbers"]}
    assert session.save(namespace).unsaved == {}
    file["numbers"][5] = -5
    assert session.save(namespace).stats["bytes_written"] < 70_000
    loaded = session.load()
    assert loaded["numbers"][5] == -5
    loaded["numbers"][6] = -6
    assert loaded["file"]["numbers"][6] == -6
    assert file["numbers"][6] == 6
    assert session.load(at=1)["numbers"][5] == 5
    file["more"] = file["numbers"][:10]
    session.save(namespace)
    assert list(session.load()["file"]) == ["more", "numbers"]


def test_hdf5_of_another_driver(session: chipmink.Session, tmp_path: Path) -> None:
    h5py: Any = pytest.importorskip("h5py")
    with open(tmp_path / "data", "w+b") as opened, h5py.File(opened, "w") as file:
        file["x"] = 1
        checkpoint = session.save({"file": file, "x": file["x"]})
    assert "driver fileobj of HDF5" in checkpoint.unsaved["file"]
    assert "driver fileobj of HDF5" in checkpoint.unsaved["x"]
