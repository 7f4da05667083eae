"""Change the size of one image and its targets, each in the way its values allow. Shape letters: O = out, I = in."""

from __future__ import annotations

import numpy as np


def weights_OI(size_out: int, size_in: int) -> np.ndarray:
    """Rows of weights that sum to one: area average when shrinking, linear interpolation when enlarging."""
    step = size_in / size_out
    source = np.arange(size_in)
    if step >= 1:
        start = np.arange(size_out)[:, None] * step
        weights = np.clip(np.minimum(start + step, source + 1) - np.maximum(start, source), 0, None)
    else:
        centre = np.clip((np.arange(size_out) + 0.5) * step - 0.5, 0, size_in - 1)
        weights = np.clip(1 - np.abs(centre[:, None] - source), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class Resampler:
    """From one image size to another; the weights are worked out once."""

    def __init__(self, size_in: tuple[int, int], size_out: tuple[int, int]) -> None:
        self.shape_in, self.shape_out = size_in, size_out
        self._down = weights_OI(size_out[0], size_in[0])
        self._across = weights_OI(size_out[1], size_in[1])
        rows, columns = (
            np.minimum(((np.arange(out) + 0.5) * size / out).astype(np.intp), size - 1)
            for out, size in zip(size_out, size_in)
        )
        self._nearest = np.ix_(rows, columns)

    def mean(self, plane_HWx: np.ndarray) -> np.ndarray:
        """Weighted mean, float32; for colours."""
        planes = np.moveaxis(np.atleast_3d(plane_HWx).astype(np.float32), -1, 0)
        return np.moveaxis(self._down @ planes @ self._across.T, 0, -1).reshape(
            len(self._down), len(self._across), *plane_HWx.shape[2:]
        )

    def labels(self, labels_HW: np.ndarray) -> np.ndarray:
        """Nearest source pixel; for anything that cannot be averaged."""
        return labels_HW[self._nearest]

    def depth(self, depth_HW: np.ndarray) -> np.ndarray:
        """Mean over valid pixels; 0 where less than half of the area is valid."""
        valid = (depth_HW > 0).astype(np.float32)
        share = self.mean(valid)
        return np.where(share >= 0.5, self.mean(depth_HW * valid) / np.maximum(share, 1e-6), 0)

    def normals(self, normals_HW3: np.ndarray) -> np.ndarray:
        """Mean direction of valid vectors, unit length; 0 where less than half of the area is valid."""
        mean = self.mean(normals_HW3)
        share = self.mean((normals_HW3 != 0).any(axis=-1).astype(np.float32))
        length = np.linalg.norm(mean, axis=-1)
        valid = (share >= 0.5) & (length > 1e-3)
        return np.where(valid[..., None], mean / np.maximum(length, 1e-6)[..., None], 0)
