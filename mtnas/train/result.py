"""What a training leaves behind. Knows no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class FitResult:
    """Facts of one finished optimisation run; `fit.json` in its folder.

    Args:
        steps: optimizer steps.
        epochs: passes over the train split.
        images: images seen.
        seconds: time spent in steps, over all interruptions, without trials.
        mode: the arithmetic, `float32, contiguous` for example.
        trials: seconds per step of every mode that was tried.
        threads: intra-op threads of torch.
        losses: the last averages, unweighted per task, and `total`.
        weights: name of the weights file.
        weights_hash: SHA-256 of its bytes.
        ema: decay of the moving average that these weights are; 0 = they are those of the last step.
        cost: of the mean step beside a plain network's (`mtnas.train.cost.StepCost`); empty when it is a plain one.
    """

    steps: int
    epochs: int
    images: int
    seconds: float
    mode: str
    trials: dict[str, float]
    threads: int
    losses: dict[str, float]
    weights: str
    weights_hash: str
    ema: float = 0.0
    cost: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        return {"schema": "train/1", **asdict(self), "images_per_second": round(self.images_per_second, 2)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> FitResult:
        left = {key: value for key, value in data.items() if key not in ("schema", "images_per_second")}
        return FitResult(**left)


TrainResult = FitResult
FinetuneResult = FitResult
