"""What a benchmark leaves behind: rows, and claims that were met or not; an unmet claim stays in the file.

A claim is decided by its interval, never by its mean, and needs at least three independent values; with fewer it is
"not claimed" (`met` is null).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scipy import stats

from mtnas.base.files import write_json
from mtnas.base.machine import fingerprint

SCHEMA = "bench/1"
FEWEST = 3
DIRECTIONS = ("at least", "at most", "more than")


@dataclass(frozen=True)
class Options:
    """What the command line asks of a benchmark; each takes what concerns it.

    Args:
        quick: smaller and faster.
        run: folder of an existing run.
        seeds: how many seeds; the benchmark's own number when not given.
    """

    quick: bool = False
    run: Path | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Claim:
    """One sentence with a number in it.

    Args:
        claim: the sentence.
        target: such as `at least 30`.
        value: the mean; null when nothing could be measured.
        interval: 95 % confidence interval of the mean; null with fewer than three values.
        met: whether the whole interval keeps the target; null when not claimed.
        count: how many independent values are behind it.
    """

    claim: str
    target: str
    value: float | None
    interval: tuple[float, float] | None
    met: bool | None
    count: int

    @staticmethod
    def of(claim: str, values: Sequence[float], direction: str, bound: float) -> Claim:
        """Judge a claim by the values of independent repetitions."""
        assert direction in DIRECTIONS, direction
        target = f"{direction} {bound:g}"
        finite = [float(value) for value in values if math.isfinite(value)]
        mean = statistics.fmean(finite) if finite else None
        if len(finite) < FEWEST or mean is None:
            return Claim(claim, target, mean, None, None, len(finite))
        half = float(stats.t.ppf(0.975, len(finite) - 1)) * statistics.stdev(finite) / math.sqrt(len(finite))
        low, high = mean - half, mean + half
        met = {"at least": low >= bound, "at most": high <= bound, "more than": low > bound}[direction]
        return Claim(claim, target, mean, (low, high), met, len(finite))

    @property
    def verdict(self) -> str:
        return {True: "met", False: "not met", None: "not claimed"}[self.met]


@dataclass(frozen=True)
class Column:
    """How one key of the rows is shown: a title, and digits after the point (-1: as it is)."""

    key: str
    title: str
    digits: int = -1

    def show(self, row: Mapping[str, Any]) -> str:
        value = row.get(self.key)
        if value is None:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:,.{self.digits}f}" if self.digits >= 0 else str(value)


@dataclass(frozen=True)
class Result:
    """A finished benchmark.

    Args:
        seeds: of the independent repetitions.
        rows: one mapping a line of the table.
        columns: what the table shows of the rows, in this order.
        claims: judged sentences.
        note: what a reader of the table has to know.
        details: more for readers of the file; not in the table.
        machine: where the numbers were measured, as `fingerprint`; this machine when not given.
    """

    seeds: tuple[int, ...]
    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] | None = None


def write_result(
    name: str, result: Result, folder: Path, *, quick: bool, seconds: float, benchmark: str | None = None
) -> Path:
    """Write `NAME.json`; returns its path. `benchmark` is the command's name where the file has another."""
    machine = fingerprint() if result.machine is None else result.machine
    path = folder / f"{name}.json"
    record = {
        "schema": SCHEMA,
        "name": name,
        "benchmark": benchmark or name,
        "quick": quick,
        "note": result.note,
        "seconds": round(seconds, 1),
        "machine": {key: value for key, value in machine.items() if key not in {"schema", "versions"}},
        "versions": machine["versions"],
        "seeds": list(result.seeds),
        "columns": [asdict(column) for column in result.columns],
        "rows": [dict(row) for row in result.rows],
        "claims": [asdict(claim) for claim in result.claims],
        "details": dict(result.details),
    }
    write_json(path, record)
    return path
