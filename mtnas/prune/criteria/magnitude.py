"""L1 magnitude of the weights that produce a unit (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017)."""

from __future__ import annotations

from mtnas.prune.importance import Importance, ImportanceInput, parameters, unit_sums


def l1(given: ImportanceInput) -> Importance:
    """Sum of absolute producing weights per unit, divided by the group's mean, so that groups are comparable."""
    absolute = {name: tensor.abs() for name, tensor in parameters(given.elastic).items()}
    result: Importance = {}
    for group in given.elastic_groups:
        raw_U = unit_sums(group, absolute)
        result[group.name] = raw_U / max(float(raw_U.mean()), 1e-12)
    return result
