# SPDX-License-Identifier: Apache-2.0
"""Saving behind the back of a notebook: one save in flight, and those that come after it."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from . import _core, _pending
from ._checkpoint import Checkpoint
from ._pending import PendingSave
from ._store import Job, Session

_ALL = (1 << 64) - 1  # bytes: as many as there are

# Gives of objects that saves read those which are not to be copied: nothing can get hold of them.
Spare = Callable[[list[_core.Saving]], list[object]]


class Outcome(NamedTuple):
    """What became of a save: a checkpoint, or the reason why there is none."""

    job: Job
    checkpoint: Checkpoint | None
    error: Exception | None


@dataclass
class _Entry:
    """What is to become a checkpoint: of a save in flight or held, else of what was saved last."""

    job: Job
    pending: PendingSave | None = None
    held: bool = False  # it was begun for later, and has not gone on
    size: int = 0  # bytes in memory while it is held
    error: Exception | None = None  # it could not be begun


class Background:
    """The saves of a session that go on while the program does.

    A thread waits for the save in flight, and then makes the checkpoints that come after it: of
    what is held in memory, and of the cells that changed nothing, which have the variables of the
    one before. All methods are called by one thread; `idle` is called by that one when all is done,
    or something has failed.
    """

    def __init__(self, session: Session, idle: Callable[[], None]) -> None:
        self._session = session
        self._idle = idle
        self._changed = threading.Condition()
        self._queue: collections.deque[_Entry] = collections.deque()
        self._failed = False  # the first has
        self._busy = False  # a cell runs
        self._done: list[Outcome] = []
        self._thread: threading.Thread | None = None

    def begin(self, job: Job) -> PendingSave:
        """Save; it is written after this has returned. Nothing must be going on."""
        pending = self._session._start(job, lambda _: None)
        self._add(_Entry(job._replace(items=None), pending))  # values are not to be kept alive here
        return pending

    def hold(self, job: Job) -> PendingSave | None:
        """Save when all that goes on is done; None: that would take long, and nothing was done."""
        pending = self._session._hold(job)
        if pending is not None:
            self._add(_Entry(job._replace(items=None), pending, held=True))
        return pending

    def same(self, job: Job) -> None:
        """Make a checkpoint of what was saved last, once that is done."""
        self._add(_Entry(job))

    def protect(self, spare: Spare | None = None) -> None:
        """Let everything change that is being saved, but for what `spare` gives."""
        with self._changed:
            entries = [entry for entry in self._queue if entry.pending is not None]
        for entry in entries:
            assert entry.pending is not None
            entry.pending._repeat = None  # it has the variables
        savings = [entry.pending._saving for entry in entries if entry.pending]
        spared = spare([saving for saving in savings if saving]) if spare and entries else []
        for entry in entries:
            self._protect(entry, spared)

    def _protect(self, entry: _Entry, spared: list[object]) -> None:
        pending = entry.pending
        assert pending is not None
        with self._changed:
            kept = sum(each.size for each in self._queue)
        size = pending._protect(max(_pending.COPY_MOST - kept, 0), spared)
        if size is None:  # it is too much to be kept: it must be written first
            self.busy(False)
            with contextlib.suppress(KeyboardInterrupt), self._changed:
                self._changed.wait_for(lambda: self._failed or not entry.held)
            if pending._protect(_pending.COPY_MOST, spared) is None:
                pending._protect(_ALL, spared)
        elif entry.held:
            entry.size += size

    def busy(self, busy: bool) -> None:
        """Leave a processor to the program, or have all of them again."""
        with self._changed:
            self._busy = busy
            pending = [entry.pending for entry in self._queue if entry.pending is not None]
        for each in pending:
            each._make_way(busy)

    def wait(self, seconds: float) -> bool:
        """Wait until all are done, or one has failed; whether that is so."""
        if seconds > 0:
            self.busy(False)
        with self._changed:
            return self._changed.wait_for(lambda: self._failed or not self._queue, seconds)

    def outcomes(self, seconds: float) -> list[Outcome]:
        """Give what became of the saves since the last time; wait until all are done."""
        with self._changed:
            self.wait(seconds)
            found, self._done = self._done, []
            if not self._failed:
                return found
            first = self._queue[0]
        error = first.error
        try:
            if first.pending is not None and not first.held:  # repeated, if nothing has changed
                found.append(Outcome(first.job, first.pending.wait(), None))
        except Exception as failure:
            error = failure
        with self._changed:
            self._queue.popleft()
            if error is not None:
                found += self._lost(first, error)
            self._failed = False
            self._changed.notify_all()
        return found + self.outcomes(seconds)

    def _lost(self, first: _Entry, error: Exception) -> list[Outcome]:
        """Give up what failed, and what has its variables; what is held has their code, too."""
        jobs = [first.job]
        while self._queue and self._queue[0].pending is None:
            jobs.append(self._queue.popleft().job)
        if self._queue:
            held = self._queue[0]
            held.job = held.job.after(job.code for job in jobs)
            jobs = [job._replace(code=None) for job in jobs]
        return [Outcome(job, None, error) for job in jobs]

    def _add(self, entry: _Entry) -> None:
        if entry.pending is not None:
            entry.pending._make_way(self._busy)
        with self._changed:
            self._queue.append(entry)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="chipmink", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue and not self._failed)
                first = self._queue[0]
            outcome = self._outcome(first)
            with self._changed:
                self._failed = outcome is None
                if outcome is not None:
                    self._queue.popleft()
                    self._done.append(outcome)
                idle = self._failed or not self._queue
                self._changed.notify_all()
            if idle:
                self._idle()

    def _outcome(self, entry: _Entry) -> Outcome | None:
        """Make a checkpoint; None: that has failed, and others may come after it."""
        pending = entry.pending
        if pending is None:
            return self._make(entry.job)
        try:
            if entry.held:
                self._session._go_on(entry.job, pending)
                with self._changed:
                    entry.held, entry.size = False, 0
                    self._changed.notify_all()
        except Exception as error:
            entry.error = error
            return None
        pending._settle(None)
        return None if pending._error else Outcome(entry.job, pending._checkpoint, None)

    def _make(self, job: Job) -> Outcome:
        try:
            return Outcome(job, self._session._save(job), None)
        except Exception as error:
            return Outcome(job, None, error)


__all__ = ["Background", "Outcome"]
