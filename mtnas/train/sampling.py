"""Which sub-networks a step trains: the smallest, and random ones whose branches differ.

Source: Yu, Huang, "Universally Slimmable Networks and Improved Training Techniques", section 3.2 (sandwich rule);
Aich et al., "Efficient Controllable Multi-Task Architectures" (encoder and decoder widths drawn independently).
A *branch* is the set of choices with the same owners: the shared encoder, and each task's decoder. Uniform draws of
every single choice would give middling networks only, so each branch draws its size first, and its choices scatter
around it.
"""

from __future__ import annotations

import numpy as np

from mtnas.space.arch import Arch
from mtnas.space.space import Space


def random_arch(space: Space, rng: np.random.Generator, jitter: float) -> Arch:
    """One arch; `jitter` is the standard deviation of a choice around its branch's size, which lies in 0..1.

    Sizes are stretched beyond 0..1 and clipped, so that wholly small and wholly large branches do occur.
    """
    branches = list(dict.fromkeys(choice.owners for choice in space.choices))
    sizes = {owners: rng.uniform(-0.15, 1.15) for owners in branches}
    options = []
    for choice in space.choices:
        if choice.kind == "operator":  # no option is larger than another in itself
            options.append((choice.name, choice.options[int(rng.integers(len(choice.options)))]))
            continue
        size = np.clip(sizes[choice.owners] + jitter * rng.standard_normal(), 0.0, 1.0)
        options.append((choice.name, choice.options[round(float(size) * (len(choice.options) - 1))]))
    return Arch(tuple(options))


def step_archs(space: Space, rng: np.random.Generator, random_widths: int, jitter: float) -> list[Arch]:
    """The sub-networks of one step beside the largest, without repeats: the smallest first, then random ones."""
    archs = [space.smallest, *(random_arch(space, rng, jitter) for _ in range(random_widths))]
    return [arch for arch in dict.fromkeys(archs) if arch != space.largest]
