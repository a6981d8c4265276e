# SPDX-License-Identifier: Apache-2.0
"""Memory that several objects see is one memory again after loading, also with plain pickle."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import chipmink
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")


def plain(checkpoint: chipmink.Checkpoint) -> dict[str, Any]:
    """The whole namespace as the mount shows it, read with pickle alone."""
    link = checkpoint._core.link(buffers=False)
    loaded: dict[str, Any] = pickle.loads(link.read(0, link.size))
    return loaded


def generations(session: chipmink.Session, namespace: dict[str, Any]) -> Any:
    """The namespace saved and loaded, by each way, and that again."""
    for _ in range(2):
        checkpoint = session.save(namespace)
        assert checkpoint.unsaved == {}
        yield plain(checkpoint)
        namespace = session.load()
        yield namespace
        namespace = session.load()


def test_views_share_their_base(session: chipmink.Session) -> None:
    for count in (1000, 200_000):
        base = np.arange(float(count))
        namespace = {
            "base": base,
            "part": base[10:20],
            "backwards": base[::-1],
            "strided": base[5::7],
            "matrix": base.reshape(-1, 10),
            "turned": base.reshape(-1, 10).T,
            "bytes": base.view("u1"),
            "one": base[3:4].reshape(()),
            "repeated": np.broadcast_to(base[:4], (3, 4)),
            "inside": {"list": [base[1:], base[30:40]]},
            "windows": np.lib.stride_tricks.sliding_window_view(base, 5),
        }
        for loaded in generations(session, namespace):
            for name in namespace.keys() - {"inside"}:
                np.testing.assert_array_equal(loaded[name], namespace[name])
                assert np.shares_memory(loaded[name], loaded["base"]), name
                assert loaded[name].flags.writeable == namespace[name].flags.writeable
            loaded["base"][11] = -5
            assert loaded["part"][1] == loaded["backwards"][-12] == -5
            assert loaded["matrix"][1, 1] == loaded["turned"][1, 1] == -5
            assert loaded["inside"]["list"][0][10] == -5
            loaded["inside"]["list"][1][0] = 77
            assert loaded["base"][30] == 77


def test_what_was_loaded_is_saved_alike(session: chipmink.Session) -> None:
    base = np.arange(5000.0)
    fortran = np.asfortranarray(np.random.default_rng(1).random((30, 40)))
    namespace = {"base": base, "part": base[7:99], "fortran": fortran, "column": fortran[:, 3]}
    first = session.save(namespace)
    again = session.save(session.load())
    assert again.stats["pods_new"] == 0
    same = {name: variable.content for name, variable in first.variables.items()}
    assert {name: variable.content for name, variable in again.variables.items()} == same
    loaded = session.load()
    assert np.shares_memory(loaded["column"], loaded["fortran"])
    assert loaded["fortran"].flags.f_contiguous


def test_a_base_that_nothing_else_has(session: chipmink.Session) -> None:
    big = np.random.default_rng(1).random(100_000)
    halves = {"first": big[:60_000], "second": big[50_000:]}
    few = {"few": big[:10]}
    for loaded in generations(session, halves):
        loaded["first"][59_999] = 9
        assert loaded["second"][9_999] == 9
        np.testing.assert_array_equal(loaded["first"][:50_000], big[:50_000])
    checkpoint = session.save(few)
    assert checkpoint.variables["few"].size < 1000
    both = session.load(at=session.save({**few, "big": big}))
    assert np.array_equal(both["few"], both["big"][:10])
    both = session.load(at=session.save({"big": big, **few}))
    assert np.shares_memory(both["few"], both["big"])


def test_a_change_is_seen_through_the_base(session: chipmink.Session) -> None:
    base = np.zeros(300_000)
    namespace = {"base": base, "part": base[100:200], "apart": np.zeros(3)}
    session.save(namespace)
    for step in range(1, 4):
        namespace["part"][5] = step
        checkpoint = session.save(namespace)
        assert {n: v.changed == checkpoint.number for n, v in checkpoint.variables.items()} == {
            "base": True,
            "part": True,
            "apart": False,
        }
        assert session.load()["base"][105] == session.load(names=["part"])["part"][5] == step


def test_a_save_lets_go_of_arrays(session: chipmink.Session) -> None:
    base = np.arange(1000.0)
    session.save({"base": base, "parts": [base[3:5], base[:]]})
    base.resize(2000, refcheck=True)  # refused if others hold on to it


def test_read_only_views(session: chipmink.Session) -> None:
    base = np.arange(1000.0)
    view = base[:]
    view.flags.writeable = False
    frozen = np.arange(1000.0)
    still = frozen[5:10]
    frozen.flags.writeable = False
    namespace = {"view": view, "base": base, "frozen": frozen, "still": still, "cut": frozen[3:]}
    for loaded in generations(session, namespace):
        assert not loaded["view"].flags.writeable
        loaded["base"][3] = -1
        assert loaded["view"][3] == -1
        assert not loaded["frozen"].flags.writeable
        assert loaded["still"].flags.writeable
        assert not loaded["cut"].flags.writeable


def test_kinds_of_arrays(session: chipmink.Session) -> None:
    times = np.arange("2020-01-01", "2021-01-01", dtype="M8[D]")
    records = np.zeros(500, dtype=[("a", "i4"), ("b", "f8", (2,))])
    objects = np.array([[1], "two", None], dtype=object)
    namespace = {
        "times": times,
        "year": times[10:20],
        "records": records,
        "b": records["b"],
        "objects": objects,
        "object": objects[1:],
        "empty": times[:0],
        "matrix": np.asmatrix(np.eye(3))[1:],
        "masked": np.ma.masked_array(np.arange(100), mask=np.arange(100) % 2 == 0)[5:],
        "permuted": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2).copy(order="K")[1:],
    }
    for loaded in generations(session, namespace):
        for name, before in namespace.items():
            assert type(loaded[name]) is type(before)
            assert loaded[name].dtype == before.dtype
            np.testing.assert_array_equal(loaded[name], before)
        loaded["year"][0] = "1999-01-01"
        assert loaded["times"][10] == np.datetime64("1999-01-01")
        loaded["b"][3, 1] = 4
        assert loaded["records"]["b"][3, 1] == 4


def test_memoryviews(session: chipmink.Session) -> None:
    array, content = np.arange(1000.0), bytearray(range(100))
    namespace = {
        "array": array,
        "view": memoryview(array),
        "cut": memoryview(array)[10:20],
        "cast": memoryview(array).cast("B"),
        "content": content,
        "middle": memoryview(content)[5:50],
        "numbers": memoryview(content)[8:24].cast("i"),
        "table": memoryview(content)[:6].cast("B", (2, 3)),
        "frozen": memoryview(content).toreadonly(),
        "odd": memoryview(content)[::2],
        "text": memoryview(b"abc"),
    }
    for loaded in generations(session, namespace):
        for name in namespace.keys() - {"array", "odd"}:
            assert loaded[name] == namespace[name], name
            assert type(loaded[name]) is type(namespace[name])
        assert loaded["odd"] == namespace["odd"].tobytes()
        assert loaded["frozen"].readonly
        loaded["cut"][3] = -1
        assert loaded["array"][13] == loaded["view"][13] == -1
        loaded["content"][8] = 255
        assert loaded["middle"][3] == 255
        assert loaded["numbers"][0] & 255 == 255


def test_tables_keep_their_memory_to_themselves(session: chipmink.Session) -> None:
    """They copy on write, and would not know of others."""
    pd = pytest.importorskip("pandas")
    base = np.arange(3000.0).reshape(1000, 3)
    frame = pd.DataFrame(base, columns=list("abc"))
    namespace = {
        "base": base,
        "frame": frame,
        "column": frame["a"],
        "rows": frame[10:20],
        "values": frame.to_numpy(),
        "index": frame.index,
    }
    for loaded in generations(session, namespace):
        loaded["column"].iloc[0] = -1
        loaded["rows"].iloc[0, 0] = -2
        loaded["base"][1] = -3
        assert loaded["frame"].iloc[0, 0] == 0
        assert loaded["frame"].iloc[10, 0] == 30
        assert loaded["frame"].iloc[1, 0] == 3


def test_a_table_that_cannot_be_saved(session: chipmink.Session) -> None:
    """That arrays in it are its own ends with it."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [(i for i in ()), 1]})
    base = np.arange(1000.0)
    checkpoint = session.save({"frame": frame, "base": base, "part": base[5:10]})
    assert list(checkpoint.unsaved) == ["frame"]
    loaded = session.load()
    assert np.shares_memory(loaded["base"], loaded["part"])


def random_view(array: Any, rng: random.Random) -> Any:
    """Give some view of an array."""
    how = rng.randrange(6)
    if how == 0 and array.ndim:
        return array[tuple(some_slice(length, rng) for length in array.shape)]
    if how == 1:
        return array.T
    if how == 2 and array.flags.c_contiguous and array.size % 2 == 0:
        return array.reshape(2, -1)
    if how == 3 and array.flags.c_contiguous and array.ndim:
        return array.view("u1" if array.dtype != "u1" else "i1")
    if how == 4 and array.size:
        return array.reshape(-1)[rng.randrange(array.size) :] if array.ndim == 1 else array[:1]
    return array[...]


def some_slice(length: int, rng: random.Random) -> slice:
    begin = rng.randrange(length + 1)
    step = rng.choice([1, 1, 1, 2, 3])
    return slice(begin, None, step) if rng.random() < 0.7 else slice(None, None, -step)


@settings(max_examples=2000 if os.environ.get("CHIPMINK_LONG") else 60, deadline=None)
@given(seed=st.integers(0, 2**48))
@example(seed=0)
def test_random_views(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """What shared memory does so, what did not does not, in any order of the variables."""
    rng = random.Random(seed)
    arrays = []
    for _ in range(3):
        base = np.frombuffer(bytearray(rng.randbytes(8 * rng.randrange(1, 60))), "f4")
        arrays.append(base.copy(order=rng.choice("CF")) if rng.random() < 0.7 else base)
    for _ in range(8):
        arrays.append(random_view(rng.choice(arrays), rng))
    chosen = rng.sample(arrays, rng.randrange(2, len(arrays)))
    namespace: Any = {f"v{i}": array for i, array in enumerate(chosen)}
    path = tmp_path_factory.mktemp("views") / "store"
    with chipmink.open(path, embedded=True) as store:
        session = store.session("views")
        for _ in range(3):
            assert session.save(namespace).unsaved == {}
            loaded = session.load()
            for name, array in namespace.items():
                assert loaded[name].tobytes() == array.tobytes()
                assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype)
                for other in namespace:
                    expected = np.shares_memory(array, namespace[other])
                    assert np.shares_memory(loaded[name], loaded[other]) == expected
            namespace = loaded
            changed = rng.choice(list(namespace.values()))
            changed[...] = rng.randrange(100)


# ---- torch ---------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def test_tensors_on_one_storage(session: chipmink.Session, torch: Any) -> None:
    tensor = torch.arange(5000.0)
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(50, 20), "b": torch.nn.Linear(50, 20)})
    model["b"].weight = model["a"].weight
    namespace = {
        "tensor": tensor,
        "part": tensor[10:20],
        "turned": tensor.view(50, 100).T,
        "whole": tensor.view(torch.int32),
        "storage": tensor.untyped_storage(),
        "model": model,
        "state": model.state_dict(),
        "detached": model["a"].weight.detach()[3],
        "empty": torch.empty(0),
        "flag": torch.tensor([True, False]),
        "half": torch.ones(100, dtype=torch.bfloat16)[50:],
    }
    for loaded in generations(session, namespace):
        for name in ("tensor", "part", "turned", "detached", "empty", "flag", "half"):
            assert torch.equal(loaded[name], namespace[name])
        loaded["tensor"][11] = -5
        assert loaded["part"][1] == loaded["turned"][11, 0] == -5
        assert loaded["storage"].data_ptr() == loaded["tensor"].data_ptr()
        weight = loaded["model"]["a"].weight
        assert weight is loaded["model"]["b"].weight
        with torch.no_grad():
            weight[3, 2] = 8
        assert loaded["detached"][2] == 8
        assert loaded["state"]["a.weight"][3, 2] == loaded["state"]["b.weight"][3, 2] == 8
        loaded["model"]["a"](torch.ones(1, 50)).sum().backward()
        assert weight.grad is not None


def test_tensors_are_saved_alike(session: chipmink.Session, torch: Any) -> None:
    namespace = {"a": torch.arange(9000.0), "b": torch.nn.Linear(80, 80)}
    session.save(namespace)
    assert session.save(namespace).stats["pods_new"] == 0
    assert session.save(session.load()).stats["pods_new"] == 0
    namespace["a"][77] = 1
    assert session.save(namespace).stats["bytes_written"] < 60_000


def test_tensors_and_arrays(session: chipmink.Session, torch: Any) -> None:
    tensor, array = torch.zeros(100), np.zeros(100)
    namespace = {
        "tensor": tensor,
        "of_tensor": tensor.numpy()[5:],
        "array": array,
        "of_array": torch.from_numpy(array)[5:],
    }
    for loaded in generations(session, namespace):
        loaded["tensor"][7] = 1
        assert loaded["of_tensor"][2] == 1
        loaded["array"][7] = 1
        assert loaded["of_array"][2] == 1


def test_shared_tensors_stay_shared(session: chipmink.Session, torch: Any) -> None:
    shared = torch.ones(3000).share_memory_()
    for loaded in generations(session, {"shared": shared, "part": shared[5:10]}):
        assert loaded["shared"].is_shared()
        loaded["shared"][6] = 3
        assert loaded["part"][1] == 3


def test_needs_no_chipmink(session: chipmink.Session, tmp_path: Path, python: Any) -> None:
    torch = pytest.importorskip("torch")
    base, tensor = np.arange(1000.0), torch.arange(1000.0)
    namespace = {
        "b": base,
        "p": base[3:9],
        "t": tensor,
        "u": tensor[3:9],
        "m": memoryview(base)[2:],
    }
    link = session.save(namespace)._core.link(buffers=False)
    (tmp_path / "all.pkl").write_bytes(link.read(0, link.size))
    process = python(
        """
        import pickle, sys
        sys.modules["chipmink"] = sys.modules["cloudpickle"] = None
        loaded = pickle.load(open(sys.argv[1], "rb"))
        loaded["b"][3] = loaded["t"][3] = -1
        assert loaded["p"][0] == loaded["u"][0] == loaded["m"][1] == -1
        """,
        tmp_path / "all.pkl",
    )
    process.communicate()
    assert process.returncode == 0
