"""The demo's comparison finds differences: it would not call two different sessions equal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "demo.d"))

from matplotlib.figure import Figure
from same import difference
from sklearn.linear_model import LogisticRegression


class Thing:
    def __init__(self, value: Any) -> None:
        self.value = value


def picture(height: float) -> Figure:
    figure = Figure()
    figure.subplots().bar([1], [height])
    return figure


def fitted(flip: bool) -> LogisticRegression:
    data = np.arange(20.0).reshape(-1, 1)
    return LogisticRegression().fit(data, (data[:, 0] > 9) ^ flip)


MAKERS = {
    "number": lambda k: 1 + k,
    "nan": lambda k: float("nan") if k == 0 else 1.0,
    "dict": lambda k: {"a": [1, {"b": k}]},
    "order of keys": lambda k: {"a": 1, "b": 2} if k == 0 else {"b": 2, "a": 1},
    "type": lambda k: [1] if k == 0 else (1,),
    "array": lambda k: np.array([0, k]),
    "dtype": lambda k: np.array([0], dtype=["i4", "i8"][k]),
    "frame": lambda k: pd.DataFrame({"x": [1.0, k]}),
    "columns": lambda k: pd.DataFrame({"xy"[k]: [1.0]}),
    "figure": lambda k: picture(1 + k),
    "instance": lambda k: Thing(Thing(k)),
    "function": lambda k: [lambda x: x + 1, lambda x: x + 2][k],
    "model": lambda k: fitted(bool(k)),
    "set": lambda k: {1, k},
}


@pytest.mark.parametrize("kind", MAKERS)
def test_equal_is_equal(kind: str) -> None:
    assert difference(MAKERS[kind](0), MAKERS[kind](0)) is None


@pytest.mark.parametrize("kind", MAKERS)
def test_different_is_found(kind: str) -> None:
    assert difference(MAKERS[kind](0), MAKERS[kind](1))


def test_sharing_counts() -> None:
    inner: list[int] = []
    assert difference([inner, inner], [[], []])
    assert difference([inner, inner], [inner, inner]) is None


def test_cycles_end() -> None:
    def loop() -> list:
        values: list = [1]
        values.append(values)
        return values

    assert difference(loop(), loop()) is None
