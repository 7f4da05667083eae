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

from mtnas.elastic.features import FeatureMap
from mtnas.train.features.base import FeatureForm, standardised


class Project(FeatureForm):
    """mean((n(W F) - n(F*))^2) over all channels of the largest network, n = per-channel standardisation."""

    needs_channels = True

    def __init__(self, maps: Sequence[FeatureMap], widths: dict[str, tuple[int, ...]]) -> None:
        super().__init__(maps, widths)
        self.matrices = nn.ParameterDict()
        for number, found in enumerate(self.maps):
            for part, (group, channels) in enumerate(found.parts.items()):
                sizes = {_kept(found, channels, width) for width in widths.get(group, ())} | {len(channels)}
                for size in sorted(sizes - {0}):
                    placed_CK = torch.zeros(found.channels, size)
                    placed_CK[torch.from_numpy(channels[:size]), torch.arange(size)] = 1.0
                    self.matrices[f"{number}_{part}_{size}"] = nn.Parameter(placed_CK)

    def distance(self, number: int, student_BCN: Tensor, teacher_BCN: Tensor, kept_C: np.ndarray) -> Tensor:
        told_BCN = torch.zeros_like(teacher_BCN)
        for part, channels in enumerate(self.maps[number].parts.values()):
            own = torch.from_numpy(np.flatnonzero(np.isin(kept_C, channels))).to(student_BCN.device)
            if not len(own):
                continue
            matrix_CK = self.matrices[f"{number}_{part}_{len(own)}"]
            told_BCN = told_BCN + torch.einsum("ck,bkn->bcn", matrix_CK, student_BCN.index_select(1, own))
        return (standardised(told_BCN) - standardised(teacher_BCN)).square().mean()


def _kept(found: FeatureMap, channels: np.ndarray, width: int) -> int:
    """How many of a group's channels the first `width` units have."""
    units = [found.units_C[int(c)] for c in channels]
    return sum(unit is None or unit[1] < width for unit in units)
