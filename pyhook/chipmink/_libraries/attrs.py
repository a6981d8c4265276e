# SPDX-License-Identifier: Apache-2.0
"""Classes that attrs writes methods for: ``__hash__`` has the hash of a text in it.

That differs from process to process, and so does the code. It only has to be the same for all
instances, so another number stands in its place: one made of the text itself.
"""

from __future__ import annotations

import hashlib
import linecache
import re
from types import CodeType

_FILE = re.compile(r"<attrs generated methods (.*?)(?:-\d+)?>")  # a number: there are several


def without_hash(code: CodeType) -> CodeType:
    """Give code that is the same in every process, for a ``__hash__`` of attrs; else the code."""
    found = _FILE.fullmatch(code.co_filename) if code.co_name == "__hash__" else None
    if found is None:
        return code
    text = f"<attrs generated hash {found[1]}>"
    number = str(hash(text))
    source = "".join(linecache.getlines(code.co_filename))
    if f" {number}," not in source:  # it has been loaded, and has the other one
        return code
    steady = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
    module = compile(source.replace(f" {number},", f" {steady},"), code.co_filename, "exec")
    for made in _within(module):
        if (made.co_name, made.co_firstlineno) == (code.co_name, code.co_firstlineno):
            return made if made.co_freevars == code.co_freevars else code
    return code


def _within(code: CodeType) -> list[CodeType]:
    parts = [part for part in code.co_consts if isinstance(part, CodeType)]
    return [code, *(found for part in parts for found in _within(part))]
