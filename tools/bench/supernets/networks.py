"""Networks of a setting: the elastic model of an arm, its costs, and the archs that stand for a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mtnas.base.errors import DataError
from mtnas.base.seeds import derive_seed, generator
from mtnas.data.base import Dataset
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.job.schema import Job, TaskConfig
from mtnas.search.control import simplex_preferences
from mtnas.search.decoders import DecoderPlan
from mtnas.space.arch import Arch
from mtnas.space.space import Space
from mtnas.stages.parts import make_model, make_tasks
from mtnas.tasks.base import Task
from mtnas.train.sampling import random_arch
from tools.bench.supernets.arms import Arm
from tools.bench.supernets.evolve import BELOW
from tools.bench.supernets.settings import Setting

TRIES = 20_000
#: sizes of the most preferred decoder and of the encoder, tried from the largest on
LEVELS = (1.0, 0.75, 0.5, 0.25)
ENCODERS = (1.0, 2 / 3, 1 / 3, 0.0)


def tasks_of(setting: Setting, dataset: Dataset, names: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks of a setting, or some of them."""
    chosen = names or setting.tasks
    return make_tasks(Job(tasks=tuple(TaskConfig(name=name) for name in chosen)), dataset.info)


def full_network(setting: Setting, dataset: Dataset, tasks: dict[str, Task], seed: int) -> nn.Module:
    """The full network with new weights."""
    return make_model(Job(model=setting.model), tasks, dataset.info, derive_seed(seed, "supernets"))


def elastic_network(model: nn.Module, setting: Setting, arm: Arm | None = None) -> ElasticModel:
    """The elastic model of an arm, on steps of eight channels."""
    example_BCHW = torch.zeros(1, 3, setting.data.height, setting.data.width)
    elastic = make_elastic(model, example_BCHW, round_to=8, ignored_layers=arm.ignored if arm else ())
    elastic.sort_channels()
    return elastic


class Costs:
    """Multiply-adds of an elastic model's networks, exact, as shares of the full one of the setting."""

    def __init__(self, elastic: ElasticModel) -> None:
        self.elastic = elastic
        self.graph: ElasticGraph = graph_of(elastic)
        self.full_macs = self._macs(elastic.space.largest)

    def _macs(self, arch: Arch) -> int:
        return self.graph.counts(self.elastic.selection(arch)).macs

    def share(self, arch: Arch) -> float:
        return self._macs(arch) / self.full_macs


def sized_arch(space: Space, shared: float, own: float) -> Arch:
    """What several tasks own at one share of its range, the rest at another; rounded to the nearest options."""
    options = []
    for choice in space.choices:
        size = shared if len(choice.owners) > 1 else own
        options.append((choice.name, choice.options[round(size * (len(choice.options) - 1))]))
    return Arch(tuple(options))


def uniform_arch(elastic: ElasticModel, size: float) -> Arch:
    """Every choice at the same share of its range."""
    return sized_arch(elastic.space, size, size)


def uniform_archs(elastic: ElasticModel) -> list[Arch]:
    """All networks of one width, narrow to wide."""
    steps = max(len(choice.options) for choice in elastic.space.choices) - 1
    return list(dict.fromkeys(uniform_arch(elastic, step / steps) for step in range(steps + 1)))


def candidate_archs(elastic: ElasticModel, costs: Costs, setting: Setting, arm: Arm) -> list[Arch]:
    """The networks that answer for an arm, equally many for every arm that can choose; the same for every seed.

    Half of them are drawn as training draws them. The other half has decoders as the preferences ask, by the rule of
    `mtnas.search.decoders`, and the widest encoder that then fits; an arm whose decoders are fixed has draws instead.
    """
    if not arm.chooses:
        return uniform_archs(elastic)
    found: dict[Arch, None] = {elastic.space.largest: None}
    for budget in setting.budgets:
        if budget < 1.0 and costs.share(elastic.space.smallest) <= budget:
            ruled = [] if arm.ignored else ruled_archs(elastic, costs, budget, setting.candidates)
            wanted = 2 * setting.candidates - len(ruled)
            found |= dict.fromkeys([*ruled, *drawn_archs(elastic, costs, budget, wanted)])
    return list(found)


def drawn_archs(elastic: ElasticModel, costs: Costs, budget: float, count: int) -> list[Arch]:
    """Networks just under a budget, drawn as training draws them; fewer where the space holds fewer."""
    rng = generator(0, "candidates", round(1000 * budget))
    found: dict[Arch, None] = {}
    for _ in range(TRIES):
        if len(found) >= count:
            break
        arch = random_arch(elastic.space, rng, 0.2)
        if BELOW * budget <= costs.share(arch) <= budget:
            found[arch] = None
    return list(found)


def ruled_archs(elastic: ElasticModel, costs: Costs, budget: float, count: int) -> list[Arch]:
    """For each fixed preference, decoders as large as it asks, and the widest encoder that fits."""
    found: dict[Arch, None] = {}
    for preference in simplex_preferences(elastic.tasks, count):
        for level in LEVELS:
            held = DecoderPlan.of(elastic.space, preference, level).restrict(elastic.space)
            sizes = [sized_arch(held, size, 1.0) for size in ENCODERS]
            fitting = [arch for arch in sizes if costs.share(arch) <= budget]
            if fitting:
                found[fitting[0]] = None
                break
    return list(found)


def fixed_arch(elastic: ElasticModel, costs: Costs, budget: float) -> Arch:
    """The network that stands for a budget in every arm and seed: encoder and decoders as equally wide as possible.

    Among all pairs of an encoder's and a decoders' size, the most expensive one within the budget whose sizes lie next
    to each other.
    """
    best, best_cost = elastic.space.smallest, 0.0
    for arch in _near_uniform(elastic):
        cost = costs.share(arch)
        if best_cost < cost <= budget:
            best, best_cost = arch, cost
    if best_cost == 0.0 and costs.share(best) > budget:
        raise DataError(f"a network within {budget:.0%}", received="none", where="supernets")
    return best


def _near_uniform(elastic: ElasticModel) -> Iterator[Arch]:
    steps = max(len(choice.options) for choice in elastic.space.choices) - 1
    for shared in range(steps + 1):
        for own in range(max(0, shared - 1), min(steps, shared + 1) + 1):
            yield sized_arch(elastic.space, shared / steps, own / steps)


def with_new_weights(model: nn.Module, seed: int) -> nn.Module:
    """The same network with weights drawn anew: what was cut must not start from what was learned elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "alone"))
        for layer in model.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
    return model


def step_macs(elastic: ElasticModel, costs: Costs, setting: Setting) -> float:
    """Expected multiply-adds of a supernet's step in passes of the full network."""
    rng = generator(0, "step macs")
    draws = [costs.share(random_arch(elastic.space, rng, setting.train.width_jitter)) for _ in range(200)]
    mean = sum(draws) / len(draws)
    return 1.0 + costs.share(elastic.space.smallest) + setting.train.random_widths * mean


def sliced_statistics(elastic: ElasticModel, arch: Arch) -> dict[str, Tensor]:
    """The full network's batch-norm statistics, cut to a narrower one: what is used without re-estimation."""
    full, own = elastic.statistics(), elastic.statistics(elastic.selection(arch))
    return {name: full[name][: len(values)] for name, values in own.items()}
