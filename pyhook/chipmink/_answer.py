# SPDX-License-Identifier: Apache-2.0
"""What a kernel does when it has answered, so that nobody waits for it who looks at the answer."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_LEAVING = 1e-3  # seconds in which an answer leaves the kernel: other threads send it


class Answers:
    """Calls something when the kernel has answered what it is asked, and does nothing else yet.

    ipykernel calls its hooks before and after it handles a message, of which the answer is sent in
    between: no other message, callback or task of its loop comes to its turn before the second.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._handling = False
        self._call: Callable[[], None] | None = None
        self._hooks = {
            "pre_handler_hook": self._before,
            "post_handler_hook": self._after,
        }
        self._found: dict[str, Any] = {name: getattr(kernel, name, None) for name in self._hooks}
        if all(self._found.values()):
            for name, hook in self._hooks.items():
                setattr(kernel, name, hook)

    def end(self) -> None:
        """Leave the kernel as it was."""
        for name, hook in self._hooks.items():
            if vars(self._kernel).get(name) == hook:
                delattr(self._kernel, name)
                if getattr(self._kernel, name) != self._found[name]:  # it was somebody else's
                    setattr(self._kernel, name, self._found[name])

    def then(self, call: Callable[[], None]) -> bool:
        """Have something called after the answer; False: no answer comes, or not from here."""
        if not self._handling or threading.current_thread() is not threading.main_thread():
            return False
        self.now()
        self._call = call
        return True

    def now(self) -> None:
        """Call what waits for the answer."""
        call, self._call = self._call, None
        if call is not None:
            call()

    def _before(self) -> None:
        self._handling = threading.current_thread() is threading.main_thread()
        self._found["pre_handler_hook"]()

    def _after(self) -> None:
        try:  # before Ctrl-C means something else again
            if self._call is not None and threading.current_thread() is threading.main_thread():
                self._handling = False
                self._let_go()
                self.now()
        finally:
            self._found["post_handler_hook"]()

    def _let_go(self) -> None:
        """Let the answer leave."""
        if getattr(self._kernel, "_supports_kernel_subshells", False):
            time.sleep(_LEAVING)  # since ipykernel 7
        else:
            stream: Any = getattr(self._kernel, "shell_stream", None)
            with contextlib.suppress(Exception):
                stream.flush(sys.modules["zmq"].POLLOUT)


__all__ = ["Answers"]
