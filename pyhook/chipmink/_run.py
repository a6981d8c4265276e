# SPDX-License-Identifier: Apache-2.0
"""`chipmink run`: a script whose states are kept, without a change to it."""

from __future__ import annotations

import argparse
import os
import sys
import types
from typing import NoReturn

from ._errors import Error
from ._notebook import attach


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chipmink run",
        description="Run a Python script and keep its states: every few seconds, at its end, and "
        "when an exception ends it.",
    )
    parser.add_argument("--name", help="of the session; the script's name without it")
    parser.add_argument("--store", metavar="DIR", help="$CHIPMINK_STORE or ~/.chipmink")
    parser.add_argument("--branch", help="to work on; the session's present one")
    parser.add_argument(
        "--every", type=float, default=60, metavar="SECONDS", help="60; 0: only at the end"
    )
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    return parser


def main() -> NoReturn:
    """Run a script as ``python SCRIPT`` does: as ``__main__``, with its own directory first."""
    if sys.argv[1:2] != ["run"]:
        sys.exit(
            "python -m chipmink knows `run SCRIPT`; all else is done by the command `chipmink`"
        )
    arguments = _parser().parse_args(sys.argv[2:])
    path = arguments.script
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.exit(f"chipmink run: {path}: {error.strerror}")
    sys.argv = [path, *arguments.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    before = sys.modules["__main__"]  # kept: what it defines must not be cleared
    script = types.ModuleType("__main__")
    script.__file__ = path
    script.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = script
    try:
        attach(
            arguments.name,
            store=arguments.store,
            branch=arguments.branch,
            namespace=script.__dict__,
            every=arguments.every,
        )
    except Error as error:
        sys.exit(f"chipmink run: {error}")
    status = _run(source, path, script)
    del before
    sys.exit(status)


def _run(source: bytes, path: str, script: types.ModuleType) -> int:
    try:
        exec(compile(source, path, "exec"), script.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        traceback = error.__traceback__
        error = error.with_traceback(traceback.tb_next if traceback else None)
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0
