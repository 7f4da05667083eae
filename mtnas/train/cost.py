"""What one training step computes, beside the step of a plain network of the full size.

Counted in multiply-adds of convolutions and linear layers for one image, a backward pass as two forward ones. Distances
of features, losses and balancing methods themselves are not counted; they are small beside the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.summary import MacCounter
from mtnas.space.arch import Arch
from mtnas.train.balance.table import LOOKING_BACK, PER_TASK, WEIGHING_LOSSES
from mtnas.train.config import TrainConfig
from mtnas.train.reuse import outermost_shared
from mtnas.train.sampling import opened, openings, step_archs, what_runs

#: Steps whose sub-networks are drawn, over the whole training and in each phase at least.
_DRAWN_STEPS, _DRAWN_IN_PHASE = 16, 4


class Macs(NamedTuple):
    """Multiply-adds of one forward pass: of the shared part, and of the rest."""

    shared: float
    own: float


@dataclass(frozen=True)
class StepCost:
    """The mean step of a training.

    Args:
        networks: sub-networks, the largest included.
        shared_passes: forward passes through the shared part.
        forward_macs: multiply-adds of all forward passes, for one image.
        backward_macs: of all backward passes.
        plain_macs: of a plain network's step, forward and backward.
    """

    networks: float
    shared_passes: float
    forward_macs: float
    backward_macs: float
    plain_macs: float

    @property
    def ratio(self) -> float:
        """How many steps of a plain network it is worth."""
        return (self.forward_macs + self.backward_macs) / self.plain_macs

    def to_json(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in {**asdict(self), "ratio": self.ratio}.items()}


class StepCounter:
    """Counts steps of one elastic network under some settings; networks are measured once each.

    Args:
        elastic: the network.
        config: the settings.
        tasks: those that are trained; None = all. What the others alone need does not run.
    """

    def __init__(self, elastic: ElasticModel, config: TrainConfig, tasks: Sequence[str] | None = None) -> None:
        self.elastic, self.config, self.tasks = elastic, config, tasks
        self.same = what_runs(elastic, tasks)
        self.shared = outermost_shared(elastic)
        self.known: dict[Arch, Macs] = {}

    def macs(self, arch: Arch) -> Macs:
        """Of one network, by a pass that is watched."""
        if arch not in self.known:
            everything, shared = MacCounter(), MacCounter()
            with ExitStack() as watch:
                watch.enter_context(everything.watching(self.elastic.model))
                for name in self.shared:
                    watch.enter_context(shared.watching(self.elastic.model.get_submodule(name)))
                self.elastic.rehearse(self.elastic.selection(arch), self.tasks)
            self.known[arch] = Macs(shared.macs, everything.macs - shared.macs)
        return self.known[arch]

    def step(self, archs: Sequence[Sequence[Arch]]) -> StepCost:
        """A step that trains the largest network and these; those of one list share one pass of the shared part."""
        config, tasks = self.config, len(self.elastic.tasks if self.tasks is None else self.tasks)
        full = self.macs(self.elastic.space.largest)
        flat = config.flat_radius > 0
        rows = tasks if flat or config.balance in PER_TASK else 1
        lists = [[full], *([self.macs(arch) for arch in alike] for alike in archs)]
        shared = sum(alike[0].shared for alike in lists)
        own = sum(macs.own for alike in lists for macs in alike)
        again = (tasks if flat else 0) + (config.balance in LOOKING_BACK)
        again += config.accumulate > 1 and config.balance in WEIGHING_LOSSES
        steepest = tasks * full.shared + full.own if flat else 0.0
        return StepCost(
            networks=sum(len(alike) for alike in lists),
            shared_passes=len(lists) + again,
            forward_macs=shared + own + again * sum(full),
            backward_macs=2.0 * (rows * shared + own + steepest),
            plain_macs=3.0 * sum(full),
        )


@dataclass(frozen=True)
class Phase:
    """Consecutive steps in which the same options are open.

    Args:
        share: of the training's steps.
        cost: of its mean step.
    """

    share: float
    cost: StepCost


def phase_costs(elastic: ElasticModel, config: TrainConfig, tasks: Sequence[str] | None = None) -> tuple[Phase, ...]:
    """All phases of a training in order, estimated from steps whose sub-networks are drawn as training draws them.

    Args:
        elastic: the network.
        config: the settings.
        tasks: those that are trained; None = all.
    """
    counter = StepCounter(elastic, config, tasks)
    edges = (0.0, *sorted({share for share in openings(elastic.space, config) if 0 < share < 1}), 1.0)
    phases: list[Phase] = []
    for number, (first, last) in enumerate(pairwise(edges)):
        share = last - first
        drawn = range(max(_DRAWN_IN_PHASE, round(_DRAWN_STEPS * share)))
        costs = [counter.step(_drawn(counter, (first + last) / 2, number, k)) for k in drawn]
        phases.append(Phase(share, mean_cost(costs)))
    return tuple(phases)


def step_cost(elastic: ElasticModel, config: TrainConfig) -> StepCost:
    """The mean over a training's steps, estimated from some."""
    return whole_cost(phase_costs(elastic, config))


def whole_cost(phases: Sequence[Phase]) -> StepCost:
    """The mean over all phases."""
    return mean_cost([phase.cost for phase in phases], [phase.share for phase in phases])


def mean_cost(costs: Sequence[StepCost], weights: Sequence[float] = ()) -> StepCost:
    """Every field's mean; steps weigh alike where no weights are given."""
    rows, weights = [asdict(cost) for cost in costs], weights or [1.0] * len(costs)
    whole = sum(weights)
    return StepCost(
        **{name: sum(row[name] * w for row, w in zip(rows, weights, strict=True)) / whole for name in rows[0]}
    )


def cost_text(phases: Sequence[Phase]) -> str:
    """One line for people: the mean step, and that of each phase where there are several."""
    text = f"a step computes {whole_cost(phases).ratio:.2f} times what a plain network's does"
    if len(phases) == 1:
        return text
    ends = accumulate(phase.share for phase in phases)
    told = [f"{phase.cost.ratio:.2f} until {end:.0%}" for phase, end in zip(phases, ends, strict=True)]
    return f"{text} ({', '.join(told)} of the training)"


def _drawn(counter: StepCounter, done: float, phase: int, number: int) -> list[list[Arch]]:
    space, config = counter.elastic.space, counter.config
    rng = generator(0, "cost", phase, number)
    return step_archs(opened(space, done, config), rng, config, space.largest, counter.same)
