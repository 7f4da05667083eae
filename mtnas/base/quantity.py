"""Numbers that carry where they come from: measured, predicted and counted are different types."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measured:
    """A number read off a device.

    Args:
        value: the central value (the median unless `statistic` says otherwise).
        low, high: the confidence interval of the value.
        unit: `ms`, `mb`, `mj`.
        count: how many raw samples are behind it.
        statistic: `p50`, `p95`, `p99`.
        device: name of the device profile.
    """

    value: float
    low: float
    high: float
    unit: str
    count: int
    statistic: str = "p50"
    device: str = ""
    kind: str = field(default="measured", init=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Predicted:
    """A number computed by a fitted predictor, with its interval at `coverage`."""

    value: float
    low: float
    high: float
    unit: str
    coverage: float = 0.9
    kind: str = field(default="predicted", init=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Counted:
    """An exact count from the network's description: parameters, multiply-adds, bytes."""

    value: float
    unit: str
    kind: str = field(default="counted", init=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
