# SPDX-License-Identifier: Apache-2.0
"""Chipmink keeps every state of a Python session, cheaply, and shows all of them as ordinary files.

>>> import chipmink
>>> with chipmink.open() as store:
...     session = store.session("analysis")
...     checkpoint = session.save(globals(), message="after cleaning")
...     old = session.load(at=checkpoint.number, names=["df"])

In a notebook, ``%load_ext chipmink`` and ``%chipmink attach analysis`` do it after every cell; in a
script, ``chipmink.attach()``.

Saving never runs stored code; loading unpickles, and so runs what is stored: load what you trust.
"""

from typing import TYPE_CHECKING, Any

from . import reducers
from ._checkpoint import Cell, Checkpoint, Diff, Stats, Variable
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
from ._upkeep import Collection, Pruning, Verification

if TYPE_CHECKING:
    from ._attachment import Attachment
    from ._notebook import attach

__all__ = [
    "Arrived",
    "Attachment",
    "Busy",
    "Cell",
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
    "Pruning",
    "ReadOnly",
    "Session",
    "Stats",
    "Store",
    "StoreError",
    "StoreNotFound",
    "Variable",
    "Verification",
    "__version__",
    "attach",
    "load",
    "open",
    "reducers",
]


def __getattr__(name: str) -> Any:
    """Import what only notebooks and scripts that attach need, when they do."""
    if name == "attach":
        from ._notebook import attach

        return attach
    if name == "Attachment":
        from ._attachment import Attachment

        return Attachment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext chipmink``: adds ``%chipmink`` to IPython."""
    from ._magics import register

    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext chipmink``: detaches."""
    from ._magics import unregister

    unregister(shell)
