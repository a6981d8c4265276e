# SPDX-License-Identifier: Apache-2.0
"""A class of a library at a time: it is saved, changes are seen and nothing else, and it is loaded.

What is installed is tested; with ``--table`` everything has to be. `cases` has the list.
"""

from __future__ import annotations

from typing import Any

import chipmink
import pytest
from cases import CASES, Case
from table import BYTES_MOST

pytestmark = pytest.mark.filterwarnings("ignore")
each = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


@pytest.fixture(autouse=True)
def _needed(case: Case, request: pytest.FixtureRequest) -> None:
    everything = request.config.getoption("--table")
    absent = case.missing()
    if absent and everything:
        pytest.fail(f"{absent} is not installed (tools/setup --libraries)")
    if absent:
        pytest.skip(f"{absent} is not installed")
    if case.heavy and not everything:
        pytest.skip("takes long (tools/check --libraries)")


@each
def test_class(case: Case, store: chipmink.Store, result: dict[str, Any]) -> None:
    session = store.session(case.id)
    value = case.make()
    first = session.save({"value": value})
    if case.broken:
        result["saved"] = not first.unsaved
        if not first.unsaved:
            with pytest.raises(chipmink.LoadError):
                session.load()
            result["loaded"] = False
        return
    assert first.unsaved == {}
    second = session.save({"value": value})
    result["again"] = second.stats["bytes_written"]
    result["saved"] = second.variables["value"].content == first.variables["value"].content

    loaded = session.load()["value"]
    result["loaded"] = equal = case.equal(value, loaded)
    changed = case.changed(value)
    third = session.save({"value": changed})
    after = session.load()["value"]
    result["change"] = (
        third.variables["value"].content != second.variables["value"].content
        and case.equal(changed, after)
        and (loaded is value or not case.equal(after, loaded))  # a class that is alive is itself
    )
    assert equal
    assert result["change"]
    assert result["saved"]
    assert result["again"] < BYTES_MOST


@each
def test_another_process(
    case: Case, runs: dict[str, dict[str, Any]], result: dict[str, Any]
) -> None:
    first, second = runs[case.id]["first"], runs[case.id]["second"]
    if case.broken:
        assert "unsaved" in second or "LoadError" in second["error"]
        return
    assert "error" not in first, first["error"]
    assert "error" not in second, second["error"]
    result["anew"] = second["written"]
    result["loaded"] = result.get("loaded", True) and second["equal"]
    assert second["equal"]
    if not case.drifts:
        assert second["written"] < BYTES_MOST
