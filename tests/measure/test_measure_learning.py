"""What a profile learns: width steps, what to measure next, when it is enough; memory beside latency."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measure_subject import cut, features, pool, quick_config

from mtnas.base.errors import JobError
from mtnas.measure.active import choose_next
from mtnas.measure.config import MeasureConfig
from mtnas.measure.enough import Learning, learning_curve, why_stop
from mtnas.measure.fitting import non_negative
from mtnas.measure.learned_steps import alternatives, family
from mtnas.measure.pick import LEAST_ACTIVE, first_picks, next_picks, pick
from mtnas.measure.predictor import CostPredictor, calibrate, fit, held_out_errors
from mtnas.measure.profile import build_profile, load_profile

KINDS = ("conv3x3", "conv1x1.int8")
STEPS = (1, 8, 16, 32)


def stairs(count: int, rng: np.random.Generator, true: dict[str, int], noise: float = 0.01):
    """Names, features and costs of networks: two kinds of layers at three places, each kind with its own step."""
    names, columns, ms = [], [], np.full(count, 0.05)
    for kind in KINDS:
        for place in ("/4", "/8", "/16"):
            wide = rng.integers(8, 80, size=(count, 2)).astype(float)
            for step in STEPS:
                blocks = np.ceil(wide / step) * step
                names.append(f"class/{kind}@{place}/macs{step if step > 1 else ''}")
                columns.append(blocks.prod(axis=1) * 100)
            ms += columns[-len(STEPS) + STEPS.index(true[kind])] / rng.uniform(2e5, 6e5)
    return tuple(names), np.stack(columns, axis=1), ms * np.exp(noise * rng.standard_normal(count))


@pytest.mark.parametrize("true", [{"conv3x3": 16, "conv1x1.int8": 1}, {"conv3x3": 32, "conv1x1.int8": 8}])
def test_the_width_step_of_every_kind_is_found(true: dict[str, int]) -> None:
    names, features_NF, ms = stairs(120, np.random.default_rng(0), true)
    predictor = fit(features_NF[:80], ms[:80], 0, held_out=[], names=names)
    assert predictor.columns is not None and dict(predictor.columns.steps) == true
    errors = held_out_errors(predictor.predict(features_NF[80:]), ms[80:])
    assert errors.median_error_percent < 2.0
    again = CostPredictor.from_json(json.loads(json.dumps(predictor.to_json(), allow_nan=False)))
    assert again.predict(features_NF) == predictor.predict(features_NF)
    assert predictor.scores["step 16"] > 0 and "non-negative 1e-06 + gaussian process" in predictor.scores


def test_kinds_that_share_a_kernel_share_a_step() -> None:
    assert family("conv3x3s2+add.int8") == family("conv3x3.int8") == "conv3x3.int8" != family("conv3x3s2")
    assert [columns.name for columns in alternatives((), 5)] == ["all features"]


def test_intervals_follow_the_size_and_hold_what_they_promise() -> None:
    """Errors that are four times as large on small networks: one width for all would be wrong at both ends."""
    rng = np.random.default_rng(1)
    truth = np.exp(rng.uniform(0, math.log(16), 600))
    noise = 0.02 * (truth / 4) ** -0.5
    measured = truth * np.exp(noise * rng.standard_normal(600))
    width = calibrate(truth[None, :300], measured[:300], 0.9)
    assert -0.75 < width.slope < -0.25
    ratio = np.maximum(truth / measured, measured / truth)[300:] - 1.0
    inside = ratio <= width.at(truth[300:])
    assert 0.85 <= inside.mean() <= 0.95
    for part in (truth[300:] < 4, truth[300:] >= 4):
        assert 0.82 <= inside[part].mean() <= 0.98


def test_active_choice_is_not_worse_than_chance() -> None:
    """Few networks have layers of the last kind: chance hardly meets them, leverage does."""
    rng = np.random.default_rng(2)
    features_NF = rng.uniform(1, 2, size=(400, 12))
    features_NF[:, 6:] *= rng.random((400, 6)) < 0.06
    cost_N = features_NF @ rng.uniform(0.5, 2, 12) * np.exp(0.01 * rng.standard_normal(400))
    fresh_NF = rng.uniform(1, 2, size=(200, 12))

    def error(known: list[int]) -> float:
        linear = non_negative(features_NF[known], cost_N[known], 1e-6)
        truth = non_negative(features_NF, cost_N, 1e-9)
        return float(np.mean(np.abs(linear.predict(fresh_NF) / truth.predict(fresh_NF) - 1)))

    chosen, chance = [], []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(400).tolist()
        start = order[:16]
        more = choose_next(features_NF, start, cost_N[start], order[16:], 16)
        assert len(set(start + more)) == 32
        chosen.append(error(start + more))
        chance.append(error(order[:32]))
    assert np.mean(chosen) < np.mean(chance)


def test_what_is_held_out_is_measured_first_and_chooses_nothing() -> None:
    rng = np.random.default_rng(3)
    features_NF = rng.uniform(1, 2, size=(200, 6))
    everything = pick(features_NF.mean(axis=1), LEAST_ACTIVE + 16, 0.25, 0)
    first = first_picks(everything)
    assert {p for p in everything if p.held_out} <= set(first)
    assert first_picks(everything[:20]) == everything[:20]
    costs = {p.index: float(features_NF[p.index].sum()) for p in first}
    spoiled = {p.index: cost * (50.0 if p.held_out else 1.0) for p, cost in zip(first, costs.values(), strict=True)}
    batch = next_picks(features_NF, costs, first, 12, 0)
    assert batch == next_picks(features_NF, spoiled, first, 12, 0)
    assert [p.why for p in batch] == ["active"] * 6 + ["random"] * 6
    assert not {p.index for p in batch} & {p.index for p in first} and not any(p.held_out for p in batch)


def test_the_learning_curve_knows_what_more_would_gain() -> None:
    sizes = np.array([20, 40, 80, 160])
    learning = Learning(tuple(sizes.tolist()), tuple(np.sqrt(1.0 + 240.0 / sizes).tolist()))
    assert learning.error_percent(320) == pytest.approx(math.sqrt(1.75))
    assert learning.gain_percent(160) == pytest.approx(math.sqrt(2.5) - math.sqrt(1.75))
    assert "160 more would take off 0.26 points" in learning.sentence(160)
    flat = Learning((20, 40, 80), (2.0, 2.1, 2.2))
    assert flat.gain_percent(1000) == 0.0
    assert Learning.from_json(json.loads(json.dumps(learning.to_json(10)))) == learning


def test_errors_fall_as_networks_are_added() -> None:
    names, features_NF, ms = stairs(120, np.random.default_rng(4), {"conv3x3": 16, "conv1x1.int8": 16}, noise=0.05)
    learning = learning_curve(features_NF, ms, 0, names)
    assert learning.networks == (38, 58, 77, 96)
    assert learning.errors_percent[0] > learning.errors_percent[-1] > 2.0


@pytest.mark.parametrize(
    ("networks", "error", "measured", "elapsed_s", "reason"),
    [
        (96, 1.0, 80, 0.0, "good enough"),
        (96, 3.0, 80, 0.0, ""),
        (10, 0.1, 20, 0.0, ""),
        (96, 3.0, 150, 0.0, "as many as asked"),
        (96, 3.0, 80, 61.0, "time is up"),
    ],
)
def test_measuring_stops_for_a_reason(
    networks: int, error: float, measured: int, elapsed_s: float, reason: str
) -> None:
    config = MeasureConfig(samples=150, target_percent=2.0, time_limit_s=60.0)
    assert why_stop(Learning((networks,), (error,)), measured, elapsed_s, config) == reason


def test_a_long_profile_chooses_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = quick_config(LEAST_ACTIVE, target_percent=0.0, rounds=3, max_rounds=3, round_ms=0.3, cost_samples=7)
    networks = pool(160)
    profile = build_profile(cut, features, networks, config, tmp_path)
    assert len(profile.points) == LEAST_ACTIVE and sum(p.why == "active" for p in profile.points) >= 8
    assert profile.learning is not None and profile.learning.reason == "as many as asked"
    lines = (tmp_path / "measurements.jsonl").read_text().splitlines(keepends=True)
    latencies = [i for i, line in enumerate(lines) if json.loads(line)["kind"] == "latency"]
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "measurements.jsonl").write_text("".join(lines[: latencies[-1] - 4]))
    again = build_profile(cut, features, networks, config, tmp_path / "again")
    assert {p.selection for p in again.points} == {p.selection for p in profile.points}
    memory = profile.predict_cost("memory_mb", np.asarray([features(networks[0])]))[0]
    assert memory.unit == "mb" and memory.low < memory.value < memory.high
    with pytest.raises(JobError, match="energy_mj") as caught:
        profile.predict_cost("energy_mj", np.asarray([features(networks[0])]))
    assert "device.cost_samples" in caught.value.cure
    loaded = load_profile(tmp_path)
    assert loaded.learning == profile.learning and loaded.input_shape == (1, 3, 24, 24)
    assert loaded.predict_cost("memory_mb", np.asarray([features(networks[0])]))[0] == memory


def test_another_input_size_is_refused_and_an_old_profile_is_told(
    profile, profile_folder: Path, tmp_path: Path
) -> None:
    assert load_profile(profile_folder, input_shape=(1, 3, 24, 24)).points == profile.points
    with pytest.raises(JobError, match=r"\(1, 3, 48, 48\)"):
        load_profile(profile_folder, input_shape=(1, 3, 48, 48))
    old = replace(profile, created="2020-01-01T00:00:00+00:00")
    old.save(tmp_path)
    with pytest.warns(UserWarning, match="days old"):
        load_profile(tmp_path, quick_config())
