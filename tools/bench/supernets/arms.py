"""The arms: how a supernet is trained, and which of its parts may shrink.

Every arm of a seed trains on the same images in the same order, with the same schedule. Where encoder and decoders
shrink, an epoch costs the same whether networks share a step or take turns; where decoders keep their size it costs
more, and there is an arm for as many epochs and one for as many multiply-adds. Single-task networks, networks trained
alone (for the multiply-adds of the whole supernet, or for each budget's part of them) and networks that are cut out of
the supernet and fine-tuned are arms too; their names say which: `single-TASK-MULTIPLIER`, `alone-BUDGET`,
`part-BUDGET`, `tuned-BUDGET`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mtnas.base.tables import check_name
from mtnas.train.config import SANDWICH, TURNS, TrainConfig


@dataclass(frozen=True)
class Arm:
    """A way to train a supernet.

    Args:
        title: for tables.
        changes: of the setting's training.
        ignored: layers that keep their channels.
        work_of: an arm whose multiply-adds its training takes, by fewer or more epochs; none = the setting's epochs.
    """

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    work_of: str = ""

    @property
    def chooses(self) -> bool:
        """Whether it has several networks of one cost."""
        return self.changes.get("branches") != "together"

    def training(self, setting: TrainConfig) -> TrainConfig:
        """The setting's training, changed."""
        return replace(setting, **self.changes)


#: the training that all arms of other questions share: the best one of `distill_scenes`
RECIPE: Mapping[str, Any] = {"step": TURNS, "distill_weight": 0.0, "feature_distill": "none"}
#: the arm of that recipe in which encoder and decoders shrink
JOINT = "turns"

ARMS: dict[str, Arm] = {
    "none": Arm("nothing", {"step": SANDWICH, "distill_weight": 0.0, "feature_distill": "none"}),
    "outputs": Arm("outputs", {"distill_weight": 0.5, "feature_distill": "none"}),
    "slice": Arm("features, slice", {"distill_weight": 0.0, "feature_distill": "slice"}),
    "attention": Arm("features, attention", {"distill_weight": 0.0, "feature_distill": "attention"}),
    "gram": Arm("features, gram", {"distill_weight": 0.0, "feature_distill": "gram"}),
    "project": Arm("features, project", {"distill_weight": 0.0, "feature_distill": "project"}),
    "both": Arm("outputs and features, attention", {"distill_weight": 0.5, "feature_distill": "attention"}),
    "turns": Arm("nothing, in turns", RECIPE),
    "even": Arm("nothing, in turns, branches of even width", {**RECIPE, "width_jitter": 0.0}),
    "encoder": Arm("encoder only", RECIPE, ignored=("heads.*",)),
    "encoder_work": Arm("encoder only, as many multiply-adds", RECIPE, ignored=("heads.*",), work_of=JOINT),
    "uniform": Arm("one width for all", {**RECIPE, "branches": "together", "width_jitter": 0.0}),
}
#: the best arm whose steps are sandwiches
SANDWICHED = "attention"
#: the same, but the shared encoder has one relative width, and so has each decoder
EVEN = "even"
#: arms whose candidates answer for preferences and budgets
ANSWERING = (JOINT, "encoder", "encoder_work", "uniform")


def arm_of(name: str) -> Arm:
    check_name(name, ARMS, "arm", "tools.bench.supernets")
    return ARMS[name]


def single(task: str, multiplier: float) -> str:
    """The name of a single-task network."""
    return f"single-{task}-{round(100 * multiplier)}"


def alone(budget: float) -> str:
    """The name of a network that is trained by itself."""
    return f"alone-{round(100 * budget)}"


def part(budget: float) -> str:
    """The name of a network that is trained by itself for its part of what the supernet takes: one by the budgets."""
    return f"part-{round(100 * budget)}"


def tuned(budget: float) -> str:
    """The name of a network that is cut out of the supernet of `JOINT` and fine-tuned."""
    return f"tuned-{round(100 * budget)}"
