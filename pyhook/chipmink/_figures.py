# SPDX-License-Identifier: Apache-2.0
"""What figures of matplotlib look like: a PNG each, made when they are saved.

Drawing a figure changes it, so a copy is drawn: the figure is pickled, which also tells whether it
is as it was. No code but that of well-known packages is run, nothing is printed, and no more time
than `LIMIT` is spent on it in a save: what a figure looks like is worth less than a quick cell.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import importlib
import io
import logging
import pickle
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ._summary import describe

LIMIT = 0.25  # seconds of a save
_MOST = 1 << 20  # bytes of a picture: CM_PREVIEW_MOST
_SIDE = 800  # pixels
_DATA = 16 << 20  # bytes of a figure's objects and arrays
_KEPT = 16 << 20  # bytes of pictures kept in memory, for figures that look like one before
_PATIENCE = 64  # saves after which a figure that took too long is tried again, at most

# What a figure may consist of. Anything else may do what it likes when it is drawn.
_PACKAGES = frozenset(
    [
        "builtins",
        "collections",
        "copyreg",
        "datetime",
        "dateutil",
        "decimal",
        "fractions",
        "functools",
        "itertools",
        "matplotlib",
        "mpl_toolkits",
        "numpy",
        "operator",
        "pandas",
        "pathlib",
        "seaborn",
        "weakref",
        "zoneinfo",
    ]
)


# The classes, with those derived from them, that figures are reduced with reducers of ours for.
_REDUCED = (
    ("matplotlib.artist", "Artist"),
    ("matplotlib.cbook", "CallbackRegistry"),
    ("matplotlib.transforms", "TransformNode"),
)


class _TooMuch(Exception):
    """It would take too long."""


@dataclass
class _Known:
    """What is known of a figure since it was looked at last."""

    looked: int = 0  # in which save
    digest: bytes = b""
    picture: bytes | None = None
    rest: int = 0  # saves in which it is not looked at
    patience: int = 1


class Previews:
    """What the figures of a store's sessions look like. For one thread at a time."""

    def __init__(self) -> None:
        self._saves = 0
        self._known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        self._pictures: dict[bytes, bytes] = {}  # by digest, the one used last at the end

    def of(self, items: Iterable[tuple[str, object]]) -> dict[str, bytes] | None:
        """Give the pictures of those variables that are figures, or axes of one; never raise.

        One that is missing is too slow, not to be drawn, or to be looked at in a later save. A save
        keeps what it has of a figure that did not change.
        """
        # Other threads may be drawing, and what is done here about warnings is for all of them.
        if threading.current_thread() is not threading.main_thread():
            return None
        figures = figures_in(items)
        if not figures:
            return None
        self._saves += 1
        deadline = time.monotonic() + LIMIT
        each = {id(figure): figure for figure in figures.values()}
        known = {key: self._known.setdefault(figure, _Known()) for key, figure in each.items()}
        with _silence():
            for key in sorted(each, key=lambda key: known[key].looked):  # all come to their turn
                if time.monotonic() >= deadline:
                    break
                self._look(each[key], known[key], deadline)
        return {
            name: state.picture
            for name, figure in figures.items()
            if (state := known[id(figure)]).looked == self._saves and state.picture
        }

    def _look(self, figure: Any, known: _Known, deadline: float) -> None:
        """Find out what the figure looks like now."""
        if known.rest:
            known.rest -= 1
            return
        fair = deadline - time.monotonic() > LIMIT / 2  # others have not used the time up
        before, known.digest = known.digest, b""
        describe(figure)  # as every save does: it leaves some of its transforms worked out
        try:
            stream, buffers, known.digest = _take(figure, deadline)
            if known.digest != before:
                known.picture = None
                known.picture = self._picture(known.digest, stream, buffers, deadline)
                known.patience = 1
        except _TooMuch:
            known.picture, known.digest = None, b""
            if not fair:
                return
            known.rest, known.patience = known.patience, min(known.patience * 2, _PATIENCE)
        except Exception:  # it cannot be pickled, or not be drawn
            known.picture = None
        known.looked = self._saves

    def _picture(
        self, digest: bytes, stream: bytes, buffers: list[bytearray], deadline: float
    ) -> bytes | None:
        """Draw a copy of a figure, unless the same was drawn before.

        So it is when a cell is run again, or undone.
        """
        picture = self._pictures.pop(digest, None) or _draw(stream, buffers, deadline)
        if picture is not None:
            self._pictures[digest] = picture
            while sum(map(len, self._pictures.values())) > _KEPT:
                del self._pictures[next(iter(self._pictures))]
        return picture


def figures_in(items: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """Give the figure of each variable that is one, or axes of one."""
    if "matplotlib.figure" not in sys.modules:
        return {}
    return {name: figure for name, value in items if (figure := _figure_of(value))}


def _figure_of(value: object) -> Any:
    """Give the figure that a value is, or is part of; None: it is neither."""
    figure: Any = sys.modules["matplotlib.figure"].Figure
    if type(value) is figure:
        return value
    axes: Any = sys.modules.get("matplotlib.axes")
    if axes is None or type(type(value)) is not type or not issubclass(type(value), axes.Axes):
        return None
    with contextlib.suppress(Exception):
        found: Any = value
        for _ in range(3):  # axes of a part of a figure
            if not _is_known(type(found).__module__):  # it may do anything when it is asked
                return None
            found = found.figure
            if type(found) is figure:
                return found
    return None


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in _PACKAGES


# ---- copies


class _File:
    """Takes what a pickler writes, as long as there is time and room."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.parts: list[bytes] = []
        self.buffers: list[bytearray] = []
        self._size = 0

    def write(self, part: bytes) -> int:
        self._count(len(part))
        self.parts.append(bytes(part))
        return len(part)

    def add(self, buffer: pickle.PickleBuffer) -> None:
        """Take the memory of an array."""
        with buffer.raw() as memory:
            self._count(memory.nbytes)
            self.buffers.append(bytearray(memory))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _DATA or time.monotonic() >= self._deadline:
            raise _TooMuch


def _reduce_figure(figure: Any) -> Any:
    """Reduce a figure so that the copy is none of pyplot's."""
    reduced = figure.__reduce_ex__(5)
    reduced[2].update(_stale=True)
    reduced[2].pop("_restore_to_pylab", None)
    return reduced


def _classes(base: type) -> Iterator[type]:
    """Give a class and what is derived from it."""
    derived: type
    yield base
    for derived in type.__subclasses__(base):
        yield from _classes(derived)


def _dispatch_table(figure: Any) -> dict[Any, Any]:
    """Give the reducers that a save has for what figures consist of.

    Without them, a figure would look changed that was only drawn or copied, or be changed.
    """
    from ._reducers import Reducers  # not at import: with it comes cloudpickle

    table = dict(copyreg.dispatch_table)
    reducers = Reducers()
    for module, name in _REDUCED:
        for cls in _classes(getattr(sys.modules[module], name)):
            if reducer := reducers.dispatch(cls):
                table[cls] = reducer
    table[type(figure)] = _reduce_figure
    return table


def _take(figure: Any, deadline: float) -> tuple[bytes, list[bytearray], bytes]:
    """Pickle a figure: the stream, its buffers, and a digest of both."""
    file = _File(deadline)
    pickler = pickle.Pickler(file, 5, buffer_callback=file.add)
    pickler.dispatch_table = _dispatch_table(figure)
    pickler.dump(figure)
    stream = b"".join(file.parts)
    digest = hashlib.sha256(stream)
    for buffer in file.buffers:
        digest.update(buffer)
    return stream, file.buffers, digest.digest()


class _Unpickler(pickle.Unpickler):
    """Makes copies of figures that consist of nothing but what is known."""

    def find_class(self, module: str, name: str) -> Any:
        if not _is_known(module):
            raise pickle.UnpicklingError(f"{module}.{name} may do anything when it is drawn")
        return super().find_class(module, name)


# ---- drawing


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let nothing be printed."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    numpy: Any = sys.modules["numpy"]
    with warnings.catch_warnings(), numpy.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


@functools.cache
def _canvas_class() -> Any:
    """Make the class of canvases that end when it is time."""
    agg: Any = importlib.import_module("matplotlib.backends.backend_agg")

    class Renderer(agg.RendererAgg):  # type: ignore[misc]
        def __init__(self, width: int, height: int, dpi: float, deadline: float) -> None:
            self._deadline = deadline
            super().__init__(width, height, dpi)

        def _check(self) -> None:
            if time.monotonic() >= self._deadline:
                raise _TooMuch

        def open_group(self, s: str, gid: str | None = None) -> None:  # artists begin with it
            self._check()

        def new_gc(self) -> Any:
            self._check()
            return super().new_gc()

        def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:
            self._check()
            if ismath == "TeX":  # another program would be run
                raise _TooMuch
            return super().get_text_width_height_descent(s, prop, ismath)

    class Canvas(agg.FigureCanvasAgg):  # type: ignore[misc]
        def __init__(self, figure: Any, width: int, height: int, deadline: float) -> None:
            super().__init__(figure)
            self._renderer = Renderer(width, height, figure.dpi, deadline)

        def get_renderer(self) -> Any:
            return self._renderer

    return Canvas


def _draw(stream: bytes, buffers: list[bytearray], deadline: float) -> bytes | None:
    """Draw a copy of a pickled figure, smaller if it is large; None: that takes too many bytes."""
    figure = _Unpickler(io.BytesIO(stream), buffers=buffers).load()
    width, height = map(float, figure.get_size_inches())
    figure.set_dpi(min(figure.dpi, _SIDE / max(width, height)))
    pixels = max(1, round(width * figure.dpi)), max(1, round(height * figure.dpi))
    canvas = _canvas_class()(figure, *pixels, deadline)
    renderer = canvas.get_renderer()
    figure.draw(renderer)
    image: Any = importlib.import_module("PIL.Image")
    picture = io.BytesIO()
    image.frombuffer("RGBA", pixels, renderer.buffer_rgba(), "raw", "RGBA", 0, 1).save(
        picture, "PNG"
    )
    return picture.getvalue() if picture.tell() <= _MOST else None


__all__ = ["LIMIT", "Previews", "figures_in"]
