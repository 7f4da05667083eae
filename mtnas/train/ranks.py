"""Processes that train together: each takes its part of every step's images, and gradients are added up once a step.

There is no wrapper around the network. A sandwich step runs several sub-networks before one optimizer step; torch's
`DistributedDataParallel` synchronises within each backward pass, and either misses what only some passes used or asks
for the same passes every time. Here all passes add up locally, then one flat sum over all processes follows. Every
process runs the same sub-networks (drawn from seed and step), so that the same sums come in the same order everywhere.

Works on any group of `torch.distributed`; `torchrun` makes one of gloo. Losses and what balancing methods learn from
are summed likewise, so that weights and loss weights stay the same in all processes, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from mtnas.base.errors import ProcessLost


@dataclass(frozen=True)
class Ranks:
    """The group of processes, and which of them this is; a single one by default.

    Every method is a meeting: all processes call it, in the same order. `ProcessLost` is raised where one does not
    come.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def add(self, tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
        """Sums over all processes in one message; None is zero, and stays None where no process has any.

        Args:
            tensors: of this process.
            like: their shapes and types, also of those that are None.
        """
        if self.count == 1 or not tensors:
            return list(tensors)
        present = torch.tensor([float(tensor is not None) for tensor in tensors], device=like[0].device)
        filled = [torch.zeros_like(b) if a is None else a for a, b in zip(tensors, like, strict=True)]
        flat = torch.cat([*(tensor.reshape(-1) for tensor in filled), present])
        with told("adding up gradients"):
            dist.all_reduce(flat)
        *sums, present = flat.split([*(tensor.numel() for tensor in filled), len(present)])
        return [
            part.view(tensor.shape).to(tensor.dtype) if some > 0 else None
            for part, tensor, some in zip(sums, filled, present.tolist(), strict=True)
        ]

    def add_scalars(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums of scalars by name, without gradients."""
        if self.count == 1:
            return {name: value.detach() for name, value in values.items()}
        flat = torch.stack([value.detach() for value in values.values()])
        with told("adding up losses"):
            dist.all_reduce(flat)
        return dict(zip(values, flat.unbind(), strict=True))

    def largest(self, value: float) -> float:
        """The largest of all processes' values."""
        return self._reduced(value, dist.ReduceOp.MAX) if self.count > 1 else value

    def agreed(self, value: float) -> float:
        """The leading process's value."""
        return float(self.same(torch.tensor(value, dtype=torch.float64)))

    def same(self, tensor: Tensor) -> Tensor:
        """The leading process's tensor."""
        if self.count == 1:
            return tensor
        copy = tensor.contiguous().clone()
        with told("agreeing on a value"):
            dist.broadcast(copy, 0)
        return copy

    def meet(self) -> None:
        """Go on when all processes are here."""
        self.largest(0.0)

    def _reduced(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        tensor = torch.tensor(value, dtype=torch.float64)
        with told("waiting for each other"):
            dist.all_reduce(tensor, how)
        return float(tensor)


def current_ranks() -> Ranks:
    """The group that this process has joined; itself alone when there is none."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@contextmanager
def joined(wait_seconds: float) -> Iterator[Ranks]:
    """Inside, this process is one of those that torchrun has started.

    Args:
        wait_seconds: a process that does not answer for so long is lost.
    """
    with told("meeting the other processes"):
        dist.init_process_group("gloo", timeout=timedelta(seconds=wait_seconds))
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()


@contextmanager
def told(where: str) -> Iterator[None]:
    """Say what a failed meeting means; torch's own message comes along."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ProcessLost(
            "all processes of the training to answer",
            received=str(error).strip().splitlines()[0][:200],
            where=where,
            cure="see what the process that ended first has printed; the same command resumes. If one is only slow, "
            "give it longer with train.wait_seconds",
        ) from error
