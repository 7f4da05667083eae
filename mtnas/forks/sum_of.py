"""`SumOf`: parallel branches whose results are added; an arch may run the first few of them alone.

A plain torch module. `make_elastic` finds it by its type; with `experts` in the rules of the space, how many branches
run is a choice of every arch. A branch that weighs itself (a gate) is a module like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.forks import each
from mtnas.forks.together import added, check_branches


class SumOf(nn.Module):
    """Adds what its branches give; all of them take the same tensors and give one tensor of the same shape.

    Or each gives a dict of tensors, by the same names in the same shapes, which are added name by name.

    Args:
        branches: at least one module, the most useful first.
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        check_branches("SumOf", list(branches))
        self.branches = nn.ModuleList(branches)

    def forward(self, *inputs: Tensor) -> Any:
        return self.first(len(self.branches), *inputs)

    def first(self, count: int, *inputs: Tensor) -> Any:
        """The sum of the first `count` branches."""
        total = self.branches[0](*inputs)
        for number in range(1, count):
            total = each(torch.add, total, self.branches[number](*inputs))
        return total

    # --- for those who choose: `OneOf` answers the same questions ---------------------------------------------------

    @property
    def default(self) -> str:
        """All branches."""
        return str(len(self.branches))

    def parts(self) -> dict[str, nn.Module]:
        """Option (the number of branches that run) -> the branch that comes with it."""
        return {str(number + 1): branch for number, branch in enumerate(self.branches)}

    def way(self, option: str) -> Callable[..., Any]:
        """What to call instead of `forward` to run so many branches."""
        return partial(self.first, int(option))

    def everything(self, *inputs: Tensor) -> Any:
        """The sum of all branches; raises `ModelError` on odd shapes."""
        return added(self.parts(), inputs)

    def keep(self, option: str) -> None:
        """Drop all branches but the first so many; their parameters keep their names."""
        del self.branches[int(option) :]
