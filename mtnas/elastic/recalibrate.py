"""Precise batch-norm: mean and variance of every normalised layer, pooled over all calibration images.

Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3: running averages are replaced by the statistics of
the whole calibration set, with the other layers normalised by the batch. N = values per channel over all batches.
The pooled variance is E[x^2] - E[x]^2 (no Bessel correction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtnas.elastic.slicing import Patch


def tracked_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """Batch-norm layers that keep running statistics, by name."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None
    }


class Tally:
    """Sums of one layer's mean and mean square, weighted by the number of values."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_C = torch.zeros(())
        self.square_sum_C = torch.zeros(())

    def add(self, count: int, mean_C: Tensor, variance_C: Tensor) -> None:
        mean_C, variance_C = mean_C.double(), variance_C.double()
        self.sum_C = self.sum_C.to(mean_C) + count * mean_C
        self.square_sum_C = self.square_sum_C.to(mean_C) + count * (variance_C + mean_C.square())
        self.count += count

    def result(self) -> tuple[Tensor, Tensor]:
        """Pooled mean and variance."""
        mean_C = self.sum_C / self.count
        return mean_C.float(), (self.square_sum_C / self.count - mean_C.square()).clamp_min(0.0).float()


def recording(norms: dict[str, _BatchNorm], tallies: dict[str, Tally]) -> list[Patch]:
    """Patches that make every batch-norm use, and record, the statistics of its batch."""
    return [
        (layer.__dict__, "forward", _recording_forward(layer, tallies.setdefault(name, Tally())))
        for name, layer in norms.items()
    ]


def _recording_forward(layer: _BatchNorm, tally: Tally) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        output, mean_C, inverse_std_C = torch.native_batch_norm(
            x, layer.weight, layer.bias, None, None, True, 0.0, layer.eps
        )
        variance_C = inverse_std_C.double().pow(-2) - layer.eps
        tally.add(x.numel() // x.shape[1], mean_C, variance_C)
        return output

    return forward


def estimate(
    run: Callable[[Tensor, list[Patch]], object], norms: dict[str, _BatchNorm], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """`running_mean` and `running_var` of every layer that ran, by state-dict name.

    Args:
        run: runs the selected network on an image batch with patches in place.
        norms: from `tracked_norms`.
        batches: the calibration images.
    """
    tallies: dict[str, Tally] = {}
    patches = recording(norms, tallies)
    with torch.no_grad():
        for image_BCHW in batches:
            run(image_BCHW, patches)
    found: dict[str, Tensor] = {}
    for name, tally in tallies.items():
        if tally.count:
            found[f"{name}.running_mean"], found[f"{name}.running_var"] = tally.result()
    return found


def re_estimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace a plain network's running statistics, in place; layers that do not run keep theirs.

    Args:
        network: in evaluation mode, as dropout would change what the layers see.
        batches: the calibration images (B,C,H,W).
    """

    def run(image_BCHW: Tensor, patches: list[Patch]) -> object:
        for store, key, value in patches:
            store[key] = value
        try:
            return network(image_BCHW)
        finally:
            for store, key, _ in patches:
                del store[key]

    buffers = dict(network.named_buffers())
    for name, statistics in estimate(run, tracked_norms(network), batches).items():
        buffers[name].copy_(statistics)
