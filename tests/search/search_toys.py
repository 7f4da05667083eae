"""A small two-task problem with known structure, evaluated in microseconds; shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.base.quantity import Counted, Predicted
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

TASKS = ("segmentation", "depth")


def toy_space(layers: int = 4, options: Sequence[int] = (8, 16, 24, 32)) -> Space:
    """`layers` shared widths and two for each task."""
    owners = [TASKS] * layers + [(task,) for task in TASKS for _ in range(2)]
    return Space(tuple(Choice(f"g{i}", tuple(options), "width", owner) for i, owner in enumerate(owners)))


def toy_problem(space: Space | None = None, constraints: Sequence[Constraint] = ()) -> Problem:
    objectives = (
        Objective("segmentation", "mIoU", higher_is_better=True),
        Objective("depth", "m", higher_is_better=False),
        Objective("latency_ms", "ms", higher_is_better=False),
    )
    return Problem(space or toy_space(), objectives, tuple(constraints))


def toy_evaluate(arch: Arch) -> Outcome:
    """Latency grows with every width and has a cliff; each task likes the shared widths and its own."""
    widths = [float(option) for _, option in arch.options]
    shared, seg, depth = widths[:-4], widths[-4:-2], widths[-2:]
    latency = sum(widths) / 40 + (0.7 if widths[0] > 16 else 0.0)
    scores = {
        "segmentation": 1 - 1 / (1 + 0.02 * sum(shared) + 0.05 * sum(seg)),
        "depth": 1 / (1 + 0.03 * sum(shared[: len(shared) // 2]) + 0.04 * sum(depth)),
    }
    return Outcome(
        objectives={**scores, "latency_ms": latency},
        costs={
            "latency_ms": Predicted(latency, latency * 0.95, latency * 1.05, "ms"),
            "params": Counted(sum(w * w for w in widths), "parameters"),
        },
        scores={task: {"primary": value} for task, value in scores.items()},
    )
