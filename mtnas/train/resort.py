"""Channels are put in order of importance again while training goes on.

Source: Cai, Gan, Wang, Zhang, Han, "Once-for-All", ICLR 2020, section 3.3: channels are sorted by L1 norm before
narrower widths are trained. A re-sorting comes before a step's gradients, and follows from the step's number and the
weights. Where it comes because options open, only channels that all open widths have change places: no network that was
trained before becomes another one, and narrower ones begin with the strongest channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtnas.elastic.model import ElasticModel
from mtnas.elastic.sort import Along, Order, l1_importance
from mtnas.train.balance.base import Balance
from mtnas.train.config import TrainConfig
from mtnas.train.features.make import Features
from mtnas.train.objective import Moment
from mtnas.train.parts import StepParts
from mtnas.train.sampling import opened


@dataclass(frozen=True)
class Resorting:
    """Sorts an elastic network when it is time, with everything that is kept for each of its channels.

    Args:
        elastic: the network.
        config: says when.
        features: what is learned beside the network for its channels; None = nothing.
        balance: what it remembers of gradients is void afterwards.
        tasks: those that are trained; None = all. Decoders of others stay as they are.
        parts: knows the processes; all take the leading one's order.
    """

    elastic: ElasticModel
    config: TrainConfig
    features: Features | None
    balance: Balance
    parts: StepParts
    tasks: Sequence[str] | None = None

    def __call__(self, moment: Moment, along: Along) -> dict[str, float]:
        """`resorted`: the share of units that changed places; empty when nothing was to sort."""
        leading = self.leading(moment)
        if not leading:
            return {}
        importance = l1_importance(self.elastic.groups, self.elastic.model.state_dict())
        agreed = {
            name: self.parts.ranks.same(torch.from_numpy(score_U)).numpy() for name, score_U in importance.items()
        }
        order = self.elastic.sort_channels(agreed, leading=leading, along=along)
        if self.features:
            self.features.form.moved(order, along)
        self.balance.moved()
        return {"resorted": moved_share(order)}

    def leading(self, moment: Moment) -> dict[str, int]:
        """How many units of each group are sorted before this step, the first ones."""
        if not moment.step:
            return {}
        every, space = self.config.resort_epochs * moment.per_epoch, self.elastic.space
        if every and moment.step % every == 0:
            free = self._free()
            return {group.name: group.size for group in self.elastic.groups if group.name in free}
        if not self.config.resort_openings:
            return {}
        before, now = (opened(space, step / moment.total, self.config) for step in (moment.step - 1, moment.step))
        if before == now:
            return {}
        free, widths = self._free(), [choice for choice in before.choices if choice.kind == "width"]
        return {choice.name: int(choice.options[0]) for choice in widths if choice.name in free}

    def _free(self) -> set[str]:
        """Groups that tasks in training reach, without frozen parameters, which keep their values to the bit."""
        learned = set(self.elastic.tasks if self.tasks is None else self.tasks)
        named = self.elastic.model.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in named if not parameter.requires_grad}
        return {
            group.name
            for group in self.elastic.groups
            if group.elastic and learned & set(group.owners) and frozen.isdisjoint(m.name for m in group.members)
        }


def moved_share(order: Order) -> float:
    """Share of the units that changed places."""
    places = [np.arange(len(units)) != units for units in order.values()]
    return float(np.concatenate(places).mean()) if places else 0.0
