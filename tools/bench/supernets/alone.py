"""A supernet's networks against the same networks trained by themselves, for equally many multiply-adds of training.

A narrow network trained alone gets as many epochs as the supernet's whole training costs: several times more than the
supernet saw. That is the price of one network; the supernet pays it once for all of them. So there is also a family,
one network for each budget, that costs as much together. A network that is delivered is usually fine-tuned: here for a
tenth of those multiply-adds.
"""

from __future__ import annotations

import statistics

from tools.bench.record import Claim, Column, Options, Result
from tools.bench.supernets.answers import Records
from tools.bench.supernets.arms import JOINT, alone, part, tuned
from tools.bench.supernets.opened import note_of, opened
from tools.bench.supernets.settings import setting_of

GAP = 1.0
COLUMNS = (
    Column("budget", "budget, % of multiply-adds"),
    Column("supernet", "in the supernet, delta one_metric [%, + better]", 2),
    Column("tuned", "fine-tuned, delta one_metric [%, + better]", 2),
    Column("alone", "alone, delta one_metric [%, + better]", 2),
    Column("part", "alone for its part, delta one_metric [%, + better]", 2),
    Column("gap", "alone ahead by, points", 2),
    Column("epochs", "epochs alone", 0),
    Column("part_epochs", "for its part", 0),
)
NOTE = (
    "delta against single-task networks of the same encoder and seed, report split. Alone: the same network, weights "
    "drawn anew, labels only, the same schedule over as many epochs as cost the supernet's multiply-adds; its part: a "
    "quarter of them, so that four networks take as many as the supernet. Fine-tuned: cut out of the supernet, then "
    "trained on labels only for a tenth of these multiply-adds on top."
)
#: ours, theirs, in words
COMPARED = (
    ("supernet", "alone", "training alone is ahead"),
    ("tuned", "alone", "training alone is ahead of the fine-tuned network"),
    ("supernet", "part", "training alone for its part is ahead"),
)


def scenes(options: Options) -> Result:
    return run("scenes", options)


def scenes_long(options: Options) -> Result:
    return run("scenes_long", options)


def run(data: str, options: Options) -> Result:
    """Tables from the records of a data set; records that are missing are made first."""
    budgets = setting_of(data, quick=options.quick).budgets
    records, seeds = opened(
        data, [JOINT, *(name(budget) for name in (alone, part, tuned) for budget in budgets)], options
    )
    rows, claims = [], []
    for place, budget in enumerate(budgets):
        found = [_pair(records, place, budget, seed) for seed in seeds]
        means = {key: statistics.fmean(one[key] for one in found) for key in found[0]}
        rows.append({"budget": round(100 * budget), **means, "gap": means["alone"] - means["supernet"]})
        for ours, theirs, text in COMPARED:
            gaps = [one[theirs] - one[ours] for one in found]
            claims.append(Claim.of(f"points of delta that {text} at {budget:.0%}", gaps, "at most", GAP))
    return Result(seeds, tuple(rows), COLUMNS, tuple(claims), note_of(records, NOTE))


def _pair(records: Records, place: int, budget: float, seed: int) -> dict[str, float]:
    by_itself = records.read(alone(budget), seed)
    shared = records.read(JOINT, seed)["fixed"][place]["estimated"]
    return {
        "supernet": records.delta(shared, "report", seed),
        "tuned": records.delta(records.read(tuned(budget), seed), "report", seed),
        "alone": records.delta(by_itself, "report", seed),
        "part": records.delta(records.read(part(budget), seed), "report", seed),
        "epochs": float(by_itself["epochs"]),
        "part_epochs": float(records.read(part(budget), seed)["epochs"]),
    }
