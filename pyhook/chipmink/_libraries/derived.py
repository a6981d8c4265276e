# SPDX-License-Identifier: Apache-2.0
"""Objects that keep addresses, hashes of text, or what they make when they are looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .memory import with_state

_NODE_WORDS = 9  # of a node of a tree of SciPy: what follows are places among them
_AXIS, _COUNT, _SPLIT, _START, _END, _POINTERS, _CHILDREN = 0, 1, 2, 3, 4, [5, 6], [7, 8]


def _reduce_vectorizer(vectorizer: Any) -> Any:
    """Leave out the address of a list of words that has been checked: another is checked again."""
    return with_state(vectorizer, lambda state: without(state, "_stop_words_id"))


def without(state: Any, *names: str) -> Any:
    """Give a state, if it is a dict, without some of its items."""
    if type(state) is not dict:
        return state
    return {name: value for name, value in state.items() if name not in names}


def _reduce_term(term: Any) -> Any:
    """Make a term of a formula anew, with the hash that its text has in the process."""
    return type(term), (term.factors, term.origin)


def _reduce_tree(tree: Any) -> Any:
    """Leave out the pointers between nodes, which are made anew, and what leaves do not have."""

    def cleared(state: Any) -> Any:
        nodes = _nodes(state[0], tree.n) if type(state) is tuple else None
        if nodes is not None:
            nodes[:, _POINTERS] = 0
            nodes[nodes[:, _AXIS] == -1, _SPLIT] = 0
            nodes[nodes[:, _AXIS] == -1, _CHILDREN[0] :] = 0
        return state

    return with_state(tree, cleared)


def _reduce_labelled(array: Any) -> Any:
    """Leave out attributes that are empty: they are made when it is looked at."""

    def cleared(state: Any) -> Any:
        if type(state) is not tuple or len(state) != 2 or type(state[1]) is not dict:
            return state
        return state[0], {name: _none_if_empty(name, value) for name, value in state[1].items()}

    return with_state(array, cleared)


def _none_if_empty(name: str, value: Any) -> Any:
    return None if name in ("_attrs", "_encoding") and value == {} else value


def _nodes(buffer: Any, count: int) -> Any:
    """Give a view of the nodes as words, if they are laid out as this module knows it."""
    if buffer.itemsize != 1 or buffer.nbytes % (8 * _NODE_WORDS) or not buffer.flags.owndata:
        return None
    nodes = buffer.view("i8").reshape(-1, _NODE_WORDS)
    inner = nodes[nodes[:, _AXIS] != -1][:, _CHILDREN]
    known = (
        list(nodes[0, [_COUNT, _START, _END]]) == [count, 0, count]
        and (nodes[:, _COUNT] == nodes[:, _END] - nodes[:, _START]).all()
        and ((inner > 0) & (inner < len(nodes))).all()
    )
    return nodes if known else None


VECTORIZER = SimpleNamespace(reduce=_reduce_vectorizer, subclasses=True)
TERM = SimpleNamespace(reduce=_reduce_term)
LABELLED = SimpleNamespace(reduce=_reduce_labelled, subclasses=True)
TREE = SimpleNamespace(reduce=_reduce_tree, subclasses=True)
