"""Surface normals as files hold them, checked for the mistakes that have been published."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mtnas.base.errors import DataError
from mtnas.data.preset import Reader

#: images looked at when a set is opened
SAMPLE = 5
CURE = "colour-coded normals must be mapped to -1..1 first; another packaging stores them that way"


def unit_normals(normals_HW3: np.ndarray, where: str) -> np.ndarray:
    """The vectors at length one, 0 where they are too short to mean anything."""
    normals_HW3 = normals_HW3.astype(np.float32)
    length_HW = np.linalg.norm(normals_HW3, axis=-1)
    valid = length_HW > 0.3
    if valid.any() and float(np.median(length_HW[valid])) > 1.3:
        raise DataError(
            "unit vectors, all zero where invalid",
            received=f"vectors of length {float(np.median(length_HW[valid])):g}",
            where=where,
            cure=CURE,
        )
    return np.where(valid[..., None], normals_HW3 / np.maximum(length_HW, 1e-6)[..., None], 0)


def decoded(coded_HW3: np.ndarray) -> np.ndarray:
    """2x/255 - 1 of an RGB picture; black and mid-grey stand for "no normal"."""
    coded = coded_HW3.astype(np.float32)
    none = (coded == 0).all(axis=-1) | (np.abs(coded - 127.5) < 1).all(axis=-1)
    return np.where(none[..., None], 0, 2 * coded / 255 - 1)


def check_centred(read: Reader, split: str, keys: Sequence[Hashable], where: str, name: str = "normals") -> None:
    """Refuse normals none of whose components is ever negative: they were never centred, and angles would be small.

    Looks at some images together, since one picture may well show a single wall.
    """
    picked = [keys[i] for i in np.unique(np.linspace(0, len(keys) - 1, SAMPLE).round().astype(int))]
    sample = [value for key in picked if (value := read(split, key, frozenset({name})).get(name)) is not None]
    valid = [value[np.abs(value).sum(axis=-1) > 0] for value in sample]
    vectors_N3 = np.concatenate(valid) if valid else np.zeros((0, 3))
    if len(vectors_N3) and vectors_N3.min() >= 0:
        raise DataError(
            "normals with components from -1 to 1",
            received=f"components from {vectors_N3.min():.2f} to {vectors_N3.max():.2f} in {len(sample)} images",
            where=where,
            cure=CURE,
        )
