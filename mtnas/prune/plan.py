"""Which units to remove, step by step, each step judged by a measurement on the device.

A step removes the `step` least important units of one group. The group is the one with the least importance lost per
millisecond won, where the gain is what the device's predictor expects. The step is kept only when the measurement says
that the network did not get slower; otherwise it is undone and the group is left alone. Every judged step is in the
journal before the next begins, so a plan that was killed continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtnas.base.errors import CheckpointError
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress, Silent
from mtnas.prune.config import PruneConfig


@dataclass(frozen=True)
class Judgement:
    """A measured comparison of two networks: `ratio` = after / before with its interval."""

    latency_ms: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class PruneStep:
    """One judged step."""

    number: int
    group: str
    removed: tuple[int, ...]
    importance: float
    accepted: bool
    judgement: Judgement

    def to_json(self) -> dict[str, Any]:
        judged = self.judgement
        return {
            "number": self.number,
            "group": self.group,
            "removed": list(self.removed),
            "importance": self.importance,
            "accepted": self.accepted,
            "latency_ms": judged.latency_ms,
            "ratio": judged.ratio,
            "low": judged.low,
            "high": judged.high,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PruneStep:
        judgement = Judgement(data["latency_ms"], data["ratio"], data["low"], data["high"])
        return PruneStep(
            data["number"], data["group"], tuple(data["removed"]), data["importance"], data["accepted"], judgement
        )


@dataclass(frozen=True)
class PrunePlan:
    """The pruned selection and how it came about."""

    selection: Selection
    steps: tuple[PruneStep, ...]
    reached: bool
    stopped_because: str


@dataclass(frozen=True)
class PruneTools:
    """What the caller provides.

    Args:
        importance: selection -> group name -> importance_U over all units of the group.
        predict_ms: selection -> expected latency.
        judge: (before, after) -> measured comparison.
    """

    importance: Callable[[Selection], Mapping[str, np.ndarray]]
    predict_ms: Callable[[Selection], float]
    judge: Callable[[Selection, Selection], Judgement]


def plan_pruning(
    groups: Sequence[ChannelGroup],
    start: Selection,
    tools: PruneTools,
    config: PruneConfig,
    journal_path: Path,
    progress: Progress | None = None,
) -> PrunePlan:
    """Remove units until the measured latency is at most `config.target` of the start's.

    Args:
        groups: the model's groups.
        start: the network to prune.
        tools: importance, prediction and measurement.
        config: target and step size.
        journal_path: judged steps are written there and replayed from there.
        progress: shows one line per step.
    """
    journal = Journal(journal_path)
    past = _past_steps(journal, start, config)
    state = _State({group.name: group for group in groups if group.elastic}, start)
    with (progress or Silent()).task("prune", config.max_steps) as bar:
        importance: Mapping[str, np.ndarray] = {}
        fresh_at = -1
        while len(state.steps) < config.max_steps and state.ratio > config.target_ratio:
            if state.accepted // config.refresh_steps != fresh_at:
                importance, fresh_at = tools.importance(state.selection), state.accepted // config.refresh_steps
            candidate = state.cheapest(importance, tools.predict_ms, config)
            if candidate is None:
                return state.finish(False, "no group can shrink further")
            step = _replayed(past, len(state.steps), candidate) or _judged(state, candidate, tools, journal)
            state.take(step)
            bar.advance(1, latency_ms=step.judgement.latency_ms, ratio=state.ratio)
    reached = state.ratio <= config.target_ratio
    return state.finish(reached, "target reached" if reached else f"{config.max_steps} steps were not enough")


@dataclass(frozen=True)
class _Candidate:
    group: str
    removed: tuple[int, ...]
    importance: float
    after: Selection


class _State:
    """The running network of a plan."""

    def __init__(self, groups: Mapping[str, ChannelGroup], start: Selection) -> None:
        kept = start.as_dict
        self.groups = groups
        self.kept = {name: kept.get(name, tuple(range(group.size))) for name, group in groups.items()}
        self.blocked: set[str] = set()
        self.steps: list[PruneStep] = []
        self.accepted = 0
        self.ratio = 1.0

    @property
    def selection(self) -> Selection:
        return Selection.of(self.kept).compact(list(self.groups.values()))

    def cheapest(
        self, importance: Mapping[str, np.ndarray], predict_ms: Callable[[Selection], float], config: PruneConfig
    ) -> _Candidate | None:
        """The step with the least importance lost per expected millisecond won; None when nothing can shrink."""
        now_ms = predict_ms(self.selection)
        best: tuple[float, _Candidate] | None = None
        for name in sorted(self.groups):
            units = self.kept[name]
            if name in self.blocked or len(units) - config.step < config.min_units:
                continue
            values_U = importance[name]
            order = sorted(units, key=lambda unit: (values_U[unit], unit))
            removed = tuple(sorted(order[: config.step]))
            lost = float(values_U[list(removed)].sum())
            after = self._without(name, removed)
            gain_ms = now_ms - predict_ms(after)
            if gain_ms <= 0.0:
                continue
            candidate = (lost / gain_ms, _Candidate(name, removed, lost, after))
            if best is None or candidate[0] < best[0]:
                best = candidate
        return best[1] if best else None

    def take(self, step: PruneStep) -> None:
        self.steps.append(step)
        if step.accepted:
            gone = set(step.removed)
            self.kept[step.group] = tuple(unit for unit in self.kept[step.group] if unit not in gone)
            self.accepted += 1
            self.ratio *= step.judgement.ratio
        else:
            self.blocked.add(step.group)

    def finish(self, reached: bool, reason: str) -> PrunePlan:
        return PrunePlan(self.selection, tuple(self.steps), reached, reason)

    def _without(self, name: str, removed: tuple[int, ...]) -> Selection:
        gone = set(removed)
        kept = {**self.kept, name: tuple(unit for unit in self.kept[name] if unit not in gone)}
        return Selection.of(kept).compact(list(self.groups.values()))


def _judged(state: _State, candidate: _Candidate, tools: PruneTools, journal: Journal) -> PruneStep:
    """Measure a candidate; refused when the whole interval lies above 1 or nothing was won at all."""
    judgement = tools.judge(state.selection, candidate.after)
    accepted = judgement.ratio < 1.0
    step = PruneStep(len(state.steps), candidate.group, candidate.removed, candidate.importance, accepted, judgement)
    journal.append(step.to_json())
    return step


def _past_steps(journal: Journal, start: Selection, config: PruneConfig) -> list[PruneStep]:
    """Steps judged by an earlier run of the same plan; starts the journal when there is none."""
    header = {"schema": "prune-journal/1", "start": start.to_json(), "step": config.step, "criterion": config.criterion}
    records = journal.records()
    if not records:
        journal.append(header)
        return []
    if records[0] != header:
        raise CheckpointError(
            "the journal of this plan",
            received="a journal of another start, step or criterion",
            where=str(journal.path),
            cure="use a new --out, or delete this file to plan again",
        )
    return [PruneStep.from_json(record) for record in records[1:]]


def _replayed(past: Sequence[PruneStep], number: int, candidate: _Candidate) -> PruneStep | None:
    """The journal's step with this number; what it removed then stays removed."""
    if number >= len(past):
        return None
    step = past[number]
    if step.group != candidate.group or step.removed != candidate.removed:
        raise CheckpointError(
            f"step {number} to remove {candidate.group} {candidate.removed[:4]}",
            received=f"{step.group} {step.removed[:4]}",
            where="prune journal",
            cure="weights or data changed since: use a new --out",
        )
    return step
