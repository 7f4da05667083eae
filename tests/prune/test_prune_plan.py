"""The plan of pruning, with invented importance and stop-watches: what is tried, kept, undone, and why it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.groups import ChannelGroup, Member, Selection
from mtnas.prune.config import PruneConfig
from mtnas.prune.plan import Judgement, PrunePlan, PruneTools, plan_pruning

START = Selection(())
CONFIG = PruneConfig(target="50%", step=4, min_units=4)


def group(name: str, size: int = 16, frozen: str = "") -> ChannelGroup:
    return ChannelGroup(name, size, (), ("depth",), frozen)


GROUPS = (group("a"), group("b"), group("c"))


@dataclass
class Bench:
    """A device whose latency is a weighted sum of widths, and a log of what it was asked.

    Args:
        cost: milliseconds per unit of a group.
        importance: worth of every unit of a group.
        groups: of the model.
        noise: half-width of the interval of a ratio.
        errors: a factor on the ratio of each comparison, in turn.
    """

    cost: Mapping[str, float]
    importance: Mapping[str, float] = field(default_factory=dict)
    groups: Sequence[ChannelGroup] = GROUPS
    noise: float = 0.001
    errors: list[float] = field(default_factory=list)
    compared: list[tuple[Selection, Selection]] = field(default_factory=list)
    asked: int = 0
    stop_after: int | None = None

    def latency_ms(self, selection: Selection) -> float:
        widths = selection.widths(self.groups)
        return 1.0 + sum(self.cost.get(name, 0.0) * width for name, width in widths.items())

    def judge(self, before: Selection, after: Selection) -> Judgement:
        if self.stop_after is not None and len(self.compared) >= self.stop_after:
            raise KeyboardInterrupt
        self.compared.append((before, after))
        error = self.errors.pop(0) if self.errors else 1.0
        ratio = error * self.latency_ms(after) / self.latency_ms(before)
        return Judgement(self.latency_ms(after), ratio, ratio - self.noise, ratio + self.noise)

    def rank(self, selection: Selection) -> dict[str, np.ndarray]:
        self.asked += 1
        return {g.name: self.importance.get(g.name, 1.0) * np.arange(1.0, g.size + 1) for g in self.groups}

    def tools(self, predict_ms: Callable[[Selection], float] | None = None) -> PruneTools:
        return PruneTools(self.rank, predict_ms or self.latency_ms, self.judge)

    def plan(self, path: Path, config: PruneConfig = CONFIG, start: Selection = START) -> PrunePlan:
        return plan_pruning(self.groups, start, self.tools(), config, path / "steps.jsonl")


def test_the_cheapest_step_comes_first(tmp_path: Path) -> None:
    """Least importance lost per millisecond won: `b` is worth half as much as `a`, `c` wins less time."""
    plan = Bench({"a": 1.0, "b": 1.0, "c": 0.4}, {"a": 1.0, "b": 0.5, "c": 0.5}).plan(tmp_path)
    prices = {"b": 0.5 * 10 / 4, "a": 10 / 4, "c": 0.5 * 10 / 1.6, "b again": 0.5 * 26 / 4}
    assert list(prices) == sorted(prices, key=lambda name: prices[name])
    assert [step.group for step in plan.steps[:4]] == ["b", "a", "c", "b"]
    assert [plan.steps[k].removed for k in (0, 3)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [plan.steps[k].importance for k in (0, 3)] == pytest.approx([5.0, 13.0])


def test_the_target_stops_the_plan(tmp_path: Path) -> None:
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0})
    plan = bench.plan(tmp_path)
    ratio = bench.latency_ms(plan.selection) / bench.latency_ms(START)
    assert plan.reached and plan.stopped_because == "target reached"
    assert plan.ratio == pytest.approx(ratio) and 0.4 < ratio <= 0.5
    assert all(step.accepted for step in plan.steps)


def test_a_target_of_all_is_reached_before_the_first_step(tmp_path: Path) -> None:
    bench = Bench({"a": 1.0})
    plan = bench.plan(tmp_path, replace(CONFIG, target="100%"))
    assert plan.reached and plan.selection == START and not plan.steps and bench.asked == 0


def test_a_slower_step_is_undone_and_its_group_left_alone(tmp_path: Path) -> None:
    bench = Bench({"a": -0.1, "b": 1.0, "c": 1.0})
    tools = replace(bench.tools(), predict_ms=lambda s: float(sum(s.widths(GROUPS).values())))
    plan = plan_pruning(GROUPS, START, tools, replace(CONFIG, target="1%"), tmp_path / "steps.jsonl")
    tried = [step for step in plan.steps if step.group == "a"]
    assert len(tried) == 1 and not tried[0].accepted
    assert "a" not in plan.selection.as_dict
    assert plan.selection.widths(GROUPS) == {"a": 16, "b": 4, "c": 4}
    assert "1 slower when cut" in plan.stopped_because and "2 at the smallest width" in plan.stopped_because


def test_noise_is_never_counted_as_gain(tmp_path: Path) -> None:
    """No group matters: ratios a little below 1 inside their interval are tried twice as large, then given up."""
    bench = Bench({}, noise=0.02, errors=[0.99] * 20)
    plan = bench.plan(tmp_path)
    assert plan.selection == START and not plan.reached and plan.ratio == 1.0
    assert [len(step.removed) for step in plan.steps] == [4, 4, 4, 8, 8, 8]
    assert "3 without a gain that could be measured" in plan.stopped_because


def test_a_step_that_is_too_small_to_see_is_enlarged(tmp_path: Path) -> None:
    """4 of 65 ms are lost in the noise of 8 %, 8 are not; after an accepted step the size is the configured one."""
    groups = (group("a", 64),)
    bench = Bench({"a": 1.0}, groups=groups, noise=0.08)
    plan = bench.plan(tmp_path, replace(CONFIG, target="80%"))
    sizes = [(len(step.removed), step.accepted) for step in plan.steps]
    assert sizes[:3] == [(4, False), (8, True), (4, False)]
    assert plan.reached


def test_steps_that_only_must_not_cost_time(tmp_path: Path) -> None:
    """For limits other than latency a step inside the noise may stay."""
    bench = Bench({}, noise=0.02)
    tools = replace(bench.tools(), limits_kept=lambda s: sum(s.widths(GROUPS).values()) <= 40)
    config = replace(CONFIG, target="100%", accept="not_slower")
    plan = plan_pruning(GROUPS, START, tools, config, tmp_path / "steps.jsonl")
    assert plan.reached and sum(plan.selection.widths(GROUPS).values()) == 40


def test_no_group_is_cut_below_the_least_units(tmp_path: Path) -> None:
    plan = Bench({"a": 1.0, "b": 1.0, "c": 1.0}).plan(tmp_path, replace(CONFIG, target="1%", min_units=6))
    assert plan.selection.widths(GROUPS) == {"a": 8, "b": 8, "c": 8}
    assert not plan.reached
    assert "3 at the smallest width (a step of 4 would leave fewer than 6 units)" in plan.stopped_because


def test_the_number_of_steps_is_limited(tmp_path: Path) -> None:
    plan = Bench({"a": 1.0, "b": 1.0, "c": 1.0}).plan(tmp_path, replace(CONFIG, target="1%", max_steps=3))
    assert len(plan.steps) == 3 and plan.stopped_because == "3 steps were not enough"


def test_frozen_groups_are_left_alone_and_a_model_of_them_explained(tmp_path: Path) -> None:
    groups = (group("a"), group("b", frozen="is output 'depth'"))
    plan = Bench({"a": 1.0, "b": 9.0}, groups=groups).plan(tmp_path, replace(CONFIG, target="1%"))
    assert plan.selection.widths(groups) == {"a": 4, "b": 16}
    frozen = Bench({"b": 9.0}, groups=groups[1:]).plan(tmp_path / "frozen")
    assert frozen.stopped_because == "no group may shrink: all are frozen"


def test_a_plan_starts_from_what_the_start_keeps(tmp_path: Path) -> None:
    """Also where the kept units are no prefix."""
    start = Selection.of({"a": [1, 3, 5, 7, 9, 11, 13, 15], "b": range(4), "c": range(4)})
    plan = Bench({"a": 1.0, "b": 1.0, "c": 1.0}).plan(tmp_path, replace(CONFIG, target="1%"), start)
    assert plan.selection.as_dict["a"] == (9, 11, 13, 15)
    assert [step.group for step in plan.steps] == ["a"]


def test_skipped_blocks_stay_out_and_their_groups_are_not_tried(tmp_path: Path) -> None:
    inner = Member("block.conv.weight", 0, tuple((unit,) for unit in range(16)), "out")
    groups = (group("a"), ChannelGroup("block.conv", 16, (inner,), ("depth",)))
    start = Selection.of({}, ["block"])
    plan = Bench({"a": 1.0, "block.conv": 9.0}, groups=groups).plan(tmp_path, replace(CONFIG, target="1%"), start)
    assert plan.selection == Selection.of({"a": range(12, 16)}, ["block"])
    assert {step.group for step in plan.steps} == {"a"}


def test_floors_hold_their_group(tmp_path: Path) -> None:
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0})

    def missed(selection: Selection) -> str:
        return "depth 0.9 m misses its floor 0.8 m" if selection.widths(GROUPS)["b"] < 12 else ""

    tools = replace(bench.tools(), missed=missed)
    plan = plan_pruning(GROUPS, START, tools, replace(CONFIG, target="1%"), tmp_path / "steps.jsonl")
    assert plan.selection.widths(GROUPS) == {"a": 4, "b": 12, "c": 4}
    refused = [step for step in plan.steps if not step.accepted]
    assert [step.group for step in refused] == ["b"] and "floor 0.8" in refused[0].missed
    assert "1 held by a floor" in plan.stopped_because


def test_lucky_steps_do_not_reach_the_target(tmp_path: Path) -> None:
    """Steps measured 10 % too fast: the direct comparison with the start tells, and the plan goes on."""
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0})
    honest_judge = bench.judge

    def judge(before: Selection, after: Selection) -> Judgement:
        step = honest_judge(before, after)
        lucky = 1.0 if before == START and len(bench.compared) > 1 else 0.9
        return Judgement(step.latency_ms, lucky * step.ratio, lucky * step.low, lucky * step.high)

    tools = replace(bench.tools(), judge=judge)
    plan = plan_pruning(GROUPS, START, tools, CONFIG, tmp_path / "steps.jsonl")
    assert plan.reached
    assert bench.latency_ms(plan.selection) <= 0.5 * bench.latency_ms(START)


def test_the_importance_is_renewed_after_some_accepted_steps(tmp_path: Path) -> None:
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0})
    plan = bench.plan(tmp_path, replace(CONFIG, target="1%", refresh_steps=3))
    assert sum(step.accepted for step in plan.steps) == 9
    assert bench.asked == 3 + 1  # after 0, 3, 6, 9


@pytest.mark.parametrize("killed_at", [0, 1, 4, 5, 6])
def test_an_interrupted_plan_ends_like_an_uninterrupted_one(tmp_path: Path, killed_at: int) -> None:
    config = replace(CONFIG, target="30%", refresh_steps=2)
    whole = Bench({"a": 1.0, "b": 0.7, "c": 1.3})
    expected = whole.plan(tmp_path / "whole", config)
    killed = Bench({"a": 1.0, "b": 0.7, "c": 1.3}, stop_after=killed_at)
    with pytest.raises(KeyboardInterrupt):
        killed.plan(tmp_path / "killed", config)
    resumed = Bench({"a": 1.0, "b": 0.7, "c": 1.3})
    assert resumed.plan(tmp_path / "killed", config) == expected
    assert len(resumed.compared) == len(whole.compared) - killed_at
    texts = [(tmp_path / name / "steps.jsonl").read_text() for name in ("whole", "killed")]
    assert texts[0] == texts[1]


def test_a_finished_plan_is_only_read(tmp_path: Path) -> None:
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0})
    expected = bench.plan(tmp_path)
    again = Bench({"a": 1.0, "b": 1.0, "c": 1.0}, stop_after=0)
    assert again.plan(tmp_path) == expected
    assert again.asked == 0


@pytest.mark.parametrize(
    ("start", "config"),
    [
        (Selection.of({"a": range(8)}), CONFIG),
        (START, replace(CONFIG, step=2)),
        (START, replace(CONFIG, criterion="l1")),
        (START, replace(CONFIG, target="40%")),
    ],
)
def test_the_journal_of_another_plan_is_refused(tmp_path: Path, start: Selection, config: PruneConfig) -> None:
    Bench({"a": 1.0}).plan(tmp_path)
    with pytest.raises(CheckpointError, match="another start or other settings"):
        Bench({"a": 1.0}).plan(tmp_path, config, start)


def test_a_journal_with_steps_of_another_model_is_refused(tmp_path: Path) -> None:
    Bench({"a": 1.0, "b": 1.0, "c": 1.0}).plan(tmp_path)
    other = (group("x"), group("y"))
    with pytest.raises(CheckpointError, match="which are not there"):
        Bench({"x": 1.0}, groups=other).plan(tmp_path)


@pytest.mark.parametrize("target", ["0%", "120%", "90", "ninety", "nan%"])
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(JobError, match=r"prune\.target"):
        PruneConfig(target=target)


def test_misspelt_criteria_and_rules() -> None:
    with pytest.raises(JobError, match="did you mean 'taylor'"):
        PruneConfig(criterion="tailor")
    with pytest.raises(JobError, match=r"prune\.accept"):
        PruneConfig(accept="always")
    with pytest.raises(JobError, match=r"prune\.step"):
        PruneConfig(step=0)
