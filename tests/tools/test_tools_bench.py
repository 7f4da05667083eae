"""The benchmark framework is honest: claims are judged by intervals, unmet ones stay, tables come from files alone."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mtnas.base.tables import lookup  # noqa: E402
from tools import tables  # noqa: E402
from tools.bench import __main__ as bench  # noqa: E402
from tools.bench.record import SCHEMA, Claim, Column, Result, write_result  # noqa: E402
from tools.bench.table import BENCHMARKS  # noqa: E402

COLUMNS = (Column("name", "network"), Column("ms", "latency, ms", 2))


def result(*values: float) -> Result:
    rows = tuple({"name": f"n{i}", "ms": value} for i, value in enumerate(values))
    claim = Claim.of("latency, ms", values, "at most", 2)
    return Result(tuple(range(len(values))), rows, COLUMNS, (claim,))


def test_interval_is_student_t() -> None:
    claim = Claim.of("x", [1.0, 2.0, 3.0], "at least", 0)
    assert claim.value == 2.0 and claim.interval is not None
    half = 4.302653 * 1.0 / math.sqrt(3)
    assert claim.interval == pytest.approx((2 - half, 2 + half), rel=1e-5)


def test_a_claim_is_met_by_its_whole_interval_only() -> None:
    assert Claim.of("x", [31.0, 31.1, 31.2], "at least", 30).met is True
    assert Claim.of("x", [29.0, 31.0, 33.0], "at least", 30).met is False
    assert Claim.of("x", [1.0, 1.0, 1.0], "at most", 1).met is True
    assert Claim.of("x", [0.5, 1.0, 1.4], "at most", 1).met is False


def test_a_gain_must_be_more_than_nothing() -> None:
    assert Claim.of("x", [0.0, 0.0, 0.0], "more than", 0).met is False
    assert Claim.of("x", [1.0, 1.1, 1.2], "more than", 0).met is True
    assert Claim.of("x", [-1.0, 1.1, 5.2], "more than", 0).met is False


def test_fewer_than_three_values_are_not_claimed() -> None:
    claim = Claim.of("x", [50.0, 60.0], "at least", 30)
    assert claim.met is None and claim.interval is None and claim.verdict == "not claimed"
    assert Claim.of("x", [math.nan, 50.0, math.inf], "at least", 30).count == 1
    assert Claim.of("x", [], "at least", 30).value is None


def test_an_unmet_claim_stays_in_the_file_and_in_the_table(tmp_path: Path) -> None:
    path = write_result("slow", result(3.0, 3.1, 3.2), tmp_path, quick=True, seconds=1.0)
    record = json.loads(path.read_text())
    assert set(record) >= {"schema", "name", "machine", "versions", "seeds", "rows", "claims"}
    assert record["schema"] == SCHEMA and record["quick"] is True and record["seeds"] == [0, 1, 2]
    (claim,) = record["claims"]
    assert set(claim) >= {"claim", "target", "value", "interval", "met"}
    assert claim["met"] is False and claim["target"] == "at most 2"
    assert "**not met**" in tables.claims_table(record)


def test_pages_hold_what_the_files_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result("fast", result(1.0, 1.1, 1.25), tmp_path / "docs" / "results", quick=False, seconds=1.0)
    page = tmp_path / "README.md"
    page.write_text("# t\n<!-- table:fast -->\nold\n<!-- end -->\nprose\n<!-- claims:fast -->\n<!-- end -->\n")
    assert tables.main(["--check", "--root", str(tmp_path)]) == 1
    assert "old" in page.read_text()
    assert tables.main(["--root", str(tmp_path)]) == 0
    text = page.read_text()
    assert "| n2 | 1.25 |" in text and "**met**" in text and "prose" in text and "old" not in text
    assert tables.main(["--check", "--root", str(tmp_path)]) == 0
    page.write_text("<!-- table:none -->\n<!-- end -->\n")
    assert tables.main(["--root", str(tmp_path)]) == 2
    assert "none.json" in capsys.readouterr().err


def test_a_result_that_is_expected_may_be_missing(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- table:search_hv -->\n<!-- end -->\n")
    assert tables.main(["--check", "--root", str(tmp_path)]) == 0
    page.write_text("<!-- table:search_hv -->\n| a table without a file |\n<!-- end -->\n")
    assert tables.main(["--root", str(tmp_path)]) == 0
    assert "Not measured yet." in page.read_text()
    write_result("search_hv", result(1.0, 1.1, 1.25), tmp_path / "docs" / "results", quick=False, seconds=1.0)
    assert tables.main(["--root", str(tmp_path)]) == 0
    assert "| n2 | 1.25 |" in page.read_text() and "Not measured yet." not in page.read_text()


def test_every_benchmark_of_the_table_exists() -> None:
    for name in BENCHMARKS:
        assert callable(lookup(name, BENCHMARKS, "benchmark"))


def test_a_misspelt_benchmark_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["grph_cut"]) == 2
    assert "did you mean 'graph_cut'?" in capsys.readouterr().err


def test_result_files_have_names_that_pages_can_mark(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["run_table", "--name", "../x"]) == 2
    assert "--name" in capsys.readouterr().err


def test_committed_results_and_pages_agree() -> None:
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        record = json.loads(path.read_text())
        assert record["schema"] == SCHEMA and record["name"] == path.stem
        assert {"machine", "versions", "seeds", "rows", "claims"} <= set(record)
    assert tables.main(["--check", "--root", str(ROOT)]) == 0
