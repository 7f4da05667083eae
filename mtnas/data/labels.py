"""Targets that follow from a label map."""

from __future__ import annotations

import numpy as np

from mtnas.tasks.spec import IGNORE


def edges_of(parts_BHW: np.ndarray) -> np.ndarray:
    """Pixels whose label differs from the one to the left or above: thin lines, bool (B,H,W)."""
    edges = np.zeros(parts_BHW.shape, bool)
    edges[:, :, 1:] |= parts_BHW[:, :, 1:] != parts_BHW[:, :, :-1]
    edges[:, 1:] |= parts_BHW[:, 1:] != parts_BHW[:, :-1]
    return edges


def presence_of(segmentation_BHW: np.ndarray, classes: int, min_pixels: int = 1) -> np.ndarray:
    """Which classes cover at least `min_pixels` pixels, float32 (B,K)."""
    batch = len(segmentation_BHW)
    flat = segmentation_BHW.reshape(batch, -1).astype(np.int64) + (np.arange(batch) * (IGNORE + 1))[:, None]
    counts = np.bincount(flat.ravel(), minlength=batch * (IGNORE + 1)).reshape(batch, IGNORE + 1)
    return (counts[:, :classes] >= min_pixels).astype(np.float32)
