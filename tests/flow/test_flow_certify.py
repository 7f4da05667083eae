"""The verbs `certify` and `measure` on a finished run and on single files: verdicts, exit codes, nothing disturbed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import FinishedRun, assert_told, mtnas, records, stages_with

import mtnas as package
from mtnas.base.files import file_hash
from mtnas.measure.config import MeasureConfig

MODEL = Path("7-export") / "model.onnx"
#: seconds instead of minutes; differences of a factor, not of percents
QUICK = MeasureConfig(
    rounds=5, max_rounds=6, round_ms=1, round_runs=4, warmup_ms=5, warmup_cap_ms=40, processes=1, certify_rounds=4
)


def test_certificates_are_kept_where_each_reader_looks(finished: FinishedRun) -> None:
    stage = json.loads((finished.path / "9-certify/certificate.json").read_text())
    assert stage == json.loads((finished.path / "8-verify/certificate.json").read_text())
    assert stage == records(finished.path / "9-certify/certificates.jsonl")[-1]
    assert stage["model_sha256"] == file_hash(finished.path / MODEL)
    assert stage["limits"][0]["statistic"] == "p50"
    assert {"p50", "p95", "p99"} <= stage["latency"].keys()


def test_a_run_is_certified_again_and_stays_as_it_is(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    before = file_hash(run / "9-certify/certificate.json")
    done = mtnas("certify", run, "--json")
    assert done.code == 0, done.err
    assert done.result["met"] is True
    assert [limit["name"] for limit in done.result["limits"]] == ["latency_ms", "macs"]
    attempts = records(run / "9-certify/certificates.jsonl")
    assert len(attempts) == 2 and attempts[-1] == done.result
    assert file_hash(run / "9-certify/certificate.json") == before
    again = mtnas("run", finished.job, "-o", run)
    assert again.code == 0
    assert set(stages_with(run, "start")) == set(stages_with(finished.path, "start"))
    assert stages_with(run, "skip")[-1] == "report"


def test_a_run_without_an_exported_file_is_told(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="search")
    assert_told(mtnas("certify", run), 2, "5-prune")
    (tmp_path / "empty").mkdir()
    assert_told(mtnas("certify", tmp_path / "empty"), 2, "the folder of a run", "job.resolved.yaml")


def test_any_file_against_limits(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.api.certifying.device_config", lambda device: QUICK)
    path = tmp_path / "mine.onnx"
    shutil.copy(finished.path / MODEL, path)
    done = mtnas("certify", path, "--latency-ms", "1000", "--size-mb", "10", "--statistic", "p99", "--json")
    assert done.code == 0, done.err
    assert [(limit["name"], limit["statistic"]) for limit in done.result["limits"]] == [
        ("latency_ms", "p99"),
        ("size_mb", "file"),
    ]
    done = mtnas("certify", path, "--latency-ms", "0.000001")
    assert_told(done, 3)
    assert "MISSED" in done.out and "missed by" in done.out
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix != ".lock"] == ["mine.onnx"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, ("--latency-ms", "--memory-mb", "--size-mb", "--energy-mj")),
        (("--latency-ms", "-1"), 2, ("a positive number", "latency_ms")),
        (("--latency-ms", "5", "--statistic", "p42"), 2, ("p50, p95 or p99",)),
        (("--latency-ms", "5", "--device", "local-orr"), 2, ("local-ort",)),
        (("--energy-mj", "5"), 4, ("energy",)),
    ],
)
def test_limits_that_cannot_be_judged(
    finished: FinishedRun, words: tuple[str, ...], code: int, told: tuple[str, ...]
) -> None:
    assert_told(mtnas("certify", finished.path / MODEL, *words), code, *told)


def test_files_that_are_none(tmp_path: Path) -> None:
    assert_told(mtnas("certify", tmp_path / "none.onnx", "--latency-ms", "5"), 2, "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    assert_told(mtnas("certify", tmp_path / "broken.onnx", "--latency-ms", "5"), 4, "ONNX")
    assert_told(mtnas("measure", tmp_path / "none.onnx"), 2, "none.onnx")


def test_files_side_by_side(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.api.side_by_side.device_config", lambda device, config: config or QUICK)
    files = [finished.path / "6-quantize/float.onnx", finished.path / MODEL]
    done = mtnas("measure", *files, "--json")
    assert done.code == 0, done.err
    rows = done.result["rows"]
    assert [row["name"] for row in rows] == [str(file) for file in files]
    assert rows[0]["gate"] is None and rows[1]["gate"]["verdict"] in {"faster", "equal", "slower", "unchanged"}
    for row, file in zip(rows, files, strict=True):
        assert row["size_mb"]["value"] == file.stat().st_size / 1e6
        assert row["latency_ms"]["p50"]["kind"] == "measured" and row["memory_mb"]["kind"] == "measured"
        assert row["latency_ms"]["p50"]["value"] <= row["latency_ms"]["p95"]["value"]
    text = mtnas("measure", *files, "--no-memory")
    assert text.code == 0 and str(MODEL) in text.out and "against the first" in text.out


def test_the_same_in_python(finished: FinishedRun, tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    shutil.copy(finished.path / MODEL, path)
    certificate = package.certify(path, {"latency_ms": 1e3, "macs": 1e9, "params": 10}, config=QUICK)
    assert [check.met for check in certificate.limits] == [True, True, False]
    with pytest.raises(package.base.errors.JobError, match="absolute limits"):
        package.certify(path, {"latency_ms": "50%"}, config=QUICK)
    table = package.measure({"first": finished.path / MODEL, "copy": path}, memory=False, config=QUICK)
    assert table.rows[1].gate is not None and table.rows[1].gate.verdict == "unchanged"
    assert table.rows[1].gate.measured is None and "unchanged" in str(table)
