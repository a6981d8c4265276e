# SPDX-License-Identifier: Apache-2.0
"""What a cell may change, told before it runs: single cases."""

from __future__ import annotations

import asyncio
import copyreg
import gc
import inspect
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("seaborn")
matplotlib = pytest.importorskip("matplotlib")

from cells_support import session, state, usual_output  # noqa: E402
from chipmink import _allowed, _around, _cells, _kinds  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _figures() -> None:
    matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other tests leave nothing that calls their functions, nor these figures to other tests."""
    monkeypatch.setattr(copyreg, "dispatch_table", {})
    yield
    sys.modules["matplotlib.pyplot"].close("all")


def effect(source: str, namespace: dict[str, Any]) -> _cells.Effect:
    with usual_output():
        found = _cells.effect(source, namespace)
        assert _cells.is_pure(source, namespace) == found.pure
    return found


@pytest.fixture
def ns() -> dict[str, Any]:
    return session()


@pytest.fixture(scope="module")
def unchanged() -> dict[str, Any]:
    """Make a namespace for cells that are looked at, and not run."""
    return session("cells_unchanged")


PURE = """
    df.head()
    df.head(2).a
    df
    df.a
    df["a"]
    df[["a", "c"]].describe()
    df[df.a > 1].sort_values("a")
    df[(df["a"] > 1) & (df.c < 3)].shape
    df.loc[0, "a"]
    df.iloc[:2]
    df.shape
    df.columns
    df.columns.tolist()
    df.dtypes
    df.info()
    df.T
    df.groupby("b").a.mean()
    df.groupby("b")["a"].agg(["mean", "max"])
    df.groupby("b").agg(top=("a", "max"))
    df.query("a > 1 and b == 'u'")
    df.b.value_counts().head(1)
    df.b.str.upper()
    days.dt.year
    df.reset_index(drop=True)
    df.isna().sum()
    df.a.mean() + 1
    df.sample(2, random_state=1)
    s.plot()
    df.plot(kind="bar")
    df.plot.scatter("a", "c")
    df.a.hist(bins=3)
    len(df)
    len(holder)
    len(noisy_frame)
    noisy_frame.shape
    x.shape
    x[x > 3].mean()
    x.reshape(2, 5).sum(axis=0)
    (x * 2 + 1)[:3]
    np.mean(x), np.pi
    np.add(x, 1)
    np.linalg.norm(grid)
    np.where(x > 2, x, 0)
    pd.concat([df, df])
    pd.crosstab(df.a, df.b)
    model.predict(x[:, None])
    model.score(x[:, None], x)
    model.coef_
    model
    plt.plot(x)
    plt.plot(x, x, "r--", label="a"); plt.title("t"); plt.legend(); plt.show()
    plt.hist(df.a, bins=3)
    sns.histplot(df.a)
    sns.scatterplot(data=df, x="a", y="c")
    print(numbers, x, df, sep="\\n")
    print(f"{x.mean():.2f} {text!r:>{n}}")
    1 + 2 * 3
    n ** 2 if n > 3 else -n
    not numbers
    text.upper().split()
    "%s %d" % (text, n)
    sum(numbers)
    sorted(names, key=len)
    max(numbers), min(numbers)
    [v * 2 for v in numbers if v > 1]
    {k: str(v) for k, v in table.items()}
    sum(v for v in numbers)
    list(zip(numbers, names))
    numbers[0]
    numbers[1:] + [4]
    table["frame"].head()
    table["two"]
    table.get("one")
    letters | {"c"}
    3 in numbers
    math.sqrt(n)
    math.pi
    sys.version
    plain.items
    noisy.value
    isinstance(df, pd.DataFrame)
    type(df)
    os.path.exists("/tmp")
    assert n == 7
    if n > 3: print(n)
    pass
    "only a text"
"""

IMPURE = """
    df.set_index("a", **{"inplace": True})
    df.set_index("a", inplace=True)
    df.set_index("a", inplace=n)
    df.pop("a")
    df.insert(0, "z", 1)
    df.update(df)
    df["z"] = 1
    df.apply(write)
    df.pipe(default)
    df.query("a.pop(0) > 1")
    df.query("@numbers.append(1)")
    df.eval("z = a")
    df.groupby("b").apply(write)
    df.groupby("b").agg(write)
    df.groupby("b").agg("pop")
    df.groupby("b").agg(names)
    df.groupby(read)
    df.sample(2)
    StandardScaler(copy=False)
    scaler.transform(grid)
    pipeline.predict(grid)
    x.astype(float, copy=False)
    noisy_frame.head(n)
    long_frame.head(300)
    df.plot(ax=plt)
    df[read]
    df.to_csv(path_or_buf="/tmp/never")
    df.to_string(buf=text)
    df.astype(Noisy)
    sub.head()
    sub
    noisy_frame
    noisy_frame.head()
    noisy_frame.o == 1
    noisy_frame.describe()
    noisy
    noisy.missing
    noisy.prop
    noisy.bump()
    noisy == 1
    noisy + 1
    not noisy
    len(noisy)
    list(noisy)
    bool(noisy)
    str(noisy)
    f"{noisy}"
    "%s" % noisy
    np.asarray(noisy)
    holder
    1 in holder
    holder == [1]
    print(holder)
    {noisy}
    {1: noisy}
    noisy if n else 1
    objects.sum()
    odd
    type(odd)
    isinstance(n, Odd)
    isinstance(odd, int)
    sum(iterator)
    next(iterator)
    list(iterator)
    1 in iterator
    [v for v in iterator]
    dict(zip(iterator, numbers))
    x.sort()
    x.fill(0)
    x.resize(3)
    x.sum(0, None, x)
    np.add(x, 1, x)
    np.add(x, 1, out=x)
    np.add.at(x, [0], 1)
    np.copyto(x, 0)
    np.nan_to_num(x, copy=False)
    np.median(x, overwrite_input=True)
    np.random.rand(3)
    np.random.shuffle(x)
    random.random()
    universal(x)
    numbers.append(1)
    numbers.sort()
    table.pop("one")
    table["two"].append(1)
    table.setdefault("z", [])
    letters.add("z")
    model.fit(x[:, None], x)
    model.set_params(fit_intercept=False)
    plt.plot(noisy)
    plt.rcParams.update({"a": 1})
    sns.set_theme()
    print(*numbers)
    print(text, file=log)
    max(*numbers)
    (y := 3)
    [(y := v) for v in numbers]
    y = 1
    n += 1
    del n
    import os
    from math import pi
    def f(): pass
    class A: pass
    lambda: 1
    for i in numbers: print(i)
    while n: pass
    with open("/tmp/x") as f: pass
    global n
    read()
    write()
    closure()
    method(1)
    part(1, 2)
    calls[0]()
    cached()
    evaluate("1")
    eval("1")
    exec("n = 1")
    globals()
    locals()
    vars()
    getattr(df, "a")
    setattr(plain, "a", 1)
    open("/tmp/x")
    input()
    __import__("os")
    unknown
    unknown.head()
    df.head
    df.__dict__
    df.__class__
    plain.size()
    Plain()
    %matplotlib inline
    %time df.head()
    !ls
    ls -l
    df?
    x = !ls
    await read()
    df.head(
    text.encode("rot13")
"""


def lines(text: str) -> list[str]:
    return [line for line in textwrap.dedent(text).splitlines() if line]


@pytest.mark.parametrize("cell", lines(PURE))
def test_pure(ns: dict[str, Any], cell: str) -> None:
    before = state(ns)
    found = effect(cell, ns)
    assert found.pure, found.reason
    assert found.reason == ""
    assert found.assigns == frozenset()
    assert found.touches is not None
    exec(cell, ns)
    assert state(ns) == before


@pytest.mark.parametrize("cell", lines(IMPURE))
def test_not_pure(unchanged: dict[str, Any], cell: str) -> None:
    before = state(unchanged)
    found = effect(cell, unchanged)
    assert not found.pure
    assert found.reason
    assert "\n" not in found.reason
    assert "cannot be checked" not in found.reason
    assert state(unchanged) == before, "looking must not run anything"
    assert unchanged["log"] == []


SHADOWED = [
    ("len = lambda value: log.append(1)", "len(numbers)"),
    ("print = write", "print(n)"),
    ("sum = write", "sum(numbers)"),
    ("def head(): write()\ndf.__dict__['head'] = head", "df.head()"),
    ("np = plain", "np.mean(x)"),
    ("model.predict = write", "model.predict(x)"),
    ("df.attrs['a'] = noisy", "df.head()"),
    ("df.columns = [noisy, 'b', 'c']", "df"),
    ("df.index = pd.Index([noisy, 1, 2], dtype=object)", "df.head()"),
    ("s.name = (noisy,)", "s"),
]


@pytest.mark.parametrize(("before", "cell"), SHADOWED)
def test_shadowed(ns: dict[str, Any], before: str, cell: str) -> None:
    exec(before, ns)
    assert not effect(cell, ns).pure


def test_replaced_in_the_library(ns: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session puts in the place of a library's functions is not that library's."""
    pandas, numpy, pyplot = ns["pd"], ns["np"], ns["plt"]
    monkeypatch.setattr(pandas.DataFrame, "head", ns["write"])
    assert not effect("df.head()", ns).pure
    assert effect("df.tail()", ns).pure
    monkeypatch.setattr(numpy, "mean", ns["write"])
    assert not effect("np.mean(x)", ns).pure
    monkeypatch.setattr(pyplot, "plot", ns["write"])
    assert not effect("plt.plot(x)", ns).pure
    monkeypatch.setattr("builtins.ascii", ns["write"])
    assert not effect("ascii(x)", ns).pure


def test_a_figure_that_is_there(ns: dict[str, Any]) -> None:
    exec("fig, ax = plt.subplots()", ns)
    for cell in ("plt.plot(x)", "df.plot()", "sns.histplot(df.a)"):
        found = effect(cell, ns)
        assert not found.pure
        assert found.touches is None
    assert effect("df.head()", ns).pure


def test_big_values_are_not_looked_through(ns: dict[str, Any]) -> None:
    ns["big"] = list(range(10 * _kinds.BUDGET))
    assert not effect("sum(big)", ns).pure
    assert effect("len(big)", ns).pure
    ns["objects"] = ns["pd"].DataFrame({"o": ["text", 1] * _kinds.BUDGET})
    assert effect("objects.head()", ns).pure
    assert effect("objects", ns).pure
    assert not effect("objects.describe()", ns).pure
    assert effect("np.zeros(5)", ns).pure
    ns["bigger"] = list(range(1_000_000))
    assert effect("y = sum(bigger)", ns).touches is None
    ns["deep"] = []
    for _ in range(2000):
        ns["deep"] = [ns["deep"]]
    assert not effect("deep", ns).pure
    ns["round"] = [1]
    ns["round"].append(ns["round"])
    assert effect("round", ns).pure


# ---- what a cell can reach

TOUCHES = [
    ("y = df.a", {"df"}, {"y"}),
    ("df['z'] = x", {"df", "x"}, set()),
    ("y = read()", {"read", "numbers"}, {"y"}),
    ("outer()", {"outer", "write", "numbers"}, set()),
    ("bind()", {"bind"}, {"made"}),
    ("default()", {"default"}, set()),
    ("closure()", {"closure"}, set()),
    ("calls[0]()", {"calls", "names"}, set()),
    ("y = [f() for f in calls]", {"calls", "names"}, {"y"}),
    ("list(map(write, x))", {"write", "numbers", "x"}, set()),
    ("plain.size()", {"plain", "n"}, set()),
    ("y = Plain()", {"Plain", "n"}, {"y"}),
    ("noisy.bump()", {"noisy", "log", "np", "counter"}, {"counter"}),
    ("holder == 1", {"holder", "log", "np", "counter"}, {"counter"}),
    ("noisy_frame.apply(str)", {"noisy_frame", "log", "np", "counter"}, {"counter"}),
    ("part(1, 2)", {"part"}, set()),
    ("del df", set(), {"df"}),
    ("n += 1", {"n"}, {"n"}),
    ("y: int = n", {"n"}, {"y"}),
    ("[(y := v) for v in numbers]", {"numbers"}, {"y"}),
    ("def f():\n    global counter\n    counter = len(x)", {"x"}, {"f", "counter"}),
    ("def f():\n    def g(): return names\n    return g", {"names"}, {"f"}),
    ("class A:\n    kept = numbers\n    def m(self): return x", {"numbers", "x"}, {"A"}),
    ("class A(Plain):\n    kept = 1", {"Plain", "n"}, {"A"}),
    ("for i in numbers:\n    print(i)", {"numbers"}, {"i"}),
    ("try:\n    numbers.clear()\nexcept Exception as e:\n    print(e)", {"numbers"}, {"e"}),
    ("import json as j, os.path", set(), {"j", "os"}),
    ("from json import dumps", set(), {"dumps"}),
    ("x[0] = random.random()", {"x", "random"}, set()),
    ("with open('/tmp/x') as f: y = f.read()", set(), {"f", "y"}),
    ("setattr(plain, 'a', names)", {"plain", "names", "n"}, set()),
    ("model.fit(x[:, None], x)", {"model", "x"}, set()),
    ("df.query('a > 1', inplace=True)", {"df"}, set()),
    ("df.apply(lambda row: names.append(row))", {"df", "names"}, set()),
    ("print(sys.version); y = 1", {"sys"}, {"y"}),
    ("import sys; print(sys.version)", {"sys"}, {"sys"}),
    ("os.environ['A'] = 'b'", {"os", "environ"}, set()),
]


@pytest.mark.parametrize(("cell", "touches", "assigns"), TOUCHES)
def test_touches(
    unchanged: dict[str, Any], cell: str, touches: set[str], assigns: set[str]
) -> None:
    found = effect(cell, unchanged)
    assert not found.pure
    assert found.touches is not None, found.reason
    always = {"method"}  # it holds an object of nobody knows what
    assert found.touches == touches | always
    assert found.assigns == assigns


ANY = """
    exec("numbers.append(1)")
    eval("numbers")
    evaluate("numbers.append(1)")
    globals()["numbers"].append(1)
    globals().update(n=1)
    locals()["n"] = 1
    vars()["n"] = 1
    getattr(read, name)
    getattr(read, "__globals__")["n"] = 1
    read.__globals__["n"] = 1
    sys.modules["__main__"].n = 1
    sys._getframe().f_globals["n"] = 1
    np.os.sys.modules
    os.sys.exc_info()
    import sys; sys.stdout.write("a")
    import sys as s; print(s)
    def f(): import sys; return sys.exitfunc
    def f(): import gc
    sys.argv.append("a")
    operator.attrgetter(text)(read)
    pd.read_pickle("file")
    np.load("file", allow_pickle=True)
    operator.attrgetter("__globals__")(read)
    operator.attrgetter("read.__globals__")(plain)
    import gc; gc.get_objects()
    import inspect
    import __main__
    import builtins
    import ctypes
    import threading
    import some_module_that_is_not_there
    from os import *
    from . import something
    from sys import modules
    from builtins import eval
    __builtins__
    iterator.__next__()
    next(iterator)
    cached().append(1)
    universal(x)
    df.query("@numbers.append(1)")
    df.query(text)
    df.eval("@numbers")
    pd.eval("numbers")
    get_ipython().run_line_magic("reset", "-f")
    await read()
    async for i in read(): pass
    unknown.head()
    reset -f
    %run other.py
    !rm x
    breakpoint()
    help(df)
    input()
"""


@pytest.mark.parametrize("cell", lines(ANY))
def test_any(unchanged: dict[str, Any], cell: str) -> None:
    found = effect(cell, unchanged)
    assert not found.pure
    assert found.touches is None
    assert found.reason


LATER = [
    # a value that holds code of the session which no name shows
    ("pd.DataFrame.extra = lambda self: names.append(1)", "df.extra()", {"names", "df"}),
    ("box = {'f': [write]}", "box['f'][0]()", {"box", "numbers"}),
    ("import collections; q = collections.deque([write])", "q[0]()", {"q", "numbers"}),
    ("o = collections.OrderedDict(f=write)", "o['f']()", {"o", "numbers"}),
    ("from functools import partial as p; h = p(write)", "h()", {"h", "numbers"}),
    ("import contextlib\n@contextlib.contextmanager\ndef c():\n    yield names", "c()", {"names"}),
    (
        "import dataclasses\n@dataclasses.dataclass\nclass D:\n    v: int = 0\n"
        "    def m(self): return names\nd = D()",
        "d.m()",
        {"d", "names"},
    ),
    (
        "class E(collections.namedtuple('B', 'u v')):\n    def m(self): return names\ne = E(1, 2)",
        "e.m()",
        {"e", "names"},
    ),
    ("class S:\n    __slots__ = ('f',)\nw = S(); w.f = write", "w.f()", {"w", "numbers"}),
    ("class L(list):\n    pass\nl = L([write])", "l[0]()", {"l", "numbers"}),
    ("class W:\n    @property\n    def p(self): return names\nw = W()", "y = w.p", {"w", "names"}),
    ("class W:\n    @staticmethod\n    def p(): return names\nw = W()", "w.p()", {"w", "names"}),
    (
        "class W:\n    @functools.cached_property\n    def p(self): return names\nw = W()",
        "y = w.p",
        {"w", "names"},
    ),
    (
        "import enum\nclass C(enum.Enum):\n    A = 1\n    def m(self): return names",
        "C.A.m()",
        {"C", "names"},
    ),
    (
        "import abc\nclass T(abc.ABC):\n    def m(self): return names\nt = T()",
        "t.m()",
        {"t", "names"},
    ),
    ("m = plain.size", "m()", {"m", "n"}),
    ("v = np.vectorize(lambda value: names.append(value))", "v(x)", {"v", "names", "x"}),
]


@pytest.mark.parametrize(("before", "cell", "touches"), LATER)
def test_code_in_values(
    ns: dict[str, Any],
    before: str,
    cell: str,
    touches: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "DataFrame.extra" in before:
        monkeypatch.setattr(ns["pd"].DataFrame, "extra", None, raising=False)
    exec(before, ns)
    found = effect(cell, ns)
    assert found.touches is not None, found.reason
    assert found.touches >= touches


UNKNOWN = [
    (
        "@functools.singledispatch\ndef d(v): pass\n@d.register\ndef _(v: int): numbers.append(v)",
        "d(1)",
    ),
    ("import cells_helper_module as h", "h.change(1)"),
    ("from cells_helper_module import change", "change(1)"),
    ("from cells_helper_module import Kind; k = Kind()", "k.go()"),
    ("def g():\n    yield names\ng = g()", "y = list(g)"),
    ("class F:\n    def __del__(self): names.clear()\nf = F()", "y = 1"),
    ("import threading; lock = threading.Lock()", "lock.acquire()"),
    ("np.kept = df", "np.kept.pop('a')"),
    ("fl = x.flat", "fl[0] = 1"),
    ("view = memoryview(bytearray(3))", "view[0] = 1"),
    ("error = ValueError(noisy)", "str(error)"),
    ("class N(np.ndarray): pass\nnd = x.view(N)", "nd[0] = 1"),
    ("import itertools; ch = itertools.chain(numbers)", "list(ch)"),
    ("_5 = numbers; get_ipython = print", "y = _5"),
]


@pytest.mark.parametrize(("before", "cell"), UNKNOWN)
def test_unknown_values(
    ns: dict[str, Any], before: str, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = types.ModuleType("cells_helper_module")
    exec(
        "kept = []\ndef change(v): kept.append(v)\nclass Kind:\n    def go(self): pass",
        vars(helper),
    )
    monkeypatch.setitem(sys.modules, "cells_helper_module", helper)
    monkeypatch.setattr(ns["np"], "kept", None, raising=False)
    exec(before, ns)
    assert effect(cell, ns).touches is None


# ---- what runs along with a cell


def test_threads(ns: dict[str, Any]) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="of the user")
    thread.start()
    try:
        found = effect("df.head()", ns)
        assert not found.pure
        assert found.touches is None
        assert "of the user" in found.reason
    finally:
        stop.set()
        thread.join()
    assert effect("df.head()", ns).pure


def test_tasks(ns: dict[str, Any]) -> None:
    exec("async def work():\n    import asyncio\n    await asyncio.sleep(30)", ns)

    async def check() -> tuple[bool, bool]:
        alone = effect("df.head()", ns).touches is not None
        task = asyncio.get_running_loop().create_task(ns["work"]())
        await asyncio.sleep(0)
        along = effect("df.head()", ns).touches is None
        task.cancel()
        return alone, along

    # the task that runs this check is no cell's: only the other one counts
    __name__before = check.__globals__["__name__"]
    check.__globals__["__name__"] = "ipykernel"
    try:
        assert asyncio.run(check()) == (True, True)
    finally:
        check.__globals__["__name__"] = __name__before


HOOKS = {
    "trace": lambda f: sys.settrace(f),
    "excepthook": lambda f: setattr(sys, "excepthook", f),
    "displayhook": lambda f: setattr(sys, "displayhook", f),
    "copyreg": lambda f: copyreg.pickle(types.SimpleNamespace, f),
    "gc": lambda f: gc.callbacks.append(f),
    "signal": lambda f: signal.signal(signal.SIGUSR1, f),
    "float_format": lambda f: sys.modules["pandas"].set_option("display.float_format", f),
    "formatter": lambda f: sys.modules["numpy"].set_printoptions(formatter={"all": f}),
    "errors": lambda f: sys.modules["numpy"].seterrcall(f),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks(ns: dict[str, Any], hook: str) -> None:
    before = sys.gettrace(), sys.excepthook, sys.displayhook, list(gc.callbacks)
    handler = signal.getsignal(signal.SIGUSR1)
    exec("def hook(*arguments): return None", ns)
    HOOKS[hook](ns["hook"])
    try:
        found = effect("df.head()", ns)
    finally:
        sys.settrace(before[0])
        copyreg.dispatch_table.clear()
        sys.excepthook, sys.displayhook, gc.callbacks[:] = before[1:]
        signal.signal(signal.SIGUSR1, handler)
        sys.modules["pandas"].reset_option("display.float_format")
        sys.modules["numpy"].set_printoptions(formatter=None)
        sys.modules["numpy"].seterrcall(None)
    assert not found.pure
    assert found.touches is None
    assert effect("df.head()", ns).pure


@pytest.mark.parametrize(
    ("file", "installed"),
    [
        ("/home/u/.local/lib/python3.11/site-packages/package/module.py", True),
        ("/usr/lib/python3/dist-packages/module.py", True),
        (os.__file__, True),
        ("/home/u/project/module.py", False),
        ("/tmp/ipykernel_1/1.py", False),
    ],
)
def test_installed(file: str, installed: bool) -> None:
    made: dict[str, Any] = {}
    exec(compile("def function(): pass", file, "exec"), made)
    assert _around.is_installed(made["function"]) is installed


def test_output_into_a_variable(ns: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with usual_output():
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert not _cells.effect("print(n)", ns).pure


# ---- the tables


def allowed_functions() -> list[tuple[str, Any]]:
    return [
        (f"{module}.{name}", vars(sys.modules[module])[name])
        for module, rules in _kinds.FUNCTIONS.items()
        for name in rules
        if module in sys.modules and name in vars(sys.modules[module])
    ]


def allowed_methods() -> list[tuple[str, Any, _kinds.Rule]]:
    found = []
    for kind, rules in _kinds.METHODS.items():
        for cls in map(_kinds.resolve, _allowed.TYPES.get(kind, "").split()):
            for name, rule in rules.items() if cls is not _kinds.NOTHING else ():
                member = _kinds.lookup(cls, name)
                if member is not _kinds.NOTHING:
                    found.append((f"{cls.__module__}.{cls.__name__}.{name}", member, rule))
    return found


def test_allowed_functions_are_found(ns: dict[str, Any]) -> None:
    """Each is recognised as its library's own, however it is decorated."""
    functions = allowed_functions()
    assert len(functions) > 300
    for name, function in functions:
        assert _kinds.function_rule(function) is not None, name
    methods = allowed_methods()
    assert len(methods) > 900
    for name, member, _rule in methods:
        assert _kinds.is_shipped(member, name.partition(".")[0]), name


def test_no_argument_by_position_is_an_output(ns: dict[str, Any]) -> None:
    """Arguments that make a function change something are by keyword, and those are denied."""
    checked = 0
    functions = [(name, found, _kinds.function_rule(found)) for name, found in allowed_functions()]
    for name, function, rule in [*functions, *allowed_methods()]:
        if isinstance(function, property) or not callable(function):
            continue
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            continue
        if parameters and parameters[0].name == "self":
            del parameters[0]
        for place, parameter in enumerate(parameters):
            if parameter.name not in OUTPUTS:
                continue
            checked += 1
            assert parameter.name in _allowed.DENIED_KEYWORDS, name
            by_position = parameter.kind in (
                parameter.POSITIONAL_ONLY,
                parameter.POSITIONAL_OR_KEYWORD,
            )
            assert not by_position or place >= rule.positional, f"{name}: {parameter.name}"
    assert checked > 100


OUTPUTS = {
    *("inplace", "out", "overwrite_input", "overwrite_a", "overwrite_b", "buf", "path_or_buf"),
    *("ax", "cax", "backend", "file"),
}


def test_results_share_no_method_names_that_change_things(ns: dict[str, Any]) -> None:
    """A method allowed for one kind of data changes nothing if the value is of another kind."""
    harmless = set().union(*(_kinds.METHODS.get(kind, {}) for kind in _kinds.DATA))
    mutators = {
        list: {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"},
        dict: {"clear", "pop", "popitem", "setdefault", "update"},
        set: {"clear", "discard", "pop", "remove", "update", "difference_update"},
        ns["np"].ndarray: {"fill", "itemset", "partition", "put", "resize", "setflags", "sort"},
        ns["pd"].DataFrame: {"insert", "pop", "update", "isetitem"},
    }
    for names in mutators.values():
        assert harmless & names == set()


# ---- in a script, in IPython, in a kernel


def test_nothing_is_imported() -> None:
    script = """
        import sys
        from chipmink._cells import effect
        assert effect("sum([1, 2])", {}).pure
        found = effect("y = len(x)", {"x": [1]})
        assert (found.touches, found.assigns) == ({"x"}, {"y"}), found
        assert not {"numpy", "pandas", "matplotlib", "IPython", "asyncio"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


SHELL = """
    from IPython.core.interactiveshell import InteractiveShell
    from chipmink._cells import effect
    shell = InteractiveShell.instance()
    space = shell.user_ns

    def run(cell):
        assert shell.run_cell(cell, store_history=True).success, cell

    def pure(cell):
        found = effect(cell, space)
        assert found.pure or found.reason
        return found.pure

    run("import pandas as pd; df = pd.DataFrame({'a': [1]}); x = 1")
    run("class Other: pass")
    assert pure("df.head()")
    assert pure("%time df.head()")
    assert pure("%%time\\ndf.head()\\nlen(df)")
    assert pure("%timeit len(df)")
    assert pure("display(df)")
    assert not pure("%time y = 1")
    assert effect("%time y = len(df)", space).assigns == {"y"}
    assert effect("y = open('x')", space).touches == {"open"}
    assert not pure("%matplotlib inline")
    assert not pure("%%capture out\\ndf.head()")
    assert not pure("exit")
    run("df.head()")
    assert pure("_")
    assert pure("_.shape")
    assert effect("_['a'] = 1", space).touches is None
    assert effect("y = Out[3]", space).touches is None
    assert effect("In.append(1)", space).touches is None

    # functions of the session that run with every cell, or show its result
    run("def note(*arguments): x += 1")
    for register, remove in [
        ("get_ipython().events.register('pre_run_cell', note)",
         "get_ipython().events.unregister('pre_run_cell', note)"),
        ("f = get_ipython().display_formatter.formatters['text/html']; f.for_type(int, note)",
         "f.pop(int)"),
        ("get_ipython().input_transformers_post.append(lambda lines: lines)",
         "get_ipython().input_transformers_post.clear()"),
        ("get_ipython().set_custom_exc((ValueError,), lambda *a: None)",
         "get_ipython().custom_exceptions = ()"),
    ]:
        exec(register, space)
        found = effect("df.head()", space)
        assert not found.pure and found.touches is None, register
        exec(remove, space)
        assert pure("df.head()"), remove
    run("from IPython.core.magic import register_line_magic")
    run("@register_line_magic('time')\\ndef other(line): global x; x = 2")
    assert not pure("%time df.head()")
"""


def test_ipython(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    script = textwrap.dedent(SHELL)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)


def test_kernel(tmp_path: Path) -> None:
    """The threads, tasks and hooks of a kernel itself do not count."""
    pytest.importorskip("ipykernel")
    manager = pytest.importorskip("jupyter_client.manager")
    cell = (
        "import pandas, matplotlib.pyplot as plt\n"
        "from chipmink._cells import effect\n"
        "x = [1, 2]\n"
        "found = [effect(cell, globals()) for cell in ('x', 'plt.plot(x)', 'y = sum(x)')]\n"
        "print([e.pure for e in found], *(e.reason for e in found), sep='; ')"
    )
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    kernel, client = manager.start_new_kernel(kernel_name="python3", env=environment)
    try:
        printed: list[str] = []
        for each in (cell, cell):
            printed.clear()
            client.execute_interactive(
                each,
                timeout=60,
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
            )
        assert "".join(printed) == "[True, True, False]; ; ; it assigns\n"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_what_a_cell_concerns() -> None:
    """What it reaches and what it binds; anything, where other names hold objects."""
    n: dict[str, Any] = {"__name__": "a_session", "__doc__": None, "data": [1], "other": [2]}
    with usual_output():
        assert _cells.concerns("x = data", n) == {"x", "data"}
        assert _cells.concerns("del other", n) == {"other"}
        assert _cells.concerns("exec('data.append(1)')", n) is None
        n["__mine__"] = n["data"]
        assert _cells.concerns("__mine__.append(3)", n) is None
        assert _cells.concerns("x = other", n) is None
