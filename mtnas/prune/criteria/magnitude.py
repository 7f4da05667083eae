"""L1 magnitude of the weights that produce a unit (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017)."""

from __future__ import annotations

from mtnas.base.blocks import inside
from mtnas.prune.importance import Importance, ImportanceInput, kept_units, parameters, unit_sums


def l1(given: ImportanceInput) -> Importance:
    """Sum of absolute producing weights per unit, divided by the mean of the kept units: groups become comparable.

    Skipped blocks, and options of forks that are not chosen, produce nothing.
    """
    absent = given.elastic.absent(given.selection)
    running = {name: tensor for name, tensor in parameters(given.elastic).items() if not inside(name, absent)}
    absolute = {name: tensor.abs() for name, tensor in running.items()}
    result: Importance = {}
    for group in given.elastic_groups:
        raw_U = unit_sums(group, absolute, ("out", "norm"))
        result[group.name] = raw_U / max(float(raw_U[kept_units(group, given.selection)].mean()), 1e-12)
    return result
