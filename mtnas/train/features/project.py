"""Through a learned 1x1 convolution for each width: what the small network knows should suffice to tell the rest.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, section 2.2 (a learned regressor from the
student's width to the teacher's). Here one matrix per map, group and width, added up where a map holds channels of
several groups. They start by putting every kept channel in its place, and are thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtnas.elastic.features import FeatureMap, Unit
from mtnas.elastic.sort import Along, Order
from mtnas.train.features.base import FeatureForm, standardised


class Project(FeatureForm):
    """mean((n(W F) - n(F*))^2) over all channels of the largest network, n = per-channel standardisation."""

    needs_channels = True

    def __init__(self, maps: Sequence[FeatureMap], widths: dict[str, tuple[int, ...]]) -> None:
        super().__init__(maps, widths)
        self.matrices = nn.ParameterDict()
        self.channels: dict[str, np.ndarray] = {}  # those that each matrix reads, by its key
        for number, found in enumerate(self.maps):
            for part, (group, channels) in enumerate(found.parts.items()):
                kept = [_kept(found, channels, width) for width in widths.get(group, ())]
                for own in (*kept, channels):
                    if len(own):
                        self.channels[_key(number, part, len(own))] = own
        for key, own in self.channels.items():
            self.matrices[key] = nn.Parameter(_placed(own, self._map(key).channels))

    def distance(self, number: int, student_BCN: Tensor, teacher_BCN: Tensor, kept_C: np.ndarray) -> Tensor:
        told_BCN = torch.zeros_like(teacher_BCN)
        for part, channels in enumerate(self.maps[number].parts.values()):
            own = torch.from_numpy(np.flatnonzero(np.isin(kept_C, channels))).to(student_BCN.device)
            if not len(own):
                continue
            matrix_CK = self.matrices[_key(number, part, len(own))]
            told_BCN = told_BCN + torch.einsum("ck,bkn->bcn", matrix_CK, student_BCN.index_select(1, own))
        return (standardised(told_BCN) - standardised(teacher_BCN)).square().mean()

    @torch.no_grad()
    def moved(self, order: Order, along: Along) -> None:
        """Rows and columns follow their channels; a channel that is new to a width starts in its place."""
        for key, own in self.channels.items():
            source_C = channel_sources(self._map(key), order)
            known = {int(channel): column for column, channel in enumerate(own)}
            columns = [known.get(int(source_C[channel]), -1) for channel in own]
            fresh_K = torch.tensor([column < 0 for column in columns])
            placed_CK = _placed(own, len(source_C))
            matrix_CK = self.matrices[key]
            for tensor, start_CK in [(matrix_CK, placed_CK), *((t, torch.zeros(t.shape)) for t in along(matrix_CK))]:
                moved_CK = tensor.detach().cpu()[source_C][:, columns]
                tensor.copy_(torch.where(fresh_K, start_CK, moved_CK))

    def _map(self, key: str) -> FeatureMap:
        return self.maps[int(key.partition("_")[0])]


def channel_sources(found: FeatureMap, order: Order) -> np.ndarray:
    """Where the channel that is now at each place of a map was before its units moved."""
    channels: dict[Unit, list[int]] = {}
    for channel, unit in enumerate(found.units_C):
        if unit is not None:
            channels.setdefault(unit, []).append(channel)
    source_C = np.arange(found.channels)
    for (group, place), own in channels.items():
        if group in order:
            source_C[own] = channels[group, int(order[group][place])]
    return source_C


def _kept(found: FeatureMap, channels: np.ndarray, width: int) -> np.ndarray:
    """Those of a group's channels that its first `width` units have."""
    units = [found.units_C[int(channel)] for channel in channels]
    return channels[[unit is None or unit[1] < width for unit in units]]


def _placed(own: np.ndarray, channels: int) -> Tensor:
    """(C, K): every channel that is read goes to its own place."""
    placed_CK = torch.zeros(channels, len(own))
    placed_CK[torch.from_numpy(own), torch.arange(len(own))] = 1.0
    return placed_CK


def _key(number: int, part: int, size: int) -> str:
    return f"{number}_{part}_{size}"
