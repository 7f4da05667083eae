"""What the packagings made of numbered `.npy` files share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtnas.base.errors import DataError
from mtnas.data.trees import Tree, array, expect_count, within
from mtnas.tasks.spec import IGNORE


def keys_of(tree: Tree, part: str, kinds: Sequence[str], count: int) -> tuple[str, ...]:
    """`part/K` for K from 0, after checking that every kind has exactly these files."""
    for kind in kinds:
        found = len(list((tree.root / part / kind).glob("*.npy")))
        expect_count(found, count, "files K.npy", tree.where(f"{part}/{kind}"))
    tree.require(f"{part}/{kind}/{number}.npy" for kind in kinds for number in range(count))
    return tuple(f"{part}/{number}" for number in range(count))


def floats_to_image(tree: Tree, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture stored as floats in 0..1, as uint8."""
    picture = array(tree, name, (3,), size=size)
    if picture.dtype.kind != "f" or picture.min() < 0 or picture.max() > 1:
        raise DataError(
            "a picture of floats from 0 to 1",
            received=f"{picture.dtype.name} from {picture.min():g} to {picture.max():g}",
            where=tree.where(name),
            cure="another packaging stores 0..255 or normalised values",
        )
    return np.rint(picture * 255).astype(np.uint8)


def labels_to_uint8(tree: Tree, name: str, size: tuple[int, int] | None, classes: int) -> np.ndarray:
    """Labels -1 (ignore) and 0..K-1 as uint8 with 255 for ignore."""
    labels = array(tree, name, (), size=size)
    within(labels, range(-1, classes), tree.where(name), f"classes 0 to {classes - 1}, or -1 for ignored")
    return np.where(labels < 0, IGNORE, labels).astype(np.uint8)
