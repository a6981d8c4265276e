# SPDX-License-Identifier: Apache-2.0
"""chipmink.load(): checkpoint directories, copies of them, single pickles."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from api_support import Command

NAMES = {"a": "a", "b": "b", "c/d": "c%2Fd", "": "%"}


def namespace() -> dict[str, Any]:
    shared = [1, 2, 3]
    return {"a": shared, "b": {"inner": shared}, "c/d": b"x" * 100_000, "": "empty"}


def export(checkpoint: chipmink.Checkpoint, directory: Path) -> Path:
    """Write a checkpoint as a mount shows it, without a mount."""
    core = checkpoint._core
    store = chipmink._core.Store.open(core.store)
    (directory / "pods").mkdir(parents=True)
    (directory / "vars").mkdir()
    for object_id, *_ in core.objects():
        (directory / "pods" / object_id).write_bytes(store.read_object(object_id))
    files = {}
    for name in checkpoint.variables:
        link = core.link([name], namespace=False, buffers=False)
        file = f"vars/{NAMES[name]}.pkl"
        (directory / file).write_bytes(link.read(0, link.size))
        files[name] = {"file": file}
    facts = {"id": checkpoint.id, "variables": files}
    (directory / "checkpoint.json").write_text(json.dumps(facts))
    link = core.link(buffers=False)
    (directory.parent / "000001.pkl").write_bytes(link.read(0, link.size))
    return directory


@pytest.fixture
def directory(store: chipmink.Store, tmp_path: Path) -> Path:
    return export(store.session("analysis").save(namespace()), tmp_path / "log" / "000001")


def test_a_directory(directory: Path) -> None:
    loaded = chipmink.load(directory)
    assert loaded == namespace()
    assert loaded["a"] is loaded["b"]["inner"]
    assert chipmink.load(str(directory), names=["b", "c/d"]) == {
        name: namespace()[name] for name in ("b", "c/d")
    }
    with pytest.raises(KeyError, match="'nope'"):
        chipmink.load(directory, names=["a", "nope"])


def test_no_store_is_needed(directory: Path, store: chipmink.Store, path: Path) -> None:
    store.close()
    shutil.rmtree(path)
    assert chipmink.load(directory) == namespace()


def test_single_pickles(directory: Path) -> None:
    whole = directory.parent / "000001.pkl"
    assert chipmink.load(whole) == namespace()
    assert chipmink.load(whole, names=["a"]) == {"a": [1, 2, 3]}
    assert chipmink.load(directory / "vars" / "a.pkl") == [1, 2, 3]
    with pytest.raises(KeyError, match="'nope'"):
        chipmink.load(whole, names=["nope"])
    with pytest.raises(TypeError, match="leave names out"):
        chipmink.load(directory / "vars" / "a.pkl", names=["a"])


def test_a_copy_without_pods(directory: Path) -> None:
    shutil.rmtree(directory / "pods")
    with pytest.warns(UserWarning, match="no longer share"):
        loaded = chipmink.load(directory)
    assert loaded == namespace()
    assert loaded["a"] is not loaded["b"]["inner"]
    with pytest.warns(UserWarning, match="no longer share"):
        assert list(chipmink.load(directory, names=["b"])) == ["b"]
    (directory / "vars" / "b.pkl").write_bytes(b"\x80\x05junk")
    with (
        pytest.warns(UserWarning, match="no longer share"),
        pytest.raises(chipmink.LoadError, match=r"b\.pkl") as caught,
    ):
        chipmink.load(directory)
    assert list(caught.value.failed) == ["b"]
    assert set(caught.value.loaded) == {"a", "c/d", ""}


def test_a_copy_with_a_damaged_pod(directory: Path, store: chipmink.Store) -> None:
    core = store.session("analysis").checkpoint()._core
    chunks = [object_id for object_id, kind, *_ in core.objects() if kind == "chunk"]
    for chunk in chunks:
        file = directory / "pods" / chunk
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert chunks
    with pytest.raises(chipmink.Corrupt, match="'c/d'") as caught:
        chipmink.load(directory)
    assert set(caught.value.loaded) == {"a", "b", ""}
    for chunk in chunks:
        (directory / "pods" / chunk).unlink()
    with pytest.raises(chipmink.Corrupt, match="'c/d'") as caught:
        chipmink.load(directory)
    assert caught.value.loaded["a"] is caught.value.loaded["b"]["inner"]


def test_what_is_no_checkpoint(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        chipmink.load(tmp_path / "nothing-here")
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.json"):
        chipmink.load(directory.parent)
    (tmp_path / "x.pkl").write_bytes(b"no pickle")
    with pytest.raises(chipmink.LoadError, match=r"x\.pkl"):
        chipmink.load(tmp_path / "x.pkl")
    for junk in (b"", b"{", b"[]", b'{"id": 3}', b'{"id": "00", "variables": []}', b"\xff"):
        (directory / "checkpoint.json").write_bytes(junk)
        with pytest.raises(chipmink.Corrupt, match=r"checkpoint\.json"):
            chipmink.load(directory)
    facts = {"id": "f" * 64, "variables": {}}
    (directory / "checkpoint.json").write_text(json.dumps(facts))
    with pytest.raises(chipmink.Error, match="ffffffff"):
        chipmink.load(directory)


# ---- the real thing


@pytest.fixture
def mounted(command: Command, store: chipmink.Store, tmp_path: Path) -> Iterator[Path]:
    """The mount of a store that has one checkpoint."""
    store.session("analysis").save(namespace(), message="one", code="a = [1, 2, 3]")
    place = tmp_path / "mount"
    place.mkdir()
    done = command.run("mount", place)
    if done.returncode:
        if not os.path.exists("/dev/fuse"):
            pytest.skip("there is no /dev/fuse")
        pytest.fail(done.stderr.decode())
    try:
        yield place
    finally:
        done = command.run("umount", place)
        if done.returncode:  # a failed test may hold files open
            command.run("umount", "--lazy", place)
            pytest.fail(done.stderr.decode())


def test_a_mounted_directory(mounted: Path, tmp_path: Path) -> None:
    head = mounted / "sessions" / "analysis" / "head"
    loaded = chipmink.load(head)
    assert loaded == namespace()
    assert loaded["a"] is loaded["b"]["inner"]
    assert chipmink.load(head, names=["a"]) == {"a": [1, 2, 3]}
    assert chipmink.load(head / "vars" / "a.pkl") == [1, 2, 3]
    assert chipmink.load(mounted / "sessions" / "analysis" / "log" / "000001.pkl") == namespace()
    for variable in json.loads((head / "checkpoint.json").read_text())["variables"].values():
        with (head / variable["file"]).open("rb") as file:
            assert pickle.load(file) in namespace().values()

    copy = tmp_path / "copy"
    subprocess.run(["cp", "-rL", head, copy], check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = chipmink.load(copy)
    assert loaded == namespace()
    assert loaded["a"] is loaded["b"]["inner"]
