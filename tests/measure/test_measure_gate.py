"""The never-slower gate: on real networks ten times apart, and on synthetic rounds."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import judge, never_slower
from mtnas.measure.runs import Runs

NAMES = ("before", "before again", "after", "after again")


def rounds(rng: np.random.Generator, factors: tuple[float, ...], weather: float = 0.2) -> dict[str, Runs]:
    """Thirty rounds of ten runs; the machine's speed wanders, each round shares it."""
    shared = 1.0 + weather * rng.random((30, 1))
    return {n: Runs.of(f * shared * (1.0 + 0.01 * rng.standard_normal((30, 10)))) for n, f in zip(NAMES, factors)}


def test_ten_times_the_work_is_refused_and_a_tenth_accepted(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    small, large = chain(8), chain(64)
    worse, better = never_slower(small, large, quick), never_slower(large, small, quick)
    assert worse.verdict == "slower" and not worse.passed and worse.ratio > 1 and worse.text.startswith("slower")
    assert better.verdict == "faster" and better.passed and better.ratio < 1
    assert better.before.value > better.after.value and better.low <= better.ratio <= better.high
    assert json.loads(json.dumps(better.to_json()))["verdict"] == "faster"


def test_equal_networks_never_win_and_seldom_differ_at_all(quick: MeasureConfig) -> None:
    rng = np.random.default_rng(0)
    words = [judge(rounds(rng, (1.0, 1.0, 1.0, 1.0)), quick).verdict for _ in range(40)]
    assert words == ["equal"] * 40


def test_a_small_real_gain_is_found_through_the_weather(quick: MeasureConfig) -> None:
    rng = np.random.default_rng(1)
    verdicts = [judge(rounds(rng, (1.0, 1.0, 0.95, 0.95)), quick) for _ in range(10)]
    assert [v.verdict for v in verdicts] == ["faster"] * 10
    assert all(v.low < 0.95 < v.high for v in verdicts[:3]) and verdicts[0].ratio == pytest.approx(0.95, abs=0.01)


def test_a_gain_within_what_two_copies_differ_by_is_not_claimed(quick: MeasureConfig) -> None:
    rng = np.random.default_rng(2)
    verdict = judge(rounds(rng, (1.0, 1.06, 1.0, 0.99)), quick)  # luck of placement is worth 6 % here
    assert verdict.verdict == "equal" and verdict.resolution_percent > 5.0
    assert "no difference that could be claimed" in verdict.text


def test_differences_below_the_claim_limit_are_equal_on_a_silent_machine(quick: MeasureConfig) -> None:
    silent = {n: Runs.of(np.full((10, 5), value)) for n, value in zip(NAMES, (1.0, 1.0, 0.995, 0.995))}
    assert judge(silent, quick).verdict == "equal"
    silent = {n: Runs.of(np.full((10, 5), value)) for n, value in zip(NAMES, (1.0, 1.0, 1.02, 1.02))}
    assert judge(silent, quick).verdict == "slower"
