"""Time of a training: what was spent, and what is left when steps cost more later than at the beginning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

#: phases of a training in order: share of its steps, and cost of a step in any unit
Work = Sequence[tuple[float, float]]
EVEN: Work = ((1.0, 1.0),)


@dataclass
class Clock:
    """Seconds spent in steps, and since the last checkpoint."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def left(self, first: float, done: float, work: Work) -> float:
        """Seconds until the end, when shares `first` to `done` of the training took what has passed since `started`."""
        before, now, whole = (work_until(share, work) for share in (first, done, 1.0))
        return (time.monotonic() - self.started) * (whole - now) / (now - before)


def work_until(done: float, phases: Work) -> float:
    """Cost of the first share of a training."""
    total = 0.0
    for share, cost in phases:
        total += cost * min(share, max(0.0, done))
        done -= share
    return total
