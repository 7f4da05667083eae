"""How the losses of a step become gradients: at once, or one task after the other.

Which of the two it is follows from the balance. Weighing losses takes one backward pass per sub-network. Weighing
gradients, and looking for flat minima, takes one per task and sub-network; each goes through the shared part and one
task's own part, so decoders cost no more than before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from mtnas.train.balance.base import Balance
from mtnas.train.balance.gradient import GradientBalance
from mtnas.train.parts import StepParts

Losses = Mapping[str, Tensor]
Rows = dict[str, list[Tensor | None]]


class Backward(Protocol):
    """Collects the gradients of one step, over all its parts; a part counts by its share of the images."""

    def first(self, losses: Losses, share: float, again: Callable[[], Losses]) -> Tensor:
        """The network that leads the step: the largest, or the one whose turn it is; returns its total.

        Args:
            losses: by task, attached to their graph.
            share: of this network in the step's gradient.
            again: computes the same losses once more, with the weights as they then are.
        """
        ...

    def student(self, losses: Losses, share: float, beside: Tensor | None = None, *, keep: bool = False) -> None:
        """One of the other sub-networks.

        Args:
            losses: by task, attached to their graph.
            share: of this network in the step's gradient.
            beside: a loss that belongs to no task, such as a distance of shared features. Balances do not weigh it:
                its gradient is added to what they make of the tasks'.
            keep: whether parts of the graph are walked through once more later.
        """
        ...

    def finish(self) -> None:
        """The part is done; after the last one the step's gradients lie on the parameters."""
        ...


def shared_parameters(model: nn.Module, owners: Mapping[str, Sequence[str]]) -> list[nn.Parameter]:
    """The trained parameters that serve more than one task; `owners` has the tasks of each by name."""
    named = model.named_parameters()
    return [parameter for name, parameter in named if parameter.requires_grad and len(owners.get(name, ())) > 1]


def needs_owners(balance: Balance, flat_radius: float) -> bool:
    """Whether it matters which parameters are shared."""
    return isinstance(balance, GradientBalance) or balance.watches or flat_radius > 0


def make_backward(
    balance: Balance,
    model: nn.Module,
    shared: Sequence[nn.Parameter],
    flat_radius: float = 0.0,
    parts: StepParts | None = None,
) -> Backward:
    """The cheapest way that serves the balance; `parts` tells which part of the step is at work."""
    parts = parts or StepParts()
    if isinstance(balance, GradientBalance) or flat_radius > 0:
        return TaskByTask(balance, model, shared, flat_radius, parts)
    return AtOnce(balance, shared, parts)


class AtOnce:
    """Backward of the balance's total."""

    def __init__(self, balance: Balance, shared: Sequence[nn.Parameter], parts: StepParts) -> None:
        self.balance, self.shared, self.parts = balance, shared, parts

    def first(self, losses: Losses, share: float, again: Callable[[], Losses]) -> Tensor:
        total = self.parts.learn(self.balance, losses)
        (total * (share * self.parts.share)).backward()
        return total

    def student(self, losses: Losses, share: float, beside: Tensor | None = None, *, keep: bool = False) -> None:
        total = self.balance.apply_to(losses)
        ((total if beside is None else total + beside) * (share * self.parts.share)).backward(retain_graph=keep)

    def finish(self) -> None:
        if not self.parts.last:
            return
        self.parts.add_everywhere([])
        if self.balance.watches:
            self.balance.watch([parameter.grad for parameter in self.shared])


class TaskByTask:
    """One backward pass per task; rows of shared gradients are kept apart until `finish`.

    With a radius, the leading network also looks for minima that are flat for every task (Phan, Tran, Tran, Ho, Phung,
    Le, "Improving Multi-task Learning via Seeking Task-based Flat Regions", algorithm 1): each task's gradient is taken
    once more where its loss rises steepest, at this distance in the shared and in the task's own parameters. Own
    parameters follow that gradient; the differences of the shared ones are weighed by themselves, and added. It costs
    one forward and one backward pass more per task.

    Args:
        balance: weighs rows, or else losses.
        model: whose parameters get gradients.
        shared: those that serve several tasks.
        radius: 0 for none. Each part of a step finds its own steepest points.
        parts: which part of the step is at work.
    """

    def __init__(
        self,
        balance: Balance,
        model: nn.Module,
        shared: Sequence[nn.Parameter],
        radius: float,
        parts: StepParts,
    ) -> None:
        self.balance, self.radius, self.parts = balance, radius, parts
        known = {id(parameter) for parameter in shared}
        self.shared = list(shared)
        self.own = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        self.rows: Rows = {}
        self.flat: Rows = {}

    def first(self, losses: Losses, share: float, again: Callable[[], Losses]) -> Tensor:
        if self.parts.first:
            self.rows, self.flat = {}, {}
        share *= self.parts.share
        total = self.parts.learn(self.balance, {task: loss.detach() for task, loss in losses.items()})
        if total.requires_grad:
            (total * share).backward()
        found = self._add(losses, share)
        if self.radius > 0:
            for task, gradients in found.items():
                self._add_flat(task, gradients, share, again)
        return total

    def student(self, losses: Losses, share: float, beside: Tensor | None = None, *, keep: bool = False) -> None:
        assert not keep, "gradients of single tasks are not walked through twice"
        if beside is not None:
            (beside * (share * self.parts.share)).backward(retain_graph=True)
        self._add(losses, share * self.parts.share)

    def finish(self) -> None:
        if not self.parts.last:
            return
        self.parts.add_everywhere([(row, self.shared) for rows in (self.rows, self.flat) for row in rows.values()])
        for rows in (self.rows, self.flat):
            if rows:
                weight_T = self._weights(list(rows.values()))
                for weight, row in zip(weight_T.tolist(), rows.values(), strict=True):
                    accumulate(self.shared, row, weight)
        self.rows, self.flat = {}, {}
        if self.balance.watches:
            self.balance.watch([parameter.grad for parameter in self.shared])

    def _add(self, losses: Losses, share: float) -> Rows:
        """Add one network's gradients; returns them by task, shared parameters first."""
        slope_by_task = slopes(self.balance, losses)
        parameters = [*self.shared, *self.own]
        found: Rows = {}
        for count, (task, slope) in enumerate(slope_by_task.items(), start=1):
            more = count < len(slope_by_task)
            loss = losses[task] * (slope * share)
            found[task] = list(torch.autograd.grad(loss, parameters, retain_graph=more, allow_unused=True))
            add_row(self.rows, task, found[task][: len(self.shared)])
            accumulate(self.own, found[task][len(self.shared) :])
        return found

    def _add_flat(self, task: str, before: list[Tensor | None], share: float, again: Callable[[], Losses]) -> None:
        """Add what the gradient of one task changes by on the way to its steepest point."""
        cut = len(self.shared)
        with moved(self.shared, before[:cut], self.radius), moved(self.own, before[cut:], self.radius):
            losses = again()
            loss = losses[task] * (slopes(self.balance, losses)[task] * share)
            parameters = [*self.shared, *self.own]
            after = torch.autograd.grad(loss, parameters, allow_unused=True)
        change = [None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)]
        add_row(self.flat, task, change[:cut])
        accumulate(self.own, change[cut:])

    def _weights(self, rows: list[list[Tensor | None]]) -> Tensor:
        if not isinstance(self.balance, GradientBalance):
            return torch.ones(len(rows))
        gram_TT = gram(rows)
        with self.parts.alike(gram_TT.device):
            return self.parts.ranks.same(self.balance.combine(gram_TT))


def slopes(balance: Balance, losses: Losses) -> dict[str, Tensor]:
    """What each task's weighted loss changes by with the loss itself.

    Weighted losses may be parts of one vector, whose gradient goes through the decoders of all tasks, most of it zeros.
    """
    leaves = {task: loss.detach().requires_grad_() for task, loss in losses.items()}
    weighted = balance.each(leaves)
    return {task: torch.autograd.grad(loss, leaves[task], retain_graph=True)[0] for task, loss in weighted.items()}


def add_row(rows: Rows, task: str, gradients: list[Tensor | None]) -> None:
    """Add gradients to the row of a task; None is zero."""
    if task not in rows:
        rows[task] = list(gradients)
        return
    for k, gradient in enumerate(gradients):
        known = rows[task][k]
        if gradient is not None:
            rows[task][k] = gradient if known is None else known + gradient


@torch.no_grad()
def accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None], weight: float = 1.0) -> None:
    """Add weighted gradients to those of the parameters."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            part = gradient if weight == 1.0 else gradient * weight
            parameter.grad = part.clone() if parameter.grad is None else parameter.grad + part


def gram(rows: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """(T, T) inner products of rows that are given parameter by parameter, in float64."""
    tasks = len(rows)
    first = next((gradient for row in rows for gradient in row if gradient is not None), torch.zeros(1))
    gram_TT = torch.zeros(tasks, tasks, dtype=torch.float64, device=first.device)
    for gradients in zip(*rows, strict=True):
        present = [t for t, gradient in enumerate(gradients) if gradient is not None]
        if present:
            flat_PN = torch.stack([gradients[t].reshape(-1) for t in present])  # type: ignore[union-attr]
            index = torch.tensor(present, device=first.device)
            gram_TT[index[:, None], index] += (flat_PN @ flat_PN.T).double()
    return gram_TT


@contextmanager
def moved(parameters: Sequence[nn.Parameter], along: Sequence[Tensor | None], length: float) -> Iterator[None]:
    """Inside, the parameters lie a step of this length along the direction; afterwards they are what they were."""
    norms = [gradient.norm() for gradient in along if gradient is not None]
    norm = float(torch.stack(norms).norm()) if norms else 0.0
    pairs = [(p, g) for p, g in zip(parameters, along, strict=True) if g is not None] if norm > 0 else []
    kept = [parameter.detach().clone() for parameter, _ in pairs]
    with torch.no_grad():
        for parameter, gradient in pairs:
            parameter.add_(gradient, alpha=length / norm)
    try:
        yield
    finally:
        with torch.no_grad():
            for (parameter, _), before in zip(pairs, kept, strict=True):
                parameter.copy_(before)
