# SPDX-License-Identifier: Apache-2.0
"""Saving behind the back of a notebook: one save in flight, and the cells that changed nothing."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import NamedTuple

from ._checkpoint import Checkpoint
from ._pending import PendingSave
from ._store import Job, Session


class Outcome(NamedTuple):
    """What became of a save: a checkpoint, or the reason why there is none."""

    job: Job
    checkpoint: Checkpoint | None
    error: Exception | None


class Background:
    """The saves of a session that go on while the program does.

    A thread waits for the save in flight, and then makes the checkpoints of the cells that changed
    nothing meanwhile: they have the variables of that save. All methods are called by one thread;
    `idle` is called by that one when all is done, or something has failed.
    """

    def __init__(self, session: Session, idle: Callable[[], None]) -> None:
        self._session = session
        self._idle = idle
        self._changed = threading.Condition()
        # The first may be a save in flight; those without one are to be made of what it saved.
        self._queue: collections.deque[tuple[Job, PendingSave | None]] = collections.deque()
        self._failed = False  # the first has
        self._done: list[Outcome] = []
        self._thread: threading.Thread | None = None

    def begin(self, job: Job) -> PendingSave:
        """Save; it is written after this has returned. Nothing must be going on."""
        pending = self._session._start(job, lambda _: None)
        self._add(job._replace(items=None), pending)  # values are not to be kept alive here
        return pending

    def same(self, job: Job) -> None:
        """Make a checkpoint of what was saved last, once that is done."""
        self._add(job, None)

    def protect(self) -> None:
        """Let everything change that is being saved."""
        with self._changed:
            pending = self._queue[0][1] if self._queue else None
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
            job, pending = self._queue[0]
        assert pending is not None
        error = None
        try:
            found.append(Outcome(job, pending.wait(), None))  # is repeated, if nothing has changed
        except Exception as failure:
            error = failure
        with self._changed:
            if error is not None:  # what came after it would have the variables of another one
                found += [Outcome(each, None, error) for each, _ in self._queue]
                self._queue.clear()
            else:
                self._queue.popleft()
            self._failed = False
            self._changed.notify_all()
        return found + self.outcomes(seconds)

    def _add(self, job: Job, pending: PendingSave | None) -> None:
        with self._changed:
            self._queue.append((job, pending))
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="chipmink", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue and not self._failed)
                job, pending = self._queue[0]
            outcome = self._make(job) if pending is None else self._await(job, pending)
            with self._changed:
                self._failed = outcome is None
                if outcome is not None:
                    self._queue.popleft()
                    self._done.append(outcome)
                idle = self._failed or not self._queue
                self._changed.notify_all()
            if idle:
                self._idle()

    def _make(self, job: Job) -> Outcome:
        try:
            return Outcome(job, self._session._save(job), None)
        except Exception as error:
            return Outcome(job, None, error)

    @staticmethod
    def _await(job: Job, pending: PendingSave) -> Outcome | None:
        pending._settle(None)
        return None if pending._error else Outcome(job, pending._checkpoint, None)


__all__ = ["Background", "Outcome"]
