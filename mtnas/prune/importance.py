"""What every pruning criterion is given, and the sums per unit they share. Shape letters: U = units of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.model import ElasticModel

Importance = dict[str, np.ndarray]
Losses = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]
Batches = Callable[[], Iterable[tuple[Tensor, Mapping[str, Tensor]]]]


@dataclass(frozen=True)
class ImportanceInput:
    """All a criterion may look at.

    Args:
        elastic: the elastic model; its weights are read, never changed.
        selection: the network that is being pruned.
        losses: (outputs, targets) -> unweighted loss per task.
        batches: yields (image_BCHW, targets) of the calibrate split.
        task_weights: how much each task's importance counts; 1 where silent.
        seed: for criteria that draw numbers.
    """

    elastic: ElasticModel
    selection: Selection
    losses: Losses
    batches: Batches
    task_weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def elastic_groups(self) -> tuple[ChannelGroup, ...]:
        return tuple(group for group in self.elastic.groups if group.elastic)


def unit_sums(
    group: ChannelGroup, values: Mapping[str, Tensor], roles: tuple[str, ...] = ("out", "norm")
) -> np.ndarray:
    """Sum `values` over all entries that belong to each unit, over the members with one of the roles: (U,).

    Args:
        group: the group.
        values: a tensor of the full shape per parameter name; members without one are passed over.
        roles: member roles that count.
    """
    total_U = np.zeros(group.size)
    for member in group.members:
        tensor = values.get(member.name)
        if member.role not in roles or tensor is None:
            continue
        other = [axis for axis in range(tensor.dim()) if axis != member.axis]
        per_position = (tensor.sum(dim=other) if other else tensor).double().numpy()
        total_U += np.array([per_position[list(row)].sum() for row in member.positions_UK])
    return total_U


def parameters(elastic: ElasticModel) -> dict[str, Tensor]:
    """The full-size parameters by name, detached."""
    return {name: parameter.detach() for name, parameter in elastic.model.named_parameters()}


def zeros_like_units(groups: tuple[ChannelGroup, ...]) -> Importance:
    """A zero for every unit of every group."""
    return {group.name: np.zeros(group.size) for group in groups}


def all_finite(importance: Importance) -> bool:
    return all(bool(np.isfinite(values).all()) for values in importance.values())
