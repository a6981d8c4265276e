# SPDX-License-Identifier: Apache-2.0
"""Where the `chipmink` command is, which serves stores."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ._errors import StoreError


def _places() -> Iterator[Path]:
    yield Path(__file__).parents[2] / "tools" / "chipmink"  # in a build tree, the one that fits
    yield Path(sysconfig.get_path("scripts")) / "chipmink"
    yield Path(sys.executable).with_name("chipmink")
    if os.name == "posix":
        yield Path(sysconfig.get_path("scripts", "posix_user")) / "chipmink"


def find_command() -> str:
    """Give the command: ``$CHIPMINK_COMMAND``, or what was installed with this package.

    Raises
    ------
    StoreError
        There is none.
    """
    named = os.environ.get("CHIPMINK_COMMAND")
    if named:
        return named
    for place in _places():
        if os.access(place, os.X_OK):
            return str(place)
    found = shutil.which("chipmink")
    if found is None:
        raise StoreError(
            "the chipmink command, which serves stores, is not installed beside this package: set "
            "CHIPMINK_COMMAND to it, or open the store with embedded=True"
        )
    return found


def embedded_by_default() -> bool:
    """Tell whether ``$CHIPMINK_EMBEDDED`` asks for stores without a server."""
    return os.environ.get("CHIPMINK_EMBEDDED", "0") not in ("", "0")
