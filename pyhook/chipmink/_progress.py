# SPDX-License-Identifier: Apache-2.0
"""A progress bar for what takes longer than a second."""

from __future__ import annotations

import time
import warnings
from types import TracebackType
from typing import Any

_DELAY = 1.0  # seconds


class Progress:
    """Shows how many of `total` bytes are done, once that takes more than a second.

    By tqdm where it is installed, else by IPython's bar, else not at all.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._begun = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if hasattr(self._bar, "close"):
            self._bar.close()

    def add(self, count: int) -> None:
        """Say that so many more bytes are done."""
        self._done += count
        if self._done >= self._total:
            return
        if self._bar is None and time.monotonic() - self._begun > _DELAY:
            self._bar = self._make()
        elif hasattr(self._bar, "update"):
            self._bar.update(count)
        if hasattr(self._bar, "progress"):
            self._bar.progress = self._done

    def _make(self) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tqdm's, that it has no widgets here
                from tqdm.auto import tqdm

            return tqdm(
                desc=self._what,
                total=self._total,
                initial=self._done,
                unit="B",
                unit_scale=True,
                leave=False,
            )
        except ImportError:
            pass
        try:
            from IPython.display import ProgressBar, display

            bar = ProgressBar(self._total)  # type: ignore[no-untyped-call]
            display(bar)  # type: ignore[no-untyped-call]
            return bar
        except ImportError:
            return ()
