# SPDX-License-Identifier: Apache-2.0
"""Connections of `sqlite3`: databases in memory by content, those in files by path."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

_OPTIONS = ("isolation_level", "row_factory", "text_factory", "autocommit")  # the last: 3.12


def _save(connection: sqlite3.Connection) -> Any:
    listed = _query(connection, "PRAGMA database_list")
    databases = []
    for _, name, path in listed:
        if name == "temp":
            continue
        databases.append((_text(name), _text(path) or _content(connection, _text(name))))
    options = {name: getattr(connection, name) for name in _OPTIONS if hasattr(connection, name)}
    return databases, options


def _query(connection: sqlite3.Connection, statement: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(statement).fetchall()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # as text_factory likes it


def _content(connection: Any, name: str) -> bytes:
    quoted = name.replace('"', '""')
    if _query(connection, f'PRAGMA "{quoted}".page_count')[0][0] == 0:
        return b""
    if hasattr(connection, "serialize"):  # Python 3.11
        content: bytes = connection.serialize(name=name)
        return content
    if name != "main":
        raise ValueError(f"database {name}, attached in memory, needs Python 3.11 to be saved")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "database")
        copy = sqlite3.connect(path)
        connection.backup(copy, name=name)
        copy.close()
        with open(path, "rb") as file:
            return file.read()


def load(state: Any) -> sqlite3.Connection:
    """Open a connection to databases: paths of files, or contents."""
    ((_, main), *attached), options = state
    # without making a file where there is none
    target = f"file:{quote(main)}?mode=rw" if isinstance(main, str) else ":memory:"
    try:
        connection: Any = sqlite3.connect(target, uri=True)
    except sqlite3.OperationalError as error:
        raise sqlite3.OperationalError(f"database {main}: {error}") from error
    connection.isolation_level = None
    if isinstance(main, bytes):
        _fill(connection, "main", main)
    for name, where in attached:
        path = f"file:{quote(where)}?mode=rw" if isinstance(where, str) else ":memory:"
        connection.execute(f"""ATTACH ? AS "{name.replace('"', '""')}" """, (path,))
        if isinstance(where, bytes):
            _fill(connection, name, where)
    for name, value in options.items():
        if hasattr(connection, name):
            setattr(connection, name, value)
    return connection  # type: ignore[no-any-return]


def _fill(connection: Any, name: str, content: bytes) -> None:
    if not content:
        return
    if hasattr(connection, "deserialize"):
        connection.deserialize(content, name=name)
        return
    if name != "main":
        raise ValueError(f"database {name}, attached in memory, needs Python 3.11 to be loaded")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "database")
        with open(path, "wb") as file:
            file.write(content)
        copy = sqlite3.connect(path)
        copy.backup(connection)
        copy.close()


CONNECTION = SimpleNamespace(save=_save, load=load)
