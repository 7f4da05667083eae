"""Builds a profile: picks sub-networks, measures them, journals each, fits the predictor. Resumes by itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.files import write_text
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress, Silent, Task
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import check_precision, matching_device
from mtnas.measure.enough import Learning, learning_curve, why_stop
from mtnas.measure.pick import Pick, first_picks, next_picks, pick
from mtnas.measure.predictor import CostPredictor, fit
from mtnas.measure.profile_costs import fit_costs
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
    input_shape,
    load_profile,
    read_self_test,
    write_predictor,
)
from mtnas.measure.protocol import Bench, SelfTest, self_test
from mtnas.measure.reach.base import Model
from mtnas.measure.reach.open import hold
from mtnas.measure.record import Environment, now

__all__ = ["Profile", "ProfilePoint", "build_profile", "fit_points", "load_profile"]

Cut = Callable[[Selection], Model]
Features = Callable[[Selection], np.ndarray]

#: With fewer training networks there is no learning curve, and time limits wait.
_LEAST_CURVE = 10


def build_profile(
    cut: Cut,
    features: Features,
    selections: Sequence[Selection],
    config: MeasureConfig,
    out: Path,
    *,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> Profile:
    """Measure some of these selections and fit a predictor; the same call after an interruption goes on.

    Args:
        cut: a selection's ONNX bytes, or what the device cuts them from; the weights do not matter.
        features: a selection's features, as `ElasticGraph.features`.
        selections: the pool; at most `config.samples` of them are measured, the smallest and the largest always. The
            size that orders the pool is the mean of all features, each divided by its largest value.
        config: how to measure, and when it is enough.
        out: folder of the profile.
        names: of the features, as `ElasticGraph.feature_names`; with them the predictor learns the width steps.
        progress: where to report.
    """
    progress, device = progress or Silent(), matching_device(config)
    check_precision(out, config)
    pool = list(dict.fromkeys(selections))
    features_NF = np.asarray([features(selection) for selection in pool], dtype=float)
    journal = Journal(out / JOURNAL)
    done = _resume(journal, config, {s.id: row for s, row in zip(pool, features_NF)})
    write_text(out / DEVICE, device.to_yaml())
    building = _Building(cut, pool, features_NF, tuple(names), config, journal, done, progress)
    with hold(config, progress):
        points, learning = building.run()
        aa = _self_test(journal, cut, points, config, progress)
        costs = fit_costs(journal, cut, points, config, tuple(names), progress)
    predictor = fit_points(points, config, names)
    profile = Profile(
        device,
        points[0].record.environment,
        points,
        aa,
        predictor,
        now(),
        costs=costs,
        learning=learning,
        names=tuple(names),
        input_shape=_journalled_shape(journal),
    )
    write_predictor(profile, out)
    return profile


@dataclass
class _Building:
    """Batches of measurements, each chosen from what the ones before it taught. N = networks of the pool.

    What comes next is a function of complete batches alone, so that an interrupted profile makes the same choices.
    """

    cut: Cut
    pool: Sequence[Selection]
    features_NF: np.ndarray
    names: tuple[str, ...]
    config: MeasureConfig
    journal: Journal
    done: dict[str, ProfilePoint]
    progress: Progress

    def run(self) -> tuple[tuple[ProfilePoint, ...], Learning | None]:
        """Every measured point with its role, and the learning curve at the end."""
        config, started = self.config, time.monotonic()
        count = min(config.samples, len(self.pool))
        everything = pick(sizes_of(self.features_NF), count, config.holdout, config.seed)
        waiting = list(first_picks(everything))
        picks: list[Pick] = []
        learning: Learning | None = None
        with self.progress.task("profiling", count) as bar:
            while True:
                batch, waiting = waiting[: config.batch], waiting[config.batch :]
                self._measure(batch, bar)
                picks += batch
                elapsed_s = time.monotonic() - started
                if not waiting:
                    learning = self._learning(picks)
                if reason := self._why_stop(learning, waiting, len(picks), count, elapsed_s):
                    break
                if not waiting:
                    room = min(config.batch, count - len(picks))
                    waiting = list(next_picks(self.features_NF, self._costs(picks), picks, room, config.seed))
        learning = learning or self._learning(picks)
        if learning is not None:
            learning = replace(learning, reason=reason)
            self.progress.note(f"profile: {learning.sentence(len(picks))}")
        points = [replace(self._point(p), why=p.why, held_out=p.held_out) for p in picks]
        return tuple(points), learning

    def _why_stop(
        self, learning: Learning | None, waiting: Sequence[Pick], measured: int, count: int, elapsed_s: float
    ) -> str:
        limits = replace(self.config, samples=count)
        if waiting or learning is None:  # the first networks are measured whatever they show, unless time is up
            blind = Learning((1,), (math.inf,))
            return why_stop(blind, measured, elapsed_s if measured >= _LEAST_CURVE else 0.0, limits)
        return why_stop(learning, measured, elapsed_s, limits)

    def _learning(self, picks: Sequence[Pick]) -> Learning | None:
        train = [p.index for p in picks if not p.held_out]
        if len(train) < _LEAST_CURVE:
            return None
        costs = self._costs(picks)
        cost_N = np.asarray([costs[i] for i in train])
        return learning_curve(self.features_NF[train], cost_N, self.config.seed, self.names)

    def _costs(self, picks: Sequence[Pick]) -> dict[int, float]:
        points = [self._point(p) for p in picks]
        return dict(zip([p.index for p in picks], latencies_ms(points, self.config).tolist(), strict=True))

    def _point(self, pick: Pick) -> ProfilePoint:
        return self.done[self.pool[pick.index].id]

    def _measure(self, batch: Sequence[Pick], bar: Task) -> None:
        """Measure those of a batch that no earlier call has measured; they share rounds."""
        wanted = {self.pool[p.index].id: p for p in batch if self.pool[p.index].id not in self.done}
        for _ in range(len(batch) - len(wanted)):
            bar.advance()
        if not wanted:
            return
        with Bench(self.config, progress=self.progress) as bench:
            for record in bench.measure({name: self.cut(self.pool[p.index]) for name, p in wanted.items()}):
                chosen = wanted[record.name]
                row = tuple(float(x) for x in self.features_NF[chosen.index])
                point = ProfilePoint(self.pool[chosen.index], row, chosen.why, chosen.held_out, record)
                self.journal.append(point.to_json())
                self.done[record.name] = point
                bar.advance(ms=round(record.p50.value, 4))


def sizes_of(features_NF: np.ndarray) -> np.ndarray:
    """One size per network: the mean of all features, each as a share of its largest value."""
    return (features_NF / np.maximum(features_NF.max(axis=0), 1e-12)).mean(axis=1)


def latencies_ms(points: Sequence[ProfilePoint], config: MeasureConfig) -> np.ndarray:
    """What the predictor learns; with `correct_drift`, latencies at the anchor's usual speed."""
    ms_N = np.asarray([point.record.p50.value for point in points])
    if config.correct_drift:
        ms_N = ms_N * anchor_ms(points) / np.asarray([point.record.anchor_ms for point in points])
    return ms_N


def fit_points(points: Sequence[ProfilePoint], config: MeasureConfig, names: Sequence[str] = ()) -> CostPredictor:
    """Fit on the points that are not held out."""
    away = [i for i, point in enumerate(points) if point.held_out]
    features_NF = np.asarray([point.features_F for point in points])
    ms_N = latencies_ms(points, config)
    return fit(features_NF, ms_N, config.seed, held_out=away, coverage=config.coverage, names=names)


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
    model = cut(largest.selection)
    result = self_test(model, config, progress=progress)
    journal.append({"kind": "self-test", "input_shape": list(input_shape(model)), **result.to_json()})
    return result


def _journalled_shape(journal: Journal) -> tuple[int, ...]:
    record = next(record for record in journal.records() if record["kind"] == "self-test")
    return tuple(record.get("input_shape", ()))
