"""Proves the options of forks by choosing each: what runs must be what is taken out, and fit where the default fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtnas.base.errors import first_line
from mtnas.base.forks import Fork, offered
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.extract import extract
from mtnas.elastic.groups import Structure
from mtnas.elastic.proof import TOLERANCE, randomise, relative_error
from mtnas.elastic.slicing import Slicer


def prove_forks(network: nn.Module, structure: Structure, example_BCHW: Tensor) -> dict[str, str]:
    """Fork -> what goes wrong when one of its options is chosen; forks with which nothing does are not there.

    Args:
        network: a copy; its weights become random.
        structure: its proven groups, and its forks.
        example_BCHW: the image batch to run.
    """
    forks = offered(structure.forks)
    if not forks:
        return {}
    randomise(network, example_BCHW)
    prover = _Prover(network.eval(), structure, example_BCHW)
    standing: list[Fork] = []
    reasons: dict[str, str] = {}
    with torch.no_grad():
        for fork in forks:
            if reason := prover.failure(fork, standing):
                reasons[fork.name] = reason
            else:
                standing.append(fork)
    return reasons


class _Prover:
    """Chooses each option, alone and together with random ones of the forks before, at random widths."""

    def __init__(self, network: nn.Module, structure: Structure, example_BCHW: Tensor) -> None:
        self.network, self.groups, self.example_BCHW = network, structure.groups, example_BCHW
        self.slicer = Slicer(network, structure)
        self.shapes = {task: output.shape for task, output in network(example_BCHW).items()}

    def failure(self, fork: Fork, standing: Sequence[Fork]) -> str:
        for option in fork.options:
            outer = {need.fork: need.options[-1] for need in fork.needs}
            rng = generator(0, "proof", fork.name, option)
            others = {other.name: str(rng.choice(list(other.options))) for other in standing}
            for chosen in ({**outer, fork.name: option}, {**others, **outer, fork.name: option}):
                if reason := self._wrong(self._selection(chosen, rng)):
                    return f"choosing {option} {reason}"
        return ""

    def _selection(self, chosen: Mapping[str, str], rng: np.random.Generator) -> Selection:
        widths = {group.name: int(rng.integers(1, group.size + 1)) for group in self.groups if group.elastic}
        return Selection.prefix(widths, chosen=chosen).compact(self.groups, self.slicer.forks)

    def _wrong(self, selection: Selection) -> str:
        """What goes wrong with a selection; empty when nothing does."""
        plan = self.slicer.plan(selection)
        try:
            with self.slicer.applied(plan, {}, ()):
                outputs = self.network(self.example_BCHW)
            taken_out = extract(self.network, self.slicer, plan, {})(self.example_BCHW)
        except Exception as error:  # noqa: BLE001
            return f"breaks the forward: {first_line(error)}"
        for task, output in outputs.items():
            if output.shape != self.shapes[task]:
                return f"changes the shape of output {task!r}"
            if not relative_error(output, taken_out[task]) <= TOLERANCE:
                return "leaves another network than it runs: something outside reads its options"
        return ""
