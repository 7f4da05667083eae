"""Fine-tune a plain network, such as a cut one, on the labels and on a teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtnas.base.progress import Progress, Silent
from mtnas.data.base import Split
from mtnas.elastic.owners import parameter_owners
from mtnas.tasks.base import Task
from mtnas.train.backward import Backward, make_backward, needs_owners, shared_parameters
from mtnas.train.balance.make import make_balance
from mtnas.train.checkpoint import weights_hash
from mtnas.train.config import FitConfig
from mtnas.train.distill import label_losses, mixed, teacher_losses
from mtnas.train.fit import FitJob, fit
from mtnas.train.objective import StepBatch, as_floats, replayed
from mtnas.train.parts import StepParts
from mtnas.train.result import FinetuneResult

Teacher = Callable[[Tensor], Mapping[str, Tensor]]


def finetune(
    model: nn.Module,
    tasks: Mapping[str, Task],
    split: Split,
    config: FitConfig,
    out: Path,
    *,
    teacher: nn.Module | Teacher | None,
    seed: int,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Train a plain network in place, and leave it in evaluation mode with the batch-norm averages of training.

    Continues from `out/checkpoint.safetensors`; writes the same files as `train`.

    Args:
        model: the network; its weights at the start are part of the checkpoint's identity.
        tasks: by output name.
        split: images and labels to train on.
        config: the settings.
        out: the folder for everything that is written.
        teacher: the larger network, run without gradients; a module is put in evaluation mode. None = labels only.
        seed: of order and augmentation.
        progress: shows a bar with each task's loss.
    """
    model.train()
    if isinstance(teacher, nn.Module):
        teacher.eval()
    try:
        objective = Plain(model, tasks, config, teacher)
        return fit(FitJob(objective, split, config, out, seed, progress or Silent(), "finetune"))
    finally:
        model.eval()


class Plain:
    """Gradients of one network."""

    def __init__(self, model: nn.Module, tasks: Mapping[str, Task], config: FitConfig, teacher: Teacher | None) -> None:
        self.model, self.tasks, self.config, self.teacher = model, tasks, config, teacher
        self.balance = make_balance(config.balance, {name: task.spec.weight for name, task in tasks.items()})
        self.parts = StepParts()
        self.backward: Backward | None = None
        self.start = weights_hash(model.state_dict())

    @property
    def module(self) -> nn.Module:
        return self.model

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        return {"balance": self.balance}

    def identity(self) -> Mapping[str, Any]:
        teacher = weights_hash(self.teacher.state_dict()) if isinstance(self.teacher, nn.Module) else bool(self.teacher)
        return {
            "tasks": [task.spec.to_json() for task in self.tasks.values()],
            "start": self.start,
            "teacher": teacher,
        }

    def state(self) -> dict[str, Tensor]:
        return dict(self.model.state_dict())

    def accumulate(self, batch: StepBatch) -> dict[str, float]:
        again = replayed(lambda: self.losses(batch), batch.image_BCHW.device)
        with batch.mode.autocast(batch.image_BCHW.device):
            outputs = self.model(batch.image_BCHW)
        labels = label_losses(self.tasks, outputs, batch.targets)
        backward = self.backward or self._backward(outputs)
        total = backward.first(self._mixed(labels, outputs, batch), 1.0, again)
        backward.finish()
        return as_floats({name: labels[name] for name in self.tasks}, total)

    def losses(self, batch: StepBatch) -> dict[str, Tensor]:
        averages = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with batch.mode.autocast(batch.image_BCHW.device):
            outputs = functional_call(self.model, averages, (batch.image_BCHW,))
        return self._mixed(label_losses(self.tasks, outputs, batch.targets), outputs, batch)

    def _mixed(self, labels: dict[str, Tensor], outputs: Mapping[str, Tensor], batch: StepBatch) -> dict[str, Tensor]:
        """The losses against the labels and, where there is a teacher, its answers."""
        if self.teacher is None or self.config.distill_weight == 0:
            return labels
        with torch.no_grad(), batch.mode.autocast(batch.image_BCHW.device):
            answers = self.teacher(batch.image_BCHW)
        return mixed(labels, teacher_losses(self.tasks, outputs, answers), self.config.distill_weight)

    def _backward(self, outputs: Mapping[str, Tensor]) -> Backward:
        """Made in the first step: which parameters tasks share is seen from the outputs' graph."""
        special = needs_owners(self.balance, self.config.flat_radius)
        owners = parameter_owners(self.model, {name: outputs[name] for name in self.tasks}) if special else {}
        shared = shared_parameters(self.model, owners)
        self.backward = make_backward(self.balance, self.model, shared, self.config.flat_radius, self.parts)
        return self.backward
