# SPDX-License-Identifier: Apache-2.0
"""Python itself, NumPy, SciPy and arrays of other kinds."""

from __future__ import annotations

import functools
import types
from typing import Any

from .table import Lazy, attributes, by, calls, library, points, put, rng, session, sets

# ---- Python: what a session defines, and containers whose order varies ----------------

python = library("Python", "collections")


def _calls_give(*arguments: Any) -> Any:
    return by(lambda function: function(*arguments))


python(
    "function",
    lambda: session(
        """
        import math
        SCALE, NAMES = 3, {"alpha", "beta", "gamma", "delta"}
        def value(x, *, power=2):
            return math.sqrt(x) * SCALE**power + len(NAMES)
        """
    ),
    lambda function: function.__globals__.__setitem__("SCALE", 4),
    _calls_give(9.0),
)
python(
    "closure",
    lambda: session(
        """
        def make():
            seen = {"one", "two", "three"}
            return lambda more=(): sorted(seen | set(more))
        value = make()
        """
    ),
    lambda function: function.__closure__[0].cell_contents.add("four"),
    _calls_give(["five"]),
)
python(
    "class",
    lambda: session(
        """
        import abc, dataclasses
        class Base(abc.ABC):
            known = {"a", "b", "c", "d"}
            @abc.abstractmethod
            def area(self): ...
        @dataclasses.dataclass
        class Square(Base):
            side: float = 2.0
            tags: set = dataclasses.field(default_factory=lambda: {"x", "y"})
            @functools.cached_property
            def twice(self): return 2 * self.side
            @property
            def name(self): return f"square of {self.side}"
            def area(self): return self.side**2
        value = Square
        """,
        functools=functools,
    ),
    sets("area", lambda self: 5.0),
    by(lambda cls: (cls(3.0).area(), cls(3.0).tags, cls.known, cls(1.5).name)),
)
python(
    "instance",
    lambda: session(
        """
        class Node:
            __slots__ = ("name", "next", "seen", "__weakref__")
            def __init__(self, name): self.name, self.next, self.seen = name, self, {name, "z"}
        value = [Node(str(i)) for i in range(20)]
        """
    ),
    lambda nodes: nodes[3].seen.add("new"),
    by(lambda nodes: [(node.name, node.next is node, node.seen) for node in nodes]),
)
python(
    "lru_cache",
    lambda: session(
        """
        import functools
        @functools.lru_cache(maxsize=10)
        def value(n): return n if n < 2 else value(n - 1) + value(n - 2)
        value(8)
        """
    ),
    lambda function: setattr(function, "version", 2),
    by(lambda function: (function(9), function.cache_parameters()), lambda f: sorted(vars(f))),
    limitation="what is in the cache is not accessible: it is empty after loading",
)
python(
    "partial",
    lambda: functools.partial(session("def value(a, b, c): return a + b * c"), 1, c=3),
    lambda function: functools.partial(function.func, 2, c=3),
    _calls_give(5),
)
python(
    "Enum",
    lambda: session(
        """
        import enum
        class Shade(enum.Flag):
            DARK = 1
            LIGHT = 2
        value = {shade: {"s", shade.name} for shade in Shade}
        """
    ),
    lambda shades: shades.popitem() and None,
    by(lambda shades: [(shade.name, shade.value, names) for shade, names in shades.items()]),
)
python(
    "set",
    lambda: {f"word {i}" for i in range(500)} | {None, 1.5, (1, "x"), frozenset(["p", "q"])},
    calls("add", "another"),
)
python(
    "set of objects",
    lambda: session(
        """
        class Point:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return self.x == other.x
            def __hash__(self): return hash(self.x)
        value = {Point(str(i)) for i in range(50)}
        """
    ),
    lambda points: points.add(type(next(iter(points)))("new")),
    by(lambda points: {point.x for point in points}),
)
python(
    "dict of sets",
    lambda: {f"k{i}": {f"a{i}", f"b{i}", ("t", i)} for i in range(100)},
    lambda table: table["k5"].discard("a5"),
)
python(
    "WeakValueDictionary",
    lambda: session(
        """
        import weakref
        class Kept:
            def __init__(self, n): self.n = n
        kept = [Kept(i) for i in range(10)]
        value = [kept, weakref.WeakValueDictionary((str(k.n), k) for k in kept)]
        """
    ),
    lambda pair: pair[1].pop("3") and None,
    by(lambda pair: {key: item.n for key, item in pair[1].items()}),
)
python(
    "SimpleNamespace",
    lambda: types.SimpleNamespace(a=[1, 2], b={"x", "y"}),
    sets("a", [3]),
)
python(
    "Random",
    lambda: Lazy("random").Random(5),
    calls("random"),
    by(lambda random: random.getstate()),
)
python(
    "generator",
    lambda: (i for i in range(5)),
    next,
    broken=True,
    limitation="a frame that is running cannot be pickled",
)
python(
    "Lock",
    lambda: [Lazy("threading").Lock()],
    calls("append", 1),
    broken=True,
    limitation="belongs to the process",
)

# ---- NumPy ---------------------------------------------------------------------------------------

np = Lazy("numpy")
numpy = library("numpy")
_content = by(lambda array: np.asarray(array))
numpy("ndarray", lambda: rng().random((200, 100)), put((3, 4), 5.0))
numpy("ndarray of objects", lambda: np.array([{"a", "b"}, "t", [1]] * 9, object), put(4, "new"))
numpy(
    "ndarray, structured",
    lambda: np.array([(1, 2.5, "x")] * 50, [("n", "i4"), ("f", "f8"), ("t", "U4")]),
    put(7, (2, 3.5, "y")),
)
numpy(
    "ndarray of datetime64", lambda: np.arange("2020-01", "2021-01", dtype="M8[D]"), put(0, "NaT")
)
numpy(
    "ma.MaskedArray",
    lambda: np.ma.masked_array(np.arange(50.0), np.arange(50) % 3 == 0),
    put(4, 9.0),
    by(lambda a: a.filled(-1), lambda a: a.mask),
)
numpy(
    "recarray",
    lambda: np.rec.array([(1, "x"), (2, "y")], [("n", int), ("t", "U1")]),
    lambda a: a.n.__setitem__(0, 9),
)
numpy("random.Generator", rng, calls("random"), by(lambda g: g.bit_generator.state))
numpy(
    "random.RandomState",
    lambda: np.random.RandomState(3),
    calls("random_sample"),
    by(lambda r: r.get_state(legacy=True)[1:]),
)
numpy("poly1d", lambda: np.poly1d([1, 2, 3]), put(0, 7), by(lambda p: p.coeffs))
numpy(
    "polynomial.Polynomial",
    lambda: np.polynomial.Polynomial([1, 2]),
    lambda p: p.coef.__setitem__(0, 9.0),
)
numpy(
    "memmap",
    lambda: np.memmap(Lazy("tempfile").TemporaryFile(), "f8", "w+", shape=(100,)),
    put(3, 2.5),
    _content,
    limitation="of a file without a name: its content",
)


# ---- SciPy ---------------------------------------------------------------------------------------

sp = Lazy("scipy")
scipy = library("scipy")


def _matrix(kind: str) -> Any:
    return lambda: sp.sparse.random(60, 50, 0.1, kind, rng=rng())


_dense = by(lambda matrix: matrix.toarray())
scipy("sparse.csr_matrix", lambda: sp.sparse.csr_matrix(_matrix("csr")()), put((0, 0), 4.0), _dense)
scipy("sparse.csc_array", lambda: sp.sparse.csc_array(_matrix("csc")()), put((0, 0), 4.0), _dense)
scipy("sparse.coo_matrix", _matrix("coo"), lambda m: m.data.__setitem__(0, 4.0), _dense)
scipy("sparse.lil_matrix", _matrix("lil"), put((0, 0), 4.0), _dense)
scipy("sparse.dok_matrix", _matrix("dok"), put((0, 0), 4.0), _dense)
scipy(
    "spatial.cKDTree",
    lambda: sp.spatial.cKDTree(points()),
    lambda tree: sp.spatial.cKDTree(tree.data[:-1]),
    by(lambda tree: tree.query(points(), 3)),
)
scipy(
    "spatial.Delaunay",
    lambda: sp.spatial.Delaunay(points()[:30, :2]),
    sets("simplices", None),
    by(lambda hull: hull.simplices),
    limitation="SciPy saves the result; points cannot be added after loading",
)
scipy(
    "spatial.transform.Rotation",
    lambda: sp.spatial.transform.Rotation.from_euler("xyz", [10, 20, 30], degrees=True),
    lambda rotation: rotation * rotation,
    by(lambda rotation: rotation.as_quat()),
)
scipy(
    "interpolate.CubicSpline",
    lambda: sp.interpolate.CubicSpline(np.arange(9.0), np.sin(np.arange(9.0))),
    lambda spline: spline.c.__setitem__((0, 0), 5.0),
    by(lambda spline: spline(np.linspace(0, 8, 50))),
)
scipy(
    "interpolate.RegularGridInterpolator",
    lambda: sp.interpolate.RegularGridInterpolator((np.arange(4), np.arange(5)), np.ones((4, 5))),
    lambda grid: grid.values.__setitem__((1, 1), 5.0),
    by(lambda grid: grid([[1, 1.5], [2.5, 3]])),
)
scipy(
    "optimize.OptimizeResult",
    lambda: sp.optimize.minimize(lambda x: (x**2).sum(), [1.0, 2.0]),
    sets("nit", 99),
    by(lambda result: (result.x, result.fun, result.nit)),
)
scipy(
    "stats.rv_frozen",
    lambda: sp.stats.gamma(2.5, scale=3.0),
    lambda law: law.kwds.update(scale=4.0),
    by(lambda law: law.pdf(np.linspace(0.1, 9, 20))),
)
scipy(
    "stats.gaussian_kde",
    lambda: sp.stats.gaussian_kde(points()[:, 0]),
    calls("set_bandwidth", 0.5),
    by(lambda kde: kde([0.0, 0.5])),
)
scipy(
    "signal.TransferFunction",
    lambda: sp.signal.TransferFunction([1.0], [1.0, 2.0, 3.0]),
    sets("num", [2.0]),
    attributes("num", "den"),
)

# ---- arrays of other kinds -----------------------------------------------------------------------

sparse = library("sparse")
sparse(
    "COO",
    lambda: Lazy("sparse").random((30, 20), 0.1, random_state=1),
    lambda array: array * 2,
    by(lambda array: array.todense()),
)
sparse(
    "DOK",
    lambda: Lazy("sparse").DOK.from_numpy(np.eye(9)),
    put((1, 2), 5.0),
    by(lambda array: array.todense()),
)
ak = Lazy("awkward")
awkward = library("awkward")
awkward(
    "Array",
    lambda: ak.Array([[1, 2], [], [3.5]] * 20),
    lambda array: ak.concatenate([array, [[7]]]),
    by(lambda array: array.to_list()),
)
awkward(
    "Record",
    lambda: ak.Record({"x": [1, 2, 3], "y": {"z": "text"}}),
    lambda record: ak.Record({**record.to_list(), "x": [1]}),
    by(lambda record: record.to_list()),
)

jnp = Lazy("jax.numpy")
jax = library("jax")
jax("Array", lambda: jnp.arange(300.0), lambda a: a.at[3].set(-1.0), _content)
jax(
    "random.key",
    lambda: Lazy("jax").random.key(3),
    lambda key: Lazy("jax").random.split(key)[0],
    by(lambda key: np.asarray(Lazy("jax").random.key_data(key))),
)
jax(
    "jit",
    lambda: Lazy("jax").jit(session("def value(x): return x * 2 + 1")),
    lambda function: Lazy("jax").jit(lambda x: x * 3),
    by(lambda function: float(function(4.0))),
    limitation="saved as its function; compiled again after loading",
)

bitarray = library("bitarray")
bitarray("bitarray", lambda: Lazy("bitarray").bitarray("0110" * 99), put(0, 1))

zarr = library("zarr")


def _zarr() -> Any:
    array = Lazy("zarr").create_array(
        store={}, shape=(20, 20), chunks=(5, 5), dtype="f8", fill_value=0.0
    )
    array[3] = 5.0
    return array


zarr("Array", _zarr, put((0, 0), 7.0), by(lambda array: array[:]))

h5 = Lazy("h5py")
h5py = library("h5py")


def _hdf5() -> Any:
    file = h5.File.in_memory()
    file["numbers"] = np.arange(300.0)
    file.create_group("group").attrs["unit"] = "m"
    return file


def _hdf5_content(file: Any) -> Any:
    items = {name: np.asarray(part) for name, part in file.items() if name != "group"}
    return items, dict(file["group"].attrs), file.mode


h5py(
    "File",
    _hdf5,
    put("x", [1]),
    by(_hdf5_content),
    limitation="one that is not in memory: by its path; open it again if it is locked",
)
h5py(
    "Dataset",
    lambda: _hdf5()["numbers"],
    put(3, -1.0),
    by(lambda dataset: (dataset.name, dataset[:])),
)
h5py(
    "Empty",
    lambda: h5.Empty("f8"),
    lambda empty: h5.Empty("i4"),
)

pywt = Lazy("pywt")
wavelets = library("PyWavelets", "pywt")
wavelets(
    "Wavelet", lambda: pywt.Wavelet("db3"), lambda w: pywt.Wavelet("db4"), attributes("dec_lo")
)
wavelets(
    "WaveletPacket",
    lambda: pywt.WaveletPacket(np.arange(32.0), "db1", maxlevel=2),
    lambda packet: packet.data.__setitem__(0, 9.0),
    by(lambda packet: packet.data, lambda packet: packet.reconstruct(update=False)),
)

numba = library("numba")
nb = Lazy("numba")
numba(
    "jit",
    lambda: nb.njit(session("def value(n): return n * n + 1")),
    lambda function: nb.njit(session("def value(n): return n * n + 2")),
    by(lambda function: function(7)),
    limitation="saved as its function; compiled again after loading",
    heavy=True,
)
numba(
    "vectorize",
    lambda: nb.vectorize(session("def value(n): return n + 0.5")),
    lambda function: nb.vectorize(session("def value(n): return n + 1.5")),
    by(lambda function: function(np.arange(4.0))),
    limitation="saved as its function; compiled again after loading",
    heavy=True,
)
numba(
    "typed.List",
    lambda: nb.typed.List([1, 2, 3]),
    calls("append", 4),
    by(list),
    heavy=True,
    broken=True,
    limitation="lives in Numba's own memory; keep list(...) of it",
)
