# SPDX-License-Identifier: Apache-2.0
"""The paper's two synthetic workloads, of incompressible random bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

CELLS = 8
LISTS = 100
ELEMENT_BYTES = 100


def rmtree(
    elements: int, touched: float, scale: float, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Many list variables of short random byte strings; a cell replaces whole lists, in place.

    Parameters
    ----------
    elements
        Byte strings of 100 bytes in all lists together, at scale 1.
    touched
        Percent of the lists that a cell replaces (the paper's tml).
    """
    rng = random.Random(seed)
    length = max(1, round(elements * scale / LISTS))

    def strings() -> list[bytes]:
        return [rng.randbytes(ELEMENT_BYTES) for _ in range(length)]

    namespace = {f"v{i:05d}": strings() for i in range(LISTS)}
    yield "first", namespace
    for _ in range(CELLS):
        for name in rng.sample(sorted(namespace), round(LISTS * touched / 100)):
            namespace[name][:] = strings()
        yield "cell", namespace


def rmlist(scale: float, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Long random byte strings in a list, shared with a second one; an alias; a list in itself.

    A cell replaces 10 elements of the first list; the second keeps the old ones.
    """
    rng = random.Random(seed)
    size = 100_000
    values = [rng.randbytes(size) for _ in range(max(20, round(1000 * scale)))]
    loop: list[Any] = [values, "a list that holds itself"]
    loop.append(loop)
    namespace = {"l": values, "second": list(values), "loop": loop, "alias": values}
    yield "first", namespace
    for _ in range(CELLS):
        for index in rng.sample(range(len(values)), 10):
            values[index] = rng.randbytes(size)
        yield "cell", namespace
