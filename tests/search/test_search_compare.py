"""Paired gains against numbers worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

from mtnas.base.errors import JobError
from mtnas.search.compare import compare, mean_history, paired_gain, t_interval

OURS = {0: [0.1, 0.5], 1: [0.2, 0.7], 2: [0.3, 0.6]}
RIVAL = {0: [0.1, 0.4], 1: [0.1, 0.5], 2: [0.3, 0.3]}


def test_gain_and_interval_by_hand() -> None:
    gain = paired_gain(OURS, RIVAL)  # gains 0.1, 0.2, 0.3: mean 0.2, s = 0.1, t(0.975, 2) = 4.302653
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert gain.mean == pytest.approx(0.2)
    assert (gain.low, gain.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    assert gain.count == 3 and gain.verdict == "no difference detected"


@pytest.mark.parametrize(("count", "t95"), [(2, 12.706205), (3, 4.302653), (5, 2.776445), (10, 2.262157)])
def test_t_quantiles_of_the_tables(count: int, t95: float) -> None:
    values = [float(i) for i in range(count)]
    mean = sum(values) / count
    s = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1))
    low, high = t_interval(values)
    assert high - mean == pytest.approx(t95 * s / math.sqrt(count), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)


def test_verdicts() -> None:
    up = {seed: [1.0 + 0.01 * seed] for seed in range(4)}
    flat = {seed: [0.5] for seed in range(4)}
    assert paired_gain(up, flat).verdict == "better"
    assert paired_gain(flat, up).verdict == "worse"
    assert paired_gain({0: [1.0], 1: [1.0]}, {0: [0.5], 1: [0.5]}).verdict == "not claimed"
    single = paired_gain({0: [1.0]}, {0: [0.5]})
    assert single.verdict == "not claimed" and single.low == -math.inf
    assert json.loads(json.dumps(single.to_json(), allow_nan=False))["low"] is None


def test_relative_gain_is_percent_of_the_rival() -> None:
    gain = paired_gain(OURS, RIVAL, relative=True)
    assert gain.gains == pytest.approx((25.0, 40.0, 100.0))
    assert "%" in str(gain)
    with pytest.raises(JobError, match="above zero"):
        paired_gain({0: [1.0]}, {0: [0.0]}, relative=True)


def test_equal_evaluations_only() -> None:
    longer = {seed: [*history, 9.0] for seed, history in OURS.items()}
    assert paired_gain(longer, RIVAL) == paired_gain(OURS, RIVAL)
    assert paired_gain(OURS, RIVAL, at=1).gains == pytest.approx((0.0, 0.1, 0.0))
    with pytest.raises(JobError, match="1 to 2"):
        paired_gain(OURS, RIVAL, at=3)
    with pytest.raises(JobError, match="same seeds"):
        paired_gain(OURS, {0: [1.0]})
    with pytest.raises(JobError, match="same seeds"):
        paired_gain({}, {})


def test_table_of_lines() -> None:
    result = json.loads(json.dumps(compare({"nsga2": OURS, "random": RIVAL}, "random")))
    assert result["evaluations"] == 2
    assert result["lines"]["nsga2"]["mean_history"] == pytest.approx([0.2, 0.6])
    assert result["lines"]["nsga2"]["final"] == {"0": 0.5, "1": 0.7, "2": 0.6}
    assert result["lines"]["nsga2"]["gain"]["mean"] == pytest.approx(0.2)
    assert result["lines"]["nsga2"]["gain_percent"]["unit"] == "percent"
    assert "gain" not in result["lines"]["random"]
    assert mean_history(RIVAL) == pytest.approx([0.5 / 3, 0.4])
    with pytest.raises(JobError, match="baseline"):
        compare({"nsga2": OURS}, "random")
