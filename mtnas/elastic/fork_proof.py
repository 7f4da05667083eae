"""Proves the options of forks by choosing each: what runs must be what is taken out, and fit where the default fits.

Each option is chosen once alone, and once together with random ones of all other forks: such a network proves one
option of many forks. Only if one fails are the forks taken one at a time, to tell which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
    with torch.no_grad():
        failing = next((found for found in prover.trials() if prover.wrong(found)), None)
        if failing is None:
            return {}
        return prover.reasons() or prover.blamed(failing)


def together(forks: Sequence[Fork], rng: np.random.Generator) -> Iterator[dict[str, str]]:
    """Random options of all forks at once, until each option of each fork has run."""
    left = {fork.name: list(fork.options) for fork in forks}
    while unseen := [fork for fork in forks if left[fork.name]]:
        chosen: dict[str, str] = {}
        for at in rng.permutation(len(unseen)):
            fork = unseen[at]
            around = {need.fork: chosen.get(need.fork) or str(rng.choice(need.options)) for need in fork.needs}
            if fork.name not in chosen and all(need.met(around) for need in fork.needs):
                chosen |= {**around, fork.name: str(rng.choice(left[fork.name]))}
        left = {name: [option for option in options if option != chosen.get(name)] for name, options in left.items()}
        yield {fork.name: chosen.get(fork.name) or str(rng.choice(fork.options)) for fork in forks}


class _Prover:
    """Chooses options at random widths; no network is tried twice."""

    def __init__(self, network: nn.Module, structure: Structure, example_BCHW: Tensor) -> None:
        self.network, self.groups, self.example_BCHW = network, structure.groups, example_BCHW
        self.slicer = Slicer(network, structure)
        self.forks = self.slicer.forks
        self.shapes = {task: output.shape for task, output in network(example_BCHW).items()}
        self._known: dict[Selection, str] = {}

    def trials(self) -> Iterator[Selection]:
        """Every option alone, once where several are the default network; then every option beside others."""
        seen: set[tuple[tuple[str, str], ...]] = set()
        for place, fork in enumerate(self.forks):
            for option in fork.options:
                alone, _ = self._pair(fork, option, self.forks[:place])
                if alone.chosen not in seen:
                    seen.add(alone.chosen)
                    yield alone
        rng = generator(0, "proof", "together")
        for chosen in together(self.forks, rng):
            yield self._selection(chosen, rng)

    def reasons(self) -> dict[str, str]:
        """What goes wrong with each fork, beside those before it that stand."""
        standing: list[Fork] = []
        reasons: dict[str, str] = {}
        for fork in self.forks:
            if reason := self._failure(fork, standing):
                reasons[fork.name] = reason
            else:
                standing.append(fork)
        return reasons

    def blamed(self, failing: Selection) -> dict[str, str]:
        """The fork with whose option it begins to go wrong, when the forks are chosen one after another."""
        chosen = dict(failing.chosen)
        for number, fork in enumerate(self.forks, start=1):
            some = {other.name: chosen[other.name] for other in self.forks[:number] if other.name in chosen}
            selection = Selection.of(failing.as_dict, chosen=some).compact(self.groups, self.forks)
            if reason := self.wrong(selection):
                option = chosen.get(fork.name, fork.default)
                return {fork.name: f"choosing {option} together with options of other forks {reason}"}
        raise AssertionError("the last one is the network that fails")

    def _failure(self, fork: Fork, standing: Sequence[Fork]) -> str:
        for option in fork.options:
            for selection in self._pair(fork, option, standing):
                if reason := self.wrong(selection):
                    return f"choosing {option} {reason}"
        return ""

    def _pair(self, fork: Fork, option: str, others: Sequence[Fork]) -> tuple[Selection, Selection]:
        """An option alone, and together with random ones of other forks."""
        outer = {need.fork: need.options[-1] for need in fork.needs}
        rng = generator(0, "proof", fork.name, option)
        beside = {other.name: str(rng.choice(list(other.options))) for other in others}
        alone = self._selection({**outer, fork.name: option}, rng)
        return alone, self._selection({**beside, **outer, fork.name: option}, rng)

    def _selection(self, chosen: Mapping[str, str], rng: np.random.Generator) -> Selection:
        widths = {group.name: int(rng.integers(1, group.size + 1)) for group in self.groups if group.elastic}
        return Selection.prefix(widths, chosen=chosen).compact(self.groups, self.slicer.forks)

    def wrong(self, selection: Selection) -> str:
        """What goes wrong with a selection; empty when nothing does."""
        if selection not in self._known:
            self._known[selection] = self._try(selection)
        return self._known[selection]

    def _try(self, selection: Selection) -> str:
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
            same = taken_out[task].shape == output.shape and relative_error(output, taken_out[task]) <= TOLERANCE
            if not same:
                return "leaves another network than it runs: something outside reads its options"
        return ""
