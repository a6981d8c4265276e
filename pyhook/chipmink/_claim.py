# SPDX-License-Identifier: Apache-2.0
"""Which process works on which branch of a session: a lock that ends with the process."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
from typing import IO

# This process's own: a lock of fcntl's ends when any file object for the same file is closed.
_mine: dict[str, int] = {}


class Claim:
    """A branch that this process works on, until `release` or until it ends, however it ends.

    A file in the store's directory is locked; what it holds says by whom.

    Attributes
    ----------
    branch : str
    """

    def __init__(self, branch: str, path: str, file: IO[str]) -> None:
        self.branch = branch
        self._path = path
        self._file = file
        self._process = os.getpid()

    def release(self) -> None:
        """Give it back."""
        if self._file.closed or os.getpid() != self._process:
            return
        _mine.pop(self._path, None)
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._file.close()


def claim(store: str, session: str, branch: str) -> Claim | int:
    """Take a branch.

    Returns
    -------
    Claim or int
        An int is the id of the process that has it; 0 if it does not say.
    """
    directory = os.path.join(store, "attached")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    name = hashlib.sha256(f"{session}@{branch}".encode()).hexdigest()[:32]
    path = os.path.join(directory, name)
    if _mine.get(path) == os.getpid():
        return os.getpid()
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = _owner(file)
            file.close()
            return owner
        if _is_at(file, path):
            break
        file.close()  # it was released and removed between opening and locking
    _mine[path] = os.getpid()
    file.truncate()
    facts = {"session": session, "branch": branch, "process": os.getpid(), "command": sys.argv[:1]}
    json.dump(facts, file)
    file.flush()
    return Claim(branch, path, file)


def _is_at(file: IO[str], path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(file: IO[str]) -> int:
    try:
        return int(json.load(file)["process"])
    except (ValueError, LookupError, TypeError):
        return 0  # it is being written
