"""Orders the units of each group by importance, without changing the function of the network.

Once-for-all (Cai et al., ICLR 2020, section 3.2) sorts channels by L1 norm, so that a width is a prefix. Moving a
unit moves its positions in every member of the group: producers, norms and consumers. U = units of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtnas.base.errors import SpaceError
from mtnas.base.groups import ChannelGroup
from mtnas.base.tables import nearest

#: by group, the unit that goes to each place
Order = dict[str, np.ndarray]
#: the tensors that are moved like a given one
Along = Callable[[Tensor], Iterable[Tensor]]


def alone(tensor: Tensor) -> tuple[Tensor, ...]:
    """Nothing goes along with a tensor."""
    return ()


def sort(
    groups: Sequence[ChannelGroup],
    state: Mapping[str, Tensor],
    importance: Mapping[str, np.ndarray] | None,
    leading: Mapping[str, int] | None,
    along: Along,
) -> Order:
    """Sort a network's units in place; see `ElasticModel.sort_channels`."""
    order = orders(groups, l1_importance(groups, state) if importance is None else importance, leading)
    permute(groups, order, state, along)
    return order


def l1_importance(groups: Sequence[ChannelGroup], state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Mean magnitude of the weights that read a unit, summed over its readers; of those that make it where none reads.

    Weights that make a unit say little before a batch-norm, which undoes their scale; Once-for-all, too, sorts by the
    input channels of the next layer.
    """
    found: dict[str, np.ndarray] = {}
    for group in groups:
        read = any(member.role == "in" and state[member.name].ndim > 1 for member in group.members)
        found[group.name] = _magnitudes(group, "in" if read else "out", state)
    return found


def _magnitudes(group: ChannelGroup, role: str, state: Mapping[str, Tensor]) -> np.ndarray:
    """(U,) mean magnitude of the weights of one role, summed over the group's members that have it."""
    score_U = np.zeros(group.size)
    for member in group.members:
        tensor = state[member.name]
        if member.role == role and tensor.ndim > 1:
            others = [axis for axis in range(tensor.ndim) if axis != member.axis]
            magnitude = tensor.detach().abs().double().mean(dim=others).cpu().numpy()
            score_U += magnitude[np.asarray(member.positions_UK)].mean(axis=1)
    return score_U


def orders(
    groups: Sequence[ChannelGroup],
    importance: Mapping[str, np.ndarray],
    leading: Mapping[str, int] | None = None,
) -> Order:
    """Units by descending importance (ties keep their order); raises `SpaceError` on wrong names or lengths.

    Args:
        groups: of the network.
        importance: of every unit, by group.
        leading: how many units of each group are sorted, the first ones; by default all, of all groups.
    """
    known = {group.name: group for group in groups}
    found: Order = {}
    for name, raw in importance.items():
        if name not in known:
            raise SpaceError(
                "a group of this model", received=repr(name), where="importance", cure=nearest(name, known)
            )
        score_U = np.asarray(raw, dtype=float)
        if score_U.shape != (known[name].size,) or not np.isfinite(score_U).all():
            raise SpaceError(
                f"{known[name].size} finite numbers", received=f"shape {score_U.shape}", where=f"importance of {name}"
            )
        if known[name].elastic and (leading is None or name in leading):
            found[name] = np.arange(len(score_U))
            first = slice(None if leading is None else leading[name])
            found[name][first] = np.argsort(-score_U[first], kind="stable")
    return found


def permute(
    groups: Sequence[ChannelGroup],
    order: Mapping[str, np.ndarray],
    state: Mapping[str, Tensor],
    along: Along,
) -> None:
    """Move unit `order[u]` to place u, in place, in every tensor of the state and in those that go along with it."""
    moved: dict[tuple[str, int], np.ndarray] = {}
    for group in groups:
        if group.name not in order:
            continue
        for member in group.members:
            positions_UK = np.asarray(member.positions_UK)
            source = moved.setdefault((member.name, member.axis), np.arange(state[member.name].shape[member.axis]))
            source[positions_UK] = positions_UK[order[group.name]]
    done: set[tuple[int, int]] = set()
    with torch.no_grad():
        for (name, axis), source in moved.items():
            tensor = state[name]
            # A parameter shared by several layers has several names, and is moved once.
            if (tensor.data_ptr(), axis) not in done:
                for each in (tensor, *along(tensor)):
                    each.copy_(each.index_select(axis, torch.from_numpy(source).to(each.device)))
                done.add((tensor.data_ptr(), axis))
