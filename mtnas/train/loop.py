"""Train an elastic network once, so that every sub-network works: the sandwich rule with in-place distillation.

Source: Yu, Huang, "Universally Slimmable Networks and Improved Training Techniques", section 3. Each step trains the
largest network on the labels, and the smallest and some random ones on the labels and on the largest one's outputs
and, if wanted, features; gradients add up, then one step is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.groups import Selection
from mtnas.base.progress import Progress, Silent
from mtnas.base.seeds import generator
from mtnas.data.base import Split
from mtnas.elastic.model import ElasticModel
from mtnas.space.arch import Arch
from mtnas.tasks.base import Task
from mtnas.train.backward import make_backward, shared_parameters
from mtnas.train.balance.base import Balance
from mtnas.train.balance.make import make_balance
from mtnas.train.config import TrainConfig
from mtnas.train.cost import cost_text, phase_costs, whole_cost
from mtnas.train.distill import label_losses, mixed, teacher_losses
from mtnas.train.features.make import make_features
from mtnas.train.fit import FitJob, fit
from mtnas.train.objective import StepBatch, as_floats, replayed
from mtnas.train.parts import StepParts
from mtnas.train.resort import Resorting
from mtnas.train.result import TrainResult
from mtnas.train.reuse import Relay, shared_modules
from mtnas.train.sampling import opened, step_archs, what_runs
from mtnas.train.start import start_from, start_hash
from mtnas.train.watch import Watch


def train(
    elastic: ElasticModel,
    tasks: Mapping[str, Task],
    split: Split,
    config: TrainConfig,
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> TrainResult:
    """Train the elastic network's one set of weights, in place.

    Continues from `out/checkpoint.safetensors` where there is one, and does nothing but load the weights when the
    training is complete. Writes `curves.jsonl`, `weights.safetensors` and `fit.json`.

    Args:
        elastic: the network; its cached batch-norm statistics are void afterwards. With `config.start` its weights
            are replaced first, and its channels sorted.
        tasks: by output name.
        split: images and labels to train on.
        config: the settings.
        out: the folder for everything that is written.
        seed: of order, augmentation, and sub-networks.
        progress: shows a bar with each task's loss, and the scores that are watched.
        watch: looks at scores while training goes on.
    """
    progress = progress or Silent()
    if config.start:
        progress.note(f"train: {start_from(elastic, config)}")
    objective = Sandwich(elastic, tasks, config, seed)
    try:
        phases = phase_costs(elastic, config, objective.asked)
        progress.note(f"train: {cost_text(phases)}")
        cost, work = whole_cost(phases).to_json(), [(phase.share, phase.cost.ratio) for phase in phases]
        before = Resorting(elastic, config, objective.features, objective.balance, objective.parts, objective.asked)
        return fit(FitJob(objective, split, config, out, seed, progress, "train", cost, watch, work, before))
    finally:
        elastic.weights_changed()


#: In curves and results, the mean distance of the students' features; no task can have this name.
FEATURES = "feature distance"


@dataclass(frozen=True)
class Teacher:
    """What the largest network's pass of a step leaves for the others: outputs by task, and features; no gradients."""

    outputs: Mapping[str, Tensor]
    features: Sequence[Tensor]


class Sandwich:
    """Gradients of the largest, the smallest and some random sub-networks."""

    def __init__(self, elastic: ElasticModel, tasks: Mapping[str, Task], config: TrainConfig, seed: int) -> None:
        self.elastic, self.tasks, self.config, self.seed = elastic, tasks, config, seed
        self.balance: Balance = make_balance(config.balance, {name: task.spec.weight for name, task in tasks.items()})
        self.largest = elastic.selection(elastic.space.largest)
        self.asked = tuple(tasks) if set(tasks) < set(elastic.tasks) else None
        self.same = what_runs(elastic, self.asked)
        self.features = make_features(elastic, config)
        self.shared = shared_modules(elastic) if config.decoders_per_encoder > 1 else ()
        shared = shared_parameters(elastic.model, elastic.parameter_owners)
        self.parts = StepParts()
        self.backward = make_backward(self.balance, elastic.model, shared, config.flat_radius, self.parts)

    @property
    def module(self) -> nn.Module:
        return self.elastic.model

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        return {"balance": self.balance} | ({"features": self.features.form} if self.features else {})

    def identity(self) -> Mapping[str, Any]:
        known = {"space": self.elastic.space.id, "tasks": [task.spec.to_json() for task in self.tasks.values()]}
        return {**known, "start": start_hash(self.config)} if self.config.start else known

    def state(self) -> dict[str, Tensor]:
        return self.elastic.state()

    def accumulate(self, batch: StepBatch) -> dict[str, float]:
        archs = self.archs(batch)
        share = 1.0 / (1 + sum(len(alike) for alike in archs))
        again = replayed(lambda: self.losses(batch), batch.image_BCHW.device)
        outputs, features = self._run(self.largest, batch)
        losses = label_losses(self.tasks, outputs, batch.targets)
        total = self.backward.largest(losses, share, again)
        reported = as_floats(losses, total)
        teacher = Teacher(
            {name: outputs[name].detach() for name in self.tasks}, [feature.detach() for feature in features]
        )
        distances = [distance for alike in archs for distance in self._students(alike, batch, teacher, share)]
        self.backward.finish()
        return reported | _mean(distances)

    def archs(self, batch: StepBatch) -> list[list[Arch]]:
        """The sub-networks of a step beside the largest; those of one list have the same shared part."""
        space = opened(self.elastic.space, batch.done, self.config)
        rng = generator(self.seed, "archs", batch.step)
        return step_archs(space, rng, self.config, self.elastic.space.largest, self.same)

    def losses(self, batch: StepBatch) -> dict[str, Tensor]:
        with batch.mode.autocast(batch.image_BCHW.device):
            outputs = self.elastic.run(batch.image_BCHW, self.largest, training=True, tasks=self.asked)
        return label_losses(self.tasks, outputs, batch.targets)

    def _students(
        self, archs: Sequence[Arch], batch: StepBatch, teacher: Teacher, share: float
    ) -> Iterator[Tensor | None]:
        """Gradients of sub-networks with the same shared part, which runs once; yields their features' distances."""
        selections = [self.elastic.selection(arch) for arch in archs]
        if len(selections) == 1:
            yield self._student(selections[0], batch, teacher, share)
            return
        relay = Relay(self.elastic.model, self.shared)
        with relay.recording():
            distance = self._student(selections[0], batch, teacher, share, len(selections), keep=True)
        for selection in selections[1:]:
            with relay.replaying():
                self._student(selection, batch, teacher, share, 0)
        relay.backward()
        yield from [distance] * len(selections)

    def _student(
        self,
        selection: Selection,
        batch: StepBatch,
        teacher: Teacher,
        share: float,
        features_of: int = 1,
        *,
        keep: bool = False,
    ) -> Tensor | None:
        """Gradients of one sub-network; returns the distance of its features.

        Args:
            selection: the sub-network.
            batch: what it sees.
            teacher: what it follows.
            share: of this network in the step's gradient.
            features_of: for how many networks its features count.
            keep: whether parts of its graph are walked through once more later.
        """
        outputs, features = self._run(selection, batch)
        losses = label_losses(self.tasks, outputs, batch.targets)
        if self.config.distill_weight > 0:
            losses = mixed(losses, teacher_losses(self.tasks, outputs, teacher.outputs), self.config.distill_weight)
        if self.features is None or not features_of:
            self.backward.student(losses, share, keep=keep)
            return None
        distance = self.features.distance(features, teacher.features, selection)
        self.backward.student(losses, share, features_of * self.config.feature_weight * distance, keep=keep)
        return distance.detach()

    def _run(self, selection: Selection, batch: StepBatch) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Outputs and features of one network in training mode."""
        with batch.mode.autocast(batch.image_BCHW.device):
            if self.features is None:
                return self.elastic.run(batch.image_BCHW, selection, training=True, tasks=self.asked), []
            with self.features.watching() as found:
                outputs = self.elastic.run(batch.image_BCHW, selection, training=True, tasks=self.asked)
            return outputs, self.features.tensors(found)


def _mean(distances: Sequence[Tensor | None]) -> dict[str, float]:
    found = [distance for distance in distances if distance is not None]
    return {FEATURES: float(torch.stack(found).mean())} if found else {}
