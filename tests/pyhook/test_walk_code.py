# SPDX-License-Identifier: Apache-2.0
"""The walker: functions, classes and modules that cannot be imported by name."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import gc
import itertools
import json
import os.path
import subprocess
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import chipmink
import cloudpickle
import numpy as np
import pytest


def roundtrip(session: chipmink.Session, **namespace: Any) -> types.SimpleNamespace:
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    return types.SimpleNamespace(**session.load())


COUNT = 3


def make_functions() -> dict[str, Any]:
    base = [1, 2]

    def closure(x: int = 1, *args: int, key: str = "k", **rest: int) -> list[Any]:
        """Say what it does."""
        return [*base, x, *args, key, rest]

    def recursive(n: int) -> int:
        return 1 if n < 2 else n * recursive(n - 1)

    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    def uses_globals(n: int) -> float:
        return COUNT + float(np.sqrt(n)) + len(os.path.join("a", "b"))

    def generator(n: int) -> typing.Iterator[int]:
        yield from range(n)

    async def coroutine() -> int:
        return 5

    def unset() -> Any:
        return later

    if base == [0]:
        later = 1

    @functools.wraps(closure)
    def wrapped(*args: Any) -> Any:
        return closure(*args)

    @functools.lru_cache(maxsize=10)
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    closure.attribute = base  # type: ignore[attr-defined]
    return {
        "closure": closure,
        "recursive": recursive,
        "even": even,
        "uses_globals": uses_globals,
        "generator": generator,
        "coroutine": coroutine,
        "unset": unset,
        "wrapped": wrapped,
        "double": lambda x, f=lambda y: y * 2: f(x),
        "partial": functools.partial(closure, 5, key="z"),
        "code": closure.__code__,
        "fibonacci": fibonacci,
        "base": base,
    }


def test_functions_by_value(session: chipmink.Session) -> None:
    s = roundtrip(session, **make_functions())
    assert s.closure(7, 8, key="x", extra=9) == [1, 2, 7, 8, "x", {"extra": 9}]
    assert s.closure.__doc__ == "Say what it does."
    assert s.closure.__qualname__ == "make_functions.<locals>.closure"
    assert s.closure.__annotations__["key"] == "str"
    assert s.closure.attribute is s.base is s.closure.__closure__[0].cell_contents
    assert s.recursive(5) == 120
    assert (s.even(10), s.even(7)) == (True, False)
    assert s.uses_globals(4) == 3 + 2 + 3
    assert list(s.generator(3)) == [0, 1, 2]
    with pytest.raises(StopIteration) as stop:
        s.coroutine().send(None)
    assert stop.value.value == 5
    with pytest.raises(NameError):
        s.unset()
    assert s.wrapped(3) == [1, 2, 3, "k", {}]
    assert s.wrapped.__wrapped__ is s.closure
    assert s.double(4) == 8
    assert s.partial(1) == [1, 2, 5, 1, "z", {}]
    assert s.code is s.closure.__code__
    assert s.fibonacci(30) == 832040
    assert s.fibonacci.cache_info().maxsize == 10
    assert roundtrip(session, again=s.fibonacci).again(20) == 6765


def test_functions_by_name(session: chipmink.Session) -> None:
    functions = [
        json.dumps,
        os.path.join,
        subprocess.run,
        make_functions,
        np.mean,
        np.add,
        np.ndarray.sum,
    ]
    assert roundtrip(session, functions=functions).functions == functions


def test_cells_stay_shared(session: chipmink.Session) -> None:
    def make() -> dict[str, Any]:
        count = 0
        if count:
            never = 1

        def bump() -> int:
            nonlocal count
            count += 1
            return count

        def read() -> tuple[int, Any]:
            return count, bump

        def unset() -> Any:
            return never

        return {"bump": bump, "read": read, "unset": unset, "cell": bump.__closure__[0]}

    made = make()
    s = roundtrip(session, **made)
    assert s.bump() == 1
    assert s.read() == (1, s.bump)
    assert s.cell.cell_contents == 1
    assert s.cell is s.bump.__closure__[0]
    with pytest.raises(NameError):
        s.unset()
    assert made["read"]()[0] == 0
    for names in (["read"], ["cell"], ["bump", "read"], ["cell", "bump"]):
        loaded = session.load(names=names)
        if "read" in loaded:
            assert loaded["read"]()[0] == 0
            assert loaded["read"]()[1]() == 1
            assert loaded["read"]()[0] == 1
        if "bump" in loaded and "cell" in loaded:
            loaded["bump"]()
            assert loaded["cell"].cell_contents == 1


def test_single_dispatch_and_weak_dicts(session: chipmink.Session) -> None:
    @functools.singledispatch
    def kind(value: object) -> str:
        return "object"

    @kind.register
    def _(value: int) -> str:
        return "int"

    class Key:
        pass

    key = Key()
    weak = weakref.WeakKeyDictionary({key: [1]})
    values = weakref.WeakValueDictionary(key=key)
    s = roundtrip(session, kind=kind, weak=weak, values=values, key=key, again=weak)
    assert [s.kind(1), s.kind("x"), s.kind(True)] == ["int", "object", "int"]
    s.kind.register(str, lambda value: "str")
    assert s.kind("x") == "str"
    assert s.weak is s.again
    assert dict(s.weak) == {s.key: [1]}
    assert s.values["key"] is s.key
    del s.key, s.values
    gc.collect()
    assert len(s.weak) == 0


def in_namespace(code: str) -> dict[str, Any]:
    """Run code as a notebook does: a module namespace that cannot be imported from."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(code, namespace)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


def test_functions_share_their_globals_after_loading(session: chipmink.Session) -> None:
    namespace = in_namespace(
        "count = [0]\n"
        "def bump():\n    count[0] += 1\n"
        "def rebind(value):\n    global count\n    count = value\n"
        "def read():\n    return count\n"
    )
    s = roundtrip(session, **namespace)
    assert s.bump.__globals__ is s.read.__globals__ is s.rebind.__globals__
    assert s.read() is s.count
    s.bump()
    assert s.count == [1]
    s.rebind([5])
    assert s.read() == [5]


# ---- classes ------------------------------------------------------------------------------------


def make_classes() -> dict[str, Any]:
    class Meta(type):
        def __len__(cls) -> int:
            return 42

    class Base:
        registry: typing.ClassVar[list[Any]] = []

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__()
            Base.registry.append(cls.__name__)

        def who(self) -> str:
            return "base"

    class Derived(Base, metaclass=Meta):
        """Describe."""

        __slots__ = ("__private", "_hidden", "a")

        def __init__(self, a: Any) -> None:
            self.a = a
            self.__private = 7

        def who(self) -> str:
            return "derived " + super().who()

        @property
        def doubled(self) -> Any:
            return self.a * 2

        @classmethod
        def make(cls) -> Any:
            return cls(3)

        @staticmethod
        def static() -> int:
            return 9

        @functools.cached_property
        def cached(self) -> int:
            return 1

        class Nested:
            value = 1

    class Slotted:
        __slots__ = ("x",)

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def needed(self) -> int: ...

    class Concrete(Abstract):
        def needed(self) -> int:
            return 4

    Abstract.register(dict)

    class Shade(enum.Enum):
        DARK = 1
        LIGHT = (2, "x")
        ALIAS = DARK

        def shout(self) -> str:
            return self.name + "!"

    class Access(enum.Flag):
        READ = 1
        WRITE = 2
        BOTH = 3

    @dataclasses.dataclass(order=True)
    class Point:
        x: int
        y: list[int] = dataclasses.field(default_factory=list)
        label: str = dataclasses.field(default="p", compare=False)

    class Pair(NamedTuple):
        left: int
        right: str = "r"

    item = TypeVar("item")

    class Box(Generic[item]):
        def __init__(self, content: item) -> None:
            self.content = content

    class Error(Exception):
        pass

    class Cyclic:
        pass

    Cyclic.itself = Cyclic  # type: ignore[attr-defined]
    Cyclic.instance = Cyclic()  # type: ignore[attr-defined]
    return dict(locals())


def test_classes_by_value_are_the_same_in_this_process(session: chipmink.Session) -> None:
    classes = make_classes()
    instances = {
        "derived": classes["Derived"](5),
        "concrete": classes["Concrete"](),
        "shades": [classes["Shade"].DARK, classes["Shade"].LIGHT, classes["Shade"].ALIAS],
        "point": classes["Point"](1, [2]),
        "pair": classes["Pair"](1),
        "box": classes["Box"]("content"),
        "error": classes["Error"]("text"),
    }
    s = roundtrip(session, **classes, **instances)
    for name, value in classes.items():
        assert getattr(s, name) is value
    assert s.derived.who() == "derived base"
    assert type(s.derived) is classes["Derived"]
    assert s.shades[0] is classes["Shade"].DARK is s.shades[2]
    assert s.pair == (1, "r")
    assert s.point == classes["Point"](1, [2])


def test_classes_by_value_work_in_another_process(
    store: chipmink.Store, path: Any, python: Callable[..., Any]
) -> None:
    session = store.session("analysis")
    classes = make_classes()
    two = (lambda n: type("Same", (), {"n": n}))(1), (lambda n: type("Same", (), {"n": n}))(2)
    checkpoint = session.save(
        {
            **classes,
            "derived": classes["Derived"](5),
            "shade": classes["Shade"].LIGHT,
            "two": two,
            "point": classes["Point"](1, [2]),
            "functions": make_functions(),
            "box": classes["Box"](1),
        }
    )
    assert checkpoint.unsaved == {}
    store.close()
    script = """
        import dataclasses, sys
        import chipmink
        with chipmink.open(sys.argv[1]) as store:
            v = store.session("analysis").load()
        assert "test_walk_code" not in sys.modules
        D = v["Derived"]
        assert v["derived"].__slots__ == ("__private", "_hidden", "a")
        assert v["derived"]._Derived__private == 7 and not hasattr(v["Slotted"](), "__dict__")
        assert type(v["derived"]) is D and len(D) == 42 and D.__doc__ == "Describe."
        assert v["derived"].who() == "derived base" and v["derived"].doubled == 10
        assert D.make().a == 3 and v["functions"]["fibonacci"](10) == 55
        assert D.static() == 9 and D.Nested.value == 1
        assert v["Base"].registry[0] == "Derived"
        try:
            v["Abstract"]()
        except TypeError:
            pass
        else:
            raise AssertionError
        assert v["Concrete"]().needed() == 4 and issubclass(dict, v["Abstract"])
        S = v["Shade"]
        assert S.ALIAS is S.DARK and v["shade"] is S.LIGHT and S(1).shout() == "DARK!"
        A = v["Access"]
        assert A.READ | A.WRITE is A.BOTH and A.BOTH in A and list(A) == [A.READ, A.WRITE]
        P = v["Point"]
        assert v["point"] == P(1, [2]) < P(2) and P(5).label == "p"
        assert dataclasses.replace(v["point"], x=7).x == 7
        missing = [f.default is dataclasses.MISSING for f in dataclasses.fields(P)]
        assert missing == [True, True, False]
        assert v["Pair"](1)._replace(left=2) == (2, "r")
        assert v["Box"][int] and v["box"].content == 1
        assert v["Cyclic"].itself is v["Cyclic"] and type(v["Cyclic"].instance) is v["Cyclic"]
        a, b = v["two"]
        assert a is not b and (a.n, b.n) == (1, 2)
        assert v["functions"]["closure"](1)[:3] == [1, 2, 1] and v["functions"]["even"](4)
        print("fine")
    """
    process = python(script, path)
    assert process.communicate(timeout=60)[0] == "fine\n"


def test_classes_of_one_name_are_told_apart(session: chipmink.Session) -> None:
    def make(n: int) -> type:
        class Same:
            def value(self) -> int:
                return n

        return Same

    made = [make(i) for i in range(5)]
    loaded = roundtrip(session, made=made, instances=[cls() for cls in made])
    assert loaded.made == made
    assert [instance.value() for instance in loaded.instances] == list(range(5))


def test_a_class_that_cloudpickle_knows_already(session: chipmink.Session) -> None:
    classes = make_classes()
    before = cloudpickle.dumps(classes["Point"])
    s = roundtrip(session, Point=classes["Point"])
    assert s.Point is classes["Point"] is cloudpickle.loads(before)
    assert cloudpickle.loads(cloudpickle.dumps(s.Point)) is s.Point


def test_modules(session: chipmink.Session) -> None:
    dynamic = types.ModuleType("made_up")
    dynamic.value = [1]
    dynamic.path = os.path
    exec("def function():\n    return value", dynamic.__dict__)
    s = roundtrip(session, np=np, path=os.path, dynamic=dynamic, function=dynamic.function)
    assert s.np is np
    assert s.path is os.path
    assert s.dynamic.value == [1]
    assert s.dynamic.function() is s.function()


def test_pickled_by_value_on_request(session: chipmink.Session) -> None:
    cloudpickle.register_pickle_by_value(json)
    try:
        session.save({"encoder": json.JSONEncoder, "dumps": json.dumps})
    finally:
        cloudpickle.unregister_pickle_by_value(json)
    assert session.load(names=["dumps"])["dumps"] is not json.dumps
    assert session.load(names=["dumps"])["dumps"]([1]) == "[1]"


def test_method_objects(session: chipmink.Session) -> None:
    class Local:
        def method(self) -> int:
            return 1

        make = classmethod(lambda cls: cls)
        static = staticmethod(lambda: 5)

    local = Local()
    bound = [local.method, Local.make, Local.static, str.upper, "a".upper, int.__add__, len]
    raw = [vars(Local)["make"], vars(Local)["static"], vars(str)["maketrans"], property(len)]
    s = roundtrip(session, bound=bound, raw=raw[:2] + raw[3:], local=local)
    assert s.bound[0].__self__ is s.local
    assert s.bound[1]() is Local
    assert [s.bound[2](), s.bound[4](), *s.bound[5:]] == [5, "A", int.__add__, len]
    assert type(s.raw[0]) is classmethod
    assert s.raw[1].__func__() == 5
    assert s.raw[2].fget is len


def test_typing_objects(session: chipmink.Session) -> None:
    values = [
        typing.Any,
        list[int],
        typing.Callable[[int], str],
        int | str,
        int | list[str],
        typing.Literal["a"],
        itertools.chain.from_iterable,
    ]
    assert roundtrip(session, values=values).values == values
    user = typing.NewType("user", int)
    s = roundtrip(session, user=user, parameters=typing.ParamSpec("parameters"))
    assert s.user(5) == 5
    assert (s.user.__name__, s.user.__supertype__) == ("user", int)
    assert s.parameters.__name__ == "parameters"
    variable = TypeVar("variable", bound=int)
    s = roundtrip(session, variable=variable, both=[variable, list[variable]])
    assert s.variable is variable
    assert s.both[1] == list[variable]
