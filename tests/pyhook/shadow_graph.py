# SPDX-License-Identifier: Apache-2.0
"""Random object graphs, and random changes to them through whatever reference is at hand."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

BIG = 2600  # elements: built of fragments
MIDDLE = 300  # elements: a pod of its own


class Node:
    """An instance whose state is its dict."""

    kind = "node"


class Other(Node):
    """Another class of the same kind."""


class Slotted:
    """An instance without a dict."""

    __slots__ = ("left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right


class Reduced:
    """Goes through a reducer, which may change the graph, or hand out what others own."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.meddle: Callable[[], None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.meddle is not None:
            self.meddle()
        return (Reduced, (None,), {"target": self.target})


class Graph:
    """A namespace and what can happen to it."""

    def __init__(self, seed: int, meddling: bool = False) -> None:
        self.random = random.Random(seed)
        self.meddling = meddling
        self.meddlers: list[Reduced] = []
        self.namespace: dict[str, Any] = {}
        for _ in range(self.random.randint(1, 4)):
            self.bind()

    # ---- making

    def atom(self) -> Any:
        """Give a value; often a new object that is equal to others."""
        r = self.random
        return r.choice(
            [
                None,
                True,
                r.randint(-10, 300),
                r.randint(10**6, 10**6 + 50),
                r.choice([0.5, -0.0, 1e300]) * r.randint(1, 3),
                f"text {r.randint(0, 30)}",
                "x" * r.choice([1, 300, 5000]) + str(r.randint(0, 3)),
                bytes([r.randint(0, 3)]) * r.choice([1, 300, 5000]),
                10 ** r.randint(20, 22),
            ]
        )

    def value(self, depth: int = 0) -> Any:
        """Give an atom, a new container or an object that is there already."""
        r = self.random
        choice = r.random()
        if choice < 0.45 or depth > 3:
            return self.atom()
        if choice < 0.6:
            return self.some()
        return self.container(depth)

    def container(self, depth: int = 0) -> Any:
        """Make one."""
        r = self.random
        kind = r.choice(
            ["list", "list", "dict", "dict", "tuple", "node", "node", "set", "frozenset", "other"]
        )
        size = r.choice([0, 1, 2, 3, 5, 20] + ([MIDDLE, BIG] if depth < 2 else []))

        def many() -> Iterator[Any]:
            few = [self.value(depth + 1) for _ in range(min(size, 6))]
            yield from few
            for i in range(size - len(few)):
                yield r.randint(0, 10**7) if i % 50 else self.value(depth + 2)

        if kind == "list":
            return list(many())
        if kind == "dict":
            return {f"k{i}" if i % 7 else i * 1000: value for i, value in enumerate(many())}
        if kind == "tuple":
            return tuple(many())
        if kind in ("set", "frozenset"):
            values = {self.atom() if i % 9 == 0 else r.randint(0, 10**9) for i in range(size)}
            return values if kind == "set" else frozenset(values)
        if kind == "node":
            node = r.choice([Node, Other])()
            node.__dict__.update({f"a{i}": self.value(depth + 1) for i in range(min(size, 20))})
            return node
        made = r.choice(["slotted", "reduced", "bytearray", "nothing"])
        if made == "slotted":
            return Slotted(self.value(depth + 1), self.value(depth + 1))
        if made == "reduced":
            return Reduced(self.value(depth + 1))
        if made == "bytearray":
            return bytearray(r.randbytes(r.choice([0, 10, 6000])))
        return [[], {}, (), set(), Node()]

    # ---- finding

    def objects(self) -> list[Any]:
        """List every container that can be reached, through few of the elements of big ones."""
        found: dict[int, Any] = {}
        stack = list(self.namespace.values())
        while stack and len(found) < 400:
            value = stack.pop()
            if id(value) in found:
                continue
            if isinstance(value, (list, tuple, set, frozenset)):
                found[id(value)] = value
                stack.extend(value if len(value) < 30 else [*value][:: len(value) // 20])
            elif isinstance(value, dict):
                found[id(value)] = value
                parts = [*value.values()]
                stack.extend(parts if len(parts) < 30 else parts[:: len(parts) // 20])
            elif isinstance(value, Node):
                found[id(value)] = value
                stack.extend(value.__dict__.values())  # the dict itself comes back as another one
            elif isinstance(value, Slotted):
                found[id(value)] = value
                stack += [value.left, value.right]
            elif isinstance(value, Reduced):
                found[id(value)] = value
                stack.append(value.target)
            elif isinstance(value, bytearray):
                found[id(value)] = value
        return list(found.values())

    def some(self) -> Any:
        """Give an object of the graph."""
        objects = self.objects() if self.namespace else []
        return self.random.choice(objects) if objects else self.atom()

    # ---- changing

    def bind(self) -> None:
        """Give a variable a value."""
        self.namespace[f"v{self.random.randint(0, 6)}"] = self.value()

    def change(self) -> None:
        """Let one thing happen."""
        r = self.random
        if r.random() < 0.25 or not self.namespace:
            name = r.choice([*self.namespace, "new"])
            what = r.random()
            if what < 0.3 and len(self.namespace) > 1:
                self.namespace.pop(name, None)
            elif what < 0.5 and name in self.namespace:
                self.namespace[f"w{r.randint(0, 3)}"] = self.namespace[name]
            elif what < 0.6 and len(self.namespace) > 1:  # another order
                items = [*self.namespace.items()]
                r.shuffle(items)
                self.namespace.clear()
                self.namespace.update(items)
            else:
                self.bind()
            return
        mutable = [o for o in self.objects() if not isinstance(o, (tuple, frozenset))]
        if mutable:
            target = r.choice(mutable)
            kind = type(target).__name__.lower()
            getattr(self, "in_" + ("node" if isinstance(target, Node) else kind))(target)

    def in_list(self, target: list[Any]) -> None:
        """Change a list in one of the ways there are."""
        r = self.random
        at = r.randrange(len(target)) if target else 0
        ways: list[Callable[[], Any]] = [
            lambda: target.append(self.value()),
            lambda: target.insert(0, self.value()),
            lambda: target.insert(at, self.value()),
            lambda: target.__iadd__([self.value() for _ in range(3)]),
            lambda: target.reverse(),
            lambda: target.__setitem__(slice(at, at + 2), [self.value()]),
            lambda: target.__delitem__(slice(at, at + r.choice([1, 700]))),
        ]
        if target:
            ways += [
                lambda: target.__setitem__(at, self.value()),
                lambda: target.__setitem__(slice(at, at + 1), [self.again(target[at])]),
                lambda: target.__setitem__(at, target[r.randrange(len(target))]),
                lambda: target.pop(),
                lambda: target.append(target.pop(0)),
                lambda: target.sort(key=lambda _: r.random()),
                lambda: self.sort(target),
            ]
        r.choice(ways)()

    def sort(self, target: list[Any]) -> None:
        """Sort, and change what is sorted meanwhile; a list that holds itself does not allow it."""
        with contextlib.suppress(ValueError):
            target.sort(key=lambda value: self.touch(value) or 0)

    def touch(self, value: Any) -> None:
        """Change what a sort looks at."""
        if isinstance(value, list) and self.random.random() < 0.2:
            value.append(1)

    @staticmethod
    def again(value: Any) -> Any:
        """Give an equal object that is another one, perhaps where the first has been."""
        if type(value) in (int, float):
            return value + 1 - 1
        if type(value) is str:
            return (value + "x")[:-1]
        if type(value) in (list, dict, set):
            copy = value.copy()
            value.clear()
            return copy
        if type(value) is tuple:
            return (*value,)
        return value

    def in_dict(self, target: dict[Any, Any]) -> None:
        """Change a dict."""
        r = self.random
        key = r.choice([*target]) if target else "first"
        ways: list[Callable[[], Any]] = [
            lambda: target.__setitem__(f"n{r.randint(0, 99)}", self.value()),
            lambda: target.__setitem__(key, self.value()),
            lambda: target.__setitem__(key, self.again(target.get(key))),
            lambda: target.update({key: target.get(key), "u": 1}),
            lambda: target.setdefault("default", self.value()),
            lambda: target.pop(key, None),
            lambda: target.__setitem__(key, target.pop(key, 0)),
            lambda: target.__ior__({"v": self.atom()}),
            lambda: target.popitem() if target else None,
        ]
        r.choice(ways)()

    def in_set(self, target: set[Any]) -> None:
        """Change a set."""
        r = self.random
        ways: list[Callable[[], Any]] = [
            lambda: target.add(self.atom()),
            lambda: target.add(r.randint(0, 10**9)),
            lambda: target.discard(next(iter(target), None)),
            lambda: target.__ior__({r.randint(0, 10**9), 5}),
        ]
        r.choice(ways)()

    def in_bytearray(self, target: bytearray) -> None:
        """Change a bytearray."""
        if target and self.random.random() < 0.7:
            memoryview(target)[self.random.randrange(len(target))] ^= 1
        else:
            target.extend(b"more")

    def in_node(self, target: Node) -> None:
        """Change an instance, or its class."""
        r = self.random
        name = r.choice([*target.__dict__, "fresh"])
        what = r.random()
        if what < 0.5:
            setattr(target, name, self.value())
        elif what < 0.6:
            target.__dict__.pop(name, None)
        elif what < 0.7:
            target.__dict__ = {**target.__dict__}
        elif what < 0.8:
            target.__class__ = r.choice([Node, Other])
        elif what < 0.9:
            target.__dict__[name] = self.again(target.__dict__.get(name))
        else:
            Node.kind = f"node {r.randint(0, 9)}"

    def in_slotted(self, target: Slotted) -> None:
        """Change an instance that has no dict."""
        setattr(target, self.random.choice(["left", "right"]), self.value())

    def in_reduced(self, target: Reduced) -> None:
        """Change an object that is reduced; or let the next save change the graph, once."""
        if not self.meddling or self.random.random() < 0.6:
            target.target = self.value()
            return

        def meddle() -> None:
            target.meddle = None
            self.change()

        target.meddle = meddle
        self.meddlers.append(target)

    def calm(self) -> None:
        """No save changes the graph any more."""
        for meddler in self.meddlers:
            meddler.meddle = None
