"""Multi-task first-order Taylor importance.

Molchanov et al., Importance Estimation for Neural Network Pruning (CVPR 2019): put a gate on a unit; closing it changes
a loss by about the loss's derivative with respect to the gate, whose square, averaged over batches, is the importance.
The derivative is the sum of weight x gradient over the weights that read the unit, wherever they are: exact for
any norm, addition or concatenation on the way, while the sum over the producing weights is not.

Here it is computed for each task's loss apart and divided by that task's total, so that no task is starved because its
loss is small; then summed with the tasks' weights.
"""

from __future__ import annotations

import torch

from mtnas.base.errors import ModelError
from mtnas.base.groups import ChannelGroup
from mtnas.prune.importance import Importance, ImportanceInput, unit_sums, zeros_like_units


def taylor(given: ImportanceInput) -> Importance:
    """Importance per unit; sums to the tasks' total weight over all units of all groups."""
    per_task = task_taylor(given)
    total = zeros_like_units(given.elastic_groups)
    for task, importance in per_task.items():
        scale = sum(float(values.sum()) for values in importance.values())
        if scale == 0.0:  # a loss that nothing here changes
            continue
        weight = given.task_weights.get(task, 1.0)
        for name, values_U in importance.items():
            total[name] += weight * values_U / scale
    return total


def task_taylor(given: ImportanceInput) -> dict[str, Importance]:
    """The unnormalised importance for each task's loss alone."""
    elastic, groups = given.elastic, given.elastic_groups
    statistics = elastic.statistics(given.selection)
    named = {name: parameter for name, parameter in elastic.model.named_parameters() if parameter.requires_grad}
    result: dict[str, Importance] = {}
    for image_BCHW, targets in given.batches():
        with torch.enable_grad():
            losses = given.losses(elastic.run(image_BCHW, given.selection, statistics=statistics), targets)
            for position, (task, loss) in enumerate(losses.items()):
                keep = position + 1 < len(losses)
                grads = torch.autograd.grad(loss, list(named.values()), retain_graph=keep, allow_unused=True)
                products = {
                    name: (parameter.detach() * grad).float()
                    for (name, parameter), grad in zip(named.items(), grads, strict=True)
                    if grad is not None
                }
                sums = result.setdefault(task, zeros_like_units(groups))
                for group in groups:
                    sums[group.name] += unit_sums(group, products, gate_roles(group)) ** 2
    if not result:
        raise ModelError("at least one batch to judge importance on", where="prune", cure="enlarge the calibrate split")
    return result


def gate_roles(group: ChannelGroup) -> tuple[str, ...]:
    """The members whose weight x gradient sums to the gate's derivative: readers, where there are any."""
    return ("in",) if any(member.role == "in" for member in group.members) else ("out", "norm")
