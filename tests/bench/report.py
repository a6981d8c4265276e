"""The tables a person reads."""

from __future__ import annotations

from typing import Any

from targets import Figure

COLUMNS = ("first save", "unchanged", "small change", "full load", "one variable")


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def seconds(value: float) -> str:
    """Return a duration for people."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def workload_lines(name: str, text: str, results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of one workload: a line for every system.

    Parameters
    ----------
    name, text
        Of the workload.
    results
        For each system the medians: ``{"first": [seconds, bytes], ...}``.
    """
    heads = "".join(f"{column:>20}" for column in COLUMNS[:3]) + "".join(
        f"{column:>14}" for column in COLUMNS[3:]
    )
    lines = [f"{name}: {text}", f"{'':12}{heads}{'on disk':>10}"]
    for system, result in results.items():
        saves = "".join(
            f"{seconds(result[key][0]):>10}{size(result[key][1]):>10}"
            for key in ("first", "unchanged", "cell")
        )
        loads = "".join(f"{seconds(result[key]):>14}" for key in ("full_load", "one_load"))
        lines.append(f"{system:12}{saves}{loads}{size(result['disk_bytes']):>10}")
    lines += [
        f"  {system} cannot save and load these, they are left out for it: {', '.join(left)}"
        for system, result in results.items()
        if (left := result["left_out"])
    ]
    return lines


def figure_lines(figure: Figure) -> list[str]:
    """Return the lines of one target."""
    bound = f"{'at most' if figure.at_most else 'at least'} {figure.target:g}"
    value = "-" if figure.value is None else f"{figure.value:.3g}"
    lines = [f"{figure.verdict:13}{figure.name:58}{value:>8} {figure.unit} ({bound})"]
    if figure.note:
        lines.append(f"{'':13}  {figure.note}")
    return lines
