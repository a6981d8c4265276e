# SPDX-License-Identifier: Apache-2.0
"""What `log`, `status` and `diff` show: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

import base64
import contextlib
import datetime
import html
from collections.abc import Iterable, Mapping, Sequence

from ._checkpoint import Checkpoint, Diff, Variable
from ._errors import Error

_LINE = 60  # characters shown of a message or a line of code
_PICTURES = 20  # shown in a table


class Pictured(str):
    """The text of a cell, with a picture (a PNG) below it in HTML."""

    picture: bytes | None = None


class Table:
    """Rows of text under headings.

    Attributes
    ----------
    title : str
    columns : tuple of str
        A heading that ends in a blank is that of a column of figures, aligned to the right.
    rows : list of tuple of str
        A cell of several lines shows the first one as text, and all of them in HTML.
    """

    def __init__(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self.title = title
        self.columns = tuple(columns)
        self.rows = [tuple(row) for row in rows]

    def __repr__(self) -> str:
        """Align the columns."""
        lines = [[cell.partition("\n")[0] for cell in row] for row in self.rows]
        used = [i for i in range(len(self.columns)) if any(row[i] for row in lines)]
        table = [
            [self.columns[i].strip() for i in used],
            *([row[i] for i in used] for row in lines),
        ]
        widths = [max(len(row[i]) for row in table) for i in range(len(used))]
        text = [self.title] if self.title else []
        for row in table[not any(table[0]) :] if lines else ():
            cells = (
                cell.rjust(width) if self.columns[i].endswith(" ") else cell.ljust(width)
                for i, cell, width in zip(used, row, widths, strict=True)
            )
            text.append("  ".join(cells).rstrip())
        return "\n".join(text)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(repr(self))  # type: ignore[attr-defined]

    def _repr_html_(self) -> str:
        """Give the same as an HTML table; everything in it is escaped."""
        head = "".join(
            f'<th style="text-align:{self._align(i)}">{html.escape(name.strip())}</th>'
            for i, name in enumerate(self.columns)
        )
        head = f"<thead><tr>{head}</tr></thead>" if any(self.columns) else ""
        body = "".join(
            "<tr>" + "".join(self._html_cell(i, cell) for i, cell in enumerate(row)) + "</tr>"
            for row in self.rows
        )
        title = f"<div>{html.escape(self.title)}</div>" if self.title else ""
        if not self.rows:
            return title
        return f"{title}<table>{head}<tbody>{body}</tbody></table>"

    def _align(self, column: int) -> str:
        return "right" if self.columns[column].endswith(" ") else "left"

    def _html_cell(self, column: int, cell: str) -> str:
        align = self._align(column)
        text = html.escape(cell)
        if "\n" in cell or self.columns[column] in ("", "code"):
            text = f'<pre style="margin:0;background:none">{text}</pre>'
        if isinstance(cell, Pictured) and cell.picture:
            data = base64.b64encode(cell.picture).decode()
            text += f'<img style="max-width:320px" src="data:image/png;base64,{data}">'
        wrap = "nowrap" if align == "right" else "normal"
        style = f"text-align:{align};vertical-align:top;white-space:{wrap}"
        return f'<td style="{style}">{text}</td>'


# ---- words


def size(count: float) -> str:
    """Give a size in powers of 1000: ``1.2 MB``."""
    if count < 1000:
        return f"{int(count)} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 9.95 else f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} TB"


def duration(seconds: float) -> str:
    """Give a duration in two or three digits: ``12 ms``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def moment(time: datetime.datetime) -> str:
    """Give a local time: the day only if it is another one than today."""
    local = time.astimezone()
    today = local.date() == datetime.datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"


def short(text: str, most: int = _LINE) -> str:
    """Cut a line."""
    return text if len(text) <= most else text[: most - 1] + "…"


def first_line(code: str | None) -> str:
    """Give the first line of code that says something: no comment, no magic of ours."""
    lines = [line.strip() for line in (code or "").splitlines()]
    telling = [line for line in lines if line and not line.startswith(("#", "%chipmink"))]
    found = (telling or [line for line in lines if line] or [""])[0]
    return short(found)


def cell_name(checkpoint: Checkpoint) -> str:
    """Name the cell that led to a checkpoint: ``[7] df = df.dropna()``."""
    number = checkpoint.cell.execution if checkpoint.cell else 0
    code = first_line(checkpoint.code)
    return " ".join(filter(None, (f"[{number}]" if number else "", code or checkpoint.message)))


def names(listed: Iterable[str], most: int = 6) -> str:
    """List some names, and how many more there are."""
    all_names = list(listed)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more


# ---- tables


def graph(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Draw the lines of descent, newest first, one line of text for each checkpoint."""
    waiting: list[int | None] = []  # by column: the number that the line goes down to
    drawn = []
    for checkpoint in checkpoints:
        columns = [i for i, number in enumerate(waiting) if number == checkpoint.number]
        if not columns:
            columns = [waiting.index(None) if None in waiting else len(waiting)]
            waiting[columns[0] : columns[0] + 1] = [checkpoint.number]
        first, last = columns[0], columns[-1]
        cells = []
        for i in range(len(waiting)):
            symbol = "●" if i == first else "┘" if i in columns else "│" if waiting[i] else " "
            if symbol == " " and first < i < last:
                symbol = "─"
            cells.append(symbol + ("─" if first <= i < last else " "))
        drawn.append("".join(cells).rstrip())
        for i in columns:
            waiting[i] = None
        waiting[first] = checkpoint.parents[0] if checkpoint.parents else None
        while waiting and waiting[-1] is None:
            waiting.pop()
    return drawn


def log(
    checkpoints: Sequence[Checkpoint], at: int, refs: Mapping[int, Sequence[str]], more: int
) -> Table:
    """Show checkpoints, newest first; `at` is the one that the next save descends from."""
    rows = []
    for line, c in zip(graph(checkpoints), checkpoints, strict=True):
        cell = c.cell
        what = c.message or first_line(c.code)
        if cell and cell.error:
            what = f"{what}  ✗ {short(cell.error)}"
        rows.append(
            (
                line,
                str(c.number),
                moment(c.time),
                f"[{cell.execution}]" if cell and cell.execution else "",
                duration(cell.seconds) if cell else "",
                size(c.stats.bytes_written),
                ", ".join((*(["head"] if c.number == at else ()), *refs.get(c.number, ()))),
                what,
            )
        )
    columns = ("", "number ", "saved", "cell ", "ran ", "written ", "refs", "code")
    table = Table("", columns, rows)
    if more:
        table.title = f"the newest {len(rows)}; {more} older ones: log -n {len(rows) + more}"
    return table


def diff(before: Checkpoint | None, after: Checkpoint, found: Diff) -> Table:
    """Show what differs, with a preview of both sides."""
    pictures = 0

    def facts(checkpoint: Checkpoint | None, variable: Variable) -> Pictured:
        nonlocal pictures
        shown = Pictured(_preview("\n".join(variable.summary.splitlines()[:8])))
        if checkpoint is not None and pictures < _PICTURES:
            with contextlib.suppress(Error, ValueError):  # damaged, or not to be asked for by name
                shown.picture = checkpoint.preview(variable.name)
            pictures += shown.picture is not None
        return shown

    rows = [
        *(
            ("added", n, v.type, "", size(v.size), "", facts(after, v))
            for n, v in found.added.items()
        ),
        *(
            ("removed", n, v.type, size(v.size), "", facts(before, v), "")
            for n, v in found.removed.items()
        ),
        *(
            (
                "changed",
                n,
                v.type if u.type == v.type else f"{u.type} -> {v.type}",
                size(u.size),
                size(v.size),
                facts(before, u),
                facts(after, v),
            )
            for n, (u, v) in found.changed.items()
        ),
    ]
    sides = f"{before.number if before else 'nothing'} -> {after.number}"
    title = sides if rows else f"{sides}: no variable differs"
    columns = ("what", "variable", "type", "size before ", "after ", "before", "after")
    return Table(title, columns, rows)


def _preview(text: str) -> str:
    """Put on the first line what a terminal shows: the shape and the beginning."""
    lines = text.split("\n")
    if len(lines) > 1 and len(lines[0]) + len(lines[1]) < _LINE:
        return "\n".join((f"{lines[0]}: {lines[1]}", *lines[2:]))
    return "\n".join((short(lines[0]), *lines[1:]))
