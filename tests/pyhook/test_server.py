# SPDX-License-Identifier: Apache-2.0
"""One store, many processes: the store server, merging, and what happens when either side dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from api_support import find_command

COMMAND = find_command()
pytestmark = pytest.mark.skipif(COMMAND is None, reason="the chipmink command is not built")

LONG = "CHIPMINK_LONG" in os.environ


@pytest.fixture(autouse=True)
def _served(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores go through a server here, and none is left behind."""
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "0")
    monkeypatch.setenv("CHIPMINK_COMMAND", str(COMMAND))
    yield
    if path.exists():
        subprocess.run([str(COMMAND), "stop", "--store", str(path)], check=True)


def server_of(path: Path) -> int:
    """Process id of the server: it has the writer's lock."""
    return int((path / "writer.lock").read_text().split()[1])  # "pid 123"


def run(script: str, *arguments: object) -> str:
    """Run a script in another process; what it prints."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


# ---- sharing


def test_two_processes_share_a_store(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    script = """
        import sys, chipmink
        session = chipmink.open(sys.argv[1]).session("b")
        print(session.save({"y": 2}).number, chipmink.open(sys.argv[1]).session("a").load())
    """
    assert run(script, path) == "1 {'x': 1}\n"
    assert session.store.sessions() == ["a", "b"]
    assert session.store.session("b").load() == {"y": 2}


def test_equal_data_of_two_sessions_is_stored_once(path: Path) -> None:
    data = random.Random(1).randbytes(1_000_000)
    first = chipmink.open(path).session("a").save({"data": data})
    assert first.stats.bytes_written > 1_000_000
    script = """
        import random, sys, chipmink
        data = random.Random(1).randbytes(1_000_000)
        print(chipmink.open(sys.argv[1]).session("b").save({"data": data}).stats.bytes_written)
    """
    assert int(run(script, path)) < 1000


def test_the_server_is_the_owners_alone(path: Path) -> None:
    chipmink.open(path).session("a").save({"x": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    found = (path / "socket").stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE((path / "server.log").stat().st_mode) == 0o600


def test_an_embedded_writer_keeps_the_server_out(path: Path) -> None:
    with chipmink.open(path, embedded=True) as alone:
        alone.session("a").save({"x": 1})
        with pytest.raises(chipmink.Busy, match=str(os.getpid())):
            chipmink.open(path)
    assert chipmink.open(path).session("a").load() == {"x": 1}


def test_a_store_known_to_be_embedded_is_refused_at_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt at a server is enough, where the one who has the store says that he is none."""
    attempts, command = tmp_path / "attempts", tmp_path / "command"
    command.write_text(f'#!/bin/sh\necho >> "{attempts}"\nexec "{COMMAND}" "$@"\n')
    command.chmod(0o700)
    monkeypatch.setenv("CHIPMINK_COMMAND", str(command))
    with chipmink.open(path, embedded=True) as alone:
        alone.session("a").save({"x": 1})
        with pytest.raises(chipmink.Busy, match=str(os.getpid())):
            chipmink.open(path)
        begun = attempts.read_text().count("\n")
    assert begun == 1
    assert (path / "writer.lock").read_text() == "", "who has gone does not seem to have it"


def test_the_server_keeps_an_embedded_writer_out_but_no_reader(path: Path) -> None:
    chipmink.open(path).session("a").save({"x": 1})
    with chipmink.open(path, embedded=True) as alone:
        assert alone.session("a").load() == {"x": 1}
        with pytest.raises(chipmink.Busy, match=str(server_of(path))):
            alone.session("a").save({"x": 2})


def test_a_long_path(tmp_path: Path) -> None:
    """Longer than a socket's address can be."""
    deep = tmp_path.joinpath(*["directory-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    with chipmink.open(deep / "store") as store:
        store.session("a").save({"x": 1})
        assert store.session("a").load() == {"x": 1}
    subprocess.run([str(COMMAND), "stop", "--store", str(deep / "store")], check=True)


def test_a_server_without_clients_ends(path: Path) -> None:
    with chipmink.open(path) as store:
        store.session("a").save({"x": 1})
    subprocess.run([str(COMMAND), "stop", "--store", str(path)], check=True)
    server = subprocess.Popen(
        [str(COMMAND), "serve", "--store", str(path), "--idle", "1", "--foreground"]
    )
    assert server.wait(timeout=60) == 0
    assert not (path / "socket").exists()


def test_no_command_no_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPMINK_COMMAND", str(path / "nowhere"))
    with pytest.raises(chipmink.StoreError, match="CHIPMINK_COMMAND"):
        chipmink.open(path).session("a").save({"x": 1})


def command_that_dies(path: Path, times: int) -> Path:
    """Write a chipmink command that is killed while it starts, the first times it is run."""
    command = path.parent / "chipmink"
    command.write_text(
        f"""#!/bin/sh
        echo >>"$0.runs"
        [ $(wc -l <"$0.runs") -gt {times} ] && exec {COMMAND} "$@"
        kill -KILL $$
        """
    )
    command.chmod(0o755)
    return command


def test_a_server_killed_while_it_starts_is_started_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIPMINK_COMMAND", str(command_that_dies(path, 2)))
    assert chipmink.open(path).session("a").save({"x": 1}).number == 1


def test_a_server_that_never_starts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPMINK_COMMAND", str(command_that_dies(path, 1000)))
    with pytest.raises(chipmink.StoreError, match="did not start"):
        chipmink.open(path).session("a").save({"x": 1})


# ---- merging


def change(path: Path, statements: str) -> None:
    """Let another process load the session "a", change it, and save it."""
    script = f"""
        import sys, chipmink
        session = chipmink.open(sys.argv[1]).session("a")
        n = session.load()
        {statements}
        session.save(n)
    """
    run(script, path)


def test_what_others_changed_is_kept_and_pulled(path: Path) -> None:
    session = chipmink.open(path).session("a")
    shared = [1, 2]
    namespace = {"same": 1, "theirs": [1], "gone": 3, "mine": 4, "left": shared, "right": shared}
    session.save(namespace)
    change(
        path,
        "n['theirs'].append(2); del n['gone']; n['new'] = {'k': n['left']}; n['left'].append(3)",
    )
    namespace["mine"] = 5
    with pytest.warns(chipmink.Arrived, match="pull"):
        merged = session.save(namespace)
    assert set(merged.arrived) == {"theirs", "new", "left", "right"}
    assert not merged.conflicts
    expected = {"same": 1, "theirs": [1, 2], "mine": 5, "new": {"k": [1, 2, 3]}}
    loaded = session.load()
    assert {name: loaded[name] for name in expected} == expected
    assert loaded["left"] == loaded["right"] == [1, 2, 3]
    assert "gone" not in loaded
    with pytest.warns(chipmink.Arrived):  # it has not been pulled yet, and is kept again
        session.save(namespace)
    assert session.load() == loaded
    assert set(session.pull(namespace)) == {"theirs", "new", "left", "right", "gone"}
    assert namespace == loaded
    assert not session.save(namespace).arrived


def test_what_both_changed_keeps_ours_and_theirs_on_a_branch(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1, "y": 1})
    change(path, "n['x'] = 'theirs'")
    with pytest.warns(chipmink.Arrived, match="branch"):
        merged = session.save({"x": "ours", "y": 1})
    assert session.load() == {"x": "ours", "y": 1}
    branch = merged.conflicts["x"]
    assert session.load(branch)["x"] == "theirs"


def test_both_made_the_same_change(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    change(path, "n['x'] = 2")
    merged = session.save({"x": 2})
    assert not merged.arrived
    assert not merged.conflicts


def test_saves_of_one_session_at_once(path: Path) -> None:
    """Each process has variables of its own; none of their saves is lost."""
    script = """
        import sys, warnings, chipmink
        warnings.simplefilter("ignore")
        session = chipmink.open(sys.argv[1]).session("a")
        namespace = {}
        for i in range(20):
            namespace[sys.argv[2]] = i
            session.save(namespace)
    """
    session = chipmink.open(path).session("a")
    session.save({"start": 0})
    names = ["p", "q", "r"]
    threads = [threading.Thread(target=run, args=(script, path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [checkpoint.number for checkpoint in session.log()]
    assert numbers == list(range(61, 0, -1))


# ---- how often it is asked

BEGIN, PUT, COMMIT = 5, 6, 7


def pump(source: socket.socket, sink: socket.socket, note: list[int]) -> None:
    """Pass packets on, with the memory that comes along, until one side has gone."""
    with source, sink, contextlib.suppress(OSError):
        while True:
            packet, passed, _, _ = socket.recv_fds(source, 70_000, 4)
            if not packet:
                return
            note.append(packet[0])
            socket.send_fds(sink, [packet], passed)
            for each in passed:
                os.close(each)


@contextlib.contextmanager
def listened_to(path: Path) -> Iterator[list[int]]:
    """Stand between new clients and the server; the operations that they ask for."""
    asked: list[int] = []
    served = path / "socket.server"
    (path / "socket").rename(served)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory = os.open(path, os.O_PATH)
    listening.bind(f"/proc/self/fd/{directory}/socket")
    listening.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                server.connect(f"/proc/self/fd/{directory}/socket.server")
                for ends in ((client, server.dup(), asked), (server, client.dup(), [])):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        served.rename(path / "socket")
        os.close(directory)


def test_how_often_a_save_asks(path: Path) -> None:
    """What the client knows it does not ask, and what can go together does."""
    chipmink.open(path).session("other").save({"x": 1})
    with listened_to(path) as asked, chipmink.open(path) as store:
        session = store.session("a")
        values: dict[str, object] = {f"v{i}": [i] for i in range(100)}
        session.save(values)
        asked.clear()
        session.save(values)
        assert asked == [BEGIN, COMMIT]
        asked.clear()
        values["v3"] = [-1]
        session.save(values)
        assert asked == [BEGIN, PUT, PUT, COMMIT]
        asked.clear()
        session.save(values, branch="side")  # a new one: the guess is right all the same
        assert asked == [BEGIN, COMMIT]
        chipmink.open(path).session("a").save({"v3": 5}, branch="side")  # beside it
        asked.clear()
        with pytest.warns(chipmink.Arrived):
            assert session.save(values, branch="side").arrived == ("v3",)
        assert asked[0] == BEGIN
        assert asked[-1] == COMMIT
    assert chipmink.open(path).verify().damage == ()


# ---- hostile and dying clients


def packets() -> Iterator[bytes]:
    chance = random.Random(4)
    yield b""
    yield b"\x01"
    yield b"\x01\x05" + bytes(32)  # hello without memory
    yield b"\x02\x05"  # find before hello
    yield b"\xff" * 60_000
    for _ in range(200):
        yield bytes([chance.randrange(15)]) + chance.randbytes(chance.randrange(60))


def dial(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(30)
    directory = os.open(path, os.O_PATH)
    try:
        made.connect(f"/proc/self/fd/{directory}/socket")
    finally:
        os.close(directory)
    return made


def test_nonsense_harms_nobody_else(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    server = server_of(path)
    for packet in packets():
        with dial(path) as client:
            client.send(packet)
            client.recv(70_000)
    assert session.save({"x": 2}).number == 2
    assert server_of(path) == server
    assert session.store.verify().damage == ()


@contextlib.contextmanager
def introduced(
    path: Path, version: int = 5, size: int = 4 << 20, sealed: bool = True
) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that has said hello with such an area, and the answer."""
    area = os.memfd_create("area", os.MFD_ALLOW_SEALING)
    os.truncate(area, size)
    if sealed:
        fcntl.fcntl(area, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with dial(path) as client:
        socket.send_fds(client, [bytes([1, version]) + bytes(32)], [area])
        os.close(area)
        yield client, client.recv(70_000)


def hello(path: Path, **area: Any) -> bytes:
    """Say hello as a client with such an area would; the answer."""
    with introduced(path, **area) as (_, answer):
        return answer


def test_what_a_client_must_be(path: Path) -> None:
    chipmink.open(path).session("a").save({"x": 1})
    assert hello(path)[0] == 0
    assert b"version" in hello(path, version=99)
    assert b"sealed" in hello(path, sealed=False)
    assert hello(path, size=1 << 20)[0] != 0


@pytest.mark.parametrize(
    "packet",
    [
        b"\x05\x11" + b"\x01h" * 17,  # more refs than may be read
        b"\x05\x02\x03h/a",  # fewer keys than it says
        b"\x07\x01\x01\x00",  # a commit of a content of no kind
        b"\x07\x01\xff\xff\x03\x00",  # of more than the area can hold
    ],
)
def test_requests_that_make_no_sense(path: Path, packet: bytes) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    with introduced(path) as (client, _):
        client.send(packet)
        assert client.recv(70_000)[0] != 0
        assert client.recv(70_000) == b""  # it has lost its connection
    assert session.save({"x": 2}).number == 2


def test_many_objects_in_one_round_trip(path: Path) -> None:
    id = bytes.fromhex(chipmink.open(path).session("a").save({"x": 1}).id)
    with introduced(path) as (client, _):
        client.send(b"\x03\x03" + id + bytes(32) + id)
        answer = client.recv(70_000)
    checkpoint = answer[2 : 2 + (len(answer) - 3) // 2]
    assert checkpoint[0] == 5
    assert answer == b"\x00\x03" + checkpoint + b"\x00" + checkpoint
    for bad in (b"\x00", b"\x03" + id + id, b"\x81\x08" + bytes(32) * 1025):
        with introduced(path) as (client, _):
            client.send(b"\x03" + bad)
            assert client.recv(70_000)[0] != 0
            assert client.recv(70_000) == b""  # it has lost its connection


def test_objects_larger_than_the_area(path: Path) -> None:
    """A pod that does not fit into the memory of a connection, between some that do."""
    chance = random.Random(5)
    values = {f"v{i}": [chance.randbytes(size)] for i, size in enumerate([10, 4000, 10])}
    values["v1"] = [chance.randbytes(4000) for _ in range(2000)]
    session = chipmink.open(path).session("a")
    session.save(values)
    assert session.load() == values


def test_a_client_that_dies_leaves_nothing(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    before = session.store.statistics()["objects"]
    script = """
        import os, random, signal, sys, threading, chipmink
        session = chipmink.open(sys.argv[1]).session("b")
        class Last:
            def __reduce__(self):
                import time
                time.sleep(0.5)  # let the workers put what came before
                os.kill(os.getpid(), signal.SIGKILL)
        session.save({"data": random.Random(2).randbytes(20_000_000), "last": Last()})
    """
    with pytest.raises(subprocess.CalledProcessError):
        run(script, path)
    deadline = time.monotonic() + 30
    while session.store.statistics()["objects"] != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session.store.statistics()["objects"] == before
    assert session.store.sessions() == ["a"]


def test_a_forked_child_must_open_its_own(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    child = os.fork()
    if child == 0:
        try:
            session.save({"x": 2})
        except chipmink.StoreError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert session.load() == {"x": 1}


# ---- a dying server


def test_a_killed_server_is_started_again(path: Path) -> None:
    session = chipmink.open(path).session("a")
    session.save({"x": 1})
    for number in range(2, 7):
        os.kill(server_of(path), signal.SIGKILL)
        assert session.load() == {"x": number - 1}
        os.kill(server_of(path), signal.SIGKILL)
        assert session.save({"x": number}).number == number
    assert session.store.verify().damage == ()


SAVER = """
    import random, sys, time, chipmink
    path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    session = chipmink.open(path).session(name)
    end, number = time.monotonic() + seconds, 0
    kept = list(range(2000))
    while time.monotonic() < end:
        number += 1
        data = random.Random(f"{name}{number}").randbytes(300_000)
        namespace = {"number": number, "data": data, "kept": kept}
        saved = session.save(namespace)
        assert saved.number == number, (saved.number, number)
        print(number, flush=True)
"""


def expect(name: str, number: int) -> dict[str, object]:
    data = random.Random(f"{name}{number}").randbytes(300_000)
    return {"number": number, "data": data, "kept": list(range(2000))}


@pytest.mark.parametrize("kills", [0, 50])
def test_four_processes_save_at_once(path: Path, kills: int) -> None:
    """Every acknowledged checkpoint is there and sound, also when the server is killed."""
    seconds = 60 if LONG else 12
    store = chipmink.open(path)
    store.session("first").save({"x": 1})
    names = ["p", "q", "r", "s"]
    savers = {
        name: subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVER), str(path), name, str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    chance = random.Random(5)
    for _ in range(kills):
        time.sleep(chance.uniform(0, 1.6 * seconds / kills))
        # It may be being started just now.
        with contextlib.suppress(ProcessLookupError, ValueError, IndexError):
            os.kill(server_of(path), signal.SIGKILL)
    for name, saver in savers.items():
        out, err = saver.communicate(timeout=600)
        assert saver.returncode == 0, err
        numbers = [int(line) for line in out.split()]
        assert numbers == list(range(1, len(numbers) + 1))
        session = store.session(name)
        assert [c.number for c in reversed(session.log())] == numbers
        for number in {1, numbers[-1], chance.choice(numbers)}:
            assert session.load(number) == expect(name, number)
    assert store.verify().damage == ()
