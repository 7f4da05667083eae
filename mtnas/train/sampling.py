"""Which sub-networks a step trains: the smallest, and random ones whose branches differ.

Source: Yu, Huang, "Universally Slimmable Networks and Improved Training Techniques", section 3.2 (sandwich rule);
Aich et al., "Efficient Controllable Multi-Task Architectures" (encoder and decoder widths drawn independently).
A *branch* is the set of choices with the same owners: the shared encoder, and each task's decoder. Uniform draws of
every single choice would give middling networks only, so each branch draws its size first, and its choices scatter
around it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np

from mtnas.elastic.model import ElasticModel
from mtnas.space.arch import Arch, Option
from mtnas.space.choice import Choice
from mtnas.space.space import Space
from mtnas.train.config import INDEPENDENT, TrainConfig

#: standard deviation of depths, numbers of experts and input sizes around their branch's size
SCATTER = 0.2


def random_arch(space: Space, rng: np.random.Generator, jitter: float, *, together: bool = False) -> Arch:
    """One arch; `jitter` is the standard deviation of a width around its branch's size, which lies in 0..1.

    Sizes are stretched beyond 0..1 and clipped, so that wholly small and wholly large branches do occur.

    Args:
        space: the choices.
        rng: for this arch.
        jitter: see above.
        together: all branches have the same size.
    """
    branches = list(dict.fromkeys(() if together else choice.owners for choice in space.choices))
    sizes = {owners: _size(rng) for owners in branches}
    return Arch(tuple((c.name, _option(c, sizes[() if together else c.owners], rng, jitter)) for c in space.choices))


def other_decoders(arch: Arch, space: Space, rng: np.random.Generator, jitter: float) -> Arch:
    """The same shared part, with new decoders: the choices that serve one task alone are drawn again."""
    branches = list(dict.fromkeys(choice.owners for choice in space.choices if len(choice.owners) == 1))
    sizes = {owners: _size(rng) for owners in branches}
    options = [
        (c.name, _option(c, sizes[c.owners], rng, jitter) if c.owners in sizes else arch[c.name]) for c in space.choices
    ]
    return Arch(tuple(options))


def _size(rng: np.random.Generator) -> float:
    return rng.uniform(-0.15, 1.15)


def _option(choice: Choice, size: float, rng: np.random.Generator, jitter: float) -> Option:
    if choice.kind == "operator":  # no option is larger than another in itself
        return choice.options[int(rng.integers(len(choice.options)))]
    spread = jitter if choice.kind == "width" else SCATTER
    place = np.clip(size + spread * rng.standard_normal(), 0.0, 1.0)
    return choice.options[round(float(place) * (len(choice.options) - 1))]


def step_archs(
    space: Space,
    rng: np.random.Generator,
    config: TrainConfig,
    full: Arch,
    network: Callable[[Arch], Hashable] | None = None,
) -> list[list[Arch]]:
    """The sub-networks of one step beside the largest, each network once: the smallest first, then random ones.

    Args:
        space: what is open in this step.
        rng: for this step.
        config: how many, and how they are drawn.
        full: the largest network, which is trained anyway.
        network: equal for archs that are the same network, as two that differ inside a block left out by both; by
            default every arch is another one.

    Returns:
        Lists of archs; those of one list have the same shared part.
    """
    together, jitter = config.branches != INDEPENDENT, config.width_jitter
    drawn = (random_arch(space, rng, jitter, together=together) for _ in range(config.random_widths))
    what = network or _itself
    seen, found = {what(full)}, []
    for arch in (space.smallest, *drawn):
        others = (other_decoders(arch, space, rng, jitter) for _ in range(config.decoders_per_encoder - 1))
        fresh = []
        for one in (arch, *others):
            if what(one) not in seen:
                seen.add(what(one))
                fresh.append(one)
        found.append(fresh)
    return [archs for archs in found if archs]


def turn_arch(found: Sequence[Sequence[Arch]], full: Arch, step: int) -> Arch:
    """The one network of a step in which networks take turns: the largest at step 0, then those of `step_archs`."""
    networks = [full, *(arch for alike in found for arch in alike)]
    return networks[step % len(networks)]


def what_runs(elastic: ElasticModel, tasks: Sequence[str] | None) -> Callable[[Arch], Hashable]:
    """Tells networks apart by what runs in them for these tasks (None = all): see `step_archs`."""
    wished = set(elastic.tasks if tasks is None else tasks)
    idle = {c.name: c.options[-1] for c in elastic.space.choices if c.owners and wished.isdisjoint(c.owners)}
    return lambda arch: elastic.selection(Arch(tuple((name, idle.get(name, own)) for name, own in arch.options)))


def _itself(arch: Arch) -> Hashable:
    return arch


def openings(space: Space, config: TrainConfig) -> tuple[float, ...]:
    """Shares of the training at which every choice gets its next smaller option, ascending; 0 = from the start.

    Source: Cai, Gan, Wang, Zhang, Han, "Once-for-All", ICLR 2020, section 3.3 (progressive shrinking). The largest
    network alone is trained until the first; with `progressive`, the others follow in equal intervals.
    """
    count = max((len(choice.options) for choice in space.choices), default=1) - 1
    alone, until = config.warm_share, config.progressive
    if not until:
        return (alone,) * count
    if not alone:
        return tuple(until * k / count for k in range(1, count + 1))
    return tuple(alone + (until - alone) * k / max(1, count - 1) for k in range(count))


def opened(space: Space, done: float, config: TrainConfig) -> Space:
    """The part of the space that is open after a share of the training: the largest options first.

    Args:
        space: all of it.
        done: share of the training's steps before this one.
        config: when the rest opens.
    """
    shares = openings(space, config)
    more = bisect_right(shares, done)
    if more == len(shares):
        return space
    return Space(tuple(replace(choice, options=choice.options[-1 - more :]) for choice in space.choices))
