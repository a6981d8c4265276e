# SPDX-License-Identifier: Apache-2.0
"""How lists, dicts, arrays, DataFrames are read, appended to and updated, one way per step.

``x`` is the container, ``n`` what the last step read from it. Numbers and texts are random and
different from each other; arrays are incompressible.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

Namespace = dict[str, Any]
Change = Callable[[Namespace], None]
REPEATS = 3


def _play(namespace: Namespace, changes: dict[str, Change]) -> Iterator[tuple[str, Namespace]]:
    yield "first", namespace
    for title, change in changes.items():
        for _ in range(REPEATS):
            change(namespace)
            yield title, namespace


def lists(scale: float, seed: int) -> Iterator[tuple[str, Namespace]]:
    """Integers in a list, a million at scale 1."""
    rng = random.Random(seed)

    def numbers(count: int) -> list[int]:
        return [rng.getrandbits(40) for _ in range(count)]

    def read(space: Namespace) -> None:
        space["n"] = sum(space["x"])

    def append(space: Namespace) -> None:
        space["x"].extend(numbers(len(space["x"]) // 1000 + 1))

    def element(space: Namespace) -> None:
        space["x"][rng.randrange(len(space["x"]))] = rng.getrandbits(40)

    def run(space: Namespace) -> None:
        count = len(space["x"]) // 100 + 1
        begin = rng.randrange(len(space["x"]) - count)
        space["x"][begin : begin + count] = numbers(count)

    def scattered(space: Namespace) -> None:
        for _ in range(len(space["x"]) // 1000 + 1):
            element(space)

    def front(space: Namespace) -> None:
        space["x"].insert(0, rng.getrandbits(40))

    def delete(space: Namespace) -> None:
        del space["x"][rng.randrange(len(space["x"]))]

    yield from _play(
        {"x": numbers(max(1000, round(1e6 * scale))), "n": 0},
        {
            "read": read,
            "append 0.1 %": append,
            "one element": element,
            "a slice of 1 %": run,
            "0.1 % scattered": scattered,
            "insert at the front": front,
            "delete one": delete,
        },
    )


def dicts(scale: float, seed: int) -> Iterator[tuple[str, Namespace]]:
    """Strings to records, 100,000 at scale 1."""
    rng = random.Random(seed)

    def key() -> str:
        return rng.randbytes(8).hex()

    def record() -> dict[str, Any]:
        return {"id": rng.getrandbits(40), "score": rng.random(), "tags": [key()[:4], key()[:4]]}

    def some(space: Namespace) -> str:
        return rng.choice(list(space["x"]))

    def read(space: Namespace) -> None:
        space["n"] = max(row["score"] for row in space["x"].values())

    def append(space: Namespace) -> None:
        space["x"].update((key(), record()) for _ in range(len(space["x"]) // 1000 + 1))

    def element(space: Namespace) -> None:
        space["x"][some(space)] = record()

    def field(space: Namespace) -> None:
        space["x"][some(space)]["score"] = rng.random()

    def scattered(space: Namespace) -> None:
        for name in rng.sample(list(space["x"]), len(space["x"]) // 1000 + 1):
            space["x"][name]["score"] = rng.random()

    def front(space: Namespace) -> None:
        space["x"] = {key(): record(), **space["x"]}

    def delete(space: Namespace) -> None:
        del space["x"][some(space)]

    yield from _play(
        {"x": {key(): record() for _ in range(max(100, round(1e5 * scale)))}, "n": 0.0},
        {
            "read": read,
            "append 0.1 %": append,
            "one element": element,
            "one field of one": field,
            "0.1 % scattered": scattered,
            "insert at the front": front,
            "delete one": delete,
        },
    )


def arrays(scale: float, seed: int) -> Iterator[tuple[str, Namespace]]:
    """An array of random 64-bit integers, 40 MB at scale 1, in rows of 100."""
    generator = np.random.default_rng(seed)

    def rows(count: int) -> np.ndarray:
        return generator.integers(0, 2**63, size=(count, 100))

    def place(space: Namespace, count: int = 1) -> int:
        return int(generator.integers(0, len(space["x"]) - count))

    def read(space: Namespace) -> None:
        space["n"] = int(space["x"].max())

    def append(space: Namespace) -> None:
        space["x"] = np.append(space["x"], rows(len(space["x"]) // 1000 + 1), axis=0)

    def element(space: Namespace) -> None:
        space["x"][place(space), 50] += 1

    def row(space: Namespace) -> None:
        space["x"][place(space)] = rows(1)

    def column(space: Namespace) -> None:
        space["x"][:, 7] = rows(len(space["x"]) // 100 + 1).reshape(-1)[: len(space["x"])]

    def run(space: Namespace) -> None:
        count = len(space["x"]) // 100 + 1
        begin = place(space, count)
        space["x"][begin : begin + count] = rows(count)

    def front(space: Namespace) -> None:
        space["x"] = np.insert(space["x"], 0, rows(1), axis=0)

    yield from _play(
        {"x": rows(max(100, round(5e4 * scale))), "n": 0},
        {
            "read": read,
            "append 0.1 %": append,
            "one element": element,
            "a row": row,
            "a column of 100": column,
            "a slice of 1 %": run,
            "insert at the front": front,
        },
    )


def frames(scale: float, seed: int) -> Iterator[tuple[str, Namespace]]:
    """A DataFrame of numbers, texts and categories, half a million rows at scale 1."""
    generator = np.random.default_rng(seed)

    def made(count: int) -> pd.DataFrame:
        columns: dict[str, Any] = {f"f{i}": generator.normal(size=count) for i in range(8)}
        columns["id"] = generator.integers(0, 2**40, size=count)
        columns["kind"] = pd.Categorical.from_codes(
            generator.integers(0, 5, size=count), list("vwxyz")
        )
        columns["name"] = np.array(
            [f"n{i}" for i in generator.integers(0, 10**5, size=count)], dtype=object
        )
        return pd.DataFrame(columns)

    def read(space: Namespace) -> None:
        space["n"] = float(space["x"].groupby("kind", observed=True)["f0"].mean().max())

    def append(space: Namespace) -> None:
        more = made(len(space["x"]) // 1000 + 1)
        space["x"] = pd.concat([space["x"], more], ignore_index=True)

    def element(space: Namespace) -> None:
        row = int(generator.integers(0, len(space["x"])))
        space["x"].loc[row, "f3"] = float(generator.normal())

    def row(space: Namespace) -> None:
        space["x"].iloc[int(generator.integers(0, len(space["x"])))] = made(1).iloc[0]

    def update(space: Namespace) -> None:
        space["x"]["f1"] = generator.normal(size=len(space["x"]))

    def add(space: Namespace) -> None:
        space["x"][f"new{space['x'].shape[1]}"] = generator.normal(size=len(space["x"]))

    def run(space: Namespace) -> None:
        count = len(space["x"]) // 100 + 1
        begin = int(generator.integers(0, len(space["x"]) - count))
        space["x"].iloc[begin : begin + count, 0:3] = generator.normal(size=(count, 3))

    def front(space: Namespace) -> None:
        space["x"] = pd.concat([made(1), space["x"]], ignore_index=True)

    yield from _play(
        {"x": made(max(1000, round(5e5 * scale))), "n": 0.0},
        {
            "read": read,
            "append 0.1 %": append,
            "one element": element,
            "a row": row,
            "a column": update,
            "a new column": add,
            "a slice of 1 %": run,
            "insert at the front": front,
        },
    )


def nested(scale: float, seed: int) -> Iterator[tuple[str, Namespace]]:
    """Customers of 100 orders each and a grid, all short containers; half a million numbers."""
    rng = random.Random(seed)

    def order() -> dict[str, Any]:
        return {"id": rng.getrandbits(40), "price": rng.random(), "item": rng.randbytes(6).hex()}

    def customer() -> dict[str, Any]:
        return {"name": rng.randbytes(8).hex(), "orders": [order() for _ in range(100)]}

    def plane() -> list[list[float]]:
        return [[rng.random() for _ in range(100)] for _ in range(100)]

    def some(space: Namespace) -> dict[str, Any]:
        return space["x"][rng.choice(list(space["x"]))]

    def read(space: Namespace) -> None:
        space["n"] = sum(row["price"] for one in space["x"].values() for row in one["orders"])

    def append(space: Namespace) -> None:
        some(space)["orders"].append(order())

    def element(space: Namespace) -> None:
        rng.choice(some(space)["orders"])["price"] = rng.random()

    def cell(space: Namespace) -> None:
        rng.choice(rng.choice(space["grid"]))[rng.randrange(100)] = rng.random()

    def front(space: Namespace) -> None:
        space["grid"].insert(0, plane())

    def delete(space: Namespace) -> None:
        del space["x"][rng.choice(list(space["x"]))]

    count = max(8, round(50 * scale))
    yield from _play(
        {
            "x": {f"customer {i}": customer() for i in range(4 * count)},
            "grid": [plane() for _ in range(count)],
            "n": 0.0,
        },
        {
            "read": read,
            "append an order": append,
            "one price": element,
            "one cell of the grid": cell,
            "insert a plane at the front": front,
            "delete a customer": delete,
        },
    )


MAKERS = {"list": lists, "dict": dicts, "array": arrays, "frame": frames, "nested": nested}
