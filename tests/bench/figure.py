# SPDX-License-Identifier: Apache-2.0
"""One line of the table of targets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Figure:
    """One line of the table of targets.

    Attributes
    ----------
    name, unit
        What is measured.
    value
        The median; None if it could not be measured.
    target
        The bound.
    at_most
        Whether the bound is an upper one.
    note
        What the reader should know; why there is no value.
    raw
        All measurements behind the value.
    excused
        Whether it cannot be measured on this machine.
    """

    name: str
    value: float | None
    unit: str
    target: float
    at_most: bool = True
    note: str = ""
    raw: dict[str, Any] = field(default_factory=dict)
    excused: bool = False

    @property
    def verdict(self) -> str:
        """'met', 'missed' or 'not measured'."""
        if self.value is None:
            return "not measured"
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return "met" if met else "missed"

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON."""
        return {**asdict(self), "verdict": self.verdict}


def of_that_size(size: float) -> str:
    """Say in a name that what it states was made smaller."""
    return "" if size == 1 else f" (at {size:g} of that size)"
