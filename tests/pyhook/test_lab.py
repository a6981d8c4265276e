# SPDX-License-Identifier: Apache-2.0
"""JupyterLab, in a browser: what the magics show is on the page.

Needs ``pip install jupyterlab playwright`` and Chromium; ``CHIPMINK_SCREENSHOTS`` is a directory
that keeps the picture of the page.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupyterlab")
playwright = pytest.importorskip("playwright.sync_api")
from kernels import environment_of  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WAIT = 120_000  # milliseconds
CELLS = [
    "%load_ext chipmink\n%chipmink attach lab",
    "import pandas as pd\nflights = pd.DataFrame({'delay': range(1000)})",
    "flights = flights[flights.delay > 990]",
    "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\naxes.plot(flights.delay)\n"
    "plt.close(figure)",
    "%chipmink log",
    "%chipmink diff 1 3",
]


@pytest.fixture
def lab(tmp_path: Path, path: Path) -> Iterator[str]:
    """Serve JupyterLab in a directory with a notebook; its address."""
    if BROWSER is None:
        pytest.skip("no browser: chromium is not installed")
    cells = [
        {"cell_type": "code", "id": f"c{i}", "source": cell, "metadata": {}, "outputs": []}
        | {"execution_count": None}
        for i, cell in enumerate(CELLS)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook | {"nbformat_minor": 5}))
    own = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    with subprocess.Popen(
        command, env=environment_of(path) | own, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        log = []
        for line in server.stderr:
            log.append(line)
            address = line.strip()
            if address.startswith("http://localhost") or "] http://localhost" in address:
                break
        else:
            pytest.fail("".join(log))
        yield "http://localhost" + address.rpartition("http://localhost")[2].partition("/lab")[0]
        server.terminate()
        server.communicate(timeout=60)


def test_tables_show_on_the_page(lab: str, tmp_path: Path) -> None:
    picture = Path(os.environ.get("CHIPMINK_SCREENSHOTS", tmp_path)) / "lab.png"
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(f"{lab}/lab/tree/a.ipynb?reset", timeout=WAIT)
        page.get_by_text("| Idle").wait_for(timeout=WAIT)  # the kernel's status
        page.get_by_text("Run", exact=True).first.click(timeout=WAIT)
        page.get_by_text("Run All Cells", exact=True).click(timeout=WAIT)
        tables = page.locator(".jp-OutputArea-output table")
        try:
            tables.nth(1).wait_for(timeout=WAIT)
        finally:
            page.screenshot(path=picture)
        log, diff = (tables.nth(i).inner_text() for i in range(2))
        browser.close()
    assert "flights = flights[flights.delay > 990]" in log
    assert "head, main" in log
    assert "matplotlib.figure.Figure" in diff
    assert "1000 rows" in diff
    assert "9 rows" in diff
    assert picture.stat().st_size > 10_000
