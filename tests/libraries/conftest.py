# SPDX-License-Identifier: Apache-2.0
"""Two more processes that save what the tests save, and the table of all results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

os.environ["OMP_NUM_THREADS"] = "1"  # the data are small, and several OpenMPs meet in one process
os.environ["MPLBACKEND"] = "agg"

import chipmink  # noqa: E402
import table  # noqa: E402

RESULTS = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--table",
        metavar="FILE",
        help="try all libraries, also what takes long, and write docs/LIBRARIES.md",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--table")
    if path and not session.config.option.collectonly:
        Path(path).write_text(table.render(session.config.stash[RESULTS]), encoding="utf-8")


@pytest.fixture
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is known of the case: a line of the table."""
    case = request.node.callspec.params["case"]
    return request.config.stash[RESULTS].setdefault(case.id, {})


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="session")
def store(directory: Path) -> Iterator[chipmink.Store]:
    with chipmink.open(directory / "store", embedded=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, directory: Path) -> dict[str, dict[str, Any]]:
    """What a second run of the program gave, by case, for the cases that are tested now."""
    everything = request.config.getoption("--table")
    names = [
        item.callspec.params["case"].id
        for item in request.session.items
        if item.name.startswith("test_another_process")
        and item.callspec.params["case"].missing() is None
        and (everything or not item.callspec.params["case"].heavy)
    ]
    path = directory / "runs"
    first = run_program(names, path, "first")
    second = run_program(names, path, "second", "first")
    return {name: {"first": first[name], "second": second[name]} for name in names}


def run_program(names: list[str], path: Path, *runs: str) -> dict[str, dict[str, Any]]:
    """Run program.py, with a hash seed of its own; again, without a case that has ended it."""
    results: dict[str, dict[str, Any]] = {}
    while len(results) < len(names):
        done = subprocess.run(
            [sys.executable, HERE / "program.py", path, *runs],
            input="\n".join(name for name in names if name not in results),
            env={**os.environ, "PYTHONHASHSEED": str(len(runs))},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        lines = iter(done.stdout.splitlines())
        name = None
        for line in lines:
            if line in names:
                name, results[line] = line, {"error": f"it ended the process: {done.returncode}"}
            elif name and line.startswith("{"):
                results[name] = json.loads(line)
        assert name, done.stderr
    return results
