"""Scores by a user's function or by tasks and data, and the floors under them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

import onnx
import torch
from torch import Tensor, nn

from mtnas.api.data import Tasks, make_tasks
from mtnas.base.budget import Floor
from mtnas.base.errors import FloorMissed, JobError, ModelError
from mtnas.base.tables import nearest
from mtnas.data.base import Dataset
from mtnas.score.score import primary, score
from mtnas.tasks.base import Task
from mtnas.verify.metrics import onnx_forward

#: score_fn(model) -> {task: value}, or one value
ScoreFn = Callable[[nn.Module], Mapping[str, float] | float]
#: the name of a bare number
SCORE = "score"


class OnnxModule(nn.Module):
    """An ONNX file behind the face of a module, so that the same function scores both."""

    def __init__(self, model: onnx.ModelProto | bytes) -> None:
        super().__init__()
        self._forward = onnx_forward(model)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        return self._forward(image_BCHW)


@dataclass(frozen=True)
class Scorer:
    """Scores networks, and knows the directions and the floors. `None` as function: nothing is scored.

    Args:
        function: module -> scores by task.
        lower_is_better: names of scores that are errors.
        floors: what the user asked for.
        bounds: the same as absolute numbers, once the unpruned network is scored.
    """

    function: Callable[[nn.Module], dict[str, float]] | None
    lower_is_better: frozenset[str] = frozenset()
    floors: Mapping[str, Floor] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        return self.function(model) if self.function is not None else {}

    def bounded(self, before: Mapping[str, float]) -> Scorer:
        """With the floors as absolute numbers, given the unpruned network's scores.

        Raises:
            JobError: a floor for something that is not scored.
            FloorMissed: the unpruned network is below a floor.
        """
        for name in (*self.floors, *self.lower_is_better):
            if name not in before:
                raise JobError(
                    "a task that is scored",
                    received=repr(name),
                    where="floors" if name in self.floors else "lower_is_better",
                    cure=nearest(name, before) if before else "give score=, or tasks= and data=",
                )
        bounds = {n: f.bound(before[n], n not in self.lower_is_better) for n, f in self.floors.items()}
        found = Scorer(self.function, self.lower_is_better, self.floors, bounds)
        missed = found.missed(before)
        if missed:
            raise FloorMissed(
                "floors that the network reaches as it came",
                received=missed,
                where="floors",
                cure="lower the floor, or train longer",
            )
        return found

    def missed(self, scores: Mapping[str, float]) -> str:
        """The floors that these scores break, in words; empty when none."""
        broken = []
        for name, bound in self.bounds.items():
            worse = scores[name] > bound if name in self.lower_is_better else scores[name] < bound
            if worse:
                broken.append(f"{name} {scores[name]:.4g} (floor {bound:.4g})")
        return ", ".join(broken)


def make_scorer(
    score_fn: ScoreFn | None,
    tasks: Tasks,
    data: Dataset | None,
    floors: Mapping[str, float | int | str] | None,
    lower_is_better: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Scorer:
    """By the user's function; without one by the tasks' primary metrics on the `select` split; else none.

    Raises `JobError` for floors without scores, and for tasks without data.
    """
    parsed = {name: Floor.parse(name, text) for name, text in (floors or {}).items()}
    if score_fn is not None:
        return Scorer(_checked(score_fn), frozenset(lower_is_better), parsed)
    if data is None:
        if parsed or tasks is not None:
            raise JobError(
                "scores", received="no score= and no data=", where="floors" if parsed else "tasks", cure="give score="
            )
        return Scorer(None)
    found = make_tasks(tasks, data, outputs)
    split = data.split("select")
    lower = {name for name, task in found.items() if not task.primary.higher_is_better}
    return Scorer(lambda model: primary(score(model, found, split), found), frozenset(lower), parsed)


def _checked(score_fn: ScoreFn) -> Callable[[nn.Module], dict[str, float]]:
    """The user's function; a bare number becomes `{"score": number}`, anything but finite numbers is refused."""

    def scored(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            raw = score_fn(model)
        named = dict(raw) if isinstance(raw, Mapping) else {SCORE: raw}
        for name, value in named.items():
            value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ModelError(
                    "a finite number for every task",
                    received=f"{name}: {value!r}",
                    where="score",
                    cure="score(model) returns {task: float}, or one float",
                )
            named[name] = float(value)
        return named

    return scored


def task_losses(
    tasks: Mapping[str, Task],
) -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]:
    """(outputs, targets) -> unweighted loss by task."""
    return lambda outputs, targets: {name: task.loss(outputs[name], targets[name]) for name, task in tasks.items()}
