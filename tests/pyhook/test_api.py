# SPDX-License-Identifier: Apache-2.0
"""The Python interface: saving, looking, loading, branches, checkout."""

from __future__ import annotations

import datetime
import math
import os
import pickle
import stat
from pathlib import Path

import chipmink
import pytest


def test_version_is_that_of_the_build() -> None:
    assert [part.isdigit() for part in chipmink.__version__.split(".")] == [True] * 3


# ---- saving


def test_a_store_is_made_by_the_first_save(path: Path) -> None:
    with chipmink.open(path) as store:
        assert store.sessions() == []
        assert store.session("a").log() == []
        assert store.session("a").head is None
        assert not path.exists()
        store.session("a").save({"x": 1})
        assert store.sessions() == ["a"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_default_path_is_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPMINK_STORE", str(tmp_path / "here"))
    with chipmink.open() as store:
        store.session("a").save({})
    assert (tmp_path / "here").is_dir()


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with chipmink.open("here") as store:
        monkeypatch.chdir("/")
        store.session("a").save({})
        assert store.path == str(tmp_path / "here")
    assert (tmp_path / "here").is_dir()


def test_what_a_checkpoint_says(session: chipmink.Session) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    first = session.save({"x": 1, "y": [1, 2]}, message="first", code="x = 1\ny = [1, 2]")
    second = session.save({"x": 1, "y": [1, 2, 3]})
    after = datetime.datetime.now(datetime.timezone.utc)
    assert (first.number, second.number) == (1, 2)
    assert (first.session, first.parents, first.parent_ids) == ("analysis", (), ())
    assert (second.parents, second.parent_ids) == ((1,), (first.id,))
    assert (first.message, first.code) == ("first", "x = 1\ny = [1, 2]")
    assert (second.message, second.code) == (None, None)
    microsecond = datetime.timedelta(microseconds=1)
    assert before - microsecond <= first.time <= second.time <= after + microsecond
    assert len(first.id) == 64
    assert first.id != second.id
    assert "analysis@1" in repr(first)
    assert not first.unsaved


def test_messages_and_code_of_any_text(session: chipmink.Session) -> None:
    checkpoint = session.save({"x": 1}, message="naïve\0\ud800", code="\n# Größe\n")
    assert checkpoint.message == "naïve\\0\\ud800"
    assert session.checkpoint().code == "\n# Größe\n"
    assert session.save({}, message="", code="").message in ("", None)
    with pytest.raises(TypeError, match="message"):
        session.save({"x": 2}, message=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="code"):
        session.save({"x": 2}, code=b"x = 2")  # type: ignore[arg-type]


def test_a_variable_costs_what_it_is(session: chipmink.Session) -> None:
    """Whatever else was saved, and although NumPy's types are shared by all arrays."""
    np = pytest.importorskip("numpy")
    checkpoint = session.save({"big": np.zeros(1_000_000), "small": np.zeros(3), "x": np.pi})
    assert checkpoint.variables["big"].size > 8_000_000
    assert checkpoint.variables["small"].size < 1000
    assert sum(checkpoint._core.link(["small"]).buffer_sizes) < 1000


def test_variables_in_the_order_of_the_namespace(session: chipmink.Session) -> None:
    checkpoint = session.save({"zebra": 1, "apple": "text", "mango": [1.5]})
    assert list(checkpoint.variables) == ["zebra", "apple", "mango"]
    assert list(session.load()) == ["zebra", "apple", "mango"]
    mango = checkpoint.variables["mango"]
    assert (mango.name, mango.type, mango.changed) == ("mango", "list", 1)
    assert mango.summary == "length 1\n[1.5]"
    assert mango.changed_time == checkpoint.time
    with pytest.raises(TypeError):
        checkpoint.variables["mango"] = mango  # type: ignore[index]


def test_size_is_that_of_the_pickle(session: chipmink.Session) -> None:
    checkpoint = session.save({"x": list(range(1000))})
    data = checkpoint._core.link(["x"], namespace=False, buffers=False)
    assert checkpoint.variables["x"].size == data.size
    assert pickle.loads(data.read(0, data.size)) == list(range(1000))


def test_when_a_variable_last_changed(session: chipmink.Session) -> None:
    session.save({"x": [1], "y": [1]})
    session.save({"x": [1], "y": [2]})
    last = session.save({"x": [1], "y": [2], "z": 0})
    assert {name: v.changed for name, v in last.variables.items()} == {"x": 1, "y": 2, "z": 3}


def test_stats(session: chipmink.Session) -> None:
    data = os.urandom(100_000)
    first = session.save({"x": data}).stats
    again = session.save({"x": data}).stats
    assert 100_000 <= first.logical_bytes < 101_000
    assert 100_000 <= first.bytes_written < 103_000
    assert again.logical_bytes == first.logical_bytes
    assert again.bytes_written < 1000
    assert first.pods_new == first.pods > 0
    assert again.pods == first.pods
    assert again.pods_new == 0
    assert set(first.seconds) == {"walk", "write"}
    assert dict(first)["bytes_written"] == first["bytes_written"] == first.bytes_written
    with pytest.raises(AttributeError):
        first.pods = 3  # type: ignore[misc]


def test_dunder_names_are_not_saved(session: chipmink.Session) -> None:
    namespace = {"__name__": "x", "__builtins__": {}, "_private": 1, "__mangled": 2, "x_": 3}
    assert list(session.save(namespace).variables) == ["_private", "__mangled", "x_"]


def test_keys_that_are_no_str_are_ignored(session: chipmink.Session) -> None:
    checkpoint = session.save({1: "one", ("a",): 2, "x": 3})  # type: ignore[dict-item]
    assert list(checkpoint.variables) == ["x"]
    assert not checkpoint.unsaved


def test_exactly_the_named_variables(session: chipmink.Session) -> None:
    namespace = {"x": 1, "y": 2, "_": 3, "__special__": 4}
    assert list(session.save(namespace, names=["y", "x", "y"]).variables) == ["y", "x"]
    assert session.load() == {"y": 2, "x": 1}
    assert session.save(namespace, names=["__special__"]).load() == {"__special__": 4}
    assert session.save(namespace, names=[]).load() == {}
    with pytest.raises(KeyError, match="'nope'"):
        session.save(namespace, names=["x", "nope"])
    with pytest.raises(TypeError, match="one string"):
        session.save(namespace, names="xy")
    assert len(session.log()) == 3


def test_what_ipython_puts_into_a_namespace_is_not_saved(session: chipmink.Session) -> None:
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell()
    shell.run_cell("import math\nx = 41\nx + 1", store_history=True)
    shell.run_cell("_private = x", store_history=True)
    shell.user_ns["exit"] = "a variable of the user"
    checkpoint = session.save(shell.user_ns)
    assert set(checkpoint.variables) == {"math", "x", "_private", "exit"}
    assert not checkpoint.unsaved
    assert session.load()["math"] is math


def test_those_names_are_ordinary_outside_ipython(session: chipmink.Session) -> None:
    namespace = {"In": 1, "_": 2, "_1": 3, "exit": 4, "_i": 5}
    assert session.save(namespace).load() == namespace


def test_what_cannot_be_saved_is_listed_with_its_reason(session: chipmink.Session) -> None:
    namespace = {"good": [1, 2], "bad": (i for i in range(3)), "also": {"a": 1}}
    checkpoint = session.save(namespace)
    assert list(checkpoint.unsaved) == ["bad"]
    assert "generator" in checkpoint.unsaved["bad"]
    assert checkpoint.load() == {"good": [1, 2], "also": {"a": 1}}
    with pytest.raises(KeyError, match=r"'bad' .not saved: .*generator"):
        session.load(names=["bad"])


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", ".", "ein Wort", "größe", "名前", "a\nb", "-", "a.pkl", "%41", "x" * 300, ""],
)
def test_names_that_are_no_file_names(session: chipmink.Session, name: str) -> None:
    assert session.save({name: [name]}).load() == {name: [name]}
    assert session.load(names=[name]) == {name: [name]}


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_store_can_hold(session: chipmink.Session, name: str) -> None:
    checkpoint = session.save({name: 1, "x": 2})
    assert list(checkpoint.unsaved) == [ascii(name)]
    assert "name" in checkpoint.unsaved[ascii(name)]
    assert checkpoint.load() == {"x": 2}


def test_names_of_a_subclass_of_str(session: chipmink.Session) -> None:
    class Name(str):
        __slots__ = ()

    session.save({Name("x"): 1})
    assert [type(name) for name in session.load()] == [str]


def test_any_mapping_is_a_namespace(session: chipmink.Session) -> None:
    import types

    assert session.save(types.MappingProxyType({"x": 1})).load() == {"x": 1}


def test_sharing_within_and_across_variables(session: chipmink.Session) -> None:
    shared = [1, 2, 3]
    cycle: list[object] = [shared]
    cycle.append(cycle)
    session.save({"a": shared, "b": {"inner": shared}, "c": cycle})
    loaded = session.load()
    assert loaded["a"] is loaded["b"]["inner"] is loaded["c"][0]
    assert loaded["c"][1] is loaded["c"]
    some = session.load(names=["c", "b"])
    assert list(some) == ["b", "c"]
    assert some["b"]["inner"] is some["c"][0]


# ---- looking


@pytest.fixture
def history(session: chipmink.Session) -> list[chipmink.Checkpoint]:
    """Three checkpoints on the first branch."""
    namespaces: list[dict[str, object]] = [
        {"x": 1, "y": "one"},
        {"x": 2, "y": "one", "z": []},
        {"x": 3, "z": []},
    ]
    return [session.save(ns, message=f"number {i}") for i, ns in enumerate(namespaces, 1)]


def test_log_is_newest_first(session: chipmink.Session, history: list[chipmink.Checkpoint]) -> None:
    assert session.log() == history[::-1]
    assert [c.message for c in session.log()] == ["number 3", "number 2", "number 1"]
    assert session.head == history[-1]


def test_every_way_to_name_a_checkpoint(
    session: chipmink.Session, history: list[chipmink.Checkpoint]
) -> None:
    session.tag("good", at=2)
    second = history[1]

    class Number:
        def __index__(self) -> int:
            return 2

    for at in (2, "2", second.id, second.id[:12], "good", second, Number()):
        assert session.load(at)["x"] == 2
    assert session.load()["x"] == session.load("head")["x"] == 3
    assert session.checkpoint(2) == second
    assert hash(session.checkpoint(2)) == hash(second)


@pytest.mark.parametrize("at", [4, 0, -1, "nope", "0" * 64, "deadbeef"])
def test_no_such_checkpoint(
    session: chipmink.Session, history: list[chipmink.Checkpoint], at: object
) -> None:
    with pytest.raises(chipmink.NotFound) as caught:
        session.load(at)  # type: ignore[arg-type]
    assert "analysis" in str(caught.value)
    assert str(at) in str(caught.value)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("at", [True, 1.0, b"head", ["x"]])
def test_what_is_no_revision(
    session: chipmink.Session, history: list[chipmink.Checkpoint], at: object
) -> None:
    with pytest.raises(TypeError):
        session.load(at)  # type: ignore[arg-type]


def test_no_such_session(store: chipmink.Store) -> None:
    with pytest.raises(KeyError, match="'nope'"):
        store.session("nope").load()
    store.session("a").save({})
    with pytest.raises(KeyError, match="nope"):
        store.session("nope").load()
    assert store.session("nope").log() == []
    with pytest.raises(TypeError):
        store.session(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a@b", "..", "a\0b"])
def test_bad_names_of_sessions(store: chipmink.Store, name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        store.session(name).save({"x": 1})
    store.session("good").save({"x": 1})
    assert store.sessions() == ["good"]


def test_diff(session: chipmink.Session, history: list[chipmink.Checkpoint]) -> None:
    diff = session.diff(1, 2)
    assert (list(diff.added), list(diff.removed), list(diff.changed)) == (["z"], [], ["x"])
    before, after = diff.changed["x"]
    assert (before.changed, after.changed) == (1, 2)
    assert list(session.diff(2).removed) == ["y"]
    assert list(session.diff(3, 2).added) == ["y"]
    assert not session.diff(2, 2)
    assert list(history[0].diff(None).added) == ["x", "y"]


def test_missing_variables_are_all_named(
    session: chipmink.Session, history: list[chipmink.Checkpoint]
) -> None:
    with pytest.raises(KeyError, match=r"analysis@3 has no variable 'y', 'w'"):
        session.load(names=["x", "y", "w"])
    assert session.load(names=[]) == {}
    with pytest.raises(TypeError, match="one string"):
        session.load(names="x")
    with pytest.raises(TypeError, match="int"):
        session.load(names=[1])  # type: ignore[list-item]


def test_statistics_and_verify(store: chipmink.Store, history: list[chipmink.Checkpoint]) -> None:
    statistics = store.statistics()
    assert statistics["sessions"] == 1
    assert statistics["checkpoints"] == 3
    assert statistics["objects"] > 3
    assert statistics["disk_bytes"] >= statistics["stored_bytes"] > 0
    found = store.verify()
    assert found.damage == ()
    assert (found.sessions, found.checkpoints) == (1, 3)


# ---- branches, tags, checkout


def test_branches_and_tags(session: chipmink.Session, history: list[chipmink.Checkpoint]) -> None:
    first = session.current_branch
    assert first is not None
    assert session.branches == {first: 3}
    assert session.tags == {}
    assert session.branch("trial", at=1) == history[0]
    assert session.tag("v1") == history[2]
    session.tag("v1", at="trial")
    assert session.branches == {first: 3, "trial": 1}
    assert session.tags == {"v1": 1}
    assert session.current_branch == first


@pytest.mark.parametrize("name", ["", "a/b", "12", "head", "a\tb"])
def test_bad_names_of_refs(
    session: chipmink.Session, history: list[chipmink.Checkpoint], name: str
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        session.branch(name)
    with pytest.raises(ValueError, match=r"\w"):
        session.tag(name)


def test_refs_of_another_session(store: chipmink.Store, history: list[chipmink.Checkpoint]) -> None:
    other = store.session("other")
    other.save({"x": 0})
    with pytest.raises(chipmink.NotFound, match="analysis@3"):
        other.branch("b", at=history[2])
    with pytest.raises(chipmink.NotFound, match="analysis@3"):
        other.checkout(history[2])
    assert other.load(at=history[2])["x"] == 3  # looking is free
    assert list(other.diff(1, history[2]).changed) == ["x"]


def test_work_on_a_branch(session: chipmink.Session, history: list[chipmink.Checkpoint]) -> None:
    trunk = session.current_branch
    session.branch("trial", at=1)
    session.checkout("trial")
    assert session.current_branch == "trial"
    assert session.head == history[0]
    fourth = session.save({"x": 4})
    assert fourth.number == 4
    assert fourth.parents == (1,)
    assert session.branches == {trunk: 3, "trial": 4}
    assert session.load(trunk)["x"] == 3
    assert session.load("trial")["x"] == 4
    assert [c.number for c in session.log()] == [4, 3, 2, 1]


def test_checkout_of_an_old_checkpoint_detaches(
    session: chipmink.Session, history: list[chipmink.Checkpoint]
) -> None:
    trunk = session.current_branch
    session.checkout(2)
    assert session.current_branch is None
    assert session.save({"x": 5}).parents == (2,)
    assert session.current_branch not in (None, trunk)
    assert session.branches[str(trunk)] == 3
    session.checkout(3)  # the tip of a branch: on that branch
    assert session.current_branch == trunk


def test_checkout_into_a_namespace(session: chipmink.Session) -> None:
    shared = [1]
    namespace: dict[str, object] = {"a": shared, "b": (shared,), "s": "text", "__name__": "m"}
    session.save(namespace)
    namespace["later"] = 1
    namespace["s"] = "other"
    session.save(namespace)
    namespace["never saved"] = object()
    shared.append(2)
    checkpoint = session.checkout(1, into=namespace)
    assert checkpoint.number == 1
    assert list(namespace) == ["a", "b", "s", "__name__", "never saved"]
    assert namespace["a"] == [1]
    assert namespace["a"] is namespace["b"][0]  # type: ignore[index]
    assert namespace["s"] == "text"
    assert shared == [1, 2]


def test_checkout_undoes_changes_in_place(session: chipmink.Session) -> None:
    namespace = {"data": {"k": [1, 2, 3]}}
    session.save(namespace)
    namespace["data"]["k"].clear()
    session.checkout(1, into=namespace)
    assert namespace == {"data": {"k": [1, 2, 3]}}


def test_checkout_that_cannot_load_changes_nothing(
    session: chipmink.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passing_module.py").write_text("class C:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import passing_module  # type: ignore[import-not-found]

    session.save({"x": 1, "c": passing_module.C()})
    session.save({"x": 2})
    (tmp_path / "passing_module.py").unlink()
    monkeypatch.delitem(__import__("sys").modules, "passing_module")
    namespace = {"x": 2}
    with pytest.raises(chipmink.LoadError, match="passing_module"):
        session.checkout(1, into=namespace)
    assert namespace == {"x": 2}
    assert session.head.number == 2  # type: ignore[union-attr]


# ---- handles


def test_a_closed_store(path: Path) -> None:
    with chipmink.open(path) as store:
        session = store.session("a")
        checkpoint = session.save({"x": [1]})
    for use in (store.sessions, session.log, lambda: session.save({}), store.verify):
        with pytest.raises(chipmink.StoreError, match="was closed"):
            use()
    store.close()
    assert checkpoint.number == 1
    assert list(checkpoint.variables) == ["x"]
    assert checkpoint.load() == {"x": [1]}
    with chipmink.open(path) as again:  # the lock is free, whatever is still looked at
        assert again.session("a").save({"x": [2]}).number == 2
        assert checkpoint.load() == {"x": [1]}


def test_forgotten_stores_do_not_stay_locked(path: Path) -> None:
    checkpoint = chipmink.open(path).session("a").save({"x": 1})
    with chipmink.open(path) as store:
        assert store.session("a").save({"x": 2}).parents == (checkpoint.number,)
    assert checkpoint.load() == {"x": 1}


def test_reading_sees_what_another_handle_writes(path: Path) -> None:
    with chipmink.open(path) as writer:
        writer.session("a").save({"x": 1})
        with chipmink.open(path) as reader:
            assert reader.session("a").load() == {"x": 1}
            for i in range(2, 6):
                writer.session("a").save({"x": i})
                assert reader.session("a").load() == {"x": i}
            with pytest.raises(chipmink.Busy):
                reader.session("a").tag("t")
            writer.close()
            assert reader.session("a").tag("t").number == 5


@pytest.mark.parametrize("unpickler", [pickle.Unpickler, pickle._Unpickler])  # type: ignore[attr-defined]
def test_long_streams(path: Path, unpickler: type[pickle.Unpickler]) -> None:
    """What is read ahead comes in pieces; any unpickler gets its bytes, wherever they are cut."""
    sizes = [1, 1000, 65_535, 131_072, 131_073, 1 << 20, 5 << 20]
    value = {
        "texts": [chr(97 + i) * size for i, size in enumerate(sizes)],
        "bytes": [bytes([i]) * size for i, size in enumerate(sizes)],
        "wide": ["\N{SNOWMAN}" * size for size in sizes],
        "writable": [bytearray(size) for size in sizes],
        "small": [[i, str(i), i / 7] for i in range(60_000)],
        "last": list(range(70_000)),
    }
    with chipmink.open(path) as store:
        checkpoint = store.session("a").save({"value": value})
        loaded = checkpoint._core.load(["value"], unpickler)
    assert loaded == {"value": value}
    assert {type(part) for part in loaded["value"]["bytes"]} == {bytes}


@pytest.mark.parametrize("names", [None, ["many", "small"]])
def test_many_buffers(path: Path, names: list[str] | None) -> None:
    """They are read ahead, up to a bound, in parts and by several threads; each comes whole."""
    np = pytest.importorskip("numpy")
    sizes = [0, 1, 4096, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3 << 20, 30 << 20, 7, 40 << 20, 5]
    many = [np.arange(size // 8 + 1, dtype="<u8") * 3 + i for i, size in enumerate(sizes)]
    many += [array.copy() for array in many[4:9]] + [many[8].copy()]  # the same, apart
    frozen = np.arange(2 << 20, dtype="u1")
    frozen.flags.writeable = False
    namespace = {"many": many, "frozen": frozen, "small": [np.full(9, i) for i in range(3000)]}
    with chipmink.open(path) as store:
        session = store.session("a")
        session.save(namespace)
        loaded = session.load(names=names)
    assert loaded.keys() == set(names or namespace)
    for before, after in zip(many, loaded["many"], strict=True):
        assert after.flags.writeable
        assert np.array_equal(before, after)
        after[:] = 0
    for i, array in enumerate(loaded["small"]):
        assert array.tolist() == [i] * 9
    if names is None:
        assert not loaded["frozen"].flags.writeable
        assert np.array_equal(loaded["frozen"], frozen)
