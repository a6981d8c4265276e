# SPDX-License-Identifier: Apache-2.0
"""Loading variables of a checkpoint, all of them or all that can be."""

from __future__ import annotations

import builtins
import pickle
import types
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, NoReturn

from . import _core
from ._errors import Corrupt, LoadError, NotFound, StoreError


def checked_names(names: Iterable[str] | None) -> list[str] | None:
    """Give `names` as a list without repetition, or None; refuse what is not an iterable of str."""
    if names is None:
        return None
    if isinstance(names, (str, bytes)):
        raise TypeError(f"names is a list of names, not one string: names=[{names!r}]")
    unique = list(dict.fromkeys(names))
    for name in unique:
        if not isinstance(name, str):
            raise TypeError(f"a variable's name is a str, not {type(name).__name__}: {name!r}")
    return unique


# Types whose objects are code, which refers to variables by their names.
CODE_TYPES = frozenset({"function", "type", "abc.ABCMeta"})


def into(
    namespace: MutableMapping[str, Any], met: _core.Met | None = None
) -> Callable[..., pickle.Unpickler]:
    """Give an unpickler for what becomes part of a namespace: functions find their globals there.

    What is not loaded because the program has it is what `met` has.

    Without it, functions and classes that were defined in the session get globals of their own,
    with the values that they refer to, so that they can be used anywhere.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module == "cloudpickle.cloudpickle" and name in made:
                return made[name]
            return super().find_class(module, name)

        def persistent_load(self, pid: Any) -> Any:
            if met is None:
                raise pickle.UnpicklingError(f"nothing was met that {pid!r} could be")
            return met.find(pid)

    def make_function(code: types.CodeType, globals_: dict[str, Any], *rest: Any) -> Any:
        here = isinstance(namespace, dict) and globals_.get("__name__") == namespace.get("__name__")
        if not here:
            return make(code, globals_, *rest)
        namespace.setdefault("__builtins__", builtins)
        return types.FunctionType(code, namespace, *rest)  # type: ignore[arg-type]

    def set_state(function: types.FunctionType, state: tuple[Any, dict[str, Any]]) -> Any:
        if function.__globals__ is namespace:
            state = (state[0], {**state[1], "__globals__": {}})
        return setstate(function, state)

    from cloudpickle import cloudpickle

    make, setstate = cloudpickle._make_function, cloudpickle._function_setstate
    made = {"_make_function": make_function, "_function_setstate": set_state}
    return Unpickler


def load(
    checkpoint: _core.Checkpoint,
    names: Iterable[str] | None,
    unpickler: Callable[..., pickle.Unpickler] | None = None,
) -> dict[str, Any]:
    """Load the named variables (all, if None) in one piece, so that what they share stays shared.

    Raises
    ------
    NotFound
        The checkpoint has no such variable.
    Corrupt, LoadError
        See `Session.load`.
    """
    wanted = checked_names(names)
    if wanted == []:
        return {}
    try:
        variables: dict[str, Any] = checkpoint.load(wanted, unpickler)
    except NotFound as error:
        raise _missing(checkpoint, wanted or ()) or error from None
    except (StoreError, MemoryError):
        raise
    except Exception as error:
        wanted = wanted or [name for name, *_ in checkpoint.variables()]
        _load_the_rest(checkpoint, wanted, error, unpickler)
    return variables


def _missing(checkpoint: _core.Checkpoint, names: Iterable[str]) -> NotFound | None:
    have = {name for name, *_ in checkpoint.variables()}
    missing = [name for name in names if name not in have]
    if not missing:
        return None
    unsaved = checkpoint.unsaved
    reasons = [
        f"{name!r} (not saved: {unsaved[name]})" if name in unsaved else repr(name)
        for name in missing
    ]
    return NotFound(f"{_address(checkpoint)} has no variable {', '.join(reasons)}")


def _address(checkpoint: _core.Checkpoint) -> str:
    return f"{checkpoint.session}@{checkpoint.number}"


def _load_the_rest(
    checkpoint: _core.Checkpoint,
    names: list[str],
    error: Exception,
    unpickler: Callable[..., pickle.Unpickler] | None,
) -> NoReturn:
    """Find out which variables a load of `names` failed for, load the others, and raise.

    Damage is found by reading alone. Where nothing is damaged, each variable is unpickled once for
    trial: the others are then loaded together, because apart they would lose what they share.
    """
    if isinstance(error, Corrupt) and not checkpoint.exists():
        raise NotFound(f"{_address(checkpoint)} was removed from {checkpoint.store}") from error
    failed: dict[str, BaseException] = {}
    for name in names:
        try:
            checkpoint.link([name]).check()
        except Corrupt as damage:
            failed[name] = damage
    damaged = bool(failed)
    loaded: dict[str, Any] = {}
    good = [name for name in names if name not in failed]
    try:
        loaded = checkpoint.load(good, unpickler) if damaged and good else {}
    except (StoreError, MemoryError):
        raise
    except Exception:
        loaded = {}
    if good and not loaded:
        for name in good:
            try:
                checkpoint.load([name], unpickler)
            except (StoreError, MemoryError):
                raise
            except Exception as reason:
                failed[name] = reason
        good = [name for name in good if name not in failed]
        loaded = checkpoint.load(good, unpickler) if failed and good else {}
    if not failed:
        raise LoadError(f"{_address(checkpoint)} cannot be loaded: {_what(error)}") from error
    listing = "; ".join(f"{name!r} ({_what(reason)})" for name, reason in failed.items())
    rest = f"; the other {len(loaded)} are in .loaded of this exception" if loaded else ""
    kind, trouble = (Corrupt, "is damaged") if damaged else (LoadError, "cannot be unpickled")
    first = next(iter(failed.values()))
    raise kind(f"{_address(checkpoint)} {trouble}: {listing}{rest}", loaded, failed) from first


def _what(error: BaseException) -> str:
    return str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}"
