"""Joint augmentation of a whole batch: flip, zoom-crop, light colour jitter.

One view says which source row and column each output pixel shows; image, labels, depth and normals all follow it.
Zooming by z brings everything z times closer, so depth is divided by z; a flip negates the x of normals. Edges and
presence are derived afterwards from the viewed labels. Labels, depth and normals take the nearest source pixel: nothing
leaks across edges or holes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ZOOMS = (1.0, 1.2, 1.5)
GAIN, TINT, SHIFT = 0.2, 0.08, 0.08


@dataclass(frozen=True)
class View:
    """How a batch looks at its source images. `rows_BH` and `columns_BW` are positions in source pixels."""

    zoom_B: np.ndarray
    flip_B: np.ndarray
    rows_BH: np.ndarray
    columns_BW: np.ndarray
    gain_B3: np.ndarray
    shift_B1: np.ndarray


def random_view(batch: int, height: int, width: int, rng: np.random.Generator) -> View:
    """Draw a view for each image; the draws depend on the generator and the batch size only."""
    zoom_B = np.asarray(ZOOMS)[rng.integers(len(ZOOMS), size=batch)]
    flip_B = rng.random(batch) < 0.5
    corner_B2 = rng.random((batch, 2)) * (1.0 - 1.0 / zoom_B)[:, None]
    rows_BH = (np.arange(height) + 0.5) / zoom_B[:, None] + corner_B2[:, :1] * height - 0.5
    columns_BW = (np.arange(width) + 0.5) / zoom_B[:, None] + corner_B2[:, 1:] * width - 0.5
    columns_BW = np.where(flip_B[:, None], columns_BW[:, ::-1], columns_BW)
    gain_B3 = (1 + rng.uniform(-GAIN, GAIN, (batch, 1))) * (1 + rng.uniform(-TINT, TINT, (batch, 3)))
    return View(zoom_B, flip_B, rows_BH, columns_BW, gain_B3, rng.uniform(-SHIFT, SHIFT, (batch, 1)))


def take_nearest(source_BHWx: np.ndarray, view: View) -> np.ndarray:
    """Nearest source pixel of every output pixel; further axes are carried along."""
    height, width = source_BHWx.shape[1:3]
    rows = np.clip(np.rint(view.rows_BH).astype(np.intp), 0, height - 1)
    columns = np.clip(np.rint(view.columns_BW).astype(np.intp), 0, width - 1)
    return source_BHWx[np.arange(len(rows))[:, None, None], rows[:, :, None], columns[:, None, :]]


def take_bilinear(image_BCHW: Tensor, view: View) -> Tensor:
    """Bilinear samples of float images, borders repeated."""
    height, width = image_BCHW.shape[2:]
    y = torch.from_numpy((2 * view.rows_BH + 1) / height - 1).float()
    x = torch.from_numpy((2 * view.columns_BW + 1) / width - 1).float()
    grid_BHW2 = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
    return F.grid_sample(image_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False)


def jitter(image_BCHW: Tensor, view: View) -> Tensor:
    """Change brightness and tint of images in 0..1."""
    gain = torch.from_numpy(view.gain_B3).float()[:, :, None, None]
    shift = torch.from_numpy(view.shift_B1).float()[:, :, None, None]
    return (image_BCHW * gain + shift).clamp_(0, 1)
