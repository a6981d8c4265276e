"""The main job from end to end, on a real notebook; tools/demo starts it and cleans up after it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

HERE = Path(__file__).resolve().parent
SESSION = "flights"
CHIPMINK = Path(sys.executable).with_name("chipmink")


class DemoError(Exception):
    """The demo cannot go on; the message says what failed."""


class Table:
    """One line per checkpoint, printed while the notebook runs."""

    HEAD = (
        "                                               Chipmink     full pickle (cloudpickle)\n"
        " cell                           namespace     written  seconds     written  seconds"
    )

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        print(self.HEAD)

    def add(self, row: dict[str, Any]) -> None:
        """Print the line of a checkpoint."""
        self.rows.append(row)
        message = row["message"] if len(row["message"]) <= 26 else row["message"][:25] + "…"
        self._line(f"{row['number']:3}  {message:26}", size(row["logical_bytes"]), row)

    def totals(self) -> None:
        """Print the sums."""
        print(" " + "-" * 85)
        total = {
            "bytes_written": sum(row["bytes_written"] for row in self.rows),
            "seconds": sum(row["seconds"] for row in self.rows),
            "pickle_bytes": sum(row["pickle_bytes"] for row in self.rows),
            "pickle_seconds": sum(row["pickle_seconds"] for row in self.rows),
        }
        self._line(f"     {f'all {len(self.rows)} checkpoints':26}", "", total)
        factor = total["pickle_bytes"] / total["bytes_written"]
        print(
            f"\n Chipmink wrote 1/{factor:.1f} of the bytes in "
            f"{total['seconds'] / total['pickle_seconds']:.2f} times the time."
        )
        unsaved = {n: reason for row in self.rows for n, reason in row["unsaved"].items()}
        for name, reason in unsaved.items():
            print(f" Not saved, and listed as such: {name} ({reason})")

    @staticmethod
    def _line(label: str, namespace: str, row: dict[str, Any]) -> None:
        chipmink = f"{size(row['bytes_written']):>10} {row['seconds']:8.3f}"
        pickle = f"{size(row['pickle_bytes']):>10} {row['pickle_seconds']:8.3f}"
        print(f" {label} {namespace:>9}  {chipmink}  {pickle}", flush=True)


class Demo:
    """The run: where its files are, and its steps."""

    def __init__(self, work: Path, can_mount: bool) -> None:
        self.work = work
        self.can_mount = can_mount
        self.mount_point = work / "mnt"
        self.references = work / "references"
        self.log = work / "log.jsonl"
        self.notebook = nbformat.read(HERE / "flights.ipynb", as_version=4)
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        # The notebook itself says which of its cells is the mistake, and what is lost by it.
        marked = [
            (number, cell.metadata["overwrites"])
            for number, cell in enumerate(cells, 1)
            if "overwrites" in cell.metadata
        ]
        ((mistake, self.lost),) = marked
        self.before = mistake - 1
        self.last = len(cells)
        self.mounted = False

    def environment(self) -> None:
        """Keep the run away from the user's own store and configuration."""
        self.references.mkdir()
        os.environ.update(
            CHIPMINK_STORE=str(self.work / "store"),
            DEMO_SESSION=SESSION,
            DEMO_LOG=str(self.log),
            DEMO_REFERENCES=str(self.references),
            DEMO_KEEP=f"{self.before},{self.last}",
            PYTHONPATH=str(HERE),
            MPLBACKEND="Agg",
            IPYTHONDIR=str(self.work / "ipython"),
            JUPYTER_CONFIG_DIR=str(self.work / "jupyter"),
            JUPYTER_RUNTIME_DIR=str(self.work / "jupyter"),
            JUPYTER_DATA_DIR=str(self.work / "jupyter"),
            MPLCONFIGDIR=str(self.work / "matplotlib"),
        )

    # ---- 1

    def run_notebook(self) -> None:
        """Run the notebook in a kernel that saves a checkpoint after every cell."""
        title("1. Run a notebook in a Jupyter kernel, with a checkpoint after every cell")
        print(f" {self.last} cells, {HERE.name}/flights.ipynb\n")
        table = Table()

        def show(cell: Any, cell_index: int, execute_reply: Any) -> None:
            if cell.cell_type == "code":
                self._wait_for_row(len(table.rows) + 1)
                table.add(self._rows()[len(table.rows)])

        manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
        manager.connection_file = str(self.work / "kernel.json")
        manager.ip = str(self.work / "kernel")  # of the sockets
        client = NotebookClient(
            self.notebook,
            km=manager,
            timeout=600,
            on_notebook_start=cancel_on_signal,
            on_cell_executed=show,
            extra_arguments=["--ext=demo_kernel"],
            resources={"metadata": {"path": str(self.work)}},
        )
        try:
            client.execute(cleanup_kc=True)  # and stop the kernel, whatever happens
        except CellExecutionError as error:
            raise DemoError(f"a cell of the notebook failed:\n{error}") from error
        except (asyncio.CancelledError, DeadKernelError):
            raise DemoError("stopped while the notebook ran") from None
        finally:
            stop_on_signal()
        table.totals()

    def _rows(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def _wait_for_row(self, number: int) -> None:
        # The kernel answers when the cell has run; its hook may still be on its way.
        deadline = time.monotonic() + 60
        while len(self._rows()) < number:
            if time.monotonic() > deadline:
                raise DemoError(f"no checkpoint after cell {number}: the kernel's output says why")
            time.sleep(0.01)

    # ---- 2

    def look(self) -> None:
        """Mount the store and show it with ordinary commands."""
        log = f"sessions/{SESSION}/log"
        before, last = f"{log}/{self.before:06d}", f"{log}/{self.last:06d}"
        title("2. Mount the store and look at it with ordinary tools")
        self._mount()
        if not self.mounted:
            self._look_without_mount()
            return
        self._shell(f"ls sessions/{SESSION} {last}")
        self._shell(f"ls -lS {before}/vars", 24)
        self._shell(f"du -shl --apparent-size {log}/*/vars | tail -n 4")
        self._shell(f"du -sh {log}/*/vars | tail -n 4")
        self._shell("du -sh pods")
        self._shell(f"cat {before}/info/{self.lost}.txt", 14)
        self._shell(f"cat {log}/{self.before + 1:06d}/code.py")
        self._shell(f"ls {log}/{self.before + 1:06d}/delta/*ed", 20)
        self._shell(f"grep -A 2 '\"unsaved\"' {last}/checkpoint.json")

    def _mount(self) -> None:
        if not self.can_mount:
            print(" (this machine cannot mount; the chipmink command shows the same)\n")
            return
        self.mount_point.mkdir()
        run([CHIPMINK, "mount", str(self.mount_point)])
        self.mounted = True
        print(f" $ chipmink mount {self.mount_point.name} && cd {self.mount_point.name}\n")

    def _look_without_mount(self) -> None:
        for command in (
            f"chipmink log {SESSION}",
            f"chipmink ls {SESSION}@{self.before}",
            f"chipmink diff {SESSION}@{self.before} {SESSION}@{self.before + 1}",
            f"chipmink show {SESSION}@{self.before}",
        ):
            self._shell(command, 24)

    # ---- 3

    def copy_out(self) -> None:
        """Copy a variable out and load it where there is no Chipmink."""
        title("3. Copy a variable out, and load it in a Python that has no Chipmink")
        name = f"{self.lost}.pkl"
        copy = self.work / name
        if self.mounted:
            source = f"sessions/{SESSION}/log/{self.before:06d}/vars/{name}"
            self._shell(f"cp {source} '{copy}'", shown=f"cp {source} ~/{name}")
        else:
            self._shell(
                f"chipmink cat {SESSION}@{self.before} {self.lost} >'{copy}'",
                shown=f"chipmink cat {SESSION}@{self.before} {self.lost} > ~/{name}",
            )
        libraries = self._libraries_without_chipmink()
        output = run([sys.executable, "-I", "-S", HERE / "plain_load.py", libraries, copy])
        print(indent("$ python\n" + output))

    def _libraries_without_chipmink(self) -> Path:
        """Make a directory of links to every installed package but Chipmink."""
        libraries = self.work / "site-without-chipmink"
        libraries.mkdir()
        for entry in map(Path, sys.path):
            if entry.name == "site-packages" and entry.is_dir():
                for package in entry.iterdir():
                    if "chipmink" not in package.name.lower() and not package.name.endswith(".pth"):
                        (libraries / package.name).symlink_to(package)
        return libraries

    # ---- 4 and 5

    def restore_variable(self) -> None:
        """Get the overwritten variable back."""
        number = str(self.before)
        title(
            f"4. Cell {self.before + 1} overwrote {self.lost}: get it back from checkpoint {number}"
        )
        self._restore(self.before, "--session", SESSION, "--at", number, "--names", self.lost)

    def restore_session(self) -> None:
        """Get everything back, in a new process."""
        if self.mounted:
            title("5. The whole session, in a new process, from the mounted directory")
            self._restore(self.last, "--directory", f"sessions/{SESSION}/head")
        else:
            title("5. The whole session, in a new process")
            self._restore(self.last, "--session", SESSION, "--at", str(self.last))

    def _restore(self, reference: int, *arguments: str) -> None:
        print(
            indent(
                run(
                    [
                        sys.executable,
                        HERE / "restore.py",
                        "--reference",
                        self.references / f"{reference:06d}.pkl",
                        *arguments,
                    ],
                    cwd=self.mount_point if self.mounted else self.work,
                )
            )
        )

    # ---- end

    def verify(self) -> None:
        """Re-read and check everything the store holds."""
        title("6. Re-read and check everything")
        self._shell("chipmink verify", shown="chipmink verify")

    def end(self) -> None:
        """Unmount, if mounted, and stop the store's server, if it runs."""
        if self.mounted:
            try:
                run([CHIPMINK, "umount", self.mount_point])
            except DemoError:  # a command that was interrupted may still be ending in there
                run([CHIPMINK, "umount", "--lazy", self.mount_point])
            self.mounted = False
            print(f" $ chipmink umount {self.mount_point.name}")
        if Path(os.environ["CHIPMINK_STORE"]).exists():
            run([CHIPMINK, "stop"])
            print(" $ chipmink stop")

    def _shell(self, command: str, limit: int = 20, shown: str | None = None) -> None:
        """Run a command as a user would type it; print it and the first lines of its output."""
        output = run(["bash", "-c", command], cwd=self.mount_point if self.mounted else self.work)
        lines = output.splitlines()
        if len(lines) > limit:
            lines = [*lines[: limit - 1], f"... ({len(lines) - limit + 1} more lines)"]
        print(indent("\n".join([f"$ {shown or command}", *lines])) + "\n", flush=True)


def run(command: list[Any], cwd: Path | None = None) -> str:
    """Run a command and return what it printed; a failure ends the demo with what it said."""
    path = f"{CHIPMINK.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        shown = " ".join(map(str, command))
        raise DemoError(f"{shown}\nexit status {done.returncode}\n{done.stdout}")
    return done.stdout


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{re.sub('.', '=', text)}\n", flush=True)


def indent(text: str) -> str:
    """Put a blank before every line."""
    return "\n".join(f" {line}".rstrip() for line in text.splitlines())


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cancel_on_signal(notebook: Any) -> None:
    """Let signals end the event loop's task, so that the kernel is stopped in order.

    Replaces the handlers of nbclient, which end the kernel and go on without it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in SIGNALS:
        loop.add_signal_handler(number, task.cancel)


def stop_on_signal() -> None:
    """Let signals raise an exception, so that everything is unwound."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise DemoError(f"stopped by {signal.Signals(number).name}")

    for number in SIGNALS:
        signal.signal(number, stop)


def main() -> int:
    """Run all steps; unmount whatever happens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--can-mount", type=int, default=1)
    arguments = parser.parse_args()
    stop_on_signal()

    begun = time.monotonic()
    demo = Demo(arguments.work, bool(arguments.can_mount))
    demo.environment()
    try:
        try:
            demo.run_notebook()
            demo.look()
            demo.copy_out()
            demo.restore_variable()
            demo.restore_session()
            demo.verify()
        finally:
            demo.end()
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - begun:.0f} s; nothing is left mounted or running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
