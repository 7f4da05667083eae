"""What a task is in words and numbers; knows no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mtnas.base.errors import JobError

#: segmentation label of a pixel that is not scored; also marks unscored pixels of edges and classes of presence
IGNORE = 255
#: classification label of an image that is not scored
UNLABELLED = -1


@dataclass(frozen=True)
class Metric:
    """One number by which a task is judged.

    Args:
        name: key in the result of `Meter.compute`.
        unit: `%`, `m`, `deg`, or empty for a plain ratio.
        higher_is_better: the direction.
    """

    name: str
    unit: str
    higher_is_better: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TaskSpec:
    """One output of a network.

    Args:
        name: key in the network's output and in the data's targets.
        type: a row of `tasks.table.TASKS`.
        channels: channels of the raw output: classes, 1 for depth and edges, 3 for normals.
        weight: factor of this task's loss in the sum over tasks; `Task.loss` does not contain it.
        class_names: one per channel, or empty.
    """

    name: str
    type: str
    channels: int
    weight: float = 1.0
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"tasks.{self.name}"
        if self.channels < 1:
            raise JobError("at least one channel", received=str(self.channels), where=where)
        if not 0 <= self.weight < float("inf"):
            raise JobError("a loss weight of zero or more", received=str(self.weight), where=f"{where}.weight")
        if self.class_names and len(self.class_names) != self.channels:
            raise JobError(
                f"{self.channels} class names, one per channel", received=str(len(self.class_names)), where=where
            )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "class_names": list(self.class_names)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> TaskSpec:
        return TaskSpec(**{**data, "class_names": tuple(data["class_names"])})
