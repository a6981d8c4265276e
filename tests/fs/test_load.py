# SPDX-License-Identifier: Apache-2.0
"""The mount under load: many save, read, copy and write at once, and servers die meanwhile.

With CHIPMINK_LONG in the environment each takes a minute instead of seconds.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import pickletools
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import chipmink
import pytest
from mounting import (
    Mount,
    commit,
    errors,
    has_ended,
    names,
    run,
    server_of,
    wait_until,
)

LONG = "CHIPMINK_LONG" in os.environ
SECONDS = 60 if LONG else 5
SAVERS = ("p", "q", "r", "s")


def peak_memory(pid: int) -> int:
    """Bytes a process has had in memory at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


# ---- savers, a reader and a copier


SAVER = """
    import random, sys, time, chipmink
    path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    session = chipmink.open(path).session(name)
    end, step = time.monotonic() + seconds, 0
    kept = list(range(2000))
    while time.monotonic() < end:
        step += 1
        data = random.Random(f"{name}{step}").randbytes(100_000)
        saved = session.save({"step": step, "data": data, "kept": kept})
        print(saved.number, step, flush=True)
        time.sleep(0.05)
"""


def data_of(name: str, step: int) -> bytes:
    """What a saver has saved as "data"."""
    return random.Random(f"{name}{step}").randbytes(100_000)


def read_with_tar(session: Path, choose: random.Random) -> None:
    """Read some of the newest checkpoints of a session, all at once."""
    log = session / "log"
    numbers = sorted(name for name in names(log) if name.isdigit())[-5:]
    chosen = sorted(choose.sample(numbers, min(3, len(numbers))))
    done = subprocess.run(
        ["tar", "-C", log, "-cf", "-", *chosen], capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for number in chosen:
            found = {}
            for variable in ("step", "data", "kept"):
                file = archive.extractfile(f"{number}/vars/{variable}.pkl")
                assert file is not None
                found[variable] = pickle.loads(file.read())
            assert found["data"] == data_of(session.name, found["step"])
            assert found["kept"] == list(range(2000))


def copy_one(mount: Mount, choose: random.Random, name: str) -> tuple[str, bytes]:
    """Copy what one session saved into the work/ of another; return where it is, and what."""
    source, target = choose.sample(SAVERS, 2)
    number = choose.choice([n for n in names(mount.session(source) / "log") if n.isdigit()])
    saved = mount.session(source) / "log" / number / "vars"
    step = pickle.loads((saved / "step.pkl").read_bytes())
    run("cp", saved / "data.pkl", mount.session(target) / "work" / f"{name}.pkl")
    commit(mount.session(target) / "work")
    return target, data_of(source, step)


@pytest.mark.parametrize("kills", [0, 50 if LONG else 8])
def test_all_at_once(store: chipmink.Store, unmounted: Mount, kills: int) -> None:
    """Four save, one reads with tar, one copies between their sessions; the server is killed.

    Whatever was acknowledged is there and sound, and nobody has seen an error.
    """
    for name in SAVERS:
        store.session(name).save({"step": 0, "data": data_of(name, 0), "kept": list(range(2000))})
    assert unmounted.mount().returncode == 0
    daemon = unmounted.daemon()
    end = threading.Event()
    failures: list[BaseException] = []
    copies: dict[str, tuple[str, bytes]] = {}
    walks = 0

    def guarded(action: Callable[[random.Random], None]) -> None:
        choose = random.Random(action.__name__)
        try:
            while not end.is_set():
                action(choose)
        except BaseException as error:
            failures.append(error)

    def walk(choose: random.Random) -> None:
        nonlocal walks
        read_with_tar(unmounted.session(choose.choice(SAVERS)), choose)
        walks += 1

    def copy(choose: random.Random) -> None:
        name = f"copy{len(copies)}"
        copies[name] = copy_one(unmounted, choose, name)
        time.sleep(0.05)

    savers = {
        name: subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(SAVER),
                str(unmounted.store),
                name,
                str(SECONDS),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in SAVERS
    }
    # what a process saves first replaces what is there if it has loaded nothing: no copies yet
    assert wait_until(lambda: all(len(store.session(name).log()) > 1 for name in SAVERS))
    others = [threading.Thread(target=guarded, args=(action,)) for action in (walk, copy)]
    for thread in others:
        thread.start()
    chance = random.Random(5)
    for _ in range(kills):
        time.sleep(chance.uniform(0, 1.6 * SECONDS / kills))
        pid = server_of(unmounted.store)
        if pid is not None:  # it may be being started just now
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    saved: dict[str, list[list[int]]] = {}
    said: dict[str, str] = {}
    for name, saver in savers.items():
        out, said[name] = saver.communicate(timeout=600)
        assert saver.returncode == 0, said[name]
        saved[name] = [[int(word) for word in line.split()] for line in out.splitlines()]
    end.set()
    for thread in others:
        thread.join(300)
        assert not thread.is_alive()
    assert not failures, failures
    assert walks > 0
    assert copies

    for name, acknowledged in saved.items():
        session = store.session(name)
        assert [step for _, step in acknowledged] == list(range(1, len(acknowledged) + 1))
        for number, step in acknowledged:
            loaded = session.checkpoint(number).load(["step", "data", "kept"])
            assert loaded["step"] == step
            assert loaded["data"] == data_of(name, step)
        mine = {copied: data for copied, (target, data) in copies.items() if target == name}
        assert session.load(names=mine.keys()) == mine
        work = unmounted.session(name) / "work"
        assert errors(work) == ""
        assert names(work) == {f"{known}.pkl" for known in ("step", "data", "kept", *mine)}
    assert store.verify().damage == ()
    assert unmounted.daemon() == daemon, "the mount outlives every server"
    assert peak_memory(daemon) < 200 << 20
    assert len(os.listdir(f"/proc/{daemon}/fd")) < 40
    assert unmounted.umount().returncode == 0
    assert wait_until(lambda: has_ended(daemon))


# ---- work/


def is_one_pickle(data: bytes) -> bool:
    """Tell whether nothing is missing and nothing follows."""
    file = io.BytesIO(data)
    try:
        for _ in pickletools.genops(file):
            pass
    except ValueError:
        return False
    return file.tell() == len(data)


def test_load_on_work(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """Several threads do everything at once in one work/: no crash, no leak, and an orderly end."""
    work = mounted.session("b") / "work"
    end = threading.Event()
    unexpected: list[BaseException] = []
    allowed = {errno.ENOENT, errno.EINVAL, errno.EEXIST, errno.ESTALE}

    def torment(seed: int) -> None:
        choose = random.Random(seed)
        pool = [f"v{i}.pkl" for i in range(6)] + [f".t{i}" for i in range(4)]
        while not end.is_set():
            one, other = work / choose.choice(pool), work / choose.choice(pool)
            try:
                match choose.randrange(8):
                    case 0 | 1:
                        one.write_bytes(pickle.dumps(choose.randbytes(choose.randrange(20_000))))
                    case 2:
                        one.read_bytes()
                    case 3:
                        one.unlink()
                    case 4:
                        one.rename(other)
                    case 5:
                        other.hardlink_to(one)
                    case 6:
                        shutil.copy(mounted.session("a") / "head/vars/x.pkl", one)
                    case _:
                        for name in os.listdir(work):
                            os.stat(work / name)
                        if choose.random() < 0.1:
                            commit(work)
            except OSError as error:
                if error.errno not in allowed:
                    unexpected.append(error)
                    return

    threads = [threading.Thread(target=torment, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    end.wait(SECONDS)
    end.set()
    for thread in threads:
        thread.join(60)
    assert not unexpected
    commit(work)
    listed = {name for name in names(work) if not name.startswith(".")}
    files = {name: (work / name).read_bytes() for name in listed}
    # two who write to one file at once may leave the end of one pickle behind the other
    mixed = {name for name, data in files.items() if not is_one_pickle(data)}
    committed = {f"{name}.pkl": value for name, value in two[1].load().items()}
    assert committed.keys() | mixed == listed
    assert {name: committed[name] for name in listed - mixed} == {
        name: pickle.loads(files[name]) for name in listed - mixed
    }
    assert mixed <= {line.split()[1].rstrip(":") for line in errors(work).splitlines()}
    for name in names(work) - listed - {".errors"}:
        (work / name).unlink()
    pid = mounted.daemon()
    opened = os.listdir(f"/proc/{pid}/fd")
    assert len(opened) < 40, "spooled files are closed"


def fio(mounted: Mount, *jobs: str) -> None:
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    run("fio", "--output-format=terse", f"--runtime={60 if LONG else 3}", "--time_based", *jobs)
    assert mounted.is_mounted()
    assert names(mounted.point)


def test_fio_reads(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    file = mounted.session("a") / "head/vars/big.pkl"
    fio(
        mounted,
        "--name=read",
        "--readonly",
        f"--filename={str(file).replace(':', chr(92) + ':')}",
        "--rw=randread",
        "--bs=4k",
        "--numjobs=4",
        "--ioengine=psync",
    )


def test_fio_writes(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    work = mounted.session("b") / "work"
    fio(
        mounted,
        "--name=mixed",
        f"--directory={work}",
        "--filename_format=.fio.$jobnum",
        "--rw=randrw",
        "--bs=4k",
        "--size=8m",
        "--numjobs=4",
        "--ioengine=psync",
        "--fsync=64",
        "--verify=crc32c",
        "--verify_backlog=256",
        "--verify_state_save=0",
    )
    assert {name for name in names(work) if name.startswith(".fio")}


def test_stress_ng(two: tuple[chipmink.Session, chipmink.Session], mounted: Mount) -> None:
    """Its stressors want directories and sockets, which are refused: all goes on."""
    if shutil.which("stress-ng") is None:
        pytest.skip("stress-ng is not installed")
    work = mounted.session("b") / "work"
    few = [
        word for name in ("dentry", "hdd", "iomix", "link", "rename") for word in (f"--{name}", "1")
    ]
    all_of_them = ["--class", "filesystem", "--seq", "1"]
    load = ["stress-ng", *(all_of_them if LONG else few), "--timeout", "1s", "--temp-path", work]
    with subprocess.Popen(
        load, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            running.wait(60 if LONG else 20)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
    assert mounted.is_mounted()
    assert pickle.loads((work / "y.pkl").read_bytes()) == 5
    (work / "z.pkl").write_bytes(pickle.dumps("z"))
    commit(work)
    assert two[1].load()["z"] == "z"
