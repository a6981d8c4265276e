"""The benchmark runs, its workloads are what they say, and its judge can say 'missed'."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
sys.path.insert(0, str(BENCH))

import namespaces  # noqa: E402
import systems  # noqa: E402
import targets  # noqa: E402

SMALL = namespaces.Scale(seed=7, cells=2, items=40, item_bytes=100, lists=10, length=5, touched=20)


def smoke(output: Path, *options: str) -> dict:
    command = [sys.executable, ROOT / "tools" / "bench", "--smoke", "-o", output, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text())


@pytest.mark.parametrize("name", sorted(systems.SYSTEMS))
def test_systems_give_back_what_they_saved(name: str, tmp_path: Path) -> None:
    work = namespaces.Rmtree(SMALL)
    system = systems.SYSTEMS[name](tmp_path)
    assert system.save(work.namespace) > 0
    work.cell(1)
    assert system.save(work.namespace) > 0
    assert system.load() == work.namespace
    assert system.load(work.one) == {work.one: work.namespace[work.one]}
    system.close()


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [(1.0, True, "met"), (1.5, True, "missed"), (1.5, False, "met"), (None, True, "not measured")],
)
def test_verdicts(value: float | None, at_most: bool, verdict: str) -> None:
    assert targets.Figure("it", value, "x", 1.2, at_most=at_most).verdict == verdict


def test_smoke(tmp_path: Path) -> None:
    result = smoke(tmp_path / "bench.json", "--workloads", "rmlist,rmtree")
    for work in result["workloads"].values():
        assert list(work) == ["chipmink", "pickle", "cloudpickle", "dill"]
        for measured in work.values():
            assert measured["first"][1] > 0
            assert measured["left_out"] == []
    assert len(result["targets"]) == 14
    assert {figure["verdict"] for figure in result["targets"]} <= {"met", "missed", "not measured"}
    for figure in result["targets"]:
        assert figure["value"] is not None or "cannot mount" in figure["note"]


def test_smoke_of_the_notebook(tmp_path: Path) -> None:
    result = smoke(
        tmp_path / "bench.json",
        *("--only", "workloads", "--workloads", "notebook", "--systems", "chipmink"),
    )
    measured = result["workloads"]["notebook"]["chipmink"]
    assert 0 < measured["unchanged"][1] < measured["first"][1]
