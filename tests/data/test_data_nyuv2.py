"""The NYUv2 reader on a fabricated tree in the exact layout, with every way in which files can be wrong."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtnas.base.errors import DataError, JobError
from mtnas.data.config import DataConfig
from mtnas.data.nyuv2 import held_back, runs_of
from mtnas.data.open import open_dataset

NUMBERS = {"train": [3, 4, 5, 9, 10, 20, 21, 22], "val": [6, 7], "test": [1, 2]}
Change = Callable[[np.ndarray], np.ndarray]


def encoded(array: np.ndarray, extension: str) -> bytes:
    stream = io.BytesIO()
    options = {"quality": 100, "subsampling": 0} if extension == "jpg" else {}
    Image.fromarray(array).save(stream, "JPEG" if extension == "jpg" else "PNG", **options)
    return stream.getvalue()


def labels_of(number: int) -> dict[str, np.ndarray]:
    """A wall (class 0) over a floor (class 1), one ignored corner; depth = 1 m + number cm; the wall faces us."""
    segmentation = np.zeros((120, 160), np.uint8)
    segmentation[60:] = 1
    segmentation[:8, :8] = 255
    normals = np.zeros((120, 160, 3))
    normals[:60, :, 2], normals[60:, :, 1] = -1, -1
    return {
        "rgb": np.full((120, 160, 3), 100 + number, np.uint8),
        "seg40": segmentation,
        "depth": np.full((120, 160), 200 + 2 * number, np.uint16),
        "normal": (127 * normals + 128).astype(np.uint8),
    }


def write_tree(folder: Path, changes: dict[str, Change] | None = None, leave_out: str = "") -> Path:
    """Write the whole set; `changes` alters single entries by name, `leave_out` drops one."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, numbers in NUMBERS.items():
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for number in numbers:
                for kind, array in labels_of(number).items():
                    extension = "jpg" if kind in {"rgb", "normal"} else "png"
                    name = f"{kind}/{number:04d}.{extension}"
                    array = (changes or {}).get(name, lambda a: a)(array)
                    if name != leave_out:
                        archive.writestr(name, encoded(array, extension))
    names = {"seg40_names": [f"c{i}" for i in range(40)], "seg13_names": [f"k{i}" for i in range(13)]}
    mapping = [11, 4] + [5] * 38
    (folder / "classes.json").write_text(json.dumps({**names, "map40to13": mapping}))
    (folder / "splits.json").write_text(json.dumps(NUMBERS))
    return folder


def config_of(root: Path | None, **changes: object) -> DataConfig:
    return DataConfig(name="nyuv2", root=str(root) if root else None, height=48, width=64, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("data") / "nyuv2")


def test_values_arrive(tree: Path) -> None:
    data = open_dataset(config_of(tree))
    image, targets = data.split("select").batch([0, 1])
    depth = targets["depth"][:, 0]
    assert torch.allclose(depth, torch.tensor([1.06, 1.07])[:, None, None].expand_as(depth), atol=1e-4)
    assert (targets["segmentation"][:, 10, 20] == 11).all() and (targets["segmentation"][:, 40] == 4).all()
    assert (targets["segmentation"][:, :3, :3] == 255).all()
    assert torch.allclose(targets["normals"][0, :, 10, 20], torch.tensor([0.0, 0, -1]), atol=0.03)
    assert torch.allclose(targets["normals"][0, :, 40, 20], torch.tensor([0.0, -1, 0]), atol=0.03)
    assert targets["presence"][0].nonzero().flatten().tolist() == [4, 11]
    assert targets["edges"][0, 0, 24].all() and not targets["edges"][0, 0, 30].any()
    mean, std = torch.tensor(data.info.mean), torch.tensor(data.info.std)
    assert torch.allclose(image[0, :, 5, 5] * std + mean, torch.full((3,), 106 / 255), atol=0.01)
    assert data.info.research_only


def test_classes(tree: Path) -> None:
    for classes, expected in [(13, "k0"), (39, "c0"), (40, "c0")]:
        data = open_dataset(config_of(tree, classes=classes))
        info = data.info.targets["segmentation"]
        assert (info.channels, info.class_names[0]) == (classes, expected)
    assert set(data.split("report").batch([0])[1]["segmentation"].unique().tolist()) == {0, 1, 255}


def test_splits_never_share_a_scene(tree: Path) -> None:
    data = open_dataset(config_of(tree))
    assert data.info.sizes == {"train": 5, "calibrate": 3, "select": 2, "report": 2}
    assert runs_of((3, 4, 5, 9, 20, 21)) == [(3, 4, 5), (9,), (20, 21)]
    runs = [tuple(range(10 * i, 10 * i + 4)) for i in range(50)]
    held = held_back(runs, 20)
    assert len(held) == 20 and all(set(run) <= set(held) or not set(run) & set(held) for run in runs)
    assert min(held) < 100 and max(held) > 350
    with pytest.raises(JobError, match=r"data\.calibrate"):
        held_back(runs, 500)
    with pytest.raises(JobError, match="at most 2 images"):
        open_dataset(config_of(tree, report=9))


def test_found_at_root_at_its_parent_and_by_environment(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints = {open_dataset(config_of(root)).info.fingerprint for root in (tree, tree.parent)}
    monkeypatch.setenv("MTNAS_DATA", str(tree.parent))
    prints.add(open_dataset(config_of(None)).info.fingerprint)
    assert len(prints) == 1
    monkeypatch.delenv("MTNAS_DATA")
    with pytest.raises(DataError, match="MTNAS_DATA"):
        open_dataset(config_of(None))
    with pytest.raises(DataError, match=r"train\.zip"):
        open_dataset(config_of(tree / "nowhere"))


def test_fingerprint_follows_the_bytes(tree: Path, tmp_path: Path) -> None:
    other = write_tree(tmp_path / "nyuv2", {"rgb/0001.jpg": lambda a: a + 1})
    assert open_dataset(config_of(other)).info.fingerprint != open_dataset(config_of(tree)).info.fingerprint


def test_missing_and_truncated_archives(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "nyuv2")
    whole = (folder / "val.zip").read_bytes()
    (folder / "val.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"val\.zip: a whole zip file with 2 images"):
        open_dataset(config_of(folder))
    (folder / "val.zip").unlink()
    with pytest.raises(DataError, match=r"val\.zip: a zip file with 2 images[\s\S]*no file"):
        open_dataset(config_of(folder))


def test_missing_entry(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "nyuv2", leave_out="depth/0007.png")
    with pytest.raises(DataError, match=r"val\.zip: 8 entries[\s\S]*1 missing: depth/0007\.png"):
        open_dataset(config_of(folder))


def test_damaged_bytes_inside_an_archive(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "nyuv2")
    path = folder / "test.zip"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("seg40/0002.png").header_offset
    data[start + 70 : start + 90] = bytes(20)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"test\.zip: seg40/0002\.png: a readable image"):
        open_dataset(config_of(folder)).split("report")


WRONG: dict[str, tuple[str, Change, str]] = {
    "size": ("rgb/0006.jpg", lambda a: a[:100], r"shape \(120, 160, 3\)[\s\S]*\(100, 160, 3\)"),
    "grey": ("rgb/0006.jpg", lambda a: a[..., 0], r"shape \(120, 160, 3\)[\s\S]*\(120, 160\)"),
    "class": ("seg40/0007.png", lambda a: a + np.uint8(60), "class numbers 0 to 39"),
    "depth type": ("depth/0006.png", lambda a: (a // 2).astype(np.uint8), r"uint16[\s\S]*uint8"),
    "depth unit": ("depth/0006.png", lambda a: a * 50, "steps of 5 mm"),
    "no depth": ("depth/0006.png", lambda a: a * 0, "steps of 5 mm"),
    "label type": ("seg40/0006.png", lambda a: a.astype(np.uint16), r"uint8[\s\S]*uint16"),
    "normals away": ("normal/0006.jpg", lambda a: 255 - a, "point to the camera"),
    "normals not centred": ("normal/0006.jpg", lambda a: np.full_like(a, 200), "point to the camera"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_named(case: str, tmp_path: Path) -> None:
    entry, change, message = WRONG[case]
    folder = write_tree(tmp_path / "nyuv2", {entry: change})
    data = open_dataset(config_of(folder))
    with pytest.raises(DataError, match=message) as caught:
        data.split("select")
    assert entry in str(caught.value) and "val.zip" in str(caught.value) and "received" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("splits.json", "{", "valid JSON"),
        ("splits.json", '{"train": [1], "val": [2]}', "no test"),
        ("splits.json", '{"train": [1, 2], "val": [2], "test": [3]}', "one split"),
        ("splits.json", '{"train": [3, 4, 5], "val": [6], "test": [1]}', "two runs"),
        ("classes.json", '{"seg40_names": [], "seg13_names": [], "map40to13": []}', "40 names"),
    ],
)
def test_wrong_tables(name: str, text: str, message: str, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "nyuv2")
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(config_of(folder))
    assert name in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(DataError, match="no file"):
        open_dataset(config_of(folder))


@pytest.mark.skipif(
    not (Path(os.environ.get("MTNAS_DATA", "/nowhere")) / "nyuv2").is_dir(),
    reason="the real NYUv2 is not here: MTNAS_DATA names no folder that contains nyuv2/",
)
def test_real_set() -> None:
    """Facts of the data set's own description: counts, class names, shares of classes, range of depth."""
    data = open_dataset(DataConfig(name="nyuv2", height=96, width=128))
    assert data.info.sizes["train"] + data.info.sizes["calibrate"] == 674
    assert (data.info.sizes["select"], data.info.sizes["report"]) == (121, 555)
    assert data.info.targets["segmentation"].class_names[:3] == ("bed", "books", "ceiling")
    arrays = data.split("select").arrays  # type: ignore[attr-defined]
    assert (arrays.depth_NHW > 0).all() and arrays.depth_NHW.min() >= 700 and arrays.depth_NHW.max() < 10_000
    share = np.bincount(arrays.segmentation_NHW.ravel(), minlength=256) / arrays.segmentation_NHW.size
    assert share[11] == pytest.approx(0.23, abs=0.06) and share[255] == pytest.approx(0.18, abs=0.05)
    assert (arrays.normals_NHW3[..., 2] < 0).mean() > 0.95
