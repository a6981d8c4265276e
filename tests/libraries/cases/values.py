# SPDX-License-Identifier: Apache-2.0
"""Records, containers, times and numbers."""

from __future__ import annotations

from typing import Any

from .table import Lazy, attributes, by, calls, library, put, session, sets

# ---- records -------------------------------------------------------------------------------------

pydantic = library("pydantic")


def _pydantic() -> Any:
    return session(
        """
        import datetime
        from pydantic import BaseModel, Field
        class Point(BaseModel):
            x: float
            tags: set[str] = Field(default_factory=lambda: {"a", "b", "c"})
        class Path(BaseModel):
            name: str = Field(min_length=1)
            points: list[Point]
            when: datetime.date = datetime.date(2020, 1, 1)
        value = Path(name="p", points=[Point(x=i) for i in range(20)])
        """
    )


pydantic(
    "BaseModel",
    _pydantic,
    sets("name", "new"),
    lambda a, b: a.model_dump() == b.model_dump(),
)
pydantic(
    "SecretStr", lambda: Lazy("pydantic").SecretStr("s"), lambda s: Lazy("pydantic").SecretStr("t")
)
pydantic(
    "AnyUrl",
    lambda: Lazy("pydantic").AnyUrl("http://example.org/a"),
    lambda url: Lazy("pydantic").AnyUrl("http://example.org/b"),
)
pydantic(
    "dataclass",
    lambda: session(
        """
        from pydantic.dataclasses import dataclass
        @dataclass
        class Item:
            n: int
            names: frozenset[str] = frozenset({"p", "q", "r"})
        value = Item(n="3")
        """
    ),
    sets("n", 4),
    lambda a, b: (a.n, a.names) == (b.n, b.names),
)

attrs = library("attrs", "attr")
_attrs_source = """
    import attrs
    @attrs.define
    class Item:
        n: int = attrs.field(validator=attrs.validators.instance_of(int))
        names: set = attrs.field(factory=lambda: {"p", "q", "r"})
    @attrs.frozen
    class Fixed:
        item: Item
        text: str = "t"
    value = Fixed(Item(3))
"""
attrs(
    "frozen",
    lambda: session(_attrs_source),
    lambda fixed: fixed.item.names.add("s"),
    lambda a, b: (a.item.n, a.item.names, a.text) == (b.item.n, b.item.names, b.text),
)
attrs(
    "define",
    lambda: type(session(_attrs_source).item),
    sets("more", 5),
    by(lambda cls: ([f.name for f in cls.__attrs_attrs__], cls(3).names, getattr(cls, "more", 0))),
)

msgspec = library("msgspec")
msgspec(
    "Struct",
    lambda: session(
        """
        import msgspec
        class Item(msgspec.Struct):
            n: int
            names: set[str] = msgspec.field(default_factory=lambda: {"p", "q"})
        value = Item(3)
        """
    ),
    sets("n", 4),
    lambda a, b: (a.n, a.names) == (b.n, b.names),
    broken=True,
    limitation="its classes cannot be made step by step: define them in a module",
)

# ---- containers ----------------------------------------------------------------------------------

sc = Lazy("sortedcontainers")
containers = library("sortedcontainers")
containers("SortedDict", lambda: sc.SortedDict({f"k{i}": i for i in range(99)}), put("new", 5))
containers("SortedList", lambda: sc.SortedList(range(99)), calls("add", 5))
containers("SortedSet", lambda: sc.SortedSet(f"k{i}" for i in range(99)), calls("add", "new"))

immutables = library("immutables")
immutables(
    "Map",
    lambda: Lazy("immutables").Map({f"k{i}": i for i in range(99)}),
    lambda m: m.set("new", 5),
)
pyrsistent = library("pyrsistent")
pr = Lazy("pyrsistent")
pyrsistent("PMap", lambda: pr.pmap({f"k{i}": i for i in range(99)}), lambda m: m.set("new", 5))
pyrsistent("PVector", lambda: pr.pvector(range(99)), lambda v: v.append(5))
pyrsistent("PSet", lambda: pr.pset(f"k{i}" for i in range(99)), lambda s: s.add("new"))
frozendict = library("frozendict")
frozendict(
    "frozendict", lambda: Lazy("frozendict").frozendict(a=1, b={"x", "y"}), lambda d: d | {"c": 1}
)
boltons = library("boltons")
boltons(
    "OrderedMultiDict",
    lambda: Lazy("boltons.dictutils").OMD([("a", 1), ("a", 2), ("b", 3)]),
    calls("add", "c", 4),
    by(lambda d: list(d.iteritems(multi=True))),
)
boltons("IndexedSet", lambda: Lazy("boltons.setutils").IndexedSet("hello"), calls("add", "new"))
cachetools = library("cachetools")


def _cache() -> Any:
    cache = Lazy("cachetools").LRUCache(5)
    cache.update((f"k{i}", i) for i in range(9))
    return cache


cachetools("LRUCache", _cache, put("new", 5), by(lambda cache: list(cache.items())))
cachetools(
    "TTLCache",
    lambda: Lazy("cachetools").TTLCache(5, 60.0, timer=session("def value(): return 1.0")),
    put("new", 5),
    by(lambda cache: list(cache.items())),
)
multidict = library("multidict")
multidict(
    "MultiDict", lambda: Lazy("multidict").MultiDict([("a", 1), ("a", 2)]), calls("add", "b", 3)
)
multidict("CIMultiDict", lambda: Lazy("multidict").CIMultiDict(Key="v"), calls("add", "b", 3))
toolz = library("toolz")
toolz(
    "functoolz.Compose",
    lambda: Lazy("toolz").compose(str, session("def value(x): return x + 1")),
    lambda f: Lazy("toolz").compose(str, str, *f.funcs),
    by(lambda f: (f(3), len(f.funcs))),
)
toolz(
    "curry",
    lambda: Lazy("toolz").curry(session("def value(a, b, c): return a + b * c"), 1),
    lambda f: f(2),
    by(lambda f: (f.args, f.func(1, 2, 3))),
)
more = library("more-itertools", "more_itertools")
more(
    "SequenceView",
    lambda: Lazy("more_itertools").SequenceView([1, 2, 3]),
    lambda view: view._target.append(4),
    by(list),
)
joblib = library("joblib")
joblib(
    "Parallel",
    lambda: Lazy("joblib").Parallel(2),
    sets("n_jobs", 3),
    broken=True,
    limitation="holds a lock of the process",
)
joblib(
    "Memory",
    lambda: Lazy("joblib").Memory(None),
    sets("compress", 3),
    attributes("compress", "store_backend"),
)

# ---- times ---------------------------------------------------------------------------------------

dateutil = library("python-dateutil", "dateutil")
dateutil(
    "relativedelta", lambda: Lazy("dateutil.relativedelta").relativedelta(months=2), sets("days", 5)
)
dateutil(
    "rrule",
    lambda: Lazy("dateutil.rrule").rrule(
        Lazy("dateutil.rrule").DAILY, count=5, dtstart=Lazy("datetime").datetime(2020, 1, 1)
    ),
    lambda rule: rule.replace(count=6),
    by(list),
)
dateutil(
    "tz.tzfile",
    lambda: Lazy("dateutil.tz").gettz("Europe/Berlin"),
    lambda tz: Lazy("dateutil.tz").gettz("Asia/Tokyo"),
)
pytz = library("pytz")
pytz(
    "timezone",
    lambda: Lazy("pytz").timezone("Europe/Berlin"),
    lambda tz: Lazy("pytz").timezone("Asia/Tokyo"),
)
pendulum = library("pendulum")
pendulum(
    "DateTime",
    lambda: Lazy("pendulum").datetime(2020, 1, 1, tz="Europe/Berlin"),
    lambda t: t.add(days=1),
)
pendulum("Duration", lambda: Lazy("pendulum").duration(days=3), lambda d: d + d)
arrow = library("arrow")
arrow("Arrow", lambda: Lazy("arrow").get("2020-01-01T00:00:00+00:00"), lambda t: t.shift(days=1))

# ---- numbers and units ---------------------------------------------------------------------------

pint = library("pint")
pint(
    "Quantity",
    lambda: Lazy("pint").get_application_registry().Quantity([1.0, 2.0], "meter / second"),
    lambda q: Lazy("pint").get_application_registry().Quantity([1.0, 2.0], "meter"),
    by(lambda quantity: (list(quantity.magnitude), str(quantity.units))),
)
pint(
    "UnitRegistry",
    lambda: Lazy("pint").UnitRegistry(),
    sets("autoconvert_to_preferred", True),
    by(lambda registry: (registry.autoconvert_to_preferred, str(registry("3 km").to("m")))),
    limitation="which of its equal parts are one object goes by the order of sets",
    drifts=True,
)
uncertainties = library("uncertainties")
uncertainties(
    "AffineScalarFunc",
    lambda: Lazy("uncertainties").ufloat(1.0, 0.1) * 2,
    lambda u: u * 2,
    by(lambda u: (u.nominal_value, u.std_dev)),
)
mpmath = library("mpmath")
mpmath("mpf", lambda: Lazy("mpmath").mpf("1.5"), lambda x: x + 1)
mpmath(
    "matrix",
    lambda: Lazy("mpmath").matrix([[1, 2], [3, 4]]),
    put((0, 0), 5),
    broken=True,
    limitation="its class belongs to a context, which does not pickle; keep .tolist() of it",
)
mpmath("mpc", lambda: Lazy("mpmath").mpc(1, 2), lambda x: x + 1)
gmpy2 = library("gmpy2")
gmpy2("mpz", lambda: Lazy("gmpy2").mpz(2) ** 300, lambda x: x + 1)
gmpy2("mpfr", lambda: Lazy("gmpy2").mpfr("1.5"), lambda x: x + 1)
