"""Which rows no other row beats. Shape letters: N = rows, M = objectives."""

from __future__ import annotations

import numpy as np

from mtnas.base.errors import ModelError


def nondominated_N(losses_NM: np.ndarray) -> np.ndarray:
    """(N,) True where no other row is at least as low everywhere and lower somewhere; equal rows keep each other.

    Raises `ModelError` on NaN: a number that is not known cannot be compared.
    """
    if np.isnan(losses_NM).any():
        raise ModelError("objectives that can be compared", received="NaN", where="front")
    as_low = (losses_NM[:, None, :] <= losses_NM[None, :, :]).all(axis=2)
    lower = (losses_NM[:, None, :] < losses_NM[None, :, :]).any(axis=2)
    return np.asarray(~(as_low & lower).any(axis=0))
