"""What one training step computes, beside the step of a plain network of the full size.

Counted in multiply-adds of convolutions and linear layers for one image, a backward pass as two forward ones. Distances
of features, losses and balancing methods themselves are not counted; they are small beside the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import NamedTuple

from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.summary import MacCounter
from mtnas.space.arch import Arch
from mtnas.train.balance.table import LOOKING_BACK, PER_TASK, WEIGHING_LOSSES
from mtnas.train.config import TrainConfig
from mtnas.train.reuse import outermost_shared
from mtnas.train.sampling import opened, step_archs

#: Steps whose sub-networks are drawn, evenly over the training.
_DRAWN_STEPS = 16


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
    """Counts steps of one elastic network under some settings; networks are measured once each."""

    def __init__(self, elastic: ElasticModel, config: TrainConfig) -> None:
        self.elastic, self.config = elastic, config
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
                self.elastic.rehearse(self.elastic.selection(arch))
            self.known[arch] = Macs(shared.macs, everything.macs - shared.macs)
        return self.known[arch]

    def step(self, archs: Sequence[Sequence[Arch]]) -> StepCost:
        """A step that trains the largest network and these; those of one list share one pass of the shared part."""
        config, tasks = self.config, len(self.elastic.tasks)
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


def step_cost(elastic: ElasticModel, config: TrainConfig) -> StepCost:
    """The mean over a training's steps, estimated from some whose sub-networks are drawn as training draws them."""
    counter = StepCounter(elastic, config)
    return mean_cost(counter.step(_drawn(elastic, config, k)) for k in range(_DRAWN_STEPS))


def mean_cost(costs: Iterable[StepCost]) -> StepCost:
    rows = [asdict(cost) for cost in costs]
    return StepCost(**{name: sum(row[name] for row in rows) / len(rows) for name in rows[0]})


def _drawn(elastic: ElasticModel, config: TrainConfig, number: int) -> list[list[Arch]]:
    space = opened(elastic.space, (number + 0.5) / _DRAWN_STEPS, config.progressive)
    return step_archs(space, generator(0, "cost", number), config, elastic.space.largest)
