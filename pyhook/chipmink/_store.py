# SPDX-License-Identifier: Apache-2.0
"""Stores and sessions."""

from __future__ import annotations

import contextlib
import errno
import functools
import operator
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from . import _core, _figures, _loading, _namespace, _summary
from ._checkpoint import Cell, Checkpoint, Diff
from ._command import embedded_by_default, find_command
from ._errors import Arrived, Error, NotFound, StoreError, StoreNotFound
from ._pending import PendingSave
from ._upkeep import Collection, Pruning, Verification

_T = TypeVar("_T")


def _open_handle(path: str, embedded: bool, write: bool = False) -> _core.Store:
    # No server can own what this user may only read.
    if embedded or (os.path.isdir(path) and not os.access(path, os.W_OK)):
        return _core.Store.open(path, write=write, create=write)
    # The server writes: nothing is gained by a handle for reading only.
    return _core.Store.open(path, write=True, create=write, command=find_command())


class Store:
    """A store: one directory that holds sessions and their checkpoints. Made by `open`.

    Any number of processes use a store at once: a server, started when it is needed, writes for all
    of them. An embedded store has no server: it is opened for reading, and becomes the one writer
    at the first save, branch, tag or checkout; until `close`. A store that the user may only read
    is read without a server.

    Safe to use from several threads. A process made by `os.fork` must open its own.

    Attributes
    ----------
    path : str
        Absolute path of its directory.
    embedded : bool
    """

    def __init__(self, path: str, embedded: bool, shadow_limit: int = 0) -> None:
        self.path = path
        self.embedded = embedded
        self._shadow_limit = shadow_limit
        self._handle: _core.Store | None = None
        self._closed = False
        self._process = os.getpid()
        self._opening = threading.RLock()
        self._saving = threading.Lock()
        self._saver: int | None = None
        self._pending: PendingSave | None = None  # the last one begun
        # By address: equal ones may be there more than once.
        self._checkpoints: weakref.WeakValueDictionary[int, Checkpoint] = (
            weakref.WeakValueDictionary()
        )
        # What the namespace of each session last had in common with the store: name to content.
        self._bases: dict[str, dict[str, bytes]] = {}
        # The branch that it was saved onto by name, where it was.
        self._branches: dict[str, str | None] = {}
        # What each session's namespace consisted of when it was last saved.
        self._shadows: dict[str, _core.Shadow] = {}
        self._filtered: set[str] = set()  # sessions of which it is told what may have changed
        self._previews = _figures.Previews()
        with contextlib.suppress(StoreNotFound):  # it is made by the first save
            self._handle = _open_handle(path, embedded)

    # ---- handles

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"the store {self.path} was closed: chipmink.open() it again")
        if os.getpid() != self._process:
            raise StoreError(
                f"the store {self.path} was opened by the process {self._process}, which forked "
                "this one: chipmink.open() it again in here"
            )

    def _reader(self) -> _core.Store:
        """Give the open store, caught up with whoever writes to it."""
        self._check()
        with self._opening:
            if self._handle is None:
                self._handle = _open_handle(self.path, self.embedded)
            handle = self._handle
        handle.refresh()
        return handle

    def _writer(self) -> _core.Store:
        """Give the store opened for writing, made if there is none."""
        self._check()
        with self._opening:
            if self._handle is None or not self._handle.writable:
                writer = _open_handle(self.path, self.embedded, write=True)
                if self._handle is not None:
                    self._handle.close()
                self._handle = writer
            return self._handle

    def _shadow(self, session: str) -> _core.Shadow:
        if session not in self._shadows:
            self._shadows[session] = self._new_shadow(session)
        return self._shadows[session]

    def _new_shadow(self, session: str) -> _core.Shadow:
        return _core.Shadow(self._shadow_limit, filtered=session in self._filtered)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one thread save at a time."""
        me = threading.get_ident()
        if self._saver == me:
            raise Error(
                f"the store {self.path} is being saved to by this very thread: an object's "
                "__reduce__ or __getstate__ must not save"
            )
        with self._saving:
            self._saver = me
            try:
                if self._pending is not None:
                    self._pending._end()
                    self._pending = None
                yield
            finally:
                self._saver = None

    def _checkpoint(self, core: _core.Checkpoint) -> Checkpoint:
        checkpoint = Checkpoint(core, functools.partial(_open_handle, self.path, self.embedded))
        self._checkpoints[id(checkpoint)] = checkpoint
        return checkpoint

    # ---- what users call

    def close(self) -> None:
        """Close it; an embedded store can then be opened elsewhere. Its checkpoints stay usable."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending._end()
        with self._opening:
            self._closed = True
            handle, self._handle = self._handle, None
            self._shadows.clear()
        for checkpoint in tuple(self._checkpoints.values()):
            checkpoint._release()
        if handle is not None:
            handle.close()

    def __del__(self) -> None:
        """Close it: checkpoints that outlive it must not keep other processes from writing."""
        if hasattr(self, "_checkpoints"):
            self.close()

    def __enter__(self) -> Store:
        """Give itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def sessions(self) -> list[str]:
        """Give the names of its sessions, in order of code points."""
        try:
            return [name for name, _ in self._reader().sessions()]
        except StoreNotFound:
            return []

    def session(self, name: str) -> Session:
        """Give the session `name`, which the first save into it creates."""
        if not isinstance(name, str):
            raise TypeError(f"a session's name is a str, not {type(name).__name__}")
        return Session(self, name)

    def verify(self) -> Verification:
        """Read everything again that is reachable and check it. Ctrl-C ends it."""
        return Verification(*self._reader().verify())

    def gc(self, *, dry_run: bool = False) -> Collection:
        """Remove what no checkpoint needs, and give its space on disk back.

        Saves may go on meanwhile, in this process and others. Ctrl-C ends it, with nothing removed
        or everything.

        Parameters
        ----------
        dry_run : bool, optional
            Only tell what would be removed.

        Raises
        ------
        Corrupt
            Something that is to stay is damaged; nothing was removed.
        Busy
            Another collection is in progress, or the store is embedded elsewhere.
        """
        self._reader()  # there is one, and this does not make it
        return Collection(*self._writer().gc(dry_run))

    def statistics(self) -> dict[str, int]:
        """Count: objects, raw_bytes, stored_bytes, disk_bytes, sessions, checkpoints."""
        return self._reader().statistics()

    def __repr__(self) -> str:
        """Give path and state."""
        handle = self._handle
        if self._closed:
            state = "closed"
        elif handle is None:
            state = "not made yet"
        elif not handle.writable:
            state = "reading"
        else:
            state = "writing" if self.embedded else "served"
        return f"<Store {self.path!r}, {state}>"


Revision = int | str | Checkpoint | None

_SAVE_ATTEMPTS = 5
_HOLD_MOST = 4 << 20  # bytes noted of objects; they are walked in about 50 ms


def _contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {name: bytes.fromhex(v.content) for name, v in checkpoint.variables.items()}


def _number(at: object) -> int:
    try:
        if not isinstance(at, bool):
            return operator.index(at)  # type: ignore[arg-type]  # NumPy's integers too
    except TypeError:
        pass
    raise TypeError(f"at is a number, an id, a branch, a tag, a Checkpoint or None, not {at!r}")


def _text(what: str, text: object) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{what} is a str or None, not {type(text).__name__}")
    return None if text is None else _summary.clean(text)


class Job(NamedTuple):
    """What is to be saved, and what is to be kept with it."""

    items: list[tuple[str, Any]] | None  # None: the variables of the parent, as they are
    message: str | None = None
    code: str | None = None
    branch: str | None = None  # None: the one that the head is on
    cell: Cell | None = None
    if_changed: bool = False  # make no checkpoint without a change; give the parent
    pages: bytes = b""  # where objects are to be told of: see _core.Checkpoint.pages

    def after(self, codes: Iterable[str | None]) -> Job:
        """Give it the code, too, of what came to nothing before it."""
        return self._replace(code="\n\n".join(filter(None, (*codes, self.code))) or None)


class Session:
    """One line of work with a name: a notebook, a script. Made by `Store.session`.

    Where a method takes `at`, that is a checkpoint's number, its id (or the first eight or more
    digits of that), a branch, a tag, or a `Checkpoint`; None is the head.

    Attributes
    ----------
    store : Store
    name : str
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self._met: _core.Met | None = None  # what the last save was to tell of

    # ---- looking

    def _find(self, at: Revision) -> Checkpoint:
        if isinstance(at, Checkpoint):
            return at
        if at is not None and not isinstance(at, str):
            at = _number(at)
        try:
            reader = self.store._reader()
        except StoreNotFound as error:
            raise NotFound(
                f"there is no session {self.name!r}: the store {self.store.path} does not exist yet"
            ) from error
        if isinstance(at, int):
            if at < 1:
                raise NotFound(f"{self.name}@{at}: checkpoints are numbered from 1")
            return self.store._checkpoint(reader.checkpoint_number(self.name, at))
        return self.store._checkpoint(reader.checkpoint(self.name, at))

    def _find_own(self, at: Revision) -> Checkpoint:
        found = self._find(at)
        if found.session != self.name:
            raise NotFound(f"{found!r} is not a checkpoint of the session {self.name!r}")
        return found

    def _state(self) -> tuple[int, int, str | None]:
        """Give last number, head number, branch; zeros for a session that has no checkpoint yet."""
        try:
            return self.store._reader().session(self.name)
        except (NotFound, StoreNotFound):
            return 0, 0, None

    def _refs(self, kind: str) -> dict[str, int]:
        try:
            return dict(self.store._reader().refs(self.name, kind))
        except (NotFound, StoreNotFound):
            return {}

    @property
    def head(self) -> Checkpoint | None:
        """The checkpoint that the next save descends from; None before the first."""
        number = self._state()[1]
        return self._find(number) if number else None

    @property
    def current_branch(self) -> str | None:
        """The branch that the next save moves; None if the head is on no branch."""
        return self._state()[2]

    @property
    def branches(self) -> dict[str, int]:
        """The branches, each with the number of its checkpoint."""
        return self._refs("branch")

    @property
    def tags(self) -> dict[str, int]:
        """The tags, each with the number of its checkpoint."""
        return self._refs("tag")

    def log(self) -> list[Checkpoint]:
        """List the checkpoints of all branches, newest first."""
        try:
            reader = self.store._reader()
            numbers = reader.checkpoints(self.name)
        except (NotFound, StoreNotFound):
            return []
        found = []
        for number in reversed(numbers):
            with contextlib.suppress(NotFound):
                found.append(self.store._checkpoint(reader.checkpoint_number(self.name, number)))
        return found

    def checkpoint(self, at: Revision = None) -> Checkpoint:
        """Find one checkpoint."""
        return self._find(at)

    def diff(self, a: Revision, b: Revision = None) -> Diff:
        """Tell what was added, removed and changed from `a` to `b`."""
        before = self._find(a)
        return self._find(b).diff(before)

    # ---- saving

    def save(
        self,
        namespace: Mapping[str, Any],
        message: str | None = None,
        code: str | None = None,
        names: Iterable[str] | None = None,
        branch: str | None = None,
    ) -> Checkpoint:
        """Save a namespace as the next checkpoint. It is on disk when this returns.

        Takes every str key but dunder names and the ones that IPython itself puts there. A value
        that cannot be pickled does not fail the save: it is listed in the checkpoint's `unsaved`.

        Parameters
        ----------
        namespace : Mapping
            For example ``globals()``.
        message, code : str, optional
            Kept with the checkpoint: a sentence, and the code that led to this state. What is not
            text that can be stored in them (NUL, lone surrogates) is kept as an escape sequence.
        names : iterable of str, optional
            Save exactly these.
        branch : str, optional
            Save onto this branch (begun at the head if there is none), wherever the head is: the
            checkpoint descends from it and moves it. The head goes along if it is on that branch.

        Returns
        -------
        Checkpoint
            If other processes have changed the session since this one last saved to or pulled from
            it, what only they changed is in it too (`arrived`); of what both changed it has this
            one's value, and theirs is on a branch (`conflicts`). A warning says so.

        Raises
        ------
        NotFound
            One of `names` is not in the namespace.
        Busy
            The store is embedded, and another process has it open for writing.
        StoreError
            It could not be written (disk full, permissions). What was saved before still stands.
        """
        job = Job(_namespace.select(namespace, names), message, code, branch)
        checkpoint = self._save(job)
        self._tell(checkpoint)
        return checkpoint

    def begin_save(
        self,
        namespace: Mapping[str, Any],
        message: str | None = None,
        code: str | None = None,
        names: Iterable[str] | None = None,
        branch: str | None = None,
    ) -> PendingSave:
        """Save as `save` does, but return when everything is taken in; it is written meanwhile.

        One save at a time: whatever is done next to the store in this process, but reading, waits
        for it first. The process waits for it before it exits.

        Returns
        -------
        PendingSave
            Call its `protect` before anything that was saved may change.
        """
        job = Job(_namespace.select(namespace, names), message, code, branch)
        return self._start(job, self._tell)

    def _start(self, job: Job, tell: Callable[[Checkpoint], None]) -> PendingSave:
        """Begin to save; `tell` gets the checkpoint when there is one."""

        def repeat() -> Checkpoint:
            return told(self._save(job))

        def told(checkpoint: Checkpoint) -> Checkpoint:
            tell(checkpoint)
            return checkpoint

        store = self.store
        store._check()
        with store._alone():
            saving = self._retry(lambda: self._begin(job, behind=True))
            store._pending = pending = PendingSave(saving, lambda r: told(self._made(r)), repeat)
        return pending

    def _hold(self, job: Job) -> PendingSave | None:
        """Take in what is to be saved later; None: that would take long.

        It is taken in without what is known of the last save, for that may yet fail.
        """
        store = self.store
        if store._shadow(self.name).statistics()["memory"] > _HOLD_MOST:
            return None
        shadow = store._new_shadow(self.name)

        def made(result: _core.SaveResult) -> Checkpoint:
            shadow.touch(None)  # what was told meanwhile, the one before it was told
            store._shadows[self.name] = shadow
            return self._made(result)

        return PendingSave(self._take_in(job, shadow, True, True), made, None, later=True)

    def _go_on(self, job: Job, held: PendingSave) -> None:
        """Write what was held, now that nothing goes on."""
        store = self.store
        store._check()
        with store._alone():
            self._on_branch(job)
            held._start(_text("message", job.message), _text("code", job.code))
            store._pending = held

    def _begin(self, job: Job, behind: bool = False) -> _core.Saving:
        self._on_branch(job)
        return self._take_in(job, self.store._shadow(self.name), behind, False)

    def _filter(self, on: bool) -> None:
        """Save from now on only what `_touch` was told, and what shares objects with that."""
        store = self.store
        store._shadows.pop(self.name, None)
        (store._filtered.add if on else store._filtered.discard)(self.name)

    def _touch(self, names: Iterable[str] | None) -> None:
        """Tell which variables may have changed since they were saved last; None: all may."""
        shadow = self.store._shadows.get(self.name)
        if shadow is not None:
            shadow.touch(names)

    def _on_branch(self, job: Job) -> None:
        store = self.store
        if store._branches.get(self.name) != job.branch:
            store._bases.pop(self.name, None)  # what another branch had does not count
        store._branches[self.name] = job.branch

    def _take_in(self, job: Job, shadow: _core.Shadow, behind: bool, later: bool) -> _core.Saving:
        store, cell = self.store, job.cell
        return _core.save(
            store._writer(),
            self.name,
            job.items,
            _text("message", job.message),
            _text("code", job.code),
            _summary.describe,
            store._bases,
            shadow,
            job.branch,
            cell and (cell.execution, int(cell.seconds * 1e9), _text("error", cell.error)),
            job.if_changed,
            store._previews.of(job.items or ()),
            behind,
            later,
            job.pages,
        )

    @staticmethod
    def _retry(step: Callable[[], _T]) -> _T:
        """Do it; again, if the server ended meanwhile or objects were removed."""
        for left in reversed(range(_SAVE_ATTEMPTS)):
            try:
                return step()
            except StoreError as error:
                if error.errno not in (errno.ECONNRESET, errno.ESTALE) or left == 0:
                    raise
        raise AssertionError

    def _save(self, job: Job) -> Checkpoint:
        """Save, and wait for it; do not tell of what others did."""

        def save() -> _core.SaveResult:
            saving = self._begin(job)
            result = saving.wait(-1, True)
            assert result is not None  # it has no timeout
            self._met = saving.met()
            return result

        self.store._check()
        with self.store._alone():
            return self._made(self._retry(save))

    def _made(self, result: _core.SaveResult) -> Checkpoint:
        core, arrivals, branch = result
        checkpoint = self.store._checkpoint(core)
        checkpoint.arrived = tuple(name for what, name in arrivals if what == "A")
        checkpoint.conflicts = MappingProxyType(
            {name: branch or "" for what, name in arrivals if what == "C"}
        )
        return checkpoint

    def _tell(self, checkpoint: Checkpoint) -> None:
        """Warn, in the caller of `save`, of what others did to the session."""
        if checkpoint.arrived:
            warnings.warn(
                f"session {self.name!r}: {', '.join(checkpoint.arrived)} came from elsewhere; "
                "pull(namespace) brings it in",
                Arrived,
                stacklevel=3,
            )
        if checkpoint.conflicts:
            warnings.warn(
                f"session {self.name!r}: {', '.join(checkpoint.conflicts)} was changed elsewhere "
                f"too; their value is on the branch {next(iter(checkpoint.conflicts.values()))!r}",
                Arrived,
                stacklevel=3,
            )

    def pull(self, namespace: MutableMapping[str, Any], branch: str | None = None) -> list[str]:
        """Bring what others have put into the session into a namespace.

        Variables that were added or changed by others since this process last saved, checked out or
        pulled are set in it, and those that they removed are removed, whatever their value there.

        Parameters
        ----------
        namespace : MutableMapping
            For example ``globals()``.
        branch : str, optional
            The branch that this process saves onto, where it names one.

        Returns
        -------
        list[str]
            The names concerned.
        """
        head = self._find(branch)
        base = self.store._bases.get(self.name, {})
        contents = _contents(head)
        changed = [name for name, content in contents.items() if base.get(name) != content]
        removed = [name for name in base if name not in contents]
        if changed:
            namespace.update(_loading.load(head._core, changed, _loading.into(namespace)))
        for name in removed:
            namespace.pop(name, None)
        self.store._bases[self.name] = contents
        return changed + removed

    def branch(self, name: str, at: Revision = None) -> Checkpoint:
        """Make or move a branch. To go on working on it, `checkout` it."""
        return self._set_ref("branch", name, at)

    def tag(self, name: str, at: Revision = None) -> Checkpoint:
        """Make or move a tag: a name for a checkpoint."""
        return self._set_ref("tag", name, at)

    def _set_ref(self, kind: str, name: str, at: Revision) -> Checkpoint:
        target = self._find_own(at)
        with self.store._alone():
            self.store._writer().set_ref(self.name, kind, name, target.number)
        return target

    def prune(
        self,
        *,
        last: int = 0,
        hourly: int = 0,
        daily: int = 0,
        weekly: int = 0,
        tagged: bool = False,
        dry_run: bool = False,
    ) -> Pruning:
        """Remove the checkpoints that no rule keeps. `Store.gc` then gives their space back.

        The head and the newest checkpoint of each branch are always kept. Numbers stay what they
        are, and what descends from a removed checkpoint then descends from what that did.

        Parameters
        ----------
        last : int, optional
            Keep so many of the newest.
        hourly, daily, weekly : int, optional
            Keep the newest of each of so many hours, days, weeks in which there is one, counted
            back from the newest, by local time.
        tagged : bool, optional
            Keep what has a tag. Otherwise tags are removed with their checkpoints.
        dry_run : bool, optional
            Only tell what would be removed.

        Raises
        ------
        ValueError
            No rule was given, or a negative number.
        NotFound
            There is no such session.
        """
        counts = last, hourly, daily, weekly
        if any(count < 0 for count in counts):
            raise ValueError("how many to keep is not negative")
        if not any(counts) and not tagged:
            raise ValueError(f"nothing says which checkpoints of {self.name!r} are to be kept")
        with self.store._alone():
            self.store._reader()  # there is one, and this does not make it
            writer = self.store._reader() if dry_run else self.store._writer()
            entries = writer.prune(self.name, *counts, tagged, dry_run)
        return Pruning(
            removed=tuple(number for number, kept in entries if not kept),
            kept=tuple(number for number, kept in entries if kept),
        )

    # ---- loading

    def load(self, at: Revision = None, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Load variables. This unpickles, and so runs code that is stored in them.

        What the variables share is shared again; only what belongs to them is read.

        Parameters
        ----------
        at : int, str or Checkpoint, optional
        names : iterable of str, optional
            Load only these.

        Returns
        -------
        dict
            Name to value, in the order of the namespace that was saved.

        Raises
        ------
        NotFound
            No such session, checkpoint or variable.
        Corrupt
            Stored bytes are damaged. The message and `failed` name the variables concerned,
            `loaded` has all others.
        LoadError
            Variables cannot be unpickled, for example because a module is missing; `failed` and
            `loaded` as above. To find out which, each one was unpickled by itself once.
        """
        found = self._find(at)
        loaded = found.load(names)
        if at is None and names is None:
            self.store._bases.setdefault(self.name, _contents(found))
        return loaded

    def checkout(self, at: Revision, into: MutableMapping[str, Any] | None = None) -> Checkpoint:
        """Go back (or over) to a checkpoint: the next save descends from it.

        The head moves onto the branch, if `at` names one or is the newest checkpoint of one.
        Otherwise the next save starts a new branch.

        Parameters
        ----------
        at : int, str or Checkpoint
        into : MutableMapping, optional
            A namespace, for example ``globals()``, that becomes what was saved: its variables are
            replaced by those of the checkpoint, and variables of the present head that the
            checkpoint does not have are removed. What was never saved stays. Changes since the last
            save are lost. If anything cannot be loaded, `into` and the head stay as they are.

        Returns
        -------
        Checkpoint
        """
        target = self._find_own(at)
        loaded = None
        if into is not None:
            loaded = _loading.load(target._core, None, _loading.into(into))
        head = self.head
        branch = at if isinstance(at, str) and self.branches.get(at) == target.number else None
        bases = self.store._bases
        with self.store._alone():
            base = bases.pop(self.name, None)  # the next save is whatever it is given
            try:
                self.store._writer().set_head(self.name, branch, target.number)
            except Exception:
                if base is not None:
                    bases[self.name] = base
                raise
        if into is not None and loaded is not None:
            for name in head.variables if head else ():
                if name not in loaded:
                    into.pop(name, None)
            for name, value in loaded.items():
                if name not in into or not _summary.same_atom(into[name], value):
                    into[name] = value
            bases[self.name] = _contents(target)
        return target

    def __repr__(self) -> str:
        """Give name and store."""
        return f"<Session {self.name!r} of {self.store.path!r}>"


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    embedded: bool | None = None,
    shadow_limit: int = 0,
) -> Store:
    """Open a store.

    Parameters
    ----------
    path : path-like, optional
        Its directory; ``$CHIPMINK_STORE`` or ``~/.chipmink`` if None. If there is none, the first
        save makes it, for the user alone (mode 0700).
    embedded : bool, optional
        Without a server: for one process alone, in a container or a test. The default is what
        ``$CHIPMINK_EMBEDDED`` says, or False.
    shadow_limit : int, optional
        Most bytes that are kept in memory of each session that is saved to, to know what has not
        changed; what does not fit is walked at every save. 0: as many as it takes.

    Returns
    -------
    Store
        Also a context manager that closes it.

    Raises
    ------
    FormatError
        It was made by a newer version.
    Busy
        A process has it open for writing, embedded.
    StoreError
        It cannot be read, the directory holds something else, or the server cannot be started.
    """
    text = _core.default_path() if path is None else os.path.abspath(os.fsdecode(path))
    if shadow_limit < 0:
        raise ValueError(f"shadow_limit is a number of bytes, not {shadow_limit}")
    return Store(text, embedded_by_default() if embedded is None else embedded, shadow_limit)


__all__ = ["Revision", "Session", "Store", "open"]
