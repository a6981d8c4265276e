# SPDX-License-Identifier: Apache-2.0
"""Exceptions. All derive from `Error`, and from the builtin one that a caller would expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Base of all that this package raises; ``str()`` is a sentence that names the object."""

    def __str__(self) -> str:
        """Give the sentence alone, without quotes as `KeyError`, or a number as `OSError`."""
        return str(self.args[0]) if self.args else ""


class StoreError(Error, OSError):
    """The store could not be read or written; `errno` says why, as for any `OSError`."""


class StoreNotFound(StoreError, FileNotFoundError):
    """There is no store at that path."""


class Busy(StoreError):
    """A process has this store open for writing, embedded; the message names it."""


class ReadOnly(StoreError):
    """The store is open for reading only, or cannot be written at all (a checkpoint directory)."""


class FormatError(StoreError):
    """The store was made by a newer version of Chipmink."""


class Arrived(UserWarning):
    """Other processes have changed a session that this one saves to."""


class NotFound(Error, KeyError):
    """No such session, checkpoint, branch, tag or variable."""


class InvalidName(Error, ValueError):
    """Not a name that a session, branch or tag can have, or not a revision."""


class LoadError(Error):
    """Variables are there but could not be unpickled, for example because a module is missing.

    Attributes
    ----------
    loaded : dict
        The variables that were asked for and could be loaded.
    failed : dict
        What was wrong with each of the others: name to exception.
    """

    def __init__(
        self,
        message: str,
        loaded: Mapping[str, Any] | None = None,
        failed: Mapping[str, BaseException] | None = None,
    ) -> None:
        super().__init__(message)
        self.loaded: dict[str, Any] = dict(loaded or {})
        self.failed: dict[str, BaseException] = dict(failed or {})


class Corrupt(LoadError):
    """Stored bytes are damaged; the message names the object, and the variables if it is a load.

    After a load of several variables, `loaded` holds those that are not damaged.
    """
