"""Which units to remove, step by step, each step judged by a measurement on the device.

A step removes the least important units of one group. The group is the one with the least importance lost per
millisecond won, where the gain is what the device's predictor expects. A step stays only when the measurement shows
that it won time. One that costs time is undone and its group left alone; one whose effect drowns in the noise is undone
and tried again twice as large, so that noise is never counted as gain and every step is large enough to be seen.

Ratios of single steps, multiplied, would drift: accepted ones err on the lucky side. So the network is compared with
the start directly every few steps, and before the target counts as reached. Everything measured is in the journal
before the next step begins; a plan that was killed continues where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtnas.base.groups import ChannelGroup, Selection
from mtnas.base.progress import Progress, Silent
from mtnas.prune.config import PruneConfig
from mtnas.prune.steps import Judgement, PlanJournal, PrunePlan, PruneStep

__all__ = ["Judgement", "PrunePlan", "PruneStep", "PruneTools", "plan_pruning"]

_SMALLEST, _SLOWER, _NO_GAIN, _FLOOR = "smallest", "slower", "no gain", "floor"


@dataclass(frozen=True)
class PruneTools:
    """What the caller provides.

    Args:
        importance: selection -> group name -> importance_U over all units of the group.
        predict_ms: selection -> expected latency; steers only, so any number that grows with it will do.
        judge: (before, after) -> measured comparison.
        missed: selection -> the floor that it breaks, in words, or an empty text.
        limits_kept: whether a selection keeps every limit other than latency.
    """

    importance: Callable[[Selection], Mapping[str, np.ndarray]]
    predict_ms: Callable[[Selection], float]
    judge: Callable[[Selection, Selection], Judgement]
    missed: Callable[[Selection], str] | None = None
    limits_kept: Callable[[Selection], bool] | None = None


def plan_pruning(
    groups: Sequence[ChannelGroup],
    start: Selection,
    tools: PruneTools,
    config: PruneConfig,
    journal_path: Path,
    progress: Progress | None = None,
) -> PrunePlan:
    """Remove units until the measured latency is at most `config.target` of the start's and other limits are kept.

    Args:
        groups: the model's groups.
        start: the network to prune.
        tools: importance, prediction, measurement, floors and other limits.
        config: target and step size.
        journal_path: what was measured is written there and replayed from there.
        progress: shows one line per step.

    Raises:
        CheckpointError: the journal belongs to another plan.
    """
    plan = _Plan(groups, start, tools, config, PlanJournal(journal_path, start.compact(groups), config))
    with (progress or Silent()).task("prune", config.max_steps) as bar:
        while not plan.reached and len(plan.steps) < config.max_steps:
            if not plan.advance():
                return plan.finish(plan.exhausted())
            bar.advance(1, latency_ms=plan.steps[-1].judgement.latency_ms, ratio=plan.ratio)
    return plan.finish("target reached" if plan.reached else f"{config.max_steps} steps were not enough")


@dataclass(frozen=True)
class _Candidate:
    group: str
    removed: tuple[int, ...]
    importance: float
    after: Selection


class _Plan:
    """The running network of a plan."""

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        start: Selection,
        tools: PruneTools,
        config: PruneConfig,
        journal: PlanJournal,
    ) -> None:
        kept = start.as_dict
        self.groups = tuple(groups)
        self.start, self.tools, self.config, self.journal = start.compact(groups), tools, config, journal
        self.kept = {g.name: kept.get(g.name, tuple(range(g.size))) for g in groups if g.elastic and not start.lacks(g)}
        self.size = dict.fromkeys(self.kept, config.step)
        self.blocked: dict[str, str] = {}
        self.steps: list[PruneStep] = []
        self.accepted = self.compared = 0
        self.ratio = 1.0
        self._judged_at, self._importance = self.selection, dict[str, np.ndarray]()

    @property
    def selection(self) -> Selection:
        return self.start.with_kept(self.kept).compact(self.groups)

    @property
    def reached(self) -> bool:
        if self.ratio > self.config.target_ratio:
            return False
        return self.tools.limits_kept is None or self.tools.limits_kept(self.selection)

    def advance(self) -> bool:
        """Take the next step and judge it; False when there is none."""
        step = self.journal.step(self.kept)
        if step is None:
            candidate = self._cheapest()
            if candidate is None:
                return False
            step = self._judged(candidate)
            self.journal.write_step(step)
        self._take(step)
        if self._comparison_due:
            self._compare()
        return True

    def finish(self, reason: str) -> PrunePlan:
        return PrunePlan(self.selection, tuple(self.steps), self.reached, reason, self.ratio)

    # --- choosing -----------------------------------------------------------------------------------------------

    def _cheapest(self) -> _Candidate | None:
        """Least importance lost per expected millisecond won; groups without an expected gain come last."""
        importance = self._fresh_importance()
        now_ms = self.tools.predict_ms(self.selection)
        ranked: list[tuple[bool, float, str, _Candidate]] = []
        for name, units in self.kept.items():
            if name in self.blocked or len(units) - self.size[name] < self.config.min_units:
                continue
            values_U = importance[name]
            order = sorted(units, key=lambda unit: (values_U[unit], unit))
            removed = tuple(sorted(order[: self.size[name]]))
            lost, after = float(values_U[list(removed)].sum()), self._without(name, removed)
            gain_ms = now_ms - self.tools.predict_ms(after)
            price = lost / gain_ms if gain_ms > 0 else lost
            ranked.append((gain_ms <= 0, price, name, _Candidate(name, removed, lost, after)))
        return min(ranked, key=lambda row: row[:3])[3] if ranked else None

    def _fresh_importance(self) -> Mapping[str, np.ndarray]:
        """Computed on the network as it was after the last multiple of `refresh_steps` accepted steps."""
        if not self._importance:
            self._importance = dict(self.tools.importance(self._judged_at))
        return self._importance

    def _without(self, name: str, removed: tuple[int, ...]) -> Selection:
        kept = {**self.kept, name: set(self.kept[name]) - set(removed)}
        return self.start.with_kept(kept).compact(self.groups)

    # --- judging ------------------------------------------------------------------------------------------------

    def _judged(self, candidate: _Candidate) -> PruneStep:
        """Measure first, then ask for the floors: a step that wins nothing needs no score."""
        judgement = self.tools.judge(self.selection, candidate.after)
        accepted = judgement.faster or (self.config.accept == "not_slower" and not judgement.slower)
        missed = self.tools.missed(candidate.after) if accepted and self.tools.missed else ""
        return PruneStep(
            len(self.steps),
            candidate.group,
            candidate.removed,
            candidate.importance,
            accepted and not missed,
            judgement,
            missed,
        )

    def _take(self, step: PruneStep) -> None:
        self.steps.append(step)
        name = step.group
        if not step.accepted:
            self._refuse(step)
            return
        self.kept[name] = tuple(unit for unit in self.kept[name] if unit not in set(step.removed))
        self.size[name] = self.config.step
        self.accepted += 1
        self.ratio *= step.judgement.ratio
        if self.accepted % self.config.refresh_steps == 0:
            self._judged_at, self._importance = self.selection, {}

    def _refuse(self, step: PruneStep) -> None:
        """Leave the group alone, unless a larger step could tell more than this one did."""
        twice = 2 * len(step.removed)
        if step.missed:
            self.blocked[step.group] = _FLOOR
        elif step.judgement.slower:
            self.blocked[step.group] = _SLOWER
        elif len(self.kept[step.group]) - twice < self.config.min_units:
            self.blocked[step.group] = _NO_GAIN
        else:
            self.size[step.group] = twice

    @property
    def _comparison_due(self) -> bool:
        """More than one step since the last comparison, and the target seems reached or the importance is renewed."""
        if self.accepted - self.compared < 2 or not self.steps[-1].accepted:
            return False
        return self.ratio <= self.config.target_ratio or self.accepted % self.config.refresh_steps == 0

    def _compare(self) -> None:
        judgement = self.journal.check()
        if judgement is None:
            judgement = self.tools.judge(self.start, self.selection)
            self.journal.write_check(judgement)
        self.ratio, self.compared = judgement.ratio, self.accepted

    # --- words --------------------------------------------------------------------------------------------------

    def exhausted(self) -> str:
        """Why no group can shrink further."""
        if not self.kept:
            return "no group may shrink: all are frozen"
        reasons = Counter(self.blocked.get(name, _SMALLEST) for name in self.kept)
        words = {
            _SMALLEST: f"at the smallest width (a step of {self.config.step} would leave "
            f"fewer than {self.config.min_units} units)",
            _NO_GAIN: "without a gain that could be measured on this device",
            _SLOWER: "slower when cut",
            _FLOOR: "held by a floor",
        }
        told = "; ".join(f"{reasons[reason]} {text}" for reason, text in words.items() if reasons[reason])
        return f"no group can shrink further: {told}"
