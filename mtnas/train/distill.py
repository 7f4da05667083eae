"""What a smaller network learns from: the labels and the outputs of a larger one.

Source: Yu, Huang, "Universally Slimmable Networks and Improved Training Techniques", section 3.3 (in-place
distillation). There, sub-networks see the teacher only; with labels mixed in, regression heads do not inherit the
teacher's bias.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mtnas.base.errors import ModelError
from mtnas.tasks.base import Task


def label_losses(
    tasks: Mapping[str, Task], outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One loss per task against the labels, unweighted, in float32."""
    return {name: task.loss(output_of(outputs, name).float(), targets[name]) for name, task in tasks.items()}


def teacher_losses(
    tasks: Mapping[str, Task], outputs: Mapping[str, Tensor], teacher: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One loss per task against the teacher's outputs, which get no gradient."""
    return {
        name: task.distill(output_of(outputs, name).float(), output_of(teacher, name).detach().float())
        for name, task in tasks.items()
    }


def mixed(labels: Mapping[str, Tensor], teacher: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`share` of the teacher's loss and the rest of the labels', per task."""
    return {name: (1.0 - share) * labels[name] + share * teacher[name] for name in labels}


def output_of(outputs: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in outputs:
        raise ModelError("an output for every task", received=", ".join(outputs), where=f"task {name}")
    return outputs[name]
