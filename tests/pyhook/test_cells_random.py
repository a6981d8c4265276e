# SPDX-License-Identifier: Apache-2.0
"""What a cell may change, told before it runs, against what it does: random cells are run."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import gc
import io
import os
import re
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("seaborn")
matplotlib = pytest.importorskip("matplotlib")
hypothesis = pytest.importorskip("hypothesis")

from cells_support import digest, session, usual_output  # noqa: E402
from chipmink._cells import effect, is_pure  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = 10_000 if os.environ.get("CHIPMINK_LONG") else 150


def words(text: str) -> list[str]:
    return text.split()


DATA = words("numbers names table text n letters x grid df s days model log counter made")
OBJECTS = words("iterator noisy holder noisy_frame plain sub odd objects")
FUNCTIONS = words(
    "read write outer default closure bind part method universal cached Plain Noisy len sum sorted "
    "max list tuple str print repr next iter bool abs enumerate zip np.mean np.sort np.add np.sqrt "
    "np.random.shuffle np.random.rand np.concatenate np.asarray np.copyto np.median pd.concat "
    "pd.DataFrame pd.Series pd.isna math.sqrt operator.setitem json.dumps random.shuffle "
    "calls[0] df.groupby plt.plot sns.histplot setattr getattr"
)
METHODS = words(
    "head tail mean sum sort sort_values append pop clear update copy fill insert drop_duplicates "
    "describe get keys items values upper split value_counts groupby apply astype reset_index "
    "set_index rename fit predict score reshape ravel tolist bump size extend remove reverse add "
    "setdefault unique query agg max resize put"
)
ATTRIBUTES = words("a b c o shape columns index dtypes T value prop items values coef_ missing")
KEYWORDS = ["inplace=True", "axis=0", "out=x", "key=len", "**{'inplace': True}"]
CONSTANTS = ["1", "0", "'a'", "'b'", "None", "2.5", "[1, 2]", "'mean'", "()", "-1"]
OPERATORS = words("+ * - == > in and is @ % |")

Draw = Callable[[st.SearchStrategy[Any]], Any]


def one(draw: Draw, *choices: Any) -> Any:
    return draw(st.sampled_from(choices))


def name(draw: Draw) -> str:
    return one(draw, *DATA, *DATA, *OBJECTS)


def arguments(draw: Draw, depth: int) -> str:
    given = [expression(draw, depth - 1) for _ in range(one(draw, 0, 1, 1, 1, 2, 3))]
    return ", ".join([*given, *([one(draw, *KEYWORDS)] if one(draw, 0, 0, 0, 1) else [])])


def expression(draw: Draw, depth: int = 3) -> str:
    if depth <= 0 or one(draw, 0, 0, 1):
        return one(draw, name(draw), name(draw), one(draw, *CONSTANTS))
    form = one(draw, *FORMS)
    fields = {
        "name": lambda: name(draw),
        "function": lambda: one(draw, *FUNCTIONS),
        "method": lambda: one(draw, *METHODS),
        "attribute": lambda: one(draw, *ATTRIBUTES),
        "operator": lambda: one(draw, *OPERATORS),
        "arguments": lambda: arguments(draw, depth),
        "a": lambda: expression(draw, depth - 1),
        "b": lambda: expression(draw, depth - 1),
    }
    return re.sub(r"<(\w+)>", lambda match: fields[match[1]](), form)


FORMS = [
    *["<function>(<arguments>)", "<a>.<method>(<arguments>)", "<a>.<method>()"] * 4,
    *["<a>.<attribute>", "<a>[<b>]", "(<a> <operator> <b>)"] * 2,
    *["<a>[1:]", "[v for v in <a>]", "[<a> for v in <b>]", "sum(v for v in <a>)", "f'{<name>}'"],
    *["(<a> if <b> else <a>)", "{'k': <a>}", "(lambda: <a>)()", "(<name> := <a>)", "(not <a>)"],
]

STATEMENTS = [
    *["<a>"] * 14,
    *["print(<a>)", "<name> = <a>", "fresh = <a>", "<name> += <a>", "<name>[<a>] = <b>"],
    *["<name>.<attribute> = <a>", "del <name>", "exec('<name>.clear()')", "globals()['n'] = <a>"],
    *["import math", "import json as fresh", "import os.path", "from math import *"],
]


def statement(draw: Draw) -> str:
    form = one(draw, *STATEMENTS)
    fields = {
        "name": lambda: name(draw),
        "attribute": lambda: one(draw, *ATTRIBUTES),
        "a": lambda: expression(draw),
        "b": lambda: expression(draw),
    }
    return re.sub(r"<(\w+)>", lambda match: fields[match[1]](), form)


BLOCKS = [
    *["{0}"] * 8,
    "{0}\n{1}",
    "for fresh in {name}:\n    {0}",
    "if {name}:\n    {0}\nelse:\n    {1}",
    "def fresh():\n    {0}\nfresh()",
    "def fresh():\n    global {data}\n    {data} = 1\n    {0}\nfresh()",
    "class Fresh:\n    {0}\n    def go(self):\n        {1}",
    "try:\n    {0}\nexcept Exception as fresh:\n    {1}",
]


@st.composite
def cells(draw: Draw) -> str:
    block = one(draw, *BLOCKS)
    return block.format(statement(draw), statement(draw), name=name(draw), data=one(draw, *DATA))


def parts(value: Any) -> set[int]:
    """Collect the addresses of all that a variable is made of, but for modules and classes."""
    found: dict[int, Any] = {}
    left = [value]
    while left:
        each = left.pop()
        cls = type(each)
        if id(each) in found or issubclass(cls, (type, types.ModuleType)) or id(cls) in ATOMS:
            continue
        found[id(each)] = each
        if cls is types.FunctionType:
            left += [each.__defaults__, *(cell.cell_contents for cell in each.__closure__ or ())]
        elif cls.__module__ != "numpy" or cls.__name__ != "ufunc":
            left += gc.get_referents(each)
            if cls.__name__ == "ndarray":
                left += [each.base, *(each.ravel().tolist() if each.dtype == object else ())]
    return set(found)


ATOMS = frozenset(map(id, (int, float, complex, bool, str, bytes, type(None))))


def user(namespace: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


def test_what_is_told_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.setattr(copyreg, "dispatch_table", {})  # other tests have put theirs there
    kinds: collections.Counter[str] = collections.Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(cells())
    def run(cell: str) -> None:
        kinds[check(cell)] += 1

    run()
    # all sorts of answers were tried
    for kind in ("pure", "bounded", "any"):
        assert kinds[kind] >= EXAMPLES / 50, kinds


def check(cell: str) -> str:
    """Run a cell, and compare what changed with what was told."""
    namespace = session()
    namespace["made"] = 0
    with usual_output():
        told = effect(cell, namespace)
        assert is_pure(cell, namespace) == told.pure
    assert "cannot be checked" not in told.reason, told
    before = {name: (id(v), digest(v, namespace)) for name, v in user(namespace).items()}
    held = dict(namespace)  # so that no address is used again
    reached = [name for name in before if told.touches is None or name in told.touches]
    shared: set[int] = set().union(*(parts(namespace[name]) for name in reached))
    sharing = {name for name, value in user(namespace).items() if parts(value) & shared}
    execute(cell, namespace)
    now = {name: (id(v), digest(v, namespace)) for name, v in user(namespace).items()}
    bound = {name for name in before.keys() | now.keys() if name not in before or name not in now}
    bound |= {name for name in before.keys() & now.keys() if before[name][0] != now[name][0]}
    changed = {
        name for name in before.keys() & now.keys() if before[name][1] != now[name][1]
    } - bound
    del held
    if told.pure:
        assert not bound
        assert not changed
        assert told.assigns == frozenset()
        return "pure"
    if told.touches is None:
        return "any"
    assert bound <= told.assigns
    assert changed <= told.touches | sharing
    return "bounded"


@contextlib.contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """End loops over what they make longer."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def execute(cell: str, namespace: dict[str, Any]) -> None:
    """Run a cell as a notebook does: what its last expression gives is shown."""
    pyplot = sys.modules["matplotlib.pyplot"]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(Exception),
        interrupted(0.5),
    ):
        warnings.simplefilter("ignore")
        for line in [cell] if "\n" in cell else ["_shown = " + cell]:
            try:
                code = compile(line, "/tmp/ipykernel_1/2.py", "exec")
            except SyntaxError:
                code = compile(cell, "/tmp/ipykernel_1/2.py", "exec")
            exec(code, namespace)
        repr(namespace.get("_shown"))
    namespace.pop("_shown", None)
    pyplot.close("all")
