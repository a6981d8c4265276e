# SPDX-License-Identifier: Apache-2.0
"""Chipmink keeps every state of a Python session, cheaply, and shows all of them as ordinary files.

>>> import chipmink
>>> with chipmink.open() as store:
...     session = store.session("analysis")
...     checkpoint = session.save(globals(), message="after cleaning")
...     old = session.load(at=checkpoint.number, names=["df"])

Saving never runs stored code; loading unpickles, and so runs what is stored: load what you trust.
"""

from ._checkpoint import Checkpoint, Diff, Stats, Variable
from ._core import __version__
from ._errors import (
    Arrived,
    Busy,
    Corrupt,
    Error,
    FormatError,
    InvalidName,
    LoadError,
    NotFound,
    ReadOnly,
    StoreError,
    StoreNotFound,
)
from ._files import load
from ._pending import PendingSave
from ._store import Session, Store, open
from ._upkeep import Collection, Verification

__all__ = [
    "Arrived",
    "Busy",
    "Checkpoint",
    "Collection",
    "Corrupt",
    "Diff",
    "Error",
    "FormatError",
    "InvalidName",
    "LoadError",
    "NotFound",
    "PendingSave",
    "ReadOnly",
    "Session",
    "Stats",
    "Store",
    "StoreError",
    "StoreNotFound",
    "Variable",
    "Verification",
    "__version__",
    "load",
    "open",
]
