"""Joint augmentation of a whole batch: flip, zoom-crop, light colour jitter.

One view says which source row and column each output pixel shows; image, labels, depth and normals all follow it.
Zooming by z brings everything z times closer, so depth is divided by z and disparity multiplied; a flip negates the x
of normals. Edges and presence are derived afterwards from the viewed labels. Labels, depth and normals take the
nearest source pixel: nothing leaks across edges or holes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ZOOMS = (1.0, 1.2, 1.5)
GAIN, TINT, SHIFT = 0.2, 0.08, 0.08
#: share of a box that must be left after a crop
SEEN = 0.25


@dataclass(frozen=True)
class Recipe:
    """What a set's images may go through.

    Args:
        zooms: one is drawn for each image.
        flip: half of the images are mirrored; wrong for letters and digits.
        pad: largest shift, as a share of the side, in either direction; the border repeats outside. For sets without
            dense targets only.
        colours: brightness and tint change.
    """

    zooms: tuple[float, ...] = ZOOMS
    flip: bool = True
    pad: float = 0.0
    colours: bool = True


ROOMS = Recipe()


@dataclass(frozen=True)
class View:
    """How a batch looks at its source images. `rows_BH` and `columns_BW` are positions in source pixels."""

    zoom_B: np.ndarray
    flip_B: np.ndarray
    rows_BH: np.ndarray
    columns_BW: np.ndarray
    gain_B3: np.ndarray
    shift_B1: np.ndarray


def random_view(batch: int, height: int, width: int, rng: np.random.Generator, recipe: Recipe = ROOMS) -> View:
    """Draw a view for each image; the draws depend on the generator, the batch size and the recipe only."""
    zoom_B = np.asarray(recipe.zooms)[rng.integers(len(recipe.zooms), size=batch)]
    flip_B = (rng.random(batch) < 0.5) & recipe.flip
    corner_B2 = rng.random((batch, 2)) * (1.0 - 1.0 / zoom_B)[:, None]
    if recipe.pad:
        corner_B2 += rng.uniform(-recipe.pad, recipe.pad, (batch, 2))
    rows_BH = (np.arange(height) + 0.5) / zoom_B[:, None] + corner_B2[:, :1] * height - 0.5
    columns_BW = (np.arange(width) + 0.5) / zoom_B[:, None] + corner_B2[:, 1:] * width - 0.5
    columns_BW = np.where(flip_B[:, None], columns_BW[:, ::-1], columns_BW)
    gain_B3 = (1 + rng.uniform(-GAIN, GAIN, (batch, 1))) * (1 + rng.uniform(-TINT, TINT, (batch, 3)))
    shift_B1 = rng.uniform(-SHIFT, SHIFT, (batch, 1))
    if not recipe.colours:
        gain_B3, shift_B1 = np.ones_like(gain_B3), np.zeros_like(shift_B1)
    return View(zoom_B, flip_B, rows_BH, columns_BW, gain_B3, shift_B1)


def view_boxes(boxes_B4: np.ndarray, view: View) -> np.ndarray:
    """Boxes (x0, y0, x1, y1 in shares of the sides) as the view shows them, clipped to the picture.

    A box of which less than `SEEN` is left becomes NaN, that is, not labelled.
    """
    zoom_B = view.zoom_B
    height, width = view.rows_BH.shape[1], view.columns_BW.shape[1]
    left_B = (view.columns_BW.min(axis=1) + 0.5 - 0.5 / zoom_B) / width
    top_B = (view.rows_BH.min(axis=1) + 0.5 - 0.5 / zoom_B) / height
    x_B2 = (boxes_B4[:, 0::2] - left_B[:, None]) * zoom_B[:, None]
    y_B2 = (boxes_B4[:, 1::2] - top_B[:, None]) * zoom_B[:, None]
    x_B2 = np.where(view.flip_B[:, None], 1 - x_B2[:, ::-1], x_B2)
    moved_B4 = np.stack([x_B2[:, 0], y_B2[:, 0], x_B2[:, 1], y_B2[:, 1]], axis=1)
    clipped_B4 = moved_B4.clip(0, 1)
    whole, left = (np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (moved_B4, clipped_B4))
    with np.errstate(invalid="ignore"):
        seen = left >= SEEN * whole
    return np.where(seen[:, None], clipped_B4, np.nan)


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
