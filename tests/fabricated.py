"""Data sets in the exact layouts of the real ones, with a few small pictures: `build(name, folder, patch)`.

Sizes and counts of the real sets are constants of their presets; a builder lowers what it cannot afford by `patch`.
"""

from __future__ import annotations

import importlib
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtnas.data.table import TARGETS

TRAIN, VAL = 60, 12
H, W = 36, 64


def rng_of(key: object) -> np.random.Generator:
    return np.random.default_rng([ord(c) for c in str(key)])


def rgb(key: object, height: int = H, width: int = W) -> np.ndarray:
    """A picture that no other key has."""
    return rng_of(key).integers(0, 256, (height, width, 3), np.uint8)


def labels(key: object, classes: int, height: int = H, width: int = W, ignore: int = 255) -> np.ndarray:
    """Two blocks of classes and an ignored corner, int64."""
    a, b = rng_of(key).choice(classes, 2, replace=False)
    result = np.full((height, width), a, np.int64)
    result[:, width // 2 :] = b
    result[:4, :4] = ignore
    return result


def metres(key: object, height: int = H, width: int = W) -> np.ndarray:
    depth = np.full((height, width), 1.0 + 3 * rng_of(key).random(), np.float32)
    depth[-6:, -6:] = 0
    return depth


def normals(key: object, height: int = H, width: int = W) -> np.ndarray:
    """Half looks to the camera, half to the left; a corner is invalid."""
    result = np.zeros((height, width, 3), np.float32)
    result[:, : width // 2, 2] = -1
    result[:, width // 2 :] = (-0.6, 0, -0.8)
    result[:6, -6:] = 0
    return result


def edges(key: object, height: int = H, width: int = W) -> np.ndarray:
    result = np.zeros((height, width), np.uint8)
    result[:, width // 2] = 1
    return result


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def jpg(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def write(path: Path, content: bytes | str | np.ndarray) -> None:
    """Text, bytes, or an array as `.npy`, `.png` or `.jpg` by the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        if path.suffix == ".npy":
            np.save(path, content)
            return
        content = {".png": png, ".jpg": jpg}[path.suffix](content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def archive(path: Path, entries: dict[str, bytes | str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)


# --- sets that lie beside this project ----------------------------------------------------------------------------


def camvid(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for part, count in (("train", TRAIN), ("val", VAL), ("test", VAL)):
        entries: dict[str, bytes | str] = {}
        for i in range(count):
            name = f"{part}_{i:05d}"
            entries[f"rgb/{name}.jpg"] = jpg(rgb(name, 144, 192))
            entries[f"seg/{name}.png"] = png(labels(name, 11, 144, 192).astype(np.uint8))
        archive(folder / f"{part}.zip", entries)
    write(folder / "classes.json", json.dumps({"seg_names": [f"c{i}" for i in range(11)], "ignore": 255}))


def pets3(folder: Path, patch: pytest.MonkeyPatch) -> None:
    head = "name,breed,species,orig_w,orig_h,body_x0,body_y0,body_x1,body_y1,head_x0,head_y0,head_x1,head_y1"
    for part, count in (("train", TRAIN), ("val", VAL), ("test", VAL)):
        rows, entries = [head], {}
        for i in range(count):
            name = f"{part}_{i}"
            trimap = labels(name, 3, 128, 128, ignore=2).astype(np.uint8)
            entries[f"rgb/{name}.jpg"], entries[f"trimap/{name}.png"] = jpg(rgb(name, 128, 128)), png(trimap)
            face = "0.4,0.2,0.7,0.5" if i % 2 else ",,,"
            rows.append(f"{name},{i % 3},{i % 2},300,200,0.1,0.1,0.9,0.8,{face}")
        archive(folder / f"{part}.zip", {**entries, "labels.csv": "\n".join(rows)})
    names = {"breed_names": ["a", "b", "c"], "species_names": ["cat", "dog"], "trimap_names": ["pet", "rest", "rim"]}
    write(folder / "classes.json", json.dumps(names))


def residual(pictures_NHW3: np.ndarray) -> bytes:
    """The packing of `cifar100-mtl`, written forwards: planes, then differences along x and y."""
    red, green, blue = np.moveaxis(pictures_NHW3, -1, 0)
    planes = np.stack([green, red - green, blue - green])
    for axis in (-1, -2):
        planes = np.diff(planes, axis=axis, prepend=np.zeros_like(planes.take([0], axis=axis)))
    stream = io.BytesIO()
    np.save(stream, planes.astype(np.uint8))
    return lzma.compress(stream.getvalue(), preset=0)


def cifar100_mtl(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    coarse = [(i * 7) % 20 for i in range(100)]
    within = [sum(coarse[j] == coarse[i] for j in range(i)) for i in range(100)]
    names = list(TARGETS["cifar100-mtl"])
    names[9] = "large_man-made_outdoor_things"
    words = {"fine_names": [f"f{i}" for i in range(100)], "coarse_names": names, "fine_to_coarse": coarse}
    write(folder / "classes.json", json.dumps({**words, "fine_to_within": within}))
    fine = {}
    for file in (*(f"train_{i}" for i in range(5)), "val", "test"):
        count = VAL
        write(folder / f"{file}.npy.xz", residual(rng_of(file).integers(0, 256, (count, 32, 32, 3), np.uint8)))
        fine[f"{file}_fine"] = rng_of(file).integers(0, 100, count).astype(np.uint8)
    np.savez(folder / "labels.npz", **fine)


def digits(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "classes.json", json.dumps({"names": [str(i) for i in range(10)]}))
    truth = {}
    for file, count in (("train", TRAIN), ("val", VAL), ("test", VAL)):
        stream = io.BytesIO()
        np.save(stream, rng_of(file).integers(0, 256, (count, 28, 28), np.uint8))
        write(folder / f"{file}.npy.xz", lzma.compress(stream.getvalue(), preset=0))
        truth[file] = (np.arange(count) % 10).astype(np.uint8)
    np.savez(folder / "labels.npz", **truth)


# --- packagings of the field --------------------------------------------------------------------------------------


def lower(patch: pytest.MonkeyPatch, module: str, **values: Any) -> None:
    for name, value in values.items():
        patch.setattr(importlib.import_module(f"mtnas.data.{module}"), name, value)


def nyuv2_mtan(folder: Path, patch: pytest.MonkeyPatch) -> None:
    lower(patch, "nyuv2_mtan", COUNTS={"train": TRAIN, "val": VAL}, SIZE=(H, W), STRETCH=3)
    for part, count in (("train", TRAIN), ("val", VAL)):
        for i in range(count):
            key = f"{part}{i}"
            write(folder / part / "image" / f"{i}.npy", rgb(key) / 255.0)
            write(folder / part / "label" / f"{i}.npy", labels(key, 13, ignore=-1).astype(np.float64))
            write(folder / part / "depth" / f"{i}.npy", metres(key)[..., None])
            write(folder / part / "normal" / f"{i}.npy", normals(key))


def nyud(name: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def make(folder: Path, patch: pytest.MonkeyPatch) -> None:
        lower(
            patch,
            "nyud",
            COUNTS={"train": TRAIN, "val": VAL},
            STRETCH=3,
            SIZES={"nyud-mt": (H, W), "nyud-atrc": (H, W)},
        )
        numbers = {"train": range(1, TRAIN + 1), "val": range(TRAIN + 1, TRAIN + VAL + 1)}
        for part, group in numbers.items():
            write(folder / "gt_sets" / f"{part}.txt", "".join(f"{i:04d}\n" for i in group))
            for key in (f"{i:04d}" for i in group):
                seg = labels(key, 40)
                write(folder / "segmentation" / f"{key}.png", np.where(seg == 255, 0, seg + 1).astype(np.uint8))
                write(folder / "depth" / f"{key}.npy", metres(key))
                if name == "nyud-mt":
                    write(folder / "images" / f"{key}.jpg", rgb(key))
                    write(folder / "edge" / f"{key}.npy", edges(key).astype(np.float32))
                    write(folder / "normals" / f"{key}.npy", normals(key))
                else:
                    coded = np.rint((normals(key) + 1) * 127.5).astype(np.uint8)
                    write(folder / "images" / f"{key}.png", rgb(key))
                    write(folder / "edge" / f"{key}.png", 255 * edges(key))
                    write(folder / "normals" / f"{key}.png", coded)

    return make


def people(height: int, width: int, *, person: bool) -> dict[str, Any]:
    """The nested object of `human_parts/ID.mat`: a person with a head above a left foot, or a dog."""
    top, foot = np.zeros((2, height, width), np.uint8)
    top[: height // 2], foot[height // 2 :, : width // 2] = 1, 1
    parts = np.empty((1, 2), dtype=[("part_name", object), ("mask", object)])
    parts[0, 0], parts[0, 1] = ("hair", top), ("lfoot", foot)
    objects = np.empty((1, 1), dtype=[(n, object) for n in ("class", "class_ind", "mask", "parts")])
    objects[0, 0] = ("person" if person else "dog", 15 if person else 12, np.maximum(top, foot), parts)
    anno = np.empty((1, 1), dtype=[("imname", object), ("objects", object)])
    anno[0, 0] = ("x", objects)
    return {"anno": anno}


def matlab(variables: dict[str, Any]) -> bytes:
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, variables)
    return stream.getvalue()


def pascal_mt(folder: Path, patch: pytest.MonkeyPatch) -> None:
    lower(patch, "pascal_mt", COUNTS={"train": TRAIN, "val": VAL})
    for part, count in (("train", TRAIN), ("val", VAL)):
        names = [f"2008_{part}{i:04d}" for i in range(count)]
        write(folder / "ImageSets" / "Context" / f"{part}.txt", "\n".join(names) + "\n")
        for i, key in enumerate(names):
            h, w = (H, W) if i % 2 else (W, H)  # portraits and landscapes
            context = np.full((h, w), 440, np.uint16)  # wall, known to NYU
            context[:, w // 2 :] = 360  # sky, not known
            write(folder / "JPEGImages" / f"{key}.jpg", rgb(key, h, w))
            write(folder / "pascal-context" / "trainval" / f"{key}.mat", matlab({"LabelMap": context}))
            write(folder / "human_parts" / f"{key}.mat", matlab(people(h, w, person=i % 3 != 0)))
            coded = np.rint((normals(key, h, w) + 1) * 127.5).astype(np.uint8)
            write(folder / "normals_distill" / f"{key}.png", coded)
            write(folder / "sal_distill" / f"{key}.png", 200 * edges(key, h, w))
            place = "VOC12" if i % 2 else "pascal-context"
            write(folder / "semseg" / place / f"{key}.png", labels(key, 21, h, w).astype(np.uint8))


def cityscapes_mtan(folder: Path, patch: pytest.MonkeyPatch) -> None:
    lower(patch, "cityscapes_mtan", COUNTS={"train": TRAIN, "val": VAL}, SIZES=((H, W),), STRETCH=3)
    for part, count in (("train", TRAIN), ("val", VAL)):
        for i in range(count):
            key = f"{part}{i}"
            write(folder / part / "image" / f"{i}.npy", rgb(key) / 255.0)
            for classes in (2, 7, 19):
                write(folder / part / f"label_{classes}" / f"{i}.npy", labels(key, classes, ignore=-1).astype(float))
            write(folder / part / "depth" / f"{i}.npy", metres(key)[..., None] / 10)


def cityscapes_official(folder: Path, patch: pytest.MonkeyPatch) -> None:
    lower(patch, "cityscapes_official", COUNTS={"train": TRAIN, "val": VAL}, SIZE=(H, W))
    for part, cities, count in (("train", 12, TRAIN), ("val", 2, VAL)):
        for i in range(count):
            city = f"{part}city{i % cities}"
            key = f"{city}/{city}_{i:06d}_000019"
            ids = labels(key, 19).astype(np.uint8)
            ids = np.where(ids == 255, 4, np.array([7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33])[ids % 19])
            raw = np.where(metres(key) == 0, 0, np.rint(256 * 16 * metres(key)) + 1).astype(np.uint16)
            write(folder / "leftImg8bit" / part / f"{key}_leftImg8bit.png", rgb(key))
            write(folder / "gtFine" / part / f"{key}_gtFine_labelIds.png", ids.astype(np.uint8))
            write(folder / "disparity" / part / f"{key}_disparity.png", raw)


def celeba40(folder: Path, patch: pytest.MonkeyPatch) -> None:
    lower(patch, "celeba40", COUNTS=(TRAIN, VAL, VAL))
    names = ["5_o_Clock_Shadow", *(name.title() for name in TARGETS["celeba40"][1:])]
    total = TRAIN + 2 * VAL
    rows, parts = [str(total), " ".join(names) + " "], []
    for i in range(total):
        key = f"{i + 1:06d}.jpg"
        write(folder / "img_align_celeba" / key, rgb(key, 218, 178))
        signs = np.where(rng_of(key).random(40) < 0.4, 1, -1)
        rows.append(f"{key} " + " ".join(f"{sign:2d}" for sign in signs))
        parts.append(f"{key} {0 if i < TRAIN else 1 if i < TRAIN + VAL else 2}")
    write(folder / "Anno" / "list_attr_celeba.txt", "\n".join(rows) + "\n")
    write(folder / "Eval" / "list_eval_partition.txt", "\n".join(parts) + "\n")


# --- a user's own -------------------------------------------------------------------------------------------------

FOLDER_YAML = """
targets:
  road: {type: segmentation, classes: [road, other]}
  body: {type: parts, classes: [none, arm, leg]}
  depth: {type: depth, unit_m: 0.001}
  shift: {type: disparity, unit: 0.01}
  normals: {type: normals}
  lines: {type: edges}
  eye: {type: saliency}
  weather: {type: classification, classes: [sun, rain]}
  seen: {type: presence, classes: [car, dog, cat]}
  night: {type: attribute}
  sign: {type: box}
"""


def own_folder(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Two sets side by side: `a` has dense labels only, `b` has columns and a few dense ones; many images lack some."""
    write(folder / "folder.yaml", FOLDER_YAML)
    rows = ["image,weather,seen,night,sign_x0,sign_y0,sign_x1,sign_y1"]
    for i in range(80):
        key = f"{'ab'[i % 2]}/{i:03d}"
        write(folder / "images" / f"{key}.{'jpg' if i % 3 else 'png'}", rgb(key, H, W + i % 5))
        size = (H, W + i % 5) if i % 2 else (H // 2, (W + i % 5) // 2)  # half of them are coarser than their picture
        if i % 2:
            cells = ["rain" if i % 4 == 1 else "0", "car;cat" if i % 3 else "-", str(i % 3 % 2)]
            box = "0.2,0.3,0.8,0.9" if i % 5 else ",,,"
            rows.append(f"{key},{','.join(cells) if i % 7 else ',,'},{box}")
        if i % 2 == 0 or i % 8 == 1:
            write(folder / "road" / f"{key}.png", labels(key, 2, *size).astype(np.uint8))
            write(folder / "body" / f"{key}.png", labels(key, 3, *size).astype(np.uint8))
            write(folder / "depth" / f"{key}.png", np.rint(1000 * metres(key, *size)).astype(np.uint16))
            write(folder / "shift" / f"{key}.png", np.rint(100 * metres(key, *size)).astype(np.uint16))
            write(folder / "normals" / f"{key}.npy", normals(key, *size))
            write(folder / "lines" / f"{key}.png", 255 * edges(key, *size))
            write(folder / "eye" / f"{key}.png", 255 * edges(key, *size))
    write(folder / "labels.csv", "\n".join(rows) + "\n")


BUILDERS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "camvid": camvid,
    "pets3": pets3,
    "cifar100-mtl": cifar100_mtl,
    "multimnist": digits,
    "multifashion": digits,
    "nyuv2-mtan": nyuv2_mtan,
    "nyud-mt": nyud("nyud-mt"),
    "nyud-atrc": nyud("nyud-atrc"),
    "pascal-mt": pascal_mt,
    "cityscapes-mtan": cityscapes_mtan,
    "cityscapes-official": cityscapes_official,
    "celeba40": celeba40,
    "folder": own_folder,
}


def build(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Write the set and return its folder."""
    BUILDERS[name](folder, patch)
    return folder
