"""The table of a run says what the run's files say, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "report"))

from report_run import FakeRun  # noqa: E402

from mtnas.base.errors import CheckpointError, JobError  # noqa: E402
from tools import tables  # noqa: E402
from tools.bench import __main__ as bench  # noqa: E402
from tools.bench.record import Options, Result  # noqa: E402
from tools.bench.run_table import run  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return FakeRun(tmp_path / "run").upto("certify")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def table(folder: Path) -> Result:
    return run(Options(run=folder))


def test_rows_hold_the_numbers_of_the_run(folder: Path) -> None:
    result, verify = table(folder), json.loads((folder / "8-verify" / "verify.json").read_text())
    assert [row["network"] for row in result.rows] == ["full", "chosen", "pruned", "int8 (delivered)"]
    for row, given in zip(result.rows, verify["table"], strict=True):
        assert row["segmentation.miou"] == given["scores"]["segmentation"]["miou"]
        assert row["depth.rmse"] == given["scores"]["depth"]["rmse"]
        assert row["mmacs"] == pytest.approx(given["macs"] / 1e6)
        assert row["latency_ms_p95"] == given["latency_ms_p95"]
    assert result.rows[0]["percent_of_full"] == 100.0
    assert result.rows[3]["percent_of_full"] == pytest.approx(100 * 0.9 / 3.1)
    assert result.rows[3]["p50"] == "0.900 (0.889–0.911)"
    assert result.seeds == (0,) and result.details["seconds"]["train"] > 0


def test_the_delivered_row_follows_the_gates(folder: Path) -> None:
    edit(folder / "6-quantize" / "quantize.json", delivered="float")
    assert table(folder).rows[2]["network"] == "pruned (delivered)"
    edit(folder / "5-prune" / "prune.json", kept="chosen")
    assert [row["network"] for row in table(folder).rows] == ["full", "chosen (delivered)", "pruned", "int8"]


def test_claims_are_the_certificate_and_a_cautious_ratio(folder: Path) -> None:
    limit, ratio = table(folder).claims
    assert limit.met is True and limit.value == 0.9 and limit.target == "at most 1.395" and limit.count == 3
    assert ratio.met is True and ratio.target == "at most 45"
    assert ratio.value == pytest.approx(100 * 0.9 / 3.1) and ratio.interval is not None
    low, high = ratio.interval
    assert low == pytest.approx(100 * 0.9 * 0.988 / (3.1 * 1.012)) and high > ratio.value > low


def test_a_missed_limit_stays_missed(tmp_path: Path) -> None:
    result = table(FakeRun(tmp_path, met=False).upto("certify"))
    assert result.claims[0].met is False
    assert "verified: NO" in result.note


@pytest.mark.parametrize("change", [{"processes": 2}, {"refused": True}])
def test_too_little_evidence_is_not_claimed(folder: Path, change: dict[str, object]) -> None:
    edit(folder / "8-verify" / "certificate.json", **change)
    assert {claim.met for claim in table(folder).claims} == {None}


def test_counted_limits_have_no_interval(folder: Path) -> None:
    path = folder / "8-verify" / "certificate.json"
    counted = {"value": 5e7, "unit": "MACs", "kind": "counted"}
    limits = json.loads(path.read_text())["limits"]
    limits.append({"name": "macs", "bound": 6e7, "statistic": "count", "measured": counted, "met": True})
    edit(path, limits=limits)
    assert table(folder).claims[1].interval is None and table(folder).claims[1].met is True


def test_command_writes_the_file_under_its_name_with_the_machine_of_the_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "results"
    assert bench.main(["run_table", "--run", str(folder), "--name", "mine", "--out", str(out)]) == 0
    record = json.loads((out / "mine.json").read_text())
    assert record["name"] == "mine" and record["benchmark"] == "run_table"
    assert record["machine"]["cpu"]["model"] == "A processor with 2 cores" and record["versions"]["torch"] == "2.13.0"
    assert str(folder) not in json.dumps(record)
    page = tmp_path / "README.md"
    page.write_text("<!-- table:mine -->\n<!-- end -->\n<!-- claims:mine -->\n<!-- end -->\n")
    assert tables.main(["--root", str(tmp_path)]) == 0
    assert "| int8 (delivered) |" in page.read_text() and "--name mine" in page.read_text()


def test_unfinished_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="verify.json"):
        table(FakeRun(tmp_path).upto("search"))
    with pytest.raises(JobError, match="--run"):
        run(Options())
