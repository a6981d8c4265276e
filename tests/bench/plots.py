# SPDX-License-Identifier: Apache-2.0
"""The benchmark's pictures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Results = dict[str, dict[str, Any]]
COLORS = {
    "chipmink": "#d62728",
    "pickle": "#1f77b4",
    "pickle+zstd": "#17becf",
    "cloudpickle": "#2ca02c",
    "dill": "#9467bd",
    "joblib": "#ff7f0e",
    "shelve": "#8c564b",
    "zodb": "#7f7f7f",
}


def _systems(results: Results) -> list[str]:
    found = {
        name: None
        for result in results.values()
        for name, measured in result["systems"].items()
        if "failed" not in measured
    }
    return list(found)


def _bars(axes: Axes, results: Results, key: str, factor: float, label: str) -> None:
    systems = _systems(results)
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        places, heights = [], []
        for place, result in enumerate(results.values()):
            value = result["systems"].get(system, {}).get(key)
            if value:
                places.append(place - 0.4 + (number + 0.5) * width)
                heights.append(value * factor)
        axes.bar(places, heights, width, label=system, color=COLORS.get(system))
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.set_xticks(range(len(results)), results, rotation=30, ha="right")
    axes.grid(axis="y", alpha=0.3)


def _real(results: Results) -> Figure:
    figure, panels = plt.subplots(3, 1, figsize=(12, 12), layout="constrained")
    _bars(panels[0], results, "seconds", 1, "seconds of all saves")
    _bars(panels[1], results, "disk_bytes", 1e-6, "MB on disk")
    _bars(panels[2], results, "load_all", 1, "seconds to load the last state")
    panels[0].legend(ncols=8, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    return figure


def _growth(results: Results) -> Figure:
    columns = 3
    rows = -(-len(results) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(12, 3 * rows), layout="constrained", squeeze=False
    )
    for axes in panels.flat[len(results) :]:
        axes.set_visible(False)
    for axes, (name, result) in zip(panels.flat, results.items(), strict=False):
        for system, found in result["systems"].items():
            if "saves" in found:
                written = [save["written"] / 1e6 for save in found["saves"]]
                grown = list(itertools.accumulate(written))
                axes.plot(range(1, len(grown) + 1), grown, label=system, color=COLORS.get(system))
        axes.set_title(name)
        axes.set_ylabel("MB written")
        axes.set_yscale("symlog", linthresh=1)
    panels.flat[0].legend(fontsize="x-small")
    return figure


def _lines(results: Results, label: str, places: list[float], log: bool) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    keys = (("median_seconds", 1.0, "seconds of a save"), ("median_written", 1e-6, "MB of a save"))
    for axes, (key, factor, text) in zip(panels, keys, strict=True):
        for system in _systems(results):
            points = [
                (place, result["systems"][system][key] * factor)
                for place, result in zip(places, results.values(), strict=True)
                if key in result["systems"].get(system, {})
            ]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", label=system, color=COLORS.get(system))
        axes.set_xlabel(label)
        axes.set_ylabel(text)
        if log:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    return figure


def _patterns(results: Results) -> Figure:
    figure, panels = plt.subplots(
        len(results), 2, figsize=(12, 3.5 * len(results)), layout="constrained", squeeze=False
    )
    keys = (("seconds", 1e3, "ms of a save"), ("written", 1e-3, "kB of a save"))
    for row, (name, result) in zip(panels, results.items(), strict=True):
        for axes, (key, factor, text) in zip(row, keys, strict=True):
            for system, found in result["systems"].items():
                if "saves" not in found:
                    continue
                titles = [save["title"] for save in found["saves"]]
                values = [max(save[key] * factor, 1e-2) for save in found["saves"]]
                axes.plot(values, titles, ".", label=system, color=COLORS.get(system))
            axes.set_xscale("log")
            axes.set_xlabel(text)
            axes.set_title(name)
            axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize="x-small")
    return figure


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw what was measured, and return the files.

    Parameters
    ----------
    results
        For each workload: its kind, its scale, and what each system took.
    directory
        Of the files; made if needed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    results = {name: r for name, r in results.items() if _systems({name: r})}
    groups: dict[str, Figure] = {}
    real = {name: r for name, r in results.items() if r["kind"] in ("notebook", "script")}
    trees = {name: r for name, r in results.items() if name.startswith("rmtree_")}
    sweep = {name: r for name, r in results.items() if name.startswith("mutation_")}
    patterns = {name: r for name, r in results.items() if r["kind"] == "patterns"}
    if real:
        groups["real"] = _real(real)
        groups["growth"] = _growth(real)
    if trees:
        objects = [float(name.removeprefix("rmtree_")) * r["scale"] for name, r in trees.items()]
        groups["rmtree"] = _lines(trees, "objects", objects, log=True)
    if sweep:
        percent = [float(name.removeprefix("mutation_")) for name in sweep]
        groups["mutation"] = _lines(sweep, "percent replaced", percent, log=False)
    if patterns:
        groups["patterns"] = _patterns(patterns)
    files = []
    for name, figure in groups.items():
        files.append(directory / f"{name}.png")
        figure.savefig(files[-1], dpi=110)
        plt.close(figure)
    return files
