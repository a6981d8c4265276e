"""The benchmark runs, its systems give back what they saved, and its judge can say 'missed'."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
sys.path.insert(0, str(BENCH))

import ablation  # noqa: E402
import deltas  # noqa: E402
import gpu  # noqa: E402
import mount_rows  # noqa: E402
import notebook  # noqa: E402
import runner  # noqa: E402
import systems  # noqa: E402
from figure import Figure  # noqa: E402
from stores import server_of  # noqa: E402
from workloads import WORKLOADS  # noqa: E402


def bench(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / "bench", "-o", output, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def smoke(output: Path, *options: str) -> dict[str, Any]:
    done = bench(output, "--smoke", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((output / "bench.json").read_text())


@pytest.mark.parametrize("name", sorted(systems.SYSTEMS))
def test_systems_give_back_what_they_saved(name: str, tmp_path: Path) -> None:
    reason = systems.missing(name)
    if reason:
        pytest.skip(reason)
    system = systems.SYSTEMS[name](tmp_path)
    names: dict[str, Any] = {}
    for _, names in WORKLOADS["rmtree_1e4"].steps(0.01, 7):
        system.save(names)
    assert system.load() == names
    assert system.load("v00000") == {"v00000": names["v00000"]}
    system.close()
    again = systems.SYSTEMS[name](tmp_path)  # as another process would
    assert again.load() == names
    again.close()


@pytest.mark.parametrize("name", sorted(set(systems.SYSTEMS) - {"chipmink"}))
def test_systems_refuse_what_cannot_be_saved(name: str, tmp_path: Path) -> None:
    reason = systems.missing(name)
    if reason:
        pytest.skip(reason)
    system = systems.SYSTEMS[name](tmp_path)
    assert system.accepts([1, "two"])
    assert not system.accepts(n for n in range(3))
    system.close()


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [(1.0, True, "met"), (1.5, True, "missed"), (1.5, False, "met"), (None, True, "not measured")],
)
def test_verdicts(value: float | None, at_most: bool, verdict: str) -> None:
    assert Figure("it", value, "x", 1.2, at_most=at_most).verdict == verdict


def took(seconds: float, disk: int, *left_out: str) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "median_seconds": seconds,
        "median_written": disk,
        "disk_bytes": disk,
        "left_out": list(left_out),
    }


def test_a_notebook_is_judged_against_every_baseline() -> None:
    result = {
        "kind": "notebook",
        "scale": 1.0,
        "systems": {
            "chipmink": took(2.0, 100),
            "pickle": took(4.0, 900),
            "zodb": took(1.0, 50, "model"),
            "joblib": {"failed": "it broke"},
        },
    }
    time, size = deltas.of_workloads({"it": result})
    assert (time.value, time.verdict) == (2.0, "missed")
    assert (size.value, size.verdict) == (2.0, "missed")
    for figure in (time, size):
        assert "zodb" in figure.note
        assert "without 1 variable" in figure.note
    assert "pickle 4.00 s" in time.note


def test_repeats_are_summed_up_save_by_save() -> None:
    def run(*seconds: float) -> dict[str, Any]:
        save = {"title": "t", "written": 10, "peak": 5, "background_cpu": 0.0}
        saves = [{**save, "seconds": value} for value in seconds]
        return {"saves": saves, "disk_bytes": 30, "left_out": [], "loads": {"one": [1], "all": [2]}}

    found = runner.combined([run(1, 2, 9), run(3, 4, 8), run(2, 5, 1)])
    assert [save["seconds"] for save in found["saves"]] == [2, 4, 8]
    assert (found["seconds"], found["median_seconds"], found["written"]) == (14, 6, 30)
    assert (found["load_one"], found["load_all"]) == (1, 2)


def test_smoke(tmp_path: Path) -> None:
    result = smoke(tmp_path)
    missing = {name for name in systems.SYSTEMS if systems.missing(name)}
    assert set(result["workloads"]) >= {"rmtree_1e4", "frame_patterns", "graph_analysis"}
    for work in result["workloads"].values():
        assert list(work["systems"]) == list(systems.SYSTEMS)
        for name, found in work["systems"].items():
            assert ("failed" in found) == (name in missing)
            assert name in missing or all(save["seconds"] > 0 for save in found["saves"])
        assert work["systems"]["chipmink"]["left_out"] == []
    for figure in result["targets"]:
        assert figure["value"] is not None or figure["excused"], figure
    if not any(figure["name"] == "mount" for figure in result["targets"]):  # it can be mounted
        judged = {f["name"] for f in result["targets"] if f["name"].startswith("mount: ")}
        assert {"mount: sequential read, warm", "mount: ls -l, fresh"} <= judged
        report = (tmp_path / "bench.md").read_text()
        assert all(name in report for name in ("### Mounts", "memory after: find and stat, warm"))
    assert {"growth.png", "rmtree.png", "patterns.png", "bench.md"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_policies_beside_one_another(tmp_path: Path) -> None:
    """Every policy saves the same, and the judge compares the one in use with the best."""
    found = runner.call(
        "ablation", workload="nested_patterns", directory=str(tmp_path), scale=0.1, seed=1
    )
    assert list(found) == list(ablation.POLICIES)
    assert all(of["bytes"] > 0 and of["seconds"] > 0 for of in found.values())
    assert found["bundle"]["pods"] < found["size"]["pods"] < found["split"]["pods"]

    def call(action: str, **arguments: Any) -> dict[str, Any]:
        found = {policy: {"bytes": 100, "seconds": 1.0, "pods": 5} for policy in ablation.POLICIES}
        found["bundle"] = {"bytes": 99, "seconds": 0.5, "pods": 1}
        return found

    size, seconds, *_ = ablation.measure(call, lambda: nullcontext(str(tmp_path)), 1.0, 1)
    assert (size.verdict, seconds.verdict) == ("met", "missed")
    assert seconds.value == 2.0


def test_rows_are_shown_as_they_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker's generator says what it has found before the answer is there."""
    if mount_rows.Chipmink.missing():
        pytest.skip("cannot mount here")
    tiny = mount_rows.Sizes(repeats=1).scaled(0.001)
    found = runner.call("mount", directory=str(tmp_path), **asdict(tiny))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == list(found["rows"])
    assert all(peer in said[0] for peer in found["rows"]["ls -l, warm"])


def test_who_takes_too_long_ends_what_it_began(tmp_path: Path) -> None:
    """A worker that is stopped stops its store server, and would unmount what it has mounted."""
    endless = mount_rows.Sizes(bytes=1000, files=10, checkpoints=10**9)
    with pytest.raises(runner.MeasurementError, match="not done after 8 s"):
        runner.call("mount", patience=8, directory=str(tmp_path), **asdict(endless))
    assert server_of(tmp_path / "chipmink" / "repository") is None


def test_smoke_of_a_script(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = ["chipmink", "cloudpickle"]
    result = smoke(tmp_path, "--only", "actor_critic", "--systems", ",".join(names))
    found = result["workloads"]["actor_critic"]["systems"]
    assert list(found) == names
    assert found["chipmink"]["again_bytes"] > 0
    assert found["cloudpickle"]["load_all"] > 0


def test_a_failed_measurement_fails_the_run(tmp_path: Path) -> None:
    options = ("--only", "text_classification", "--scale", "0.0001", "--systems", "pickle")
    done = bench(tmp_path, *options)  # too small for its cells, which raise
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED text_classification, pickle: series: status 1: ValueError" in done.stdout


def test_names_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    assert "nothing is called 'rmtre'" in bench(tmp_path, "--only", "rmtre").stderr
    assert "no such system: pickel" in bench(tmp_path, "--systems", "pickel").stderr


def test_listing_has_everything(tmp_path: Path) -> None:
    listed = bench(tmp_path, "--list").stdout
    assert all(
        f" {name} " in listed
        for name in (*WORKLOADS, *deltas.IDS, *notebook.IDS, ablation.ID, gpu.ID)
    )


def test_gpu_rows_over_a_double(tmp_path: Path) -> None:
    """Where there is no GPU, what measures one is tried in the memory of the host."""
    double = ROOT / "build" / "tests" / "device_double.so"
    if not double.exists():
        pytest.skip("the double of a device's runtime is not built (CM_TESTS)")
    stands = {"driver": str(double), "library": str(double)}
    found = runner.call("gpu_arrays", directory=str(tmp_path), size=0.002, repeats=2, **stands)
    figures = list(gpu.of_arrays(found, ""))
    assert [figure.value is not None for figure in figures] == [True, True, True]
    assert found["bytes"] == 10 << 20


def test_gpu_training_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options = {"size": 1e-5, "epochs": 2, "seed": 1, "device": "cpu"}
    found = runner.call("gpu_training", directory=str(tmp_path), **options)
    assert len(found["begin_save"]) == 2
    assert [figure.value is not None for figure in gpu.of_training(found, "")] == [True, True]
