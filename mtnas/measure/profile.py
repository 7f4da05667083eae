"""Builds a profile: picks sub-networks, measures them, journals each, fits the predictor. Resumes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.files import write_text
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress, Silent
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import check_precision, matching_device
from mtnas.measure.pick import Pick, pick
from mtnas.measure.predictor import LatencyPredictor, fit
from mtnas.measure.profile_files import (
    DEVICE,
    JOURNAL,
    SCHEMA,
    Profile,
    ProfilePoint,
    anchor_ms,
    check_environment,
    header,
    here,
    load_profile,
    read_self_test,
    write_predictor,
)
from mtnas.measure.protocol import Bench, SelfTest, self_test
from mtnas.measure.record import Environment, now

__all__ = ["Profile", "ProfilePoint", "build_profile", "fit_points", "load_profile"]

Cut = Callable[[Selection], bytes]
Features = Callable[[Selection], np.ndarray]


def build_profile(
    cut: Cut,
    features: Features,
    selections: Sequence[Selection],
    config: MeasureConfig,
    out: Path,
    *,
    progress: Progress | None = None,
) -> Profile:
    """Measure some of these selections and fit a predictor; the same call after an interruption goes on.

    Args:
        cut: a selection's ONNX bytes; the weights do not matter.
        features: a selection's features, as `ElasticGraph.features`.
        selections: the pool; `config.samples` of them are measured, the smallest and the largest always. The size
            that orders the pool is the mean of all features, each divided by its largest value.
        config: how to measure.
        out: folder of the profile.
        progress: where to report.
    """
    progress, device = progress or Silent(), matching_device(config)
    check_precision(out, config)
    pool = list(dict.fromkeys(selections))
    features_NF = np.asarray([features(selection) for selection in pool], dtype=float)
    picks = pick(sizes_of(features_NF), config.samples, config.holdout, config.seed)
    journal = Journal(out / JOURNAL)
    done = _resume(journal, config, {pool[p.index].id: features_NF[p.index] for p in picks})
    write_text(out / DEVICE, device.to_yaml())
    wanted = [p for p in picks if pool[p.index].id not in done]
    with progress.task("profiling", len(picks), done=len(picks) - len(wanted)) as bar:
        for point in _measure_points(cut, pool, features_NF, wanted, config, progress):
            journal.append(point.to_json())
            done[point.selection.id] = point
            bar.advance(ms=round(point.record.p50.value, 4))
    points = tuple(replace(done[pool[p.index].id], why=p.why, held_out=p.held_out) for p in picks)
    aa = _self_test(journal, cut, points, config, progress)
    profile = Profile(device, points[0].record.environment, points, aa, fit_points(points, config), now())
    write_predictor(profile, out)
    return profile


def _measure_points(
    cut: Cut,
    pool: Sequence[Selection],
    features_NF: np.ndarray,
    wanted: Sequence[Pick],
    config: MeasureConfig,
    progress: Progress,
) -> Iterator[ProfilePoint]:
    """Points as they settle, cut and measured in groups that share rounds."""
    if not wanted:
        return
    with Bench(config, progress=progress) as bench:
        for start in range(0, len(wanted), config.together):
            group = {pool[p.index].id: p for p in wanted[start : start + config.together]}
            for record in bench.measure({name: cut(pool[p.index]) for name, p in group.items()}):
                chosen = group[record.name]
                row = tuple(float(x) for x in features_NF[chosen.index])
                yield ProfilePoint(pool[chosen.index], row, chosen.why, chosen.held_out, record)


def sizes_of(features_NF: np.ndarray) -> np.ndarray:
    """One size per network: the mean of all features, each as a share of its largest value."""
    return (features_NF / np.maximum(features_NF.max(axis=0), 1e-12)).mean(axis=1)


def fit_points(points: Sequence[ProfilePoint], config: MeasureConfig) -> LatencyPredictor:
    """Fit on the points that are not held out; with `correct_drift`, on latencies at the anchor's usual speed."""
    ms_N = np.asarray([point.record.p50.value for point in points])
    if config.correct_drift:
        ms_N = ms_N * anchor_ms(points) / np.asarray([point.record.anchor_ms for point in points])
    away = [i for i, point in enumerate(points) if point.held_out]
    features_NF = np.asarray([point.features_F for point in points])
    return fit(features_NF, ms_N, config.seed, held_out=away, coverage=config.coverage)


def _resume(journal: Journal, config: MeasureConfig, features: Mapping[str, np.ndarray]) -> dict[str, ProfilePoint]:
    """What is already measured, after checking that it was measured here and on the same network."""
    records, current = journal.records(), here(config)
    if not records:
        journal.append(header(current))
        return {}
    if records[0].get("kind") != "environment" or records[0].get("schema") != SCHEMA:
        raise CheckpointError(f"a journal of schema {SCHEMA!r}", where=str(journal.path), cure="use a new folder")
    check_environment(Environment.from_json(records[0]["environment"]), current, journal.path)
    points = [ProfilePoint.from_json(record) for record in records if record["kind"] == "latency"]
    done = {point.selection.id: point for point in points if point.selection.id in features}
    for name, point in done.items():
        known = np.asarray(point.features_F)
        if known.shape != features[name].shape or not np.allclose(known, features[name], rtol=1e-9):
            raise JobError(
                "a profile of the same network",
                received=f"other features for selection {name}",
                where=str(journal.path),
                cure="the model or the input size changed: use a new folder",
            )
    return done


def _self_test(
    journal: Journal, cut: Cut, points: Sequence[ProfilePoint], config: MeasureConfig, progress: Progress
) -> SelfTest:
    """A/A on the largest network, once per profile."""
    for record in journal.records():
        if record["kind"] == "self-test":
            return read_self_test(record)
    largest = next(point for point in points if point.why == "largest")
    result = self_test(cut(largest.selection), config, progress=progress)
    journal.append({"kind": "self-test", **result.to_json()})
    return result
