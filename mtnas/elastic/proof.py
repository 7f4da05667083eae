"""Every group is proven: the network cut must equal the network masked, in shapes and in numbers.

The proof runs on a copy with random weights, batch-norm statistics included, so that a wrong link cannot hide behind
zeros and ones. Cut: the selection's units are taken out everywhere. Masked: the full network runs, but the removed
channels say nothing (their producers' weights and norms are zero) and nobody listens (nor are their consumers'). The
first is for channels that meet without weights, as in the products of attention; the second for those whose silence
is not zero, as behind a sigmoid. All groups are tried together first; only if that fails one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtnas.base.errors import first_line
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.base.seeds import derive_seed, generator
from mtnas.elastic.groups import Structure
from mtnas.elastic.slicing import Slicer

TOLERANCE = 5e-4
_ROUNDS = 2
#: What a norm has seen is no weight.
_STATISTICS = (".running_mean", ".running_var")


def prove(network: nn.Module, structure: Structure, example_BCHW: Tensor) -> Structure:
    """The structure with the groups that fail frozen, each with its reason.

    Args:
        network: a copy; its weights become random.
        structure: the groups to prove.
        example_BCHW: the image batch to run.
    """
    randomise(network, example_BCHW)
    prover = _Prover(network.eval(), structure, example_BCHW)
    reasons = prover.reasons()
    groups = tuple(replace(group, frozen=group.frozen or reasons.get(group.name, "")) for group in structure.groups)
    return replace(structure, groups=groups)


class _Prover:
    def __init__(self, network: nn.Module, structure: Structure, example_BCHW: Tensor) -> None:
        self.network, self.groups, self.example_BCHW = network, structure.groups, example_BCHW
        self.slicer = Slicer(network, structure)

    def reasons(self) -> dict[str, str]:
        """Group -> what goes wrong."""
        candidates = [group for group in self.groups if group.elastic]
        if not candidates or not any(self._failure(candidates, k) for k in range(_ROUNDS)):
            return {}
        reasons = {group.name: self._failure([group], 0) for group in candidates}
        standing: list[ChannelGroup] = []
        for group in candidates:
            if not reasons[group.name]:
                together = self._failure([*standing, group], 1)
                if together:
                    reasons[group.name] = f"together with other groups, {together}"
                else:
                    standing.append(group)
        return reasons

    def _failure(self, cut: Sequence[ChannelGroup], round_number: int) -> str:
        """What goes wrong when a random part of some groups is removed; empty when nothing does."""
        rng = generator(0, "proof", round_number, *(group.name for group in cut))
        selection = Selection.of({group.name: _random_units(group.size, rng) for group in cut})
        with torch.no_grad():
            masked = self._masked(selection)
            try:
                with self.slicer.applied(self.slicer.plan(selection), {}, ()):
                    outputs = self.network(self.example_BCHW)
            except Exception as error:  # noqa: BLE001
                return f"cutting it breaks the forward: {first_line(error)}"
        for task, expected in masked.items():
            if outputs[task].shape != expected.shape:
                return f"is output {task!r}"
            difference = relative_error(outputs[task], expected)
            if not difference <= TOLERANCE:
                return f"output {task!r} mixes its channels (cut and masked differ by {difference:.1e})"
        return ""

    def _masked(self, selection: Selection) -> dict[str, Tensor]:
        """Outputs of the full network when removed units say nothing and nobody listens."""
        weights: dict[str, Tensor] = {}
        kept = selection.as_dict
        for group in (group for group in self.groups if group.name in kept):
            gone = sorted(set(range(group.size)) - set(kept[group.name]))
            for member in (member for member in group.members if not member.name.endswith(_STATISTICS)):
                store, key = self.slicer.stores[member.name]
                weight = weights.setdefault(member.name, store[key].detach().clone())
                positions = [position for u in gone for position in member.positions_UK[u]]
                weight.index_fill_(member.axis, torch.tensor(positions, device=weight.device), 0.0)
        patches = [(*self.slicer.stores[name], weight) for name, weight in weights.items()]
        with self.slicer.applied(self.slicer.plan(Selection(())), {}, patches):
            return self.network(self.example_BCHW)


def relative_error(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest magnitude of `b`."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


def _random_units(size: int, rng: np.random.Generator) -> list[int]:
    """Between a quarter and three quarters of the units, never the plain prefix alone."""
    count = int(rng.integers(max(1, size // 4), max(2, 3 * size // 4 + 1)))
    return rng.choice(size, size=min(count, size - 1), replace=False).tolist()


def randomise(network: nn.Module, example_BCHW: Tensor) -> None:
    """Random weights of useful size, statistics and affine parameters away from zero and one.

    A network that overflows with them keeps its own.
    """
    own = {name: tensor.clone() for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    rng = torch.Generator().manual_seed(derive_seed(0, "proof weights"))
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=rng) * 0.1)
                layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=rng) + 0.5)
            for parameter in layer._parameters.values():
                if parameter is not None and parameter.is_floating_point():
                    parameter.copy_(_random_like(parameter, rng))
        if not all(bool(torch.isfinite(output).all()) for output in network(example_BCHW).values()):
            network.load_state_dict(own, strict=False)


def _random_like(parameter: Tensor, rng: torch.Generator) -> Tensor:
    """He-scaled for matrices and kernels, uniform in 0.5..1.5 for vectors."""
    if parameter.ndim < 2:
        return torch.rand(parameter.shape, generator=rng) + 0.5
    fan_in = max(1, parameter[0].numel())
    return torch.randn(parameter.shape, generator=rng) * (2.0 / fan_in) ** 0.5
