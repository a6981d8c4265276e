# SPDX-License-Identifier: Apache-2.0
"""Algebra, graphs, the sky; clusters."""

from __future__ import annotations

from typing import Any

from .table import Lazy, by, calls, library, put, rng, sets

np = Lazy("numpy")

# ---- SymPy ---------------------------------------------------------------------------------------

sp = Lazy("sympy")
sympy = library("sympy")


def _x() -> Any:
    return sp.Symbol("x", positive=True)


sympy("Symbol", _x, lambda x: sp.Symbol("y", positive=True))
sympy("Expr", lambda: sp.sin(_x()) ** 2 + sp.exp(_x()) / 3, lambda e: e.diff(_x()))
sympy("Matrix", lambda: sp.Matrix([[1, _x()], [0, 2]]), put((0, 0), 5))
sympy("Poly", lambda: sp.Poly(_x() ** 2 + 2 * _x() + 1, _x()), lambda p: p + 1)
sympy("Eq", lambda: sp.Eq(_x() ** 2, 4), lambda e: sp.Eq(_x() ** 2, 9))
sympy("Piecewise", lambda: sp.Piecewise((_x(), _x() < 1), (2, True)), lambda e: e * 2)
sympy(
    "FiniteSet",
    lambda: sp.FiniteSet(*(sp.Symbol(f"s{i}") for i in range(9))),
    lambda s: s - {sp.Symbol("s1")},
)
sympy("Function", lambda: sp.Function("f")(_x()), lambda f: sp.Function("g")(_x()))
sympy(
    "lambdify",
    lambda: sp.lambdify(_x(), sp.sin(_x()) + 1, "math"),
    lambda f: sp.lambdify(_x(), sp.sin(_x()) + 2, "math"),
    by(lambda f: f(0.5)),
)

# ---- graphs --------------------------------------------------------------------------------------

nx = Lazy("networkx")
networkx = library("networkx")


def _links(graph: Any) -> Any:
    return sorted(map(repr, graph.edges(data=True))), list(graph.nodes(data=True)), graph.graph


def _network(kind: str) -> Any:
    def make() -> Any:
        graph = getattr(nx, kind)(nx.gnp_random_graph(60, 0.05, seed=1), name="n")
        graph.add_edge("a", "b", weight=2.5)
        return graph

    return make


for _kind in ("Graph", "DiGraph", "MultiGraph", "MultiDiGraph"):
    networkx(_kind, _network(_kind), calls("add_edge", 1, 2, weight=7), by(_links))
networkx(
    "subgraph view",
    lambda: _network("Graph")().subgraph(range(20)),
    lambda view: view._graph.add_edge(1, 2, weight=7),
    by(_links),
)
networkx(
    "Graph with caches",
    lambda: _seen(_network("Graph")()),
    calls("add_edge", 1, 2, weight=7),
    by(_links),
)


def _seen(graph: Any) -> Any:
    _ = graph.adj, graph.nodes, graph.edges, graph.degree
    return graph


igraph = library("igraph")
igraph(
    "Graph",
    lambda: Lazy("igraph").Graph.Tree(20, 2),
    calls("add_edge", 3, 17),
    by(lambda graph: graph.get_edgelist()),
)

# ---- Astropy -------------------------------------------------------------------------------------

ap = Lazy("astropy")
astropy = library("astropy")
astropy(
    "units.Quantity",
    lambda: np.arange(9.0) * ap.units.m,
    lambda quantity: quantity.value.__setitem__(0, 5.0),
    by(lambda quantity: quantity.value, lambda quantity: str(quantity.unit)),
)
astropy("units.Unit", lambda: ap.units.Unit("m / s"), lambda unit: unit**2)
astropy(
    "table.Table",
    lambda: ap.table.Table({"a": [1, 2, 3], "b": ["x", "y", "z"]}, meta={"k": "v"}),
    lambda table: table["a"].__setitem__(0, 9),
    by(lambda table: (table.to_pandas(), table.meta)),
)
astropy(
    "time.Time",
    lambda: ap.time.Time("2020-01-01"),
    lambda t: t + 1 * ap.units.day,
    by(lambda t: t.isot),
)
astropy(
    "coordinates.SkyCoord",
    lambda: ap.coordinates.SkyCoord([10.0, 11.0], [20.0, 21.0], unit="deg"),
    lambda coordinates: coordinates[:1],
    by(lambda coordinates: coordinates.to_string()),
)
astropy(
    "wcs.WCS",
    lambda: ap.wcs.WCS(naxis=2),
    lambda w: setattr(w.wcs, "crpix", [5.0, 6.0]),
    by(lambda w: w.to_header_string()),
)
astropy(
    "modeling.models.Gaussian1D",
    lambda: Lazy("astropy.modeling.models").Gaussian1D(1.0, 2.0, 3.0),
    sets("mean", 5.0),
    by(lambda model: model(np.arange(4.0))),
)
astropy(
    "nddata.CCDData",
    lambda: ap.nddata.CCDData(rng().random((5, 5)), unit="adu"),
    lambda image: image.data.__setitem__((0, 0), 5.0),
    by(lambda image: image.data),
)

# ---- clusters ------------------------------------------------------------------------------------
