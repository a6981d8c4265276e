"""The three workloads: what is in the namespace, and what a cell changes, all from the seed."""

from __future__ import annotations

import os
import random
import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

NOTEBOOK = Path(__file__).resolve().parents[2] / "tools" / "demo.d" / "flights.ipynb"


@dataclass(frozen=True)
class Scale:
    """How large the workloads are.

    Attributes
    ----------
    seed
        Of all random data.
    cells
        Changes after the first save.
    items, item_bytes
        rmlist: byte strings in the list, and the size of each.
    lists, length, touched
        rmtree: lists (V), byte strings of 100 bytes in each (L), percent of the lists that a cell
        replaces (tml).
    """

    seed: int = 1
    cells: int = 10
    items: int = 1000
    item_bytes: int = 100_000
    lists: int = 100
    length: int = 1000
    touched: float = 1.0


class Workload(ABC):
    """A namespace that changes from cell to cell.

    Attributes
    ----------
    namespace
        The variables.
    one
        The variable that is loaded alone.
    imports
        Modules that loading needs: imported before the clock starts.
    """

    one: ClassVar[str]
    imports: ClassVar[tuple[str, ...]] = ()

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.rng = random.Random(scale.seed)
        self.namespace: dict[str, Any] = {}

    @abstractmethod
    def cell(self, number: int) -> None:
        """Change the namespace as cell `number` (from 1) does."""


class Rmlist(Workload):
    """Random byte strings in a list, shared with a second one; a list in itself; an alias.

    Incompressible. A cell replaces 10 elements of the first list; the second keeps the old ones.
    """

    one = "l"

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        l = [self.rng.randbytes(scale.item_bytes) for _ in range(scale.items)]  # noqa: E741
        loop: list[Any] = [l, "a list that holds itself"]
        loop.append(loop)
        self.namespace = {"l": l, "second": list(l), "loop": loop, "alias": l}

    def cell(self, number: int) -> None:
        """Replace 10 elements."""
        values = self.namespace["l"]
        for index in self.rng.sample(range(len(values)), min(10, len(values))):
            values[index] = self.rng.randbytes(self.scale.item_bytes)


class Rmtree(Workload):
    """Many list variables of short random byte strings. Incompressible.

    A cell replaces all elements of a share of the lists.
    """

    one = "v00000"

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.namespace = {f"v{i:05d}": self._elements() for i in range(scale.lists)}

    def _elements(self) -> list[bytes]:
        return [self.rng.randbytes(100) for _ in range(self.scale.length)]

    def cell(self, number: int) -> None:
        """Replace all elements of `touched` percent of the lists, in place."""
        count = max(1, round(self.scale.lists * self.scale.touched / 100))
        for name in self.rng.sample(sorted(self.namespace), count):
            self.namespace[name][:] = self._elements()


class Notebook(Workload):
    """What the demo notebook has built at its end: frames, models, figures, functions, instances.

    A cell changes a setting and one value in one column of the largest frame.
    """

    one = "weather"
    imports = (
        "matplotlib.pyplot",
        "networkx",
        "pandas",
        "sklearn.ensemble",
        "sklearn.pipeline",
        "statsmodels.api",
    )

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.namespace = run_notebook()

    def cell(self, number: int) -> None:
        """Change two small things."""
        flights = self.namespace["flights"]
        row = self.rng.randrange(len(flights))
        flights.loc[flights.index[row], "dep_delay"] = float(number)
        self.namespace["settings"]["limit"] = 15 + number


def run_notebook() -> dict[str, Any]:
    """Run the code cells of the demo notebook, up to the one that overwrites a variable by mistake.

    Returns
    -------
    dict
        The variables, as a kernel would have them in ``__main__``.
    """
    import nbformat

    os.environ["MPLBACKEND"] = "Agg"
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = (
        module  # classes and functions defined in a notebook belong to __main__
    )
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        if "overwrites" in cell.metadata:
            break
        lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
        exec(compile("\n".join(lines), f"<{cell.id}>", "exec"), vars(module))
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


WORKLOADS: dict[str, type[Workload]] = {
    "rmlist": Rmlist,
    "rmtree": Rmtree,
    "notebook": Notebook,
}
