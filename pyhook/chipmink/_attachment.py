# SPDX-License-Identifier: Apache-2.0
"""A namespace whose states are all kept: what `attach` returns."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from . import _around, _core, _figures, _lent, _namespace, _returning, _summary, _views
from ._background import Background
from ._cells import concerns, is_pure
from ._checkpoint import Cell, Checkpoint
from ._claim import Claim, claim
from ._command import find_command
from ._errors import Error, NotFound, StoreError
from ._store import Job, Revision, Session

_LONG_WAIT = 1.0  # seconds from which on a cell's waiting is told
_LOGGED = 20  # checkpoints that the log shows


class Host(Protocol):
    """Where an attachment lives: a notebook's kernel, a terminal, a script."""

    asks_before: bool  # `_before_cell` is called before each cell: saves may take their time
    call: str  # how its methods are called there, with {} for the name

    def say(self, line: str) -> None:
        """Tell something that was asked for."""

    def warn(self, line: str) -> None:
        """Tell that something went wrong."""

    def run(self, code: str) -> None:
        """Run a cell again, in the namespace; an exception says that it failed."""

    def soon(self, call: Callable[[], None]) -> bool:
        """Call something between two cells, asked for by any thread; whether that will be."""

    def leave(self) -> None:
        """Undo what made it an attachment's host."""


class Attachment:
    """A namespace that is saved after every cell, or every few seconds in a script.

    Made by `attach`. In a notebook, ``%chipmink NAME ...`` calls the method NAME.

    Attributes
    ----------
    session : Session
        For everything else that sessions can do.
    """

    def __init__(
        self,
        session: Session,
        namespace: dict[str, Any],
        host: Host,
        branch: str | None,
        active_only: bool = False,
    ) -> None:
        self.session = session
        self._namespace = namespace
        self._host = host
        self._lock = threading.RLock()
        self._detached = self._paused = self._skipping = False
        self._saved = False  # what is in the namespace descends from self._at
        self._redo: list[int] = []
        self._code: list[str] = []  # that ran since the last save
        self._told: dict[str, str] = {}  # what is unsaved, and why
        self._failed = False
        self._message: str | None = None  # for the checkpoint of this cell
        self._asked = False  # it was saved in the middle
        self._pure = False  # this cell changes nothing
        self._commands = False  # it is nothing but commands of ours
        self._loaded: Checkpoint | None = None  # what was loaded is to be saved after this cell
        self._background = Background(session, self._idle) if host.asks_before else None
        # Cells whose saves have not begun, because of the one before them; the first has changed
        # something, the others nothing. The namespace is as they left it.
        self._waiting: list[tuple[str, str | None, Cell | None, bool]] = []
        # What is to be told at the next cell; None: things are told at once.
        self._later: list[tuple[Callable[[str], None], str]] | None = None
        # Only what cells could reach is looked at; what this one can, None: anything.
        self._active_only = active_only and host.asks_before
        self._concerned: frozenset[str] | None = None
        session._filter(self._active_only)
        self._checks = self._protects = True  # tools/bench compares saving without them
        self._same: set[int] = set()  # checkpoints that are their parents, loaded
        session.store._writer()  # makes the store, and fails now if it cannot be written
        self._claim: Claim | None = None
        owner = None
        head = session.head
        self._at = head.number if head else 0
        if branch is not None or head is None or session.current_branch is not None:
            self._claim, owner = self._claim_branch(branch)
            self._at = session.branches.get(self._claim.branch, self._at)
        self._found = self._at
        self._greet(owner)

    def _how(self, magic: str, method: str | None = None) -> str:
        """Say how something is called where this attachment lives."""
        return self._host.call.format(magic if "%" in self._host.call else method or f"{magic}()")

    # ---- branches

    def _claim_branch(self, wanted: str | None) -> tuple[Claim, int | None]:
        """Take the branch; or, if another process has it, one beside it. Its process, if so."""
        store, name = self.session.store.path, self.session.name
        branches = self.session.branches
        if wanted is not None and wanted not in branches and self.session.head is not None:
            raise NotFound(f"the session {name!r} has no branch {wanted!r}")
        first = wanted or self.session.current_branch or "main"
        owner = None
        number = 1
        while True:
            branch = first if number == 1 else f"{first}-{number}"
            taken = claim(store, name, branch)
            if isinstance(taken, Claim):
                return taken, owner
            owner = taken if owner is None else owner
            number += 1

    def _greet(self, owner: int | None) -> None:
        name = self.session.name
        beside = ""
        if owner is not None and self._claim:
            process = f"process {owner}" if owner else "another process"
            beside = f"; {process} works on it too, so this one has the branch {self._claim.branch}"
        if not self._at:
            self._host.say(f"{name}: new, in {self.session.store.path}{beside}")
            return
        found = self.session.checkpoint(self._at)
        self._skipping = True  # nothing of it is in the namespace yet
        count = len(found.variables)
        many, them = (f"{count} variables", "them") if count != 1 else ("1 variable", "it")
        self._host.say(
            f"{name}: {many} at {found.number} ({_views.moment(found.time)}, "
            f"{_views.cell_name(found)}), {self._how('checkout')} brings {them} back{beside}"
        )

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
        self._claim = None

    def _leads(self) -> bool:
        """Tell whether the session's head is where this attachment is."""
        branch, head = self.session.current_branch, self.session.head
        if self._claim is not None:
            return branch == self._claim.branch
        return branch is None and head is not None and head.number == self._at

    def _set_head(self, branch: str | None, number: int) -> None:
        self.session.store._writer().set_head(self.session.name, branch, number)

    def _begin_branch(self, name: str | None = None) -> None:
        """Go on, on a new branch from here."""
        session, leads, number = self.session, self._leads(), self._at
        wanted = name or f"branch-{session._state()[0] + 1}"
        while True:
            taken = claim(session.store.path, session.name, wanted)
            if isinstance(taken, Claim):
                if name is not None or wanted not in session.branches:
                    break
                taken.release()
            elif name is not None:
                raise Error(f"the branch {name!r} is that of process {taken}: choose another name")
            wanted += "x"
        try:
            session.branch(wanted, number)
        except BaseException:
            taken.release()
            raise
        self._release()
        self._claim = taken
        if leads:
            self._set_head(wanted, number)

    def _move(self, target: Checkpoint, branch: str | None, reset: bool) -> str | None:
        """Make `target` what the next save descends from.

        `reset`: the branch goes there. Else we go to `branch`, or to one that ends there, or the
        next save begins a new one. Gives a note if that is not what was asked for.
        """
        leads, note = self._leads(), None
        here = self._claim.branch if self._claim else None
        if reset:
            if here is not None:
                self.session.branch(here, target)
            if leads:
                self._set_head(here, target.number)
        elif (
            here is None
            or branch not in (None, here)
            or (self.session.branches.get(here) != target.number)
        ):
            self._release()
            tips = [b for b, number in self.session.branches.items() if number == target.number]
            for tip in tips if branch is None else [branch]:
                taken = claim(self.session.store.path, self.session.name, tip)
                if isinstance(taken, Claim):
                    self._claim = taken
                    break
                note = f"process {taken} has the branch {tip}: the next save begins another one"
            if leads:
                self._set_head(self._claim.branch if self._claim else None, target.number)
        self._at = target.number
        return note

    # ---- saving

    def _items(self) -> list[tuple[str, Any]]:
        items = _namespace.select(self._namespace, None)
        return [(name, value) for name, value in items if not isinstance(value, Attachment)]

    def _job(
        self,
        code: str | None = None,
        message: str | None = None,
        cell: Cell | None = None,
        if_changed: bool = False,
        anew: bool = True,
        pages: bytes = b"",
    ) -> Job:
        """Take what is to be saved now; not `anew`: what was saved last."""
        if self._claim is None:
            self._begin_branch()
        assert self._claim is not None
        items = self._items() if anew else None
        if_changed = if_changed and self._saved
        job = Job(items, message, code, self._claim.branch, cell, if_changed, pages)
        whole = job.after(self._code)
        self._code.clear()
        return whole

    def _checkpoint(self, code: str | None = None, **how: Any) -> Checkpoint:
        """Save the namespace, and wait for it."""
        with self._lock:
            self._finish()
            job = self._job(code, **how)
            try:
                checkpoint = self.session._save(job)
            except BaseException:
                self._again(job)
                raise
            self._tell_unsaved(checkpoint.unsaved)
            self._accept(checkpoint)
            return checkpoint

    def _begin_save(self, code: str | None = None, **how: Any) -> None:
        """Save the namespace behind its back; `_before_cell` is called before it changes."""
        background = self._background
        assert background is not None
        self._see(0)
        along = _around.unnamed_code()
        job = self._job(code, **how)
        try:
            pending = None if background.wait(0) else background.hold(job)
            if pending is None:
                self._see(threading.TIMEOUT_MAX)
                if self._code:  # of what has failed meanwhile
                    job = job.after(self._code)
                    self._code.clear()
                pending = background.begin(job)
            if along or _around.unnamed_code():  # may run at any time
                self._concern(None)
                background.protect()
        except BaseException:
            self._again(job)
            raise
        self._tell_unsaved(pending.unsaved)

    def _again(self, job: Job) -> None:
        """Give the code of a save that came to nothing to the next one."""
        if job.code:
            self._code.append(job.code)

    def _finish(self, seconds: float = threading.TIMEOUT_MAX) -> None:
        """Save what waits for that, and wait until all is written."""
        self._settle()
        self._tell_now()
        self._see(seconds)
        if self._waiting:
            self._catch_up()
            self._see(seconds)

    def _see(self, seconds: float) -> None:
        """See what became of the saves; wait for them."""
        told = None
        for outcome in self._background.outcomes(seconds) if self._background else ():
            if outcome.checkpoint is not None:
                self._accept(outcome.checkpoint)
            elif outcome.error is not None:
                self._again(outcome.job)
                if outcome.error is not told:  # several may have come to nothing with one
                    self._fail(_why(outcome.error))
                told = outcome.error

    def _idle(self) -> None:
        """Go on with what waits, between two cells. Called by another thread."""
        if self._waiting:
            self._host.soon(self._between_cells)

    def _between_cells(self) -> None:
        with self._lock:
            if self._waiting and self._background is not None and self._background.wait(0):
                self._later = self._later or []
                self._catch_up()

    def _tell_now(self) -> None:
        """Tell what came up between two cells."""
        later, self._later = self._later, None
        for tell, line in later or ():
            tell(line)

    def _say(self, tell: Callable[[str], None], line: str) -> None:
        if self._later is None:
            tell(line)
        else:
            self._later.append((tell, line))

    def _catch_up(self) -> None:
        """Begin the saves that wait; nothing has changed since."""
        assert self._background is not None
        waiting, self._waiting = self._waiting, []
        self._try(self._begin_save, *waiting[0])
        for code, message, cell, _ in waiting[1:]:
            if self._failed:
                self._code.append(code)
            else:
                self._background.same(self._job(code, message, cell, anew=False))

    def _accept(self, checkpoint: Checkpoint) -> None:
        """There is a new checkpoint of this namespace."""
        before = self._at if self._saved else 0
        self._at, self._saved = checkpoint.number, True
        if self._redo and before and checkpoint.diff(self.session.checkpoint(before)):
            self._redo.clear()
        self._tell(checkpoint)

    def _before_cell(self, code: str, own: bool = False) -> None:
        """Let a cell change what is being saved, if it may; never raise. `own`: as below."""
        self._pure, self._commands = False, own
        if self._background is None or self._detached:
            return
        begun = time.monotonic()
        self._background.busy(True)
        with self._lock:
            self._pure = self._checks and is_pure(code, self._namespace)
            if self._pure:
                self._concerned = frozenset()
                return
            try:
                if not self._protects:
                    self._background.wait(threading.TIMEOUT_MAX)
                if self._waiting:
                    self._catch_up()
            except KeyboardInterrupt:  # the cell runs all the same
                self._code.extend(waiting[0] for waiting in self._waiting)
                self._waiting.clear()
                self._fail("interrupted")
            if self._active_only:  # what commands of ours change, they tell themselves
                self._concerned = frozenset() if own else concerns(code, self._namespace)
                self._concern(self._concerned)  # it may save in its middle
            self._background.protect(functools.partial(self._spared, code))
        waited = time.monotonic() - begun
        if waited > _LONG_WAIT:
            self._host.say(f"waited {_views.duration(waited)} for the save before")

    def _concern(self, names: frozenset[str] | None) -> None:
        """Tell the session what may have changed since it was saved; None: anything."""
        if self._active_only:
            self.session._touch(names)

    def _spared(self, code: str, savings: list[_core.Saving]) -> list[object]:
        return _lent.spared(savings, code, self._namespace) if self._checks else []

    def _tell(self, checkpoint: Checkpoint) -> None:
        """Say, once, that a save has mended another, and what others did."""
        if self._failed:
            self._failed = False
            self._say(self._host.say, f"saved again: {checkpoint.number} has everything")
        if checkpoint.arrived:
            came = _views.names(checkpoint.arrived)
            line = f"{came} came from elsewhere: {self._how('pull')} brings it in"
            self._say(self._host.say, line)
        if checkpoint.conflicts:
            both = _views.names(checkpoint.conflicts)
            branch = next(iter(checkpoint.conflicts.values()))
            self._say(
                self._host.say,
                f"{both} was changed elsewhere too: theirs is on the branch {branch}",
            )

    def _tell_unsaved(self, unsaved: Mapping[str, str]) -> None:
        """Say, once, what cannot be saved; of each state when it is taken in, in their order."""
        new = {name: why for name, why in unsaved.items() if self._told.get(name) != why}
        self._told = dict(unsaved)
        if new:
            listed = _views.names((f"{name} ({why})" for name, why in new.items()), 3)
            self._say(self._host.say, f"not saved: {listed}")

    def _begin(self) -> None:
        """Save what is there before the first cell, if the session is new."""
        with self._lock:
            if not self._found and self._items():
                self._try(self._checkpoint, "", "attached")
                self._asked = True

    def _after_cell(self, code: str, cell: Cell | None, own: bool) -> None:
        """Save after a cell; never raise. `own`: it was nothing but commands of ours."""
        if self._background is not None:
            self._background.busy(False)
        with self._lock:
            if self._detached:
                return
            self._concern(self._concerned)
            self._concerned = None
            self._commands = False
            self._settle()
            self._tell_now()
            skip, self._skipping = self._skipping or self._paused, False
            message, self._message = self._message, None
            asked, self._asked = self._asked, False
            if skip or (own and not self._saved):
                if not own:
                    self._code.append(code)
                return
            if own and asked:
                return
            if own:
                code, cell = "", None
            how = (code, message, cell, own or asked)
            if self._background is None:
                self._try(self._checkpoint, *how)
            elif self._waiting:
                self._waiting.append(how)
            elif self._pure and not self._code and self._saved_last():
                self._background.same(self._job(code, message, cell, anew=False))
            elif not (self._background.wait(0) and self._is_quick()) and self._can_wait():
                self._waiting.append(how)
            else:
                self._try(self._begin_save, *how)

    def _is_quick(self) -> bool:
        """Tell whether there are no figures that a save may draw."""
        return not _figures.figures_in(self._items())

    def _can_wait(self) -> bool:
        """Tell whether what is there now will be there later, and can be saved then."""
        return not _around.unnamed_code() and self._host.soon(self._between_cells)

    def _saved_last(self) -> bool:
        """Tell whether the last save has succeeded, as far as it is known."""
        self._see(0)
        return self._saved and not self._failed

    def _after_seconds(self, message: str | None, cell: Cell, if_changed: bool) -> None:
        """Save what a script has done by now; never raise."""
        with self._lock:
            if not self._detached and not self._paused:
                self._try(self._checkpoint, "", message, cell, if_changed)

    def _try(
        self,
        save: Callable[..., object],
        code: str,
        message: str | None = None,
        cell: Cell | None = None,
        if_changed: bool = False,
    ) -> None:
        """Save, or say in one line why not; the next save then has what this one has not."""
        try:
            save(code or None, message=message, cell=cell, if_changed=if_changed)
        except KeyboardInterrupt:
            self._fail("interrupted")
        except Exception as error:
            self._fail(_why(error))

    def _fail(self, why: str) -> None:
        self._failed = True
        self._say(self._host.warn, f"not saved: {why}; the next save has all of it")

    def save(self, message: str | None = None) -> None:
        """Save now, with a message."""
        with self._lock:
            self._check()
            self._concern(None)
            checkpoint = self._checkpoint(message=message)
            self._asked = True
            self._host.say(f"saved {checkpoint.number}")

    def skip(self) -> None:
        """Do not save after this cell; the next save has what it did."""
        self._check()
        self._skipping = True

    def pause(self) -> None:
        """Save nothing until `resume`."""
        self._check()
        self._paused = True
        self._host.say(f"paused: {self._how('resume')} saves again")

    def resume(self) -> None:
        """Save after every cell again."""
        self._check()
        self._paused = False
        self._host.say("saving after every cell")

    def detach(self) -> None:
        """Save no more, and let others have the branch."""
        with self._lock:
            self._check()
            self._detach()
            self._host.say(f"detached from {self.session.name}")

    def _detach(self) -> None:
        self._finish()
        self._detached = True
        self._host.leave()
        self._release()

    def _check(self) -> None:
        if self._detached:
            raise Error(f"detached from {self.session.name}: attach again")
        self._finish()

    # ---- looking

    def log(self, most: int = _LOGGED) -> _views.Table:
        """Show the newest checkpoints of all branches, and how they descend from each other."""
        self._finish()
        last = self.session._state()[0]
        numbers = range(last, max(last - most, 0), -1)
        refs: dict[int, list[str]] = {}
        for kind in (self.session.branches, self.session.tags):
            for name, number in kind.items():
                refs.setdefault(number, []).append(name)
        found = []
        for number in numbers:
            try:
                found.append(self.session.checkpoint(number))
            except NotFound:  # it was removed
                continue
        return _views.log(found, self._at, refs, max(last - most, 0))

    def status(self) -> _views.Table:
        """Show where this namespace is, and what of it is not saved."""
        self._finish()
        rows = [
            ("session", f"{self.session.name} in {self.session.store.path}"),
            ("branch", self._claim.branch if self._claim else "the next save begins one"),
        ]
        if self._at:
            at = self.session.checkpoint(self._at)
            took = sum(at.stats.seconds.values())
            written = _views.size(at.stats.bytes_written)
            rows.append(("at", f"{at.number}, {_views.moment(at.time)}, {_views.cell_name(at)}"))
            rows.append(("saved", f"{len(at.variables)} variables, {written} written"))
            rows.append(("took", _views.duration(took)))
            rows.extend(("not saved", f"{name}: {why}") for name, why in at.unsaved.items())
        if self._at and not self._saved:
            rows.append(("", f"nothing of it is here yet: {self._how('checkout')} brings it back"))
        if self._paused or self._detached:
            rows.append(("", "detached" if self._detached else "paused"))
        return _views.Table("", ("", ""), rows)

    def diff(self, a: Revision = None, b: Revision = None) -> _views.Table:
        """Show what differs between two checkpoints; from `a` to here, or from the parent to here.

        Parameters
        ----------
        a, b : int, str or Checkpoint, optional
        """
        self._finish()
        after = self._revision(b)
        before = self._parent(after) if a is None else self._revision(a)
        return _views.diff(before, after, after.diff(before))

    def _revision(self, at: Revision) -> Checkpoint:
        if at is None or at == "head":
            at = self._at
            if not at:
                raise NotFound(f"{self.session.name} has no checkpoint yet")
        if isinstance(at, str) and at.isdecimal():
            at = int(at)
        return self.session._find_own(at)

    # ---- moving

    def checkout(self, at: Revision = None, rerun: bool = False) -> None:
        """Make the namespace what it was at a checkpoint.

        What is the same in both is not touched, and what is replaced shares objects with it as it
        did. The state left is saved first.

        Parameters
        ----------
        at : int, str or Checkpoint, optional
            None: what was there when this process attached, for example after a crash.
        rerun : bool
            Run the cells again that made what could not be saved.
        """
        with self._lock:
            self._check()
            restore = at is None
            if restore and not self._found:
                raise NotFound(f"{self.session.name} was new: checkout NUMBER goes to a checkpoint")
            target = self._revision(self._found if restore else at)
            branch = at if isinstance(at, str) and at in self.session.branches else None
            met = self._leave_saved("before checkout", target)
            self._go(target, met, branch=branch, reset=restore, rerun=rerun)

    def undo(self, steps: int = 1) -> None:
        """Go back to before the last cell that changed something; the log keeps what is undone."""
        with self._lock:
            self._check()
            way = self._way_back(steps) if self._saved else []
            met = self._leave_saved("before undo", *way[-2:])
            if not way or way[0].number != self._at:  # one step more: that was not saved
                way = self._way_back(steps)
            while len(way) <= steps:  # says why there is none
                way.append(self._before_change(way[-1]))
            redo = [*self._redo, *(checkpoint.number for checkpoint in way[:-1])]
            self._go(way[-1], met, reset=True)
            self._redo = redo

    def _way_back(self, steps: int) -> list[Checkpoint]:
        """List what is here, and where undoing leads; fewer if that comes to the first one."""
        way = [self._revision(None)]
        with contextlib.suppress(Error):
            for _ in range(steps):
                way.append(self._before_change(way[-1]))
        return way

    def _before_change(self, checkpoint: Checkpoint) -> Checkpoint:
        while (parent := self._parent(checkpoint)) is not None:
            if checkpoint.number not in self._same and checkpoint.diff(parent):
                return parent
            checkpoint = parent
        raise Error(f"nothing to undo: {checkpoint.number} is the first checkpoint")

    def _parent(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """Give the parent, unless it was removed from the store."""
        with contextlib.suppress(NotFound):
            return self.session.checkpoint(checkpoint.parents[0]) if checkpoint.parents else None
        return None

    def redo(self, steps: int = 1) -> None:
        """Go forward to what was undone, as long as nothing was changed since."""
        with self._lock:
            self._check()
            undone = self._redo[-steps:] if len(self._redo) >= max(steps, 1) else []
            target = self.session.checkpoint(undone[0]) if undone else None
            met = self._leave_saved("before redo", *([target] if target else []))
            if target is None or not self._redo:  # what is here now was not saved
                raise Error("nothing to redo")
            redo = self._redo[:-steps]
            self._go(target, met, reset=True)
            self._redo = redo

    def _leave_saved(self, message: str, *targets: Checkpoint) -> _core.Met | None:
        """Save what is here, if it is not in a checkpoint yet.

        Gives the objects that are now where something may refer to in one of the targets.
        """
        pages = b"".join(target._core.pages() for target in targets) if self._saved else b""
        if pages:
            self._concern(None)  # what is not looked at cannot be told of
        if self._saved or self._items():
            self._checkpoint(message=message, if_changed=True, pages=pages)
        met, self.session._met = self.session._met, None
        return met

    def _go(
        self,
        target: Checkpoint,
        met: _core.Met | None,
        branch: str | None = None,
        reset: bool = False,
        rerun: bool = False,
    ) -> None:
        here = self.session.checkpoint(self._at) if self._saved else None
        loaded, gone = self._fetch(here, target, met)
        note = self._move(target, branch, reset)  # until here a failure leaves all as it is
        self._concern(None)
        self._put(target, loaded, gone)
        session, store = self.session.name, self.session.store
        store._bases[session] = {n: bytes.fromhex(v.content) for n, v in target.variables.items()}
        store._branches[session] = self._claim.branch if self._claim else None
        self._saved, self._skipping = True, False
        self._told = dict(target.unsaved)
        if loaded:
            self._loaded = target
            if rerun or not self._commands:  # what comes next in the cell may change it
                self._settle()
        self._asked = True
        self._redo.clear()
        known = here.variables if here else {}
        done = (
            ("replaced", [n for n in loaded if n in known]),
            ("brought", [n for n in loaded if n not in known]),
            ("removed", gone),
        )
        parts = [f"{what} {_views.names(which)}" for what, which in done if which]
        told = f"at {_address(target)}: {', '.join(parts) or 'nothing differs'}"
        self._host.say("; ".join(filter(None, (told, note))))
        self._miss(target, rerun)

    def _settle(self) -> None:
        """Save what was loaded, if that is not what it was: libraries may copy what they load."""
        target, self._loaded = self._loaded, None
        if target is None:
            return
        redo = list(self._redo)  # it is still what was undone
        self._try(self._checkpoint, "", f"checkout {target.number}", if_changed=True)
        if self._at != target.number:
            self._same.add(self._at)
        self._redo = redo

    def _fetch(
        self, here: Checkpoint | None, target: Checkpoint, met: _core.Met | None
    ) -> tuple[dict[str, Any], list[str]]:
        """Load what differs from `here`, which is the namespace; and tell what is to be removed."""
        old = here.variables if here else {}
        gone = [name for name in old if name not in target.variables]
        for name in here.unsaved if here else ():
            kept = name in target.unsaved and self._maker(here, name) == self._maker(target, name)
            if name not in target.variables and not kept:
                gone.append(name)
        loaded = _returning.load(self.session, self._namespace, here, target, met)
        if met is not None:
            met.clear()  # what runs from now on may let go of these objects
        return loaded, [name for name in gone if name in self._namespace]

    def _put(self, target: Checkpoint, loaded: dict[str, Any], gone: list[str]) -> None:
        namespace = self._namespace
        for name in gone:
            del namespace[name]
        again = any(name not in namespace for name in loaded)
        for name, value in loaded.items():
            if name not in namespace or not _summary.same_atom(namespace[name], value):
                namespace[name] = value
        if again:
            self._order(target)

    def _order(self, target: Checkpoint) -> None:
        """Put the variables in their order: of what is shared, the first one has it."""
        namespace = self._namespace
        for name in target.variables:
            if name in namespace:
                namespace[name] = namespace.pop(name)

    def pull(self) -> None:
        """Bring in what other processes, or files put into ``work/``, have done on this branch."""
        with self._lock:
            self._check()
            self._leave_saved("before pull")
            branch = self._claim.branch if self._claim else None
            if branch is None or branch not in self.session.branches:
                raise Error("there is nothing to pull: this is no branch yet")
            self._concern(None)
            changed = self.session.pull(self._namespace, branch)
            self._at, self._saved = self.session.branches[branch], True
            self.session.store._branches[self.session.name] = branch
            self._host.say(f"pulled {_views.names(changed)}" if changed else "nothing to pull")

    # ---- what could not be saved

    def _maker(self, checkpoint: Checkpoint | None, name: str) -> int | None:
        """Find the checkpoint of the cell that made what could not be saved."""
        found = None
        while checkpoint is not None and name in checkpoint.unsaved:
            found = checkpoint
            checkpoint = self._parent(checkpoint)
        return found.number if found else None

    def _miss(self, target: Checkpoint, rerun: bool) -> None:
        """Name what `target` had and could not keep; run the cells that made it again."""
        missing = {n: self._maker(target, n) for n in target.unsaved if n not in self._namespace}
        makers = sorted({number for number in missing.values() if number is not None})
        cells = {number: self.session.checkpoint(number) for number in makers}
        if missing and not rerun:
            listed = [f"{n} (made by {_address(cells[m])})" for n, m in missing.items() if m]
            again = self._how("checkout --rerun", "checkout(rerun=True)")
            self._host.say(
                f"not saved then, and so not here: {_views.names(listed)}; {again} runs these again"
            )
        for number, made in cells.items() if rerun else ():
            self._host.say(f"running {_address(made)} again")
            if made.code is None:
                self._host.warn(f"{number} has no code: {_views.names(missing)} stays missing")
                continue
            try:
                self._host.run(_without_commands(made.code))
            except Exception as error:
                self._host.warn(f"{_address(made)} failed: {describe(error)}")
            finally:
                self._concern(None)  # whatever it came to

    # ---- names, and files

    def branch(self, name: str) -> None:
        """Begin a branch here, and go on with it."""
        with self._lock:
            self._check()
            self._leave_saved("before branch")
            if name in self.session.branches:
                raise Error(f"there is a branch {name!r}: checkout {name} goes there")
            if not self._at:
                raise NotFound(f"{self.session.name} has no checkpoint yet")
            self._begin_branch(name)
            self.session.store._branches[self.session.name] = name
            self._host.say(f"on the branch {name}, from {self._at}")

    def tag(self, name: str, at: Revision = None) -> None:
        """Give a checkpoint a name: this one, or another."""
        with self._lock:
            self._check()
            if at is None:
                self._leave_saved("before tag")
            target = self.session.tag(name, self._revision(at))
            self._host.say(f"{name} is {_address(target)}")

    def mount(self, directory: str) -> None:
        """Show the store as files in a directory; ``chipmink umount DIR`` ends that."""
        command = [find_command(), "mount", "--store", self.session.store.path, directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StoreError(done.stderr.strip().removeprefix("chipmink: ") or "mount failed")
        self._host.say(f"{directory}/sessions/{self.session.name}")

    def __repr__(self) -> str:
        """Give session, place and state."""
        state = ", detached" if self._detached else ", paused" if self._paused else ""
        return f"<Attachment {self.session.name}@{self._at}{state}>"


def _address(checkpoint: Checkpoint) -> str:
    cell = _views.cell_name(checkpoint)
    return f"{checkpoint.number} ({cell})" if cell else str(checkpoint.number)


def _without_commands(code: str) -> str:
    """Leave out the lines that are commands of ours: what they did, a checkout does."""
    ours = ("%chipmink", "%%chipmink")
    lines = code.splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith(ours))


def describe(error: BaseException) -> str:
    """Give an exception in one line."""
    try:
        text = str(error).strip()
    except Exception:  # its __str__ may be the user's
        text = ""
    name = type(error).__name__
    return _views.short(f"{name}: {text.splitlines()[0]}" if text else name, 500)


def _why(error: Exception) -> str:
    """Give in one line why a save failed, and what to do about it."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if isinstance(error, Error) else f"{type(error).__name__}: {text}"


__all__ = ["Attachment", "Host", "describe"]
