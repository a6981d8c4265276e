# SPDX-License-Identifier: Apache-2.0
"""Objects that keep addresses, hashes of text, or what they make when they are looked at."""

from __future__ import annotations

import functools
import itertools
import operator
import re
import sys
from types import SimpleNamespace
from typing import Any

import cloudpickle

from . import numpy
from .memory import Call, Steady, apart, varying, with_item, with_state

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


def _reduce_nodes(tree: Any) -> Any:
    """Clear what lies between the nodes of a tree, which nothing reads, and nothing wrote."""

    def cleared(state: Any) -> Any:
        nodes = state.get("nodes") if type(state) is dict else None
        if nodes is None or not nodes.dtype.fields:
            return state
        if nodes.flags.c_contiguous and nodes.flags.writeable and len(nodes):
            used = max(offset + dtype.itemsize for dtype, offset in nodes.dtype.fields.values())
            padding = nodes.view("u1").reshape(len(nodes), -1)[:, used:]
            if padding.any():
                padding[...] = 0
        return state

    return with_state(tree, cleared)


def _reduce_graph(model: Any, save: Any) -> Any:
    """Leave out what is behind the ends of the arrays of a graph: SciPy made them with room."""
    graph: Any = getattr(model, "graph_", None)
    if hasattr(graph, "indptr"):
        numpy.end_here(graph.data, save)
        numpy.end_here(graph.indices, save)
    return model.__reduce_ex__(5)


def _reduce_constant(constant: Any) -> Any:
    """Leave out the address of what a constant was made of."""
    return with_state(constant, lambda state: with_item(state, "_value_source_id", None))


def _reduce_scratch(model: Any) -> Any:
    """Leave out what the last fit left in memory that each writes before it reads."""

    def cleared(state: Any) -> Any:
        if type(state) is not dict or "_tmp_like_exog" not in state or "exog" not in state:
            return state
        empty = Call(sys.modules["numpy"].empty_like, state["exog"], float)
        return {**state, "_tmp_like_exog": empty}

    return with_state(model, cleared)


def _reduce_sorted(obj: Any) -> Any:
    """Put attributes in order: they were set in that of a set."""
    return with_state(
        obj, lambda state: dict(sorted(state.items())) if type(state) is dict else state
    )


def _reduce_comm(comm: Any) -> Any:
    """Leave out the random identifier: what is loaded is another one, which gets its own."""
    function, args, *rest = comm.__reduce_ex__(5)
    state = rest[0] if rest else None
    if type(state) is not dict or "comm_id" not in state or "topic" not in state:
        return function, args, *rest
    cls: Any = type(comm)
    make = functools.partial(cls, target_name=comm.target_name, primary=False)
    return make, (), without(state, "comm_id", "topic")


def _reduce_widget(widget: Any) -> Any:
    """Leave out the identifier that is the one of its comm."""
    return with_state(widget, lambda state: with_item(state, "_model_id", None))


def _reduce_boosted(model: Any) -> Any:
    """Take the time of the training and the random identifier out of the bytes of the model."""

    def split(state: Any) -> Any:
        content = state.get("__model") if type(state) is dict else None
        if type(content) is not bytes:
            return state
        parts = enumerate(_VARYING.split(content))
        joined = [part if at % 2 else Steady(bytes, part) for at, part in parts]
        steady = Steady(dict, {**state, "__model": None})
        return Call(operator.or_, steady, {"__model": Call(b"".join, joined)})

    return with_state(model, split)


def _reduce_search(search: Any) -> Any:
    """Take the times of the fits out of the results, and leave these where they are."""

    def split(state: Any) -> Any:
        results = (type(state) is dict and state.get("cv_results_")) or {}
        times = (results[name] for name in results if str(name).endswith("_time"))
        return apart(state, "refit_time_", before=times)

    return with_state(search, split)


def _reduce_study(study: Any) -> Any:
    """Take the times of the trials out of a study whose trials are in memory."""

    def split(state: Any) -> Any:
        storage = state.get("_storage") if type(state) is dict else None
        studies = getattr(storage, "_studies", {}).values()
        trials = [trial for info in studies for trial in info.trials]
        times = ((trial.datetime_start, trial.datetime_complete) for trial in trials)
        return apart(state, before=itertools.chain(*times))

    return with_state(study, split)


def _reduce_net(net: Any) -> Any:
    """Pickle on loading what skorch pickles: in its pickle are addresses, and no sharing.

    Its history, and a clock among its callbacks, have the times of its epochs.
    """

    def unpacked(state: Any) -> Any:
        name = "__cuda_dependent_attributes__"
        if type(state) is not dict or type(state.get(name)) is not bytes:
            return state
        attributes = {key: value for key, value in vars(net).items() if key not in state}
        clocks = (part for _, part in state.get("callbacks_", ()) if hasattr(part, _CLOCK))
        whole = {**state, name: Call(cloudpickle.dumps, attributes)}
        return apart(whole, before=[state.get("history_"), *clocks])

    return with_state(net, unpacked)


def _reduce_history(history: Any) -> Any:
    """Take the times of the epochs out of a history."""
    epochs = list(history)
    if not all(type(epoch) is dict for epoch in epochs):
        return history.__reduce_ex__(5)
    timed = [{name: epoch[name] for name in ("dur",) if name in epoch} for epoch in epochs]
    return type(history), (_joined(epochs, timed),), vars(history) or None


def _joined(items: list[Any], differing: list[Any]) -> Call:
    """Give what is a list of dicts when loaded, each with items that differ between runs."""
    pairs = zip(items, differing, strict=True)
    rest = [{**item, **dict.fromkeys(parts)} for item, parts in pairs]
    return Call(list, Call(map, operator.or_, Steady(list, rest), differing))


_CLOCK = "epoch_start_time_"


def _reduce_logged(model: Any, save: Any) -> Any:
    """Take the times, and texts that may have some, out of a model and its log of events."""

    def split(state: Any) -> Any:
        events = state.get(_EVENTS) if type(state) is dict else None
        if type(events) is list and all(type(event) is dict for event in events):
            state = {**state, _EVENTS: _log(events, save)}
        return apart(state, _EVENTS, "id2word", "total_train_time")

    return with_state(model, split)


_EVENTS = "lifecycle_events"
_DURATION = re.compile(r"\d\.\d+s\b|/s\b")


def _log(events: list[Any], save: Any) -> Any:
    """Give what stands for a log of events, the same for all that have it."""
    key = (_EVENTS, id(events))
    if key not in save.memory:
        timed = [
            {name: event[name] for name in event if _is_timed(name, event)} for event in events
        ]
        save.memory[key] = _joined(events, timed), events
    return save.memory[key][0]


def _is_timed(name: str, event: dict[str, Any]) -> bool:
    return name == "datetime" or (name == "msg" and bool(_DURATION.search(str(event[name]))))


_VARYING = re.compile(  # an identifier with its length, or a time
    rb"((?s:.{4})[0-9a-f]{1,8}-[0-9a-f]{1,8}-[0-9a-f]{1,8}-[0-9a-f]{1,8}\0+|"
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
)

VECTORIZER = SimpleNamespace(reduce=_reduce_vectorizer, subclasses=True)
TERM = SimpleNamespace(reduce=_reduce_term)
LABELLED = SimpleNamespace(reduce=_reduce_labelled, subclasses=True)
TREE = SimpleNamespace(reduce=_reduce_tree, subclasses=True)
NODES = SimpleNamespace(reduce=_reduce_nodes, subclasses=True)
GRAPH = SimpleNamespace(reduce=_reduce_graph, subclasses=True, needs_save=True)
CONSTANT = SimpleNamespace(reduce=_reduce_constant, subclasses=True)
SCRATCH = SimpleNamespace(reduce=_reduce_scratch, subclasses=True)
SORTED = SimpleNamespace(reduce=_reduce_sorted, subclasses=True)
COMM = SimpleNamespace(reduce=_reduce_comm, subclasses=True)
WIDGET = SimpleNamespace(reduce=_reduce_widget, subclasses=True)
BOOSTED = SimpleNamespace(reduce=_reduce_boosted, subclasses=True)
SEARCH = SimpleNamespace(reduce=_reduce_search, subclasses=True)
STUDY = SimpleNamespace(reduce=_reduce_study)
NET = SimpleNamespace(reduce=_reduce_net, subclasses=True)
HISTORY = SimpleNamespace(reduce=_reduce_history)
LOGGED = SimpleNamespace(reduce=_reduce_logged, subclasses=True, needs_save=True)


def _varying(*names: str) -> Any:
    return SimpleNamespace(reduce=lambda obj: varying(obj, *names), subclasses=True)


STYLE = _varying("uuid")
DATED = _varying("_datetime")
