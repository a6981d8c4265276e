# SPDX-License-Identifier: Apache-2.0
"""Scripts and terminals: `attach`, `chipmink run`, IPython and Python at a prompt."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chipmink
import pytest
from api_support import Command

pexpect = pytest.importorskip("pexpect")

_PACKAGE = Path(chipmink.__file__).absolute().parents[1]


def environment(path: Path) -> dict[str, str]:
    return {**os.environ, "CHIPMINK_STORE": str(path), "PYTHONPATH": str(_PACKAGE), "TERM": "dumb"}


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(code: str) -> Path:
        file = tmp_path / "job.py"
        file.write_text(textwrap.dedent(code))
        return file

    return write


def run(path: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, words)],
        capture_output=True,
        text=True,
        env=environment(path),
        timeout=60,
        check=False,
        **options,
    )


def test_a_script_that_attaches(path: Path, script: Callable[[str], Path]) -> None:
    file = script(
        """
        import chipmink
        chipmink.attach()
        x = [1, 2]
        print("out", x)
        """
    )
    done = run(path, sys.executable, file)
    assert (done.returncode, done.stdout) == (0, "out [1, 2]\n")
    assert done.stderr == f"chipmink: job: new, in {path}\n"
    session = chipmink.open(path).session("job")
    assert session.load()["x"] == [1, 2]
    assert [(c.message, c.code) for c in session.log()] == [("at its end", file.read_text())]


def test_every_few_seconds(path: Path, script: Callable[[str], Path]) -> None:
    file = script(
        """
        import chipmink, time
        nb = chipmink.attach("loop", every=0.1)
        for i in range(4):
            time.sleep(0.3)
        del nb
        """
    )
    assert run(path, sys.executable, file).returncode == 0
    log = chipmink.open(path).session("loop").log()
    seen = [c.load(["i"])["i"] for c in reversed(log) if "i" in c.variables]
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
    assert seen[-1] == 3


def test_an_exception(path: Path, script: Callable[[str], Path]) -> None:
    file = script(
        """
        import chipmink
        chipmink.attach("job", every=0)
        def half(n):
            return n // 0
        before = 1
        half(2)
        """
    )
    done = run(path, sys.executable, file)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    (only,) = chipmink.open(path).session("job").log()
    assert only.message == "an exception ended it"
    assert only.cell is not None
    assert str(only.cell.error).startswith("ZeroDivisionError: ")
    assert only.load()["before"] == 1


def test_a_forked_process_is_not_attached(path: Path, script: Callable[[str], Path]) -> None:
    file = script(
        """
        import chipmink, os, sys
        chipmink.attach("job", every=0)
        x = "parent"
        if os.fork() == 0:
            x = "child"
            sys.exit()
        os.wait()
        """
    )
    assert run(path, sys.executable, file).returncode == 0
    log = chipmink.open(path).session("job").log()
    assert [c.load(["x"])["x"] for c in log] == ["parent"]


def test_run(path: Path, script: Callable[[str], Path], command: Command) -> None:
    (path.parent / "helper.py").write_text("def twice(n): return 2 * n\n")
    file = script(
        """
        import sys
        from helper import twice
        class Row:
            pass
        row = Row()
        row.n = twice(int(sys.argv[1]))
        assert __name__ == "__main__"
        print(row.n, sys.argv[1:])
        """
    )
    python = Path(sys.executable).parent
    path_first = {**environment(path), "PATH": f"{python}:{os.environ['PATH']}"}
    words = [command.program, "run", "--name", "mine", file, "21", "--every", "x"]
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, env=path_first, cwd="/", check=False
    )
    assert (done.returncode, done.stdout) == (0, "42 ['21', '--every', 'x']\n"), done.stderr
    variables = chipmink.open(path).session("mine").load(names=["row", "Row"])
    assert variables["row"].n == 42
    assert "chipmink" not in chipmink.open(path).session("mine").checkpoint().variables


def test_run_fails_as_the_script_does(path: Path, script: Callable[[str], Path]) -> None:
    python = [sys.executable, "-m", "chipmink", "run"]
    file = script("x = 1\nraise KeyError('k')\n")
    done = run(path, *python, file)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "_run.py" not in done.stderr
    assert "KeyError: 'k'" in done.stderr
    assert chipmink.open(path).session("job").load()["x"] == 1
    assert run(path, *python, script("import sys; x = 2; sys.exit(7)")).returncode == 7
    assert chipmink.open(path).session("job").load()["x"] == 2
    done = run(path, *python, path.parent / "missing.py")
    assert (done.returncode, "No such file" in done.stderr) == (1, True)
    assert run(path, *python).returncode == 2


# ---- terminals


class Terminal:
    """A program at a prompt."""

    def __init__(self, path: Path, prompt: str, *words: str) -> None:
        self.prompt = prompt
        self.child = pexpect.spawn(
            words[0], [*words[1:]], env=environment(path), encoding="utf-8", timeout=60, echo=False
        )
        self.child.expect(prompt)

    def run(self, line: str) -> str:
        self.child.sendline(line)
        self.child.expect(self.prompt)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.child.before)


@pytest.fixture
def terminal(path: Path) -> Iterator[Callable[..., Terminal]]:
    started = []

    def start(prompt: str, *words: str) -> Terminal:
        started.append(Terminal(path, prompt, *words))
        return started[-1]

    yield start
    for one in started:
        one.child.close(force=True)


def test_the_ipython_terminal(path: Path, terminal: Callable[..., Terminal]) -> None:
    pytest.importorskip("IPython")
    ipython = terminal(
        r"In \[\d+\]: ",
        sys.executable,
        "-m",
        "IPython",
        "--simple-prompt",
        "--no-banner",
        "--colors=NoColor",
    )
    ipython.run("%load_ext chipmink")
    assert "chipmink: tty: new, in" in ipython.run("%chipmink attach tty")
    ipython.run("x = [1]")
    ipython.run("x.append(2)")
    assert "x.append(2)" in ipython.run("%chipmink log")
    assert "replaced x" in ipython.run("%chipmink undo")
    assert "[1]" in ipython.run("x")
    assert "there is no" not in ipython.run("%chipmink status")
    assert chipmink.open(path).session("tty").load(1) == {"x": [1]}


def test_the_python_terminal(path: Path, terminal: Callable[..., Terminal]) -> None:
    python = terminal(">>> ", sys.executable, "-q", "-i", "-c", "import readline")
    told = python.run("import chipmink; nb = chipmink.attach('repl')")
    assert "chipmink: repl: new, in" in told
    python.run("x = [1]")
    python.run("x.append(2)")
    python.run("gone = (i for i in x)")
    assert "x.append(2)" in python.run("nb.log()")
    assert "replaced x" in python.run("nb.undo()")
    assert "[1]" in python.run("x")
    codes = [c.code for c in reversed(chipmink.open(path).session("repl").log())]
    assert codes[:4] == [None, "x = [1]", "x.append(2)", "gone = (i for i in x)"]
    python.run("nb.detach()")
    assert "1" in python.run("x[0]")
