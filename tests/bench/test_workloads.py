# SPDX-License-Identifier: Apache-2.0
"""The workloads are what they say, and the same for the same seed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH))

from workloads import WORKLOADS, cells, random_data  # noqa: E402

SYNTHETIC = [name for name, w in WORKLOADS.items() if w.kind in ("synthetic", "patterns")]
IN_CELLS = sorted(BENCH.glob("workloads/*s/*.py"))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_same_seed_same_workload(name: str) -> None:
    def played(seed: int) -> list[tuple[str, bytes]]:
        steps = WORKLOADS[name].steps(0.001, seed)
        return [(title, pickle.dumps(namespace)) for title, namespace in steps]

    first = played(7)
    assert first == played(7)
    assert first != played(8)
    assert len(first) >= 9


def test_rmlist_replaces_ten_and_shares() -> None:
    steps = random_data.rmlist(0.01, 7)
    next(steps)
    _, names = next(steps)
    assert names["alias"] is names["l"]
    assert names["loop"][2] is names["loop"]
    pairs = list(zip(names["l"], names["second"], strict=True))
    assert sum(new is not old for new, old in pairs) == 10


@pytest.mark.parametrize(("touched", "lists"), [(0.0, 0), (1.0, 1), (30.0, 30), (100.0, 100)])
def test_rmtree_replaces_the_share_of_lists(touched: float, lists: int) -> None:
    steps = random_data.rmtree(1000, touched, 1.0, 7)
    _, names = next(steps)
    before = {name: list(values) for name, values in names.items()}
    _, names = next(steps)
    changed = [name for name, values in names.items() if values != before[name]]
    assert len(changed) == lists
    for name in changed:
        assert not set(names[name]) & set(before[name])


def test_rmtree_has_the_size_it_says() -> None:
    _, names = next(WORKLOADS["rmtree_1e4"].steps(1.0, 1))
    assert (len(names), sum(map(len, names.values()))) == (100, 10_000)


@pytest.mark.parametrize("path", IN_CELLS, ids=lambda path: path.stem)
def test_cells_compile(path: Path) -> None:
    found = cells.read_cells(path)
    assert found[0].title == "Parameters"
    assert sum(cell.times for cell in found) >= 15
    for cell in found:
        compile(cell.code, cell.title, "exec")
    assert path.stem in WORKLOADS


def test_cells_repeat_and_take_parameters(tmp_path: Path) -> None:
    path = tmp_path / "it.py"
    path.write_text(
        '"""Text."""\n\n# %% Parameters\nSCALE = 1.0\nSEED = 1\n\n# %% Begin\nseen = []\n\n'
        "# %% Go on (x 3)\nseen.append(SEED)\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(BENCH)!r})\n"
        "from pathlib import Path; from workloads import cells\n"
        f"found = list(cells.steps(Path({str(path)!r}), 1.0, 5))\n"
        "print([title for title, _ in found], sorted(found[-1][1]), found[-1][1]['seen'])\n"
        "print(found[2][1]['seen'] is found[4][1]['seen'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    titles = ["Parameters", "Begin", "Go on", "Go on", "Go on"]
    assert done.stdout == f"{titles} ['SCALE', 'SEED', 'seen'] [5, 5, 5]\nTrue\n"
