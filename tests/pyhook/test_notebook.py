# SPDX-License-Identifier: Apache-2.0
"""Notebooks: real kernels, saved after every cell."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chipmink
import numpy as np
import pytest
from api_support import find_command

pytest.importorskip("ipykernel")
from kernels import Kernel

LONG = bool(os.environ.get("CHIPMINK_LONG"))
Saved = Callable[[], chipmink.Session]

ATTACH = "%load_ext chipmink\n%chipmink attach analysis"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[..., Kernel]]:
    """Start kernels, which end with the test."""
    kernels = []

    def start_one(**environment: str) -> Kernel:
        kernels.append(Kernel(path, **environment))
        return kernels[-1]

    yield start_one
    for kernel in kernels:
        kernel.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Path]]:
    """A kernel for all tests that do not kill it, and its store."""
    store = tmp_path_factory.mktemp("notebooks") / "store"
    kernel = Kernel(store, CHIPMINK_EMBEDDED="1")
    kernel.good("%load_ext chipmink")
    yield kernel, store
    kernel.end()


@pytest.fixture
def kernel(shared: tuple[Kernel, Path], request: pytest.FixtureRequest) -> Kernel:
    """One with an empty namespace, attached to a session that is the test's own."""
    kernel = shared[0]
    kernel.good("%reset -f")
    told = kernel.good(f"%chipmink attach {request.node.name}")
    assert told.startswith(f"chipmink: {request.node.name}: new, in ")
    return kernel


@pytest.fixture
def saved(shared: tuple[Kernel, Path], request: pytest.FixtureRequest) -> Saved:
    """Give the session as another process sees it now."""

    def find() -> chipmink.Session:
        shared[0].settle()
        return chipmink.open(shared[1]).session(request.node.name)

    return find


def test_every_cell_is_a_checkpoint(kernel: Kernel, saved: Saved) -> None:
    assert kernel.good("x = [1, 2]") == ""  # nothing is printed unasked
    assert "ZeroDivisionError" in str(
        kernel.run("import time; time.sleep(0.2); y = 2; 1 / 0").error
    )
    assert kernel.run("x.append(3").error.startswith(("SyntaxError", "_IncompleteInputError"))
    kernel.good("%chipmink log\n# nothing but a command of ours: no checkpoint")
    kernel.good("z = len(In)\n%chipmink status")
    first, failed, wrong, last = reversed(saved().log())
    assert first.code == "x = [1, 2]"
    assert first.cell is not None
    assert first.cell.error is None
    assert failed.cell is not None
    assert failed.cell.execution == first.cell.execution + 1
    assert failed.cell.error == "ZeroDivisionError: division by zero"
    assert 0.2 <= failed.cell.seconds < 10
    assert wrong.cell is not None
    assert "SyntaxError" in str(wrong.cell.error) or "Incomplete" in str(wrong.cell.error)
    assert set(last.variables) == {"x", "time", "y", "z"}  # and nothing of IPython's
    assert saved().load(names=["x", "y"]) == {"x": [1, 2], "y": 2}


def test_log_status_and_diff(kernel: Kernel) -> None:
    kernel.good("a = '<b>'")
    kernel.good("a = [1, 2, 3]; b = 1")
    kernel.good("g = (i for i in a)\ndel b")
    kernel.run("1 / 0")
    kernel.run("%chipmink status")  # and what there was to say
    log = kernel.run("%chipmink log")
    lines = log.out.splitlines()
    assert lines[0].split() == ["number", "saved", "cell", "ran", "written", "refs", "code"]
    assert "✗ ZeroDivisionError: division by zero" in lines[1]
    assert "head, main" in lines[1]
    assert re.search(r"\[[0-9]+\]", lines[4])
    assert "a = '<b>'" in lines[4]
    assert log.html.count("<tr>") == 5
    assert "a = &#x27;&lt;b&gt;&#x27;" in log.html
    assert len(kernel.good("%chipmink log -n 2").splitlines()) == 4
    status = kernel.good("%chipmink status")
    assert "branch     main" in status
    assert "not saved  g: TypeError: cannot pickle 'generator' object" in status
    diff = kernel.run("%chipmink diff 1 2")
    assert "added" in diff.out
    assert "str -> list" in diff.out
    assert "length 3: [1, 2, 3]" in diff.out
    assert "&lt;b&gt;" in diff.html
    assert "removed  b" in kernel.good("%chipmink diff 2 3")
    assert "no variable differs" in kernel.good("%chipmink diff 3 3")
    assert "no variable differs" in kernel.good("%chipmink diff")  # what the last cell changed


def test_figures_show(start: Callable[..., Kernel], path: Path) -> None:
    """Pictures are saved behind the cells, and change nothing that a cell sees."""
    pytest.importorskip("matplotlib_inline")
    kernel = start(CHIPMINK_EMBEDDED="1")
    kernel.good("%matplotlib inline\nimport matplotlib.pyplot as plt, chipmink._figures")
    kernel.good("chipmink._figures.LIMIT = 60  # this machine may be busy")
    kernel.good(ATTACH)
    drawn, changed = "fig, ax = plt.subplots(); ax.plot([1, 3, 2]);", "ax.set_title('changed');"
    kernel.good(drawn)
    kernel.good("n = fig.number; assert plt.get_fignums() == []")
    kernel.good(changed)
    kernel.good("assert plt.get_fignums() == [] and ax.get_title() == 'changed'")
    diff = kernel.run("%chipmink diff 3 4")
    assert "matplotlib.figure.Figure" in diff.out
    assert diff.html.count('src="data:image/png;base64,iVBOR') == 4  # two variables, two sides
    kernel.settle()
    cells = {c.code: c for c in chipmink.open(path).session("analysis").log()}
    before, after = cells[drawn], cells[changed]
    assert before.preview("fig") == before.preview("ax") is not None
    assert after.preview("fig") == after.preview("ax") not in (None, before.preview("ax"))
    assert before.preview("plt") is None


def test_undo_and_redo(kernel: Kernel, saved: Saved) -> None:
    kernel.good("import numpy as np; big = np.ones(100_000); x = [1]; alias = x; shared = {'x': x}")
    kernel.good("x.append(2); y = 7")
    kernel.good("import builtins; builtins.ids = [id(big), id(x)]\n%chipmink skip")
    kernel.good("del y\nbig[0] = 5")
    assert "nothing to redo" in kernel.run("%chipmink redo").err
    out = kernel.good("%chipmink undo")
    assert "replaced big" in out
    assert "brought y" in out
    kernel.good("assert big[0] == 1 and y == 7 and id(x) == ids[1]")
    kernel.good("%chipmink undo")
    kernel.good("assert x == [1] and alias is x and shared['x'] is x and 'y' not in vars()")
    assert "replaced x" in kernel.good("%chipmink redo 1")
    kernel.good("%chipmink redo")
    kernel.good("assert big[0] == 5 and x == [1, 2] and alias is x is shared['x']")
    kernel.good("%chipmink undo 2")
    kernel.good("w = 1")
    assert "nothing to redo" in kernel.run("%chipmink redo").err
    assert "first checkpoint" in kernel.run("%chipmink undo 50").err
    assert set(saved().branches) == {"main"}
    assert saved().load(3)["big"][0] == 5  # what was undone is in the log


def test_checkout_replaces_what_differs(kernel: Kernel, saved: Saved) -> None:
    kernel.good("a = [[1], [2]]; part = a[0]; b = {'k': 1}; n = 1; t = [b]")
    kernel.good("def f(): return n\nclass C:\n    def get(self): return f()\no = C()")
    kernel.good("a.append(3); n = 2; new = 1")
    kernel.good("%chipmink checkout 2")
    kernel.good("assert a == [[1], [2]] and part is a[0] and n == 1 and 'new' not in vars()")
    kernel.good("kept = [id(v) for v in (a, b, t, f, C, o)]")
    kernel.good("def f(): return n + 1")
    kernel.good("%chipmink checkout 2")
    kernel.good("n = 10; assert f() == 10 and o.get() == 10 and f.__globals__ is globals()")
    kernel.good("assert isinstance(o, C) and t[0] is b")
    numbers = {c.number: c.parents for c in saved().log()}
    assert numbers[4] == (2,)
    assert numbers[7] == (2,)
    kernel.good("%chipmink checkout main")
    kernel.good("assert new == 1 and n == 2")
    error = kernel.run("%chipmink checkout nowhere").err
    assert error.startswith("UsageError: %chipmink checkout: session 'test_")
    kernel.good("assert new == 1")


def test_identity_of_what_is_the_same(kernel: Kernel) -> None:
    kernel.good("big = [[i] for i in range(1000)]; small = [1]; text = 'x' * 100")
    kernel.good("small.append(2)")
    kernel.good("before = {n: id(globals()[n]) for n in ('big', 'text', 'small')}\n%chipmink skip")
    kernel.good("%chipmink checkout 1")  # takes `before` along, which was not there
    kernel.good("%chipmink checkout 3")
    kernel.good("assert id(big) == before['big'] and id(text) == before['text']")


def test_names_and_pauses(kernel: Kernel, saved: Saved) -> None:
    kernel.good("x = 1")
    assert kernel.good("%chipmink tag good").endswith("] x = 1)\n")
    assert kernel.good("%chipmink branch trial") == "chipmink: on the branch trial, from 1\n"
    kernel.good("x = 2")
    kernel.good("x = 3\n%chipmink skip")
    kernel.good("%%chipmink skip\nx = 4")
    kernel.good("%chipmink pause")
    kernel.good("x = 5")
    kernel.good("%chipmink resume")
    session = saved()
    assert session.tags == {"good": 1}
    assert session.branches["trial"] == len(session.log())
    kernel.good("y = 6")
    last = saved().log()[0]
    assert last.code is not None
    assert last.code == "y = 6"
    assert saved().log()[1].code == "x = 3\n%chipmink skip\n\n%%chipmink skip\nx = 4\n\nx = 5"
    kernel.good("%chipmink save -m 'as it should be'")
    kernel.good("%%chipmink save -m with a cell\nz = 1\nprint(z)")
    assert [c.message for c in saved().log()[:2]] == ["with a cell", "as it should be"]
    assert "there is a branch 'main'" in kernel.run("%chipmink branch main").err
    kernel.good("%chipmink detach")
    kernel.good("z = 2")
    assert saved().load()["z"] == 1
    assert "not attached" in kernel.run("%chipmink log").err
    again = kernel.good("%chipmink attach analysis")
    assert "new, in" in again


def test_the_same_as_methods(kernel: Kernel) -> None:
    kernel.good("%chipmink detach")
    kernel.good("import chipmink; nb = chipmink.attach('other')")
    kernel.good("x = 1")
    kernel.good("x = 2")
    kernel.good("nb.undo(); assert x == 1; nb.redo(); assert x == 2")
    assert "number" in kernel.good("nb.log()")
    assert "changed" in kernel.good("nb.diff(2, 3)")
    assert kernel.good("nb").startswith("<Attachment other@")
    assert "not saved" not in kernel.good("%chipmink status")  # nb itself is no variable of it


def test_help_and_completion(kernel: Kernel) -> None:
    kernel.good("x = 1")
    kernel.good("%chipmink tag tuesday")

    def complete(line: str) -> list[str]:
        message = kernel.client.complete(line, reply=True, timeout=60)
        return list(message["content"]["matches"])

    assert "checkout" in complete("%chipmink che")
    assert {"tuesday", "main", "1"} <= set(complete("%chipmink checkout "))
    assert "tuesday" in complete("%chipmink diff tue")
    assert "--rerun" in complete("%chipmink checkout --re")
    assert "make the namespace" in kernel.good("%chipmink checkout -h")
    assert "COMMAND" in kernel.good("%chipmink -h")
    assert "invalid choice" in kernel.run("%chipmink nonsense").err


def test_after_a_crash(start: Callable[..., Kernel], path: Path) -> None:
    kernel = start()
    kernel.good(ATTACH)
    kernel.good("import math, numpy as np; a = np.arange(10); b = [a, {'k': math.pi}]")
    kernel.good("class P:\n    def __init__(self, v): self.v = v\np = P(b)")
    kernel.settle()
    kernel.client.execute(
        "import time; a[0] = 99\nfor i in range(100): b.append(i); time.sleep(.1)"
    )
    time.sleep(random.uniform(0, 0.5))
    kernel.kill()
    again = start()
    told = again.good(ATTACH)
    assert "variables at 2 (" in told
    assert "[3] class P:), %chipmink checkout brings them back" in told
    again.good("extra = 1")  # before: is kept too
    assert "brought math, np, a, b, P, p" in again.good("%chipmink checkout")
    again.good("assert a[0] == 0 and b[0] is a and p.v is b and np.sum(a) == 45 and math.pi > 3")
    again.good("P(1).v; q = 1")
    numbers = {c.number: c for c in chipmink.open(path).session("analysis").log()}
    assert numbers[4].parents == (2,)
    assert "extra" in numbers[3].variables
    assert chipmink.open(path).session("analysis").branches == {"main": max(numbers)}


@pytest.mark.skipif(not LONG, reason="takes minutes; set CHIPMINK_LONG=1")
def test_crashes_at_random_moments(start: Callable[..., Kernel], path: Path) -> None:
    work = "n = n + 1; table[n] = [n] * 1000; data = bytearray(2_000_000); data[n] = 1"
    expected = 0
    for turn in range(20):
        kernel = start()
        kernel.good(ATTACH)
        kernel.good("%chipmink checkout" if turn else "n = 0; table = {}")
        kernel.good(f"assert n >= {expected} and len(table) == n and (not n or data[n] == 1)")
        for _ in range(random.randrange(6)):
            kernel.good(work)
        expected = int(kernel.good("print(n)"))
        kernel.client.execute(work)
        time.sleep(random.uniform(0, 0.05))
        kernel.kill()
    assert chipmink.open(path).verify().damage == ()


def test_the_store_as_files(start: Callable[..., Kernel], path: Path) -> None:
    command = find_command()
    if command is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("nothing can be mounted here")
    kernel = start(CHIPMINK_EMBEDDED="0", CHIPMINK_COMMAND=str(command))
    kernel.good(ATTACH)
    kernel.good("x = [1, 2]")
    place = path.parent / "files"
    place.mkdir()
    try:
        told = kernel.good(f"%chipmink mount {place}")
        assert told == f"chipmink: {place}/sessions/analysis\n"
        head = place / "sessions" / "analysis" / "head"
        assert (head / "code.py").read_text() == "x = [1, 2]"
        cell = json.loads((head / "checkpoint.json").read_text())["cell"]
        assert cell["execution"] == 2
        assert cell["error"] is None
    finally:
        subprocess.run([command, "umount", place], check=True)
    assert "mount" in kernel.run("%chipmink mount /nowhere/at/all").err


def test_importing_the_package_is_quick() -> None:
    code = "import chipmink, sys; print(*[m for m in sys.modules if m in %r])"
    slow = ("IPython", "chipmink._notebook", "chipmink._attachment", "tqdm", "cloudpickle")
    done = subprocess.run([sys.executable, "-c", code % (slow,)], capture_output=True, check=True)
    assert done.stdout == b"\n"


def test_what_cannot_be_saved(start: Callable[..., Kernel]) -> None:
    kernel = start()
    kernel.good(ATTACH)
    kernel.good("data = [1, 2, 3]")
    told = kernel.good("rows = iter(x for x in data)\nlock = __import__('threading').Lock()")
    told += kernel.good("%chipmink status").partition("session  ")[0]  # if it had to wait
    assert told.count("\n") == 1
    assert told.startswith("chipmink: not saved: rows (TypeError: cannot pickle 'generator' object")
    assert "lock (TypeError" in told
    assert "not saved: " not in kernel.good("%chipmink log")  # once, whatever saves end meanwhile
    assert kernel.good("y = 1") == ""
    kernel.settle()
    kernel.kill()
    again = start()
    again.good(ATTACH)
    out = again.good("%chipmink checkout")
    assert "not saved then, and so not here: rows (made by 2 ([3] rows = iter" in out
    out = again.good("%chipmink checkout 3 --rerun")
    assert "running 2 ([3] rows = iter(x for x in data)) again" in out
    again.good("assert next(rows) == 1 and lock.acquire() and y == 1")
    again.good("%chipmink undo\nmore = iter(x for x in data)")
    again.good("z = 1")
    head = int(again.good("import chipmink._notebook as n; print(n.current()._at)"))
    again.good("del more")
    out = again.good(f"%chipmink checkout {head} --rerun")
    assert "at " not in out.partition("running")[2].partition("\n")[2]  # no undo again
    again.good("assert next(more) == 1")


def test_two_kernels_on_one_session(start: Callable[..., Kernel], path: Path) -> None:
    command = find_command()
    if command is None:
        pytest.skip("the chipmink command is not built")
    served = {"CHIPMINK_EMBEDDED": "0", "CHIPMINK_COMMAND": str(command)}
    first, second = start(**served), start(**served)
    first.good(ATTACH)
    first.good("x = 1")
    told = second.good(ATTACH)
    pid = first.manager.provisioner.process.pid
    assert f"process {pid} works on it too, so this one has the branch main-2" in told
    second.good("%chipmink checkout")
    second.good("x = 20; theirs = 1")
    first.good("x = 10")
    second.good("x += 1")
    first.settle()
    second.settle()
    with chipmink.open(path, embedded=False) as store:
        session = store.session("analysis")
        assert session.load("main") == {"x": 10}
        assert session.load("main-2") == {"x": 21, "theirs": 1}
        assert session.current_branch == "main"
    assert f"process {pid} has the branch main" in second.good("%chipmink checkout main")
    second.good("assert x == 10 and 'theirs' not in vars()")
    second.kill()
    first.good("y = 1")
    third = start(**served)
    assert "has the branch main-2" in third.good(ATTACH)  # which nobody has any more
    first.kill()
    assert "1 variable" not in third.good("%chipmink attach analysis")


def test_pull(start: Callable[..., Kernel], path: Path) -> None:
    command = find_command()
    if command is None:
        pytest.skip("the chipmink command is not built")
    one = start(CHIPMINK_EMBEDDED="0", CHIPMINK_COMMAND=str(command))
    one.good(ATTACH)
    one.good("x = 1; keep = [1]; k = id(keep)")
    one.settle()
    with chipmink.open(path, embedded=False) as store:
        session = store.session("analysis")
        n = session.load()
        session.save({**n, "x": 2, "came": [3]})
    told = one.good("y = 1") + one.good("z = 1") + one.good("%chipmink status")  # when written
    assert "came, x came from elsewhere: %chipmink pull" in told
    one.good("assert x == 1")
    assert "pulled x, came" in one.good("%chipmink pull")
    one.good("assert x == 2 and came == [3] and y == 1 and id(keep) == k")


def test_a_failing_save_does_not_break_the_cell(
    start: Callable[..., Kernel], small_disk: Path
) -> None:
    kernel = start(CHIPMINK_STORE=str(small_disk / "store"))
    kernel.good(ATTACH)
    kernel.good("import os; a = 1")
    ran = kernel.run("big = os.urandom(60_000_000); print('done')")
    assert ran.error is None
    assert ran.out == "done\n"
    for _ in range(100):
        ran = kernel.run("print('next')")
        assert ran.error is None
        assert ran.out == "next\n"
        if ran.err:
            break
        time.sleep(0.1)
    assert ran.err.startswith("chipmink: not saved: ")
    assert ran.err.count("\n") == 1
    assert "free some space" in ran.err
    assert "the next save has all of it" in ran.err
    kernel.run("b = 2")
    kernel.run("del big; c = 3")
    assert "chipmink: saved again: " in kernel.run("%chipmink status").out
    last = chipmink.open(small_disk / "store").session("analysis").head
    assert last is not None
    assert set(last.variables) == {"os", "a", "b", "c"}
    assert last.code is not None
    assert last.code.split("\n\n")[-2:] == ["b = 2", "del big; c = 3"]


# ---- without waiting


def test_what_the_next_cell_changes(kernel: Kernel, saved: Saved) -> None:
    """Each checkpoint has what its cell left, whatever the cells after it did at once."""
    kernel.good("import numpy as np; a = np.zeros(2_000_000); view = a[::2]; rows = [[0]] * 3")
    cells = [
        "a += 1",
        "view[:] = 7; rows[0].append(1)",
        "np.multiply(a, 3, out=a)",
        "rows.append('x'); a[-1] = 5",
        "memoryview(a)[0] = 9.0",
        "a.shape",
        "del rows",
        "a = a[::-1]; b = a.base",
    ]
    namespace: dict[str, Any] = {}
    exec("import numpy as np; a = np.zeros(2_000_000); view = a[::2]; rows = [[0]] * 3", namespace)
    begun = [kernel.client.execute(cell) for cell in cells]  # not one waits for the one before
    for message in begun:
        while kernel.client.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != message:
            pass
    states = []
    for cell in cells:
        exec(cell, namespace)
        states.append({n: copy.deepcopy(namespace.get(n)) for n in ("a", "view", "rows", "b")})
    found = {c.code: c for c in saved().log()}
    for cell, state in zip(cells, states, strict=True):
        loaded = found[cell].load()
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(loaded[name], value), (cell, name)
            else:
                assert loaded.get(name) == value, (cell, name)
    assert [c.code for c in reversed(saved().log())][1:] == cells


ORDER = """
import chipmink
_kernel, _order = get_ipython().kernel, []
def _told(owner, name, what):
    inner = getattr(owner, name)
    def outer(*args, **kwargs):
        what(*args)
        return inner(*args, **kwargs)
    setattr(owner, name, outer)
_told(_kernel.session, 'send', lambda _, what, *more: 'reply' in what and _order.append(what))
_told(chipmink._attachment.Attachment, '_after_cell', lambda *_: _order.append('save'))
"""


def test_the_answer_comes_before_the_save(start: Callable[..., Kernel], path: Path) -> None:
    """And has what the cell left all the same, not what came to its turn since."""
    kernel = start()
    kernel.good(ATTACH)
    kernel.good(ORDER)
    kernel.good("import asyncio; x = []")
    kernel.good("_order.clear(); loop = asyncio.get_running_loop()")
    kernel.good("x = [0]; handle = loop.call_soon(lambda: x.append(1))")
    kernel.good("del handle, loop")
    kernel.good("_order.clear(); y = 1")
    assert kernel.good("_order").strip() == "['execute_reply', 'save']"
    kernel.good("z = x, y")
    # Where something may run at any time, it comes first.
    kernel.good("import threading as th; stop = th.Event(); t = th.Thread(target=stop.wait)")
    kernel.good("t.start()")
    kernel.good("_order.clear(); y = 2")
    assert kernel.good("_order").strip() == "['save', 'execute_reply']"
    kernel.good("stop.set(); t.join(); del t, stop")
    kernel.good("_order.clear(); y = 3; raise_ = 1")
    assert kernel.good("_order").strip() == "['execute_reply', 'save']"
    assert kernel.run("_order.clear(); y = 4; 1 / 0").error
    assert kernel.good("_order").strip() == "['execute_reply', 'save']"
    kernel.good("%chipmink detach")
    assert kernel.good("sorted(n for n in vars(_kernel) if n.endswith('handler_hook'))") == "[]\n"
    kernel.end()
    session = chipmink.open(path).session("analysis")
    by_code = {checkpoint.code: checkpoint for checkpoint in session.log()}
    assert by_code["x = [0]; handle = loop.call_soon(lambda: x.append(1))"].load(["x"]) == {
        "x": [0]
    }
    assert by_code["z = x, y"].load(["z"]) == {"z": ([0, 1], 1)}
    assert by_code["_order.clear(); y = 4; 1 / 0"].load(["y"]) == {"y": 4}


def test_a_cell_that_changes_nothing_has_a_checkpoint(kernel: Kernel, saved: Saved) -> None:
    kernel.good("big = list(range(200_000)); gen = (i for i in big)")
    kernel.good("big[0] = -1")
    assert kernel.good("len(big)") == "200000\n"
    kernel.good("print(big[:3])")
    changed, first, second = saved().log()[2::-1]
    assert (first.code, second.code) == ("len(big)", "print(big[:3])")
    for same in (first, second):
        assert same.stats.bytes_written < 1000
        assert same.stats.logical_bytes == changed.stats.logical_bytes
        assert not same.diff(changed)
        assert same.unsaved == changed.unsaved
        assert same.cell is not None
    kernel.good("big[0] = -2")
    kernel.good("%chipmink undo")
    kernel.good("assert big[0] == -1")


WALKED = """
import chipmink
print(chipmink._notebook.current().session.store._shadow("analysis").statistics()["walked"])
"""


def test_only_what_cells_could_reach_is_looked_at(start: Callable[..., Kernel]) -> None:
    """With what shares memory with it, and with all that code could reach that was no cell."""
    kernel = start()
    kernel.good(f"{ATTACH} --active-only")
    kernel.good("import numpy as np; p, q = np.arange(10_000), np.arange(10_000); s = p[::2]")

    def walked(code: str, silent: bool = False) -> int:
        kernel.good("x = 0")
        kernel.settle()
        if silent:
            kernel.client.execute(code, silent=True)
            code = "x = 1"
        kernel.good(code)
        return int(kernel.good(WALKED))

    assert walked("x = 1") == 1
    assert walked("q[0] = -1") == 1
    assert walked("p[4] = -2") == 2
    assert walked("s[3] = -3") == 2
    assert walked("exec('q[1] = -4')") > 4
    assert walked("q[2] = -5", silent=True) > 4
    look = "print(p[4], p[6], s[3], q[:3])"
    there = kernel.good(look)
    assert there == "-2 -3 -3 [-1 -4 -5]\n"
    kernel.good("del p, q, s")
    kernel.good("%chipmink undo")
    assert kernel.good(look) == there


def test_the_last_save_is_whole_when_the_kernel_ends(
    start: Callable[..., Kernel], path: Path
) -> None:
    kernel = start()
    kernel.good(ATTACH)
    kernel.good("import os; big = os.urandom(20_000_000)")
    kernel.good("len(big)")
    kernel.manager.shutdown_kernel(now=False)
    session = chipmink.open(path).session("analysis")
    assert [c.code for c in session.log()[:2]] == [
        "len(big)",
        "import os; big = os.urandom(20_000_000)",
    ]
    assert len(session.load()["big"]) == 20_000_000
