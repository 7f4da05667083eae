"""Records: p99 that is honest with few runs, outliers that are counted and kept, old lines that still load."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mtnas.base.resources import resource_folder
from mtnas.measure.config import MeasureConfig
from mtnas.measure.record import Environment, LatencyRecord, make_record
from mtnas.measure.runs import Runs
from mtnas.measure.statistics import binomial_cdf, percentile_bound, samples_to_bound

HERE = Environment("toy", "onnxruntime", "1.0", 1, False, "as in the file", "CPU", (), 4)


def record(ms: np.ndarray, interrupted: tuple[tuple[int, ...], ...] = (), **more: object) -> LatencyRecord:
    return make_record("net", Runs.of(ms, interrupted), np.ones(len(ms)), "", MeasureConfig(), HERE, **more)


def test_the_bound_is_the_sample_that_the_binomial_tail_allows() -> None:
    # 1 - 0.99^n >= 0.95 first holds at n = 299: with fewer runs not even the slowest bounds p99
    assert samples_to_bound(0.99, 0.95) == 299
    assert percentile_bound(np.arange(298.0), 0.99, 0.95) is None
    assert percentile_bound(np.arange(299.0), 0.99, 0.95) == 298.0
    for count, q in ((400, 0.9), (2000, 0.99)):
        bound = percentile_bound(np.arange(float(count)), q, 0.95)
        assert bound is not None
        cdf = binomial_cdf(count, q)
        assert cdf[int(bound)] >= 0.95 > cdf[int(bound) - 1]


def test_the_bound_holds_as_often_as_promised_for_a_heavy_tail() -> None:
    rng, truth = np.random.default_rng(0), 0.01 ** (-1 / 3)  # the 99th percentile of a Pareto law with exponent 3
    held = [(percentile_bound(1 + rng.pareto(3, 400), 0.99, 0.95) or math.inf) >= truth for _ in range(500)]
    assert 0.93 <= np.mean(held) <= 1.0


def test_p99_of_few_runs_reaches_the_slowest_and_says_that_it_is_no_bound() -> None:
    few = np.linspace(1.0, 2.0, 120).reshape(12, 10)
    many = np.linspace(1.0, 2.0, 1200).reshape(12, 100)
    assert record(few).p99_bounded is False and record(few).p99.high == 2.0
    assert record(many).p99_bounded is True
    for found in (record(few), record(many)):
        assert found.p50.value <= found.p95.value <= found.p99.value <= found.p99.high
        assert found.p99.low <= found.p99.value and found.p99.statistic == "p99" and found.p99.unit == "ms"
        assert found.p99.count == found.p50.count


def test_outliers_are_counted_told_and_left_in() -> None:
    rng = np.random.default_rng(1)
    ms = 1.0 + 0.02 * rng.standard_normal((12, 20))
    ms[3, 4], ms[5, 6] = 9.0, 7.0
    found = record(ms, tuple((4,) if row == 3 else () for row in range(12)))
    assert found.outliers is not None and found.outliers.count == 2 and found.outliers.interrupted == 1
    assert found.outliers.share_percent == pytest.approx(100 * 2 / 240) and found.outliers.worst_ms == 9.0
    assert found.outliers.beyond_ms == pytest.approx(1.0 + 5 * 0.02, abs=0.04)
    assert "2 of 240 runs (0.8 %)" in found.note and found.stable, "outliers alone make nothing unstable"
    assert max(max(runs) for runs in found.runs_ms_RN) == 9.0 and found.p99.high == 9.0
    assert json.loads(json.dumps(found.to_json()))["outliers"]["count"] == 2


def test_a_clock_that_always_shows_the_same_makes_no_outliers() -> None:
    same = np.full((12, 10), 1.0)
    same[0, 0] = 1.0 + 1e-6
    assert record(same).outliers.count == 0 and record(same).note == ""


def test_the_machines_state_travels_and_speaks_against_a_number() -> None:
    calm = {"throttled": [], "throttle_count": 0.0, "load": 0.1, "cores": 4, "cpu_quota": None}
    state = {"before": calm, "after": {**calm, "throttle_count": 4.0}}
    found = record(np.ones((12, 10)), state=state)
    assert found.untrusted == ("throttled 4 times by temperature meanwhile",)
    assert LatencyRecord.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert record(np.ones((12, 10))).untrusted == ()


def test_lines_written_before_p99_was_kept_still_load() -> None:
    path = resource_folder("hardware_profiles") / "local-ort" / "measurements.jsonl"
    data = next(d for d in map(json.loads, path.read_text().splitlines()) if d["kind"] == "latency")
    for key in ("p99", "p99_bounded", "outliers", "state", "untrusted"):
        data.pop(key, None)
    old = LatencyRecord.from_json(data)
    assert old.p99 is None and old.outliers is None and old.untrusted == ()
    assert LatencyRecord.from_json(json.loads(json.dumps(old.to_json()))) == old
