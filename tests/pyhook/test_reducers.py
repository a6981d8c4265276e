# SPDX-License-Identifier: Apache-2.0
"""Reducers that users and other packages register."""

from __future__ import annotations

import importlib
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chipmink
import pytest
from chipmink import reducers

HERE = Path(__file__).parent


class Locked:
    """Cannot be pickled by itself."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.version = 0
        self.lock = threading.Lock()


class MoreLocked(Locked):
    pass


class Slotted:
    __slots__ = ("lock", "value")


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self
        self.lock = threading.Lock()


saves: list[Any] = []


def save_locked(obj: Any) -> Any:
    saves.append(obj)
    return type(obj).__name__, obj.value


def load_locked(state: tuple[str, Any]) -> Locked:
    return {"Locked": Locked, "MoreLocked": MoreLocked}[state[0]](state[1])


def version(obj: Locked) -> int:
    return obj.version


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers ends with it."""
    monkeypatch.setattr(reducers._registry, "_own", reducers._registry._own)
    saves.clear()


LOCKED = f"{__name__}.Locked"


def test_an_object_is_saved_and_loaded(session: chipmink.Session) -> None:
    shared = [1, 2]
    locked = Locked(shared)
    assert "lock" in session.save({"locked": locked}).unsaved["locked"]
    reducers.register(LOCKED, save=save_locked, load=load_locked)
    checkpoint = session.save({"locked": locked, "again": [locked], "shared": shared})
    assert checkpoint.unsaved == {}
    loaded = session.load()
    assert type(loaded["locked"]) is Locked
    assert loaded["again"][0] is loaded["locked"]
    assert loaded["locked"].value is loaded["shared"]
    shared.append(3)
    assert session.save({"locked": locked, "again": [locked], "shared": shared}).stats["pods_new"]
    assert session.load()["locked"].value == [1, 2, 3]
    assert session.save(session.load()).stats["pods_new"] == 0
    reducers.unregister(LOCKED)
    assert session.save({"locked": locked}).unsaved
    with pytest.raises(KeyError, match="Locked"):
        reducers.unregister(LOCKED)


def test_going_back(session: chipmink.Session) -> None:
    reducers.register(LOCKED, save=save_locked, load=load_locked, unchanged=version)
    namespace: dict[str, Any] = {"locked": Locked(1), "function": lambda: namespace}
    session.save(namespace)
    namespace["locked"].value, namespace["locked"].version = 2, 1
    session.save(namespace)
    session.checkout(1, into=namespace)
    assert namespace["locked"].value == 1
    session.save(namespace)
    assert session.load()["locked"].value == 1


def test_subclasses_only_where_asked_for(session: chipmink.Session) -> None:
    reducers.register(LOCKED, save=save_locked, load=load_locked)
    assert session.save({"more": MoreLocked(1)}).unsaved
    reducers.register(LOCKED, save=save_locked, load=load_locked, subclasses=True)
    assert session.save({"more": MoreLocked(1)}).unsaved == {}
    assert type(session.load()["more"]) is MoreLocked
    reducers.register(f"{__name__}.MoreLocked", save=lambda obj: 5, load=Locked)
    session.save({"more": MoreLocked(1)})
    assert vars(session.load()["more"])["value"] == 5


def test_objects_in_their_own_state(session: chipmink.Session) -> None:
    reducers.register(f"{__name__}.Knot", reduce=lambda obj: (Knot, (), {"me": obj.me}))
    assert session.save({"knot": Knot()}).unsaved == {}
    knot = session.load()["knot"]
    assert knot.me is knot


def test_unchanged(session: chipmink.Session) -> None:
    items = list(range(5000))
    locked = Locked(items)
    reducers.register(LOCKED, save=save_locked, load=load_locked, unchanged=version)
    first = session.save({"locked": locked})
    again = session.save({"locked": locked})
    assert len(saves) == 1
    assert again.variables["locked"].content == first.variables["locked"].content
    items[7] = -1  # what is in the state is compared, whatever the token says
    session.save({"locked": locked})
    assert len(saves) == 1
    assert session.load()["locked"].value == items
    locked.value = "other"
    locked.version += 1
    session.save({"locked": locked})
    assert len(saves) == 2
    assert session.load()["locked"].value == "other"


def test_unchanged_is_of_that_very_object(session: chipmink.Session) -> None:
    reducers.register(LOCKED, save=save_locked, load=load_locked, unchanged=version)
    for value in range(300):  # many come to the address of one before
        session.save({"locked": Locked(value)})
        assert session.load()["locked"].value == value
    assert len(saves) == 300
    kept = reducers.find(Locked)
    assert kept is not None
    saves.clear()
    assert len(kept._kept) == 0


def test_unchanged_that_cannot_tell(session: chipmink.Session) -> None:
    reducers.register(LOCKED, save=save_locked, load=load_locked, unchanged=lambda obj: None)
    locked = Locked(1)
    session.save({"locked": locked})
    locked.value = 2
    session.save({"locked": locked})
    assert session.load()["locked"].value == 2
    reducers.register(LOCKED, save=save_locked, load=load_locked, unchanged=lambda obj: [1])
    assert "unchanged() returned a list" in session.save({"locked": locked}).unsaved["locked"]

    slotted = Slotted()
    slotted.value = 1
    name = f"{__name__}.Slotted"
    reducers.register(name, save=lambda obj: obj.value, load=int, unchanged=lambda obj: 0)
    session.save({"slotted": slotted})
    slotted.value = 2
    session.save({"slotted": slotted})
    assert session.load()["slotted"] == 2


def test_a_module_that_is_reloaded(
    session: chipmink.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "import threading\nclass Thing:\n    def __init__(self): self.lock = threading.Lock()\n"
    )
    (tmp_path / "things.py").write_text(source + "def load(state): return Thing()\n")
    monkeypatch.syspath_prepend(tmp_path)
    reducers.register("things.Thing", save=lambda obj: None, load=lambda state: state)
    assert "things" not in sys.modules
    things = importlib.import_module("things")
    old = things.Thing()
    things = importlib.reload(things)
    reducers.register("things.Thing", save=lambda obj: None, load=things.load)
    assert session.save({"old": old, "new": things.Thing()}).unsaved == {}
    loaded = session.load()
    assert type(loaded["old"]) is type(loaded["new"]) is things.Thing


def test_a_class_by_another_name(session: chipmink.Session) -> None:
    package, inner = types.ModuleType("pack_of_two"), types.ModuleType("pack_of_two.inner")
    inner.Thing = type("Thing", (Locked,), {"__module__": "pack_of_two.inner"})  # type: ignore[attr-defined]
    package.Thing = inner.Thing  # type: ignore[attr-defined]
    sys.modules.update({"pack_of_two": package, "pack_of_two.inner": inner})
    try:
        reducers.register("pack_of_two.Thing", save=lambda obj: obj.value, load=Locked)
        assert session.save({"thing": inner.Thing(3)}).unsaved == {}
        assert session.load()["thing"].value == 3
    finally:
        del sys.modules["pack_of_two"], sys.modules["pack_of_two.inner"]


def test_failures_are_named(session: chipmink.Session) -> None:
    reducers.register(LOCKED, save=lambda obj: 1 / 0, load=load_locked)
    checkpoint = session.save({"bad": Locked(1), "good": 1})
    reason = checkpoint.unsaved["bad"]
    assert f"the reducer of {LOCKED} failed: ZeroDivisionError" in reason
    assert session.load() == {"good": 1}


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("Box", {"save": repr, "load": eval}, ValueError),
        ("a b.Box", {"save": repr, "load": eval}, ValueError),
        ("builtins.dict", {"save": repr, "load": eval}, ValueError),
        ("boxes.Box", {}, TypeError),
        ("boxes.Box", {"save": repr}, TypeError),
        ("boxes.Box", {"save": repr, "load": eval, "reduce": repr}, TypeError),
        ("boxes.Box", {"reduce": repr, "unchanged": len}, TypeError),
        ("boxes.Box", {"save": repr, "load": 5}, TypeError),
    ],
)
def test_what_cannot_be_registered(
    name: str, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        reducers.register(name, **options)


def test_from_several_threads(session: chipmink.Session) -> None:
    def register() -> None:
        for i in range(300):
            reducers.register(f"made.up{i % 7}", save=repr, load=eval)
            reducers.register(LOCKED, save=save_locked, load=load_locked, unchanged=version)

    threads = [threading.Thread(target=register) for _ in range(4)]
    reducers.register(LOCKED, save=save_locked, load=load_locked)
    for thread in threads:
        thread.start()
    for value in range(30):
        assert session.save({"locked": Locked(value)}).unsaved == {}
        assert session.load()["locked"].value == value
    for thread in threads:
        thread.join()


# ---- another package -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, built and installed by pip into a directory of its own."""
    source = shutil.copytree(
        HERE / "boxes_package", tmp_path_factory.mktemp("source") / "boxes_package"
    )
    target = tmp_path_factory.mktemp("installed")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", target)
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    return target


PROGRAM = """
    import sys, warnings
    import chipmink
    path, target = sys.argv[1:]
    sys.path.insert(0, target)
    with chipmink.open(path, embedded=True) as store:
        session = store.session("boxes")
        session.save({"x": 1})
        assert "boxes" not in sys.modules
        import boxes
        assert "boxes.saving" not in sys.modules
        class Crate(boxes.Box): pass
        boxes.Crate, Crate.__module__, Crate.__qualname__ = Crate, "boxes", "Crate"
        box = boxes.Box([1, 2])
        namespace = {"box": box, "crate": Crate([3]), "broken": boxes.Broken()}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert session.save(namespace).unsaved == {}
            session.save(namespace)
        (warning,) = caught
        assert "the reducer of boxes.Broken (boxes.saving:MISSING of boxes)" in str(warning.message)
        assert "AttributeError" in str(warning.message)
        import boxes.saving
        assert boxes.saving.SAVED == [0, 0]
        box.put(5)
        session.save(namespace)
        assert boxes.saving.SAVED == [0, 0, 1]
        loaded = session.load()
        assert loaded["box"].items == [1, 2, 5] and type(loaded["crate"]) is Crate
        assert loaded["broken"].value == 1
        assert session.load(at=2)["box"].items == [1, 2]
"""


def test_a_package_with_an_entry_point(
    installed: Path, path: Path, python: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = python(PROGRAM, path, installed)
    process.communicate()
    assert process.returncode == 0
    with chipmink.open(path) as store:  # the linked stream, where there is no Chipmink
        link = store.session("boxes").checkpoint(2)._core.link(["box"], buffers=False)
        pickled = link.read(0, link.size)
    (tmp_path / "box.pkl").write_bytes(pickled)
    reader = f"""
        import pickle, sys
        sys.modules["chipmink"] = None
        sys.path.insert(0, {str(installed)!r})
        with open({str(tmp_path / "box.pkl")!r}, "rb") as file:
            loaded = pickle.load(file)
        assert loaded["box"].items == [1, 2], loaded
    """
    done = subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(reader)], check=False)
    assert done.returncode == 0
    with pytest.raises(ModuleNotFoundError, match="boxes"):
        pickle.loads(pickled)
