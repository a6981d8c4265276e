# SPDX-License-Identifier: Apache-2.0
"""Which variables a cell can get hold of: those that its code names, and the code that it can call.

A cell starts from the names in its code. What they are bound to is looked into for functions and
classes of the session, whose code has names in turn. Libraries that are known to keep to their
arguments are taken at their word; anything else, and anything that finds variables by other means
than names, is refused: then any variable may be reached.
"""

from __future__ import annotations

import abc
import ast
import builtins
import collections
import dataclasses
import dis
import enum
import functools
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from . import _allowed, _around, _core
from ._allowed import words
from ._kinds import (
    NOTHING,
    Look,
    Refused,
    accessor,
    is_shipped,
    kind_of_type,
    kinds,
    lookup,
    resolve,
    root,
    type_name,
)
from ._namespace import is_dunder, is_ipythons

_BUDGET = 100_000  # elements looked at: not to find out costs a save of all variables
_MOST = 2000  # functions, classes and instances followed


class Named(NamedTuple):
    """The names in a piece of code, and in what is defined in it."""

    loaded: frozenset[str]  # global names
    stored: frozenset[str]  # global names that are bound or deleted
    uses: frozenset[tuple[str, str]]  # global names, and the attribute taken of them or ""
    attributes: frozenset[str]  # names of attributes, and strings that may be used as such
    imports: frozenset[str]  # modules


# ---- the names in code


def _codes(*names: str) -> frozenset[int]:
    return frozenset(dis.opmap[name] for name in names if name in dis.opmap)


_LOAD = _codes("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
_STORE = _codes("STORE_GLOBAL", "DELETE_GLOBAL")
_STORE_HERE = _codes("STORE_NAME", "DELETE_NAME")
_IMPORT = _codes("IMPORT_NAME")
_NAMED = frozenset(dis.hasname)
_EXTENDED = dis.opmap["EXTENDED_ARG"]
# What stands below the index of the name in the arguments of some instructions.
_FLAGS = {
    **dict.fromkeys(_codes("LOAD_GLOBAL"), 1 if sys.version_info >= (3, 11) else 0),
    **dict.fromkeys(_codes("LOAD_ATTR"), 1 if sys.version_info >= (3, 12) else 0),
    **dict.fromkeys(_codes("LOAD_SUPER_ATTR"), 2),
}
_ATTRIBUTE = _codes("LOAD_ATTR", "LOAD_METHOD")


@functools.lru_cache(maxsize=1024)
def named(code: types.CodeType) -> Named:
    """List the names in code; those that the code of a cell binds itself are global."""
    loaded: set[str] = set()
    stored: set[str] = set()
    uses: set[tuple[str, str]] = set()
    attributes: set[str] = set()
    imports: set[str] = set()
    top = code.co_name == "<module>"
    previous = ""  # the global name that the previous instruction loaded
    for operation, name in _name_instructions(code):
        if previous:
            uses.add((previous, name if operation in _ATTRIBUTE else ""))
            previous = ""
        if operation in _LOAD:
            loaded.add(name)
            previous = name
        elif operation in _STORE or (top and operation in _STORE_HERE):
            stored.add(name)
        elif operation in _IMPORT:
            imports.add(name)
        elif name and operation not in _STORE_HERE:
            attributes.add(name)
    for constant in code.co_consts:
        if type(constant) is str:
            attributes.update(_allowed.INTROSPECTIVE.intersection(constant.split(".")))
        elif type(constant) is tuple:  # names of keyword arguments
            attributes.update(_allowed.INTROSPECTIVE.intersection(constant))
        elif type(constant) is types.CodeType:
            inner = named(constant)
            loaded |= inner.loaded
            stored |= inner.stored
            uses |= inner.uses
            attributes |= inner.attributes
            imports |= inner.imports
    return Named(*map(frozenset, (loaded, stored, uses, attributes, imports)))  # type: ignore[arg-type]


def _name_instructions(code: types.CodeType) -> Iterator[tuple[int, str]]:
    """List the instructions with the name that they are about, or an empty string."""
    names = code.co_names
    data = code.co_code
    extended = 0
    for i in range(0, len(data), 2):
        operation = data[i]
        argument = data[i + 1] | extended
        if operation == _EXTENDED:
            extended = argument << 8
            continue
        extended = 0
        if operation in _NAMED:
            yield operation, names[argument >> _FLAGS.get(operation, 0)]
        elif operation not in _SILENT:
            yield operation, ""


# These stand between a name and its attribute without using it.
_SILENT = _codes("CACHE", "NOP", "PUSH_NULL")


# ---- cells that are timed


_TIMERS = ("%%time", "%%timeit", "%time", "%timeit")


def without_timing(source: str) -> str:
    """Take the magics away that do nothing but time the code that follows."""
    stripped = source.strip()
    if not stripped.startswith("%"):
        return source
    first, newline, rest = stripped.partition("\n")
    magic, _, code = first.partition(" ")
    if magic not in _TIMERS or not _around.is_usual_magic(magic):
        return source
    if magic.startswith("%%"):
        return source if code.strip() else rest
    return source if newline else code


# ---- what can be reached


def reach(
    tree: ast.Module,
    code: types.CodeType,
    namespace: Mapping[str, Any],
    budget: int = _BUDGET,
) -> tuple[frozenset[str], frozenset[str]]:
    """Give the names that a cell may bind or delete, and those whose objects it may reach.

    At most `budget` elements are looked at.

    Raises
    ------
    Refused
        It may reach any.
    """
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise Refused("other tasks run while it waits")
    if _around.figures():
        raise Refused("pyplot has figures, which variables may hold")
    reached = _Reach(namespace, budget)
    reached.cell(tree, named(code))
    return frozenset(reached.assigned), frozenset(reached.touched)


class _Reach(Look):
    def __init__(self, namespace: Mapping[str, Any], budget: int) -> None:
        super().__init__(budget)
        self._namespace = namespace
        self._queue: list[Any] = []
        self._followed = 0
        self._attributes: set[str] = set()
        self._imported: dict[str, types.ModuleType] = {}
        self._library: dict[int, type] = {}  # classes of libraries that were met
        self._classes: dict[int, type] = {}  # all that were
        self.assigned: set[str] = set()
        self.touched: set[str] = set()

    def cell(self, tree: ast.Module, names: Named) -> None:
        self._take_imports(tree)
        fixed = _fixed(tree)
        self.assigned |= names.stored
        self._foresee()
        for name in names.loaded - fixed:
            known = name in self._namespace or name in names.stored or name in builtins.__dict__
            if not known and not is_dunder(name):
                raise Refused(f"{name} is not defined")
        self._names(names, fixed)
        while True:
            while self._queue:
                self._follow(self._queue.pop())
            if not self._patches():
                return

    def _foresee(self) -> None:
        """Take in what may change, or be called, although nothing names it."""
        looked_at = set()
        for name, value in list(self._namespace.items()):
            cls = type(value)
            if id(cls) in looked_at:
                continue
            if cls is types.BuiltinFunctionType or cls is types.MethodType:
                if type(value.__self__) is not types.ModuleType and name != "get_ipython":
                    self.touched.add(name)  # its object may be part of a module's state
                continue
            described = value if issubclass(cls, type) else cls
            if described is cls:
                looked_at.add(id(cls))
            finalizer = lookup(described, "__del__")
            if finalizer is not NOTHING and not _around.is_installed(finalizer):
                raise Refused(f"{_qualname(described)} objects run code when they go")

    # ---- names

    def _names(self, names: Named, fixed: frozenset[str] = frozenset()) -> None:
        self.assigned |= names.stored
        self._attributes |= names.attributes
        revealing = (names.attributes & _allowed.INTROSPECTIVE) - fixed
        if revealing:
            raise Refused(f"{min(revealing)} may find any variable")
        for name, attribute in names.uses:
            if name in self._imported:
                self._member(self._imported[name], attribute)
            if name not in fixed:
                self._name(name, attribute)

    def _name(self, name: str, attribute: str) -> None:
        value = self._namespace.get(name, NOTHING)
        if value is NOTHING:
            value = builtins.__dict__.get(name, NOTHING)
            if value is NOTHING:
                return  # it is bound by the cell, to what it reaches otherwise, or a NameError
            if name in _allowed.REVEALING:
                raise Refused(f"{name} may find any variable")
        else:
            if not is_dunder(name):
                self.touched.add(name)
            ipython = name != "open" and callable(self._namespace.get("get_ipython"))
            if ipython and is_ipythons(name, value, self._namespace):
                raise Refused(f"{name} is IPython's, and may hold any object")
        if type(value) is types.ModuleType:
            self._member(value, attribute)
        else:
            self.at(value)

    def _take_imports(self, tree: ast.Module) -> None:
        """Check what a cell imports, and note which modules it binds."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = root(alias.name) if alias.asname is None else alias.name
                    if root(alias.name) in _allowed.CONFINED:
                        continue
                    if root(alias.name) not in _allowed.HARMLESS or node not in tree.body:
                        self._module(alias.name)
                    self._imported[alias.asname or bound] = sys.modules[bound]
            elif isinstance(node, ast.ImportFrom):
                module = sys.modules.get(node.module or "")
                if node.level or type(module) is not types.ModuleType:
                    self._module(node.module if not node.level else None)
                    continue
                for alias in node.names:
                    if alias.name == "*":
                        raise Refused("import * may bind any name")
                    self._member(module, alias.name)

    def _module(self, name: str | None) -> None:
        if root(name) not in _allowed.CONFINED:
            raise Refused(f"nothing is known about the module {name or 'of a relative import'}")

    def _member(self, module: types.ModuleType, name: str) -> None:
        """Reach an attribute of a module."""
        package = root(module.__dict__.get("__name__"))
        if name in _allowed.HARMLESS.get(package, ()):
            held = module.__dict__.get(name)
            if kind_of_type(type(held)) not in _ATOMIC:
                same = [n for n, v in list(self._namespace.items()) if v is held]
                self.touched.update(same)
            return
        if package not in _allowed.CONFINED:
            raise Refused(f"nothing is known about the module {package or '?'}")
        value = module.__dict__.get(name, NOTHING)
        cls = type(value)
        if value is NOTHING or kind_of_type(cls) in _ATOMIC:
            return
        if cls is types.ModuleType:
            if root(value.__dict__.get("__name__")) not in _allowed.CONFINED:
                raise Refused(f"nothing is known about the module {value.__name__}")
        elif id(cls) in _CALLED or issubclass(cls, type):
            self.at(value)
        elif not is_there(value):
            raise Refused(f"{module.__name__}.{name} may be an object of a variable")

    # ---- objects

    def _value(self, value: Any, depth: int) -> None:
        if kind_of_type(type(value)):
            self._library.setdefault(id(type(value)), type(value))
        super()._value(value, depth)

    def _other(self, value: Any) -> None:
        self._queue.append(value)

    def _follow(self, value: Any) -> None:
        """Look for code in what is no plain data."""
        self._followed += 1
        if self._followed > _MOST:
            raise Refused("there is more to look at than a check has time for")
        cls = type(value)
        if cls is types.FunctionType:
            self._function(value)
        elif cls is types.ModuleType:
            self._module(value.__dict__.get("__name__"))
        elif issubclass(cls, type):
            self._class(value)
        elif cls is types.MethodType:
            self._parts(value.__func__, value.__self__)
        elif cls is types.BuiltinFunctionType:
            owner = value.__self__
            if type(owner) is types.ModuleType:
                self._compiled(value)
            else:
                self._parts(owner)
        elif cls is staticmethod or cls is classmethod:
            self._parts(value.__func__)
        elif cls is property:
            self._parts(value.fget, value.fset, value.fdel)
        elif cls is functools.partial:
            self._parts(value.func, value.args, value.keywords, value.__dict__)
        elif cls is functools.cached_property:
            self._parts(value.func)
        elif id(cls) not in _INERT and value is not _NO_METADATA and not is_there(value):
            self._instance(value)

    def _parts(self, *values: Any) -> None:
        for value in values:
            if value is not None:
                self.at(value)

    def _compiled(self, function: Any) -> None:
        package = root(function.__module__)
        if package == "builtins":
            if function.__name__ in _allowed.REVEALING:
                raise Refused(f"{function.__name__} may find any variable")
        elif package not in _allowed.CONFINED and package not in _allowed.HARMLESS:
            raise Refused(f"nothing is known about the module {package}")

    def _function(self, function: types.FunctionType) -> None:
        names = function.__globals__
        module = names.get("__name__")
        loaded = sys.modules.get(module) if type(module) is str else None
        own = type(loaded) is types.ModuleType and loaded.__dict__ is names
        if names is self._namespace:
            inner = named(function.__code__)
            for imported in inner.imports:
                self._module(imported)
            self._names(inner)
        elif own and root(module) in _allowed.CONFINED:
            if names.get(function.__name__) is function:
                return
        elif own and _is_ipythons_own(function):
            return
        elif own:
            raise Refused(f"nothing is known about the module {module}")
        else:
            self._private(named(function.__code__), names)
        self._parts(function.__defaults__, function.__kwdefaults__, function.__dict__)
        for cell in function.__closure__ or ():
            try:
                self._parts(cell.cell_contents)
            except ValueError:  # it is empty yet
                continue

    def _private(self, inner: Named, names: dict[str, Any]) -> None:
        """Follow a function that was loaded, or made by a factory: its globals are its own."""
        if inner.stored or inner.attributes & _allowed.INTROSPECTIVE:
            raise Refused("a function has globals of its own, and binds or inspects them")
        self._attributes |= inner.attributes
        for module in inner.imports:
            self._module(module)
        for name, attribute in inner.uses:
            value = names.get(name, NOTHING)
            if value is NOTHING:
                if name in _allowed.REVEALING:
                    raise Refused(f"{name} may find any variable")
            elif type(value) is types.ModuleType:
                self._member(value, attribute)
            else:
                self.at(value)

    def _class(self, cls: type) -> None:
        if id(cls) in self._classes:
            return
        self._classes[id(cls)] = cls
        if id(type(cls)) not in _METACLASSES:
            self._class(type(cls))
        for base in _mro(cls):
            module = _module_of(base)
            package = root(module)
            if package == "builtins" or (
                package in _allowed.CONFINED and _around.is_installed(base)
            ):
                self._library[id(base)] = base
                continue
            loaded = sys.modules.get(module)
            if loaded is not None and loaded.__dict__ is not self._namespace:
                raise Refused(f"nothing is known about the module {module}")
            if base is not cls:
                self._class(base)
                continue
            for name, value in dict(_dict(base)).items():
                if name not in _NO_CODE and id(type(value)) not in _INERT:
                    self._parts(value)

    def _instance(self, value: Any) -> None:
        """Look at what an instance is made of, wherever its bases keep it."""
        cls = type(value)
        if is_opaque(cls):
            return
        self._class(cls)
        for base in _mro(cls):
            if id(base) in _CONTAINERS:
                held = base.items(value) if id(base) in _MAPPINGS else base.__iter__(value)
                self._parts(list(held))
                if base is collections.defaultdict:
                    self._parts(value.default_factory)
            elif id(base) in self._library and id(base) not in _BASES and not is_opaque(base):
                heap = base.__flags__ & _HEAP_TYPE
                if not heap or root(_module_of(base)) not in _allowed.IN_PYTHON:
                    raise Refused(f"nothing is known about {type_name(value)} objects")
            for descriptor in dict(_dict(base)).values():
                if type(descriptor) is types.MemberDescriptorType:
                    try:
                        self._parts(descriptor.__get__(value))
                    except AttributeError:
                        continue
        inside = _core.attributes(value)
        if inside is not None:
            self._parts(*inside.values())
            return
        try:
            attributes = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return
        self._parts(attributes)

    def _patches(self) -> bool:
        """Follow what the session has put into classes of libraries, under names that are used."""
        before = len(self._queue)
        for cls in (*self._library.values(), *_patchable()):
            for name in self._attributes:
                member = lookup(cls, name)
                if member is NOTHING or id(type(member)) in _INERT or id(member) in self._seen:
                    continue
                if is_shipped(member, root(_module_of(cls))):
                    continue
                self._parts(accessor(member) or member)
        return len(self._queue) > before


def _patchable() -> list[type]:
    """List the classes that results of the usual libraries have."""
    paths = " ".join(_allowed.TYPES[kind] for kind in _allowed.PATCHABLE).split()
    return [cls for cls in map(resolve, paths) if cls is not NOTHING]


def is_opaque(cls: type) -> bool:
    """Tell whether a compiled type holds nothing but numbers, text and the like."""
    module = _module_of(cls)
    path = f"{module}:{_qualname(cls)}"
    return path in _allowed.OPAQUE and resolve(path) is cls


def is_there(value: Any) -> bool:
    """Tell whether a callable that is no plain function is one that NumPy or SciPy come with."""
    cls = type(value)
    if root(_module_of(cls)) != "numpy" or cls.__name__ not in (
        "ufunc",
        "_ArrayFunctionDispatcher",
    ):
        return False
    return any(
        module in sys.modules and sys.modules[module].__dict__.get(value.__name__) is value
        for module in ("numpy", "numpy.linalg", "numpy.fft", "scipy.special")
    )


_NUMPY_CALLABLES = ("ufunc", "_ArrayFunctionDispatcher")

_mro = type.__dict__["__mro__"].__get__
_dict = type.__dict__["__dict__"].__get__
_qualname = type.__dict__["__qualname__"].__get__


def _module_of(cls: type) -> str:
    module = type.__dict__["__module__"].__get__(cls)
    return module if type(module) is str else ""


# Attributes of classes that are not code.
_NO_CODE = words(
    "__dict__ __weakref__ __doc__ __module__ __qualname__ __annotations__ __annotate__ "
    "__annotate_func__ __annotations_cache__ __slots__ __match_args__ __parameters__ "
    "__orig_bases__ __static_attributes__ __firstlineno__ __type_params__ _abc_impl"
)


def _ids(*classes: type) -> frozenset[int]:
    """Make a set of types, in which looking one up runs no code of its metaclass."""
    return frozenset(map(id, classes))


_INERT = _ids(
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
    types.NotImplementedType,
    object,
)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: all that are made by class statements
_METACLASSES = _ids(type, abc.ABCMeta, enum.EnumMeta)
_MAPPINGS = _ids(dict, collections.OrderedDict)
_CONTAINERS = _MAPPINGS | _ids(
    list, tuple, set, frozenset, collections.deque, collections.defaultdict
)
_BASES = _ids(object, int, float, complex, str, bytes, types.SimpleNamespace)
_NO_METADATA = dataclasses.field().metadata  # of all fields that were given none
_CALLED = _ids(types.FunctionType, types.BuiltinFunctionType)
_ATOMIC = kinds("scalar")


def _is_ipythons_own(function: types.FunctionType) -> bool:
    """Tell whether a function is `open` or `display`, as IPython puts them into its namespace."""
    return root(function.__globals__.get("__name__")) == "IPython" and function.__name__ in (
        "open",
        "display",
    )


_COMPUTED = frozenset({"getattr", "setattr", "hasattr", "delattr"})


def _fixed(tree: ast.Module) -> frozenset[str]:
    """Give those of getattr and its like, and of query, that are given plain constants only."""
    fixed = _COMPUTED | {"query"}
    plain = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = 0 if isinstance(node.func, ast.Attribute) else 1
            text = node.args[place] if len(node.args) > place else None
            value = text.value if isinstance(text, ast.Constant) else None
            if type(value) is str and value not in _allowed.INTROSPECTIVE and "@" not in value:
                plain.add(id(node.func))
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
        if name in fixed and id(node) not in plain:
            fixed -= {name}
    return fixed
