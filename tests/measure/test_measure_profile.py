"""Profiles of a real small network: what is measured, kept, resumed and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from measure_subject import FULL, cut, features, pool, quick_config, selection

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.groups import Selection
from mtnas.measure.pick import pick
from mtnas.measure.profile import Profile, build_profile, fit_points, load_profile


def journal_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines()]


def never(chosen: Selection) -> bytes:
    raise AssertionError("measured again")


def test_extremes_are_measured_and_held_out_networks_are_others(profile: Profile) -> None:
    assert len(profile.points) == 16
    assert profile.extreme("largest").selection == selection(*FULL)
    assert profile.extreme("smallest").selection == selection(*(f // 4 for f in FULL))
    assert profile.extreme("smallest").record.p50.high < profile.extreme("largest").record.p50.low
    held_out = [point for point in profile.points if point.held_out]
    assert len(held_out) == profile.predictor.held_out.count == round(0.25 * 14)
    assert not {"largest", "smallest"} & {point.why for point in held_out}


def test_a_stored_profile_is_the_same_profile(profile: Profile, profile_folder: Path, tmp_path: Path) -> None:
    questions = np.asarray([features(s) for s in pool()[:5]])
    loaded = load_profile(profile_folder, quick_config())
    assert loaded.points == profile.points and loaded.self_test == profile.self_test
    assert loaded.predict(questions) == profile.predict(questions)
    loaded.save(tmp_path / "copy")
    assert load_profile(tmp_path / "copy").to_json() == loaded.to_json()
    point = profile.points[3]
    assert loaded.measured(point.selection) == point.record and loaded.measured(selection(1, 1, 1, 1)) is None


def test_stage_result_holds_what_the_report_reads(profile: Profile) -> None:
    data = json.loads(json.dumps(profile.to_json(), allow_nan=False))
    assert data["schema"] == "profile-stage/1" and data["threads"] == 1 and data["device"] == "local-ort"
    assert data["largest"]["kind"] == "measured" and data["aa_resolution_percent"] >= 0
    points = data["predictor"]["points"]
    assert len(points) == 16 and sum(p["held_out"] for p in points) == data["predictor"]["held_out"]["count"]
    assert all(p["low"] < p["predicted"] < p["high"] for p in points)
    assert os.sep + "work" not in json.dumps(data)


def test_the_same_call_again_measures_nothing(profile: Profile, profile_folder: Path) -> None:
    before = (profile_folder / "measurements.jsonl").read_bytes()
    again = build_profile(never, features, pool(), quick_config(), profile_folder)
    assert (profile_folder / "measurements.jsonl").read_bytes() == before
    assert again.points == profile.points and again.predictor.to_json() == profile.predictor.to_json()


def test_killed_in_the_middle_it_goes_on_without_repeating(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("measure_subject.py")), str(tmp_path), "14"]
    journal = tmp_path / "measurements.jsonl"
    child = subprocess.Popen(command)
    while child.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 6):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    left = journal.read_bytes()
    durable = left[: left.rfind(b"\n") + 1]
    journal.write_bytes(durable + b'{"kind": "latency", "selec')  # as torn as a power cut leaves it
    assert not (tmp_path / "predictor.json").exists()
    profile = build_profile(cut, features, pool(), quick_config(14), tmp_path)
    assert journal.read_bytes().startswith(durable)
    ids = [record["name"] for record in journal_lines(tmp_path) if record["kind"] == "latency"]
    assert len(ids) == len(set(ids)) == 14 == len(profile.points)
    assert load_profile(tmp_path).points == profile.points


def test_more_samples_later_keep_the_old_ones(tmp_path: Path) -> None:
    build_profile(cut, features, pool(), quick_config(8), tmp_path)
    before = (tmp_path / "measurements.jsonl").read_bytes()
    larger = build_profile(cut, features, pool(), quick_config(10), tmp_path)
    assert (tmp_path / "measurements.jsonl").read_bytes().startswith(before)
    assert len(larger.points) == 10 and load_profile(tmp_path).points == larger.points


@pytest.mark.parametrize(
    ("key", "value"), [("runtime_version", "1.0.0"), ("threads", 2), ("cpu", "another CPU"), ("features", ["asimd"])]
)
def test_other_circumstances_are_refused(
    profile: Profile, profile_folder: Path, tmp_path: Path, key: str, value: object
) -> None:
    text = (profile_folder / "measurements.jsonl").read_text().splitlines()
    header = json.loads(text[0])
    header["environment"][key] = value
    (tmp_path / "measurements.jsonl").write_text("\n".join([json.dumps(header), *text[1:]]) + "\n")
    with pytest.raises(JobError, match=key) as caught:
        build_profile(never, features, pool(), quick_config(), tmp_path)
    assert "profile this machine again" in caught.value.cure


def test_loading_checks_circumstances_only_when_asked(profile: Profile, tmp_path: Path) -> None:
    moved = replace(profile, environment=replace(profile.environment, runtime_version="1.0.0"))
    moved.save(tmp_path)
    assert load_profile(tmp_path).environment.runtime_version == "1.0.0"
    with pytest.raises(JobError, match="runtime_version: 1.0.0 there"):
        load_profile(tmp_path, quick_config())


def test_another_network_in_the_same_folder_is_refused(profile: Profile, profile_folder: Path) -> None:
    with pytest.raises(JobError, match="same network"):
        build_profile(never, lambda s: 2 * features(s), pool(), quick_config(), profile_folder)


def test_a_changed_measurement_is_noticed(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path)
    with (tmp_path / "measurements.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(CheckpointError, match="changed"):
        load_profile(tmp_path)


def test_age_counts_from_the_fit(profile: Profile) -> None:
    created = datetime.fromisoformat(profile.created)
    assert profile.age_days(created + timedelta(days=3)) == pytest.approx(3.0)
    assert 0 <= profile.age_days(datetime.now(UTC)) < 1


def test_drift_is_taken_out_of_what_the_predictor_learns(profile: Profile) -> None:
    """Half the networks measured while the machine ran at half speed: anchor and network both took twice as long."""

    def slowed(point, factor: float):
        record, p50 = point.record, point.record.p50
        slow = replace(p50, value=factor * p50.value, low=factor * p50.low, high=factor * p50.high)
        anchor = tuple(factor * t for t in record.anchor_ms_R)
        return replace(point, record=replace(record, p50=slow, anchor_ms_R=anchor))

    drifted = [slowed(point, 2.0 if i % 2 else 1.0) for i, point in enumerate(profile.points)]
    corrected = fit_points(drifted, quick_config())
    raw = fit_points(drifted, quick_config(correct_drift=False))
    assert corrected.cross_validated_percent < 0.7 * raw.cross_validated_percent


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40, 100])
def test_picks_are_distinct_and_reach_both_ends(count: int) -> None:
    sizes = np.random.default_rng(0).normal(10, 1, size=60)
    picks = pick(sizes, count, 0.25, 0)
    chosen = [p.index for p in picks]
    assert len(chosen) == len(set(chosen)) == min(count, 60)
    assert picks[0].why == "largest" and chosen[0] == int(np.argmax(sizes))
    assert count < 2 or (picks[1].why == "smallest" and chosen[1] == int(np.argmin(sizes)))
    assert pick(sizes, count, 0.25, 0) == picks
    assert not any(p.held_out for p in picks[:2])


def test_spread_picks_reach_where_random_ones_are_rare() -> None:
    sizes = np.random.default_rng(1).normal(10, 1, size=400)
    spread = [sizes[p.index] for p in pick(sizes, 42, 0.25, 0) if p.why == "spread"]
    random = [sizes[p.index] for p in pick(sizes, 42, 0.25, 0) if p.why == "random"]
    assert np.std(spread) > 1.3 * np.std(random)


def test_equal_sizes_and_tiny_pools_are_fine() -> None:
    assert len(pick([1.0] * 5, 4, 0.25, 0)) == 4
    assert [p.why for p in pick([3.0], 5, 0.25, 0)] == ["largest"]


def test_too_small_a_pool_says_what_to_do(tmp_path: Path, chain: Callable[..., bytes]) -> None:
    with pytest.raises(JobError, match="at least 5 measured"):
        build_profile(cut, features, pool()[:3], quick_config(), tmp_path)
