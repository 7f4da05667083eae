"""What each packaging stores arrives in our units; what another packaging stores is refused with an exact message."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fabricated
import numpy as np
import pytest
import torch
from fabricated import BUILDERS, H, W, archive, build, jpg, png, rgb, rng_of, write
from PIL import Image

from mtnas.base.errors import DataError
from mtnas.data import preset
from mtnas.data.base import Dataset
from mtnas.data.config import SPLITS, DataConfig
from mtnas.data.open import open_dataset
from mtnas.data.two_digits import paste


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The tree of a preset, written once."""
    made: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:

        def get(name: str) -> Path:
            if name not in made:
                made[name] = build(name, tmp_path_factory.mktemp("trees") / name, patch)
            return made[name]

        yield get


def opened(name: str, root: Path, height: int = H, width: int = W, **changes: object) -> Dataset:
    config = DataConfig(name=name, root=str(root), height=height, width=width, **changes)  # type: ignore[arg-type]
    return open_dataset(config)


def read_all(name: str, root: Path) -> None:
    data = opened(name, root)
    for split in SPLITS:
        data.split(split)


def keys_of(data: Dataset, split: str) -> list[str]:
    return list(data.split(split)._keys)  # type: ignore[attr-defined]


def one(data: Dataset, split: str = "report", index: int = 0) -> dict[str, torch.Tensor]:
    return {name: target[0] for name, target in data.split(split).batch([index])[1].items()}


# --- values -------------------------------------------------------------------------------------------------------


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


# --- refusals -----------------------------------------------------------------------------------------------------


def edited(trees: Callable[[str], Path], name: str, to: Path) -> Path:
    return Path(shutil.copytree(trees(name), to / name))


#: preset, file to change (None deletes it), its new content, what the message must hold
WRONG: dict[str, tuple[str, str, object, str]] = {
    "mtan label 13": ("nyuv2-mtan", "val/label/0.npy", np.full((H, W), 13.0), "classes 0 to 12, or -1"),
    "mtan label 255": ("nyuv2-mtan", "val/label/0.npy", np.full((H, W), 255.0), "another packaging"),
    "mtan image 0..255": ("nyuv2-mtan", "val/image/0.npy", np.full((H, W, 3), 200.0), "floats from 0 to 1"),
    "mtan channels first": ("nyuv2-mtan", "val/image/0.npy", np.zeros((3, H, W)), rf"shape \({H}, {W}, 3\)"),
    "mtan millimetres": ("nyuv2-mtan", "val/depth/0.npy", np.full((H, W, 1), 2500.0), "depth in metres"),
    "mtan hole": ("nyuv2-mtan", "val/depth/7.npy", None, r"val/depth: 12 files K\.npy[\s\S]*received: 11"),
    "mtan nan": ("nyuv2-mtan", "val/depth/0.npy", np.full((H, W, 1), np.nan), "finite numbers"),
    "mtan torn": ("nyuv2-mtan", "val/depth/0.npy", b"\x93NUMPY broken", r"readable \.npy"),
    "mtan long normals": ("nyuv2-mtan", "val/normal/0.npy", np.full((H, W, 3), 90.0), "unit vectors"),
    "nyud 41 classes": ("nyud-mt", "segmentation/0061.png", np.full((H, W), 41, np.uint8), "classes 1 to 40"),
    "nyud edges 0..255": ("nyud-mt", "edge/0061.npy", np.full((H, W), 255.0), "edges of 0 and 1"),
    "nyud grey": ("nyud-mt", "images/0061.jpg", np.zeros((H, W), np.uint8), rf"shape \({H}, {W}, 3\)"),
    "nyud list": ("nyud-mt", "gt_sets/val.txt", "0061\n0062\n", "12 different names"),
    "nyud lacks one": ("nyud-mt", "normals/0061.npy", None, r"1 missing: normals/0061\.npy"),
    "atrc size": ("nyud-atrc", "images/0061.png", np.zeros((480, 640, 3), np.uint8), r"received: uint8 of shape \(480"),
    "atrc edges": ("nyud-atrc", "edge/0061.png", np.ones((H, W), np.uint8), "edges of 0 and 255"),
    "pascal class": ("pascal-mt", "semseg/pascal-context/2008_val0000.png", np.full((W, H), 40, np.uint8), "0 to 20"),
    "pascal mat": ("pascal-mt", "human_parts/2008_val0000.mat", b"nothing", "MATLAB file with 'anno'"),
    "pascal size": ("pascal-mt", "sal_distill/2008_val0000.png", np.zeros((5, 5), np.uint8), r"received: .*\(5, 5\)"),
    "pascal list": ("pascal-mt", "ImageSets/Context/val.txt", "2008_val0000\n", "12 different names"),
    "mtan city metres": ("cityscapes-mtan", "val/depth/0.npy", np.full((H, W, 1), 12.0), "inverse depth from 0 to 1"),
    "mtan city size": ("cityscapes-mtan", "val/image/0.npy", np.zeros((8, 8, 3)), rf"{H}x{W}[\s\S]*8x8"),
    "city train ids": (
        "cityscapes-official", "gtFine/val/valcity0/valcity0_000000_000019_gtFine_labelIds.png",
        np.full((H, W), 100, np.uint8), "label ids 0 to 33",
    ),
    "city 8 bit": (
        "cityscapes-official", "disparity/val/valcity0/valcity0_000000_000019_disparity.png",
        np.zeros((H, W), np.uint8), "uint16",
    ),
    "city lacks": (
        "cityscapes-official", "disparity/val/valcity0/valcity0_000000_000019_disparity.png", None, "1 missing",
    ),
    "celeba sign": ("celeba40", "Anno/list_attr_celeba.txt", "1\n" + "a " * 40 + "\n1.jpg 0 1", "40 times 1 or -1"),
    "celeba names": ("celeba40", "Anno/list_attr_celeba.txt", "1\nbald male\n1.jpg 1 1", "40 names"),
    "celeba part": ("celeba40", "Eval/list_eval_partition.txt", "000001.jpg 3\n", "0, 1 or 2"),
    "celeba count": ("celeba40", "Eval/list_eval_partition.txt", "000001.jpg 0\n", "60 images of train"),
    "celeba size": ("celeba40", "img_align_celeba/000073.jpg", np.zeros((64, 64, 3), np.uint8), "218, 178"),
    "celeba lacks": ("celeba40", "img_align_celeba/000073.jpg", None, r"1 missing: img_align_celeba/000073\.jpg"),
    "cifar order": (
        "cifar100-mtl", "classes.json", json.dumps({"fine_names": ["x"] * 100, "coarse_names": ["y"] * 20,
        "fine_to_coarse": [i // 5 for i in range(100)], "fine_to_within": [0] * 100}), "numbered 0 to 4",
    ),
    "cifar shard": ("cifar100-mtl", "test.npy.xz", b"\xfd7zXZ", r"readable \.npy\.xz"),
    "cifar labels": ("cifar100-mtl", "labels.npz", b"PK", "fine labels of every file"),
    "digits": ("multimnist", "val.npy.xz", b"", "readable pictures"),
    "camvid zip": ("camvid", "test.zip", b"PK\x03\x04 torn", r"test\.zip: a whole zip file[\s\S]*bytes that are not"),
    "camvid names": ("camvid", "classes.json", '{"seg_names": ["a"]}', "11 class names"),
    "camvid gone": ("camvid", "val.zip", None, r"no val\.zip"),
    "pets names": ("pets3", "classes.json", '{"breed_names": []}', "species_names"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_tree_is_refused(case: str, trees: Callable[[str], Path], tmp_path: Path) -> None:
    name, file, content, message = WRONG[case]
    folder = edited(trees, name, tmp_path)
    if content is None:
        (folder / file).unlink()
    else:
        write(folder / file, content)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message) as caught:
        opened(name, folder).split("report")
    assert caught.value.expected and caught.value.received and caught.value.where.startswith(str(tmp_path))


@pytest.mark.parametrize("name", BUILDERS)
def test_another_sets_tree_is_refused(name: str, trees: Callable[[str], Path], tmp_path: Path) -> None:
    for other in {"nyud-atrc", "cityscapes-official", "camvid"} - {name}:
        with pytest.raises(DataError, match=f"the packaging {name}|missing: images/|the keys breed_names"):
            opened(name, trees(other))
    with pytest.raises(DataError, match=f"the packaging {name}[\\s\\S]*no such folder") as caught:
        opened(name, tmp_path / "nowhere")
    assert "MTNAS_DATA" in caught.value.cure


@pytest.mark.parametrize("name", ["nyuv2-mtan", "nyud-atrc", "pascal-mt"])
def test_normals_that_were_never_centred_are_refused(name: str, trees: Callable[[str], Path], tmp_path: Path) -> None:
    folder = edited(trees, name, tmp_path)
    top = {"nyuv2-mtan": "train/normal", "nyud-atrc": "normals", "pascal-mt": "normals_distill"}[name]
    vector = np.array([0.5, 0.5, np.sqrt(0.5)])
    for path in (folder / top).iterdir():
        portrait = name == "pascal-mt" and int(path.stem[-4:]) % 2 == 0
        picture = np.broadcast_to(vector, (W, H, 3) if portrait else (H, W, 3))
        write(path, np.float32(picture) if path.suffix == ".npy" else np.rint((picture + 1) * 127.5).astype(np.uint8))
    with pytest.raises(DataError, match=r"components from -1 to 1[\s\S]*mapped to -1\.\.1"):
        opened(name, folder)


def test_wrong_entries_of_archives(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folder = build("pets3", tmp_path / "pets3", patch)
        head = "name,breed,species,body_x0,body_y0,body_x1,body_y1,head_x0,head_y0,head_x1,head_y1\n"
        parts: dict[str, bytes | str] = {
            "rgb/a.jpg": jpg(rgb("a", 128, 128)),
            "trimap/a.png": png(np.zeros((128, 128), np.uint8)),
        }
        for row, message in [
            ("a,5,0,0.1,0.1,0.9,0.9,,,,", "a breed from 0 to 2"),
            ("a,1,0,0.9,0.1,0.1,0.9,,,,", "x0 < x1"),
            ("a,1,0,0.1,0.1,0.9,0.9,0.3,,,", "four empty cells"),
            ("b,1,0,0.1,0.1,0.9,0.9,,,,", r"missing: rgb/b\.jpg"),
        ]:
            archive(folder / "test.zip", {**parts, "labels.csv": head + row})
            with pytest.raises(DataError, match=message):
                opened("pets3", folder).split("report")
        archive(folder / "test.zip", {**parts, "labels.csv": "name,breed\na,1"})
        with pytest.raises(DataError, match="no species"):
            opened("pets3", folder)
        archive(folder / "test.zip", {**parts, "labels.csv": head})
        with pytest.raises(DataError, match="none for a"):
            opened("pets3", folder)


def turned() -> bytes:
    """A JPEG whose camera was held upright."""
    picture, stream = Image.new("RGB", (W, H)), io.BytesIO()
    note = picture.getexif()
    note[0x0112] = 6
    picture.save(stream, "JPEG", exif=note)
    return stream.getvalue()


FOLDER_WRONG: dict[str, tuple[str, object, str]] = {
    "no yaml": ("folder.yaml", "targets: [", "valid YAML"),
    "no targets": ("folder.yaml", "a: 1", r"targets: NAME"),
    "unknown key": ("folder.yaml", "tasks: 1\ntargets: {road: {type: depth}}", "received: tasks"),
    "unknown type": ("folder.yaml", "targets: {road: {type: segmentatio}}", "did you mean 'segmentation'"),
    "no classes": ("folder.yaml", "targets: {road: {type: segmentation}}", "two to 255 different names"),
    "stray option": ("folder.yaml", "targets: {road: {type: edges, unit_m: 1}}", "received: unit_m"),
    "bad unit": ("folder.yaml", "targets: {depth: {type: depth, unit_m: mm}}", "a number above 0"),
    "no unit": ("folder.yaml", "targets: {depth: {type: depth}}", "unit_m"),
    "no labels": ("folder.yaml", "targets: {other: {type: depth, unit_m: 1}}", "labels of the target 'other'"),
    "no column": ("folder.yaml", "targets: {wind: {type: attribute}}", "no wind"),
    "bad cell": ("labels.csv", "image,weather,seen,night,sign_x0,sign_y0,sign_x1,sign_y1\na/000,snow,-,1,,,,",
                 r"a class: sun, rain[\s\S]*leave it empty"),
    "semicolons": ("labels.csv", "image;weather;seen;night\na/000;sun;;", "parted by commas"),
    "stray row": ("labels.csv", "image,weather,seen,night,sign_x0,sign_y0,sign_x1,sign_y1\nq,,,,,,,", "'q'"),
    "stray label": ("road/c/1.png", np.zeros((H, W), np.uint8), "a picture for every label"),
    "class 7": ("road/a/000.png", np.full((H, W), 7, np.uint8), r"classes 0 to 1, or 255[\s\S]*in folder\.yaml"),
    "colours": ("road/a/000.png", np.zeros((H, W, 3), np.uint8), "one channel of 8 bits"),
    "grey depth": ("depth/a/000.png", np.ones((H, W), np.uint8), "one channel of 16 bits"),
    "mask 9": ("eye/a/000.png", np.full((H, W), 9, np.uint8), "128 = not scored"),
    "aspect": ("road/a/000.png", np.ones((H, H), np.uint8), "the aspect ratio of their picture"),
    "twins": ("images/a/000.jpg", np.zeros((H, W, 3), np.uint8), "one picture for each name"),
    "split of nobody": ("splits/train.txt", "zz\n", "'zz'"),
    "jpeg labels": ("road/a/000.jpg", np.zeros((H, W, 3), np.uint8), r"labels as \.png or \.npy[\s\S]*received: \.jpg"),
    "loud ending": ("road/b/003.PNG", b"", "rename it"),
    "two labels": ("road/a/000.npy", np.zeros((H, W), np.uint8), "one label for each picture"),
    "16 bits": ("images/a/000.png", np.zeros((H, W), np.uint16), "8 bits a channel"),
    "turned": ("images/a/002.jpg", turned(), "EXIF orientation 6"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDER_WRONG)
def test_a_wrong_folder_is_refused(case: str, trees: Callable[[str], Path], tmp_path: Path) -> None:
    file, content, message = FOLDER_WRONG[case]
    folder = edited(trees, "folder", tmp_path)
    write(folder / file, content)  # type: ignore[arg-type]
    if case == "split of nobody":
        for split in ("select", "report"):
            write(folder / "splits" / f"{split}.txt", "a/000\n" if split == "select" else "b/001\n")
    with pytest.raises(DataError, match=message):
        read_all("folder", folder)


def test_tables_as_spreadsheets_write_them(trees: Callable[[str], Path], tmp_path: Path) -> None:
    """A mark at the front, and whole numbers with a point, as in columns with gaps."""
    folder = edited(trees, "folder", tmp_path)
    table = (folder / "labels.csv").read_text()
    plain = one(opened("folder", folder), "train")["weather"]
    numbers = table.replace(",rain,", ",1.0,").replace(",0,", ",0.0,")
    assert numbers != table
    write(folder / "labels.csv", b"\xef\xbb\xbf" + numbers.encode())
    assert torch.equal(one(opened("folder", folder), "train")["weather"], plain)


def test_a_split_without_a_label_of_a_task_is_told_at_once(trees: Callable[[str], Path], tmp_path: Path) -> None:
    folder = edited(trees, "folder", tmp_path)
    names = [f"{'ab'[i % 2]}/{i:03d}" for i in range(80)]
    bare = [f"a/{i:03d}" for i in range(0, 80, 8)]  # dense labels only
    groups = {"report": bare, "select": names[70:], "train": [name for name in names[:70] if name not in bare]}
    groups["select"] = [name for name in groups["select"] if name not in bare]
    for split, group in groups.items():
        write(folder / "splits" / f"{split}.txt", "\n".join(group))
    with pytest.raises(DataError, match=r"labels of the target 'weather'[\s\S]*images of report"):
        opened("folder", folder)
    assert opened("folder", folder, targets=("road",)).info.sizes["report"] == len(bare)


def test_a_set_may_be_moved_but_not_edited(trees: Callable[[str], Path], tmp_path: Path) -> None:
    folder = edited(trees, "folder", tmp_path)
    prints = [opened("folder", place).info.fingerprint for place in (trees("folder"), folder)]
    assert prints[0] == prints[1]
    write(folder / "road/a/000.png", np.ones((H // 2, W // 2), np.uint8))
    prints.append(opened("folder", folder).info.fingerprint)
    write(folder / "folder.yaml", fabricated.FOLDER_YAML + "flip: false\n")
    prints.append(opened("folder", folder).info.fingerprint)
    assert len(set(prints)) == 3


def test_folder_takes_the_splits_it_is_given(trees: Callable[[str], Path], tmp_path: Path) -> None:
    folder = edited(trees, "folder", tmp_path)
    names = [f"{'ab'[i % 2]}/{i:03d}" for i in range(80)]
    for split, group in {"train": names[:60], "select": names[60:70], "report": names[70:]}.items():
        write(folder / "splits" / f"{split}.txt", "\n".join(group))
    data = opened("folder", folder)
    assert data.info.sizes == {"train": 54, "calibrate": 6, "select": 10, "report": 10}
    assert keys_of(data, "report") == names[70:]
    write(folder / "splits" / "select.txt", "\n".join(names[55:70]))
    with pytest.raises(DataError, match=r"select\.txt[\s\S]*already in train"):
        opened("folder", folder)


# --- the real bytes -----------------------------------------------------------------------------------------------


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
