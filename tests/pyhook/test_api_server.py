# SPDX-License-Identifier: Apache-2.0
"""Using a store that is served: threads, Ctrl-C, the command, and where no server can be."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import chipmink
import pytest
from api_support import INTERRUPTED, WALKING, WRITING, Command, finish

Start = Callable[..., "Popen[str]"]


@pytest.fixture(autouse=True)
def _served(path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores go through a server here, and none is left behind."""
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "0")
    monkeypatch.setenv("CHIPMINK_COMMAND", str(command.program))
    yield
    if path.exists():
        subprocess.run([command.program, "stop", "--store", path], check=True)


# ---- threads


@pytest.mark.parametrize("together", [True, False], ids=["one store", "a store each"])
def test_threads_save_to_their_sessions(path: Path, together: bool) -> None:
    shared = chipmink.open(path)
    trouble: list[BaseException] = []

    def work(name: str) -> None:
        try:
            store = shared if together else chipmink.open(path)
            session = store.session(name)
            for i in range(1, 16):
                values = {
                    "i": i,
                    "data": bytes([i]) * 500_000,
                    "rows": [[j, i] for j in range(3000)],
                }
                saved = session.save(values)
                assert saved.number == i
                assert not saved.arrived
                assert saved.load() == values
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    for name in ("one", "two"):
        assert [c.number for c in shared.session(name).log()] == list(range(15, 0, -1))
    assert shared.verify().damage == ()


# ---- Ctrl-C


@pytest.mark.parametrize("make", [WALKING, WRITING], ids=["walking", "writing"])
def test_ctrl_c_during_a_save(path: Path, python: Start, make: str) -> None:
    """It cancels; other clients and the next save do not notice."""
    other = chipmink.open(path).session("other")
    other.save({"y": 1})
    lines = finish(python(INTERRUPTED.format(make=make), path))
    assert lines == ["interrupted", "{'x': 1}", "{'x': 2}", "False ()"]
    assert other.save({"y": 2}).load() == {"y": 2}


def test_ctrl_c_that_comes_too_late(path: Path) -> None:
    """What an interrupted save has committed after all is not taken for somebody else's."""
    session = chipmink.open(path).session("a")
    session.save({"x": 0})
    chance = random.Random(7)
    duration = 0.005
    interrupted = 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", chipmink.Arrived)
            for i in range(150):
                begin = time.perf_counter()
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 1.2 * duration))
                    session.save({f"x{i}": i})
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    duration = time.perf_counter() - begin
                except KeyboardInterrupt:
                    interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    assert session.save({"x": "last"}).load() == {"x": "last"}
    for checkpoint in session.log():
        assert len(checkpoint.variables) == 1


# ---- the server goes


def test_refs_while_the_server_is_killed(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    session.save({"x": 2})

    def kill() -> None:
        os.kill(int((path / "writer.lock").read_text().split()[1]), signal.SIGKILL)

    kill()
    assert session.tag("t", at=1).number == 1
    kill()
    assert session.branch("b", at=1).number == 1
    kill()
    assert session.checkout("b").number == 1
    kill()
    assert (session.current_branch, session.tags) == ("b", {"t": 1})
    namespace: dict[str, object] = {}
    kill()
    assert session.pull(namespace) == ["x"]
    assert namespace == {"x": 1}
    assert session.save({"x": 3}).parents == (1,)


def test_a_forked_child_opens_its_own_and_saves(path: Path, python: Start) -> None:
    script = """
        import os, sys, chipmink
        session = chipmink.open(sys.argv[1]).session("a")
        session.save({"x": 1})
        child = os.fork()
        if not child:
            print(chipmink.open(sys.argv[1]).session("b").save({"y": 2}).load(), flush=True)
            sys.exit(0)
        print(os.waitpid(child, 0)[1], session.save({"x": 2}).number, flush=True)
    """
    out, _ = python(script, path).communicate(timeout=60)
    assert out.splitlines() == ["{'y': 2}", "0 2"]


# ---- pulling


def test_removed_on_one_side(path: Path) -> None:
    """A change outweighs a removal; the other side is told."""
    mine, theirs = (chipmink.open(path).session("a") for _ in range(2))
    mine.save({"x": 1, "y": 1, "z": 1})
    others = theirs.load()
    del others["y"], others["z"]
    theirs.save({**others, "x": 2})
    with pytest.warns(chipmink.Arrived):
        merged = mine.save({"y": 2, "z": 1})
    assert merged.arrived == ("x",)  # removed here, changed there
    assert list(merged.conflicts) == ["y"]  # changed here, removed there
    assert merged.load() == {"x": 2, "y": 2}
    assert mine.load(merged.conflicts["y"]) == {"x": 2}


def test_pull_into_a_fresh_namespace(path: Path) -> None:
    shared = [1]
    chipmink.open(path).session("a").save({"x": shared, "y": shared})
    session = chipmink.open(path).session("a")
    namespace: dict[str, object] = {"own": 1}
    assert sorted(session.pull(namespace)) == ["x", "y"]
    assert namespace == {"own": 1, "x": [1], "y": [1]}
    assert namespace["x"] is namespace["y"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(session.save(namespace).variables) == {"own", "x", "y"}


# ---- the command


def test_the_command_with_and_without_the_server(path: Path, command: Command) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    lock = (path / "writer.lock").read_text()
    for i in range(2, 6):
        session.save({"x": i})
        for options in ((), ("--embedded",), ("-E",)):
            found = command.json("log", "a", *options)["checkpoints"]
            assert [c["number"] for c in found] == list(range(i, 0, -1))
    assert command.text("verify", "--embedded").endswith("all good\n")
    assert (path / "writer.lock").read_text() == lock  # still the same server


def test_embedded_starts_no_server(path: Path, command: Command) -> None:
    chipmink.open(path).session("a").save({"x": 1})
    command.text("stop")
    assert "a" in command.text("sessions", "--embedded")
    assert not (path / "socket").exists()
    assert "a" in command.text("sessions")
    assert (path / "socket").exists()


def test_the_command_reads_beside_an_embedded_writer(path: Path, command: Command) -> None:
    with chipmink.open(path, embedded=True) as store:
        store.session("a").save({"x": 1})
        assert "a" in command.text("sessions")
        assert "a" in command.text("sessions", "--embedded")


def test_serve_beside_another(path: Path, command: Command) -> None:
    chipmink.open(path).session("a").save({"x": 1})
    server = (path / "writer.lock").read_text().split()[1]
    done = command.run("serve")
    assert done.returncode == 1
    assert server in done.stderr.decode()
    assert command.run("serve", "--idle", "soon").returncode == 2
    assert command.run("stop", "now").returncode == 2
    for name in ("serve", "stop"):
        assert command.text(name, "--help").startswith(f"Usage: chipmink {name} ")


def test_stop_where_nothing_runs(path: Path, command: Command) -> None:
    chipmink.open(path, embedded=True).session("a").save({"x": 1})
    assert command.text("stop") == ""
    assert not (path / "socket").exists()


# ---- a store that may only be read


def obey_permissions() -> None:
    """For the child between fork and exec: root then obeys permissions as everyone does."""
    libc = ctypes.CDLL(None, use_errno=True)
    drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
    for capability in (dac_override, dac_read_search):
        if libc.prctl(drop_from_bounding_set, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


READER = """
    import os, subprocess, sys, chipmink
    path = sys.argv[1]
    print(os.access(path, os.W_OK))
    session = chipmink.open(path).session("a")
    print(session.load(), session.store)
    for use in (lambda: session.save({"x": 2}), lambda: session.tag("t")):
        try:
            print("used:", use())
        except chipmink.StoreError as error:
            print("refused:", error)
    done = subprocess.run([os.environ["CHIPMINK_COMMAND"], "ls", "-1", "--store", path, "a"])
    print(done.returncode)
"""


def test_a_store_without_write_permission(path: Path, python: Start) -> None:
    with chipmink.open(path, embedded=True) as store:
        store.session("a").save({"x": 1})
    for directory in (path / "db", path):
        for entry in directory.iterdir():
            if entry.is_file():
                entry.chmod(0o400)
        directory.chmod(0o500)
    try:
        limits = {"preexec_fn": obey_permissions} if os.geteuid() == 0 else {}
        reader = python(READER, path, **limits)
    except subprocess.SubprocessError:
        pytest.skip("this root cannot give up its capabilities")
    else:
        lines = reader.communicate(timeout=60)[0].splitlines()
    finally:
        for directory in (path, path / "db"):
            directory.chmod(0o700)
    assert reader.returncode == 0
    assert lines[0] == "False"
    assert lines[1].startswith("{'x': 1}")
    assert "reading" in lines[1]
    for line in lines[2:4]:
        assert line.startswith("refused: ")
        assert str(path) in line
    assert sorted(lines[4:]) == ["0", "x"]
    assert not (path / "socket").exists()


# ---- finding the command


def test_the_command_of_this_package_is_found(
    path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHIPMINK_COMMAND")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert chipmink.open(path).session("a").save({"x": 1}).number == 1
    server = int((path / "writer.lock").read_text().split()[1])
    assert Path(f"/proc/{server}/exe").resolve().name == "chipmink"


def test_embedded_by_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, embedded in (("", False), ("0", False), ("1", True), ("yes", True)):
        monkeypatch.setenv("CHIPMINK_EMBEDDED", value)
        assert chipmink.open(path).embedded is embedded
        assert chipmink.open(path, embedded=not embedded).embedded is not embedded
