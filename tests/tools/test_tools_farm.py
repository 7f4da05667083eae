"""The simulated farm: nothing is lost or counted twice, and the journal alone rebuilds the coordinator."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.bench.farm import policy_of, simulate  # noqa: E402
from tools.bench.farm_world import Coordinator, FarmPlan, World  # noqa: E402

SMALL = FarmPlan(models=3, per_model=4, networks=60)
CALM = replace(SMALL, failures=0.0)


def test_without_failures_and_spread_a_farm_of_equals_needs_the_ideal_time() -> None:
    outcome = World(replace(CALM, slow_share=0.0, spread=0.0), 0).run()
    assert outcome.hours == pytest.approx(60 * 20.0 / 4 / 3600) == pytest.approx(outcome.ideal_hours)
    assert outcome.useful_share == pytest.approx(1.0) and outcome.again_share == 0.0


@pytest.mark.parametrize("factor", [1.0, 10.0, 50.0])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_and_nothing_counted_twice(factor: float, seed: int) -> None:
    outcome = World(replace(SMALL, failures=factor, deaths=0.0), seed).run()
    assert (outcome.lost, outcome.twice, outcome.unfinished) == (0, 0, 0)


def test_a_model_whose_devices_all_died_leaves_its_networks_waiting_and_not_lost() -> None:
    outcome = World(replace(CALM, failures=1.0, deaths=60.0, crashes=0.0), 1).run()
    assert outcome.unfinished > 0 and outcome.lost == 0 and outcome.twice == 0


def test_a_new_coordinator_knows_from_the_journal_what_the_old_one_knew() -> None:
    journal: list[dict] = []
    first = Coordinator(CALM, journal)
    held = first.lease(0, 0, now=0.0)
    assert len(held) > 1
    assert first.report(0, held[0], True, 1.0)
    assert not first.report(0, held[1], False, 2.0)
    other = first.lease(1, 0, now=3.0)
    first.end(1)
    second = Coordinator(CALM, journal, now=4.0)
    assert second.done == first.done == {held[0]} and second.leases == first.leases
    assert [set(q) for q in second.queues] == [set(q) for q in first.queues]
    assert set(other) <= set(second.queues[0]) and held[1] in second.queues[0]


def test_a_second_result_of_a_network_does_not_count() -> None:
    coordinator = Coordinator(CALM, [])
    (network, *_) = coordinator.lease(0, 0, now=0.0)
    coordinator.expire(now=CALM.lease_s + 1.0)
    assert not coordinator.holds(0) and coordinator.queues[0][0] == network
    assert coordinator.report(0, network, True, 1000.0), "late, but the first: it counts"
    taken = coordinator.lease(1, 0, now=1001.0)
    assert network not in taken
    assert not coordinator.report(1, network, True, 1002.0)


def test_a_static_split_leaves_the_share_of_a_dead_device_undone_and_waits_for_slow_ones() -> None:
    plan = replace(SMALL, deaths=1.0, slow_share=0.3)
    found = [(simulate(policy_of(plan, p, 1.0), seed)) for p in ("queue", "static") for seed in range(6)]
    queue, static = found[:6], found[6:]
    assert sum(row["unfinished"] for row in queue) == 0 < sum(row["unfinished"] for row in static)
    assert sum(row["lost"] + row["twice"] for row in found) == 0
    calm = [simulate(policy_of(plan, p, 0.0), 0)["hours"] for p in ("queue", "static")]
    assert calm[0] < calm[1]


def test_the_same_seed_is_the_same_farm() -> None:
    assert World(SMALL, 3).run() == World(SMALL, 3).run() != World(SMALL, 4).run()
