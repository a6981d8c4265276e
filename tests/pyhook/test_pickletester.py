# SPDX-License-Identifier: Apache-2.0
"""CPython's own pickle tests (test.pickletester), with save and load for dumps and loads."""

from __future__ import annotations

import builtins
import pickle
import unittest
from pathlib import Path
from typing import Any

import chipmink
import pytest

pickletester = pytest.importorskip(
    "test.pickletester", reason="this Python has no `test` package (python3-dev or -testsuite)"
)

_BELOW_5 = "asserts the bytes of protocols below 5; a store has protocol 5 only"
_FRAMES = "asserts frames, which a linked stream does not have (they are optional)"
_CALLBACK = "asserts buffer_callback and its buffers; a save keeps all buffers itself"
_EXTENSIONS = "asserts codes of the copyreg extension registry, which are not portable"
_METHOD_OBJECTS = "asserts that staticmethod and classmethod objects fail; see test_walk_code.py"

# Tests that assert more than that an object comes back, and why that does not hold.
SKIPPED = {
    "test_bad_getattr": _BELOW_5,
    "test_buffer_callback_error": _CALLBACK,
    "test_buffers_error": _CALLBACK,
    "test_buffers_numpy": _CALLBACK,
    "test_c_methods": _METHOD_OBJECTS,
    "test_compat_pickle": _BELOW_5,
    "test_float_format": _BELOW_5,
    "test_framed_write_sizes_with_delayed_writer": _FRAMES,
    "test_framing_large_objects": _FRAMES,
    "test_framing_many_objects": _FRAMES,
    "test_global_ext1": _EXTENSIONS,
    "test_global_ext2": _EXTENSIONS,
    "test_global_ext4": _EXTENSIONS,
    "test_local_lookup_error": "asserts that local functions fail; they are saved by value",
    "test_oob_buffers": _CALLBACK,
    "test_optional_frames": _FRAMES,
    "test_pickle_to_2x": _BELOW_5,
    "test_picklebuffer_error": _BELOW_5,
    "test_py_methods": _METHOD_OBJECTS,
}


class SavedPickles(pickletester.AbstractPickleTests, unittest.TestCase):
    """Every dumps is a save of one variable, every loads of its result a load of the checkpoint."""

    optimized = False

    @pytest.fixture(autouse=True)
    def _session(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(pickletester, "protocols", [pickle.HIGHEST_PROTOCOL])
        with chipmink.open(tmp_path / "store") as store:
            self.session = store.session("pickles")
            self.saved: dict[bytes, int] = {}
            yield

    def setUp(self) -> None:
        reason = SKIPPED.get(self._testMethodName)
        if reason:
            self.skipTest(reason)

    def dumps(self, obj: object, proto: int | None = None, **options: Any) -> bytes:
        """Save, and give the plain pickle of the variable as the mount shows it."""
        checkpoint = self.session.save({"it": obj})
        if checkpoint.unsaved:
            name, _, text = checkpoint.unsaved["it"].partition(": ")
            raise getattr(builtins, name, pickle.PicklingError)(text)
        link = checkpoint._core.link(["it"], namespace=False, buffers=False)
        data = link.read(0, link.size)
        self.saved[data] = checkpoint.number
        return data

    def loads(self, data: bytes, **options: Any) -> Any:
        number = self.saved.get(bytes(data))
        if number is None or options:
            return pickle.loads(data, **options)
        plain = pickle.loads(data)
        loaded = self.session.load(at=number)["it"]
        assert type(plain) is type(loaded)
        return loaded
