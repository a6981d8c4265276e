# SPDX-License-Identifier: Apache-2.0
"""Writes docs/LIBRARIES.md from what the tests found."""

from __future__ import annotations

import sys
from typing import Any

from cases import CASES, Case

BYTES_MOST = 1000  # of an unchanged second save

HEAD = """\
# Libraries

Written by `tools/check --libraries` with CPython {python}: do not edit. {classes} classes of
{libraries} libraries, each made, saved, saved again, changed, saved and loaded; then made, saved
and loaded by another process, with another hash seed.

- **saved**: it was saved, and a second save saw no change where there was none;
- **change**: a small change was seen, and is what is loaded afterwards;
- **again**: bytes that the unchanged second save wrote: the record of a checkpoint. Less than
  1 kB is the aim;
- **new process**: bytes that the same program wrote when it was run again, in a session of its own:
  what is equal is there already;
- **loaded**: what was loaded, here and in the other process, was equal.

{missed}

| library | version | class | saved | change | again | new process | loaded | limitation |
|---|---|---|---|---|---:|---:|---|---|
"""


def missed(case: Case, result: dict[str, Any]) -> list[str]:
    """Tell which saves of something unchanged wrote too much."""
    found = []
    for key, what in (("again", "in the same process"), ("anew", "in a new process")):
        if result.get(key, 0) >= BYTES_MOST:
            found.append(f"{case.library} {case.name}: {result[key]:,} B {what}: {case.limitation}")
    return found


def render(results: dict[str, dict[str, Any]]) -> str:
    """Give the document."""
    tried = [case for case in CASES if case.id in results]
    lines = [_line(case, results[case.id]) for case in tried]
    too_much = [line for case in tried for line in missed(case, results[case.id])]
    head = HEAD.format(
        python=".".join(map(str, sys.version_info[:3])),
        classes=len(tried),
        libraries=len({case.library for case in tried if case.library != "Python"}),
        missed="Unchanged, and more than 1 kB written all the same:\n\n"
        + "\n".join(f"- {line}" for line in too_much)
        if too_much
        else "No unchanged save wrote more than 1 kB.",
    )
    return head + "\n".join(lines) + "\n"


def _line(case: Case, result: dict[str, Any]) -> str:
    def tell(key: str) -> str:
        known = result.get(key)
        return "-" if known is None else "yes" if known else "no" if case.broken else "**no**"

    def size(key: str) -> str:
        return f"{result[key]:,} B" if key in result else "-"

    cells = (
        case.library,
        case.version(),
        f"`{case.name}`",
        tell("saved"),
        tell("change"),
        size("again"),
        size("anew"),
        tell("loaded"),
        case.limitation,
    )
    return "| " + " | ".join(cells) + " |"
