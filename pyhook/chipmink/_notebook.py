# SPDX-License-Identifier: Apache-2.0
"""`attach`: saving after every cell of a notebook, every prompt, every few seconds of a script."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from . import _core
from ._answer import Answers
from ._around import unnamed_code
from ._attachment import Attachment, Host, describe
from ._checkpoint import Cell
from ._store import Store
from ._store import open as open_store

_END_WAIT = 60.0  # seconds that a kernel which ends waits for its saves, twice at most
_EVERY = 60.0  # seconds between the saves of a script
_QUICK = 1.0  # seconds; a save that takes longer comes before the answer: clients may not expect it

_current: Attachment | None = None


def current() -> Attachment | None:
    """Give the attachment of this process, if it has one."""
    return None if _current is None or _current._detached else _current


def attach(
    name: str | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
    branch: str | None = None,
    namespace: dict[str, Any] | None = None,
    every: float = _EVERY,
    active_only: bool = False,
) -> Attachment:
    """Keep every state of this notebook, terminal or script from now on.

    In Jupyter and IPython the namespace is saved after every cell, in the plain Python terminal
    before every prompt, in a script every few seconds, when it ends, and when an exception ends it.
    A process has one attachment: the one before is detached.

    Parameters
    ----------
    name : str, optional
        Of the session; the notebook's or script's own name if None.
    store : path-like, optional
        As for `open`.
    branch : str, optional
        To work on; the session's present one if None. A branch that another process works on is
        left to it, and this one gets one beside it.
    namespace : dict, optional
        The user's, which is that of ``__main__``.
    every : float
        Seconds between the saves of a script; 0 for none but the last.
    active_only : bool
        In Jupyter and IPython: look only at variables that the cells since the last save could
        reach, as their code says, and at what shares objects with them. Faster, but for what
        objects share without their pickles showing it.

    Returns
    -------
    Attachment
    """
    global _current
    host: _Shell | _Terminal | _Script
    shell = _ipython()
    main = vars(sys.modules["__main__"])
    if shell is not None:
        host = _Shell(shell)
        main = shell.user_ns
    elif hasattr(sys, "ps1") or sys.flags.interactive:
        host = _Terminal()
    else:
        host = _Script(every)
    if namespace is None:
        namespace = main
    session = _store(store).session(_own_name(main) if name is None else name)
    if _current is not None and not _current._detached:
        _current._detach()
    host.namespace = namespace
    _current = attachment = Attachment(session, namespace, host, branch, active_only)
    host.begin(attachment)
    if not isinstance(host, _Script):
        attachment._begin()
    return attachment


def _store(path: str | os.PathLike[str] | None) -> Store:
    """Open the store, or use it again: an embedded one is open once only."""
    place = _core.default_path() if path is None else os.path.abspath(os.fsdecode(path))
    if _current is not None:
        before = _current.session.store
        if before.path == place and not before._closed and os.getpid() == before._process:
            return before
    return open_store(path)


def _ipython() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _own_name(main: dict[str, Any]) -> str:
    """Name a session after the notebook or script."""
    file = os.environ.get("JPY_SESSION_NAME") or main.get("__vsc_ipynb_file__")
    stem = Path(str(file or main.get("__file__") or "session")).stem
    return re.sub(r"[/@\x00-\x1f\x7f]", "-", stem)[:60] or "session"


class _Base(Host):
    """What hosts share: lines that say who tells them, and that only their own process acts."""

    asks_before = False
    namespace: dict[str, Any]

    def __init__(self) -> None:
        self.attachment: Attachment | None = None
        self._process = os.getpid()

    def begin(self, attachment: Attachment) -> None:
        """Start saving."""
        self.attachment = attachment

    def own(self) -> Attachment | None:
        """Give the attachment; None in a process that was forked from the one attached."""
        return self.attachment if os.getpid() == self._process else None

    def say(self, line: str) -> None:
        """Tell something."""
        print(f"chipmink: {line}")

    def warn(self, line: str) -> None:
        """Tell that something went wrong."""
        print(f"chipmink: {line}", file=sys.stderr)

    def run(self, code: str) -> None:
        """Run code in the namespace."""
        exec(compile(code, "<chipmink>", "exec"), self.namespace)

    def soon(self, call: Callable[[], None]) -> bool:
        """Have nothing called."""
        return False

    def leave(self) -> None:
        """Stop saving."""
        self.attachment = None


# ---- IPython: notebooks, consoles, editors

_OWN_LINE = re.compile(r"\s*(%%?chipmink\b.*|%(re)?load_ext\s+chipmink\s*|#.*)?")


def _is_own(code: str) -> bool:
    """Tell whether a cell is nothing but commands of ours: they save for themselves."""
    if code.lstrip().startswith("%%"):
        return False
    return all(_OWN_LINE.fullmatch(line) for line in code.splitlines())


class _Shell(_Base):
    """IPython, in a kernel or a terminal."""

    asks_before = True
    call = "%chipmink {}"

    def __init__(self, shell: Any) -> None:
        super().__init__()
        self._shell = shell
        self._depth = 0  # cells that run cells
        self._unseen = 0  # pieces of code that ran since the last cell, with the one that begins
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: float | None = None
        self._took: float | None = None  # seconds of the last save until its values could change
        self._answers: Answers | None = None

    def begin(self, attachment: Attachment) -> None:
        from ._magics import register

        super().begin(attachment)
        register(self._shell)
        if getattr(self._shell, "kernel", None) is not None:
            self._answers = Answers(self._shell.kernel)
        with contextlib.suppress(RuntimeError):  # a terminal has none while it waits for input
            self._loop = asyncio.get_running_loop()
        self._shell.events.register("pre_execute", self._executing)
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)
        atexit.register(self._ended)  # before IPython empties the namespace

    def leave(self) -> None:
        super().leave()
        atexit.unregister(self._ended)
        if self._answers is not None:
            self._answers.end()
        for event, callback in (
            ("pre_execute", self._executing),
            ("pre_run_cell", self._before),
            ("post_run_cell", self._after),
        ):
            with contextlib.suppress(ValueError):  # it was detached while it attached
                self._shell.events.unregister(event, callback)

    def soon(self, call: Callable[[], None]) -> bool:
        """Have the kernel's loop call it."""
        if self._loop is None or self._loop.is_closed():
            return False
        self._loop.call_soon_threadsafe(call)
        return True

    def run(self, code: str) -> None:
        result = self._shell.run_cell(code, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            raise error

    def _ended(self) -> None:
        attachment = self.own()
        if attachment is not None:
            if self._answers is not None:
                self._answers.now()
            attachment._finish(_END_WAIT)

    def _executing(self) -> None:
        """See code that runs silently, of which no cell is told: front ends have that."""
        if self._depth == 0:
            self._unseen += 1

    def _before(self, info: Any) -> None:
        self._depth += 1
        attachment = self.own()
        if self._answers is not None and attachment is not None:
            self._answers.now()  # it was not the kernel that ran the cell before
        if self._depth == 1 and attachment is not None:
            if self._unseen > 1:
                attachment._concern(None)
            self._unseen = 0
            attachment._before_cell(info.raw_cell, _is_own(info.raw_cell))
            self._begun = time.perf_counter()

    def _after(self, result: Any) -> None:
        self._depth = max(self._depth - 1, 0)
        attachment = self.own()
        if self._depth or attachment is None:
            return
        seconds = 0.0 if self._begun is None else time.perf_counter() - self._begun
        error = result.error_before_exec or result.error_in_exec
        code = result.info.raw_cell
        cell = Cell(result.execution_count or 0, seconds, describe(error) if error else None)

        def save() -> None:
            begun = time.perf_counter()
            attachment._after_cell(code, cell, own=_is_own(code))
            self._took = time.perf_counter() - begun

        if not (self._may_answer(attachment) and self._answers and self._answers.then(save)):
            save()

    def _may_answer(self, attachment: Attachment) -> bool:
        """Tell whether the save can come after the answer: until then, nothing may change."""
        quick = self._took is not None and self._took < _QUICK and not attachment._pure
        return quick and not unnamed_code()


# ---- the plain terminal


class _Prompt:
    """The prompt, which Python asks for after every statement."""

    def __init__(self, host: _Terminal, shown: object) -> None:
        self.host = host
        self.shown = shown

    def __str__(self) -> str:
        self.host.prompted()
        return str(self.shown)


class _Terminal(_Base):
    """Python's own interactive mode."""

    call = "{}"

    def __init__(self) -> None:
        super().__init__()
        self._seen = self._history()

    def begin(self, attachment: Attachment) -> None:
        super().begin(attachment)
        sys.ps1 = _Prompt(self, getattr(sys, "ps1", ">>> "))
        self._begun = time.perf_counter()

    def leave(self) -> None:
        super().leave()
        if isinstance(sys.ps1, _Prompt):
            sys.ps1 = sys.ps1.shown

    @staticmethod
    def _readline() -> Any:
        """Find who keeps the statements: since Python 3.13 there are two who may."""
        found, most = None, -1
        for name in ("readline", "_pyrepl.readline"):
            module: Any = sys.modules.get(name)
            length = -1
            with contextlib.suppress(Exception):  # one that this terminal cannot use
                length = module.get_current_history_length()
            if length > most:
                found, most = module, length
        return found

    def _history(self) -> int:
        readline = self._readline()
        return readline.get_current_history_length() if readline else -1

    def prompted(self) -> None:
        """Save what the statements since the last prompt did."""
        attachment = self.own()
        if attachment is None:
            return
        begin, end = self._seen, self._history()
        if begin == end >= 0:
            return  # the prompt is drawn again
        self._seen = end
        readline = self._readline()
        lines = [readline.get_history_item(i + 1) or "" for i in range(max(begin, 0), max(end, 0))]
        attachment._after_cell("\n".join(lines), None, own=not lines)


# ---- scripts


class _Script(_Base):
    """A script: its namespace is saved by a thread, and at its end."""

    call = "{}"

    def __init__(self, every: float) -> None:
        super().__init__()
        self._every = every
        self._stop = threading.Event()
        self._begun = time.perf_counter()
        self._hook: Any = None

    def say(self, line: str) -> None:
        """Keep what a script prints as it is."""
        self.warn(line)

    def begin(self, attachment: Attachment) -> None:
        super().begin(attachment)
        attachment._skipping = False
        self._hook, sys.excepthook = sys.excepthook, self._failed
        atexit.register(self._ended)
        if self._every > 0:
            threading.Thread(target=self._watch, name="chipmink", daemon=True).start()
        file = self.namespace.get("__file__")
        with contextlib.suppress(OSError, TypeError, ValueError):
            attachment._code.append(Path(file).read_text())  # type: ignore[arg-type]

    def leave(self) -> None:
        super().leave()
        self._stop.set()
        atexit.unregister(self._ended)
        if sys.excepthook == self._failed:
            sys.excepthook = self._hook

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            attachment = self.own()
            if attachment is not None:
                attachment._after_seconds(None, Cell(0, self._seconds(), None), True)

    def _seconds(self) -> float:
        return time.perf_counter() - self._begun

    def _failed(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        attachment = self.own()
        if attachment is not None:
            cell = Cell(0, self._seconds(), describe(error))
            attachment._after_seconds("an exception ended it", cell, False)
            attachment._detach()
        self._hook(kind, error, traceback)

    def _ended(self) -> None:
        attachment = self.own()
        if attachment is not None:
            attachment._after_seconds("at its end", Cell(0, self._seconds(), None), True)
            attachment._detach()
