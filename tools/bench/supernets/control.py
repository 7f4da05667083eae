"""What the dials of a supernet move: joint slimming of encoder and decoders against encoder only and uniform width.

For each budget, each of 20 fixed preferences is answered by one network of the arm, found on the select split by a
search of equally many networks; hypervolume, ranges and correlations are of the report split. An arm that has no
network within a budget gets a hypervolume of zero there; the second gain leaves such budgets out. Another gain is of
the training: the same networks, out of a supernet whose steps are sandwiches with feature distillation.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtnas.search.control import rank_control, ratio_hypervolume
from tools.bench.record import Claim, Column, Options, Result
from tools.bench.supernets.answers import Candidate, Records, candidates, picks
from tools.bench.supernets.arms import ARMS, JOINT, SANDWICHED
from tools.bench.supernets.choosing import fixed_preferences, sweeps
from tools.bench.supernets.opened import note_of, opened
from tools.bench.supernets.work import read_record

RIVALS = ("encoder", "uniform")
#: shown where it has answered for all seeds
EQUAL = "encoder_work"
HEADLINE, CORRELATION = 33.5, 0.9
COLUMNS = (
    Column("arm", "what shrinks"),
    Column("budget", "budget, % of multiply-adds"),
    Column("hypervolume", "hypervolume", 3),
    Column("used", "used, % of the budget", 0),
    Column("range", "range of delta by task, points", 1),
    Column("correlation", "correlation with preference", 2),
    Column("seen", "the same on the images that chose", 2),
)


def scenes(options: Options) -> Result:
    return run("scenes", options)


def nyuv2(options: Options) -> Result:
    return run("nyuv2", options)


def cifar100(options: Options) -> Result:
    return run("cifar100", options)


def run(data: str, options: Options) -> Result:
    """Tables from the records of a data set; records that are missing are made first."""
    records, seeds = opened(data, (), options, answering=[JOINT, *RIVALS])
    rivals = [*RIVALS, *([EQUAL] if _answered(records, EQUAL, seeds) else [])]
    arms = [JOINT, *rivals]
    answers = {(arm, seed): Answers(records, candidates(records, arm, seed)) for arm in arms for seed in seeds}
    budgets = records.setting.budgets
    rows = [_row(arm, b, [answers[arm, seed].at(b) for seed in seeds]) for arm in arms for b in budgets]
    claims = [*_gain_claims(answers, rivals, seeds, budgets), *_correlation_claims(answers, seeds, budgets)]
    if _answered(records, SANDWICHED, seeds):
        claims.append(_training_claim(records, seeds))
    note, details = note_of(records, NOTE + _work(records)), {"per_seed": _details(answers)}
    return Result(seeds, tuple(rows), COLUMNS, tuple(claims), note, details)


def _answered(records: Records, arm: str, seeds: Sequence[int]) -> bool:
    return all(read_record(records.setting, f"answers-{arm}", seed, records.folder) for seed in seeds)


NOTE = (
    "Loss ratios to single-task networks of the same encoder and seed; reference point 2 for every task, 20 fixed "
    "preferences for each budget. Ranges and correlations over sweeps of one task's preference, mean over tasks; of "
    "the report split, the last column of the select split."
)


def _work(records: Records) -> str:
    """How much more an epoch computes where decoders keep their size."""
    whole, ours = (records.read(arm, 0)["training"]["cost"]["ratio"] for arm in ("encoder", JOINT))
    return f" An epoch of encoder only takes {whole / ours:.2f} times the multiply-adds of one of encoder and decoders."


class Answers:
    """One arm of one seed, asked everything."""

    def __init__(self, records: Records, found: Sequence[Candidate]) -> None:
        self.found = found
        self.tasks = list(records.metrics.names)
        self.sweeps, self.preferences = sweeps(self.tasks), fixed_preferences(self.tasks)
        self.known: dict[float, dict[str, Any]] = {}

    def at(self, budget: float) -> dict[str, Any]:
        """Hypervolume, used share, and for each task range, correlation, and that on the select split; zeros where
        nothing fits."""
        if budget not in self.known:
            self.known[budget] = self._at(budget)
        return self.known[budget]

    def _at(self, budget: float) -> dict[str, Any]:
        chosen = picks(self.found, self.preferences, budget)
        if not chosen:
            nothing = dict.fromkeys(self.tasks, 0.0)
            return {"hypervolume": 0.0, "used": None, "ranges": nothing, "correlations": nothing, "seen": nothing}
        ratios_NT = np.array([[c.report[task] for task in self.tasks] for c in chosen])
        ranges, correlations, seen = {}, {}, {}
        for task, sweep in self.sweeps.items():
            swept = picks(self.found, sweep, budget)
            values = [c.report[task] for c in swept]
            ranges[task] = 100.0 * (max(values) - min(values))
            correlations[task] = rank_control(sweep, [c.report for c in swept])[task] or 0.0
            seen[task] = rank_control(sweep, [c.select for c in swept])[task] or 0.0
        return {
            "hypervolume": ratio_hypervolume(ratios_NT).value,
            "used": 100.0 * statistics.fmean(c.macs for c in chosen) / budget,
            "ranges": ranges,
            "correlations": correlations,
            "seen": seen,
        }


Table = Mapping[tuple[str, int], Answers]


def _row(arm: str, budget: float, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds."""
    used = [one["used"] for one in found if one["used"] is not None]
    fits = bool(used)
    return {
        "arm": _title(arm),
        "budget": round(100 * budget),
        "hypervolume": statistics.fmean(one["hypervolume"] for one in found),
        "used": statistics.fmean(used) if used else None,
        "range": statistics.fmean(_means(found, "ranges")) if fits else None,
        "correlation": statistics.fmean(_means(found, "correlations")) if fits else None,
        "seen": statistics.fmean(_means(found, "seen")) if fits else None,
    }


def _title(arm: str) -> str:
    return "encoder and decoders" if arm == JOINT else ARMS[arm].title


def _means(found: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [statistics.fmean(one[key].values()) for one in found]


def _gain_claims(answers: Table, rivals: Sequence[str], seeds: Sequence[int], budgets: Sequence[float]) -> list[Claim]:
    claims = []
    for rival in rivals:
        fitting = [b for b in budgets if all(answers[rival, seed].at(b)["used"] is not None for seed in seeds)]
        for text, used in (("all budgets", budgets), (f"budgets that it can meet ({_percents(fitting)})", fitting)):
            if text == "all budgets" or len(fitting) < len(budgets):
                title = f"hypervolume gained over {ARMS[rival].title}, {text}, %"
                claims.append(Claim.of(title, _gains(answers, rival, seeds, used), "at least", HEADLINE))
    return claims


def _gains(answers: Table, rival: str, seeds: Sequence[int], budgets: Sequence[float]) -> list[float]:
    """For each seed, the gain in percent of the rival's mean over seeds."""

    def volume(arm: str, seed: int) -> float:
        return statistics.fmean(answers[arm, seed].at(budget)["hypervolume"] for budget in budgets)

    base = statistics.fmean(volume(rival, seed) for seed in seeds)
    return [100.0 * (volume(JOINT, seed) - volume(rival, seed)) / base for seed in seeds] if base > 0 else []


def _training_claim(records: Records, seeds: Sequence[int]) -> Claim:
    """Hypervolume gained by taking turns, over networks that both arms have scored."""
    gains = []
    for seed in seeds:
        ours, theirs = candidates(records, JOINT, seed), candidates(records, SANDWICHED, seed)
        common = {one.arch for one in ours} & {one.arch for one in theirs}
        both = [Answers(records, [one for one in found if one.arch in common]) for found in (ours, theirs)]
        volumes = [statistics.fmean(one.at(b)["hypervolume"] for b in records.setting.budgets) for one in both]
        gains.append(100.0 * (volumes[0] / volumes[1] - 1.0))
    title = f"hypervolume gained by networks that take turns over a sandwich with {ARMS[SANDWICHED].title}, %"
    return Claim.of(title, gains, "more than", 0)


def _correlation_claims(answers: Table, seeds: Sequence[int], budgets: Sequence[float]) -> list[Claim]:
    """One claim for each task; where there are many, one for the mean over tasks.

    At the full network's cost there is nothing to decide: no other network is better at any task.
    """
    tasks = answers[JOINT, seeds[0]].tasks

    def mean(seed: int, chosen: Sequence[str]) -> float:
        values = [answers[JOINT, seed].at(b)["correlations"][task] for b in budgets if b < 1.0 for task in chosen]
        return statistics.fmean(values)

    groups = {task: [task] for task in tasks} if len(tasks) <= 6 else {f"mean of {len(tasks)} tasks": tasks}
    text = "rank correlation of preference and score at fixed budget: {}"
    return [
        Claim.of(text.format(name), [mean(seed, chosen) for seed in seeds], "at least", CORRELATION)
        for name, chosen in groups.items()
    ]


def _details(answers: Table) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "seed": seed, "budget": budget, **found}
        for (arm, seed), one in answers.items()
        for budget, found in one.known.items()
    ]


def _percents(budgets: Sequence[float]) -> str:
    return ", ".join(f"{budget:.0%}" for budget in budgets) or "none"
