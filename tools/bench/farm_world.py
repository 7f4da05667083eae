"""A farm of devices with failures, as discrete events: what `docs/farm.md` plans, run on paper.

The coordinator's journal is the only truth: it is a list of lines, and after a crash a new coordinator is built from
these lines alone. A device measures one network at a time, keeps results until they are acknowledged, and goes on while
the connection is cut. All times in seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtnas.base.seeds import generator


@dataclass(frozen=True)
class FarmPlan:
    """What is simulated; rates are events an hour and device, times are seconds."""

    models: int = 10
    """Device models; one queue each."""
    per_model: int = 5
    """Devices of a model."""
    networks: int = 1000
    """Networks to measure on each model."""
    network_s: float = 20.0
    """Mean time of one network's measurement on a device of usual speed."""
    spread: float = 0.5
    """Standard deviation of the logarithm of that time."""
    slow_share: float = 0.1
    """Share of devices that run at half the speed."""
    reboots: float = 0.1
    cuts: float = 0.5
    deaths: float = 0.005
    drifts: float = 0.05
    crashes: float = 0.2
    """Of the coordinator, an hour."""
    down_s: float = 180.0
    """Mean length of a reboot, a cut, and the coordinator's restart."""
    cool_s: float = 600.0
    """How long a quarantined device rests."""
    strikes: int = 3
    """Results with a moved anchor in a row that send a device to quarantine."""
    batch: int = 6
    """Most networks a lease."""
    guided: bool = True
    """Smaller leases when the queue gets short, so that nobody waits for the last one."""
    lease_s: float = 900.0
    """A lease without a sign of life for so long is given to others."""
    failures: float = 1.0
    """Factor on all rates."""


class Coordinator:
    """Queues, leases and results; all of it follows from the journal's lines."""

    def __init__(self, plan: FarmPlan, journal: list[dict[str, Any]], now: float = 0.0) -> None:
        self.plan, self.journal = plan, journal
        self.leases: dict[int, set[int]] = {}
        self.heard: dict[int, float] = {}
        self.done: set[int] = set()
        waiting = dict.fromkeys(range(plan.models * plan.networks))
        for line in journal:
            self._replay(line, waiting)
        self.heard = dict.fromkeys(self.leases, now)  # after a restart every device gets a whole lease to report
        held = set().union(*self.leases.values()) if self.leases else set()
        self.queues = [deque[int]() for _ in range(plan.models)]
        for network in waiting:
            if network not in self.done and network not in held:
                self.queues[network // plan.networks].append(network)

    def _replay(self, line: dict[str, Any], waiting: dict[int, None]) -> None:
        kind, device = line["kind"], line["device"]
        if kind == "lease":
            self.leases[device] = set(line["networks"])
        elif kind == "result":
            self.done.add(line["network"])
            self.leases.get(device, set()).discard(line["network"])
        elif kind == "rejected":
            self.leases.get(device, set()).discard(line["network"])
        elif kind == "ended":
            self.leases.pop(device, None)

    def lease(self, device: int, model: int, now: float) -> list[int]:
        """Networks for a device that has none."""
        queue, taken = self.queues[model], list[int]()
        most = len(queue) // (2 * self.plan.per_model) if self.plan.guided else self.plan.batch
        while queue and len(taken) < max(1, min(most, self.plan.batch)):
            network = queue.popleft()
            if network not in self.done:
                taken.append(network)
        if taken:
            self.leases[device], self.heard[device] = set(taken), now
            self.journal.append({"kind": "lease", "device": device, "networks": taken})
        return taken

    def holds(self, device: int) -> bool:
        return device in self.leases

    def report(self, device: int, network: int, good: bool, now: float) -> bool:
        """One finished measurement; whether it counts. A second result of a network, or a doubtful one, does not."""
        self.heard[device] = now
        held = self.leases.get(device, set())
        mine = network in held
        held.discard(network)
        if network in self.done:
            return False
        if not good:
            self.journal.append({"kind": "rejected", "device": device, "network": network})
            if mine:
                self.queues[network // self.plan.networks].append(network)
            return False
        self.journal.append({"kind": "result", "device": device, "network": network})
        self.done.add(network)
        return True

    def end(self, device: int) -> None:
        """A lease is over; what is left of it goes to the front of the queue."""
        left = self.leases.pop(device, None)
        if left is None:
            return
        self.journal.append({"kind": "ended", "device": device})
        for network in sorted(left, reverse=True):
            self.queues[network // self.plan.networks].appendleft(network)

    def expire(self, now: float) -> None:
        for device in [d for d in self.leases if now - self.heard[d] > self.plan.lease_s]:
            self.end(device)


@dataclass
class Device:
    """One board: its speed, what it holds, what it has not told yet."""

    number: int
    model: int
    speed: float
    up: bool = True
    dead: bool = False
    linked: bool = True
    resting: bool = False
    drifted: bool = False
    strikes: int = 0
    epoch: int = 0
    todo: deque[int] = field(default_factory=deque)
    unsent: list[tuple[int, bool]] = field(default_factory=list)
    busy_since: float | None = None
    useful_s: float = 0.0
    started: int = 0
    alive_until: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What a simulated farm did.

    Args:
        hours: until the last result.
        ideal_hours: without failures and with work that can be cut into crumbs.
        useful_share: of the devices' time, until their own model's queue was done, that went into results that count.
        again_share: measurements begun beyond one a result.
        lost: networks that are neither done nor waiting.
        twice: results beyond one a network.
        unfinished: networks without a result.
        restarts: of the coordinator.
    """

    hours: float
    ideal_hours: float
    useful_share: float
    again_share: float
    lost: int
    twice: int
    unfinished: int
    restarts: int


class World:
    """Devices, a coordinator and what befalls them."""

    def __init__(self, plan: FarmPlan, seed: int) -> None:
        self.plan, self.now = plan, 0.0
        self.rng = generator(seed, "farm", str(plan.failures))
        draws = generator(seed, "farm", "work")  # the same networks and boards whatever goes wrong
        spread, count = plan.spread, plan.models * plan.networks
        self.work_s = plan.network_s * np.exp(spread * draws.standard_normal(count) - spread**2 / 2)
        speeds = np.where(draws.random(plan.models * plan.per_model) < plan.slow_share, 0.5, 1.0)
        self.devices = [Device(i, i // plan.per_model, float(s)) for i, s in enumerate(speeds)]
        self.journal: list[dict[str, Any]] = []
        self.coordinator: Coordinator | None = Coordinator(plan, self.journal)
        self.restarts, self.stuck = 0, False
        self.last_s = np.zeros(plan.models)  # when each model's latest result came
        self.events: list[tuple[float, int, str, Any]] = []
        self.ticket = itertools.count()

    def at(self, seconds: float, kind: str, what: Any = None) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.ticket), kind, what))

    def soon(self, rate: float, kind: str, what: Any = None) -> None:
        """A random moment of something that happens `rate` times an hour, times the plan's factor."""
        if rate * self.plan.failures > 0:
            self.at(float(self.rng.exponential(3600.0 / (rate * self.plan.failures))), kind, what)

    def run(self) -> Outcome:
        plan = self.plan
        for device in self.devices:
            for rate, kind in ((plan.reboots, "reboot"), (plan.cuts, "cut"), (plan.deaths, "die")):
                self.soon(rate, kind, device)
            self.soon(plan.drifts, "drift", device)
            self.talk(device)
        self.soon(plan.crashes, "crash")
        self.at(60.0, "tick")
        while self.events and not self.finished():
            self.now, _, kind, what = heapq.heappop(self.events)
            getattr(self, f"on_{kind}")(what)
        return self.outcome()

    def finished(self) -> bool:
        """Everything done, or no device left that could do the rest."""
        return self.stuck or (self.coordinator is not None and len(self.coordinator.done) == len(self.work_s))

    def is_stuck(self, coordinator: Coordinator) -> bool:
        """No queue has both work and a device, and no device will report or give back what it holds."""
        living = [device for device in self.devices if not device.dead]
        queued = any(coordinator.queues[device.model] for device in living)
        leased = any(device.todo or device.unsent for device in living)
        return not queued and not leased and (np.isinf(self.plan.lease_s) or not coordinator.leases)

    # --- what devices do

    def talk(self, device: Device) -> None:
        """Tell results, learn whether the lease still holds, take new work, and measure."""
        coordinator = self.coordinator
        if coordinator is not None and device.linked and device.up and not device.dead:
            for network, good in device.unsent:
                if coordinator.report(device.number, network, good, self.now):
                    self.last_s[device.model] = self.now
                device.strikes = 0 if good else device.strikes + 1
            device.unsent.clear()
            if not coordinator.holds(device.number):
                device.todo.clear()
            if device.strikes >= self.plan.strikes and not device.resting:
                coordinator.end(device.number)
                device.todo.clear()
                device.resting = True
                self.at(self.plan.cool_s, "rested", device)
            if not device.todo and not device.resting and device.busy_since is None:
                coordinator.end(device.number)
                device.todo.extend(coordinator.lease(device.number, device.model, self.now))
        self.measure(device)

    def measure(self, device: Device) -> None:
        if device.busy_since is None and device.todo and device.up and not device.dead and not device.resting:
            device.busy_since, device.started = self.now, device.started + 1
            self.at(self.work_s[device.todo[0]] / device.speed, "measured", (device, device.epoch, device.todo[0]))

    def on_measured(self, what: tuple[Device, int, int]) -> None:
        device, epoch, network = what
        if epoch != device.epoch or device.busy_since is None:
            return
        if not device.drifted:
            device.useful_s += self.now - device.busy_since
        device.busy_since = None
        if device.todo and device.todo[0] == network:
            device.todo.popleft()
        device.unsent.append((network, not device.drifted))
        self.talk(device)

    # --- what befalls them

    def on_reboot(self, device: Device) -> None:
        if not device.dead and device.up:
            device.up, device.busy_since, device.epoch = False, None, device.epoch + 1
            self.at(float(self.rng.exponential(self.plan.down_s)), "up", device)
        self.soon(self.plan.reboots, "reboot", device)

    def on_up(self, device: Device) -> None:
        device.up = True
        self.talk(device)

    def on_cut(self, device: Device) -> None:
        if device.linked:
            device.linked = False
            self.at(float(self.rng.exponential(self.plan.down_s)), "linked", device)
        self.soon(self.plan.cuts, "cut", device)

    def on_linked(self, device: Device) -> None:
        device.linked = True
        self.talk(device)

    def on_die(self, device: Device) -> None:
        device.dead, device.busy_since, device.epoch = True, None, device.epoch + 1
        device.todo.clear()
        device.unsent.clear()
        device.alive_until = self.now

    def on_drift(self, device: Device) -> None:
        device.drifted = True
        self.soon(self.plan.drifts, "drift", device)

    def on_rested(self, device: Device) -> None:
        device.resting, device.drifted, device.strikes = False, False, 0
        self.talk(device)

    def on_crash(self, _: None) -> None:
        self.coordinator = None
        self.at(float(self.rng.exponential(self.plan.down_s)), "restart")

    def on_restart(self, _: None) -> None:
        self.restarts += 1
        self.coordinator = Coordinator(self.plan, self.journal, self.now)
        self.soon(self.plan.crashes, "crash")
        for device in self.devices:
            self.talk(device)

    def on_tick(self, _: None) -> None:
        """Leases are looked through once a minute; idle devices ask again."""
        if self.coordinator is not None:
            self.coordinator.expire(self.now)
            for device in self.devices:
                self.talk(device)
            self.stuck = self.is_stuck(self.coordinator)
        self.at(60.0, "tick")

    def outcome(self) -> Outcome:
        plan, counted = self.plan, [line["network"] for line in self.journal if line["kind"] == "result"]
        truth = Coordinator(plan, self.journal, self.now)
        waiting = set().union(*truth.queues, *truth.leases.values())
        alive_s = sum(min(d.alive_until or np.inf, self.last_s[d.model]) for d in self.devices)
        return Outcome(
            hours=float(self.last_s.max()) / 3600.0,
            ideal_hours=ideal_hours(plan, self.devices, self.work_s),
            useful_share=float(sum(d.useful_s for d in self.devices) / alive_s),
            again_share=sum(d.started for d in self.devices) / max(1, len(counted)) - 1.0,
            lost=len(self.work_s) - len(set(counted) | waiting),
            twice=len(counted) - len(set(counted)),
            unfinished=len(self.work_s) - len(set(counted)),
            restarts=self.restarts,
        )


def ideal_hours(plan: FarmPlan, devices: Sequence[Device], work_s: np.ndarray) -> float:
    """Nothing fails and work can be cut into crumbs: the slowest model's queue."""
    hours = []
    for model in range(plan.models):
        speed = sum(device.speed for device in devices if device.model == model)
        hours.append(float(work_s[model * plan.networks : (model + 1) * plan.networks].sum()) / speed / 3600.0)
    return max(hours)
