"""Thinning of binary pictures to lines one pixel wide (Guo and Hall 1989, in the form of Lam, Lee and Suen 1992)."""

from __future__ import annotations

import numpy as np

ROUNDS = 200


def laplacian_edges(labels_HW: np.ndarray) -> np.ndarray:
    """Pixels whose four neighbours do not balance them, bool (H,W); the picture is mirrored at its rim."""
    padded = np.pad(labels_HW.astype(np.int64), 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.asarray(around != 4 * padded[1:-1, 1:-1])


def thin(mask_HW: np.ndarray) -> np.ndarray:
    """The mask, peeled from alternating sides until nothing more can go without breaking a line."""
    mask = mask_HW.astype(bool)
    for _ in range(ROUNDS):
        before = mask
        for side in (0, 1):
            mask = mask & ~_removable(mask, side)
        if np.array_equal(mask, before):
            break
    return mask


def _removable(mask: np.ndarray, side: int) -> np.ndarray:
    padded = np.pad(mask, 1)
    height, width = mask.shape
    # x1 = east, then counter-clockwise: north-east, north, ...
    steps = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    x1, x2, x3, x4, x5, x6, x7, x8 = (padded[1 + r : 1 + r + height, 1 + c : 1 + c + width] for r, c in steps)
    crossings = sum(
        (~a & (b | c)).astype(np.int8) for a, b, c in ((x1, x2, x3), (x3, x4, x5), (x5, x6, x7), (x7, x8, x1))
    )
    first = sum((a | b).astype(np.int8) for a, b in ((x1, x2), (x3, x4), (x5, x6), (x7, x8)))
    second = sum((a | b).astype(np.int8) for a, b in ((x2, x3), (x4, x5), (x6, x7), (x8, x1)))
    ends = np.minimum(first, second)
    open_side = ~((x2 | x3 | ~x8) & x1) if side == 0 else ~((x6 | x7 | ~x4) & x5)
    return np.asarray(mask & (crossings == 1) & (ends >= 2) & (ends <= 3) & open_side)
