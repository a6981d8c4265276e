# SPDX-License-Identifier: Apache-2.0
"""The walker: builtin types, the reduce protocol, identity and sharing."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import operator
import pathlib
import pickle
import random
import sys
import types
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import chipmink
import pytest
from chipmink import _core


def roundtrip(session: chipmink.Session, **namespace: Any) -> types.SimpleNamespace:
    """Save the namespace, which must be possible, and load it as a whole."""
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    return types.SimpleNamespace(**session.load())


def plain_pickle(checkpoint: chipmink.Checkpoint, name: str) -> bytes:
    """Give what the mount shows as vars/<name>.pkl."""
    link = checkpoint._core.link([name], namespace=False, buffers=False)
    return link.read(0, link.size)


# ---- builtin types ---------------------------------------------------------------------------


INTEGERS = [
    *(sign * (2**bits + offset) for bits in range(72) for offset in (-1, 0, 1) for sign in (1, -1)),
    *(
        sign * 2 ** (8 * size - 1) + offset
        for size in (9, 126, 127, 128, 300)
        for sign in (1, -1)
        for offset in (-1, 0, 1)
    ),
]

ATOMS = [
    None,
    True,
    False,
    ...,
    NotImplemented,
    0.0,
    -0.0,
    1e308,
    float("inf"),
    float("-inf"),
    1.5j,
    "",
    "a",
    "\n",
    "ascii",
    "\x00\x7f",
    "\x80\xff",
    "\u20ac",
    "\U0001f600",
    "\ud800",
    "a\udcffb",
    "x" * 255,
    "x" * 256,
    "x" * 257,
    "\u20ac" * 85,
    "\u20ac" * 86,
    "\xe9" * 128,
    "\xe9" * 129,
    "y" * 4095,
    "y" * 4096,
    "\U0001f600" * 1023,
    "\U0001f600" * 1024,
    "\ud800" * 3000,
    b"",
    b"a",
    b"bytes",
    b"x" * 255,
    b"x" * 256,
    b"x" * 257,
    b"x" * 4095,
    b"x" * 4096,
    b"x" * 300_000,
    bytearray(),
    bytearray(b"a"),
    bytearray(b"x" * 4095),
    bytearray(b"x" * 4096),
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    tuple(range(5000)),
    [],
    [1],
    [[]],
    list(range(999)),
    list(range(1000)),
    list(range(1001)),
    list(range(2047)),
    {},
    {1: 2},
    {"a": 1, (1, 2): [3], None: {}},
    {i: str(i) for i in range(2100)},
    set(),
    {1},
    {1, "a", None, 2.5, b"x", (1, (2,)), frozenset({1, 2})},
    set(range(3000)),
    frozenset(),
    frozenset({1}),
    frozenset("abcdef"),
    frozenset({frozenset({1}), frozenset({2})}),
    type(None),
    type(...),
    type(NotImplemented),
    int,
    object,
    type,
    len,
    abs,
    operator.add,
    types.FunctionType,
    types.CodeType,
    types.SimpleNamespace,
    range(10),
    range(2**70),
    slice(1, None),
    [].append,
    "a-b".split,
    {}.__class__,
    str.join,
    int.from_bytes,
    datetime.datetime.now,
]


@pytest.mark.parametrize("value", ATOMS, ids=range(len(ATOMS)))  # of sets, repr() varies
def test_builtin_values(session: chipmink.Session, value: Any) -> None:
    loaded = roundtrip(session, value=value, inside=[value, value]).inside
    assert type(loaded[0]) is type(value)
    if isinstance(value, (int, float, complex, str, bytes, tuple, list, dict, type)):
        assert repr(loaded[0]) == repr(value)
    if not callable(value):
        assert loaded == [value, value]
    number = session.save({"value": value}).number
    assert type(session.load(at=number)["value"]) is type(value)


def test_integers_of_every_size(session: chipmink.Session) -> None:
    assert roundtrip(session, integers=INTEGERS).integers == INTEGERS


def test_not_a_number_keeps_its_bits(session: chipmink.Session) -> None:
    loaded = roundtrip(session, values=[float("nan"), -float("nan"), -0.0]).values
    assert str(loaded) == "[nan, nan, -0.0]"


@pytest.mark.parametrize("length", [0, 1, 2, 999, 1000, 1001, 2047, 2048, 2049, 5000, 20_000])
def test_containers_at_batch_and_fragment_sizes(session: chipmink.Session, length: int) -> None:
    namespace = {
        "numbers": list(range(length)),
        "texts": [f"text {i}" for i in range(length)],
        "lists": [[i] for i in range(length)],
        "dicts": [{"id": i, "name": str(i % 7)} for i in range(length)],
        "mapping": {i: [i] for i in range(length)},
        "keys": {(i, str(i)): i for i in range(length)},
        "elements": set(range(length)),
        "pairs": {(i, -i) for i in range(length)},
        "frozen": frozenset(map(str, range(length))),
        "tuple": tuple(range(length)),
    }
    loaded = vars(roundtrip(session, **namespace))
    assert loaded == namespace
    assert list(loaded["mapping"]) == list(namespace["mapping"])
    for name, value in namespace.items():
        assert session.load(names=[name]) == {name: value}


def test_dict_order_is_kept(session: chipmink.Session) -> None:
    keys = [f"key{i}" for i in range(3000)]
    random.Random(1).shuffle(keys)
    assert list(roundtrip(session, mapping=dict.fromkeys(keys)).mapping) == keys


# ---- identity, sharing, cycles ------------------------------------------------------------------


def test_sharing_inside_and_across_variables(session: chipmink.Session) -> None:
    leaf = [1, 2]
    text = "long text " * 40
    blob = b"z" * 10_000
    many = [leaf] * 5000
    s = roundtrip(
        session,
        a=[leaf, text, blob],
        b={"leaf": leaf, "many": many},
        leaf=leaf,
        text=text,
        blob=blob,
        same=leaf,
        many=many,
    )
    assert s.a[0] is s.b["leaf"] is s.leaf is s.same is s.many[0] is s.many[-1]
    assert s.b["many"] is s.many
    assert s.a[1] is s.text
    assert s.a[2] is s.blob


def test_partial_loads_keep_the_sharing_among_what_they_load(session: chipmink.Session) -> None:
    leaf = [1]
    session.save({"first": [leaf, [9] * 3000], "second": (leaf, {"x": leaf}), "third": leaf})
    assert session.load(names=["third"]) == {"third": [1]}
    loaded = session.load(names=["third", "second"])
    assert loaded["second"][0] is loaded["second"][1]["x"] is loaded["third"]


def test_cycles(session: chipmink.Session) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    d: dict[str, Any] = {"loop": loop}
    d["d"] = d
    t: tuple[Any, ...] = ([], {}, 3, 4)
    t[0].append(t)
    t[1]["t"] = t
    pair: tuple[Any, ...] = ([],)
    pair[0].append(pair)
    big: list[Any] = list(range(3000))
    big[7] = big
    node = types.SimpleNamespace()
    node.self, node.others = node, [node]
    s = roundtrip(session, loop=loop, d=d, t=t, pair=pair, big=big, node=node)
    assert s.loop[1] is s.loop
    assert s.d["d"] is s.d
    assert s.d["loop"] is s.loop
    assert s.t[0][0] is s.t
    assert s.t[1]["t"] is s.t
    assert s.pair[0][0] is s.pair
    assert s.big[7] is s.big
    assert s.node.self is s.node is s.node.others[0]
    for name in ("loop", "d", "t", "pair", "big", "node"):
        assert type(session.load(names=[name])[name]) is type(getattr(s, name))


def test_cycles_through_variables_load_from_either_end(session: chipmink.Session) -> None:
    a: list[Any] = list(range(300))
    b: list[Any] = [a, *range(300)]
    a.append(b)
    inner = [*b[1:], a]
    a.append(inner)
    roundtrip(session, a=a, b=b, inner=inner)
    for name, path in {"a": (300, 0), "b": (0, 300), "inner": (300, 301)}.items():
        value = session.load(names=[name])[name]
        assert value[path[0]][path[1]] is value


class Hashable:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashable)

    def __hash__(self) -> int:
        return 7


def test_cycles_through_sets(session: chipmink.Session) -> None:
    element: Any = Hashable()
    element.home = {element}
    frozen: Any = Hashable()
    frozen.home = frozenset([frozen])
    s = roundtrip(session, element=element, frozen=frozen, home=frozen.home)
    assert next(iter(s.element.home)) is s.element
    assert next(iter(s.frozen.home)) is s.frozen
    assert s.home is s.frozen.home
    assert next(iter(session.load(names=["home"])["home"])).home == s.home


def test_a_saved_variable_is_a_plain_pickle(session: chipmink.Session) -> None:
    shared = ["x"] * 10
    value = {
        "a": [shared, shared],
        "b": b"q" * 9000,
        "c": bytearray(b"r" * 9000),
        "n": list(range(4000)),
    }
    loaded = pickle.loads(plain_pickle(session.save({"value": value}), "value"))
    assert loaded == value
    assert loaded["a"][0] is loaded["a"][1]


# ---- the reduce protocol -----------------------------------------------------------------------


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("__private", "a", "b")

    def __init__(self) -> None:
        self.a = 1
        self.__private = 2

    def private(self) -> int:
        return self.__private


class SlottedAndDict(Slotted):
    pass


class EmptySlots:
    __slots__ = ()


class StateMethods:
    def __init__(self) -> None:
        self.value, self.cache = 5, object()

    def __getstate__(self) -> Any:
        return ["state", self.value]

    def __setstate__(self, state: Any) -> None:
        self.value, self.restored = state[1], True


class FalseState:
    def __getstate__(self) -> Any:
        return 0

    def __setstate__(self, state: Any) -> None:
        self.state = state


class NewArgs:
    def __new__(cls, a: int, b: int) -> NewArgs:
        self = super().__new__(cls)
        self.a, self.b = a, b
        return self

    def __getnewargs__(self) -> tuple[int, int]:
        return self.a, self.b


class NewArgsEx:
    def __new__(cls, *, key: int) -> NewArgsEx:
        self = super().__new__(cls)
        self.key = key
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        return (), {"key": self.key}


class Reduced:
    def __init__(self, *args: Any) -> None:
        self.args = args

    def __reduce__(self) -> Any:
        return Reduced, self.args, {"extra": self.args}


class AllParts(list):
    def __reduce__(self) -> Any:
        return AllParts, (), None, iter([1, 2, 3] * 1000), None


class Items(dict):
    def __reduce__(self) -> Any:
        return Items, (), {"x": 1}, None, iter([(i, [i]) for i in range(2500)])


def set_state(obj: Any, state: Any) -> None:
    obj.given = state


class WithSetter:
    def __reduce__(self) -> Any:
        return WithSetter, (), [1, self.token], None, None, set_state

    token = "t"


class ByName:
    def __reduce__(self) -> str:
        return "BY_NAME"


BY_NAME = ByName()


class Outer:
    class Inner:
        class Innermost:
            pass

        constant = ByName()

    @staticmethod
    def function() -> int:
        return 1

    @classmethod
    def make(cls) -> Outer:
        return cls()

    def method(self) -> Outer:
        return self


class Registered:
    def __init__(self, value: Any) -> None:
        self.value = value


copyreg.pickle(Registered, lambda obj: (Registered, (("registered", obj.value),)))


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Flags(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass
class Data:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenData:
    x: int


class Named(NamedTuple):
    x: int
    y: str = "y"


class IntSub(int):
    pass


class StrSub(str):
    pass


class ListSub(list):
    pass


class DictSub(dict):
    pass


class TupleSub(tuple):
    pass


class SetSub(set):
    pass


class FrozenSub(frozenset):
    pass


class BytesSub(bytes):
    pass


class ArraySub(bytearray):
    pass


class FloatSub(float):
    pass


class CustomError(Exception):
    def __init__(self, a: int) -> None:
        super().__init__(a)
        self.extra = "e"


def test_instances(session: chipmink.Session) -> None:
    s = roundtrip(
        session,
        plain=Plain(a=1, b=[2], **{"no identifier": 3}),
        empty=Plain(),
        many=Plain(**{f"a{i}": i for i in range(200)}),
        slotted=Slotted(),
        both=SlottedAndDict(),
        none=EmptySlots(),
        state=StateMethods(),
        false=FalseState(),
        new=NewArgs(1, 2),
        new_ex=NewArgsEx(key=3),
    )
    assert s.plain == Plain(a=1, b=[2], **{"no identifier": 3})
    assert s.empty == Plain()
    assert len(vars(s.many)) == 200
    assert (s.slotted.a, s.slotted.private(), hasattr(s.slotted, "b")) == (1, 2, False)
    assert (s.both.a, s.both.private()) == (1, 2)
    assert type(s.none) is EmptySlots
    assert (s.state.value, s.state.restored, hasattr(s.state, "cache")) == (5, True, False)
    assert s.false.state == 0
    assert (s.new.a, s.new.b, s.new_ex.key) == (1, 2, 3)


def test_an_instance_dict_is_shared_with_what_refers_to_it(session: chipmink.Session) -> None:
    plain = Plain(a=[1])
    s = roundtrip(session, attributes=vars(plain), plain=plain)
    assert s.plain.a is s.attributes["a"]


def test_reducers(session: chipmink.Session) -> None:
    s = roundtrip(
        session,
        reduced=Reduced(1, [2]),
        parts=AllParts(),
        items=Items(),
        setter=WithSetter(),
        registered=Registered(5),
        by_name=[BY_NAME, BY_NAME],
        nested=Reduced(Reduced(Reduced())),
    )
    assert s.reduced.args == (1, [2])
    assert s.reduced.extra[1] is s.reduced.args[1]
    assert s.parts == [1, 2, 3] * 1000
    assert s.items == {i: [i] for i in range(2500)}
    assert s.items.x == 1
    assert s.setter.given == [1, "t"]
    assert s.registered.value == ("registered", 5)
    assert s.by_name[0] is BY_NAME
    assert s.nested.args[0].args[0].args == ()


def test_subclasses_of_builtins(session: chipmink.Session) -> None:
    values = [
        IntSub(5),
        StrSub("s"),
        ListSub([1, 2]),
        DictSub(a=1),
        TupleSub((1, 2)),
        SetSub({1}),
        FrozenSub({2}),
        BytesSub(b"b"),
        ArraySub(b"a"),
        FloatSub(1.5),
        Named(1),
        Named(2, "z"),
        collections.OrderedDict(b=1, a=2),
        collections.Counter("aab"),
        collections.deque([1, 2], 3),
        collections.ChainMap({1: 2}, {}),
        bool(1),
    ]
    for value in values:
        if type(value).__module__ == __name__ and hasattr(value, "__dict__"):
            value.attribute = [value]
    loaded = roundtrip(session, values=values).values
    assert loaded == values
    for before, after in zip(values, loaded, strict=True):
        assert type(before) is type(after)
        if hasattr(before, "attribute"):
            assert after.attribute[0] is after
    factory = roundtrip(session, d=collections.defaultdict(list, a=[1])).d
    assert factory["b"] == []
    assert factory["a"] == [1]


def test_standard_library_values(session: chipmink.Session) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2), "there")
    values = [
        datetime.date(2020, 1, 2),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6, zone),
        zone,
        datetime.timedelta(1, 2, 3),
        decimal.Decimal("1.10"),
        decimal.Decimal("NaN").copy_abs(),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        pathlib.PurePosixPath("a/b"),
        Color.RED,
        Color,
        Flags.A | Flags.B,
        Data(1, [2]),
        FrozenData(3),
        3 + 4j,
        io.BytesIO(b"abc"),
        io.StringIO("t"),
        functools.partial(int, base=2),
        operator.itemgetter(1),
        types.SimpleNamespace(a=1),
        random.Random(3),
        iter([1, 2, 3]),
        iter((1, 2)),
        enumerate("ab"),
        zip([1], [2], strict=False),
        map(int, ["1"]),
        reversed([1, 2]),
        {}.keys(),
        {1: 2}.items(),
        memoryview(b"view"),
        ValueError("v", 1),
        KeyError("k"),
        CustomError(7),
        OSError(2, "no"),
        sys,
        pathlib,
        types.MappingProxyType({"a": 1}),
    ]
    loaded = roundtrip(session, values=values).values
    for before, after in zip(values, loaded, strict=True):
        if isinstance(before, memoryview):
            assert after == before.tobytes()
            continue
        assert type(after) is type(before)
        if type(before).__eq__ is not object.__eq__ and not isinstance(before, decimal.Decimal):
            assert after == before or isinstance(before, functools.partial)
    assert loaded[9] is Color.RED
    assert loaded[10] is Color
    assert loaded[values.index(sys)] is sys
    assert loaded[5].is_nan()
    errors = [value for value in loaded if isinstance(value, Exception)]
    assert [error.args for error in errors] == [("v", 1), ("k",), (7,), (2, "no")]
    assert errors[2].extra == "e"  # type: ignore[attr-defined]
    assert next(iter(roundtrip(session, i=iter([1, 2])).i)) == 1


def test_methods_and_nested_names(session: chipmink.Session) -> None:
    outer = Outer()
    s = roundtrip(
        session,
        inner=Outer.Inner.Innermost,
        function=Outer.function,
        make=Outer.make,
        method=outer.method,
        outer=outer,
        instance=Outer.Inner.Innermost(),
    )
    assert s.inner is Outer.Inner.Innermost
    assert s.function is Outer.function
    assert s.make == Outer.make
    assert s.method.__self__ is s.outer
    assert type(s.instance) is Outer.Inner.Innermost


def test_an_instance_may_override_the_protocol(session: chipmink.Session) -> None:
    odd = Plain(dropped=1)
    odd.__reduce_ex__ = lambda protocol: (Plain, (), {"protocol": protocol})
    assert vars(roundtrip(session, odd=odd).odd) == {"protocol": 5}


class ArgumentCycle:
    """Its own container is among its arguments."""

    def __init__(self, container: list[Any]) -> None:
        self.container = container

    def __reduce__(self) -> Any:
        return ArgumentCycle, (self.container,)


def test_recursion_through_arguments(session: chipmink.Session) -> None:
    container: list[Any] = []
    cycle = ArgumentCycle(container)
    container.append(cycle)
    for namespace in ({"cycle": cycle}, {"container": container}, {"both": [cycle, container]}):
        checkpoint = session.save(namespace)
        assert checkpoint.unsaved == {}
        loaded = session.load()
    assert loaded["both"][0].container is loaded["both"][1]
    assert loaded["both"][1][0] is loaded["both"][0]


# ---- depth --------------------------------------------------------------------------------------


def nested(depth: int, wrap: Any) -> Any:
    value: Any = None
    for _ in range(depth):
        value = wrap(value)
    return value


def depth_of(value: Any, unwrap: Any) -> int:
    depth = 0
    while value is not None:
        value = unwrap(value)
        depth += 1
    return depth


def unwrap_all(values: Iterator[Any]) -> Any:
    return next(iter(values))


class Link:
    def __init__(self, next_: Any) -> None:
        self.next = next_


class ReducedLink:
    def __init__(self, next_: Any) -> None:
        self.next = next_

    def __reduce__(self) -> Any:
        return ReducedLink, (self.next,)


@pytest.mark.parametrize(
    ("depth", "wrap", "unwrap"),
    [
        (1_000_000, lambda value: [value], unwrap_all),
        (100_000, lambda value: (value,), unwrap_all),
        (100_000, lambda value: {"next": value}, lambda value: value["next"]),
        (100_000, Link, lambda value: value.next),
        (100_000, ReducedLink, lambda value: value.next),
        (100_000, lambda value: [value, value], unwrap_all),
    ],
    ids=["lists", "tuples", "dicts", "instances", "reduced", "shared"],
)
def test_deep_nesting(session: chipmink.Session, depth: int, wrap: Any, unwrap: Any) -> None:
    value = nested(depth, wrap)
    assert session.save({"value": value, "other": 1}).unsaved == {}
    loaded = session.load()["value"]
    assert depth_of(loaded, unwrap) == depth
    while value is not None:  # freed from the outside in: the C stack is not deep enough for all
        value, loaded = unwrap(value), unwrap(loaded)


# ---- what a variable needs to be loaded by itself -----------------------------------------------


def test_what_everything_shares_does_not_tie_variables_together(session: chipmink.Session) -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")

    class Local:
        pass

    def function() -> Any:
        return Local

    big = np.arange(1_000_000.0)
    now = datetime.datetime.now(datetime.timezone.utc)
    later = now + datetime.timedelta(1)
    frame = pd.DataFrame({"a": big, "b": np.arange(1_000_000)})
    namespace = {
        "big": [big, Local, Local(), function, Color.RED, now, np.dtype("i4"), sys],
        "frame": frame,
        "number": np.float64(1.5),
        "array": np.arange(3.0),
        "series": pd.Series([1.0], dtype="f8"),
        "instance": Local(),
        "function": function,
        "member": [Color.RED],
        "moment": later,
        "dtype": np.dtype("i4"),
        "module": sys,
        "columns": frame[["a", "b"]][:3].reset_index(drop=True),
    }
    checkpoint = session.save(namespace)
    assert checkpoint.unsaved == {}
    for name, variable in checkpoint.variables.items():
        assert variable.size > 8_000_000 if name in ("big", "frame") else variable.size < 10_000
    loaded = session.load()
    assert type(loaded["big"][2]) is loaded["big"][1] is type(loaded["instance"])
    assert loaded["big"][3] is loaded["function"]
    assert loaded["member"][0] is loaded["big"][4] is Color.RED
    assert loaded["moment"] == later
    assert loaded["big"][6] == loaded["dtype"]


class Point:
    x: int
    y: list[int]
    later: int


@pytest.mark.parametrize("count", [1, 900, 3000])
def test_instances_are_as_quick_as_before(session: chipmink.Session, count: int) -> None:
    """Python 3.11 is slower with those whose __dict__ was asked for; see walk_entries.h."""
    points = []
    for number in range(count):
        points.append(Point())
        points[-1].x, points[-1].y = number, [number]
    expected: list[dict[str, Any]] = [{"x": n, "y": [n]} for n in range(count)]
    inside = _core.attributes(points[0])
    assert inside in (None, expected[0])
    asked = Point()
    asked.y, asked.x = [], 1
    attributes = asked.__dict__
    assert _core.attributes(asked) is None
    for step in range(4):
        points[0].x = expected[0]["x"] = -step
        if step == 2:
            del points[0].x, expected[0]["x"]
            points[0].later = points[0].x = 5
            expected[0].update(later=5, x=5)
        session.save({"points": points, "first": points[0], "asked": asked})
        if count < 1000:
            assert all((_core.attributes(p) is None) == (inside is None) for p in points)
        assert asked.__dict__ is attributes
        loaded = session.load()
        assert loaded["first"] is loaded["points"][0]
        assert list(vars(loaded["asked"]).items()) == [("y", []), ("x", 1)]
        for after, attributes_then in zip(loaded["points"], expected, strict=True):
            assert list(vars(after).items()) == list(attributes_then.items())
    points[0].later += 1
    assert points[0].later == 6
