# SPDX-License-Identifier: Apache-2.0
"""The classes of other libraries that are tried: how to make one, change it, and compare two.

A module here lists a field of libraries. Nothing is imported before a case is used: the table can
be listed where its libraries are not installed. Data are from seeds; nothing needs a network.
"""

from __future__ import annotations

from importlib import import_module

from .table import CASES, Case

for _module in ("core", "frames", "learning", "models", "plots", "language", "values", "science"):
    import_module(f"{__name__}.{_module}")

__all__ = ["CASES", "Case"]
