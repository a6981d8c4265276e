# SPDX-License-Identifier: Apache-2.0
"""The `chipmink` command."""

from __future__ import annotations

import os
import pickle
import pty
import random
import re
import signal
import subprocess
from pathlib import Path

import chipmink
import pytest
from api_support import Command
from chipmink._store import Job

COMMANDS = [
    "sessions",
    "log",
    "show",
    "ls",
    "cat",
    "diff",
    "stat",
    "verify",
    "prune",
    "gc",
    "mount",
    "umount",
]


@pytest.fixture
def history(store: chipmink.Store) -> list[chipmink.Checkpoint]:
    """Three checkpoints and their refs, still open for writing: the command reads beside it."""
    session = store.session("analysis")
    shared = [1, 2, 3]
    history = [
        session.save({"x": shared, "y": {"a": shared}}, message="first", code="x = [1, 2, 3]\n"),
        session.save({"x": shared, "y": {"a": shared}, "bad": (i for i in ())}),
        session.save({"y": "now a str", "größe": 1.5}, message="third"),
    ]
    session.tag("v1", at=1)
    session.branch("trial", at=2)
    return history


def lines(text: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in text.splitlines()]


# ---- help, usage, exit codes


def test_help_names_every_command(command: Command) -> None:
    text = command.text("--help")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w", text, re.MULTILINE)
    assert "Exit codes" in text
    assert command.text("--version").split() == ["chipmink", chipmink.__version__]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(command: Command, name: str) -> None:
    text = command.text(name, "--help")
    assert name in text.splitlines()[0]
    assert "--store" in text or name == "umount"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["--nope"],
        ["log"],
        ["log", "a", "b"],
        ["log", "-n", "x", "a"],
        ["log", "-n", "-1", "a"],
        ["show"],
        ["ls"],
        ["cat"],
        ["cat", "a", "b", "c"],
        ["cat", "--code", "a", "b"],
        ["cat", "--json", "a"],
        ["diff"],
        ["diff", "a", "b", "c"],
        ["sessions", "a"],
        ["verify", "a"],
        ["stat", "--nope"],
        ["mount"],
        ["umount"],
    ],
    ids=" ".join,
)
def test_wrong_arguments(command: Command, arguments: list[str]) -> None:
    done = command.run(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["log", "nope"], "nope"),
        (["show", "analysis@99"], "99"),
        (["ls", "analysis@nope"], "nope"),
        (["cat", "analysis", "nope"], "nope"),
        (["cat", "--code", "analysis@2"], "without code"),
        (["diff", "analysis@1", "nope"], "nope"),
        (["stat", "analysis", "nope"], "nope"),
        (["sessions", "--store", "/nonexistent/store"], "/nonexistent/store"),
    ],
)
def test_failures_are_one_line(
    command: Command, history: list[chipmink.Checkpoint], arguments: list[str], sentence: str
) -> None:
    done = command.run(*arguments)
    assert done.returncode == 1
    assert done.stdout == b""
    message = done.stderr.decode()
    assert message.startswith("chipmink: ")
    assert sentence in message
    assert message.count("\n") == 1


def test_a_newer_store_is_refused(command: Command, path: Path) -> None:
    with chipmink.open(path) as store:
        store.session("a").save({})
    marker = path / "CHIPMINK"
    marker.write_text(marker.read_text().replace("1", "9"))
    for name in ("sessions", "verify", "stat"):
        done = command.run(name)
        assert done.returncode == 1
        assert b"newer" in done.stderr


# ---- looking


def test_sessions(command: Command, history: list[chipmink.Checkpoint]) -> None:
    head, row = lines(command.text("sessions"))
    assert head[:2] == ["SESSION", "CHECKPOINTS"]
    assert row[:3] == ["analysis", "3", "3"]
    (found,) = command.json("sessions")["sessions"]
    assert found["name"] == "analysis"
    assert found["checkpoints"] == found["head"] == 3
    assert found["branches"]["trial"] == 2
    assert found["tags"] == {"v1": 1}
    assert found["branches"][found["branch"]] == 3


def test_store_option(command: Command, history: list[chipmink.Checkpoint], path: Path) -> None:
    command.store = Path("/nonexistent")
    for arguments in (["--store", path, "sessions"], ["sessions", f"--store={path}"]):
        assert "analysis" in command.text(*arguments)


def test_log(command: Command, history: list[chipmink.Checkpoint]) -> None:
    rows = lines(command.text("log", "analysis"))[1:]
    assert [row[0] for row in rows] == ["3", "2", "1"]
    assert rows[0][-1] == "third"
    assert "head," in rows[0]
    assert "trial" in rows[1]
    assert rows[2][-2:] == ["v1", "first"]
    assert [row[0] for row in lines(command.text("log", "-n", 2, "analysis"))[1:]] == ["3", "2"]
    assert [row[0] for row in lines(command.text("log", "analysis@trial"))[1:]] == ["2", "1"]
    found = command.json("log", "analysis")
    assert found["session"] == "analysis"
    assert [c["number"] for c in found["checkpoints"]] == [3, 2, 1]
    assert [c["id"] for c in found["checkpoints"]] == [c.id for c in history[::-1]]
    assert found["checkpoints"][0]["parents"] == [{"number": 2, "id": history[1].id}]
    stats = found["checkpoints"][2]["stats"]
    assert stats["bytes_written"] == history[0].stats.bytes_written


def test_log_lists_all_branches(command: Command, store: chipmink.Store) -> None:
    session = store.session("s")
    for i in range(3):
        session.save({"x": i})
    session.branch("old", at=1)
    session.checkout("old")
    assert [row[0] for row in lines(command.text("log", "s"))[1:]] == ["3", "2", "1"]
    session.save({"x": 3})
    assert [row[0] for row in lines(command.text("log", "s@old"))[1:]] == ["4", "1"]


def test_show(command: Command, history: list[chipmink.Checkpoint]) -> None:
    text = command.text("show", "analysis@v1")
    assert text.startswith("checkpoint analysis@1\n")
    assert history[0].id in text
    assert "    x = [1, 2, 3]\n" in text
    assert re.search(r"^\* +x +list", text, re.MULTILINE)
    assert "generator" in command.text("show", "analysis@2")
    found = command.json("show", "analysis@2")
    assert list(found["unsaved"]) == ["bad"]
    assert [variable["name"] for variable in found["variables"]] == ["x", "y"]
    assert found["code"] is None
    assert command.json("show", f"analysis@{history[0].id[:10]}")["code"] == "x = [1, 2, 3]\n"


def test_show_of_a_cell(command: Command, session: chipmink.Session) -> None:
    error = "ZeroDivisionError: division by zero"
    session._save(Job([("x", 1)], code="1 / 0", cell=chipmink.Cell(7, 1.25, error)))
    session._save(Job([("x", 2)], cell=chipmink.Cell(0, 0.5, None)))
    text = command.text("show", "analysis@1")
    assert re.search(r"^cell +\[7\] ran 1\.250 s and failed$", text, re.MULTILINE)
    assert re.search(rf"^error +{error}$", text, re.MULTILINE)
    found = command.json("show", "analysis@1")["cell"]
    assert found == {"execution": 7, "seconds": 1.25, "error": error}
    assert re.search(r"^cell +ran 0\.500 s$", command.text("show", "analysis"), re.MULTILINE)
    assert session.checkpoint(1).cell == (7, 1.25, error)
    session.save({"x": 3})
    assert command.json("show", "analysis")["cell"] is None


def test_ls(command: Command, history: list[chipmink.Checkpoint]) -> None:
    rows = lines(command.text("ls", "analysis@1"))
    assert rows[0][:3] == ["VARIABLE", "TYPE", "SIZE"]
    assert [row[:2] for row in rows[1:]] == [["x", "list"], ["y", "dict"]]
    assert command.text("ls", "-1", "analysis") == "größe\ny\n"
    found = command.json("ls", "analysis")["variables"]
    expected = history[2].variables
    assert {v["name"]: (v["type"], v["size"], v["summary"], v["changed"]) for v in found} == {
        v.name: (v.type, v.size, v.summary, v.changed) for v in expected.values()
    }


def test_diff(command: Command, history: list[chipmink.Checkpoint]) -> None:
    expected = [["added", "größe"], ["removed", "x"], ["changed", "y"]]
    for arguments in (["analysis@1", "analysis@3"], ["analysis@3"]):
        rows = lines(command.text("diff", *arguments))[1:]
        assert [row[:2] for row in rows] == expected
        found = command.json("diff", *arguments)
        assert [v["name"] for v in found["added"]] == ["größe"]
        assert [v["name"] for v in found["removed"]] == ["x"]
        (changed,) = found["changed"]
        assert (changed["before"]["type"], changed["after"]["type"]) == ("dict", "str")
    assert [v["name"] for v in command.json("diff", "analysis@1")["added"]] == ["x", "y"]
    assert command.json("diff", "analysis@2")["changed"] == []


def test_stat(command: Command, history: list[chipmink.Checkpoint], store: chipmink.Store) -> None:
    found = command.json("stat")
    expected = store.statistics()
    assert {k: found[k] for k in ("sessions", "checkpoints", "objects", "raw_bytes")} == {
        k: expected[k] for k in ("sessions", "checkpoints", "objects", "raw_bytes")
    }
    assert "3" in dict(row[:2] for row in lines(command.text("stat")))["checkpoints"]
    objects = command.json("stat", "analysis")["objects"]
    assert objects["checkpoint"]["count"] == 1
    assert objects["pod"]["count"] == history[2].stats.pods
    assert "now a str" in command.text("stat", "analysis", "y")
    both = command.json("stat", "analysis", "y", "größe")
    assert [v["name"] for v in both] == ["y", "größe"]


# ---- cat


def test_cat(command: Command, history: list[chipmink.Checkpoint]) -> None:
    done = command.run("cat", "analysis@1", "x")
    assert done.returncode == 0
    assert pickle.loads(done.stdout) == [1, 2, 3]
    assert len(done.stdout) == history[0].variables["x"].size
    whole = pickle.loads(command.run("cat", "analysis@1").stdout)
    assert whole["x"] is whole["y"]["a"]
    assert command.text("cat", "--code", "analysis@1") == "x = [1, 2, 3]\n"


def test_cat_of_much(command: Command, store: chipmink.Store) -> None:
    data = random.Random(1).randbytes(30_000_000)
    store.session("big").save({"data": data})
    assert pickle.loads(command.run("cat", "big", "data").stdout) == data


def test_output_that_cannot_be_written(
    command: Command, history: list[chipmink.Checkpoint], store: chipmink.Store
) -> None:
    store.session("big").save({"data": bytes(30_000_000)})
    for arguments in (["cat", "big", "data"], ["log", "analysis"], ["show", "analysis", "--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [command.program, *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                env={**os.environ, "CHIPMINK_STORE": str(command.store)},
                check=False,
            )
        assert done.returncode == 1
        assert b"No space left" in done.stderr


def test_a_reader_that_leaves(command: Command, store: chipmink.Store) -> None:
    store.session("big").save({"data": bytes(30_000_000)})
    process = subprocess.Popen(
        [command.program, "cat", "big", "data"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "CHIPMINK_STORE": str(command.store)},
        restore_signals=False,  # SIGPIPE ignored, as Python starts its children
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == -signal.SIGPIPE
    assert process.stderr.read() == b""
    process.stderr.close()


# ---- terminals


def on_terminal(command: Command, *arguments: object, **environment: str) -> tuple[int, bytes]:
    """Exit code and output of a run whose stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [command.program, *map(str, arguments)],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "CHIPMINK_STORE": str(command.store), **environment},
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        output += piece
    os.close(ours)
    return process.wait(60), output


def test_colours_are_for_terminals(command: Command, history: list[chipmink.Checkpoint]) -> None:
    assert b"\033[" in on_terminal(command, "log", "analysis", NO_COLOR="")[1]
    assert b"\033[" not in on_terminal(command, "log", "analysis", NO_COLOR="1")[1]
    assert "\033[" not in command.text("log", "analysis")


def test_no_pickle_on_a_terminal(command: Command, history: list[chipmink.Checkpoint]) -> None:
    code, output = on_terminal(command, "cat", "analysis", "y")
    assert code == 2
    assert b"binary" in output
    assert b"now a str" in on_terminal(command, "cat", "--force", "analysis", "y")[1]


def test_stored_text_does_not_control_the_terminal(command: Command, store: chipmink.Store) -> None:
    evil = "\033]0;title\a\r\033[2J"
    store.session("s").save({evil: 1, "x": (i for i in ())}, message=evil, code=f"a{evil}\nb")
    for arguments in (["log", "s"], ["show", "s"], ["ls", "s"], ["diff", "s"], ["stat", "s", evil]):
        code, output = on_terminal(command, *arguments, NO_COLOR="1")
        assert code == 0
        assert b"\\x1b]0;title" in output
        assert b"\033" not in output
        assert b"\a" not in output
    assert command.json("log", "s")["checkpoints"][0]["message"] == evil


# ---- verify


def test_verify(command: Command, history: list[chipmink.Checkpoint]) -> None:
    assert command.text("verify").endswith("all good\n")
    found = command.json("verify")
    assert (found["sessions"], found["checkpoints"], found["damaged"]) == (1, 3, 0)
    assert found["damage"] == []


def test_verify_finds_damage(command: Command, path: Path) -> None:
    secret = random.Random(1).randbytes(9_000_000)
    with chipmink.open(path) as store:
        store.session("s").save({"good": [1], "bad": secret})
    needle = secret[20_000:20_064]
    (file,) = (f for f in (path / "db").iterdir() if needle in f.read_bytes())
    data = bytearray(file.read_bytes())
    data[data.find(needle) + 5] ^= 1
    file.write_bytes(data)

    done = command.run("verify")
    assert done.returncode == 3
    report = done.stdout.decode().splitlines()
    assert report[0].startswith("damaged: s@1 bad: ")
    assert not any("good:" in line for line in report)
    assert report[-1].endswith(" damaged")
    done = command.run("verify", "--json")
    assert done.returncode == 3
    assert b'"where":\t"s@1 bad"' in done.stdout
    done = command.run("cat", "s", "bad")
    assert done.returncode == 1
    assert b"bad" in done.stderr
    assert command.run("cat", "s", "good").returncode == 0
    code, output = on_terminal(command, "verify", NO_COLOR="1")
    assert code == 3
    assert b"damaged: s@1 bad" in output
