"""Budgets: limits by name, absolute or a percent of the unpruned network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mtnas.base.errors import JobError
from mtnas.base.tables import nearest

LIMIT_UNITS: dict[str, str] = {
    "latency_ms": "ms",
    "size_mb": "MB",
    "memory_mb": "MB",
    "energy_mj": "mJ",
    "macs": "MACs",
    "params": "parameters",
}


@dataclass(frozen=True)
class Limit:
    """An upper bound on one cost.

    Args:
        name: a row of `LIMIT_UNITS`.
        amount: absolute, or percent of the unpruned network when `percent`.
        percent: how `amount` is read.
    """

    name: str
    amount: float
    percent: bool = False

    @staticmethod
    def parse(name: str, text: float | int | str, where: str = "budget") -> Limit:
        """Read `8.0` or `"50%"`; raise `JobError` on anything else."""
        if name not in LIMIT_UNITS:
            raise JobError("a known limit", received=repr(name), where=where, cure=nearest(name, LIMIT_UNITS))
        percent = isinstance(text, str) and text.strip().endswith("%")
        try:
            amount = float(str(text).strip().rstrip("%"))
        except ValueError:
            amount = math.nan
        if isinstance(text, bool) or not math.isfinite(amount) or amount <= 0:
            raise JobError(
                "a positive number, or a percent such as '50%'",
                received=repr(text),
                where=f"{where}.{name}",
                cure=f"write {name}: 8.0 (in {LIMIT_UNITS[name]}) or {name}: 50%",
            )
        return Limit(name, amount, percent)

    def resolve(self, full: float) -> float:
        """The absolute bound, given the unpruned network's cost."""
        return self.amount / 100.0 * full if self.percent else self.amount

    def __str__(self) -> str:
        return f"{self.name} <= {self.amount:g}{'%' if self.percent else ' ' + LIMIT_UNITS[self.name]}"


@dataclass(frozen=True)
class Budget:
    """An ordered set of limits."""

    limits: tuple[Limit, ...] = ()

    @staticmethod
    def parse(raw: Mapping[str, float | int | str], where: str = "budget") -> Budget:
        return Budget(tuple(Limit.parse(name, text, where) for name, text in raw.items()))

    def resolve(self, full: Mapping[str, float]) -> dict[str, float]:
        """Absolute bounds by name; `full` holds the unpruned network's cost for each named limit."""
        missing = [limit.name for limit in self.limits if limit.percent and limit.name not in full]
        if missing:
            raise JobError(
                "costs of the unpruned network for percent limits",
                received=f"none for {', '.join(missing)}",
                where="budget",
                cure="this cost cannot be had on this device: remove the limit",
            )
        return {limit.name: limit.resolve(full.get(limit.name, math.nan)) for limit in self.limits}


@dataclass(frozen=True)
class Floor:
    """A lower bound on a task's score: `-3%` relative to the unpruned network, or an absolute metric value."""

    task: str
    amount: float
    percent: bool = False

    @staticmethod
    def parse(task: str, text: float | int | str, where: str = "floors") -> Floor:
        """Read `"-3%"` (three percent worse than unpruned at most) or an absolute metric value."""
        percent = isinstance(text, str) and text.strip().endswith("%")
        try:
            amount = float(str(text).strip().rstrip("%"))
        except ValueError:
            amount = math.nan
        if isinstance(text, bool) or not math.isfinite(amount):
            raise JobError(
                "a metric value, or a percent such as '-3%'",
                received=repr(text),
                where=f"{where}.{task}",
                cure="write -3% for 'at most three percent worse than the unpruned network'",
            )
        return Floor(task, amount, percent)

    def bound(self, full: float, higher_is_better: bool) -> float:
        """The worst metric value that is still allowed, in the metric's own unit."""
        if not self.percent:
            return self.amount
        change = self.amount / 100.0 * abs(full)
        return full + change if higher_is_better else full - change

    def slack(self, value: float, full: float, higher_is_better: bool) -> float:
        """How far above the floor a metric value is, in the metric's unit; negative when missed."""
        bound = self.bound(full, higher_is_better)
        return value - bound if higher_is_better else bound - value
