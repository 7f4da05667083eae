"""The protocol on real networks: order of latencies, what records hold, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtnas.base.errors import DeviceMissing, JobError, ModelError
from mtnas.device import timing
from mtnas.device.timing import one_round, runs_for, warm_up
from mtnas.measure.anchor import anchor_model, empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.lock import exclusive
from mtnas.measure.protocol import drift_percent, measure, open_session, self_test
from mtnas.measure.record import LatencyRecord, make_record
from mtnas.measure.runs import Runs


def test_a_thirty_times_larger_network_is_slower(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    records = measure({"small": chain(8), "large": chain(48)}, quick)
    small, large = records["small"], records["large"]
    assert list(records) == ["small", "large"]
    assert small.p50.high < large.p50.low
    assert small.relative.value < large.relative.value
    for record in (small, large):
        assert record.p50.low <= record.p50.value <= record.p50.high
        assert record.p50.value <= record.p95.value and record.p95.low <= record.p95.value <= record.p95.high
        assert record.p50.unit == "ms" and record.p50.device == "local-ort" and record.p95.statistic == "p95"


def test_records_keep_every_run_and_the_circumstances(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    record = measure({"net": chain(16)}, quick)["net"]
    rounds = len(record.runs_ms_RN)
    assert quick.rounds <= rounds <= quick.max_rounds == 10
    assert len(record.anchor_ms_R) == rounds
    assert record.p50.count == sum(len(runs) for runs in record.runs_ms_RN) >= rounds * quick.round_runs
    assert record.p50.value == pytest.approx(np.median(record.runs.medians_R), rel=1e-4)
    assert record.environment.threads == 1 and record.environment.runtime_version[0].isdigit()
    assert LatencyRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert not (record.environment.differences(record.environment))
    assert record.environment.differences(replace(record.environment, threads=2)) == ["threads: 1 there, 2 here"]


def test_cores_asked_for_are_kept_and_recorded(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not pin processes")
    before = os.sched_getaffinity(0)
    core = min(before)
    record = measure({"net": chain(8)}, replace(quick, affinity=(core,)))["net"]
    assert record.environment.affinity == (core,) and record.environment.cores == 1
    assert os.sched_getaffinity(0) == before
    assert LatencyRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert "affinity" in record.environment.differences(replace(record.environment, affinity=()))[0]
    with pytest.raises(JobError, match="affinity"):
        measure({"net": chain(8)}, replace(quick, affinity=(99999,)))


def test_groups_larger_than_a_round_are_split(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    models = {f"net{i}": chain(8) for i in range(5)}
    assert list(measure(models, replace(quick, together=2))) == list(models)


def test_a_wide_interval_or_a_moving_anchor_makes_a_record_unstable(quick: MeasureConfig) -> None:
    environment = measure({"net": empty_model()}, quick)["net"].environment
    record = make_record("x", Runs.of([[1.0, 1.0]] * 6), [1.0] * 6, "the anchor moved by 9.0 %", quick, environment)
    assert not record.stable and "anchor" in record.note
    assert make_record("x", Runs.of([[1.0, 1.0]] * 6), [1.0] * 6, "", quick, environment).stable


def test_an_interval_that_cannot_be_reached_stops_at_the_cap(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    record = measure({"net": chain(8)}, replace(quick, interval_percent=1e-9, retries=0))["net"]
    assert len(record.runs_ms_RN) == quick.max_rounds
    assert not record.stable and "no narrower after 10 rounds" in record.note


def test_drift_compares_the_ends() -> None:
    assert drift_percent(np.array([1.0] * 5 + [5.0] + [1.0] * 6)) == 0.0
    assert drift_percent(np.array([1.0] * 6 + [1.1] * 6)) == pytest.approx(10.0)
    assert drift_percent(np.array([1.1] * 6 + [1.0] * 6)) == pytest.approx(10.0)


def test_self_test_gives_a_resolution_that_holds_its_own_ratio(
    chain: Callable[..., bytes], quick: MeasureConfig
) -> None:
    result = self_test(chain(16), quick)
    assert result.ratio.low <= result.ratio.value <= result.ratio.high
    assert result.resolution_percent >= 100 * abs(result.ratio.value - 1) - 1e-9
    assert 0 < result.overhead_ms < 1
    assert json.loads(json.dumps(result.to_json()))["schema"] == "self-test/1"


def test_rounds_take_turns_in_changing_order() -> None:
    seen: list[str] = []
    calls = {name: (lambda name=name: seen.append(name)) for name in "abcd"}
    rng, orders = random.Random(0), set()
    for _ in range(12):
        seen.clear()
        times = one_round(calls, dict.fromkeys(calls, 2), rng)
        assert sorted(seen) == sorted("abcd" * 3) and all(len(runs) == 2 for runs, _ in times.values())
        orders.add(tuple(seen[::3]))
        assert all(len(set(seen[i : i + 3])) == 1 for i in range(0, 12, 3))
    assert len(orders) > 4


def test_warm_up_goes_on_until_runs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    told_ms = iter([20.0, 10.0, 5.0, *[1.0] * 100])
    monkeypatch.setattr(timing, "time_runs", lambda call, count: ([next(told_ms)] * count, []))
    assert warm_up(lambda: None, least_s=0.0, most_s=1.0, tolerance=0.5) == (1.0, True)
    assert next(told_ms) == 1.0 and len(list(told_ms)) == 96  # three that agree were enough
    assert runs_for(1.0, 8.0, 3, 100) == 8
    assert runs_for(1e-9, 8.0, 3, 100) == 100
    assert runs_for(100.0, 8.0, 3, 100) == 3


def test_anchor_is_the_same_bytes_in_every_process() -> None:
    code = "import hashlib, mtnas.measure.anchor as a; print(hashlib.sha256(a.anchor_model()).hexdigest())"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }

    assert runs == {hashlib.sha256(anchor_model()).hexdigest() + "\n"}


def test_unknown_runtime_names_the_nearest(quick: MeasureConfig) -> None:
    with pytest.raises(JobError, match="onnxruntime"):
        open_session(anchor_model(), replace(quick, runtime="onnxruntim"))


def test_unreadable_model_is_a_user_error_and_frees_the_machine(quick: MeasureConfig) -> None:
    with pytest.raises(ModelError):
        measure({"bad": b"nothing"}, quick)
    measure({"good": empty_model()}, replace(quick, lock_wait_s=0.5))


def test_two_measurements_at_once_wait_for_each_other(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        exclusive(1.0, path=lock),
        pytest.raises(DeviceMissing, match="another measurement"),
        exclusive(0.1, path=lock),
    ):
        pass
    with exclusive(0.1, path=lock):
        pass


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"threads": 0}, "device.threads"),
        ({"rounds": 50, "max_rounds": 40}, "device.rounds"),
        ({"holdout": 1.0}, "device.holdout"),
        ({"statistic": "mean"}, "device.statistic"),
        ({"warmup_ms": 2000.0}, "device.warmup_ms"),
    ],
)
def test_config_is_checked(wrong: dict[str, object], where: str) -> None:
    with pytest.raises(JobError, match=where):
        MeasureConfig(**wrong)


def test_measuring_imports_no_torch() -> None:
    rooms = "mtnas.measure.protocol, mtnas.device.main"
    code = f"import sys, {rooms}; print(sorted({{'torch', 'onnxruntime', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
