# SPDX-License-Identifier: Apache-2.0
"""Buffers whose pages were not written are not read again; whatever was written is seen.

Every way to change memory is tried on an array that is watched: save, change, save, load, equal.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import random
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any
from unittest import mock

import chipmink
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

CASES = 2_000 if os.environ.get("CHIPMINK_LONG") else 25
MIB = 1 << 20
PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.madvise.argtypes = LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

Array = np.ndarray[Any, np.dtype[np.uint8]]


def kernel_can_watch() -> bool:
    """Tell whether the kernel has what is needed, and lets this process use it."""
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < (6, 7) or platform.machine() != "x86_64":
        return False
    fd = LIBC.syscall(323, os.O_CLOEXEC | 1)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


needs_watch = pytest.mark.skipif(not kernel_can_watch(), reason="the kernel cannot watch pages")


class Saver:
    """A session, and what the last save of it left unread."""

    def __init__(self, path: Path) -> None:
        self.store = chipmink.open(path, embedded=True)
        self.session = self.store.session("s")

    def save(self, **namespace: object) -> chipmink.Checkpoint:
        return self.session.save(namespace)

    def check(self, **namespace: Any) -> None:
        """Save, and compare what is loaded."""
        self.save(**namespace)
        loaded = self.session.load()
        assert loaded.keys() == namespace.keys()
        for name, value in namespace.items():
            assert np.array_equal(loaded[name], value), name

    def settle(self, **namespace: object) -> None:
        """Save until what can be watched is."""
        for _ in range(3):
            self.save(**namespace)

    def watching(self) -> dict[str, int]:
        assert self.store._handle is not None
        return self.store._handle.watching()


@pytest.fixture
def saver(path: Path) -> Iterator[Saver]:
    made = Saver(path)
    yield made
    made.store.close()


def filled(size: int = 4 * MIB, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, size=size, dtype=np.uint8)


def inner(array: Array) -> tuple[int, int]:
    """Give the address and size of some whole pages in the middle."""
    start = (array.ctypes.data + array.nbytes // 2) // PAGE * PAGE
    return start, 5 * PAGE


@needs_watch
def test_unchanged_is_not_read(saver: Saver) -> None:
    array = filled(64 * MIB)
    saver.save(x=array)
    assert saver.watching() == {"buffers": 0, "bytes": 0, "unread": 0}
    saver.save(x=array)
    assert saver.watching() == {"buffers": 1, "bytes": array.nbytes, "unread": 0}
    saver.save(x=array)
    assert saver.watching()["unread"] == array.nbytes  # wherever in its pages it begins
    array[10 * MIB + 30_000] ^= 1  # its page is in one chunk only
    saver.check(x=array)
    assert saver.watching()["unread"] == array.nbytes - 65536


@needs_watch
def test_memory_is_not_touched(path: Path, python: Callable[..., Any]) -> None:
    """A save of pages that were not written does not even look at them."""
    script = """
        import ctypes, mmap, sys, chipmink, numpy
        store = chipmink.open(sys.argv[1], embedded=True)
        array = numpy.random.default_rng(1).integers(0, 255, 16 << 20, "u1")
        for _ in range(3):
            store.session("s").save({"x": array})
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        start = -(-(array.ctypes.data + 65536) // mmap.PAGESIZE) * mmap.PAGESIZE
        assert protect(start, 15 << 20, 0) == 0
        store.session("s").save({"x": array, "y": 1})  # reading would end the process
        assert protect(start, 15 << 20, mmap.PROT_READ | mmap.PROT_WRITE) == 0
        print(numpy.array_equal(store.session("s").load()["x"], array))
    """
    process = python(script, path)
    assert process.communicate()[0].split() == ["True"]


def test_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the switch, all is read each time."""
    monkeypatch.setenv("CHIPMINK_WATCH", "off")
    saver = Saver(path)
    array = filled()
    saver.settle(x=array)
    assert saver.watching() == {"buffers": 0, "bytes": 0, "unread": 0}
    array[MIB] ^= 1
    saver.check(x=array)
    saver.store.close()


# ---- ways to change memory ----


def by_file(array: Array, tmp: Path) -> None:
    file = tmp / "bytes"
    file.write_bytes(os.urandom(200_000))
    with file.open("rb", buffering=0) as opened:
        opened.readinto(memoryview(array)[MIB : MIB + 200_000])  # type: ignore[attr-defined]


def by_preadv(array: Array, tmp: Path) -> None:
    file = tmp / "bytes"
    file.write_bytes(os.urandom(200_000))
    fd = os.open(file, os.O_RDONLY)
    os.preadv(fd, [memoryview(array)[77:5000], memoryview(array)[2 * MIB : 2 * MIB + 9]], 3)
    os.close(fd)


def by_direct_io(array: Array, tmp: Path) -> None:
    """The device writes to the pages itself."""
    file = tmp / "bytes"
    file.write_bytes(os.urandom(64 * PAGE))
    try:
        fd = os.open(file, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("no O_DIRECT on this file system")
    start = -array.ctypes.data % PAGE + MIB
    assert os.preadv(fd, [memoryview(array)[start : start + 64 * PAGE]], 0) == 64 * PAGE
    os.close(fd)


def by_pipe(array: Array, _: Path) -> None:
    r, w = os.pipe()
    os.write(w, os.urandom(5000))
    assert os.readv(r, [memoryview(array)[MIB : MIB + 5000]]) == 5000
    os.close(r)
    os.close(w)


def by_socket(array: Array, _: Path) -> None:
    a, b = socket.socketpair()
    with a, b:
        a.send(os.urandom(5000))
        assert b.recv_into(memoryview(array)[MIB : MIB + 5000]) == 5000


def by_process_vm_writev(array: Array, _: Path) -> None:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))

    source = ctypes.create_string_buffer(os.urandom(5000), 5000)
    local = Vector(ctypes.addressof(source), 5000)
    remote = Vector(array.ctypes.data + MIB, 5000)
    written = LIBC.process_vm_writev(
        os.getpid(),
        ctypes.byref(local),
        ctypes.c_ulong(1),
        ctypes.byref(remote),
        ctypes.c_ulong(1),
        0,
    )
    if written < 0:
        pytest.skip("process_vm_writev is not allowed")
    assert written == 5000


def by_proc_mem(array: Array, _: Path) -> None:
    """Writes that ignore protection, as a debugger's."""
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(array.ctypes.data + MIB)
        assert memory.write(os.urandom(5000)) == 5000


def by_thread(array: Array, _: Path) -> None:
    thread = threading.Thread(target=array[MIB : MIB + 100].fill, args=(7,))
    thread.start()
    thread.join()


def by_madvise(advice: int) -> Callable[[Array, Path], None]:
    def change(array: Array, _: Path) -> None:
        start, size = inner(array)
        assert LIBC.madvise(start, size, advice) == 0

    return change


def by_mapping_anew(array: Array, _: Path) -> None:
    """Other memory comes to the address."""
    start, size = inner(array)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
    assert LIBC.mmap(start, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == start


def by_protection(array: Array, _: Path) -> None:
    start, size = inner(array)
    assert LIBC.mprotect(start, size, mmap.PROT_READ) == 0
    assert LIBC.mprotect(start, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    ctypes.memset(start + 10, 5, 1)


def by_fork(array: Array, _: Path) -> None:
    """Pages shared with a child until either writes to them."""
    child = os.fork()
    if child == 0:
        array[3 * MIB] ^= 1
        os._exit(0)
    array[2 * MIB] ^= 1
    os.waitpid(child, 0)


def assign(array: Array, _: Path) -> None:
    array[MIB] ^= 1


WAYS: dict[str, Callable[[Array, Path], object]] = {
    "assignment": assign,
    "first byte": lambda a, _: a.__setitem__(0, a[0] ^ 1),
    "last byte": lambda a, _: a.__setitem__(-1, a[-1] ^ 1),
    "slice": lambda a, _: a[MIB : 3 * MIB].fill(1),
    "all": lambda a, _: a.fill(1),
    "in place": lambda a, _: a.__iadd__(1),
    "view": lambda a, _: a[::-1][100_000:].view("u8" if a.ctypes.data % 8 else "u1").fill(2),
    "out": lambda a, _: np.add(a[:MIB], 1, out=a[MIB : 2 * MIB]),
    "sort": lambda a, _: a.sort(),
    "memoryview": lambda a, _: memoryview(a).__setitem__(slice(MIB, MIB + 3), b"abc"),
    "frombuffer": lambda a, _: np.frombuffer(a, "u4").__setitem__(slice(MIB, MIB + 3), 1),
    "ctypes": lambda a, _: ctypes.memset(a.ctypes.data + MIB, 3, 100),
    "ctypes array": lambda a, _: (ctypes.c_char * 9).from_buffer(a, MIB).__setitem__(0, b"\xfe"),
    "struct": lambda a, _: struct.pack_into("<Q", a, MIB, 2**63),
    "generator": lambda a, _: np.random.default_rng(5).random(
        out=a[: a.size // 8 * 8].view("f8")[1000:3000]
    ),
    "thread": by_thread,
    "file": by_file,
    "preadv": by_preadv,
    "direct I/O": by_direct_io,
    "pipe": by_pipe,
    "socket": by_socket,
    "process_vm_writev": by_process_vm_writev,
    "/proc/self/mem": by_proc_mem,
    "MADV_DONTNEED": by_madvise(mmap.MADV_DONTNEED),
    "MADV_FREE": by_madvise(mmap.MADV_FREE),
    "MADV_PAGEOUT": by_madvise(21),
    "mapped anew": by_mapping_anew,
    "mprotect": by_protection,
    "fork": by_fork,
}


@pytest.mark.parametrize("huge", [False, True], ids=["small pages", "huge pages"])
@pytest.mark.parametrize("way", WAYS)
def test_seen(saver: Saver, tmp_path: Path, way: str, huge: bool) -> None:
    """What was written is saved, whichever way, and again the next time."""
    array = filled(8 * MIB)
    start = -(-array.ctypes.data // PAGE) * PAGE
    LIBC.madvise(
        start, array.nbytes - 2 * PAGE, mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE
    )
    saver.settle(x=array)
    if kernel_can_watch():
        assert saver.watching()["unread"]
    WAYS[way](array, tmp_path)
    saver.check(x=array)
    array[5 * MIB] ^= 1
    WAYS[way](array, tmp_path)
    saver.check(x=array)
    saver.check(x=array)


# ---- memory that others change ----


def changed_by_other(saver: Saver, array: Any, change: Callable[[], None]) -> None:
    saver.settle(x=array)
    assert saver.watching()["unread"] == 0
    change()
    saver.check(x=array)


def test_shared_memory(saver: Saver) -> None:
    """Another process writes through its own page tables."""
    block = shared_memory.SharedMemory(create=True, size=4 * MIB)
    array = np.ndarray(4 * MIB, np.uint8, block.buf)

    def change() -> None:
        child = os.fork()
        if child == 0:
            block.buf[MIB] = 9
            os._exit(0)
        os.waitpid(child, 0)

    changed_by_other(saver, array, change)
    del array
    block.close()
    block.unlink()


def test_shared_anonymous(saver: Saver) -> None:
    array = np.frombuffer(mmap.mmap(-1, 4 * MIB), np.uint8)

    def change() -> None:
        child = os.fork()
        if child == 0:
            array[MIB] = 9
            os._exit(0)
        os.waitpid(child, 0)

    changed_by_other(saver, array, change)


@pytest.mark.parametrize("mode", ["r+", "r", "c"])
def test_file(saver: Saver, tmp_path: Path, mode: Any) -> None:
    """A mapped file, which is written to; a private mapping shows that too."""
    file = tmp_path / "mapped"
    file.write_bytes(os.urandom(4 * MIB))
    array = np.memmap(file, np.uint8, mode)

    def change() -> None:
        with file.open("r+b") as opened:
            opened.seek(MIB)
            opened.write(b"changed")

    changed_by_other(saver, array, change)


# ---- buffers that come and go ----


def test_address_used_again(saver: Saver) -> None:
    """Another array at the address of one that went, with other bytes or with none written."""
    addresses = set()
    for i in range(12):
        array = np.zeros(34 * MIB, np.uint8)
        if i % 3:
            array[:] = i
        addresses.add(array.ctypes.data)
        for _ in range(1 + i % 4):
            saver.check(x=array)
        del array
    assert len(addresses) < 12  # else this tested nothing


@pytest.mark.parametrize("size", [3 * MIB, 34 * MIB])
def test_resized(saver: Saver, size: int) -> None:
    """In place, or moved by mremap."""
    array = filled(size)
    for factor in (1.5, 1, 3, 0.5, 1):
        saver.settle(x=array)
        array.resize(round(size * factor), refcheck=False)
        saver.check(x=array)
        array[array.size // 2] ^= 1
        saver.check(x=array)


def test_bytearray_and_bytes(saver: Saver) -> None:
    text, data = filled(2 * MIB, 1).tobytes(), bytearray(filled(2 * MIB, 2))
    saver.settle(text=text, data=data)
    data[MIB] ^= 1
    saver.session.save({"text": text, "data": data})
    data += bytes(MIB)
    data[5] ^= 1
    saver.session.save({"text": text, "data": data})
    assert saver.session.load() == {"text": text, "data": data}


def test_views_beside_their_base(saver: Saver) -> None:
    """What the look at one finds written is not lost for the others."""
    base = filled(8 * MIB)
    views = {"front": base[: 3 * MIB], "middle": base[2 * MIB + 5 : 6 * MIB], "same": base[:]}
    random_ = random.Random(1)
    saver.settle(base=base, **views)
    for _ in range(20):
        for _ in range(random_.randrange(3)):
            base[random_.randrange(base.size)] ^= 1
        names = random_.sample([*views], random_.randrange(len(views) + 1))
        chosen = {name: views[name] for name in names}
        if random_.random() < 0.5:
            saver.check(base=base, **chosen)
        else:
            saver.check(**chosen, base=base)
    if kernel_can_watch():
        assert saver.watching()["unread"]


def test_two_stores(saver: Saver, tmp_path: Path) -> None:
    """Only one of them can watch an array; when it lets go, the other one may."""
    other = Saver(tmp_path / "other")
    array = filled()
    for _ in range(3):
        saver.settle(x=array)
        other.settle(x=array)
    for i in range(5):
        array[i * 100_000] ^= 1
        saver.check(x=array)
        other.check(x=array)
    del array
    array = filled(seed=2)
    other.settle(x=array)
    for i in range(5):
        array[i * 100_000] ^= 1
        saver.check(x=array)
        other.check(x=array)
    saver.store.close()
    for i in range(12):
        array[i * 100_000] ^= 1
        other.check(x=array)
    other.store.close()


def test_two_sessions(saver: Saver) -> None:
    array = filled()
    second = saver.store.session("second")
    for i in range(8):
        array[i * 100_000] ^= 1
        saver.check(x=array)
        array[i * 100_000 + 1] ^= 1
        second.save({"y": array})
        assert np.array_equal(second.load()["y"], array)


def test_failed_saves(saver: Saver) -> None:
    """What a save that failed has found written is found again."""

    class Stops:
        def __reduce__(self) -> str:
            raise KeyboardInterrupt

    array = filled()
    saver.settle(x=array)
    for i in range(4):
        array[i * 100_000] ^= 1
        with pytest.raises(KeyboardInterrupt):
            saver.save(x=array, z=Stops())
        saver.check(x=array)


def test_collected(saver: Saver) -> None:
    """What was removed from the store is put there again, also if it was not written to since."""
    array = filled()
    saver.settle(x=[array, (i for i in ())])
    assert saver.session.log()[0].unsaved
    if kernel_can_watch():
        assert saver.watching()["unread"]
    assert saver.store.gc().removed
    saver.check(x=array)
    assert not saver.store.verify().damage
    assert saver.watching()["unread"] == 0


def test_changed_while_it_is_walked(saver: Saver) -> None:
    """A reducer changes an array and then gives it away."""
    array = filled()

    class Counts:
        def __reduce__(self) -> tuple[Any, ...]:
            array[MIB] += 1
            return np.copy, (array,)

    for _ in range(6):
        saver.save(x=Counts(), y=array)
        loaded = saver.session.load()
        assert np.array_equal(loaded["x"], array)
        assert np.array_equal(loaded["y"], array)


def test_written_during_saves(saver: Saver) -> None:
    """A thread goes on writing; when it rests, the next save has all of it."""
    array = filled(6 * MIB)
    saver.settle(x=array)
    going, stop = threading.Event(), threading.Event()

    def write() -> None:
        generator = random.Random(3)
        while not stop.is_set():
            if going.wait(0.1):
                array[generator.randrange(array.size)] ^= 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(6):
            going.set()
            for _ in range(2):
                saver.save(x=array)
            going.clear()
            time.sleep(0.005)  # what it was about to write
            saver.check(x=array)
    finally:
        stop.set()
        writer.join()


def test_written_in_the_background(saver: Saver) -> None:
    """What changes after a save has begun is not in it, but in the next one."""
    array = filled(16 * MIB)
    saver.settle(x=array)
    for i in range(6):
        array[i * MIB : i * MIB + 300_000] ^= i + 1
        begun = array.copy()
        pending = saver.session.begin_save({"x": array})
        pending.protect()
        array[i * MIB + 200_000 : i * MIB + 500_000] ^= 99
        array[15 * MIB] ^= 1
        pending.wait()
        assert np.array_equal(saver.session.load()["x"], begun)
        if i % 2:
            saver.check(x=array)
    saver.check(x=array)
    if kernel_can_watch():
        assert saver.watching()["unread"]


def test_fork(saver: Saver) -> None:
    """A child that gives up its parent's store leaves its parent's pages alone."""
    array = filled()
    saver.settle(x=array)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(chipmink.StoreError):
                saver.save(x=array)
            saver.store.close()
            array[5] ^= 1
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    saver.check(x=array)
    if kernel_can_watch():
        assert saver.watching()["unread"]
    array[MIB] ^= 1
    saver.check(x=array)


# ---- what it costs ----


def protected_pages(array: Array) -> int:
    """Count the pages of an array that are write-protected by a userfaultfd."""
    first, last = -(-array.ctypes.data // PAGE), (array.ctypes.data + array.nbytes) // PAGE
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(first * 8)
        entries = np.frombuffer(pagemap.read((last - first) * 8), np.uint64)
    return int((entries >> np.uint64(57) & np.uint64(1)).sum())


@needs_watch
def test_rewritten_is_let_go(saver: Saver) -> None:
    """Watching what is rewritten each time costs more than reading it."""
    array, kept = filled(), filled(seed=1)
    saver.settle(x=array, y=kept)
    assert saver.watching()["buffers"] == 2
    for i in range(8):
        array[:] = i
        saver.save(x=array, y=kept)
    assert saver.watching()["buffers"] == 1
    for _ in range(40):
        saver.check(x=array, y=kept)
    assert saver.watching()["buffers"] == 2


@needs_watch
def test_released(saver: Saver) -> None:
    """What is not saved any more is not watched; nor is anything when the store is closed."""
    array, other = filled(40 * MIB), filled(40 * MIB, 1)
    saver.settle(x=array, y=other)
    assert protected_pages(array) == protected_pages(other) == 40 * MIB // PAGE - 1
    array[MIB] ^= 1
    assert protected_pages(array) == 40 * MIB // PAGE - 2
    for _ in range(6):
        saver.save(x=array)
    assert saver.watching()["buffers"] == 1
    assert protected_pages(array) == 40 * MIB // PAGE - 1
    assert protected_pages(other) == 0
    saver.store.close()
    assert protected_pages(array) == 0


@needs_watch
@pytest.mark.parametrize("offset", [0, 3 * PAGE])
def test_mappings_stay_whole(saver: Saver, offset: int) -> None:
    """Memory can be moved by mremap as before, also when a part of it is watched."""
    LIBC.mremap.restype = ctypes.c_void_p
    LIBC.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size = 4 * MIB
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    at = LIBC.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    bytes_ = (ctypes.c_uint8 * (size - 2 * offset)).from_address(at + offset)
    saver.settle(x=np.ctypeslib.as_array(bytes_))
    assert saver.watching()["buffers"] == 1
    moved = LIBC.mremap(at, size, 16 * size, 1)
    assert moved != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    bytes_ = (ctypes.c_uint8 * (size - 2 * offset)).from_address(moved + offset)
    array = np.ctypeslib.as_array(bytes_)
    for i in range(4):
        array[i * 100_000] ^= 1
        saver.check(x=array)
    LIBC.munmap(moved, 16 * size)


class Ring:
    """An io_uring, as far as it takes to pin memory: buffers registered with it stay pinned."""

    def __init__(self) -> None:
        self.parameters = ctypes.create_string_buffer(120)
        self.fd = LIBC.syscall(425, 1, self.parameters)
        if self.fd < 0:
            pytest.skip("no io_uring")

    def pin(self, array: Array, begin: int, size: int) -> None:
        vector = (ctypes.c_size_t * 2)(array.ctypes.data + begin, size)
        if LIBC.syscall(427, self.fd, 0, vector, 1) < 0:
            pytest.skip("memory cannot be locked")

    def close(self) -> None:
        os.close(self.fd)


@needs_watch
def test_pinned(saver: Saver) -> None:
    """Nothing is watched while devices may write to memory unseen."""
    array = filled()
    saver.settle(x=array)
    ring = Ring()
    try:
        ring.pin(array, MIB, 100 * PAGE)
        for i in range(4):
            array[i] ^= 1
            saver.check(x=array)
            assert saver.watching()["buffers"] == 0
    finally:
        ring.close()
    deadline = time.monotonic() + 60
    while not saver.watching()["unread"] and time.monotonic() < deadline:
        time.sleep(0.1)  # the kernel unpins later
        saver.check(x=array)
    assert saver.watching()["unread"]


@needs_watch
@pytest.mark.parametrize(("switch", "watched"), [("", 0), ("on", 1)])
def test_driver(tmp_path: Path, python: Callable[..., Any], switch: str, watched: int) -> None:
    """Nothing is watched beside a driver that may pin memory, unless that is wanted."""
    import _ctypes

    shutil.copy(_ctypes.__file__, tmp_path / "libcuda.so.1")  # any library
    script = """
        import ctypes, sys, chipmink, numpy
        store = chipmink.open(sys.argv[1], embedded=True)
        array = numpy.ones(4 << 20, "u1")
        for _ in range(3):
            store.session("s").save({"x": array})
        before = store._handle.watching()["buffers"]
        ctypes.CDLL("libcuda.so.1")
        array[1 << 20] = 5
        store.session("s").save({"x": array})
        print(before, store._handle.watching()["buffers"], store.session("s").load()["x"][1 << 20])
    """
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "CHIPMINK_WATCH": switch}
    process = python(script, tmp_path / "store", env=environment)
    assert process.communicate()[0].split() == ["1", str(watched), "5"]


# ---- whatever happens ----


class Heap:
    """Arrays, views of them, and random changes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.arrays: dict[str, Array] = {}
        for _ in range(3):
            self.make()

    def make(self) -> None:
        size = self.random.choice([MIB, MIB + 100, 3 * MIB // 2, 2 * MIB, 3 * MIB])
        kind = self.random.randrange(3)
        array = (
            np.zeros(size, np.uint8) if kind else np.full(size, self.random.randrange(9), np.uint8)
        )
        if kind == 1:
            array[:: PAGE * 3] = np.arange(len(array[:: PAGE * 3]))
        self.arrays[f"v{self.random.randrange(6)}"] = array

    def view(self) -> None:
        base = self.random.choice([*self.arrays.values()])
        begin = self.random.choice([0, 0, self.random.randrange(base.size)])
        end = self.random.choice([base.size, self.random.randrange(base.size)])
        if end - begin > 1000:
            self.arrays[f"v{self.random.randrange(6)}"] = base[begin:end]

    def drop(self) -> None:
        if len(self.arrays) > 1:
            del self.arrays[self.random.choice([*self.arrays])]

    def change(self) -> None:
        array = self.random.choice([*self.arrays.values()])
        at, value = self.random.randrange(array.size), self.random.randrange(256)
        way = self.random.randrange(8)
        if way < 4:
            array[at] = value
        elif way == 4:
            array[at : at + self.random.randrange(MIB)] = value
        elif way == 5:
            array[at::PAGE] ^= 1
        elif way == 6 and array.nbytes > 10 * PAGE:
            LIBC.madvise(
                *inner(array), self.random.choice([mmap.MADV_DONTNEED, mmap.MADV_FREE, 21])
            )
        elif array.base is None and not any(other.base is array for other in self.arrays.values()):
            array.resize(array.size + self.random.choice([-PAGE, 9, 100_000]), refcheck=False)

    def copy(self) -> None:
        name = self.random.choice([*self.arrays])
        self.arrays[name] = self.arrays[name].copy()

    def step(self) -> None:
        self.random.choice([self.change] * 6 + [self.make, self.view, self.drop, self.copy])()


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**48), switch=st.sampled_from(["on", "on", "off"]))
@example(seed=0, switch="on")
def test_random(tmp_path_factory: pytest.TempPathFactory, seed: int, switch: str) -> None:
    """Saving what was written is saving all of it."""
    saver = Saver(tmp_path_factory.mktemp("watch") / "store")
    heap = Heap(seed)
    with mock.patch.dict(os.environ, CHIPMINK_WATCH=switch), contextlib.closing(saver.store):
        for _ in range(12):
            for _ in range(heap.random.choice([0, 0, 1, 1, 2, 4])):
                heap.step()
            if heap.random.random() < 0.5:
                saver.check(**heap.arrays)
            else:
                saver.save(**heap.arrays)
        saver.check(**heap.arrays)
        assert switch == "on" or saver.watching()["buffers"] == 0


@needs_watch
def test_what_an_array_looks_like_is_kept(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not worked out again while nothing was written to the array; afterwards it is."""
    described: list[object] = []
    describe = chipmink._summary.describe

    def counted(value: object) -> tuple[str, str]:
        described.append(value)
        return describe(value)

    monkeypatch.setattr(chipmink._summary, "describe", counted)
    array, other = filled(4 * MIB), filled(4 * MIB, 1)
    for _ in range(4):
        saver.save(x=array, y=other)
    described.clear()
    summary = saver.save(x=array, y=other).variables["x"].summary
    assert described == []
    array[0] ^= 1
    changed = saver.save(x=array, y=other).variables["x"].summary
    assert [id(value) for value in described] == [id(array)]
    assert changed != summary
    for _ in range(3):
        assert saver.save(x=array, y=other).variables["x"].summary == changed
    described.clear()
    array.shape = 2, 2 * MIB  # of the same bytes
    assert "2 x" in saver.save(x=array, y=other).variables["x"].summary
    saver.save(x=other, y=array)  # under names where others were
    assert [id(value) for value in described] == [id(array), id(other), id(array)]
