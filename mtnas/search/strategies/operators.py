"""Sampling, crossover and mutation on option indices, as array functions.

Options are ordered, so a mutation is mostly one step. Choices with the same owners form a block (the shared encoder,
one task's decoder): sampling gives each block a width of its own, and crossover often swaps whole blocks, because in a
multi-task network a decoder is a meaningful unit. Shape letters: N = archs, C = choices.
"""

from __future__ import annotations

import numpy as np

from mtnas.space.space import Space

STEP_SHARE = 0.7
BLOCK_SHARE = 0.5


def option_counts(space: Space) -> np.ndarray:
    """(C,) number of options of every choice."""
    return np.array([len(choice.options) for choice in space.choices], dtype=np.int64)


def ordered_choices(space: Space) -> np.ndarray:
    """(C,) whether neighbouring options are alike."""
    return np.array([choice.kind != "operator" for choice in space.choices], dtype=bool)


def blocks(space: Space) -> np.ndarray:
    """(C,) block number of every choice; choices with the same owners share one."""
    owners = list(dict.fromkeys(choice.owners for choice in space.choices))
    return np.array([owners.index(choice.owners) for choice in space.choices], dtype=np.int64)


def uniform_sample(space: Space, count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, C) every option equally likely, choices independent."""
    return rng.integers(0, option_counts(space), size=(count, len(space.choices)))


def spread_sample(space: Space, count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, C) from narrow to wide: every block draws a relative width, stratified over the N archs.

    Independent uniform options give archs that are nearly all of middle cost; these cover the whole range.
    """
    block_C = blocks(space)
    number = int(block_C.max(initial=-1)) + 1
    strata = np.stack([rng.permutation(count) for _ in range(number)], axis=1) if number else np.zeros((count, 0))
    width_NB = (strata + rng.random(strata.shape)) / count
    return rng.binomial(option_counts(space) - 1, width_NB[:, block_C])


def crossover(first_NC: np.ndarray, second_NC: np.ndarray, block_C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, C) children that take each choice, or each whole block, from one of two parents."""
    count, width = first_NC.shape
    by_choice = rng.random((count, width)) < 0.5
    by_block = (rng.random((count, int(block_C.max(initial=-1)) + 1)) < 0.5)[:, block_C]
    whole = rng.random((count, 1)) < BLOCK_SHARE
    return np.where(np.where(whole, by_block, by_choice), first_NC, second_NC)


def mutate(indices_NC: np.ndarray, counts_C: np.ndarray, ordered_C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, C) copies with one choice changed on average, at least one each; most changes are one step.

    A choice with a single option never changes.
    """
    free = np.flatnonzero(counts_C > 1)
    mutated = indices_NC.copy()
    if not len(free):
        return mutated
    for row in mutated:
        chosen = free[rng.random(len(free)) < 1.0 / len(free)]
        for at in chosen if len(chosen) else [int(rng.choice(free))]:
            row[at] = _other_option(int(row[at]), int(counts_C[at]), bool(ordered_C[at]), rng)
    return mutated


def _other_option(index: int, count: int, ordered: bool, rng: np.random.Generator) -> int:
    if ordered and rng.random() < STEP_SHARE:
        stepped = index + (1 if rng.random() < 0.5 else -1)
        return stepped if 0 <= stepped < count else 2 * index - stepped
    return int((index + rng.integers(1, count)) % count)
