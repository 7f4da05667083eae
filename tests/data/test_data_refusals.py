"""What another packaging stores is refused with an exact message."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import fabricated
import numpy as np
import pytest
import torch
from fabricated import BUILDERS, H, W, archive, build, jpg, png, rgb, write
from layouts import edited, keys_of, one, opened, read_all
from PIL import Image

from mtnas.base.errors import DataError

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
