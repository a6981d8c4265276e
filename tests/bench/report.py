# SPDX-License-Identifier: Apache-2.0
"""The tables a person reads, in Markdown that is aligned as plain text, too."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from figure import Figure

Results = dict[str, dict[str, Any]]


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def seconds(value: float) -> str:
    """Return a duration for people."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Lay a table out: the first column to the left, the others to the right."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(head), line(rule), *map(line, rows)]


def matrix(
    corner: str,
    values: dict[str, dict[str, float | None]],
    text: Callable[[float], str],
) -> list[str]:
    """Lay out one figure of all systems: a row for each workload or step.

    Parameters
    ----------
    corner
        What the first column is.
    values
        For each row, the figure of each system; None where there is none.
    text
        Makes a figure readable.

    Returns
    -------
    list
        Of lines. The last column is the best of the others divided by Chipmink's.
    """
    names = list(next(iter(values.values())))
    rows = []
    for label, row in values.items():
        cells = [text(value) if value is not None else "-" for value in row.values()]
        own = row.get("chipmink")
        others = [v for name, v in row.items() if name != "chipmink" and v is not None]
        ratio = f"{min(others) / own:.3g}" if own and others else "-"
        rows.append([label, *cells, ratio])
    return table([corner, *names, "best / ours"], rows)


def _figure(result: dict[str, Any], key: str) -> dict[str, float | None]:
    return {name: found.get(key) for name, found in result["systems"].items()}


def _by_title(result: dict[str, Any], key: str) -> dict[str, dict[str, float | None]]:
    """Return the median of a figure over the steps of each title."""
    titles = {
        save["title"]: None
        for found in result["systems"].values()
        for save in found.get("saves", ())
    }
    rows: dict[str, dict[str, float | None]] = {}
    for title in titles:
        rows[title] = {}
        for name, found in result["systems"].items():
            values = [save[key] for save in found.get("saves", ()) if save["title"] == title]
            rows[title][name] = statistics.median(values) if values else None
    return rows


def _section(heading: str, lines: list[str]) -> list[str]:
    return [f"### {heading}", "", *lines, ""]


_WHOLE = (
    ("seconds", "seconds of all saves together", seconds),
    ("disk_bytes", "bytes on disk after all saves", size),
    ("load_all", "loading the last state", seconds),
    ("load_one", "loading one variable of it", seconds),
    ("peak", "memory at the peak of a save, beyond the namespace", size),
)
_SAVE = (
    ("seconds", "seconds of a save", seconds),
    ("written", "bytes of a save to disk", size),
)


def workload_lines(results: Results) -> list[str]:
    """Return the tables of all workloads that were measured."""
    lines: list[str] = []
    real = {name: r for name, r in results.items() if r["kind"] in ("notebook", "script")}
    if real:
        for key, text, show in _WHOLE:
            values = {name: _figure(result, key) for name, result in real.items()}
            lines += _section(f"Notebooks and scripts: {text}", matrix("workload", values, show))
    for start, heading in (("rmtree_", "rmtree"), ("mutation_", "Mutation sweep")):
        chosen = {name: r for name, r in results.items() if name.startswith(start)}
        for key, text, show in _SAVE if chosen else ():
            values = {n: _figure(result, f"median_{key}") for n, result in chosen.items()}
            lines += _section(f"{heading}: {text} (median)", matrix("workload", values, show))
    for name, result in results.items():
        if result["kind"] == "patterns" or name == "rmlist":
            for key, text, show in _SAVE:
                lines += _section(f"{name}: {text}", matrix("step", _by_title(result, key), show))
    if any("chipmink" in result["systems"] for result in results.values()):
        lines += _section("Where Chipmink's time goes", _phases(results))
    return lines + _left_out(results)


def _phases(results: Results) -> list[str]:
    head = ["workload", "saves", "blocking", "of it the walk", "server, during", "server, after"]
    rows = []
    for name, result in results.items():
        found = result["systems"].get("chipmink", {})
        if "saves" in found:
            keys = ("seconds", "held", "server_cpu", "background_cpu")
            rows.append([name, str(len(found["saves"])), *(seconds(found[key]) for key in keys)])
    return table(head, rows)


def _left_out(results: Results) -> list[str]:
    lines = []
    for name, result in results.items():
        for system, found in result["systems"].items():
            if "failed" in found:
                lines.append(f"- {name}, {system}: not measured: {found['failed']}")
            elif found["left_out"]:
                lines.append(f"- {name}, {system}: {', '.join(found['left_out'])}")
    return _section("What was left out, because the system cannot save and load it", lines)


def progress(name: str, result: dict[str, Any], took: float) -> str:
    """Return the line that is shown when a workload is done."""
    parts = []
    for system, found in result["systems"].items():
        if "failed" in found:
            parts.append(f"{system} failed")
        else:
            parts.append(f"{system} {seconds(found['seconds'])}, {size(found['disk_bytes'])}")
    return f"{name} ({took:.0f} s): {'; '.join(parts)}"


def figure_lines(figure: Figure) -> list[str]:
    """Return the lines of one target."""
    bound = f"{'at most' if figure.at_most else 'at least'} {figure.target:g}"
    value = "-" if figure.value is None else f"{figure.value:.3g}"
    lines = [f"{figure.verdict:13}{figure.name:72}{value:>9} {figure.unit} ({bound})"]
    if figure.note:
        lines.append(f"{'':13}  {figure.note}")
    return lines


def target_table(figures: list[Figure]) -> list[str]:
    """Return the table of targets."""
    rows = []
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.3g} {figure.unit}"
        bound = f"{'at most' if figure.at_most else 'at least'} {figure.target:g}"
        rows.append([figure.name, value, bound, figure.verdict, figure.note])
    return table(["what", "measured", "target", "", "behind it"], rows)
