# SPDX-License-Identifier: Apache-2.0
"""A host for attachments in tests."""

from __future__ import annotations

from collections.abc import Callable


class Silent:
    """A host that runs nothing."""

    call = "{}"

    def __init__(self, asks_before: bool) -> None:
        self.asks_before = asks_before  # saves go on behind the cells
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        raise AssertionError(line)

    def run(self, code: str) -> None:
        raise AssertionError(code)

    def soon(self, call: Callable[[], None]) -> bool:
        return False

    def leave(self) -> None:
        pass
