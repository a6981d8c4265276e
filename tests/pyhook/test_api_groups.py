# SPDX-License-Identifier: Apache-2.0
"""Which variables share objects; functions loaded into a namespace; saving onto a branch."""

from __future__ import annotations

from typing import Any

import chipmink


def namespace(code: str) -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(code, made)
    return made


def together(checkpoint: chipmink.Checkpoint) -> set[frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for name, leader in checkpoint.groups().items():
        groups.setdefault(leader, set()).add(name)
    assert all(leader in names for leader, names in groups.items())
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def test_groups_are_what_shares_objects(session: chipmink.Session) -> None:
    shared = [1, 2]
    large = [{"n": i} for i in range(3000)]
    checkpoint = session.save(
        {
            "a": [shared, 1],
            "b": {"s": shared},
            "alone": [3, [4]],
            "large": large,
            "element": large[2000],
            "itself": large,
            "number": 12,
            "same_number": 12,
        }
    )
    assert together(checkpoint) == {frozenset("ab"), frozenset(("large", "element", "itself"))}


def test_groups_go_by_way_of_others(session: chipmink.Session) -> None:
    x, y = [1], [2]
    checkpoint = session.save({"a": [x], "b": [x, y], "c": [y], "d": [[1], [2]]})
    assert together(checkpoint) == {frozenset("abc")}


def test_inner_cycles_are_nobody_elses(session: chipmink.Session) -> None:
    ring: list[Any] = []
    ring.append([ring, list(range(5000)), ring])
    assert together(session.save({"ring": ring, "other": [[]]})) == set()


def test_a_variable_that_is_part_of_another(session: chipmink.Session) -> None:
    table = {"rows": [[i] for i in range(5000)], "names": ["x"]}
    checkpoint = session.save({"table": table, "rows": table["rows"], "names": table["names"]})
    assert together(checkpoint) == {frozenset(("table", "rows", "names"))}


def test_code_refers_by_name(session: chipmink.Session) -> None:
    n = namespace(
        "class C:\n    def size(self): return len(big)\n"
        "def f(): return big\ndef g(): return f()\n"
        "big = [[i] for i in range(100)]\no, p = C(), C()\n"
    )
    assert together(session.save(n)) == {frozenset(("C", "o", "p"))}


def test_code_that_comes_first_is_not_what_holds_the_variables(session: chipmink.Session) -> None:
    n = namespace(
        "def f(): return a, b, g()\ndef g(): return c\n"
        "c = [1]\na = [[i] for i in range(3000)]\nb = [c]\nd = a[5]\ne = [f]\n"
    )
    groups = {frozenset("bc"), frozenset("ad"), frozenset("ef")}
    assert together(session.save(n)) == groups


def test_functions_find_the_namespace_they_are_loaded_into(session: chipmink.Session) -> None:
    n = namespace(
        "x = 1\ndef f(): return x\ndef counter():\n    global x\n    x += 1\n"
        "class C:\n    def get(self): return f()\n"
    )
    session.save(n)
    fresh: dict[str, Any] = {"__name__": "__main__"}
    session.checkout(1, into=fresh)
    assert fresh["f"].__globals__ is fresh
    fresh["x"] = 5
    fresh["counter"]()
    assert fresh["x"] == 6
    assert fresh["C"]().get() == 6
    assert session.load(1)["f"]() == 1  # loaded by itself it brings what it needs


def test_what_was_loaded_into_a_namespace_is_saved_as_it_was(session: chipmink.Session) -> None:
    n = namespace("x = [1]\ndef f(): return x\nclass C:\n    def get(self): return f()\no = C()\n")
    first = session.save(n)
    fresh: dict[str, Any] = {"__name__": "__main__"}
    session.checkout(first, into=fresh)
    assert not session.save(fresh).diff(first)


def test_saving_onto_a_branch(session: chipmink.Session) -> None:
    session.save({"x": 1})
    theirs = session.save({"x": 2}, branch="theirs")
    mine = session.save({"x": 3})  # says nothing of theirs: that is another branch
    assert (theirs.parents, mine.parents) == ((1,), (1,))
    assert session.branches == {"main": 3, "theirs": 2}
    assert session.head == mine
    assert session.load("theirs") == {"x": 2}


def test_groups_of_what_is_read_elsewhere(session: chipmink.Session) -> None:
    shared: list[int] = []
    session.save({"a": shared, "b": [shared]})
    session.save({"a": shared, "b": [[]]})
    assert together(session.checkpoint(1)) == {frozenset("ab")}
    assert together(session.checkpoint(2)) == set()
