# SPDX-License-Identifier: Apache-2.0
"""Whether a cell provably changes nothing: its expressions are followed over the live values.

Nothing of the cell is run. A name stands for the live value it is bound to; what an operation gives
is known by kind only (`_kinds`), as the rules in `_allowed` say. Whatever no rule names is refused.
"""

from __future__ import annotations

import ast
import builtins
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

from . import _allowed, _around
from ._kinds import (
    ATTRIBUTES,
    DATA,
    ENDS,
    ENDS_SEEN,
    METHODS,
    NOTHING,
    STRUCTURE,
    Column,
    Ends,
    Look,
    Refused,
    Rule,
    Types,
    function_rule,
    is_shipped,
    kind_of,
    kind_of_type,
    kinds,
    lookup,
    maker,
    resolve,
    root,
    type_name,
)

_NUMBER = kinds("number")
_TEXT = kinds("text")
_ITERATOR = kinds("iterator")
_SLICED = kinds("sliced")
_TABULAR = kinds("tabular")
_SCALAR = kinds("scalar")
_ARRAYISH = kinds("arrayish")
_OPAQUE = kinds("artist axes")  # shown, and nothing else
_SHOWN = DATA | _OPAQUE | {"model", "type"}
_OPERANDS = DATA
_ITERABLE = kinds(
    "text bytes list tuple dict set range array index series frame extension iterator"
)


class Value:
    """What is known about the value of an expression."""

    __slots__ = ("doubt", "kinds", "live")

    def __init__(self, kinds: frozenset[str], live: Any = NOTHING, doubt: Any = NOTHING) -> None:
        self.kinds = kinds
        self.live = live  # the value itself, if it exists already
        self.doubt = doubt  # what must be looked at before its elements are used


def check(tree: ast.Module, namespace: Mapping[str, Any]) -> None:
    """Raise `Refused` if running `tree` and showing what it gives may change something."""
    _Checker(namespace).body(tree.body)


class _Checker:
    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._look = Look()
        self._scopes: list[dict[str, Value]] = []  # of comprehensions

    # ---- statements

    def body(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Expr):
                self._show(self._value(statement.value))
            elif isinstance(statement, ast.If):
                self._data(statement.test)
                self.body(statement.body)
                self.body(statement.orelse)
            elif isinstance(statement, ast.Assert):
                self._data(statement.test)
                if statement.msg is not None:
                    self._data(statement.msg)
            elif not isinstance(statement, ast.Pass):
                raise Refused(_STATEMENTS.get(type(statement), "it is more than expressions"))

    def _show(self, value: Value) -> None:
        """Display a value, as `print` or the notebook does."""
        if not value.kinds <= _SHOWN:
            raise Refused(f"nothing is known about showing {self._name(value)}")
        doubt = value.doubt
        if kind_of(doubt) in ("frame", "series") and _shows_ends():
            doubt = Ends(doubt)
        if doubt is not NOTHING:
            self._look.at(doubt)

    # ---- values

    def _value(self, node: ast.expr) -> Value:
        visit = _VISITORS.get(type(node))
        if visit is None:
            raise Refused(_EXPRESSIONS.get(type(node), f"{type(node).__name__} is not known"))
        value: Value = visit(self, node)
        return value

    def _data(self, node: ast.expr) -> Value:
        """Follow an expression that must give plain data, whose elements may be used."""
        value = self._value(node)
        self._settle(value)
        if not value.kinds <= _OPERANDS:
            raise Refused(f"{self._name(value)} is not plain data")
        return value

    def _settle(self, value: Value) -> None:
        if value.doubt is not NOTHING:
            self._look.at(value.doubt)

    @staticmethod
    def _name(value: Value) -> str:
        if value.live is not NOTHING:
            return f"a {type_name(value.live)}"
        return f"a value ({', '.join(sorted(value.kinds)) or 'unknown'})"

    def _known(self, live: Any) -> Value:
        """Describe a live value."""
        kind = kind_of(live)
        if kind:
            plain = kind in _ATOMIC
            return Value(frozenset((kind,)), live, NOTHING if plain else live)
        if type(live) is types.ModuleType:
            return Value(_MODULE, live)
        if issubclass(type(live), type) and (type(live) is type or kind_of_type(live)):
            return Value(_TYPE, live)
        return Value(_UNKNOWN, live)

    def _name_node(self, node: ast.Name) -> Value:
        name = node.id
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        live = self._namespace.get(name, NOTHING)
        if live is NOTHING:
            live = _builtin(self._namespace, name)
        if live is NOTHING:
            raise Refused(f"{name} is not defined")
        return self._known(live)

    def _constant(self, node: ast.Constant) -> Value:
        return Value(frozenset((kind_of(node.value),)), node.value)

    def _elements(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        for element in node.elts:
            self._data(element)
        return Value(frozenset((_DISPLAYS[type(node)],)))

    def _dict(self, node: ast.Dict) -> Value:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise Refused("** takes its keys from a value")
            self._data(key)
            self._data(value)
        return Value(kinds("dict"))

    def _text(self, node: ast.JoinedStr) -> Value:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self._data(part.value)
                if part.format_spec is not None:
                    self._value(part.format_spec)
        return Value(_TEXT)

    def _slice(self, node: ast.Slice) -> Value:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self._data(part)
        return Value(kinds("slice"))

    def _binary(self, node: ast.BinOp) -> Value:
        left = self._data(node.left)
        right = self._data(node.right)
        if isinstance(node.op, ast.MatMult):
            return Value(left.kinds | right.kinds | _SCALAR | _ARRAYISH)
        return Value(_operation(left.kinds, right.kinds))

    def _unary(self, node: ast.UnaryOp) -> Value:
        operand = self._data(node.operand)
        if isinstance(node.op, ast.Not):
            return Value(_NUMBER)
        return Value(operand.kinds)

    def _boolean(self, node: ast.BoolOp) -> Value:
        return Value(frozenset().union(*(self._data(value).kinds for value in node.values)))

    def _choice(self, node: ast.IfExp) -> Value:
        self._data(node.test)
        return Value(self._data(node.body).kinds | self._data(node.orelse).kinds)

    def _compare(self, node: ast.Compare) -> Value:
        operands = [self._data(operand) for operand in (node.left, *node.comparators)]
        if len(operands) > 2 or not isinstance(node.ops[0], _ELEMENTWISE):
            return Value(frozenset().union(*(_compared(operand.kinds) for operand in operands)))
        left, right = (operand.kinds for operand in operands)
        return Value(_table_of(left, right) or _compared(left) | _compared(right))

    def _comprehension(self, node: Any) -> Value:
        scope: dict[str, Value] = {}
        self._scopes.append(scope)
        try:
            for generator in node.generators:
                if generator.is_async:
                    raise Refused("it waits for other tasks")
                elements = self._iterated(self._value(generator.iter))
                self._bind(generator.target, elements, scope)
                for condition in generator.ifs:
                    self._data(condition)
            if isinstance(node, ast.DictComp):
                self._data(node.key)
                self._data(node.value)
            else:
                self._data(node.elt)
        finally:
            self._scopes.pop()
        return Value(frozenset((_DISPLAYS[type(node)],)))

    def _iterated(self, value: Value) -> Value:
        self._settle(value)
        if not value.kinds <= _ITERABLE:
            raise Refused(f"iterating over {self._name(value)} may use it up")
        if value.kinds <= {"range"}:
            return Value(_NUMBER)
        if value.kinds <= {"text"}:
            return Value(_TEXT)
        return Value(DATA)

    def _bind(self, target: ast.expr, value: Value, scope: dict[str, Value]) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._bind(part, Value(DATA), scope)
        else:
            raise Refused("a comprehension binds more than names")

    # ---- parts

    def _attribute(self, node: ast.Attribute) -> Value:
        owner = self._value(node.value)
        name = node.attr
        if owner.kinds == _MODULE:
            return self._member(owner.live, name)
        if owner.kinds == _UNKNOWN:
            return self._stored(owner.live, name)
        result: set[str] = set()
        doubt: Any = NOTHING
        for kind in owner.kinds:
            if name in STRUCTURE.get(kind, ()):
                self._check_member(kind, name, owner.live)
                result |= STRUCTURE[kind][name]
                if owner.doubt is not NOTHING:
                    doubt = self._structure(owner, name)
                continue
            found = ATTRIBUTES.get(kind, {}).get(name)
            if found is not None:
                self._check_member(kind, name, owner.live)
                self._settle(owner)
                if "plotter" in found:
                    _check_plots()
                result |= found
            elif name in METHODS.get(kind, ()) or name in ENDS.get(kind, ()):
                raise Refused(f"a method ({name}) is not called")
            elif kind in _allowed.IN_DICT:
                return self._stored(owner.live, name)
            else:
                self._check_absent(kind, name, owner.live)
                if kind in ("frame", "frame_groups"):
                    column = self._select(owner, name)
                    result |= column.kinds
                    if column.doubt is not NOTHING:
                        doubt = column.doubt
        return Value(frozenset(result), NOTHING, doubt)

    def _structure(self, owner: Value, name: str) -> Any:
        """Give what is doubtful about a structural attribute."""
        if name in ("columns", "index") and kind_of(owner.live) in ("frame", "series"):
            axes = owner.live._mgr.axes
            return axes[0] if name == "columns" else axes[-1]
        if name in ("dtypes", "dtype"):
            return Types(owner.doubt) if kind_of(owner.doubt) in _TABULAR else owner.doubt
        return owner.doubt if name not in ("shape", "size", "ndim", "empty", "strides") else NOTHING

    def _select(self, owner: Value, name: str) -> Value:
        """Take a column of a table, or of the groups of one."""
        if owner.kinds == {"frame"}:
            if owner.live is NOTHING:
                return Value(_TABULAR, NOTHING, owner.doubt)
            column = Column(owner.live, name)
            return Value(_SERIES if _is_one(column, self._look) else _TABULAR, NOTHING, column)
        self._settle(owner)
        return Value(kinds("series_groups") if "frame_groups" in owner.kinds else _TABULAR)

    def _member(self, module: types.ModuleType, name: str) -> Value:
        live = module.__dict__.get(name, NOTHING)
        if live is NOTHING:
            raise Refused(f"{module.__name__}.{name} is not there yet")
        return self._known(live)

    def _stored(self, owner: Any, name: str) -> Value:
        """Read an attribute that an instance holds in its __dict__, and that no code computes."""
        cls = type(owner)
        if owner is NOTHING:
            raise Refused(f"nothing is known about .{name}")
        if lookup(cls, "__getattribute__") is not object.__dict__["__getattribute__"]:
            raise Refused(f"{type_name(owner)} computes its attributes")
        if lookup(cls, name) is not NOTHING:
            raise Refused(f"{type_name(owner)}.{name} is not known")
        try:
            attributes = object.__getattribute__(owner, "__dict__")
        except AttributeError:
            attributes = None
        if type(attributes) is not dict or name not in attributes:
            raise Refused(f"a {type_name(owner)} holds no {name}")
        return self._known(attributes[name])

    def _check_member(self, kind: str, name: str, live: Any) -> None:
        """Make sure that an attribute is what its library made it."""
        for cls in _types_of(kind, live):
            found = lookup(cls, name)
            if found is not NOTHING and not is_shipped(found, root(cls.__module__)):
                raise Refused(f"{cls.__name__}.{name} has been replaced")
        if live is not NOTHING and name in getattr(live, "__dict__", ()):
            raise Refused(f"a {type_name(live)} has a {name} of its own")

    def _check_absent(self, kind: str, name: str, live: Any) -> None:
        """Make sure that an attribute that no rule names is none: then it is an AttributeError."""
        classes = _types_of(kind, live)
        if not classes:
            raise Refused(f"nothing is known about .{name}")
        for cls in classes:
            if lookup(cls, name) is not NOTHING:
                raise Refused(f"{cls.__name__}.{name} may change something")
        if live is not NOTHING and name in getattr(live, "__dict__", ()):
            raise Refused(f"a {type_name(live)} has a {name} of its own")

    def _subscript(self, node: ast.Subscript) -> Value:
        owner = self._value(node.value)
        index = self._data(node.slice)
        constant = node.slice.value if isinstance(node.slice, ast.Constant) else NOTHING
        if owner.kinds == {"frame"} and type(constant) is str:
            return self._select(owner, constant)
        if owner.live is not NOTHING and type(constant) in (str, int):
            element = self._element(owner.live, constant)
            if element is not NOTHING:
                return self._known(element)
        result: set[str] = set()
        self._settle(owner)
        for kind in owner.kinds:
            if kind not in _SUBSCRIBED:
                raise Refused(f"nothing is known about subscripts of {self._name(owner)}")
            result |= _SUBSCRIBED[kind]
        if owner.kinds == {"frame"} and index.kinds <= _SELECTING:
            result = {"frame"}
        elif owner.kinds == {"array"} and owner.live is not NOTHING:
            result = set(DATA if owner.live.dtype.hasobject else _ARRAYISH)
        return Value(frozenset(result))

    def _element(self, owner: Any, key: Any) -> Any:
        """Take an element out of a live list, tuple or dict."""
        if type(owner) is dict:
            if len(owner) > _MOST_KEYS or not _KEYS.issuperset(map(id, map(type, owner))):
                return NOTHING
            return owner.get(key, NOTHING)
        listed = type(owner) is list or type(owner) is tuple
        if listed and type(key) is int and -len(owner) <= key < len(owner):
            return owner[key]
        return NOTHING

    # ---- calls

    def _call(self, node: ast.Call) -> Value:
        if any(isinstance(argument, ast.Starred) for argument in node.args) or any(
            keyword.arg is None for keyword in node.keywords
        ):
            raise Refused("* and ** pass arguments that cannot be seen")
        if isinstance(node.func, ast.Attribute):
            owner = self._value(node.func.value)
            if owner.kinds == _MODULE:
                return self._call_live(self._member(owner.live, node.func.attr), node)
            return self._call_method(owner, node.func.attr, node)
        called = self._value(node.func)
        return self._call_live(called, node)

    def _call_live(self, called: Value, node: ast.Call) -> Value:
        function = called.live
        if function is NOTHING:
            if called.kinds == {"plotter"}:
                return self._call_method(called, "__call__", node)
            raise Refused(f"what {self._name(called)} does when called is not known")
        if issubclass(type(function), type):
            return self._call_type(function, node)
        rule = function_rule(function)
        if rule is None:
            raise Refused(f"{_spelled(node.func)} may change something")
        if function is builtins.__dict__.get("len") and len(node.args) == 1:
            value = self._value(node.args[0])
            if value.kinds <= _SIZED:
                return Value(_NUMBER)
        if function is builtins.__dict__.get("isinstance"):
            return self._is_instance(node)
        self._arguments(rule, node, shows=function.__name__ in _allowed.SHOWING)
        return Value(rule.result)

    def _call_type(self, cls: type, node: ast.Call) -> Value:
        if cls is type and len(node.args) == 1 and not node.keywords:
            value = self._value(node.args[0])
            if value.live is NOTHING and value.kinds <= _SHOWN:
                return Value(_TYPE)
            if kind_of(value.live):
                return Value(_TYPE, type(value.live))
            raise Refused("how the type is shown is not known")
        rule = maker(cls)
        if rule is None:
            raise Refused(f"what making a {_spelled(node.func)} does is not known")
        if cls is str and (len(node.args) > 1 or node.keywords):
            raise Refused("decoding may call codecs of the session")
        self._arguments(rule, node)
        return Value(rule.result)

    def _is_instance(self, node: ast.Call) -> Value:
        if len(node.args) != 2 or node.keywords:
            raise Refused("isinstance takes two arguments")
        value = self._value(node.args[0])
        wanted = self._value(node.args[1])
        if not value.kinds <= _SHOWN or wanted.kinds != _TYPE or not kind_of_type(wanted.live):
            raise Refused("what isinstance asks is not known")
        return Value(_NUMBER)

    def _call_method(self, owner: Value, name: str, node: ast.Call) -> Value:
        if owner.kinds == _UNKNOWN:
            return self._call_live(self._stored(owner.live, name), node)
        result: set[str] = set()
        doubt: Any = NOTHING
        for kind in owner.kinds:
            rule = METHODS.get(kind, {}).get(name)
            if name in ENDS.get(kind, ()):
                self._check_member(kind, name, owner.live)
                self._arguments(_ENDS_RULE, node)
                if not _is_within_ends(node):
                    self._settle(owner)
                result |= ENDS[kind][name]
                doubt = owner.doubt
                continue
            self._settle(owner)
            if "plotter" in ATTRIBUTES.get(kind, {}).get(name, ()):
                rule = METHODS["plotter"]["__call__"]
            if rule is not None:
                self._check_member(kind, name, owner.live)
                self._arguments(rule, node)
                if name in _allowed.NAMING:
                    _check_named(node)
                elif name == "query":
                    _check_query(node)
                result |= rule.result
            else:
                self._check_absent(kind, name, owner.live)
        if not result:
            raise Refused(f".{name}() is not known")
        return Value(frozenset(result), NOTHING, doubt)

    def _arguments(self, rule: Rule, node: ast.Call, shows: bool = False) -> None:
        if len(node.args) > rule.positional:
            raise Refused(f"{_spelled(node.func)} has more arguments than are known")
        if rule.draws:
            _check_plots()
        given = set()
        for argument in node.args:
            if shows:
                self._show(self._value(argument))
            else:
                self._argument(argument)
        for keyword in node.keywords:
            name = str(keyword.arg)
            given.add(name)
            denied = name in _allowed.DENIED_KEYWORDS and not _is_constant(keyword.value, False)
            if denied or (name == "copy" and not _is_constant(keyword.value, True)):
                raise Refused(f"{name}= may make {_spelled(node.func)} change something")
            value = self._argument(keyword.value)
            if name == rule.required and not value.kinds <= _NUMBER:
                raise Refused(f"{_spelled(node.func)} draws from the global random numbers")
        if rule.required and rule.required not in given:
            raise Refused(f"{_spelled(node.func)} draws from the global random numbers")

    def _argument(self, node: ast.expr) -> Value:
        """Follow an argument: plain data, a known type, or a function that is known itself."""
        value = self._value(node)
        if value.kinds == _TYPE and value.live is not NOTHING and maker(value.live) is not None:
            return value
        if value.kinds == _UNKNOWN:
            rule = function_rule(value.live)
            if rule is not None and not rule.draws:
                return value
        if value.kinds <= _ITERATOR and value.live is NOTHING:
            return value  # made by this very cell
        self._settle(value)
        if not value.kinds <= DATA:
            raise Refused(f"{self._name(value)} is passed on")
        return value


# ---- what the checker knows by itself

_MODULE = frozenset({"module"})
_TYPE = frozenset({"type"})
_UNKNOWN = frozenset({"unknown"})
_SERIES = kinds("series")
_ENDS_RULE = Rule(1, "", frozenset())
_ATOMIC = kinds("number text bytes none npscalar range dtype")
_SIZED = kinds("text bytes list tuple dict set range array series frame index extension")
_MOST_KEYS = 1000
_KEYS = frozenset((id(str), id(int)))
_SELECTING = kinds("list slice series array index")

_DISPLAYS: dict[type, str] = {
    ast.List: "list",
    ast.ListComp: "list",
    ast.Tuple: "tuple",
    ast.Set: "set",
    ast.SetComp: "set",
    ast.DictComp: "dict",
    ast.GeneratorExp: "iterator",
}
_SUBSCRIBED = {
    **dict.fromkeys(DATA, frozenset[str]()),  # a TypeError
    "text": _TEXT,
    "bytes": kinds("number bytes"),
    "list": DATA,
    "tuple": DATA,
    "dict": DATA,
    "range": kinds("number range"),
    "array": DATA,
    "frame": _SLICED,
    "series": DATA,
    "index": DATA,
    "extension": kinds("scalar extension"),
    "indexer": DATA,
    "frame_groups": kinds("frame_groups series_groups"),
    "strings": _TABULAR,
}
_STATEMENTS: dict[type, str] = {
    ast.Assign: "it assigns",
    ast.AugAssign: "it assigns",
    ast.AnnAssign: "it assigns",
    ast.Delete: "it deletes",
    ast.For: "it loops, and binds a name",
    ast.While: "it loops",
    ast.Import: "it imports",
    ast.ImportFrom: "it imports",
    ast.FunctionDef: "it defines a function",
    ast.AsyncFunctionDef: "it defines a function",
    ast.ClassDef: "it defines a class",
    ast.With: "it enters a context",
    ast.Try: "it handles exceptions",
    ast.Raise: "it raises an exception",
}
_EXPRESSIONS: dict[type, str] = {
    ast.NamedExpr: "it assigns (:=)",
    ast.Await: "it waits for other tasks",
    ast.Lambda: "it makes a function",
    ast.Starred: "* passes values that cannot be seen",
    ast.Yield: "it yields",
    ast.YieldFrom: "it yields",
}
_VISITORS: dict[type, Any] = {
    ast.Name: _Checker._name_node,
    ast.Constant: _Checker._constant,
    ast.List: _Checker._elements,
    ast.Tuple: _Checker._elements,
    ast.Set: _Checker._elements,
    ast.Dict: _Checker._dict,
    ast.JoinedStr: _Checker._text,
    ast.Slice: _Checker._slice,
    ast.BinOp: _Checker._binary,
    ast.UnaryOp: _Checker._unary,
    ast.BoolOp: _Checker._boolean,
    ast.IfExp: _Checker._choice,
    ast.Compare: _Checker._compare,
    ast.ListComp: _Checker._comprehension,
    ast.SetComp: _Checker._comprehension,
    ast.DictComp: _Checker._comprehension,
    ast.GeneratorExp: _Checker._comprehension,
    ast.Attribute: _Checker._attribute,
    ast.Subscript: _Checker._subscript,
    ast.Call: _Checker._call,
}


_ELEMENTWISE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def _table_of(left: frozenset[str], right: frozenset[str]) -> frozenset[str]:
    """Give the kind of table that two operands make, or nothing if that is not certain."""
    for kind in ("frame", "series"):
        if {kind} in (left, right):
            return frozenset((kind,))
        if kind in left | right:
            break
    return frozenset()


def _operation(left: frozenset[str], right: frozenset[str]) -> frozenset[str]:
    """Give the kinds that an arithmetic operation may give."""
    table = _table_of(left, right)
    if table:
        return table
    result = left | right
    if result & {"array", "npscalar", "index", "extension", "sparse", "time"}:
        result |= _ARRAYISH
    if "time" in result:
        result |= _NUMBER
    return result


def _compared(operand: frozenset[str]) -> frozenset[str]:
    """Give the kinds that a comparison may give."""
    result = set(_NUMBER)
    if operand & {"array", "npscalar", "index", "extension", "time"}:
        result |= _ARRAYISH
    return frozenset(result | operand & {"frame", "series", "extension", "sparse"})


def _builtin(namespace: Mapping[str, Any], name: str) -> Any:
    used = namespace.get("__builtins__", builtins)
    if used is not builtins and used is not builtins.__dict__:
        return NOTHING
    return builtins.__dict__.get(name, NOTHING)


def _types_of(kind: str, live: Any) -> list[type]:
    """Give the types that a value of a kind may have."""
    if live is not NOTHING and kind_of(live) == kind:
        return [type(live)]
    paths = _allowed.TYPES.get(kind) or _allowed.MADE.get(kind, "")
    return [cls for cls in map(resolve, paths.split()) if cls is not NOTHING]


def _is_one(column: Column, look: Look) -> bool:
    """Tell whether a name is that of exactly one column of a table."""
    labels = column.of._mgr.axes[0]
    look.at(labels)
    return type(labels).__name__ == "Index" and bool(labels.is_unique) and column.name in labels


def _shows_ends() -> bool:
    """Tell whether tables are shown by their first and last rows."""
    pandas: Any = sys.modules["pandas"]
    rows = pandas.get_option("display.max_rows")
    return type(rows) is int and 0 < rows <= 2 * ENDS_SEEN


def _check_plots() -> None:
    if _around.figures():
        raise Refused("it may draw on a figure that is there already")
    if not _around.draws_with_matplotlib():
        raise Refused("pandas does not plot with matplotlib")


def _check_named(node: ast.Call) -> None:
    """Make sure that what an aggregation calls by name is known."""
    for argument in node.args:
        _check_names(argument)
    for keyword in node.keywords:
        value = keyword.value
        if isinstance(value, ast.Tuple) and len(value.elts) == 2:
            value = value.elts[1]
        if keyword.arg != "axis":
            _check_names(value)


def _check_names(node: ast.expr) -> None:
    if isinstance(node, ast.Constant):
        if node.value not in _allowed.NAMED:
            raise Refused(f"an aggregation calls {node.value!r}")
    elif isinstance(node, (ast.List, ast.Tuple)):
        for element in node.elts:
            _check_names(element)
    elif isinstance(node, ast.Dict):
        for value in node.values:
            _check_names(value)
    else:
        raise Refused("an aggregation is given by a value")


def _check_query(node: ast.Call) -> None:
    """Make sure that a query compares columns and constants, and nothing else."""
    text = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    try:
        parsed = ast.parse(text, mode="eval") if type(text) is str else None
    except SyntaxError:
        parsed = None
    if parsed is None or not all(isinstance(part, _COMPARING) for part in ast.walk(parsed)):
        raise Refused("a query does more than compare columns and constants")


_COMPARING = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop, ast.UnaryOp, ast.unaryop),
    *(ast.BinOp, ast.operator, ast.Name, ast.expr_context, ast.Constant, ast.List, ast.Tuple),
)


def _spelled(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_constant(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or node.value is value)


def _is_within_ends(node: ast.Call) -> bool:
    """Tell whether head or tail takes rows only that a look at the ends sees."""
    if node.keywords or not node.args:
        return not node.keywords
    rows = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
    return type(rows) is int and 0 <= rows <= ENDS_SEEN
