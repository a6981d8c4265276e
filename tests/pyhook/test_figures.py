# SPDX-License-Identifier: Apache-2.0
"""Previews of figures: what they show, what they leave alone, and what they may cost."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chipmink
import numpy as np
import pytest
from chipmink import _figures

pytest.importorskip("matplotlib")
import matplotlib
from kernels import Kernel
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from PIL import Image


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    matplotlib.use("agg")
    yield
    plt.close("all")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing may take its time: what is drawn is the subject, and the machine is busy."""
    monkeypatch.setattr(_figures, "LIMIT", 60)


def plotted(*values: float) -> tuple[Any, Any]:
    figure, axes = plt.subplots()
    axes.plot(values or (1, 3, 2), color="red", linewidth=9)
    return figure, axes


def picture(png: bytes | None) -> Any:
    assert png is not None
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


@pytest.mark.usefixtures("patient")
def test_figures_and_axes(session: chipmink.Session) -> None:
    figure, axes = plotted()
    both, parts = plt.subplots(1, 2, figsize=(30, 10))
    flat = Figure(figsize=(4, 2), facecolor="blue")
    inner = flat.subfigures(1, 2)[0].subplots()
    saved = session.save(
        {"figure": figure, "axes": axes, "both": both, "parts": parts, "flat": flat, "inner": inner}
        | {"number": 1, "Figure": Figure}
    )
    assert not saved.unsaved
    image = picture(saved.preview("figure"))
    assert image.size == (640, 480)
    red = np.all(np.asarray(image)[..., :3] == (255, 0, 0), axis=2)
    assert red.sum() > 1000
    assert not image.info.keys() & {"Software", "Creation Time"}
    assert saved.preview("axes") == saved.preview("figure")
    assert picture(saved.preview("both")).size == (800, 267)
    assert saved.preview("parts") is None  # an array of them
    assert picture(saved.preview("flat")).getpixel((0, 0)) == (0, 0, 255, 255)
    assert saved.preview("inner") == saved.preview("flat")
    assert saved.preview("number") is saved.preview("Figure") is None
    with pytest.raises(chipmink.NotFound):
        saved.preview("nothing")
    assert session.store.verify().damage == ()


@pytest.mark.usefixtures("patient")
def test_only_changes_are_drawn(session: chipmink.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = _figures._draw
    monkeypatch.setattr(_figures, "_draw", lambda *args: drawn.append(1) or draw(*args))
    figure, axes = plotted()
    first = session.save({"figure": figure, "axes": axes})
    assert len(drawn) == 1
    again = session.save({"figure": figure, "axes": axes, "more": 1})
    assert len(drawn) == 1
    assert again.preview("figure") == first.preview("figure")
    axes.lines[0].set_ydata([1, 30, 2])
    changed = session.save({"figure": figure, "axes": axes})
    assert len(drawn) == 2
    assert changed.preview("figure") != first.preview("figure")
    assert session.load(1, names=["figure"])["figure"].axes
    other = session.save({"figure": plotted()[0]})
    assert other.preview("figure") == first.preview("figure")


@pytest.mark.usefixtures("patient")
def test_nothing_is_changed(
    session: chipmink.Session, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not the figure, not pyplot, not what is warned of; and nothing is said."""
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([1, 2])
    axes.set_title("\N{CJK UNIFIED IDEOGRAPH-4E2D}")  # its glyph is missing: there is a warning
    current, _ = plotted()
    drawn = []
    figure.canvas.mpl_connect("draw_event", drawn.append)
    canvas, dpi, stale, place = figure.canvas, figure.dpi, figure.stale, axes.get_position()
    level, filters = logging.getLogger("matplotlib").level, list(warnings.filters)
    saved = session.save({"figure": figure})
    assert saved.preview("figure") is not None
    assert figure.canvas is canvas
    assert (figure.dpi, figure.stale) == (dpi, stale)
    assert np.array_equal(axes.get_position().get_points(), place.get_points())
    assert not drawn
    assert plt.gcf() is current
    assert len(plt.get_fignums()) == 2
    assert matplotlib.get_backend().lower() == "agg"
    assert logging.getLogger("matplotlib").level == level
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    unchanged = session.save({"figure": figure})
    assert unchanged.variables["figure"].changed == 1


def lines() -> Any:
    figure, axes = plt.subplots()
    axes.plot([1, 3, 2], label="a")
    axes.legend()
    axes.twinx().plot([3, 1, 2])
    return figure


def bars() -> Any:
    figure, (left, right) = plt.subplots(1, 2, sharey=True)
    left.bar([1, 2, 3], [3, 4, 5])
    right.barh(["a", "b"], [3, 4])
    right.annotate("here", (0, 0), (1, 1), arrowprops={"arrowstyle": "->"})
    figure.tight_layout()
    return figure


def images() -> Any:
    figure, axes = plt.subplots(2, 2)
    figure.colorbar(axes[0, 0].imshow(np.arange(64).reshape(8, 8)))
    axes[1, 1].contourf(np.arange(64).reshape(8, 8))
    return figure


def polar() -> Any:
    figure = plt.figure()
    figure.add_subplot(121, projection="polar").plot([1, 2, 3])
    figure.add_subplot(122, projection="3d").plot([1, 2], [1, 2], [1, 2])
    return figure


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    days = pandas.date_range("2026-01-01", periods=9)
    return pandas.DataFrame({"a": range(9), "b": range(9, 0, -1)}, days).plot().figure


def grid() -> Any:
    seaborn, pandas = pytest.importorskip("seaborn"), pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": range(9), "b": range(9, 0, -1), "c": list("xyz") * 3})
    return seaborn.pairplot(table, hue="c").figure


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("make", [lines, bars, images, polar, frame, grid])
def test_what_does_not_change_figures(
    session: chipmink.Session, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    drawn = []
    draw = _figures._draw
    monkeypatch.setattr(_figures, "_draw", lambda *args: drawn.append(1) or draw(*args))
    namespace = {"figure": make()}
    figure = namespace["figure"]
    figure.canvas.draw()
    first = session.save(namespace)

    def same() -> None:
        again = session.save(namespace)
        assert again.variables["figure"].changed == first.number
        assert again.stats.bytes_written < 1000
        assert again.preview("figure") == first.preview("figure")
        assert len(drawn) == 1

    pickle.dumps(figure)
    copy.deepcopy(figure)
    same()
    figure.canvas.draw()
    same()
    for axes in figure.axes:
        axes.get_xlim(), axes.get_position()
        repr(axes)
    same()
    figure.axes[0].set_title("new")
    changed = session.save(namespace)
    assert changed.variables["figure"].changed == changed.number
    assert len(drawn) == 2
    looks = session.load(first, names=["figure"])["figure"]
    assert _figures._draw(*_figures._take(looks, float("inf"))[:2], float("inf")) == first.preview(
        "figure"
    )


@pytest.mark.usefixtures("patient")
def test_callbacks_keep_their_numbers(session: chipmink.Session) -> None:
    """One that is connected after a load has a number that none has that was connected before."""
    figure, _ = plotted()
    registry = figure.canvas.callbacks
    numbers = [figure.canvas.mpl_connect("draw_event", function) for function in (print, repr)]
    session.save({"figure": figure})
    pickle.dumps(figure)
    after = figure.canvas.mpl_connect("draw_event", str)
    assert after > max(numbers) + 1  # the save has used none up, and the pickle one
    figure.canvas.mpl_disconnect(numbers[0])
    plt.close(figure)  # pyplot connects callbacks to what it shows
    session.save({"figure": figure})
    assert figure.canvas.callbacks is registry
    loaded = session.load()["figure"]  # views of one array are then views of its memory
    session.save({"figure": loaded})
    loaded = session.load()["figure"]
    assert session.save({"figure": loaded}).variables["figure"].changed == 3
    assert loaded.canvas.mpl_connect("draw_event", len) > after


@pytest.mark.usefixtures("patient")
def test_the_same_again_is_not_drawn_again(
    session: chipmink.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    draw = _figures._draw
    monkeypatch.setattr(_figures, "_draw", lambda *args: drawn.append(1) or draw(*args))
    first = session.save({"figure": plotted(1, 2)[0]})
    session.save({"figure": plotted(2, 1)[0]})
    plt.close("all")
    last = session.save({"figure": plotted(1, 2)[0]})
    assert len(drawn) == 2
    assert last.preview("figure") == first.preview("figure") is not None
    monkeypatch.setattr(_figures, "_KEPT", len(last.preview("figure") or b"") * 3 // 2)
    session.save({"figure": plotted(2, 3)[0]})
    assert len(session.store._previews._pictures) == 1


def test_cells_that_do_not_touch_a_figure(path: Path) -> None:
    """With the inline backend, which draws and closes figures at the end of each cell."""
    kernel = Kernel(path)
    try:
        kernel.good(
            "%matplotlib inline\n"
            "import chipmink, copy, pickle, matplotlib.pyplot as plt\n"
            "chipmink._figures.LIMIT = 60\n"
            "session = chipmink.open().session('figures')\n"
            "def save(_):\n"
            "    names = {'fig', 'axes'} & globals().keys()\n"
            "    saved = session.save(globals(), names=sorted(names))\n"
            "    if 'fig' in saved.variables:\n"
            "        told.append((saved.variables['fig'].changed, saved.stats.bytes_written))\n"
            "told = []\n"
            "get_ipython().events.register('post_run_cell', save)"
        )
        kernel.good("fig, axes = plt.subplots(1, 2)\naxes[0].plot([1, 2]); fig.tight_layout()")
        kernel.good("fig")
        told = eval(kernel.good("told"))
        known = told[-1][0]
        for code in ("pass", "fig;", "fig", "pickle.dumps(fig);", "copy.deepcopy(fig); x = 1"):
            kernel.good(code)
        for _ in range(3):
            kernel.good("[(a.get_xlim(), repr(a)) for a in axes]; import gc; gc.collect();")
        told = eval(kernel.good("told"))[len(told) :]
        assert len(told) == 9  # with that after the cell that showed them
        assert {changed for changed, _ in told} == {known}
        assert max(written for _, written in told) < 1000
    finally:
        kernel.end()


class Loud(Figure):
    calls: list[str] = []  # noqa: RUF012

    def draw(self, renderer: Any) -> None:
        self.calls.append("figure")


class Sly(Axes):
    @property
    def figure(self) -> Any:
        Loud.calls.append("axes")
        return super().figure

    @figure.setter
    def figure(self, figure: Any) -> None:
        pass


class Slow(Line2D):
    def draw(self, renderer: Any) -> None:
        Loud.calls.append("line")
        while True:
            pass


def formatted(value: float, _: int) -> str:
    Loud.calls.append("tick")
    raise SystemExit


@pytest.mark.usefixtures("patient")
def test_code_of_others_is_not_run(session: chipmink.Session) -> None:
    line, (tick, axes), own, tex = plotted()[0], plotted(), plotted()[0], plotted()[0]
    line.axes[0].add_line(Slow([1, 2], [3, 4]))
    axes.xaxis.set_major_formatter(FuncFormatter(formatted))
    own.axes[0].lines[0].draw = formatted
    tex.text(0, 0, "x", usetex=True)
    good = plotted()[0]
    sly = Sly(plotted()[0], (0, 0, 1, 1))
    Loud.calls.clear()
    namespace = {"loud": Loud(), "line": line, "tick": tick, "own": own, "tex": tex, "good": good}
    assert _figures.figures_in({"sly": sly}.items()) == {}
    saved = session.save(namespace)
    assert not saved.unsaved
    assert Loud.calls == []
    shown = [name for name in namespace if saved.preview(name)]
    assert shown == ["good"]


@pytest.mark.usefixtures("patient")
def test_what_cannot_be_drawn(session: chipmink.Session) -> None:
    bad, axes = plotted()
    axes.set_title("$\\nothing{$")
    huge = plt.figure(figsize=(1e9, 1))
    flat = plt.figure(figsize=(1e-9, 1e-9))
    lock, locked = plotted()
    locked.lock = threading.Lock()
    nul, _ = plotted()
    saved = session.save({"bad": bad, "huge": huge, "flat": flat, "lock": lock, "n\0": nul})
    assert set(saved.unsaved) == {"lock", "'n\\x00'"}
    assert saved.preview("bad") is None
    assert picture(saved.preview("huge")).size == (800, 1)
    assert picture(saved.preview("flat")).size == (1, 1)
    busy, axes = plt.subplots()
    axes.imshow(np.random.default_rng(1).random((3000, 3000)))  # more data than is looked at
    assert session.save({"busy": busy}).preview("busy") is None


class Clock:
    """One that ticks when it is looked at, so that no test depends on the machine."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 2.5e-4
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_figures, "time", clock)
    return clock


@pytest.mark.usefixtures("clock")
def test_a_save_ends_in_time(session: chipmink.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes too long is given up, and not tried each time; a small one beside it is drawn."""
    tried = []
    take = _figures._take
    monkeypatch.setattr(_figures, "_take", lambda *args: tried.append(1) or take(*args))
    slow, grid = plt.subplots(3, 3)
    assert session.save({"slow": slow}).preview("slow") is None
    assert len(tried) == 1
    for number in range(12):
        grid[0, 0].set_title(str(number))
        assert session.save({"slow": slow}).preview("slow") is None
    assert len(tried) == 4  # at first, and after one, two and four more
    monkeypatch.setattr(_figures, "LIMIT", 60)
    small, _ = plotted()
    assert session.save({"slow": slow, "small": small}).preview("small") is not None
    for _ in range(8):
        last = session.save({"slow": slow})
    assert last.preview("slow") is not None


def test_the_time_is_shared(
    session: chipmink.Session, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many figures each comes to its turn, and keeps what it has while it does not change."""
    draw = _figures._draw

    def slowly(stream: bytes, buffers: list[bytearray], deadline: float) -> bytes | None:
        png = draw(stream, buffers, deadline)
        clock.now = deadline
        return png

    monkeypatch.setattr(_figures, "_draw", slowly)
    namespace = {f"f{i}": plotted(1, i)[0] for i in range(5)}
    for i in range(5):
        saved = session.save(namespace)
        assert sum(saved.preview(name) is not None for name in namespace) == i + 1


def test_other_threads_draw_nothing(session: chipmink.Session) -> None:
    figure, _ = plotted()
    saved: list[chipmink.Checkpoint] = []
    thread = threading.Thread(target=lambda: saved.append(session.save({"figure": figure})))
    thread.start()
    thread.join()
    assert saved[0].preview("figure") is None


def test_without_matplotlib(python: Callable[..., Any], path: Any) -> None:
    script = """
        import sys, chipmink
        session = chipmink.open(sys.argv[1]).session("s")
        assert session.save({"x": 1}).preview("x") is None
        assert "matplotlib" not in sys.modules and "PIL" not in sys.modules
        """
    assert python(script, path).wait() == 0


@pytest.mark.usefixtures("patient")
def test_previews_are_deterministic(python: Callable[..., Any], path: Any) -> None:
    """Another process that does the same stores the same bytes."""
    script = """
        import hashlib, sys, chipmink
        import matplotlib
        matplotlib.use("agg")
        from matplotlib import pyplot
        figure, axes = pyplot.subplots()
        axes.hist([1, 2, 2, 3, 3, 3], label="$x^2$")
        axes.legend()
        chipmink._figures.LIMIT = 60
        saved = chipmink.open(sys.argv[1]).session(sys.argv[2]).save({"figure": figure})
        print(hashlib.sha256(saved.preview("figure")).hexdigest())
        """
    told = [python(script, path, name).communicate()[0] for name in ("a", "b")]
    assert told[0] == told[1]
    assert len(told[0].strip()) == 64


@pytest.mark.usefixtures("patient")
def test_diff_shows_both(session: chipmink.Session) -> None:
    from chipmink import _views

    figure, axes = plotted()
    first = session.save({"figure": figure, "other": 1})
    axes.set_title("<changed>")
    second = session.save({"figure": figure, "other": 2})
    table = _views.diff(first, second, second.diff(first))
    page = table._repr_html_()
    assert page.count("<img ") == page.count('src="data:image/png;base64,iVBOR') == 2
    assert "<changed>" not in page
    assert "base64" not in repr(table)
