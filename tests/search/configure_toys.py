"""A two-task network whose scores are known functions of its widths: every width has a value of its own, and the gain
of a further channel falls, so that the best network of a budget can be told by trying all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from mtnas.base.quantity import Counted
from mtnas.search.configure import Subject
from mtnas.search.evaluations import Evaluations
from mtnas.search.objectives import Objective
from mtnas.search.trial import Cost
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

TASKS = ("seg", "depth")
OBJECTIVES = (Objective("seg", "mIoU", higher_is_better=True), Objective("depth", "m"))
#: importance of each shared width for (seg, depth)
SHARED = ((1.0, 0.2), (0.5, 0.5), (0.2, 1.0))
WIDTHS = (8, 16, 24, 32)


def space(widths: Sequence[int] = WIDTHS, decoders: int = 2) -> Space:
    shared = [Choice(f"e{i}", tuple(widths), "width", TASKS) for i in range(len(SHARED))]
    owned = [Choice(f"{task}{i}", tuple(widths), "width", (task,)) for task in TASKS for i in range(decoders)]
    return Space((*shared, *owned))


def value(arch: Arch, task: str) -> float:
    """Sum over widths of importance * log(width): what the task gains from the network."""
    at = TASKS.index(task)
    shared = math.fsum(weights[at] * math.log(float(arch[f"e{i}"])) for i, weights in enumerate(SHARED))
    own = math.fsum(0.5 * math.log(float(option)) for name, option in arch.options if name.startswith(task))
    return shared + own


def scores(arch: Arch) -> dict[str, float]:
    """seg rises with its value from 0 to 1, depth falls towards 0."""
    return {"seg": 0.05 * value(arch, "seg"), "depth": 3.0 - 0.2 * value(arch, "depth")}


def costs(arch: Arch) -> dict[str, Cost]:
    """Multiply-adds of a chain of the shared layers, and of each decoder behind it."""
    shared = [float(arch[f"e{i}"]) for i in range(len(SHARED))]
    macs = math.fsum(a * b for a, b in itertools.pairwise([3.0, *shared])) * 10
    macs += math.fsum(shared[-1] * float(option) for name, option in arch.options if name.startswith(TASKS))
    return {"macs": Counted(macs, "MACs"), "params": Counted(macs / 10, "parameters")}


def subject(found: Space | None = None, evaluations: Evaluations | None = None) -> Subject:
    return Subject(found or space(), OBJECTIVES, costs, evaluations or Evaluations(scores))


def all_archs(found: Space) -> list[Arch]:
    names = [choice.name for choice in found.choices]
    rows = itertools.product(*(choice.options for choice in found.choices))
    return [Arch(tuple(zip(names, row, strict=True))) for row in rows]
