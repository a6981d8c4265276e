# SPDX-License-Identifier: Apache-2.0
"""Type names and short summaries of values, for people who look without unpickling.

A summary is made at every save for every variable, so it is cheap: it looks at a bounded number of
elements, never calls ``__repr__`` or ``__len__`` of a user's class, and never raises. It is
deterministic, because it is stored: no addresses, no order that depends on hash seeds.
"""

from __future__ import annotations

import abc
import collections
import datetime
import decimal
import fractions
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from . import _core

_ITEMS = 6  # elements shown of a container
_DEPTH = 2  # containers in containers shown
_TEXT = 60  # characters shown of a string
_LINE = 240  # characters of a summary line
_ROWS = 5  # rows shown of a table
_COLUMNS = 8  # columns shown of a table
_BITS = 512  # longest integer written out

# Exact types whose repr() is short, cheap and the same everywhere.
_SMALL: frozenset[type] = frozenset(
    {
        bool,
        float,
        complex,
        range,
        type(None),
        type(...),
        type(NotImplemented),
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        datetime.timezone,
        uuid.UUID,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        re.Pattern,
    }
)
_NUMBERS: frozenset[type] = frozenset({decimal.Decimal, fractions.Fraction})

# A class's name, whatever its metaclass makes of the attribute.
_NAME: Callable[[type], str] = type.__dict__["__name__"].__get__

_ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None)})


def same_atom(a: object, b: object) -> bool:
    """Tell whether two values are the same immutable atom, so that one can stand for the other."""
    if a is b:
        return isinstance(a, types.ModuleType) or type(a) in _ATOMS
    return type(a) is type(b) and type(a) in _ATOMS and a == b and repr(a) == repr(b)


def describe(value: object) -> tuple[str, str]:
    """Give the qualified name of a value's type, and its summary."""
    cls = type(value)
    try:
        summary = _describer(cls)(value)
    except Exception:  # objects may lie about themselves, or change while they are looked at
        summary = ""
    return _type_name(cls), clean(summary)


def clean(text: str) -> str:
    """Make text that a store can hold: no NUL, no lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _type_name(cls: type) -> str:
    try:
        module, name = cls.__module__, cls.__qualname__
        text = name if module == "builtins" else f"{module}.{name}"
    except Exception:
        text = _NAME(cls)
    return clean(str(text))


# ---- one line for one value


def _cut(text: str, most: int = _LINE) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _is_plain(cls: type) -> bool:
    """Tell whether a class can be compared and hashed: metaclasses may define what that does."""
    meta = type(cls)
    return meta is type or meta is abc.ABCMeta


def _preview(value: Any, depth: int = _DEPTH) -> str:
    """Show a value in little room; types that are not known by their name only."""
    cls = type(value)
    if not _is_plain(cls):
        return f"<{_NAME(cls)}>"
    if cls is int:
        return repr(value) if value.bit_length() <= _BITS else f"<int of {value.bit_length()} bits>"
    if cls is str:
        return repr(value) if len(value) <= _TEXT else f"{value[:_TEXT]!r}..."
    if cls in (bytes, bytearray):
        return repr(value) if len(value) <= _TEXT else f"{value[:_TEXT]!r}..."
    if cls in _SMALL:
        return _cut(repr(value))
    if cls in _NUMBERS:
        return _cut(str(value), _TEXT)
    if cls in _CONTAINERS and depth > 0:
        return _CONTAINERS[cls](value, depth - 1)
    if cls in (types.FunctionType, types.BuiltinFunctionType) or issubclass(cls, type):
        return f"<{value.__name__}>"
    if cls is types.ModuleType:
        return f"<module {value.__name__}>"
    if _type_name(cls).startswith("numpy.") and getattr(value, "shape", None) == ():
        return repr(value.item())
    return f"<{_NAME(cls)}>"


def _elements(values: Iterable[Any], length: int, depth: int) -> str:
    shown = [_preview(value, depth) for value in islice(values, _ITEMS)]
    if length > _ITEMS:
        shown.append("...")
    return ", ".join(shown)


def _preview_list(value: Any, depth: int) -> str:
    return f"[{_elements(value, len(value), depth)}]"


def _preview_tuple(value: Any, depth: int) -> str:
    comma = "," if len(value) == 1 else ""
    return f"({_elements(value, len(value), depth)}{comma})"


def _preview_dict(value: Any, depth: int) -> str:
    shown = [
        f"{_preview(key, depth)}: {_preview(item, depth)}"
        for key, item in islice(value.items(), _ITEMS)
    ]
    if len(value) > _ITEMS:
        shown.append("...")
    return "{" + ", ".join(shown) + "}"


def _preview_set(value: Any, depth: int) -> str:
    """Show small sets only, sorted: the order of a set depends on the hash seed."""
    if len(value) > _ITEMS:
        return "{...}"
    return "{" + ", ".join(sorted(_preview(item, depth) for item in value)) + "}"


_CONTAINERS: dict[type, Callable[[Any, int], str]] = {
    list: _preview_list,
    tuple: _preview_tuple,
    dict: _preview_dict,
    set: _preview_set,
    frozenset: _preview_set,
    collections.deque: _preview_list,
    collections.OrderedDict: _preview_dict,
    collections.defaultdict: _preview_dict,
    collections.Counter: _preview_dict,
}


# ---- summaries by type


def _describe_small(value: Any) -> str:
    return _preview(value)


def _describe_text(value: Any) -> str:
    return _preview(value) if len(value) <= _TEXT else f"length {len(value)}\n{_preview(value)}"


def _describe_container(value: Any) -> str:
    return _cut(f"length {len(value)}") + "\n" + _cut(_preview(value))


def _describe_function(value: types.FunctionType) -> str:
    code = value.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[:count])
    if code.co_flags & 0x04:
        names.append("*" + code.co_varnames[count])
        count += 1
    if code.co_flags & 0x08:
        names.append("**" + code.co_varnames[count])
    line = f"{value.__qualname__}({', '.join(names)})"
    doc = value.__doc__
    return _cut(line) + (f"\n{_cut(doc.strip().splitlines()[0])}" if doc and doc.strip() else "")


def _describe_class(value: type) -> str:
    bases = ", ".join(_type_name(base) for base in value.__bases__)
    return _cut(f"class {_type_name(value)}({bases})")


def _describe_module(value: types.ModuleType) -> str:
    version = value.__dict__.get("__version__")
    return value.__name__ + (f" {version}" if type(version) is str else "")


def _describe_instance(value: object) -> str:
    """Show attributes as they are stored; properties, which run code, are not asked."""
    attributes = _core.attributes(value)
    if attributes is None:
        attributes = object.__getattribute__(value, "__dict__")
    if type(attributes) is not dict or not attributes:
        return ""
    shown = [f"{name}={_preview(item, 1)}" for name, item in islice(attributes.items(), _ITEMS)]
    if len(attributes) > _ITEMS:
        shown.append("...")
    return _cut(", ".join(shown))


# ---- libraries, as far as they are loaded; none is imported here

_PLAIN_KINDS: dict[int, str] = {}  # names of NumPy's own number types, by their numbers


def _describe_array(value: Any) -> str:
    dtype, size = value.dtype, value.size
    plain = dtype.isbuiltin == 1 and dtype.kind in "biuf"  # what there are hundreds of
    kind = _PLAIN_KINDS.get(dtype.num) if plain else None
    if kind is None:
        kind = str(dtype)
        if plain:
            _PLAIN_KINDS[dtype.num] = kind
    line = f"{kind} {_shape(value.shape)}"
    if not size:
        return line
    items = value.flat[:_ITEMS].tolist()
    shown = ", ".join(map(repr, items)) if plain else _preview_list(items, 1)[1:-1]
    return f"{line}\n{_cut('[' + shown)}" + (", ...]" if size > _ITEMS else "]")


def _describe_shaped(value: Any) -> str:
    line = f"{value.dtype} {_shape(value.shape)}"
    stored = getattr(value, "nnz", None)
    return line if stored is None else f"{line}, {int(stored)} stored"


def _shape(shape: Iterable[Any]) -> str:
    return " x ".join(str(int(length)) for length in shape) or "scalar"


def _describe_frame(value: Any) -> str:
    rows, columns = value.shape
    lines = [f"{rows} rows x {columns} columns"]
    names = [str(name) for name in islice(value.columns, _COLUMNS)]
    kinds = [str(kind) for kind in islice(value.dtypes, _COLUMNS)]
    more = ", ..." if columns > _COLUMNS else ""
    shown = ", ".join(f"{name}: {kind}" for name, kind in zip(names, kinds, strict=False))
    lines.append(shown + more)
    head = value.iloc[:_ROWS, :_COLUMNS]
    cells = [[_cell(cell) for cell in row] for row in head.itertuples(index=False, name=None)]
    table = [names, *cells]
    widths = [max(len(row[i]) for row in table) for i in range(len(names))]
    for row in table:
        text = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(text.rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = value if type(value) is str else _pandas_cell(value)
    return _cut(text.replace("\n", " "), 20)


def _pandas_cell(value: Any) -> str:
    if type(value) is float:
        return f"{value:.6g}"
    if type(value).__module__.startswith("pandas."):
        return str(value)  # Timestamp, NaT, Interval ...
    return _preview(value, 1)


def _describe_series(value: Any) -> str:
    name = f", name {value.name!r}" if type(value.name) in (str, int) else ""
    line = f"{value.dtype}, length {len(value)}{name}"
    items = [_cell(item) for item in value.iloc[:_ITEMS]]
    return line + "\n" + _cut(", ".join(items) + (", ..." if len(value) > _ITEMS else ""))


def _describe_index(value: Any) -> str:
    items = [_cell(item) for item in value[:_ITEMS]]
    more = ", ..." if len(value) > _ITEMS else ""
    return f"{value.dtype}, length {len(value)}\n" + _cut(", ".join(items) + more)


def _describe_figure(value: Any) -> str:
    """Say what is drawn: the size, and the axes with their titles, labels and artists."""
    width, height = value.get_size_inches() * value.dpi
    axes = value.axes
    lines = [f"{width:.0f} x {height:.0f} pixels, {len(axes)} axes"]
    return "\n".join([*lines, *(_describe_axes(one) for one in axes[:_ITEMS])])


def _describe_axes(value: Any) -> str:
    names = ("title", value.get_title()), ("x", value.get_xlabel()), ("y", value.get_ylabel())
    parts = [f"{what} {_cut(name, _TEXT)!r}" for what, name in names if type(name) is str and name]
    for what in ("lines", "patches", "collections", "images", "texts"):
        count = len(getattr(value, what))
        parts += [f"{count} {what}"] if count else []
    return _cut(", ".join(parts) or "empty")


def _describe_graph(value: Any) -> str:
    return f"{len(value._node)} nodes"


_BY_TYPE: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys(_SMALL | _NUMBERS | {int}, _describe_small),
    **dict.fromkeys((str, bytes, bytearray), _describe_text),
    **dict.fromkeys(_CONTAINERS, _describe_container),
    types.FunctionType: _describe_function,
    types.ModuleType: _describe_module,
    type: _describe_class,
}

_BY_NAME: dict[str, Callable[[Any], str]] = {
    "numpy.ndarray": _describe_array,
    "numpy.matrix": _describe_array,
    "numpy.memmap": _describe_array,
    "numpy.ma.core.MaskedArray": _describe_shaped,
    "numpy.ma.MaskedArray": _describe_shaped,
    "pandas.core.frame.DataFrame": _describe_frame,
    "pandas.core.series.Series": _describe_series,
    "pandas.DataFrame": _describe_frame,
    "pandas.Series": _describe_series,
    "cupy.ndarray": _describe_shaped,
    "numba.cuda.cudadrv.devicearray.DeviceNDArray": _describe_shaped,
    "torch.Tensor": _describe_shaped,
    "torch.nn.parameter.Parameter": _describe_shaped,
    "matplotlib.figure.Figure": _describe_figure,
    "matplotlib.axes._axes.Axes": _describe_axes,
    "networkx.classes.graph.Graph": _describe_graph,
    "networkx.classes.digraph.DiGraph": _describe_graph,
    "networkx.classes.multigraph.MultiGraph": _describe_graph,
    "networkx.classes.multidigraph.MultiDiGraph": _describe_graph,
}


def _describer(cls: type) -> Callable[[Any], str]:
    if _is_plain(cls) and cls in _BY_TYPE:
        return _BY_TYPE[cls]
    if issubclass(cls, type):
        return _describe_class
    name = _type_name(cls)
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("pandas.") and name.endswith("Index"):
        return _describe_index
    if name.startswith(("scipy.sparse._", "pandas.core.arrays.")):
        return _describe_shaped
    if name.startswith("numpy."):
        return _describe_numpy_scalar
    return _describe_instance


def _describe_numpy_scalar(value: Any) -> str:
    return _preview(value)
