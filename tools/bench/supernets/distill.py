"""What small networks learn from the largest: outputs, encoder features in four forms, both, or nothing; and turns.

Every arm trains the same supernet for equally many multiply-adds: in steps of several networks, or in several times as
many steps of one network each. One fixed network for each budget is scored, with its own batch-norm statistics and with
those of the full network.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tools.bench.record import Claim, Column, Options, Result
from tools.bench.supernets.answers import Records
from tools.bench.supernets.arms import ARMS, EVEN, JOINT, SANDWICHED
from tools.bench.supernets.opened import note_of, opened

NOTHING, OUTPUTS = "none", "outputs"
FEATURES = ("slice", "attention", "gram", "project")
BOTH = "both"
COLUMNS = (
    Column("arm", "learned from the largest"),
    Column("budget", "budget, % of multiply-adds"),
    Column("delta", "delta one_metric [%, + better]", 2),
    Column("sd", "sd over seeds", 2),
    Column("stale", "without re-estimation", 1),
)
NOTE = (
    "delta against single-task networks of the same encoder and seed, report split. Each budget is stood for by the "
    "same network in all arms. Last column: batch-norm statistics of the full network instead of its own."
)


def scenes(options: Options) -> Result:
    return run("scenes", options)


def nyuv2(options: Options) -> Result:
    return run("nyuv2", options)


def run(data: str, options: Options) -> Result:
    """Tables from the records of a data set; records that are missing are made first."""
    arms = [NOTHING, OUTPUTS, *FEATURES, BOTH, JOINT, EVEN]
    records, seeds = opened(data, arms, options)
    deltas = {(arm, seed): _deltas(records, arm, seed) for arm in arms for seed in seeds}
    rows = [_row(arm, k, [deltas[arm, seed] for seed in seeds]) for arm in arms for k in range(len(_budgets(records)))]
    return Result(seeds, tuple(rows), COLUMNS, _claims(deltas, seeds), note_of(records, NOTE))


Line = Mapping[str, Any]


def _budgets(records: Records) -> Sequence[float]:
    return records.setting.budgets


def _deltas(records: Records, arm: str, seed: int) -> list[Line]:
    """For each budget, delta with and without re-estimation."""
    return [
        {
            "budget": row["budget"],
            "delta": records.delta(row["estimated"], "report", seed),
            "stale": records.delta(row["stale"], "report", seed),
        }
        for row in records.read(arm, seed)["fixed"]
    ]


def _row(arm: str, place: int, lines: Sequence[Sequence[Line]]) -> dict[str, Any]:
    found = [line[place] for line in lines]
    values = [one["delta"] for one in found]
    return {
        "arm": ARMS[arm].title,
        "budget": round(100 * found[0]["budget"]),
        "delta": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "stale": statistics.fmean(one["stale"] for one in found),
    }


def _claims(deltas: Mapping[tuple[str, int], Sequence[Line]], seeds: Sequence[int]) -> tuple[Claim, ...]:
    """Paired by seed, mean over the budgets below the full network."""

    def mean(arm: str, seed: int, key: str = "delta") -> float:
        return statistics.fmean(line[key] for line in deltas[arm, seed] if line["budget"] < 1.0)

    def gain(title: str, ours: str, rival: str) -> Claim:
        return Claim.of(title, [mean(ours, seed) - mean(rival, seed) for seed in seeds], "more than", 0)

    text = "points of delta gained below full size by {} over {}"
    networks = "one network a step"
    claims = [gain(text.format("outputs", "nothing"), OUTPUTS, NOTHING)]
    for arm in (*FEATURES, BOTH):
        claims.append(gain(text.format(ARMS[arm].title, "nothing"), arm, NOTHING))
        claims.append(gain(text.format(ARMS[arm].title, "outputs"), arm, OUTPUTS))
    claims.append(gain(text.format(networks, "nothing, all in one step"), JOINT, NOTHING))
    claims.append(gain(text.format(networks, ARMS[SANDWICHED].title), JOINT, SANDWICHED))
    claims.append(gain(text.format("branches of even width", "branches whose widths scatter"), EVEN, JOINT))
    estimated = [mean(JOINT, seed) - mean(JOINT, seed, "stale") for seed in seeds]
    claims.append(Claim.of(text.format("re-estimated statistics", "the full network's"), estimated, "more than", 0))
    return tuple(claims)
