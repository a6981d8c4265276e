# SPDX-License-Identifier: Apache-2.0
"""Who imports whom in Python's standard library? A notebook with networkx."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import ast
import sysconfig
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd

library = Path(sysconfig.get_paths()["stdlib"])


# %% A module
@dataclass
class Module:
    """One file of the library."""

    name: str
    lines: int
    imports: set = field(default_factory=set)
    functions: list = field(default_factory=list)

    @property
    def package(self):
        return self.name.partition(".")[0]


# %% Which files
files = sorted(
    path
    for path in library.rglob("*.py")
    if not {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
    & set(path.parts)
)
files = files[: max(40, int(len(files) * min(1.0, 0.6 * SCALE)))]
len(files)


# %% Read them
def read(path):
    """Parse a file and collect what it imports and defines."""
    source = path.read_text(encoding="utf-8", errors="replace")
    name = ".".join(path.relative_to(library).with_suffix("").parts).removesuffix(".__init__")
    module = Module(name, source.count("\n"))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            module.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module.imports.add(node.module)
        elif isinstance(node, ast.FunctionDef):
            module.functions.append(node.name)
    return module


modules = {}
for path in files:
    try:
        module = read(path)
    except SyntaxError:
        continue
    modules[module.name] = module
len(modules)

# %% The graph
graph = nx.DiGraph()
for module in modules.values():
    graph.add_node(module.name, lines=module.lines, package=module.package)
for module in modules.values():
    graph.add_edges_from(
        (module.name, other) for other in sorted(module.imports) if other in modules
    )
graph

# %% Degrees
degrees = pd.DataFrame({"imports": dict(graph.out_degree), "imported": dict(graph.in_degree)})
degrees["lines"] = [modules[name].lines for name in degrees.index]
degrees.nlargest(10, "imported")

# %% Alone
alone = [name for name, degree in graph.degree if degree == 0]
graph.remove_nodes_from(alone)
len(alone)

# %% PageRank
centrality = nx.pagerank(graph)
nx.set_node_attributes(graph, centrality, "rank")
degrees["rank"] = pd.Series(centrality)

# %% Cycles
components = sorted(nx.strongly_connected_components(graph), key=len, reverse=True)
cycles = [sorted(component) for component in components if len(component) > 1]
cycles[:3]

# %% Layers
condensed = nx.condensation(graph)
layers = {
    node: layer
    for layer, nodes in enumerate(nx.topological_generations(condensed))
    for node in nodes
}
nx.set_node_attributes(condensed, layers, "layer")

# %% Communities
undirected = graph.to_undirected()
communities = nx.community.louvain_communities(undirected, seed=SEED)
community = {name: number for number, names in enumerate(communities) for name in names}
nx.set_node_attributes(undirected, community, "community")

# %% Betweenness
betweenness = nx.betweenness_centrality(undirected, k=min(60, len(undirected)), seed=SEED)
degrees["betweenness"] = pd.Series(betweenness)
degrees["community"] = pd.Series(community)

# %% Distances
distances = dict(nx.all_pairs_shortest_path_length(graph, cutoff=3))
reach = pd.Series({name: len(found) for name, found in distances.items()}).sort_values()

# %% A picture
layout = nx.spring_layout(undirected, seed=SEED, iterations=15)
figure, axes = plt.subplots(figsize=(8, 8))
nx.draw_networkx(
    undirected,
    layout,
    ax=axes,
    node_size=8,
    with_labels=False,
    width=0.2,
    node_color=[community[name] for name in undirected],
)

# %% Functions with the same name
defined = defaultdict(list)
for module in modules.values():
    for name in module.functions:
        defined[name].append(module.name)
common = {name: places for name, places in defined.items() if len(places) > 10}

# %% What if one were gone?
damage = {}
for name in degrees.nlargest(10, "rank").index:
    smaller = graph.copy()
    smaller.remove_node(name)
    damage[name] = nx.number_weakly_connected_components(smaller)
damage

# %% Weights
for source, target, attributes in graph.edges(data=True):
    attributes["weight"] = np.log1p(modules[target].lines)
weighted = nx.pagerank(graph, weight="weight")

# %% By package
packages = degrees.assign(package=[name.partition(".")[0] for name in degrees.index])
packages = packages.groupby("package")[["lines", "imports", "imported"]].sum().nlargest(20, "lines")
packages
