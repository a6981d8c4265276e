# SPDX-License-Identifier: Apache-2.0
"""Namespaces to check cells against, as a session has them, and what tells that they changed."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CODE = '''
import functools, itertools, json, math, os, sys, random, operator, collections, datetime
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt
import seaborn as sns
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

numbers = [3, 1, 2]
names = ["x", "y"]
table = {"one": 1, "two": [2, 2], "frame": None}
text = "some text"
n = 7
letters = {"a", "b"}
iterator = iter(numbers)
x = np.arange(10.0)
grid = np.arange(12).reshape(3, 4)
df = pd.DataFrame({"a": [3.0, 1.0, 2.0], "b": ["u", "v", "u"], "c": [1, 2, 3]})
table["frame"] = df
s = df["a"] * 2
days = pd.Series(pd.date_range("2024-01-01", periods=3))
model = LinearRegression().fit(x[:, None], x)
scaler = StandardScaler(copy=False).fit(grid * 1.0)
pipeline = Pipeline([("scale", scaler), ("model", model)])
environ = os.environ
counter = 0
log = []

class Noisy:
    """Changes something whatever is done to it."""
    def __init__(self): self.value = 1
    def __getattr__(self, name): log.append(name); raise AttributeError(name)
    def __repr__(self): log.append("repr"); return "noisy"
    def __eq__(self, other): log.append("eq"); return False
    def __hash__(self): return 1
    def __len__(self): log.append("len"); return 1
    def __bool__(self): log.append("bool"); return True
    def __iter__(self): log.append("iter"); return iter(())
    def __add__(self, other): log.append("add"); return 0
    def __format__(self, spec): log.append("format"); return ""
    def __array__(self, *a, **k): log.append("array"); return np.zeros(2)
    @property
    def prop(self): log.append("prop"); return 1
    def bump(self):
        global counter
        counter += 1

noisy = Noisy()
holder = [1, noisy]
objects = np.array([noisy, None, "t"], dtype=object)
noisy_frame = pd.DataFrame({"o": [noisy, 1]})
long_frame = pd.DataFrame({"o": [1] * 298 + [noisy, 1] + [1] * 500})

class Plain:
    def __init__(self): self.items = [1]
    def size(self): return len(self.items) + n

plain = Plain()

class Sub(pd.DataFrame):
    def head(self, n=5):
        log.append("head")
        return self

sub = Sub({"a": [1]})

class Meta(type):
    def __hash__(cls): log.append("hash"); return 1
    def __eq__(cls, other): log.append("eq"); return False
    def __repr__(cls): log.append("repr"); return "Meta"
    def __instancecheck__(cls, value): log.append("check"); return False

class Odd(metaclass=Meta):
    @property
    def __class__(self): log.append("class"); return int

odd = Odd()

def read(): return numbers[0]
def write(): numbers.append(1)
def outer(): return write()
def default(items=numbers): items.append(1)
def closed():
    kept = names
    def inner(): kept.append("z")
    return inner
closure = closed()
def bind():
    global made
    made = 1
def evaluate(source): return eval(source)
part = functools.partial(operator.setitem, table)
method = numbers.append
calls = [lambda: names.append("q")]
cached = functools.lru_cache(lambda: [])
universal = np.frompyfunc(lambda v: log.append(v), 1, 1)
log.clear()
'''


def session(name: str = "cells_session") -> dict[str, Any]:
    """Make the namespace of a module that CODE ran in, as `__main__` is one."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(CODE, "/tmp/ipykernel_1/1.py", "exec"), module.__dict__)
    return module.__dict__


@contextmanager
def usual_output() -> Iterator[None]:
    """Print where a notebook does, not into what pytest puts there."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def digest(value: Any, namespace: dict[str, Any], seen: tuple[int, ...] = ()) -> Any:
    """Describe a value so that two descriptions are equal if and only if nothing changed.

    pandas keeps caches in the __dict__ of its objects (of columns taken, of properties of an
    index). They hold nothing that is not in the data, and most are not pickled: tables are
    described by their pickles, without those caches that are.
    """
    if id(value) in seen:
        return "again", seen.index(id(value))
    seen = (*seen, id(value))
    cls = type(value)
    if cls is list or cls is tuple:
        return cls.__name__, [digest(each, namespace, seen) for each in value]
    if cls is dict:
        return "dict", [
            (digest(k, namespace, seen), digest(v, namespace, seen)) for k, v in value.items()
        ]
    if cls is types.FunctionType:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return "function", value.__code__, digest([value.__defaults__, cells], namespace, seen)
    if issubclass(cls, (type, types.ModuleType)):
        return "by name", id(value)
    if cls.__module__ == namespace["__name__"] and cls.__name__ != "Sub":
        return cls.__name__, digest(object.__getattribute__(value, "__dict__"), namespace, seen)
    if cls.__name__ == "ndarray" and value.dtype == object:
        return "objects", [digest(each, namespace, seen) for each in value.tolist()]
    if cls.__name__ == "list_iterator":
        return value.__reduce__()[1:]
    if cls is os._Environ:
        return dict(value)
    if cls.__name__ == "DataFrame" and "o" in value.columns:
        return "objects", [digest(each, namespace, seen) for each in value["o"].tolist()]
    if callable(value):
        return "by name", id(value)
    file = io.BytesIO()
    try:
        _Pickler(file).dump(value)
    except Exception:  # a generator or the like: it is the same as long as it is the same object
        return "by name", id(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        attributes = getattr(value, "__dict__", None)
        if type(value).__module__.partition(".")[0] != "pandas" or type(attributes) is not dict:
            return NotImplemented
        if "_cache" not in attributes or not hasattr(value, "__reduce_cython__"):
            return NotImplemented
        make, arguments, state = value.__reduce__()
        *kept, last = state
        rest = {name: part for name, part in last.items() if name != "_cache"}
        return make, arguments, (*kept, rest) if rest else tuple(kept)


def state(namespace: dict[str, Any]) -> dict[str, Any]:
    """Describe all variables."""
    return {
        name: (id(value), digest(value, namespace))
        for name, value in namespace.items()
        if not (name.startswith("__") and name.endswith("__"))
    }
