"""Random importance: the line every criterion has to beat."""

from __future__ import annotations

from mtnas.base.seeds import generator
from mtnas.prune.importance import Importance, ImportanceInput


def random_order(given: ImportanceInput) -> Importance:
    """Uniform numbers, fixed by the seed and the group's name."""
    return {group.name: generator(given.seed, group.name).random(group.size) for group in given.elastic_groups}
