# SPDX-License-Identifier: Apache-2.0
"""The mounted store, as programs see it: through the kernel, with ordinary tools."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path

import chipmink
import pytest
from mounting import Mount, commit, has_ended, names, run, wait_until

BIG = random.Random(1).randbytes(3_000_000)
LONG = "a" * 300
ODD = {
    "a/b": 1,
    "100%": 2,
    "größe": 3,
    "..": 4,
    ".hidden": 5,
    "": 6,
    "new\nline": 7,
    LONG: 8,
    LONG + "b": 9,
}


@pytest.fixture
def history(store: chipmink.Store) -> list[chipmink.Checkpoint]:
    """Three checkpoints of the session "analysis"."""
    session = store.session("analysis")
    rows = [{"row": i} for i in range(1000)]
    namespace = {"x": 1, "rows": rows, "again": rows, "big": BIG}
    saved = [session.save(namespace, message="first", code="x = 1\n")]
    namespace.update(x=2, new="here")
    saved.append(session.save(namespace, message="second"))
    del namespace["again"]
    saved.append(session.save(namespace | {"broken": (i for i in ())}))
    session.tag("v1", 1)
    return saved


def blocks(*paths: Path) -> int:
    return int(run("du", "-s", "-c", "-B512", *paths).splitlines()[-1].split()[0])


# ---- the tree


def test_tree(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    session = mounted.session()
    assert names(mounted.point) == {"sessions", "pods", "stats.json"}
    assert names(session) == {"head", "branches", "tags", "log", "by-time", "work"}
    assert names(session / "log") == {
        f"{n:06}{suffix}" for n in (1, 2, 3) for suffix in ("", ".pkl")
    }
    assert os.readlink(session / "head") == "log/000003"
    assert os.readlink(session / "branches" / "main") == "../log/000003"
    assert os.readlink(session / "tags" / "v1") == "../log/000001"
    assert names(session / "tags" / "v1") == {
        *("checkpoint.json", "code.py", "vars", "info", "pods", "delta")
    }
    assert "code.py" not in names(session / "head")
    assert (session / "log/000001/code.py").read_text() == "x = 1\n"
    assert names(session / "log/000002/vars") == {
        f"{name}.pkl" for name in ("x", "rows", "again", "big", "new")
    }
    assert names(session / "log/000002/info") == {
        f"{name}.txt" for name in ("x", "rows", "again", "big", "new")
    }
    assert "list" in (session / "head/info/rows.txt").read_text()


def test_description(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    facts = json.loads((mounted.session() / "head/checkpoint.json").read_bytes())
    last = history[-1]
    assert facts["id"] == last.id
    assert facts["session"] == "analysis"
    assert facts["number"] == 3
    assert facts["parents"] == [{"id": history[1].id, "number": 2}]
    assert facts["message"] is None
    assert set(facts["variables"]) == {"x", "rows", "big", "new"}
    assert facts["variables"]["x"]["changed"] == 2
    assert facts["variables"]["x"]["file"] == "vars/x.pkl"
    assert list(facts["unsaved"]) == ["broken"]
    assert facts["stats"]["pods"] == last.stats.pods
    told = datetime.fromisoformat(facts["time"][:26] + "+00:00").timestamp()
    assert abs(told - facts["time_ns"] / 1e9) < 1e-3
    stats = json.loads((mounted.point / "stats.json").read_bytes())
    assert stats["checkpoints"] == 3
    assert stats["sessions"] == 1


@pytest.fixture
def figures(store: chipmink.Store, monkeypatch: pytest.MonkeyPatch) -> list[chipmink.Checkpoint]:
    """Two checkpoints of the session "plots"; the figure and its axes look the same."""
    figures = pytest.importorskip("matplotlib.figure")
    monkeypatch.setattr(chipmink._figures, "LIMIT", 60)
    figure = figures.Figure()
    axes = figure.subplots()
    axes.plot([1, 3, 2])
    session = store.session("plots")
    first = session.save({"a/b": figure, "axes": axes, "x": 1})
    axes.set_title("changed")
    return [first, session.save({"a/b": figure, "x": 1})]


def test_previews(figures: list[chipmink.Checkpoint], mounted: Mount, tmp_path: Path) -> None:
    log = mounted.session("plots") / "log"
    png = figures[0].preview("axes")
    assert png is not None
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert names(log / "000001/info") == {
        *("a%2Fb.txt", "axes.txt", "x.txt", "a%2Fb.png", "axes.png")
    }
    assert names(log / "000002/info") == {"a%2Fb.txt", "x.txt", "a%2Fb.png"}
    axes = log / "000001/info/axes.png"
    assert axes.read_bytes() == (log / "000001/info/a%2Fb.png").read_bytes() == png
    assert (log / "000002/info/a%2Fb.png").read_bytes() == figures[1].preview("a/b") != png
    assert not (log / "000001/info/x.png").exists()
    assert not (log / "000002/info/axes.png").exists()
    facts = json.loads((log / "000001/checkpoint.json").read_bytes())["variables"]
    assert facts["a/b"]["preview"] == "info/a%2Fb.png"
    assert "preview" not in facts["x"]
    # It is an object of the store, and this is another name of it.
    id_ = hashlib.sha256(png).hexdigest()
    stat, same = axes.stat(), (mounted.point / "pods" / id_[:2] / id_).stat()
    assert (stat.st_ino, stat.st_size, stat.st_blocks) == (same.st_ino, len(png), same.st_blocks)
    assert stat.st_nlink >= 2
    assert os.readlink(log / "000001/pods" / id_).endswith(f"/pods/{id_[:2]}/{id_}")
    both = blocks(log / "000001/info/axes.png", log / "000001/info/a%2Fb.png")
    assert both == stat.st_blocks, "du counts it once"
    with tarfile.open(tmp_path / "info.tar", "w") as tar:
        tar.add(log / "000001/info", "info")
    with tarfile.open(tmp_path / "info.tar") as tar:
        assert tar.extractfile("info/axes.png").read() == png
    # Copies have it, and are checked with it.
    copy = tmp_path / "copy"
    run("cp", "-rL", log / "000001", copy)
    assert (copy / "info/axes.png").read_bytes() == png
    assert (copy / "pods" / id_).read_bytes() == png
    assert chipmink.load(copy, names=["x"]) == {"x": 1}


def test_previews_go_with_copies(
    store: chipmink.Store, figures: list[chipmink.Checkpoint], mounted: Mount
) -> None:
    store.session("other").save({"y": 1})
    other = mounted.session("other")
    assert wait_until(other.exists)
    pickles = mounted.session("plots") / "log/000001/vars"
    run("cp", pickles / "a%2Fb.pkl", other / "work/fig.pkl")
    run("ln", pickles / "axes.pkl", other / "work/axes.pkl")
    commit(other / "work")
    assert (other / "head/info/fig.png").read_bytes() == figures[0].preview("axes")
    head = store.session("other").head
    assert head is not None
    assert head.preview("fig") == head.preview("axes") == figures[0].preview("axes")
    run("mv", other / "work/fig.pkl", other / "work/renamed.pkl")
    commit(other / "work")
    assert names(other / "head/info") == {
        *("y.txt", "axes.txt", "axes.png", "renamed.txt", "renamed.png")
    }
    assert store.verify().damage == ()


def test_odd_names(store: chipmink.Store, unmounted: Mount) -> None:
    session = store.session(".ä b%")
    session.save(ODD)
    session.tag("50%", 1)
    assert unmounted.mount().returncode == 0
    mounted = unmounted.point / "sessions" / "%2Eä b%25"
    assert os.readlink(mounted / "tags" / "50%25") == "../log/000001"
    facts = json.loads((mounted / "head/checkpoint.json").read_bytes())
    files = {name: facts["variables"][name]["file"] for name in ODD}
    assert files["a/b"] == "vars/a%2Fb.pkl"
    assert files["größe"] == "vars/größe.pkl"
    assert files[".."] == "vars/%2E..pkl"
    assert len(set(files.values())) == len(ODD)
    assert {f"vars/{name}" for name in names(mounted / "head/vars")} == set(files.values())
    for name, value in ODD.items():
        assert pickle.loads((mounted / "head" / files[name]).read_bytes()) == value
    assert not (mounted / "head/vars/%41.pkl").exists()
    assert chipmink.load(mounted / "head") == ODD


def test_delta(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    log = mounted.session() / "log"
    assert names(log / "000001/delta/added") == {"x.pkl", "rows.pkl", "again.pkl", "big.pkl"}
    assert names(log / "000002/delta/added") == {"new.pkl"}
    assert names(log / "000002/delta/changed") == {"x.pkl"}
    assert names(log / "000002/delta/removed") == set()
    assert names(log / "000003/delta/removed") == {"again.pkl"}
    for number in (1, 2, 3):
        delta = log / f"{number:06}" / "delta"
        for change in ("added", "changed"):
            for link in (delta / change).iterdir():
                assert link.resolve(strict=True) == log / f"{number:06}" / "vars" / link.name
        for link in (delta / "removed").iterdir():
            assert link.resolve(strict=True) == log / f"{number - 1:06}" / "vars" / link.name
        before = names(log / f"{number - 1:06}" / "pods") if number > 1 else set()
        assert names(delta / "pods") == names(log / f"{number:06}" / "pods") - before
        for link in (delta / "pods").iterdir():
            assert link.resolve(strict=True).is_file()


def test_pods_are_their_names(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    pods = mounted.point / "pods"
    assert names(pods) == {f"{byte:02x}" for byte in range(256)}
    seen = set()
    for directory in pods.iterdir():
        for pod in directory.iterdir():
            assert pod.name.startswith(directory.name)
            assert hashlib.sha256(pod.read_bytes()).hexdigest() == pod.name
            assert len(pod.read_bytes()) == pod.stat().st_size
            seen.add(pod.name)
    assert len(seen) == json.loads((mounted.point / "stats.json").read_bytes())["objects"]
    for number in (1, 2, 3):
        directory = mounted.session() / "log" / f"{number:06}" / "pods"
        assert names(directory) <= seen
        assert history[number - 1].id in names(directory)
        for link in directory.iterdir():
            assert link.resolve(strict=True) == pods / link.name[:2] / link.name


# ---- content


def test_plain_pickle(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    """An interpreter that has no chipmink reads a variable, and the namespace with its sharing."""
    program = """if True:
        import pickle, sys
        sys.modules["chipmink"] = None
        rows = pickle.load(open(sys.argv[1] + "/000001/vars/rows.pkl", "rb"))
        assert rows == [{"row": i} for i in range(1000)]
        whole = pickle.load(open(sys.argv[1] + "/000001.pkl", "rb"))
        assert list(whole) == ["x", "rows", "again", "big"]
        assert whole["rows"] is whole["again"] and whole["rows"] == rows
    """
    run(sys.executable, "-I", "-c", program, mounted.session() / "log")


def test_elements_of_a_big_list_are_small(store: chipmink.Store, mounted: Mount) -> None:
    """A file has no more of the list than the fragment of its element; copied, it is a variable."""
    rows = [{"row": i, "text": f"the text of row {i}"} for i in range(20_000)]
    store.session("analysis").save({"rows": rows, "best": rows[:5], "one": rows[10_000]})
    head = mounted.session() / "head/vars"
    assert pickle.loads((head / "best.pkl").read_bytes()) == rows[:5]
    assert pickle.loads((head / "one.pkl").read_bytes()) == rows[10_000]
    for name in ("best", "one"):
        file = head / f"{name}.pkl"
        assert file.stat().st_size == len(file.read_bytes())
        assert file.stat().st_size < (head / "rows.pkl").stat().st_size // 5
    work = mounted.session() / "work"
    (work / "copy.pkl").write_bytes((head / "best.pkl").read_bytes())
    commit(work)
    assert store.session("analysis").load()["copy"] == rows[:5]


def test_sizes_are_exact(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    count = 0
    for directory, _, files in os.walk(mounted.session()):
        for name in files:
            file = Path(directory, name)
            if not file.is_symlink():
                assert file.stat().st_size == len(file.read_bytes()), file
                assert file.stat().st_blocks > 0
                count += 1
    assert count > 20


def test_random_reads(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    choose = random.Random(2)
    for file in (mounted.session() / "head/vars/big.pkl", mounted.session() / "log/000001.pkl"):
        whole = file.read_bytes()
        assert BIG in whole
        done = mounted.umount()
        assert done.returncode == 0, done.stderr
        assert mounted.mount().returncode == 0
        with file.open("rb", buffering=0) as opened:
            for _ in range(500):
                offset = choose.randrange(len(whole) + 100)
                size = choose.choice([1, 100, 5000, 200_000])
                assert os.pread(opened.fileno(), size, offset) == whole[offset : offset + size]


def test_load(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    loaded = chipmink.load(mounted.session() / "tags/v1")
    assert loaded["rows"] is loaded["again"]
    assert loaded["big"] == BIG
    assert chipmink.load(mounted.session() / "head/vars/x.pkl") == 2


def test_read_only(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    file = mounted.session() / "head/vars/x.pkl"
    for refused in (
        lambda: file.open("r+b"),
        lambda: (file.parent / "y.pkl").write_bytes(b""),
        file.unlink,
        lambda: os.mkdir(mounted.point / "new"),
    ):
        with pytest.raises(OSError, match=r"Read-only|denied") as caught:
            refused()
        assert caught.value.errno in (errno.EROFS, errno.EACCES)
    assert file.stat().st_mode & 0o777 == 0o400
    assert mounted.session().stat().st_mode & 0o777 == 0o500
    assert file.stat().st_uid == os.geteuid()


def test_missing_is_an_error(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    """What is not there is an error, in a form that programs understand."""
    for path in ("sessions/none", "sessions/analysis/log/000009", "pods/zz", "stats.json/x"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            (mounted.point / path).stat()


# ---- what tools are told


def test_du_counts_shared_content_once(store: chipmink.Store, unmounted: Mount) -> None:
    session = store.session("analysis")
    for i in range(5):
        session.save({"big": BIG, "i": i})
    assert unmounted.mount().returncode == 0
    log = unmounted.session() / "log"
    stats = [(log / f"{n:06}" / "vars/big.pkl").stat() for n in range(1, 6)]
    assert len({(stat.st_dev, stat.st_ino) for stat in stats}) == 1
    assert len({stat.st_mtime_ns for stat in stats}) == 1
    assert stats[0].st_nlink >= 2
    one, all_of_them = blocks(log / "000001/vars"), blocks(log)
    assert one * 512 >= len(BIG)
    assert all_of_them < 1.1 * one
    changing = [(log / f"{n:06}" / "vars/i.pkl").stat() for n in range(1, 6)]
    assert len({stat.st_ino for stat in changing}) == 5
    times = [stat.st_mtime_ns for stat in changing]
    assert times == sorted(times)


def test_mtime_is_last_change(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    log = mounted.session() / "log"
    saved = [round(checkpoint.time.timestamp(), 3) for checkpoint in history]

    def time(path: str) -> float:
        return round((log / path).stat().st_mtime, 3)

    assert time("000003/vars/big.pkl") == pytest.approx(saved[0], abs=0.002)
    assert time("000003/vars/x.pkl") == pytest.approx(saved[1], abs=0.002)
    assert time("000003") == pytest.approx(saved[2], abs=0.002)
    made = round((mounted.store / "CHIPMINK").stat().st_mtime, 3)
    link = next((log / "000003/pods").iterdir())
    assert link.lstat().st_mtime == pytest.approx(made, abs=0.002)
    assert link.stat().st_mtime == pytest.approx(made, abs=0.002)


def test_tools(history: list[chipmink.Checkpoint], mounted: Mount) -> None:
    log = mounted.session() / "log"
    assert len(run("find", mounted.point).splitlines()) > 300
    assert "000003.pkl" in run("ls", "-lR", mounted.point)
    run("du", "-s", mounted.point)
    run("grep", "-r", "row", log / "000001/info")
    run("df", mounted.point)
    same = log / "000001/vars/big.pkl"
    found = set(run("find", log, "-samefile", same).splitlines())
    assert found == {str(log / f"{n:06}" / "vars/big.pkl") for n in (1, 2, 3)}
    run("diff", "-r", log / "000001/vars", log / "000001/vars")
    differ = subprocess.run(
        ["diff", "-rq", log / "000001/vars", log / "000002/vars"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert differ.returncode == 1
    assert differ.stderr == ""
    assert len(differ.stdout.splitlines()) == 2


@pytest.mark.parametrize("tool", ["cp", "tar", "rsync"])
def test_copies_load(
    history: list[chipmink.Checkpoint], mounted: Mount, tmp_path: Path, tool: str
) -> None:
    """A copy of a checkpoint directory is whole: it restores without the mount and the store."""
    source, copy = mounted.session() / "log/000002", tmp_path / "copy"
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    if tool == "cp":
        run("cp", "-rL", source, copy)
    elif tool == "rsync":
        run("rsync", "-aL", f"{source}/", copy)
    else:
        archive = tmp_path / "copy.tar"
        run("tar", "-C", source, "-chf", archive, ".")
        with tarfile.open(archive) as opened:
            opened.extractall(copy, filter="fully_trusted")
    assert mounted.umount().returncode == 0
    loaded = chipmink.load(copy)
    assert loaded["rows"] is loaded["again"]
    assert loaded["big"] == BIG
    assert pickle.loads((copy / "vars/x.pkl").read_bytes()) == 2


# ---- while a process saves


def test_a_new_checkpoint_shows(store: chipmink.Store, mounted: Mount) -> None:
    session = store.session("analysis")
    log, head = mounted.session() / "log", mounted.session() / "head"
    for number in range(2, 8):
        # All of this is in the kernel's caches now, also that it is not there.
        assert os.readlink(head) == f"log/{number - 1:06}"
        assert f"{number:06}" not in names(log)
        assert not (log / f"{number:06}").exists()
        session.save({"x": number})
        assert wait_until(lambda n=number: os.readlink(head) == f"log/{n:06}")
        assert wait_until((log / f"{number:06}").exists)
        assert wait_until(lambda n=number: f"{n:06}" in names(log))
        assert chipmink.load(head)["x"] == number
        assert pickle.loads((head / "vars/x.pkl").read_bytes()) == number
    session.tag("later", 3)
    assert wait_until((mounted.session() / "tags/later").exists)
    session.tag("later", 4)
    assert wait_until(lambda: os.readlink(mounted.session() / "tags/later") == "../log/000004")
    assert not (mounted.point / "sessions/other").exists()
    store.session("other").save({"y": 1})
    assert wait_until((mounted.point / "sessions/other/head/vars/y.pkl").exists)
    assert "other" in names(mounted.point / "sessions")
    stats = mounted.point / "stats.json"
    assert wait_until(lambda: json.loads(stats.read_bytes())["checkpoints"] == 8)


def test_reading_while_saving(store: chipmink.Store, mounted: Mount) -> None:
    """What was opened stays readable, whatever the writer does meanwhile."""
    session = store.session("analysis")
    session.save({"big": BIG})
    first = mounted.session() / "log/000002/vars/big.pkl"
    assert wait_until(first.exists)
    with first.open("rb", buffering=0) as opened:
        for number in range(3, 13):
            session.save({"big": random.Random(number).randbytes(1_000_000)})
            offset = (number - 3) * 250_000
            assert os.pread(opened.fileno(), 100_000, offset + 12) in BIG
    last = mounted.session() / "log/000012/vars/big.pkl"
    assert wait_until(last.exists)
    assert pickle.loads(last.read_bytes()) == random.Random(12).randbytes(1_000_000)


def test_many_at_once(
    store: chipmink.Store, history: list[chipmink.Checkpoint], mounted: Mount
) -> None:
    """Whatever is read and saved side by side: a checkpoint's bytes are always the same."""
    session = store.session("analysis")
    command = f"cd '{mounted.session()}/log/000002' && tar --sort=name -chf - . | sha256sum"
    walks = [
        subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(8)
    ]
    # what is walked through head or a branch while that moves is not there any more
    still = [mounted.point / "pods", *(mounted.session() / f"log/{n:06}" for n in range(1, 4))]
    finds = [
        subprocess.Popen(
            ["find", "-L", *still, "-type", "f", "-size", "+1k"], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for number in range(4, 14):
        session.save({"x": number, "big": random.Random(number).randbytes(500_000)})
    sums = {walk.communicate(timeout=120)[0] for walk in walks}
    assert len(sums) == 1
    assert len(sums.pop().split()[0]) == 64
    for find in finds:
        assert b"big.pkl" in find.communicate(timeout=120)[0]
        assert find.returncode == 0
    assert wait_until((mounted.session() / "log/000013").exists)


# ---- the daemon


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def test_memory_does_not_grow(store: chipmink.Store, unmounted: Mount) -> None:
    session = store.session("analysis")
    namespace = {f"variable_{i:05}": i for i in range(10_000)}
    for i in range(4):
        session.save(namespace | {"variable_00000": -i})
    assert unmounted.mount().returncode == 0
    log = unmounted.session() / "log"
    pid = unmounted.daemon()

    def list_all() -> int:
        for number in range(1, 5):
            lines = run("ls", "-l", log / f"{number:06}" / "vars").splitlines()
            assert len(lines) == 10_001
        return resident(pid)

    for _ in range(2):
        before = list_all()
    for _ in range(5):
        if os.access("/proc/sys/vm/drop_caches", os.W_OK):  # the kernel forgets what it listed
            Path("/proc/sys/vm/drop_caches").write_text("2")
        after = list_all()
    assert after < before + (8 << 20)
    assert after < 200 << 20


def test_ends_when_told(mounted: Mount) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        pid = mounted.daemon()
        os.kill(pid, number)
        assert wait_until(lambda: not mounted.is_mounted())
        assert wait_until(lambda pid=pid: has_ended(pid))
        assert names(mounted.point) == set()
        assert mounted.mount().returncode == 0
    assert "sessions" in names(mounted.point)


def test_umount_waits_for_the_daemon(mounted: Mount) -> None:
    pid = mounted.daemon()
    done = mounted.umount()
    assert done.returncode == 0, done.stderr
    assert not mounted.is_mounted()
    # an ending process gives up its log, which umount waits for, a moment before it is gone
    assert wait_until(lambda: has_ended(pid), seconds=5)
    again = mounted.umount()
    assert again.returncode == 1
    assert "no chipmink store is mounted" in again.stderr


def test_umount_in_use(mounted: Mount) -> None:
    pid = mounted.daemon()
    with (mounted.session() / "head/vars/x.pkl").open("rb") as held:
        busy = mounted.umount()
        assert busy.returncode == 1
        assert "in use" in busy.stderr
        assert mounted.umount("--lazy").returncode == 0
        assert not mounted.is_mounted()
        assert pickle.load(held) == 1
    assert wait_until(lambda: has_ended(pid))


def test_killed_daemon(mounted: Mount) -> None:
    """A dead mount can be unmounted, and mounting on it heals it."""
    for heal in (False, True):
        pid = mounted.daemon()
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda pid=pid: has_ended(pid))
        with pytest.raises(OSError, match=r"not connected|abort") as caught:
            os.listdir(mounted.point)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        if not heal:
            assert mounted.umount().returncode == 0
            assert names(mounted.point) == set()
        done = mounted.mount()
        assert done.returncode == 0, done.stderr
        assert "sessions" in names(mounted.point)


def test_foreground(store: chipmink.Store, unmounted: Mount) -> None:
    store.session("analysis").save({"x": 1})
    daemon = subprocess.Popen(
        [unmounted.command, "mount", "-f", "-S", unmounted.store, unmounted.point],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_until(lambda: unmounted.is_mounted() and "sessions" in names(unmounted.point))
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(30) == 0
    assert daemon.stderr is not None
    assert daemon.stderr.read() == ""
    assert not unmounted.is_mounted()


def test_others(mounted: Mount) -> None:
    """The mount is the user's alone, unless asked otherwise."""
    if os.geteuid() != 0:
        pytest.skip("only root can try as another user")
    point = Path(tempfile.mkdtemp(prefix="chipmink-test-"))
    point.chmod(0o755)
    mount = Mount(mounted.store, point)
    try:
        for options, expected in (((), 1), (("--allow-other",), 0)):
            assert mount.mount(*options).returncode == 0
            seen = subprocess.run(
                ["cat", mount.session() / "head/vars/x.pkl"],
                user=65534,
                group=65534,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
            assert seen.returncode == expected, seen.stderr
            assert mount.umount().returncode == 0
    finally:
        mount.umount("--lazy")
        point.rmdir()


# ---- what is refused


def test_refusals(mounted: Mount, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inside = mounted.store / "inside"
    inside.mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()

    def refused(store: Path, point: Path) -> str:
        done = mounted.run("mount", "--store", store, point)
        assert done.returncode == 1
        assert done.stderr.startswith("chipmink mount: ")
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "inside the store" in refused(mounted.store, inside)
    assert "would be hidden" in refused(mounted.store, tmp_path)
    assert "already" in refused(mounted.store, mounted.point)
    assert "not a directory" in refused(mounted.store, tmp_path / "file")
    assert "no directory" in refused(mounted.store, tmp_path / "nowhere")
    assert "no store at" in refused(tmp_path / "no-store", empty)
    assert mounted.run("mount").returncode == 2
    assert mounted.run("umount").returncode == 2
    assert mounted.run("mount", "--help").returncode == 0


def test_no_store_in_the_directory(unmounted: Mount, tmp_path: Path) -> None:
    """The daemon's own reasons reach the command that started it."""
    empty = tmp_path / "empty"
    empty.mkdir()
    done = unmounted.run("mount", "--store", empty, unmounted.point)
    assert done.returncode == 1
    assert str(empty) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not unmounted.is_mounted()
