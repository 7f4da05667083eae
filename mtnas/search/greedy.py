"""Greedy walk from the largest network to one within the limits: the step that costs least score for what it saves.

Yu and Huang, AutoSlim (2019), section 3: start at full width and repeatedly narrow the layer whose narrowing hurts
least. Ours measures the loss of the preference-weighted score, per share of the limits that is saved (latency as
predicted or counts), and tells batch-norm statistics anew for every network that it scores. Trying every step at
every network takes layers x steps evaluations; a lazy walk tries again only steps that looked best before, as Minoux
(1978) does for greedy maximisation: exact when a step never hurts less in a smaller network, and close to it
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mtnas.search.decoders import UNORDERED_KINDS
from mtnas.search.judge import Judge
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space


@dataclass(frozen=True)
class Walked:
    """Where a search of the open choices has ended.

    Args:
        arch: a network that keeps every limit and floor; None when none was found.
        blocked: tasks whose floors were in the way, the worst first.
    """

    arch: Arch | None
    blocked: tuple[str, ...] = ()


#: shares of the preference that tasks get whose floors were in the way
CARES = (0.5, 1.0)


def walk(space: Space, judge: Judge, *, lazy: bool = True, grow: bool = True) -> Walked:
    """Shrink the largest network of a space until it keeps the limits, then spend what is left over.

    A walk that is guided by the preference alone can use up what the floor of a task leaves, at the wrong place. So one
    that ends at floors is tried again with more care for their tasks.

    Args:
        space: the open choices; others have one option.
        judge: scores, costs, limits, floors.
        lazy: try again only steps that looked best before.
        grow: after the last step down, take the steps up that still fit and gain.
    """
    arch = space.largest
    if judge.broken_floors(arch):
        return Walked(None, judge.broken_floors(arch))
    found = _shrunk(space, judge, judge.share, lazy)
    for care in CARES:
        if found.arch is None and found.blocked:
            found = _shrunk(space, judge, judge.caring(found.blocked, care), lazy)
    return Walked(_grown(space, judge, found.arch, lazy)) if grow and found.arch is not None else found


def _shrunk(space: Space, judge: Judge, share: Mapping[str, float], lazy: bool) -> Walked:
    """Steps down until the limits are kept, the least loss by `share` for its saving first."""
    arch, known = space.largest, dict[str, float]()
    while judge.excess(arch):
        steps = dict(_steps_down(space, judge, arch))
        best = _best(steps, known, _loss_of_step(judge, arch, share), _price_down(judge, arch, steps), lazy=lazy)
        if best is None and not steps and not judge.excess(space.smallest):
            arch = space.smallest  # no single step is cheaper, all of them together are
            break
        if best is None:
            return Walked(None, _in_the_way(judge, steps))
        arch = steps[best]
    broken = judge.broken_floors(arch)
    return Walked(None, broken) if broken else Walked(arch)


def _grown(space: Space, judge: Judge, arch: Arch, lazy: bool) -> Arch:
    """Steps up that keep the limits, the most gain for its cost first, until none gains."""
    known: dict[str, float] = {}
    while True:
        steps = dict(_steps_up(space, judge, arch))
        best = _best(steps, known, _loss_of_step(judge, arch, judge.share), _price_up(judge, arch, steps), lazy=lazy)
        if best is None:
            return arch
        arch = steps[best]


# --- steps ----------------------------------------------------------------------------------------------------


def _steps_down(space: Space, judge: Judge, arch: Arch) -> Iterator[tuple[str, Arch]]:
    """For each choice, the nearest cheaper option that comes closer to the limits; costs may be staircases."""
    excess = judge.excess(arch)
    for choice in space.choices:
        if choice.kind in UNORDERED_KINDS:
            yield from ((name, step) for name, step in _others(choice, arch) if judge.excess(step) < excess)
            continue
        for index in range(choice.index(arch[choice.name]) - 1, -1, -1):
            step = _with(arch, choice, index)
            if judge.excess(step) < excess:
                yield choice.name, step
                break


def _steps_up(space: Space, judge: Judge, arch: Arch) -> Iterator[tuple[str, Arch]]:
    """For each choice, the next option, where it keeps the limits."""
    for choice in space.choices:
        if choice.kind in UNORDERED_KINDS:
            yield from ((name, step) for name, step in _others(choice, arch) if not judge.excess(step))
            continue
        index = choice.index(arch[choice.name]) + 1
        if index < len(choice.options):
            step = _with(arch, choice, index)
            if not judge.excess(step):
                yield choice.name, step


def _others(choice: Choice, arch: Arch) -> Iterator[tuple[str, Arch]]:
    """Every other option of a choice without order, each a step of its own."""
    for index, option in enumerate(choice.options):
        if option != arch[choice.name]:
            yield f"{choice.name}={option}", _with(arch, choice, index)


def _with(arch: Arch, choice: Choice, index: int) -> Arch:
    option = choice.options[index]
    return Arch(tuple((name, option if name == choice.name else old) for name, old in arch.options))


# --- which step -----------------------------------------------------------------------------------------------

Price = Callable[[str, float], tuple[float, float]]


def _best(
    steps: Mapping[str, Arch], known: dict[str, float], measure: Callable[[Arch], float], price: Price, *, lazy: bool
) -> str | None:
    """The step with the lowest price; None when every price is infinite.

    Args:
        steps: by choice, or by choice and option.
        known: step -> change of the loss when it was last measured, here or at an earlier network; is written to.
        measure: change of the loss, measured here.
        price: (step, change) -> what to order by.
        lazy: believe earlier changes until they would win.
    """
    fresh: set[str] = set()

    def order(name: str) -> tuple[bool, float, float, bool, str]:
        """Steps never tried first, then by price; before all is given up, every step is tried here."""
        if name not in known:
            return (False, 0.0, 0.0, False, name)
        first, second = price(name, known[name])
        return (True, first, 0.0 if math.isinf(first) else second, name in fresh, name)

    waiting = [] if lazy else list(steps)
    while steps:
        name = waiting.pop() if waiting else min(steps, key=order)
        if name in fresh:
            return None if math.isinf(price(name, known[name])[0]) else name
        known[name] = measure(steps[name])
        fresh.add(name)
    return None


def _loss_of_step(judge: Judge, arch: Arch, share: Mapping[str, float]) -> Callable[[Arch], float]:
    """Change of the preferred loss; infinite where a floor breaks."""
    before = judge.loss(arch, share)
    return lambda step: math.inf if judge.broken_floors(step) else judge.loss(step, share) - before


def _price_down(judge: Judge, arch: Arch, steps: Mapping[str, Arch]) -> Price:
    """Loss per share of the limits that is saved; of steps that lose nothing, the largest saving comes first."""
    excess = judge.excess(arch)
    saved = {name: excess - judge.excess(step) for name, step in steps.items()}
    return lambda name, change: (max(0.0, change) / saved[name], -saved[name])


def _price_up(judge: Judge, arch: Arch, steps: Mapping[str, Arch]) -> Price:
    """Minus the gain per share of the limits; infinite where nothing is gained."""
    before = judge.use(arch)
    spent = {name: max(1e-9, judge.use(step) - before) for name, step in steps.items()}
    return lambda name, change: (change / spent[name] if change < 0 else math.inf, 0.0)


def _in_the_way(judge: Judge, steps: Mapping[str, Arch]) -> tuple[str, ...]:
    """Tasks whose floors every step would break, most often broken first."""
    broken = [task for step in steps.values() for task in judge.broken_floors(step)]
    return tuple(sorted(dict.fromkeys(broken), key=lambda task: -broken.count(task)))
