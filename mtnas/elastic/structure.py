"""What may vary in a network: groups and forks found and proven, and the space of choices that follows."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from mtnas.elastic.blocks import depth_choices
from mtnas.elastic.contract import try_model
from mtnas.elastic.fork_proof import prove_forks
from mtnas.elastic.forks import drop_forks, find_forks, fork_choices, run_everything
from mtnas.elastic.groups import Structure, find_groups
from mtnas.elastic.owners import parameter_owners
from mtnas.elastic.proof import prove as prove_groups
from mtnas.elastic.widths import space_of
from mtnas.space.resolution import size_choice
from mtnas.space.rules import SpaceRules
from mtnas.space.space import Space


def space_of_structure(structure: Structure, rules: SpaceRules, round_to: int) -> Space:
    """Widths, then depths, then options of forks, then the input size."""
    widths, depths = space_of(structure.groups, rules, round_to).choices, depth_choices(structure.blocks)
    choices = [*widths, *depths, *fork_choices(structure.forks)]
    tasks = max(structure.parameter_owners.values(), key=len, default=())
    inputs = structure.inputs
    sizes = size_choice(inputs.sizes, inputs.full, tasks, [choice.name for choice in choices])
    return Space((*choices, sizes) if sizes else tuple(choices))


def find_structure(
    network: nn.Module, example: Tensor, ignored: frozenset[str], rules: SpaceRules, prove: bool
) -> Structure:
    """Groups and forks of a network; forks without a choice, and forks that fail their proof, lose their options."""
    forks = find_forks(network, example, rules)
    while True:
        traced = run_everything(copy.deepcopy(network).requires_grad_(True), forks)
        owners = parameter_owners(traced, try_model(traced, example))
        structure = find_groups(traced, example, owners, ignored, forks)
        if not prove:
            return structure
        structure = prove_groups(traced.requires_grad_(False), structure, example)
        failed = prove_forks(copy.deepcopy(network).requires_grad_(False), structure, example)
        if not failed:
            return structure
        forks = drop_forks(network, forks, failed)
