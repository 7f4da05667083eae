"""Sizes of depthwise kernels: one for all blocks, or a choice in each of them.

A choice holds weights and batch-norm of its own for every size: what is delivered is what was trained, and weights of
depthwise convolutions are few. (Cai et al., "Once-for-All", ICLR 2020, section 3.3, share the centre of one large
kernel and learn matrices between the sizes.)
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mtnas.encoders.table import CHOICE, KERNELS
from mtnas.forks.one_of import OneOf


def with_kernel(kernel: int | str, make: Callable[[int], nn.Module]) -> nn.Module:
    """The layers of one size; for `choice`, a `OneOf` of all of them, named `k3`, `k5`, `k7`.

    Args:
        kernel: rows and columns, or `choice`.
        make: the layers of a size, which keep the shape whatever the size.
    """
    return OneOf({f"k{size}": make(size) for size in KERNELS}) if kernel == CHOICE else make(int(kernel))
