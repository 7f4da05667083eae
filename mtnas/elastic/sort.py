"""Orders the units of each group by importance, without changing the function of the network.

Once-for-all (Cai et al., ICLR 2020, section 3.2) sorts channels by L1 norm, so that a width is a prefix. Moving a
unit moves its positions in every member of the group: producers, norms and consumers. U = units of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtnas.base.errors import SpaceError
from mtnas.base.groups import ChannelGroup
from mtnas.base.tables import nearest


def l1_importance(groups: Sequence[ChannelGroup], state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Mean magnitude of the producing weights of every unit, summed over the producers."""
    found: dict[str, np.ndarray] = {}
    for group in groups:
        score_U = np.zeros(group.size)
        for member in group.members:
            tensor = state[member.name]
            if member.role == "out" and tensor.ndim > 1:
                others = [axis for axis in range(tensor.ndim) if axis != member.axis]
                magnitude = tensor.detach().abs().double().mean(dim=others).cpu().numpy()
                score_U += magnitude[np.asarray(member.positions_UK)].mean(axis=1)
        found[group.name] = score_U
    return found


def orders(groups: Sequence[ChannelGroup], importance: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Units by descending importance (ties keep their order); raises `SpaceError` on wrong names or lengths."""
    known = {group.name: group for group in groups}
    found: dict[str, np.ndarray] = {}
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
        if known[name].elastic:
            found[name] = np.argsort(-score_U, kind="stable")
    return found


def permute(groups: Sequence[ChannelGroup], order: Mapping[str, np.ndarray], state: Mapping[str, Tensor]) -> None:
    """Move unit `order[u]` to place u, in place, in every tensor of the state."""
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
                tensor.copy_(tensor.index_select(axis, torch.from_numpy(source).to(tensor.device)))
                done.add((tensor.data_ptr(), axis))
