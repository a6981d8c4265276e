# SPDX-License-Identifier: Apache-2.0
"""Saving behind the back of a notebook: one save in flight, and those that come after it."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from . import _pending
from ._checkpoint import Checkpoint
from ._pending import PendingSave
from ._store import Held, Job, Session


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
    held: Held | None = None
    size: int = 0  # bytes in memory of what was held
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
        self._done: list[Outcome] = []
        self._thread: threading.Thread | None = None

    def begin(self, job: Job) -> PendingSave:
        """Save; it is written after this has returned. Nothing must be going on."""
        pending = self._session._start(job, lambda _: None)
        self._add(_Entry(job._replace(items=None), pending))  # values are not to be kept alive here
        return pending

    def hold(self, job: Job) -> Mapping[str, str] | None:
        """Save when all that goes on is done; everything may change as soon as this has returned.

        Gives what is unsaved; None: it cannot be kept in memory until then, and nothing was done.
        """
        with self._changed:
            room = _pending.COPY_MOST - sum(entry.size for entry in self._queue)
        held = self._session._hold(job, max(room, 0))
        if held is None:
            return None
        unsaved = held.saving.unsaved()
        self._add(_Entry(job._replace(items=None), held=held, size=held.size))
        return unsaved

    def same(self, job: Job) -> None:
        """Make a checkpoint of what was saved last, once that is done."""
        self._add(_Entry(job))

    def protect(self) -> None:
        """Let everything change that is being saved."""
        with self._changed:
            pending = self._queue[0].pending if self._queue else None
        if pending is not None:
            pending.protect()

    def wait(self, seconds: float) -> bool:
        """Wait until all are done, or one has failed; whether that is so."""
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
            if first.pending is not None:  # is repeated, if nothing has changed
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
        while self._queue and self._queue[0].held is None:
            jobs.append(self._queue.popleft().job)
        if self._queue:
            held = self._queue[0]
            code = "\n\n".join(filter(None, (job.code for job in (*jobs, held.job))))
            held.job = held.job._replace(code=code or None)
            jobs = [job._replace(code=None) for job in jobs]
        return [Outcome(job, None, error) for job in jobs]

    def _add(self, entry: _Entry) -> None:
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
        if entry.held is None and entry.pending is None:
            return self._make(entry.job)
        try:
            if entry.held is not None:
                entry.pending = self._session._go_on(entry.job, entry.held)
                entry.held = None
        except Exception as error:
            entry.error = error
            return None
        pending = entry.pending
        assert pending is not None
        pending._settle(None)
        return None if pending._error else Outcome(entry.job, pending._checkpoint, None)

    def _make(self, job: Job) -> Outcome:
        try:
            return Outcome(job, self._session._save(job), None)
        except Exception as error:
            return Outcome(job, None, error)


__all__ = ["Background", "Outcome"]
