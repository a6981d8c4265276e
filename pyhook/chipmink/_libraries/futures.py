# SPDX-License-Identifier: Apache-2.0
"""Futures of `concurrent.futures` that are done: by their result."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any


def _save(future: Future[Any]) -> Any:
    if future.cancelled():
        return ()
    if not future.done():
        raise ValueError("it is not done")
    error = future.exception()
    return (error,) if error is not None else (None, future.result())


def load(state: tuple[Any, ...]) -> Future[Any]:
    """Make a future that was cancelled (), failed (error,) or succeeded (None, result)."""
    future: Future[Any] = Future()
    if not state:
        future.cancel()
        future.set_running_or_notify_cancel()
    elif len(state) == 1:
        future.set_exception(state[0])
    else:
        future.set_result(state[1])
    return future


FUTURE = SimpleNamespace(save=_save, load=load)
