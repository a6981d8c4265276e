# SPDX-License-Identifier: Apache-2.0
"""The magic ``%chipmink``: each command of it is a method of `Attachment`."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import display

from . import _notebook
from ._attachment import Attachment
from ._errors import Error


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as IPython's magics do, and does not end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _HelpShown

    def print_help(self, file: Any = None) -> None:
        print(self.format_help().rstrip())


class _HelpShown(Exception):
    """Help was asked for and given."""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%chipmink", description="Every state of this notebook, kept.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, what: str, *arguments: tuple[str, dict[str, Any]]) -> None:
        made = commands.add_parser(name, help=what, description=what)
        for flag, options in arguments:
            made.add_argument(*flag.split(), **options)

    at = {"metavar": "AT", "nargs": "?", "help": "a number, branch, tag or id"}
    steps = {"metavar": "STEPS", "nargs": "?", "type": int, "default": 1, "help": "how many"}
    command(
        "attach",
        "save after every cell from now on",
        ("name", {"metavar": "NAME", "nargs": "?", "help": "of the session; the notebook's own"}),
        ("--store", {"metavar": "DIR", "help": "$CHIPMINK_STORE or ~/.chipmink"}),
        ("--branch", {"metavar": "BRANCH", "help": "to work on; the present one"}),
        (
            "--active-only",
            {"action": "store_true", "help": "look only at what cells could reach, as they read"},
        ),
    )
    command("detach", "save no more")
    command("status", "where this notebook is, and what of it is not saved")
    command(
        "log",
        "the newest checkpoints, and how they descend from each other",
        ("-n", {"dest": "most", "metavar": "MOST", "type": int, "default": 20, "help": "how many"}),
    )
    command(
        "diff",
        "what differs from A to B; from A to here; what the last cell changed",
        ("a", {**at, "metavar": "A"}),
        ("b", {**at, "metavar": "B"}),
    )
    command(
        "checkout",
        "make the namespace what it was at AT; or when this kernel attached, after a crash",
        ("at", at),
        ("--rerun", {"action": "store_true", "help": "run what could not be saved again"}),
    )
    command("undo", "go back to before the last cell that changed something", ("steps", steps))
    command("redo", "go forward to what was undone", ("steps", steps))
    command("branch", "begin a branch here, and go on with it", ("name", {"metavar": "NAME"}))
    command("tag", "give a checkpoint a name", ("name", {"metavar": "NAME"}), ("at", at))
    command(
        "save",
        "save now",
        ("-m --message", {"metavar": "TEXT", "nargs": "+", "help": "what to remember it by"}),
    )
    command("pull", "bring in what others have put on this branch")
    command("mount", "show the store as files", ("directory", {"metavar": "DIR"}))
    command("skip", "do not save after this cell")
    command("pause", "save nothing until resume")
    command("resume", "save after every cell again")
    return parser


_PARSER = _parser()
_COMMANDS: dict[str, Any] = _PARSER._subparsers._group_actions[0].choices  # type: ignore
_TAKES_REVISION = ("checkout", "diff", "tag")


@magics_class
class ChipminkMagics(Magics):
    """What ``%load_ext chipmink`` adds to IPython."""

    @line_cell_magic
    def chipmink(self, line: str, cell: str | None = None) -> None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%chipmink: {error}") from None
        if not words:
            words = ["status"] if _notebook.current() else ["--help"]
        try:
            arguments = vars(_PARSER.parse_args(words))
        except _HelpShown:
            return
        command = arguments.pop("command")
        try:
            if cell is None:
                self._run(command, arguments)
            else:
                self._run_cell(command, arguments, cell)
        except Error as error:
            raise UsageError(f"%chipmink {command}: {error}") from error

    chipmink.__doc__ = _PARSER.format_help() + (
        "\n%chipmink COMMAND -h explains one. %%chipmink skip and %%chipmink save -m TEXT before a"
        "\ncell do not save after it, or save with a message."
    )

    def _attachment(self) -> Attachment:
        attachment = _notebook.current()
        if attachment is None:
            raise Error("not attached: %chipmink attach NAME")
        return attachment

    def _run(self, command: str, arguments: dict[str, Any]) -> None:
        for place in ("store", "directory"):
            if arguments.get(place):
                arguments[place] = os.path.expanduser(arguments[place])
        if command == "attach":
            _notebook.attach(**arguments)
            return
        if command == "save" and arguments["message"]:
            arguments["message"] = " ".join(arguments["message"])
        shown = getattr(self._attachment(), command)(**arguments)
        if shown is not None:
            display(shown)  # type: ignore[no-untyped-call]

    def _run_cell(self, command: str, arguments: dict[str, Any], cell: str) -> None:
        if command not in ("skip", "save"):
            raise Error(f"%%chipmink takes skip and save, not {command}")
        attachment = self._attachment()
        shell: Any = self.shell
        shell.run_cell(cell, store_history=False)  # tells of its errors itself
        if command == "skip":
            attachment.skip()
        else:
            attachment._message = " ".join(arguments["message"] or ())

    def complete(self, shell: Any, event: Any) -> list[str]:
        """Complete commands, options, branches, tags and numbers."""
        words = event.line[: getattr(event, "cursor_pos", None) or len(event.line)].split()
        before = words[1:] if event.line.endswith(" ") else words[1:-1]
        if not before:
            return [*_COMMANDS]
        parser = _COMMANDS.get(before[0])
        if parser is None:
            return []
        options = [flag for flag in parser._option_string_actions if flag.startswith("--")]
        attachment = _notebook.current()
        if attachment is None or before[0] not in _TAKES_REVISION:
            return options
        session = attachment.session
        last = session._state()[0]
        numbers = [str(number) for number in range(last, max(last - 20, 0), -1)]
        return [*options, *session.branches, *session.tags, *numbers]


def register(shell: Any) -> None:
    """Add the magic to a shell, once."""
    if "ChipminkMagics" in shell.magics_manager.registry:
        return
    magics = ChipminkMagics(shell)
    shell.register_magics(magics)
    for name in ("%chipmink", "%%chipmink"):
        shell.set_hook("complete_command", magics.complete, str_key=name)


def unregister(shell: Any) -> None:
    """Detach; the magic stays, as IPython has no way to remove one."""
    attachment = _notebook.current()
    if attachment is not None:
        attachment.detach()
