# SPDX-License-Identifier: Apache-2.0
"""Looking after a store: removing checkpoints and collections, beside saves of all processes."""

from __future__ import annotations

import json
import os
import random
import signal
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
from api_support import Command, find_command

COMMAND = find_command()
LONG = "CHIPMINK_LONG" in os.environ


def noise(seed: int, size: int = 100_000) -> bytes:
    return random.Random(seed).randbytes(size)


def failing(seed: int) -> list[Any]:
    """A value of which much is in the store before it turns out that it cannot be saved."""
    return [[noise(seed)], (i for i in ())]


@pytest.fixture(params=["embedded", "served"])
def opened(
    request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[chipmink.Store]:
    """A store of either kind."""
    if request.param == "served":
        if COMMAND is None:
            pytest.skip("the chipmink command is not built")
        monkeypatch.setenv("CHIPMINK_EMBEDDED", "0")
        monkeypatch.setenv("CHIPMINK_COMMAND", str(COMMAND))
    with chipmink.open(path) as store:
        yield store
    if request.param == "served" and path.exists():
        subprocess.run([str(COMMAND), "stop", "--store", str(path)], check=True)


@pytest.fixture
def served(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Stores go through a server, and none is left behind."""
    if COMMAND is None:
        pytest.skip("the chipmink command is not built")
    monkeypatch.setenv("CHIPMINK_EMBEDDED", "0")
    monkeypatch.setenv("CHIPMINK_COMMAND", str(COMMAND))
    yield Command(COMMAND, path)
    if path.exists():
        subprocess.run([str(COMMAND), "stop", "--store", str(path)], check=True)


# ---- collections


def test_what_was_not_saved_in_the_end_goes(opened: chipmink.Store) -> None:
    session = opened.session("a")
    first = session.save({"x": 1, "bad": failing(1), "y": [noise(2)]})
    assert set(first.unsaved) == {"bad"}
    planned = opened.gc(dry_run=True)
    assert 100_000 < planned.removed_bytes < 110_000
    assert planned.disk_after >= planned.disk_before - 10_000
    assert opened.statistics()["objects"] == planned.kept + planned.removed
    done = opened.gc()
    assert done[:4] == planned[:4]
    assert done.disk_after < done.disk_before - 90_000
    assert opened.gc().removed == 0
    assert opened.verify().damage == ()
    assert session.load() == {"x": 1, "y": [noise(2)]}
    session.save({"x": 1, "bad": [[noise(1)]], "y": [noise(2)]})  # writes again what was removed
    assert session.load(names=["bad"]) == {"bad": [[noise(1)]]}
    assert opened.verify().damage == ()


def test_a_store_that_is_not_there(opened: chipmink.Store) -> None:
    with pytest.raises(chipmink.StoreNotFound):
        opened.gc()
    assert not Path(opened.path).exists()


def test_a_save_that_is_overtaken_is_repeated(opened: chipmink.Store) -> None:
    """An object that removes what was saved just before it."""
    session = opened.session("a")
    session.save({"bad": failing(1)})
    collections = []

    class Collects:
        def __reduce__(self) -> Any:
            if len(collections) < 2:
                collections.append(opened.gc())
            return list, ()

    saved = session.save({"a": [noise(1)], "b": Collects()})  # finds it in the store
    assert collections[0].removed > 0
    assert saved.number == 2
    assert session.load()["a"] == [noise(1)]
    assert opened.verify().damage == ()


def test_damaged_bytes_are_left_as_they_are(path: Path) -> None:
    """Chunks are not read: that one is not whole does not matter, and the store stays usable."""
    with chipmink.open(path, embedded=True) as store:
        store.session("a").save({"y": [noise(2)], "bad": failing(1)})
    table = max((path / "db").glob("*.sst"), key=lambda table: table.stat().st_size)
    table.write_bytes(table.read_bytes().replace(noise(2)[:50_000], bytes(50_000)))
    with chipmink.open(path, embedded=True) as store:
        before = store.statistics()["objects"]
        assert store.verify().damage != ()
        store.gc()
        assert store.statistics()["objects"] < before
        store.session("a").save({"z": 1})
        store.session("a").save({"z": 2})
        assert store.session("a").load() == {"z": 2}
        assert store.verify().damage != ()


def test_ctrl_c_ends_a_collection(opened: chipmink.Store) -> None:
    session = opened.session("a")
    session.save({str(i): [[noise(i * 1000 + k, 10)] for k in range(50)] for i in range(100)})
    session.save({"bad": failing(1)})
    before = opened.statistics()["objects"]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        while True:  # as often as the machine is too fast
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            try:
                opened.gc(dry_run=True)
            except KeyboardInterrupt:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert opened.statistics()["objects"] == before
    assert opened.gc().removed > 0
    assert opened.verify().damage == ()


# ---- removing checkpoints


def test_rules(opened: chipmink.Store) -> None:
    session = opened.session("a")
    for i in range(8):
        session.save({"x": i})
    session.tag("third", 3)
    session.checkout(5)
    session.save({"x": 50})
    planned = session.prune(last=2, tagged=True, dry_run=True)
    assert planned == ((1, 2, 4, 5, 6, 7), (3, 8, 9))
    assert len(session.log()) == 9
    assert session.prune(last=2, tagged=True) == planned
    assert [checkpoint.number for checkpoint in session.log()] == [9, 8, 3]
    assert session.prune(last=1) == ((3,), (8, 9))  # 8 is the tip of a branch
    assert session.tags == {}
    assert session.prune(hourly=5, daily=5, weekly=5).removed == ()
    opened.gc()
    assert [session.load(at)["x"] for at in ("main", 9)] == [7, 50]
    with pytest.raises(chipmink.NotFound, match="no checkpoint 3"):
        session.load(3)
    assert session.save({"x": 51}).number == 10
    assert opened.verify().damage == ()


def test_rules_that_make_no_sense(opened: chipmink.Store) -> None:
    session = opened.session("a")
    with pytest.raises(chipmink.StoreNotFound):
        session.prune(last=1)
    session.save({"x": 1})
    with pytest.raises(ValueError, match="nothing says"):
        session.prune()
    with pytest.raises(ValueError, match="not negative"):
        session.prune(last=-1)
    with pytest.raises(chipmink.NotFound):
        opened.session("b").prune(last=1)


def test_space_is_given_back(opened: chipmink.Store) -> None:
    session = opened.session("a")
    for i in range(20):
        session.save({"x": noise(i, 500_000)})
    session.prune(last=2)
    done = opened.gc()
    assert done.removed_bytes > 9_000_000
    assert done.disk_before > 10_000_000
    assert done.disk_after < 1_300_000
    assert session.load() == {"x": noise(19, 500_000)}


def test_this_process_goes_on(opened: chipmink.Store) -> None:
    """What it remembers of earlier saves is not taken for what is in the store."""
    session = opened.session("a")
    old = {f"v{i}": [[i, noise(i, 5000)], {"k": [str(i)] * 100}] for i in range(20)}
    session.save(old)
    for _ in range(3):
        session.save({"n": 1})
        session.prune(last=1)
        removed = opened.gc()
        assert removed.removed > 20
        again = session.save(old)  # the same objects: a shadow may know them
        session.save({**old, "n": 2})
        assert again.load() == old
        assert opened.verify().damage == ()


def test_the_same_namespace_while_its_checkpoints_go(opened: chipmink.Store) -> None:
    session = opened.session("a")
    namespace: dict[str, Any] = {f"v{i}": [[i, noise(i, 5000)]] for i in range(20)}
    for i in range(12):
        namespace[f"v{i}"][0].append(i)
        session.save(namespace)
        session.prune(last=1)
        opened.gc()
        assert session.load() == namespace
    assert opened.verify().damage == ()
    assert opened.statistics()["checkpoints"] == 1


def test_a_checkpoint_that_was_removed(opened: chipmink.Store) -> None:
    session = opened.session("a")
    first = session.save({"x": [noise(1)], "y": [noise(2)]})
    session.save({"x": 1})
    session.prune(last=1)
    assert first.load() == {"x": [noise(1)], "y": [noise(2)]}  # nobody has collected yet
    opened.gc()
    for names in (None, ["x"]):
        with pytest.raises(chipmink.NotFound, match=r"a@1 was removed"):
            first.load(names)


def test_a_branch_from_what_is_being_removed(opened: chipmink.Store) -> None:
    """Tags and prunings at the same time: a tag's checkpoint is there."""
    session = opened.session("a")
    for i in range(30):
        session.save({"x": i})
    other = chipmink.open(opened.path) if not opened.embedded else opened
    tagged = []

    def tag() -> None:
        for number in range(1, 30):
            try:
                other.session("a").tag(f"t{number}", number)
                tagged.append(number)
            except chipmink.NotFound:
                break

    tagger = threading.Thread(target=tag)
    tagger.start()
    for last in range(25, 0, -3):
        session.prune(last=last, tagged=True)
    tagger.join()
    opened.gc()
    for number in tagged:
        assert session.load(f"t{number}") == {"x": number - 1}
    assert opened.verify().damage == ()


# ---- the command


def test_the_command(served: Command, path: Path) -> None:
    with chipmink.open(path) as store:
        store.session("a").save({"x": 1, "bad": failing(1)})
        planned = served.json("gc", "--dry-run")
        assert 100_000 < planned["removed_bytes"] < 110_000
        assert "would remove" in served.text("gc", "-n")
        text = served.text("gc")
        assert text.startswith(f"removed {planned['removed']} objects, 10")
        assert f"; {planned['kept']} stay, " in text
        assert served.json("gc")["removed"] == 0
        assert store.verify().damage == ()


def test_the_command_prunes(served: Command, path: Path) -> None:
    with chipmink.open(path) as store:
        for name in ("a", "b"):
            for i in range(4):
                store.session(name).save({"x": i}, message=f"{name}{i}")
        store.session("a").tag("v1", 1)
        planned = served.json("prune", "--keep-last", 2)
        assert planned["dry_run"] is True
        assert (planned["removed"], planned["kept"]) == (4, 4)
        gone = [(c["session"], c["number"]) for c in planned["checkpoints"] if not c["kept_for"]]
        assert gone == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
        assert planned["checkpoints"][3]["kept_for"] == ["head", "branch", "last"]
        text = served.text("prune", "a", "--keep-last", 2, "--keep-tagged")
        assert [line.split()[:2] for line in text.splitlines()[1:-1]] == [["a", "2"]]
        assert text.splitlines()[-1] == "would remove 1 checkpoint, 3 kept; --yes does it"
        assert len(store.session("a").log()) == 4
        text = served.text("prune", "a", "--keep-last", 2, "--keep-tagged", "--yes")
        assert text.splitlines()[-1].startswith("removed 1 checkpoint, 3 kept; chipmink gc")
        assert served.json("prune", "--keep-weekly", 1, "--yes")["removed"] == 5
        assert [c["number"] for c in served.json("log", "a")["checkpoints"]] == [4]
        assert served.json("sessions")["sessions"][0]["checkpoints"] == 1
        assert "a0" not in served.text("log", "a@4")
        assert served.json("gc")["removed"] > 0
        assert store.verify().damage == ()


def test_what_things_cost(served: Command, path: Path) -> None:
    with chipmink.open(path) as store:
        a, b = store.session("a"), store.session("b")
        a.save({"both": noise(1, 300_000), "own": noise(2, 200_000)})
        a.save({"both": noise(1, 300_000), "own": noise(3, 200_000)})
        b.save({"both": noise(1, 300_000)})
        sessions = {cost["session"]: cost for cost in served.json("stat", "--costs")}
        assert 1_000_000 < sessions["a"]["logical"] < 1_010_000
        assert 700_000 < sessions["a"]["stored"] < 710_000
        assert 400_000 < sessions["a"]["unique"] < 410_000
        assert sessions["b"]["unique"] < 1000
        for cost in sessions.values():
            assert cost["shared"] == cost["stored"] - cost["unique"]
        assert sessions["a"]["shared"] == sessions["b"]["shared"]
        checkpoints = served.json("stat", "--costs", "a")
        assert [cost["number"] for cost in checkpoints] == [1, 2]
        assert all(200_000 < cost["unique"] < 210_000 for cost in checkpoints)
        variables = {cost["variable"]: cost for cost in served.json("stat", "--costs", "a@1")}
        assert 200_000 < variables["own"]["unique"] < 201_000
        assert variables["both"]["unique"] == 0
        assert 300_000 < variables["both"]["stored"] < 301_000
        assert "UNIQUE" in served.text("stat", "-c", "a@1").splitlines()[0]
        before = checkpoints[0]["unique"]
        a.prune(last=1)
        freed = store.gc().removed_bytes
        assert before - 1000 <= freed <= before + 1000
    assert served.run("stat", "--costs", "nope").returncode == 1
    assert served.run("stat", "--costs", "a@1", "x").returncode == 2


@pytest.mark.parametrize("rules", [[], ["--keep-last", "x"], ["--keep-daily", "-1"], ["--yes"]])
def test_rules_the_command_refuses(served: Command, rules: list[str]) -> None:
    done = served.run("prune", *rules)
    assert done.returncode == 2
    assert done.stdout == b""


def test_history_over_gaps(served: Command, path: Path) -> None:
    with chipmink.open(path) as store:
        session = store.session("a")
        for i in range(9):
            session.save({"x": i, **({"y": i} if i > 4 else {})})
        session.tag("fifth", 5)
        session.prune(last=2, tagged=True)
        store.gc()
        for address in ("a", "a@9"):
            numbers = [c["number"] for c in served.json("log", address)["checkpoints"]]
            assert numbers == [9, 8, 5]
        differs = served.json("diff", "a@8")
        assert differs["before"]["number"] == 5
        assert [v["name"] for v in differs["added"]] == ["y"]
        session.prune(last=1)
        store.gc()
        assert served.json("diff", "a@9")["before"] is None
        assert served.run("show", "a@8").returncode == 1


def test_the_command_without_a_store(served: Command) -> None:
    done = served.run("gc")
    assert done.returncode == 1
    assert b"no store" in done.stderr
    assert served.run("prune", "--keep-last", 1, "--yes").returncode == 1
    assert not served.store.exists()


# ---- beside saves


SAVER = """
    import random, sys, time, chipmink
    path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    session = chipmink.open(path).session(name)
    chance = random.Random(name)
    pool = [random.Random(i).randbytes(20_000) for i in range(30)]
    lists = [[k] * 300 for k in range(200)]
    deadline, saved = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        held = chance.sample(pool, 5)
        lists[chance.randrange(200)][0] += 1
        bad = [[chance.choice(pool)], (i for i in ())]
        checkpoint = session.save({"held": held, "lists": lists, "n": saved, "bad": bad})
        saved += 1
        again = session.load(names=["held", "n"])
        assert again == {"held": held, "n": saved - 1}, checkpoint
    print(saved)
"""


def test_collections_beside_saves_and_kills(served: Command, path: Path) -> None:
    """Whatever is removed, and whenever the server dies, nothing that was saved is lost."""
    seconds = 60 if LONG else 6
    chipmink.open(path).session("first").save({"x": 1})
    savers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVER), str(path), name, str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    ending = threading.Event()

    def kill() -> None:
        chance = random.Random(5)
        while not ending.wait(0.5 + chance.random()):
            try:
                os.kill(int((path / "writer.lock").read_text().split()[1]), signal.SIGKILL)
            except (ProcessLookupError, OSError, IndexError):
                time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    removed = collections = 0
    try:
        while any(saver.poll() is None for saver in savers):
            served.run("prune", "--keep-last", 3, "--yes")
            done = served.run("gc", "--json")
            if done.returncode == 0:
                collections += 1
                removed += json.loads(done.stdout)["removed"]
            else:
                assert b"server" in done.stderr, done.stderr
    finally:
        ending.set()
        killer.join()
    assert [saver.wait() for saver in savers] == [0, 0]
    assert collections > 0
    assert removed > 0
    with chipmink.open(path) as store:
        for saver, name in zip(savers, ("one", "two"), strict=True):
            assert saver.stdout is not None
            saved = int(saver.stdout.read())
            newest = store.session(name).log()[0]
            assert newest.number >= saved
            assert newest.load(["n"]) == {"n": saved - 1}
        assert store.verify().damage == ()
        store.gc()
        assert store.verify().damage == ()
        assert store.session("one").load()["lists"][199][1:] == [199] * 299
