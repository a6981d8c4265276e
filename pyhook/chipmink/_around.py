# SPDX-License-Identifier: Apache-2.0
"""What may run along with a cell although the cell does not name it: threads, tasks, hooks.

Code of the interpreter and of installed libraries is taken not to touch the user's variables on its
own; code from anywhere else may touch any. Nothing is imported here that is not loaded already.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import builtins
import copyreg
import functools
import gc
import logging
import os
import signal
import sys
import sysconfig
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import _allowed
from ._kinds import root

_INSTALLED = (
    *(os.path.join(path, "") for path in set(sysconfig.get_paths().values())),
    *(os.path.join(os.path.realpath(path), "") for path in (sysconfig.get_paths()["stdlib"],)),
    os.path.join(os.path.dirname(__file__), ""),
    "<frozen ",
)
# Whose threads run nothing of the user's.
_THREADS = _allowed.words("ipykernel IPython zmq debugpy pydevd tqdm joblib chipmink")
# Whose tasks do not, besides those.
_TASKS = _THREADS | {"asyncio", "tornado", "jupyter_client", "prompt_toolkit", "anyio"}


def unnamed_code() -> str:
    """Say what may run along with the next cell, or give an empty string if nothing does."""
    for look in (_threads, _tasks, _hooks, _notebook, _libraries, _outputs):
        reason = look()
        if reason:
            return reason
    return ""


def is_installed(function: object) -> bool:
    """Tell whether a callable is part of the interpreter or of an installed library."""
    for _ in range(8):
        cls = type(function)
        if cls is types.FunctionType:
            code: types.CodeType = function.__code__  # type: ignore[attr-defined]
            return _is_installed_file(code.co_filename)
        if cls is types.MethodType:
            function = function.__func__  # type: ignore[attr-defined]
        elif cls is functools.partial:
            function = function.func  # type: ignore[attr-defined]
        elif cls is types.BuiltinFunctionType:
            return True
        else:
            return _is_installed_class(function if issubclass(cls, type) else cls)
    return False


def _is_installed_file(name: str) -> bool:
    packages = "/site-packages/" in name or "/dist-packages/" in name  # the user's own ones, too
    return packages or name.startswith(_INSTALLED)


def _is_installed_class(cls: Any) -> bool:
    """Tell whether a class is compiled, or comes from a module that is installed."""
    module = sys.modules.get(type.__dict__["__module__"].__get__(cls))
    if type(module) is not types.ModuleType:
        return False
    file = module.__dict__.get("__file__")
    if type(file) is str:
        return _is_installed_file(file)
    return root(module.__dict__.get("__name__")) in sys.stdlib_module_names


_SIGNALS = tuple(signal.valid_signals())


def _threads() -> str:
    current = threading.get_ident()
    active = dict(threading._active)  # type: ignore[attr-defined]
    for ident, thread in active.items():
        cls = type(thread)
        if ident == current:
            continue
        origin = root(type.__dict__["__module__"].__get__(cls))
        if cls is threading.Thread:
            target = getattr(thread, "_target", None)
            if type(target) is types.MethodType:
                target = target.__func__
            names = target.__globals__ if type(target) is types.FunctionType else {}
            origin = root(names.get("__name__"))
        if origin not in _THREADS:
            name = object.__getattribute__(thread, "_name")
            return f"the thread {name} is running"
    if not active.keys() >= sys._current_frames().keys():
        return "a thread is running that the threading module does not know"
    return ""


def _tasks() -> str:
    asyncio: Any = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio is not None else None
    if loop is None:
        return ""
    for task in asyncio.all_tasks(loop):
        coroutine = task.get_coro()
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        names = frame.f_globals if frame is not None else {"__name__": "__main__"}
        if root(names.get("__name__")) not in _TASKS:
            return f"the asyncio task {task.get_name()} is running"
    for handle in (*getattr(loop, "_scheduled", ()), *getattr(loop, "_ready", ())):
        if not handle._cancelled and not is_installed(handle._callback):
            return "a callback is scheduled with the asyncio loop"
    return ""


def _hooks() -> str:
    for name, function in _callables():
        if function is not None and not is_installed(function):
            return f"{name} calls a function of the session"
    for finder in (*sys.meta_path, *sys.path_hooks):
        if not is_installed(finder):
            return "the import system calls a finder of the session"
    for number in _SIGNALS:
        handler = _signal.getsignal(number)  # which makes no enums of what it finds
        if callable(handler) and not is_installed(handler):
            return f"a function of the session handles signal {number}"
    return ""


def _callables() -> Iterator[tuple[str, Any]]:
    yield "sys.settrace", sys.gettrace()
    yield "sys.setprofile", sys.getprofile()
    yield "sys.excepthook", sys.excepthook
    yield "sys.displayhook", sys.displayhook
    yield "sys.unraisablehook", sys.unraisablehook
    yield "import", builtins.__import__
    yield "class", builtins.__build_class__
    yield "warnings.showwarning", warnings.showwarning
    for reducer in copyreg.dispatch_table.values():
        yield "copyreg", reducer
    for callback in gc.callbacks:
        yield "gc.callbacks", callback
    for information in list(weakref.finalize._registry.values()):  # type: ignore[attr-defined]
        yield "weakref.finalize", information.func


def _shell() -> Any:
    """Give IPython's shell, if there is one; nothing is made."""
    module = sys.modules.get("IPython.core.interactiveshell")
    return module.InteractiveShell._instance if module is not None else None


def _notebook() -> str:
    shell = _shell()
    if shell is None:
        return ""
    for event, functions in shell.events.callbacks.items():
        if not all(map(is_installed, functions)):
            return f"a function of the session is registered for {event}"
    if not all(map(is_installed, shell.ast_transformers)):
        return "an AST transformer of the session is registered"
    manager = shell.input_transformer_manager
    for functions in (
        manager.cleanup_transforms,
        manager.line_transforms,
        manager.token_transformers,
        shell.input_transformers_post,
    ):
        if not all(map(is_installed, functions)):
            return "an input transformer of the session is registered"
    if shell.custom_exceptions:
        return "an exception handler of the session is registered"
    for function in _printers(shell.display_formatter):
        if not is_installed(function):
            return "a function of the session shows objects of some type"
    widgets = sys.modules.get("ipywidgets.widgets.widget")
    if widgets is not None and getattr(widgets, "_instances", None):
        return "there are widgets, which may call functions of the session"
    return ""


def _printers(formatter: Any) -> Iterator[Callable[..., Any]]:
    for each in (
        *formatter.formatters.values(),
        formatter.ipython_display_formatter,
        formatter.mimebundle_formatter,
    ):
        for table in (each.singleton_printers, each.type_printers, each.deferred_printers):
            yield from table.values()


def _libraries() -> str:
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and _calls_back(numpy):
        return "NumPy calls functions of the session to print numbers or for errors"
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None:
        if pandas.get_option("display.float_format") is not None:
            return "pandas calls display.float_format to print numbers"
        if not all(map(_is_installed_class, pandas.core.dtypes.base._registry.dtypes)):
            return "a class of the session is registered with pandas as element type"
    for logger in _loggers((*_allowed.CONFINED, "numexpr", "py")):
        for handler in logger.handlers:
            cls = type(handler)
            if cls is logging.StreamHandler or cls is logging.FileHandler:
                if not _is_usual(getattr(handler, "stream", None)):
                    return "a logger writes to a stream of the session"
            elif not _is_installed_class(cls):
                return "a logger calls a handler of the session"
    return ""


def _calls_back(numpy: Any) -> bool:
    options = numpy.get_printoptions()
    return any(options.get(name) for name in ("formatter", "override_repr")) or numpy.geterrcall()


def _loggers(names: Iterable[str]) -> Iterator[logging.Logger]:
    yield logging.root
    for name in names:
        logger = logging.root.manager.loggerDict.get(name)
        if type(logger) is logging.Logger:
            yield logger


def _is_usual(stream: Any) -> bool:
    if stream is None or stream is sys.__stdout__ or stream is sys.__stderr__:
        return True
    return root(type(stream).__module__) == "ipykernel" or _is_own_file(stream)


def _is_own_file(stream: Any) -> bool:
    return type(stream).__module__ == "_io" and type(stream).__name__ == "TextIOWrapper"


def _outputs() -> str:
    if _is_usual(sys.stdout) and _is_usual(sys.stderr):
        return ""
    return "standard output or error is an object of the session"


def figures() -> bool:
    """Tell whether pyplot has figures, which variables may hold, or hooks that make them."""
    helpers: Any = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None:
        return False
    matplotlib: Any = sys.modules["matplotlib"]
    return bool(helpers.Gcf.figs) or bool(matplotlib.rcParams.get("figure.hooks"))


def draws_with_matplotlib() -> bool:
    """Tell whether pandas plots with what is looked at here."""
    pandas: Any = sys.modules.get("pandas")
    return pandas is None or pandas.get_option("plotting.backend") == "matplotlib"


def is_usual_magic(name: str) -> bool:
    """Tell whether a magic of IPython, given with its % or %%, is the one that IPython brings."""
    shell = _shell()
    if shell is None:
        return False
    kind = "cell" if name.startswith("%%") else "line"
    magic = shell.magics_manager.magics[kind].get(name.lstrip("%"))
    return magic is not None and is_installed(magic)
