"""Rounds until the medians are known: all networks take turns, and stop when their interval is narrow or a cap is met.

The one loop of the measuring protocol: this machine runs it in the caller's process, a remote device in the runner's.
Shape letter: R = rounds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from .inputs import Call
from .order import quantile_interval, round_median
from .state import read_state
from .timing import one_round, runs_for, warm_up


@dataclass(frozen=True)
class Rules:
    """When to stop; the keys of a job and of the host's settings have the same names."""

    rounds: int
    max_rounds: int
    interval_percent: float
    confidence: float
    drift_percent: float = 5.0
    retries: int = 1

    @staticmethod
    def of(settings: Mapping[str, Any]) -> Rules:
        """From a job, or any mapping with these keys and others."""
        return Rules(**{name: settings[name] for name in Rules.__dataclass_fields__ if name in settings})


@dataclass
class Lane:
    """One open network and what was collected from it: milliseconds, a list a round; the machine's state around it."""

    name: str
    call: Call
    count: int
    note: str = ""
    restarts: int = 0
    runs_ms: list[list[float]] = field(default_factory=list)
    interrupted: list[list[int]] = field(default_factory=list)
    medians_ms: list[float] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def rounds_ms_R(self) -> np.ndarray:
        return np.asarray(self.medians_ms)

    def add(self, runs_ms: list[float], interrupted: list[int]) -> None:
        """One more round."""
        self.runs_ms.append(runs_ms)
        self.interrupted.append(interrupted)
        self.medians_ms.append(round_median(runs_ms, interrupted))

    def clear(self) -> None:
        """Start again."""
        for runs in (self.runs_ms, self.interrupted, self.medians_ms):
            runs.clear()

    def narrow(self, rules: Rules) -> bool:
        """Whether the interval of the median is as tight as asked."""
        low, high = quantile_interval(self.medians_ms, 0.5, rules.confidence)
        return (high - low) / 2.0 <= rules.interval_percent / 100.0 * float(np.median(self.medians_ms))


def open_lane(name: str, call: Call, settings: Mapping[str, Any]) -> Lane:
    """Warm a network up and see how many of its runs fill a round."""
    run_ms, _ = warm_up(call, settings["warmup_ms"] / 1e3, settings["warmup_cap_ms"] / 1e3)
    count = runs_for(run_ms, settings["round_ms"], settings["round_runs"], settings["max_round_runs"])
    return Lane(name, call, count)


def take_turns(lanes: Sequence[Lane], rng: random.Random) -> None:
    """One round: every lane once, in shuffled order."""
    times = one_round({lane.name: lane.call for lane in lanes}, {lane.name: lane.count for lane in lanes}, rng)
    for lane in lanes:
        lane.add(*times[lane.name])


def settle_each(anchor: Lane, lanes: Sequence[Lane], rules: Rules, rng: random.Random) -> Iterator[Lane]:
    """Rounds with the anchor; yields each lane as it settles, after which it takes no more turns."""
    waiting, before = list(lanes), read_state()
    anchor.clear()
    while waiting:
        take_turns([anchor, *waiting], rng)
        for lane in list(waiting):
            if finished(lane, anchor, rules):
                waiting.remove(lane)
                lane.state = {"before": before, "after": read_state()}
                yield lane


def settle_together(
    lanes: Sequence[Lane],
    judged: Sequence[str],
    rules: Rules,
    rng: random.Random,
    after_round: Callable[[], object] | None = None,
) -> None:
    """Rounds of all lanes until each of those judged is narrow: equally many rounds for every lane."""
    deciding = [lane for lane in lanes if lane.name in set(judged)]
    rounds, before = 0, read_state()
    while not finished_together(deciding, rounds, rules):
        take_turns(lanes, rng)
        rounds += 1
        if after_round is not None:
            after_round()
    after = read_state()
    for lane in lanes:
        lane.state = {"before": before, "after": after}


def finished_together(deciding: Sequence[Lane], rounds: int, rules: Rules) -> bool:
    """Enough rounds, and each of the deciding lanes is narrow or may take no more."""
    return rounds >= rules.rounds and (rounds >= rules.max_rounds or all(lane.narrow(rules) for lane in deciding))


def finished(lane: Lane, anchor: Lane, rules: Rules) -> bool:
    """Enough rounds; a lane whose anchor moved is emptied and goes on."""
    rounds = len(lane.runs_ms)
    full = rounds >= rules.max_rounds
    if rounds < rules.rounds or not (full or lane.narrow(rules)):
        return False
    drift = drift_percent(anchor.rounds_ms_R[-rounds:])
    if drift > rules.drift_percent and lane.restarts < rules.retries:
        lane.restarts += 1
        lane.clear()
        return False
    reasons = [] if lane.narrow(rules) else [f"no narrower after {rounds} rounds"]
    if drift > rules.drift_percent:
        reasons.append(f"the anchor moved by {drift:.1f} %")
    lane.note = "; ".join(reasons)
    return True


def drift_percent(anchor_ms_R: np.ndarray) -> float:
    """How far the anchor's median moved between the first and the last third of the rounds."""
    third = max(1, len(anchor_ms_R) // 3)
    first, last = float(np.median(anchor_ms_R[:third])), float(np.median(anchor_ms_R[-third:]))
    return 100.0 * abs(last - first) / min(first, last)
