"""How one request judges networks: the preferred loss, the limits, the floors.

The preferred loss is sum over tasks of p_t * (relative worsening of task t against the unpruned network): 0 for the
unpruned network, lower is better, negative where a smaller network is better. It needs no other networks to be scaled
by, unlike the preferred score of `mtnas.search.preference`, so that it can be asked of one network at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from mtnas.search.objectives import Constraint, Objective
from mtnas.search.trial import Cost, Outcome
from mtnas.space.arch import Arch

Costs = Callable[[Arch], Mapping[str, Cost]]
Scores = Callable[[Arch], Mapping[str, float]]


class Judge:
    """Judges archs for one preference and one set of constraints; costs are remembered, as scores are.

    Args:
        objectives: the tasks, with directions.
        share: task -> preference; sums to one.
        constraints: limits on costs and floors under tasks, absolute.
        costs: of one arch; must not take long.
        scores: of one arch; remembers by itself (`mtnas.search.evaluations`).
        full: the unpruned network's scores.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        share: Mapping[str, float],
        constraints: Sequence[Constraint],
        costs: Costs,
        scores: Scores,
        full: Mapping[str, float],
    ) -> None:
        self.objectives = tuple(objectives)
        self.share = dict(share)
        self.limits = tuple(c for c in constraints if c.name not in self.share)
        self.floors = tuple(c for c in constraints if c.name in self.share)
        self.scored: dict[str, Arch] = {}
        self._costs = costs
        self._scores = scores
        self._full = dict(full)
        self._known: dict[str, Mapping[str, Cost]] = {}

    def costs(self, arch: Arch) -> Mapping[str, Cost]:
        if arch.id not in self._known:
            self._known[arch.id] = self._costs(arch)
        return self._known[arch.id]

    def scores(self, arch: Arch) -> Mapping[str, float]:
        self.scored.setdefault(arch.id, arch)
        return self._scores(arch)

    def outcome(self, arch: Arch) -> Outcome:
        return Outcome(dict(self.scores(arch)), dict(self.costs(arch)))

    def loss(self, arch: Arch, share: Mapping[str, float] | None = None) -> float:
        """The preferred loss; by another preference when one is given."""
        scores, share = self.scores(arch), share or self.share
        return math.fsum(share[o.name] * self._worsening(o, scores[o.name]) for o in self.objectives)

    def caring(self, tasks: Sequence[str], amount: float) -> dict[str, float]:
        """The preference with that much of it moved to some tasks in equal parts."""
        added = amount / len(tasks)
        return {t: (1.0 - amount) * share + (added if t in tasks else 0.0) for t, share in self.share.items()}

    def _worsening(self, objective: Objective, score: float) -> float:
        full = self._full[objective.name]
        return (objective.loss(score) - objective.loss(full)) / (abs(full) or 1.0)

    def excess(self, arch: Arch) -> float:
        """How far the costs are beyond the limits, as fractions of the limits; zero when all are kept."""
        costs = self.costs(arch)
        return math.fsum(limit.violation(costs[limit.name].value) for limit in self.limits)

    def use(self, arch: Arch) -> float:
        """The costs as fractions of their limits, summed."""
        costs = self.costs(arch)
        return math.fsum(costs[limit.name].value / limit.bound for limit in self.limits)

    def broken_floors(self, arch: Arch) -> tuple[str, ...]:
        """Tasks below their floors, the furthest first; nothing is scored when there are no floors."""
        if not self.floors:
            return ()
        scores = self.scores(arch)
        broken = [(floor.violation(scores[floor.name]), floor.name) for floor in self.floors]
        return tuple(name for violation, name in sorted(broken, reverse=True) if violation > 0)
