# SPDX-License-Identifier: Apache-2.0
"""Classes that attrs writes methods for: ``__hash__`` has the hash of a text in it.

That differs from process to process, and so does the code. It is stored as what it is the hash of:
on loading it is the one that the process has, and that attrs itself would write there.
"""

from __future__ import annotations

import hashlib
import linecache
import re
from types import CodeType
from typing import Any

from .memory import Call

_FILE = re.compile(r"<attrs generated methods (.*?)(?:-\d+)?>")  # a number: there are several


def without_hash(code: CodeType) -> CodeType:
    """Give code that is the same in every process, for a ``__hash__`` of attrs; else the code.

    It has another number in place of the hash, see `constants`, and is laid out for that.
    """
    text = _hashed_text(code)
    number = hash(text)
    if text is None or not any(_is(constant, number) for constant in code.co_consts):
        return code
    source = "".join(linecache.getlines(code.co_filename))  # not there where it has been loaded
    if f" {number}," in source:
        written = source.replace(f" {number},", f" {_steady(text)},")
        for made in _within(compile(written, code.co_filename, "exec")):
            if (made.co_name, made.co_firstlineno) == (code.co_name, code.co_firstlineno):
                return made
    steady = (_steady(text) if _is(constant, number) else constant for constant in code.co_consts)
    return code.replace(co_consts=tuple(steady))


def constants(code: CodeType) -> tuple[Any, ...]:
    """Give the constants of such code, the hash as a call that gives it."""
    text = _hashed_text(code)
    if text is None:
        return code.co_consts
    number = _steady(text)
    return tuple(Call(hash, text) if _is(part, number) else part for part in code.co_consts)


def _hashed_text(code: CodeType) -> str | None:
    found = _FILE.fullmatch(code.co_filename) if code.co_name == "__hash__" else None
    return f"<attrs generated hash {found[1]}>" if found else None


def _is(constant: object, number: int) -> bool:
    return type(constant) is int and constant == number


def _steady(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def _within(code: CodeType) -> list[CodeType]:
    parts = [part for part in code.co_consts if isinstance(part, CodeType)]
    return [code, *(found for part in parts for found in _within(part))]
