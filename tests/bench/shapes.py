"""Values of the kinds that the targets name; importable, so that classes pickle by reference."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd


class Reading:
    """An ordinary instance with a ``__dict__``."""

    def __init__(self, sensor: str, at: float, values: tuple[int, int]) -> None:
        self.sensor = sensor
        self.at = at
        self.values = values


def dicts(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Records as they come from JSON: few keys, small values, some strings repeated."""
    cities = [f"city-{i}" for i in range(200)]
    return [
        {
            "id": i,
            "name": f"user-{rng.randrange(10**9)}",
            "score": rng.random(),
            "city": rng.choice(cities),
            "ok": i % 3 == 0,
            "tags": [i % 7, i % 11],
        }
        for i in range(count)
    ]


def instances(rng: random.Random, count: int) -> list[Reading]:
    """Instances of one class."""
    return [
        Reading(f"sensor-{i % 50}", rng.random(), (i, rng.randrange(1000))) for i in range(count)
    ]


def strings(rng: random.Random, count: int) -> list[str]:
    """Different strings of 8 to 40 characters."""
    return [rng.randbytes(rng.randrange(4, 21)).hex() for _ in range(count)]


def frame(seed: int, rows: int) -> pd.DataFrame:
    """Return a DataFrame of numbers, times, categories and strings."""
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": generator.normal(size=rows),
            "b": generator.integers(0, 10**6, size=rows),
            "c": generator.random(rows).astype("float32"),
            "day": pd.Timestamp("2013-01-01") + pd.to_timedelta(np.arange(rows) % 365, unit="D"),
            "kind": pd.Categorical.from_codes(generator.integers(0, 5, size=rows), list("vwxyz")),
            "name": np.array(
                [f"n{i}" for i in generator.integers(0, 10**5, size=rows)], dtype=object
            ),
        }
    )


def incompressible(seed: int, size: int) -> np.ndarray:
    """Return `size` random bytes as an array of 64-bit integers."""
    return np.random.default_rng(seed).integers(0, 2**64, size=size // 8, dtype=np.uint64)
