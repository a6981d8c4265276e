# SPDX-License-Identifier: Apache-2.0
"""Makes and saves the objects of cases, each in a session of its own; the tests run it twice.

    python program.py STORE RUN [EARLIER_RUN] < identifiers

For each identifier from stdin it prints the identifier, and then what came of it as JSON: the bytes
written, and whether what the earlier run saved is loaded equal to what this one made.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import traceback
import warnings
from typing import Any

import chipmink
import numpy
from cases import CASES, Case


def attempt(store: chipmink.Store, case: Case, run: str, earlier: str | None) -> dict[str, Any]:
    gc.collect()  # classes of the case before: two that are alive have different identifiers
    random.seed(1)
    numpy.random.seed(1)  # as a program does that shall give the same each time
    value = case.make()
    gc.collect()  # transformations know those of discarded parts of a figure until then
    checkpoint = store.session(f"{run} {case.id}").save({"value": value})
    if checkpoint.unsaved:
        return {"unsaved": checkpoint.unsaved["value"]}
    result: dict[str, Any] = {"written": checkpoint.stats["bytes_written"]}
    if earlier:
        loaded = store.session(f"{earlier} {case.id}").load()["value"]
        result["equal"] = bool(case.equal(value, loaded))
    return result


def main(path: str, run: str, earlier: str | None = None) -> None:
    """Try the cases that stdin names."""
    warnings.simplefilter("ignore")
    known = {case.id: case for case in CASES}
    with chipmink.open(path, embedded=True) as store:
        for name in sys.stdin.read().split("\n"):
            print(name, flush=True)
            try:
                result = attempt(store, known[name], run, earlier)
            except Exception:
                result = {"error": traceback.format_exc()}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
