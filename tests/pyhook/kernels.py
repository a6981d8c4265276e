# SPDX-License-Identifier: Apache-2.0
"""Real Jupyter kernels, driven as a notebook does it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any, NamedTuple

import chipmink
from jupyter_client import KernelManager

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WAIT = 60  # seconds for a cell, on a busy machine


class Ran(NamedTuple):
    """What a cell came to."""

    out: str
    err: str
    error: str | None
    html: str


def environment_of(store: Path) -> dict[str, str]:
    """Give what a program has whose kernels use this Chipmink, and that store."""
    package = Path(chipmink.__file__).absolute().parents[1]
    python_path = {"PYTHONPATH": str(package)} if "site-packages" not in str(package) else {}
    return {**os.environ, **python_path, "CHIPMINK_STORE": str(store)}


class Kernel:
    """A kernel with the IPython of this environment; its store is `store`."""

    def __init__(self, store: Path, **environment: str) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel(
            env={**environment_of(store), **environment}, cwd=str(store.parent)
        )
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=_WAIT)

    def run(self, code: str) -> Ran:
        streams = {"stdout": "", "stderr": ""}
        shown, html, error = "", "", None

        def take(message: dict[str, Any]) -> None:
            nonlocal shown, html, error
            content = message["content"]
            if message["msg_type"] == "stream":
                streams[content["name"]] += content["text"]
            elif message["msg_type"] in ("display_data", "execute_result"):
                shown += content["data"].get("text/plain", "") + "\n"
                html += content["data"].get("text/html", "")
            elif message["msg_type"] == "error":
                error = f"{content['ename']}: {content['evalue']}"

        self.client.execute_interactive(code, output_hook=take, timeout=_WAIT)
        return Ran(_COLOUR.sub("", streams["stdout"] + shown), streams["stderr"], error, html)

    def settle(self) -> None:
        """Wait until what the cells left is in the store."""
        self.run("%chipmink status")

    def good(self, code: str) -> str:
        """What a cell that must not fail prints and shows."""
        ran = self.run(code)
        assert ran.error is None, ran
        assert not ran.err, ran
        return ran.out

    def kill(self) -> None:
        """As a crash, or the kernel of the system that runs out of memory."""
        os.kill(self.manager.provisioner.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
