"""Time estimates of what is measured: nothing for what is off, more for more of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from mtnas.base.budget import Budget
from mtnas.job.schema import Job
from mtnas.measure.config import MeasureConfig
from mtnas.quantize.config import QuantizeConfig
from mtnas.stages.estimate_measuring import (
    candidates_s,
    certifying_s,
    energy_s,
    int8_copies_s,
    memory_s,
    networks_s,
    parts_s,
    probing_s,
    profiling_s,
)


def context(job: Job, tasks: str = "abc", precision: str = "float32", layer: nn.Module | None = None) -> Any:
    return SimpleNamespace(job=job, tasks=dict.fromkeys(tasks), precision=precision, plain_model=layer or nn.Identity())


def changed(job: Job, section: str, **values: Any) -> Job:
    return replace(job, **{section: replace(getattr(job, section), **values)})


def test_a_probe_costs_time_only_where_it_is_asked_for() -> None:
    stated, probed = changed(Job(), "space", round_to=16), changed(Job(), "space", round_to="probe")
    float_alone = replace(probed, quantize=QuantizeConfig(enabled=False))
    assert probing_s(context(stated)) == 0.0
    assert probing_s(context(probed)) == pytest.approx(2 * probing_s(context(float_alone)))
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    assert probing_s(context(probed, layer=depthwise)) == pytest.approx(1.5 * probing_s(context(probed)))


def test_int8_copies_are_measured_beside_a_profile_of_float32_alone() -> None:
    job = Job()
    assert int8_copies_s(context(job), 1.0) > networks_s(job.device, 1.0, job.device.int8_samples)
    assert int8_copies_s(context(job, precision="int8"), 1.0) == 0.0
    assert int8_copies_s(context(changed(job, "device", int8_samples=0)), 1.0) == 0.0
    assert int8_copies_s(context(changed(job, "quantize", enabled=False)), 1.0) == 0.0


def test_parts_cost_more_with_every_task() -> None:
    job = Job()
    assert parts_s(context(job, "a"), 2.0) < parts_s(context(job, "ab"), 2.0) < parts_s(context(job, "abcd"), 2.0)


def test_memory_of_a_profile_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.stages.estimate_measuring.counts_energy", lambda _: False)
    job, more = Job(), changed(Job(), "device", cost_samples=10)
    assert profiling_s(context(more), 2.0, 1.0) - profiling_s(context(job), 2.0, 1.0) == pytest.approx(
        10 * memory_s(job.device)
    )


def test_limits_that_no_predictor_tells_are_measured_for_every_candidate() -> None:
    job, config = Job(), MeasureConfig()
    costly = replace(job, budget=Budget.parse({"memory_mb": 20, "energy_mj": 5}))
    per_network = candidates_s(costly, 1.0, 1) - candidates_s(job, 1.0, 1)
    assert per_network == pytest.approx(memory_s(config) + energy_s(config))
    assert candidates_s(costly, 1.0, 8) == pytest.approx(8 * candidates_s(costly, 1.0, 1))


def test_a_certificate_of_percents_measures_the_full_network_too() -> None:
    absolute, percents = Budget.parse({"latency_ms": 5.0}), Budget.parse({"latency_ms": "50%"})
    found = [certifying_s(replace(Job(), budget=budget), 1.0) for budget in (absolute, percents)]
    assert found[1] - found[0] == pytest.approx(networks_s(MeasureConfig(), 2.0))
