"""A farm of 50 devices with failures, simulated: is every network measured once, and what do failures cost?

Nothing is measured: times and rates are the plan's assumptions (`FarmPlan`), written into the file. Each seed draws
other networks, boards and failures. `static` gives every device its share at once and never takes it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tools.bench.farm_world import FarmPlan, World
from tools.bench.record import Claim, Column, Options, Result

SEEDS = tuple(range(8))
FACTORS = (0.0, 1.0, 3.0, 10.0)
COLUMNS = (
    Column("policy", "policy"),
    Column("failures", "failures", 0),
    Column("hours", "hours", 2),
    Column("over_ideal", "times ideal", 3),
    Column("useful_percent", "devices at useful work, %", 1),
    Column("again_percent", "measured again, %", 2),
    Column("restarts", "coordinator restarts", 1),
    Column("lost", "lost", 0),
    Column("twice", "counted twice", 0),
    Column("unfinished", "unfinished", 1),
)


def run(options: Options) -> Result:
    """Every policy at every failure rate, over the seeds."""
    seeds = SEEDS[:3] if options.quick else SEEDS[: options.seeds or len(SEEDS)]
    plan = FarmPlan(networks=150) if options.quick else FarmPlan()
    found = {
        (policy, factor): [simulate(policy_of(plan, policy, factor), seed) for seed in seeds]
        for policy in ("queue", "static")
        for factor in FACTORS
    }
    rows = tuple({"policy": p, "failures": f, **means(outcomes)} for (p, f), outcomes in found.items())
    note = (
        f"A simulation: {plan.models * plan.per_model} devices of {plan.models} models, {plan.networks} networks a "
        f"model, {plan.network_s:g} s each; means over the seeds. Failures are multiples of: a reboot in "
        f"{1 / plan.reboots:g} h, a cut connection in {1 / plan.cuts:g} h, a drift in {1 / plan.drifts:g} h, "
        f"a death in {1 / plan.deaths:g} h of each device, a crash of the coordinator in {1 / plan.crashes:g} h."
    )
    return Result(tuple(seeds), rows, COLUMNS, claims(found), note, {"plan": asdict(plan)})


def simulate(plan: FarmPlan, seed: int) -> dict[str, float]:
    """One farm, as a row."""
    outcome = World(plan, seed).run()
    return {
        "hours": outcome.hours,
        "over_ideal": outcome.hours / outcome.ideal_hours,
        "useful_percent": 100.0 * outcome.useful_share,
        "again_percent": 100.0 * outcome.again_share,
        "restarts": outcome.restarts,
        "lost": outcome.lost,
        "twice": outcome.twice,
        "unfinished": outcome.unfinished,
    }


def policy_of(plan: FarmPlan, policy: str, factor: float) -> FarmPlan:
    """`static`: one lease for the whole share, which never ends."""
    if policy == "static":
        plan = replace(plan, batch=-(-plan.networks // plan.per_model), guided=False, lease_s=np.inf)
    return replace(plan, failures=factor)


def means(outcomes: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {key: float(np.mean([outcome[key] for outcome in outcomes])) for key in outcomes[0]}


def claims(found: dict[tuple[str, float], list[dict[str, float]]]) -> tuple[Claim, ...]:
    """The queue's promises, and what it is worth against a static split."""
    queue = {factor: found["queue", factor] for factor in FACTORS}
    every = [outcome for outcomes in queue.values() for outcome in outcomes]
    usual, worst = queue[1.0], queue[10.0]
    gain = [s["hours"] / q["hours"] for s, q in zip(found["static", 1.0], usual, strict=True)]
    return (
        Claim.of("networks lost, any failure rate", [o["lost"] for o in every], "at most", 0),
        Claim.of("networks counted twice, any failure rate", [o["twice"] for o in every], "at most", 0),
        Claim.of("networks unfinished, any failure rate", [o["unfinished"] for o in every], "at most", 0),
        Claim.of("makespan at usual failures, times ideal", [o["over_ideal"] for o in usual], "at most", 1.25),
        Claim.of("makespan at ten times the failures, times ideal", [o["over_ideal"] for o in worst], "at most", 2),
        Claim.of("measured again at usual failures, %", [o["again_percent"] for o in usual], "at most", 5),
        Claim.of("devices at useful work at usual failures, %", [o["useful_percent"] for o in usual], "at least", 80),
        Claim.of("a static split, times the queue's makespan at usual failures", gain, "more than", 1),
    )
