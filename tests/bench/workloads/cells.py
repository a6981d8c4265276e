# SPDX-License-Identifier: Apache-2.0
"""Notebooks and scripts, executed cell by cell as a kernel does it.

They are Python files in the percent format (``# %% Title`` begins a cell), or ``.ipynb`` files. A
cell that is called 'Parameters' sets ``SCALE`` and ``SEED``; what the caller wants replaces them
afterwards. A cell whose title ends in ``(x 8)`` is executed eight times: the body of a loop that
saves at its end.
"""

from __future__ import annotations

import json
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """A cell: what it is called, how often it runs, its code."""

    title: str
    times: int
    code: str


_REPEATED = re.compile(r" \(x (\d+)\)$")


def read_cells(path: Path) -> list[Cell]:
    """Take a file in the percent format apart; what stands before the first cell is left out."""
    found = []
    for part in re.split(r"^# %% ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, code = part.partition("\n")
        repeated = _REPEATED.search(title)
        times = int(repeated[1]) if repeated else 1
        found.append(Cell(_REPEATED.sub("", title), times, code))
    return found


def read_notebook(path: Path) -> list[Cell]:
    """Read the code cells of a notebook, up to the one that its author marked as a mistake."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        if "overwrites" in cell["metadata"]:
            break
        lines = "".join(cell["source"]).splitlines()
        code = "\n".join(line for line in lines if not line.startswith("%"))
        found.append(Cell(lines[0].removeprefix("# "), 1, code))
    return found


def fresh_main() -> types.ModuleType:
    """Put an empty module in the place of ``__main__``, where notebooks define things."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return module


def in_turn(cells: list[Cell], scale: float, seed: int) -> Iterator[tuple[int, Cell]]:
    """Give the cells as they are to be run, with their numbers: repeated, and as wanted."""
    for number, cell in enumerate(cells, 1):
        code = cell.code
        if cell.title == "Parameters":
            code += f"\nSCALE, SEED = {float(scale)!r}, {seed!r}\n"
        times = cell.times if scale >= 1 else max(1, round(cell.times * scale))
        yield from [(number, Cell(cell.title, 1, code))] * times


def _run(cells: list[Cell], scale: float, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    variables = vars(fresh_main())
    for number, cell in in_turn(cells, scale, seed):
        exec(compile(cell.code, f"<cell {number}>", "exec"), variables)
        names = [name for name in variables if not name.startswith("__")]
        yield cell.title, {name: variables[name] for name in names}


def steps(path: Path, scale: float, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run a file in the percent format."""
    return _run(read_cells(path), scale, seed)


def notebook_steps(path: Path, scale: float, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run a notebook; it has its own seed and size."""
    return _run(read_notebook(path), scale, seed)
