"""What each packaging stores arrives in our units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fabricated
import numpy as np
import pytest
import torch
from fabricated import H, W, rng_of
from layouts import keys_of, one, opened

from mtnas.data import preset
from mtnas.data.config import SPLITS
from mtnas.data.two_digits import paste


@pytest.mark.parametrize("name", ["nyuv2-mtan", "nyud-mt", "nyud-atrc"])
def test_rooms(name: str, trees: Callable[[str], Path]) -> None:
    """The first image of the official val part, at its own size: every value as written."""
    data = opened(name, trees(name))
    assert data.info.sizes["report"] == fabricated.VAL and data.info.research_only
    key, classes = ("val0", 13) if name == "nyuv2-mtan" else (f"{fabricated.TRAIN + 1:04d}", 40)
    targets = one(data)
    assert np.array_equal(targets["segmentation"], fabricated.labels(key, classes))
    assert np.allclose(targets["depth"][0], fabricated.metres(key))
    assert np.allclose(targets["normals"].permute(1, 2, 0), fabricated.normals(key), atol=0.02)
    assert (targets["normals"][:, :6, -6:] == 0).all()
    if name != "nyuv2-mtan":
        assert np.array_equal(targets["edges"][0], fabricated.edges(key))


def test_no_stretch_of_neighbours_is_in_two_splits(trees: Callable[[str], Path]) -> None:
    data = opened("nyud-mt", trees("nyud-mt"))
    keys = {split: [int(key) for key in keys_of(data, split)] for split in SPLITS}
    assert sorted(number for group in keys.values() for number in group) == list(
        range(1, fabricated.TRAIN + fabricated.VAL + 1)
    )
    assert min(keys["report"]) > fabricated.TRAIN
    homes = {number: split for split in SPLITS for number in keys[split]}
    assert all(homes[n] == homes[n + 1] == homes[n + 2] for n in range(1, fabricated.TRAIN, 3))


def test_pascal(trees: Callable[[str], Path]) -> None:
    """Image 0 is a portrait without a person, image 1 a landscape with one."""
    data = opened("pascal-mt", trees("pascal-mt"), height=H, width=W)
    portrait, landscape = one(data, index=0), one(data, index=1)
    assert (portrait["human_parts"] == 255).all()
    assert set(landscape["human_parts"].unique().tolist()) == {0, 1, 6}
    assert landscape["human_parts"][0, 0] == 1 and landscape["human_parts"][-1, 0] == 6
    assert np.array_equal(landscape["segmentation"], fabricated.labels("2008_val0001", 21))
    assert set(landscape["saliency"].unique().tolist()) == {0.0, 1.0}
    # sky is no class of NYU: its half has no normals; the wall has
    assert (landscape["normals"][:, :, W // 2 :] == 0).all() and (landscape["normals"][2, :, : W // 2] < -0.99).all()
    # the border between wall and sky, thinned
    assert landscape["edges"].sum(dim=-1).max() == 1 and landscape["edges"][0, 2:-2, W // 2 - 1 : W // 2 + 1].sum() > 20


def test_cityscapes_official(trees: Callable[[str], Path]) -> None:
    data = opened("cityscapes-official", trees("cityscapes-official"))
    key = "valcity0/valcity0_000000_000019"
    targets = one(data)
    assert np.array_equal(targets["segmentation"], fabricated.labels(key, 19))
    metres = fabricated.metres(key)
    expected = np.where(metres == 0, -1, 16 * metres)
    assert np.allclose(targets["disparity"][0], expected, atol=0.01)
    half = one(opened("cityscapes-official", trees("cityscapes-official"), height=H // 2, width=W // 2))
    assert torch.allclose(half["disparity"][0, 3, 3], targets["disparity"][0, 6, 6] / 2)
    groups = one(opened("cityscapes-official", trees("cityscapes-official"), classes=7))["segmentation"]
    table = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6])
    fine = targets["segmentation"]
    assert np.array_equal(groups[fine != 255], table[fine[fine != 255]]) and (groups[fine == 255] == 255).all()
    cities = {split: {key.split("/")[1] for key in keys_of(data, split)} for split in SPLITS}
    assert sum(len(found) for found in cities.values()) == len(set().union(*cities.values())) == 14


def test_cityscapes_mtan(trees: Callable[[str], Path]) -> None:
    for classes in (7, 19, 2):
        data = opened("cityscapes-mtan", trees("cityscapes-mtan"), classes=classes)
        targets = one(data)
        assert np.array_equal(targets["segmentation"], fabricated.labels("val0", classes))
        assert data.info.targets["segmentation"].channels == classes
        disparity = fabricated.metres("val0") / 10
        assert np.allclose(targets["disparity"][0], np.where(disparity == 0, -1, disparity))


def test_celeba(trees: Callable[[str], Path]) -> None:
    data = opened("celeba40", trees("celeba40"), height=64, width=64)
    first = f"{fabricated.TRAIN + fabricated.VAL + 1:06d}.jpg"
    signs = rng_of(first).random(40) < 0.4
    assert [bool(value) for value in one(data).values()] == signs.tolist()
    assert data.info.sizes == {"train": 54, "calibrate": 6, "select": 12, "report": 12}
    assert data.info.targets["male"].type == "attribute"


def test_cifar_labels_and_pixels(trees: Callable[[str], Path]) -> None:
    """Each image is labelled for one task, by its rank among the classes of that superclass; pixels are exact."""
    data = opened("cifar100-mtl", trees("cifar100-mtl"), height=32, width=32)
    fine = np.random.default_rng([ord(c) for c in "test"]).integers(0, 100, fabricated.VAL)
    image, targets = data.split("report").batch(range(fabricated.VAL))
    labels = torch.stack(list(targets.values()), dim=1)
    assert ((labels >= 0).sum(dim=1) == 1).all()
    task = labels.argmax(dim=1)
    assert task.tolist() == [(f * 7) % 20 for f in fine]
    assert labels.max(dim=1).values.tolist() == [
        sorted(g for g in range(100) if g % 20 == f % 20).index(f) for f in fine
    ]
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.info.mean, data.info.std))
    pixels = rng_of("test").integers(0, 256, (fabricated.VAL, 32, 32, 3), np.uint8)
    assert np.array_equal((image[3] * std + mean).mul(255).round().permute(1, 2, 0), pixels[3])


def test_two_digits_on_a_canvas(trees: Callable[[str], Path]) -> None:
    canvas = paste(np.full((28, 28), 9, np.uint8), np.full((28, 28), 5, np.uint8))
    assert canvas.shape == (36, 36) and (canvas[:28, :28] == 9).all() and (canvas[28:, 8:] == 5).all()
    assert (canvas[:8, 28:] == 0).all() and (canvas[28:, :8] == 0).all()
    data = opened("multimnist", trees("multimnist"), height=36, width=36)
    image, targets = data.split("select").batch(range(fabricated.VAL))
    assert targets["left"].tolist() == [i % 10 for i in range(fabricated.VAL)]
    assert sorted(targets["right"].tolist()) == sorted(targets["left"].tolist())
    assert targets["right"].tolist() != targets["left"].tolist()
    source = rng_of("val").integers(0, 256, (fabricated.VAL, 28, 28), np.uint8)
    pixels = (image[:, 0] * data.info.std[0] + data.info.mean[0]).mul(255).round().numpy()
    assert np.array_equal(pixels[:, :8, :28], source[:, :8])
    for left, right in zip(range(fabricated.VAL), targets["right"].tolist()):
        partners = [paste(source[left], source[i]) for i in range(fabricated.VAL) if i % 10 == right]
        assert any(np.array_equal(pixels[left], partner) for partner in partners)


def test_pets_are_half_labelled(trees: Callable[[str], Path]) -> None:
    data = opened("pets3", trees("pets3"), height=64, width=64)
    _, targets = data.split("report").batch(range(fabricated.VAL))
    assert targets["head"].isnan().all(dim=1).tolist() == [i % 2 == 0 for i in range(fabricated.VAL)]
    assert torch.allclose(targets["head"][1], torch.tensor([0.4, 0.2, 0.7, 0.5]))
    assert targets["breed"].tolist() == [i % 3 for i in range(fabricated.VAL)]
    assert not targets["body"].isnan().any()


def test_folder_mixes_sets(trees: Callable[[str], Path]) -> None:
    data = opened("folder", trees("folder"))
    names, seen = list(data.info.targets), dict.fromkeys(data.info.targets, 0)
    for split in SPLITS:
        for row, key in enumerate(keys_of(data, split)):
            targets = one(data, split, row)
            dense, number = key.startswith("a/") or int(key[2:]) % 8 == 1, int(key[2:])
            assert ((targets["road"] == 255).all().item(), (targets["depth"] == 0).all().item()) == (
                not dense,
                not dense,
            )
            assert (targets["weather"].item() == -1) == (number % 2 == 0 or number % 7 == 0)
            assert bool(targets["sign"].isnan().any()) == (number % 2 == 0 or number % 5 == 0)
            if number % 2 and number % 7:
                assert targets["weather"].item() == int(number % 4 == 1)
                assert targets["seen"].tolist() == ([1, 0, 1] if number % 3 else [0, 0, 0])
            for name in names:
                seen[name] += 1
    assert all(seen.values()) and sum(data.info.sizes.values()) == 80


def test_large_splits_are_read_as_they_are_needed(
    trees: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = opened("nyud-mt", trees("nyud-mt")).split("select")
    monkeypatch.setattr(preset, "HELD_BYTES", 0)
    read = opened("nyud-mt", trees("nyud-mt")).split("select")
    assert read.rows is None and held.rows is not None  # type: ignore[attr-defined]
    for rng in (None, 5):
        batches = [split.batch([2, 0], None if rng is None else np.random.default_rng(rng)) for split in (held, read)]
        assert torch.equal(batches[0][0], batches[1][0])
        assert all(torch.equal(batches[0][1][name], batches[1][1][name]) for name in batches[0][1])
