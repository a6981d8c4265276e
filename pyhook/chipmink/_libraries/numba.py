# SPDX-License-Identifier: Apache-2.0
"""Functions that Numba compiles: without the random identifier that they get by being pickled.

By it, Numba gives back the compiled function that the process has already. Plain functions are not
treated so either: what is loaded is a new one, compiled when it is called.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def _reduce(dispatcher: Any) -> Any:
    if not dispatcher._can_compile:  # it has its list of signatures, and takes no others
        return dispatcher.__reduce__()
    return type(dispatcher), (dispatcher.py_func, dispatcher.locals, dispatcher.targetoptions)


DISPATCHER = SimpleNamespace(reduce=_reduce)
