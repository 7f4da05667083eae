"""What every pruning criterion is given, and the sums per unit they share. Shape letters: U = units of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mtnas.base.errors import ModelError
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.base.tables import lookup
from mtnas.elastic.model import ElasticModel
from mtnas.prune.criteria.table import CRITERIA

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


def unit_sums(group: ChannelGroup, values: Mapping[str, Tensor], roles: tuple[str, ...]) -> np.ndarray:
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


def importance_of(criterion: str, given: ImportanceInput) -> Importance:
    """The importance of every unit of every elastic group by a criterion of the table; larger = keep.

    Raises:
        JobError: no such criterion.
        ModelError: weights or gradients are not finite.
    """
    found: Importance = lookup(criterion, CRITERIA, "criterion", "prune.criterion")(given)
    for name, values_U in found.items():
        if not np.isfinite(values_U).all():
            raise ModelError(
                "finite weights and gradients",
                received=f"{criterion} importance of {name} is NaN or infinite",
                where="prune",
                cure="the trained weights hold NaN: train again with a lower lr",
            )
    return found


def kept_units(group: ChannelGroup, selection: Selection) -> list[int]:
    """The units of a group that a selection keeps."""
    return list(selection.as_dict.get(group.name, range(group.size)))
