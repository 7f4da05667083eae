"""The arms: how a supernet is trained, and which of its parts may shrink.

Every arm of a seed sees the same images in the same order with the same schedule. Single-task networks and networks
trained alone are arms too; their names say which: `single-TASK-MULTIPLIER`, `alone-BUDGET`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtnas.base.tables import check_name


@dataclass(frozen=True)
class Arm:
    """A way to train a supernet.

    Args:
        title: for tables.
        changes: of the setting's training.
        ignored: layers that keep their channels.
        searched: whether candidates at every budget are scored, not only one fixed network each.
    """

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    searched: bool = False


ARMS: dict[str, Arm] = {
    "joint": Arm("encoder and decoders", searched=True),
    "encoder": Arm("encoder only", ignored=("heads.*",), searched=True),
    "uniform": Arm("one width for all", {"branches": "together", "width_jitter": 0.0}, searched=True),
    "none": Arm("no distillation", {"distill_weight": 0.0}),
    "slice": Arm("features, slice", {"distill_weight": 0.0, "feature_distill": "slice"}),
    "attention": Arm("features, attention", {"distill_weight": 0.0, "feature_distill": "attention"}),
    "gram": Arm("features, gram", {"distill_weight": 0.0, "feature_distill": "gram"}),
    "project": Arm("features, project", {"distill_weight": 0.0, "feature_distill": "project"}),
    "both": Arm("outputs and features (slice)", {"feature_distill": "slice"}),
}


def arm_of(name: str) -> Arm:
    check_name(name, ARMS, "arm", "tools.bench.supernets")
    return ARMS[name]


def single(task: str, multiplier: float) -> str:
    """The name of a single-task network."""
    return f"single-{task}-{round(100 * multiplier)}"


def alone(budget: float) -> str:
    """The name of a network that is trained by itself."""
    return f"alone-{round(100 * budget)}"
