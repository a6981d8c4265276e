# SPDX-License-Identifier: Apache-2.0
"""Saves that are written while the program goes on."""

from __future__ import annotations

import atexit
import errno
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from . import _core
from ._errors import StoreError

if TYPE_CHECKING:
    from ._checkpoint import Checkpoint

COPY_MOST = 1 << 30  # bytes of buffers copied by `protect`; for more it waits


class PendingSave:
    """A save that is being written. Made by `Session.begin_save`.

    What the variables consist of has been taken in, but for the memory of large buffers (arrays),
    which is being read: before anything may change that, call `protect`. It is enough to do so
    before the next piece of the program's code runs.

    Safe to use from several threads.

    Attributes
    ----------
    unsaved : Mapping[str, str]
        What cannot be saved, each name with the reason.
    """

    def __init__(
        self,
        saving: _core.Saving,
        finish: Callable[[_core.SaveResult], Checkpoint],
        repeat: Callable[[], Checkpoint] | None,
        later: bool = False,
    ) -> None:
        self.unsaved: Mapping[str, str] = MappingProxyType(saving.unsaved())
        self._awaiting = threading.Lock()  # held by the one who waits for the end of it, as long
        self._lock = threading.Lock()  # never for long: others may want to protect
        self._saving: _core.Saving | None = saving
        self._finish = finish
        self._repeat: Callable[[], Checkpoint] | None = repeat  # the variables have not changed yet
        self._checkpoint: Checkpoint | None = None
        self._error: BaseException | None = None
        self._told = False
        self._process = os.getpid()
        if not later:
            atexit.register(self._end)

    def _start(self, message: str | None, code: str | None) -> None:
        """Go on with a save that was begun for later."""
        with self._lock:
            assert self._saving is not None
            try:
                self._saving.start(message, code)
            except BaseException:
                self._saving = None
                raise
        atexit.register(self._end)

    def _settle(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds for the end of it; whether it has ended."""
        if os.getpid() != self._process:
            raise StoreError(
                f"the save was begun by the process {self._process}: wait for it there"
            )
        most = threading.TIMEOUT_MAX
        if timeout is not None:
            most = min(max(timeout, 0.0), most)
        end = time.monotonic() + most
        if not self._awaiting.acquire(timeout=most):
            return self._saving is None
        try:
            saving = self._saving
            if saving is None:
                return True
            if not saving.over(max(0.0, end - time.monotonic()) * 1000):
                return False
            with self._lock:
                try:
                    result = saving.wait(0, False)
                    assert result is not None  # it is over
                    self._checkpoint = self._finish(result)
                    self._repeat = None
                except StoreError as error:
                    self._error = error
                self._saving = None
            atexit.unregister(self._end)
            return True
        finally:
            self._awaiting.release()

    def done(self) -> bool:
        """Tell whether it has ended: `wait` does not wait any more."""
        return self._settle(0)

    def wait(self, timeout: float | None = None) -> Checkpoint:
        """Wait until the checkpoint is on disk. Ctrl-C ends the waiting, not the save.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Returns
        -------
        Checkpoint

        Raises
        ------
        TimeoutError
            It is not on disk yet.
        StoreError
            The save has failed. What was saved before still stands.
        """
        if not self._settle(timeout):
            raise TimeoutError("the checkpoint is not on disk yet")
        with self._lock:
            repeat, self._repeat = self._repeat, None
            error, self._told = self._error, True
        if error is None and self._checkpoint is not None:
            return self._checkpoint
        # The server ended, or objects were removed: mended, if nothing has changed since.
        mendable = (errno.ECONNRESET, errno.ESTALE)
        if repeat and isinstance(error, StoreError) and error.errno in mendable:
            self._checkpoint, self._error = repeat(), None
            return self._checkpoint
        raise error if error is not None else StoreError("the save was given up")

    def protect(self) -> int:
        """Let everything change that was saved: to be called before code that may do so runs.

        Copies what has not been read of large buffers, at the speed of memory, up to one gigabyte;
        for more it waits until that is written.

        Returns
        -------
        int
            Bytes copied.
        """
        return self._protect(COPY_MOST, []) or 0

    def _protect(self, most: int, spared: list[object]) -> int | None:
        """Do that but for the memory of some objects, which nothing can get hold of.

        None: more than `most` bytes would have to be kept in memory until it is begun.
        """
        with self._lock:
            self._repeat = None
            return 0 if self._saving is None else self._saving.detach(most, spared)

    def _make_way(self, busy: bool) -> None:
        """Work with one thread only while others are busy."""
        saving = self._saving
        if saving is not None:
            saving.make_way(busy)

    def _end(self) -> None:
        """Wait for the end of it, before something else is done to the store."""
        if os.getpid() != self._process:
            return
        self._settle(None)
        if self._error is not None and not self._told:
            self._told = True
            warnings.warn(
                f"a save has failed that was begun before: {self._error}; the next one has all "
                "that it had, and what has changed since",
                RuntimeWarning,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        """Tell how it stands."""
        if not self.done():
            return "<PendingSave, being written>"
        if self._error is not None:
            return f"<PendingSave, failed: {self._error}>"
        return f"<PendingSave, on disk: {self._checkpoint!r}>"


__all__ = ["PendingSave"]
