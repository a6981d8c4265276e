"""What a figure was measured on: the kind of machine and the versions, nothing that names it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("chipmink", "cloudpickle", "dill", "numpy", "pandas", "scikit-learn", "matplotlib")
LIBRARIES = ("rocksdb", "libzstd", "libxxhash", "fuse3")


def describe(directory: Path) -> dict[str, Any]:
    """Return the machine, the versions, and the file system of `directory`."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": round(os.getloadavg()[0], 2),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "file_system": _output("stat", "-f", "-c", "%T", str(directory)),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": re.sub(r"[^0-9.].*", "", platform.release()),
        "python": platform.python_version(),
        "packages": {name: _package(name) for name in PACKAGES},
        "libraries": {name: _output("pkg-config", "--modversion", name) for name in LIBRARIES},
    }


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
