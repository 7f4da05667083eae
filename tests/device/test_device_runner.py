"""The runner as a device sees it: one archive, one job, JSON lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtnas.device.inputs import random_inputs
from mtnas.measure.anchor import anchor_model, empty_model
from mtnas.measure.reach.archive import runner_archive, runner_sha256
from mtnas.measure.reach.base import flat

LATENCY = {
    "schema": "device-job/2",
    "kind": "latency",
    "runtime": "onnxruntime",
    "threads": 1,
    "spinning": False,
    "seed": 1,
    "rounds": 3,
    "max_rounds": 3,
    "interval_percent": 2.0,
    "confidence": 0.9,
    "warmup_ms": 5.0,
    "warmup_cap_ms": 50.0,
    "round_ms": 1.0,
    "round_runs": 2,
    "max_round_runs": 4,
    "together": 2,
}


def run(folder: Path, job: dict) -> tuple[int, list[dict]]:
    """The runner alone in a folder, away from this package."""
    (folder / "runner.pyz").write_bytes(runner_archive())
    (folder / "anchor.onnx").write_bytes(anchor_model())
    (folder / "empty.onnx").write_bytes(empty_model())
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-I", "runner.pyz", "job.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, [record for line in done.stdout.splitlines() for record in flat(json.loads(line))]


def test_latency_job_alone_in_a_folder(tmp_path: Path) -> None:
    status, records = run(tmp_path, {**LATENCY, "models": {"a": "anchor.onnx", "b": "empty.onnx"}})
    assert status == 0
    assert [record["event"] for record in records] == ["environment", "latency", "latency"]
    assert records[0]["runtime_version"][0].isdigit()
    for record in records[1:]:
        assert len(record["rounds_ms"]) == 3 and all(2 <= len(runs) <= 4 for runs in record["rounds_ms"])
        assert record["options"]["intra_op_threads"] == 1
    largest_of_empty = max(max(runs) for runs in records[2]["rounds_ms"][1:])
    assert min(min(runs) for runs in records[1]["rounds_ms"]) > 0 < largest_of_empty


def test_with_an_anchor_each_network_leaves_as_it_settles(tmp_path: Path) -> None:
    models = {"anchor": "anchor.onnx", "a": "empty.onnx", "b": "empty.onnx", "c": "empty.onnx"}
    status, records = run(tmp_path, {**LATENCY, "models": models, "anchor": "anchor", "affinity": [0]})
    assert status == 0 and [record["name"] for record in records[1:3]] in (["a", "b"], ["b", "a"])
    assert records[3]["name"] == "c" and len(records) == 4
    for record in records[1:]:
        assert len(record["anchor_ms"]) == len(record["rounds_ms"]) == 3
        assert record["options"]["affinity"] == [0] and record["state"]["before"]["cores"] >= 1


def test_a_core_that_is_not_there_is_refused(tmp_path: Path) -> None:
    status, records = run(tmp_path, {**LATENCY, "models": {"a": "empty.onnx"}, "affinity": [123456]})
    assert status == 1 and "123456" in records[-1]["text"]


def test_memory_job(tmp_path: Path) -> None:
    job = {**LATENCY, "kind": "memory", "models": {"base": "empty.onnx", "net": "anchor.onnx"}}
    status, records = run(tmp_path, job)
    assert status == 0 and records[-1]["event"] == "memory" and records[-1]["name"] == "net"
    assert records[-1]["peak_mb"] > records[-1]["base_mb"] > 0


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"models": {"a": "missing.onnx"}}, "missing.onnx"),
        ({"models": {}, "schema": "device-job/9"}, "device-job/9"),
        ({"models": {}, "kind": "no_such_kind"}, "no_such_kind"),
        ({"models": {}, "runtime": "no_such_runtime"}, "no_such_runtime"),
    ],
)
def test_failures_are_records_and_status_one(tmp_path: Path, change: dict, part: str) -> None:
    status, records = run(tmp_path, {**LATENCY, **change})
    assert status == 1 and records[-1]["event"] == "error" and part in records[-1]["text"]


def test_the_archive_is_the_same_bytes_in_every_process() -> None:
    code = "from mtnas.measure.reach.archive import runner_sha256; print(runner_sha256())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == runner_sha256()


def test_random_inputs_are_reproducible_and_free_dimensions_are_one() -> None:
    specs = [("image", "float32", (None, 3, 4)), ("index", "int64", (2,))]
    first, second = random_inputs(specs, 5), random_inputs(specs, 5)
    assert first["image"].shape == (1, 3, 4) and first["image"].dtype.name == "float32"
    assert (first["image"] == second["image"]).all() and (first["index"] == 0).all()
    assert (first["image"] != random_inputs(specs, 6)["image"]).any()
