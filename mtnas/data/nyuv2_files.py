"""The files of `nyuv2` on disk: found, opened, and refused with an exact message when they are not as they should be.

Layout: `train.zip`, `val.zip`, `test.zip` with `rgb/NNNN.jpg`, `seg40/NNNN.png` (uint8, 0..39, 255 = ignore),
`depth/NNNN.png` (uint16, steps of 5 mm, 0 = invalid), `normal/NNNN.jpg` (127 n + 128, camera axes), all 160x120;
`classes.json` with `seg40_names`, `seg13_names`, `map40to13`; `splits.json` with the image numbers of each archive.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtnas.base.errors import DataError
from mtnas.tasks.spec import IGNORE

WIDTH, HEIGHT = 160, 120
ARCHIVES = ("train", "val", "test")
ENTRIES = {"rgb": "jpg", "seg40": "png", "depth": "png", "normal": "jpg"}
DEPTH_STEP_M = 0.005
FARTHEST_M = 20.0
FETCH_CURE = "copy the file again from where the data set came from"


@dataclass(frozen=True)
class Classes:
    """Class names and the map from 40 to 13 classes."""

    names: tuple[str, ...]
    lookup_256: np.ndarray


@dataclass(frozen=True)
class Example:
    """One decoded image with its labels at the stored size."""

    rgb_HW3: np.ndarray
    seg40_HW: np.ndarray
    depth_m_HW: np.ndarray
    normals_HW3: np.ndarray


def find_folder(root: str | None) -> Path:
    """The folder with the archives: `root`, `root/nyuv2`, or `$MTNAS_DATA/nyuv2`."""
    base = root or os.environ.get("MTNAS_DATA")
    cure = "set data.root in the job, or MTNAS_DATA to the folder that contains nyuv2/"
    if not base:
        raise DataError("the folder of nyuv2", received="neither data.root nor MTNAS_DATA", where="data", cure=cure)
    tried = [Path(base).expanduser(), Path(base).expanduser() / "nyuv2"]
    for folder in tried:
        if any((folder / f"{name}.zip").is_file() for name in ARCHIVES):
            return folder
    raise DataError("train.zip, val.zip and test.zip", received="none of them", where=str(tried[-1]), cure=cure)


def read_object(path: Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """A JSON object that has all the keys."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"a JSON file with {', '.join(keys)}", received="no file", where=str(path), cure=FETCH_CURE
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError("valid JSON", received=str(error), where=str(path), cure=FETCH_CURE) from error
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing:
        raise DataError(f"the keys {', '.join(keys)}", received=f"no {', '.join(missing)}", where=str(path))
    return value


def read_classes(folder: Path, classes: int) -> Classes:
    """Names of 13, 39 or 40 classes and the table from stored to delivered labels."""
    path = folder / "classes.json"
    raw = read_object(path, ("seg40_names", "seg13_names", "map40to13"))
    counts = {key: len(raw[key]) for key in ("seg40_names", "seg13_names", "map40to13")}
    if tuple(counts.values()) != (40, 13, 40) or not set(raw["map40to13"]) <= set(range(13)):
        raise DataError(
            "40 names, 13 names and 40 map entries from 0 to 12", received=str(counts), where=str(path), cure=FETCH_CURE
        )
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[: min(classes, 40) if classes != 13 else 40] = raw["map40to13"] if classes == 13 else np.arange(classes)
    names = raw["seg13_names"] if classes == 13 else raw["seg40_names"][:classes]
    return Classes(tuple(names), lookup)


def read_numbers(folder: Path) -> dict[str, tuple[int, ...]]:
    """Image numbers of each archive, ascending."""
    path = folder / "splits.json"
    raw = read_object(path, ARCHIVES)
    numbers = {name: tuple(sorted(raw[name])) for name in ARCHIVES}
    seen = [number for group in numbers.values() for number in group]
    if len(set(seen)) != len(seen) or not all(numbers.values()):
        raise DataError(
            "each image number in one split, none of them empty",
            received=str({name: len(group) for name, group in numbers.items()}),
            where=str(path),
            cure=FETCH_CURE,
        )
    return numbers


class Archive:
    """One zip file whose table of contents has been checked against the expected image numbers."""

    def __init__(self, path: Path, numbers: tuple[int, ...]) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise DataError(
                f"a zip file with {len(numbers)} images", received="no file", where=str(path), cure=FETCH_CURE
            ) from error
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                f"a whole zip file with {len(numbers)} images",
                received=f"{path.stat().st_size} bytes that are not one ({error})",
                where=str(path),
                cure=FETCH_CURE,
            ) from error
        present = set(self._zip.namelist())
        wanted = [entry_name(kind, number) for number in numbers for kind in ENTRIES]
        if missing := [name for name in wanted if name not in present]:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise DataError(
                f"{len(wanted)} entries", received=f"{len(missing)} missing: {shown}", where=str(path), cure=FETCH_CURE
            )

    def close(self) -> None:
        self._zip.close()

    def read(self, number: int) -> Example:
        """Decode and check one image with all its labels."""
        rgb = self._array("rgb", number, np.uint8, 3)
        return Example(rgb, self._labels(number), self._depth(number), self._normals(number))

    def _where(self, kind: str, number: int) -> str:
        return f"{self.path}: {entry_name(kind, number)}"

    def _array(self, kind: str, number: int, dtype: type, channels: int) -> np.ndarray:
        where = self._where(kind, number)
        try:
            with Image.open(io.BytesIO(self._zip.read(entry_name(kind, number)))) as image:
                array = np.asarray(image)
        except (zipfile.BadZipFile, OSError, EOFError, SyntaxError, ValueError) as error:
            raise DataError("a readable image", received=str(error), where=where, cure=FETCH_CURE) from error
        shape = (HEIGHT, WIDTH, 3) if channels == 3 else (HEIGHT, WIDTH)
        if array.shape != shape or array.dtype != dtype:
            raise DataError(
                f"{np.dtype(dtype).name} of shape {shape}",
                received=f"{array.dtype.name} of shape {array.shape}",
                where=where,
                cure=FETCH_CURE,
            )
        return array

    def _labels(self, number: int) -> np.ndarray:
        labels = self._array("seg40", number, np.uint8, 1)
        wrong = labels[(labels >= 40) & (labels != IGNORE)]
        if len(wrong):
            raise DataError(
                "class numbers 0 to 39, or 255 for ignored pixels",
                received=f"{int(wrong[0])} on {len(wrong)} pixels",
                where=self._where("seg40", number),
                cure="these labels belong to another packaging of the set",
            )
        return labels

    def _depth(self, number: int) -> np.ndarray:
        steps = self._array("depth", number, np.uint16, 1)
        metres = steps.astype(np.float32) * np.float32(DEPTH_STEP_M)
        if metres.max() == 0 or metres.max() > FARTHEST_M:
            raise DataError(
                f"depth in steps of 5 mm, up to {FARTHEST_M:g} m",
                received=f"a largest value of {int(steps.max())}, that is {metres.max():.2f} m",
                where=self._where("depth", number),
                cure="store metres / 0.005 as uint16",
            )
        return metres

    def _normals(self, number: int) -> np.ndarray:
        stored = self._array("normal", number, np.uint8, 3).astype(np.float32)
        normals = (stored - 128) / 127
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        valid = length > 0.3
        if valid.mean() < 0.5 or normals[..., 2].mean() > 0:
            raise DataError(
                "normals that point to the camera (z < 0), stored as 127 n + 128",
                received=f"a mean vector of {np.round(normals.mean((0, 1)), 2).tolist()}",
                where=self._where("normal", number),
                cure="other packagings store other axes, or vectors that are not centred",
            )
        return np.where(valid, normals / np.maximum(length, 1e-6), 0)


def entry_name(kind: str, number: int) -> str:
    return f"{kind}/{number:04d}.{ENTRIES[kind]}"
