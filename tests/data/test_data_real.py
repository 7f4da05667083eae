"""Facts of the real sets, where they are here; see MTNAS_DATA in docs/datasets.md."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import opened


def real(folder: str) -> Path:
    base = os.environ.get("MTNAS_DATA")
    if not base or not (Path(base) / folder).is_dir():
        pytest.skip(f"the real set is not here: MTNAS_DATA names no folder that contains {folder}/")
    return Path(base) / folder


def test_real_camvid() -> None:
    """Facts of the set's own description: sizes, and shares of classes of the training pictures."""
    data = opened("camvid", real("camvid"), height=72, width=96)
    sizes = data.info.sizes
    assert sizes["train"] + sizes["calibrate"] == 367 and (sizes["select"], sizes["report"]) == (101, 198)
    assert data.info.targets["segmentation"].class_names[3] == "road"
    labels = data.split("train").rows["segmentation"]  # type: ignore[attr-defined]
    share = 100 * np.bincount(labels.ravel(), minlength=256) / labels.size
    assert share[3] == pytest.approx(31.7, abs=1) and share[255] == pytest.approx(3.7, abs=1)


def test_real_pets3() -> None:
    """562 images; trimap shares 28 / 60 / 12 %; a head box for half of them, inside the body box as a rule."""
    data = opened("pets3", real("pets3"), height=48, width=48)
    assert sum(data.info.sizes.values()) == 382 + 60 + 120
    _, targets = data.split("report").batch(range(120))
    share = torch.bincount(targets["trimap"].flatten(), minlength=3) / targets["trimap"].numel()
    assert share.tolist() == pytest.approx([0.28, 0.60, 0.12], abs=0.03)
    there = ~targets["head"].isnan().any(dim=1)
    assert there.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (targets["species"] == (targets["breed"] == 2)).all()
    head, body = targets["head"][there], targets["body"][there]
    assert ((head[:, :2] >= body[:, :2] - 0.05) & (head[:, 2:] <= body[:, 2:] + 0.05)).all(dim=1).float().mean() > 0.9


def test_real_cifar() -> None:
    """250 images of each task in the original validation part; mean colour as published."""
    data = opened("cifar100-mtl", real("cifar100"), height=32, width=32, train=8)
    assert data.info.sizes == {"train": 8, "calibrate": 2000, "select": 5000, "report": 8500}
    image, targets = data.split("select").batch(range(5000))
    assert [int((target >= 0).sum()) for target in targets.values()] == [250] * 20
    assert all(torch.bincount(target[target >= 0]).tolist() == [50] * 5 for target in targets.values())
    assert image.mean(dim=(0, 2, 3)).abs().max() < 0.03 and data.info.targets["fish"].class_names[3] == "shark"


@pytest.mark.parametrize(("name", "folder"), [("multimnist", "mnist"), ("multifashion", "fashion_mnist")])
def test_real_pairs(name: str, folder: str) -> None:
    data = opened(name, real(folder), height=36, width=36, train=50, calibrate=500)
    assert (data.info.sizes["select"], data.info.sizes["report"]) == (3000, 5000)
    image, targets = data.split("calibrate").batch(range(500))
    assert (image.amax(dim=(1, 2, 3)) * data.info.std[0] + data.info.mean[0]).min() > 0.5
    assert torch.bincount(targets["left"]).min() > 20 and (targets["left"] == targets["right"]).float().mean() < 0.2
