"""Files of data sets: folders and zip archives, read with an exact message for everything that is not as it should
be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtnas.base.errors import DataError
from mtnas.base.files import file_hash

FETCH_CURE = "copy the file again from where the data set came from"
WHOLE_CURE = "copy the set again from where it came from; other endings or names are another packaging of it"
#: folders up to this size are fingerprinted by their bytes, larger ones by name, size and time of change
HASHED_BYTES = 512 * 2**20
SHOWN = 3
#: tag of a camera's note that the stored picture is turned or mirrored
_ORIENTATION = 0x0112


def find_folder(root: str | None, name: str, folders: Sequence[str], marks: Sequence[str]) -> Path:
    """The set's folder: `root`, or one of `folders` inside `root` or `$MTNAS_DATA`; the first that holds a mark.

    Args:
        root: what the job says.
        name: the preset.
        folders: names under which the set may lie in a folder of data sets.
        marks: files or folders of which the set's folder holds all.
    """
    base = root or os.environ.get("MTNAS_DATA")
    cure = f"set data.root in the job, or MTNAS_DATA to the folder that contains {folders[0]}/"
    if not base:
        raise DataError(f"the folder of {name}", received="neither data.root nor MTNAS_DATA", where="data", cure=cure)
    top = Path(base).expanduser()
    tried = [top, *(top / folder for folder in folders)]
    lacking = {path: [mark for mark in marks if not (path / mark).exists()] for path in tried}
    for path, missing in lacking.items():
        if not missing:
            return path
    nearest = min(tried, key=lambda path: (len(lacking[path]), not path.is_dir()))
    raise DataError(
        f"the packaging {name}: {', '.join(marks)}",
        received=f"no {', '.join(lacking[nearest])}" if nearest.is_dir() else "no such folder",
        where=str(nearest),
        cure=cure,
    )


class Tree:
    """A folder of files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def where(self, name: str) -> str:
        return str(self.root / name)

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def require(self, names: Iterable[str]) -> None:
        """Raise `DataError` unless every file is there."""
        names = list(names)
        _complain(len(names), [name for name in names if not self.has(name)], str(self.root))

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise DataError(
                "a readable file", received=error.strerror or str(error), where=self.where(name), cure=FETCH_CURE
            ) from error

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode("utf-8-sig")  # spreadsheets begin a file with a mark
        except UnicodeDecodeError as error:
            raise DataError("text", received=str(error), where=self.where(name), cure=FETCH_CURE) from error

    def lines(self, name: str) -> list[str]:
        """The lines that are not empty, stripped."""
        return [line.strip() for line in self.text(name).splitlines() if line.strip()]

    def object(self, name: str, keys: Sequence[str]) -> dict[str, Any]:
        """A JSON object that has all the keys."""
        try:
            value = json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise DataError("valid JSON", received=str(error), where=self.where(name), cure=FETCH_CURE) from error
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise DataError(f"the keys {', '.join(keys)}", received=f"no {', '.join(missing)}", where=self.where(name))
        return dict(value)


class ZipTree(Tree):
    """A zip archive; opened anew for each read, so that it can be shared and forgotten."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = frozenset(archive.namelist())
        except (zipfile.BadZipFile, OSError) as error:
            size = f"{path.stat().st_size} bytes that are not one ({error})" if path.is_file() else "no file"
            raise DataError("a whole zip file", received=size, where=str(path), cure=FETCH_CURE) from error

    def where(self, name: str) -> str:
        return f"{self.root}: {name}"

    def has(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str) -> bytes:
        try:
            with zipfile.ZipFile(self.root) as archive:
                return archive.read(name)
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise DataError("a readable entry", received=str(error), where=self.where(name), cure=FETCH_CURE) from error


def _complain(wanted: int, missing: Sequence[str], where: str) -> None:
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise DataError(f"{wanted} files", received=f"{len(missing)} missing: {shown}", where=where, cure=WHOLE_CURE)


def image(
    tree: Tree, name: str, channels: int, *, size: tuple[int, int] | None = None, dtype: type = np.uint8,
    convert: bool = False, cure: str = "",
) -> np.ndarray:  # fmt: skip
    """A decoded image, (H,W,3) or (H,W); palette images give their indices.

    Args:
        size: required height and width.
        dtype: required type of the values; int32 PNGs of 16 bits count as uint16.
        convert: turn grey and transparent pictures into RGB instead of refusing them.
        cure: what to do about another type or shape.
    """
    where = tree.where(name)
    try:
        with Image.open(io.BytesIO(tree.read(name))) as picture:
            array = np.asarray(_rgb(picture, where) if convert else picture)
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise DataError("a readable image", received=str(error), where=where, cure=FETCH_CURE) from error
    if array.dtype == np.int32 and dtype is np.uint16 and array.min() >= 0 and array.max() < 65536:
        array = array.astype(np.uint16)
    if array.dtype == np.bool_ and dtype is np.uint8:
        array = array.astype(np.uint8)
    return checked(array, where, (3,) if channels == 3 else (), size, dtype, cure)


def _rgb(picture: Image.Image, where: str) -> Image.Image:
    """The picture in RGB; refused where that would clip or turn what labels were drawn on."""
    if picture.mode.startswith(("I", "F")):
        raise DataError(
            "a picture of 8 bits a channel",
            received=f"mode {picture.mode}",
            where=where,
            cure="scale it to 8 bits yourself: which range matters is not known here",
        )
    if (turn := picture.getexif().get(_ORIENTATION, 1)) not in (0, 1):
        raise DataError(
            "a picture stored upright",
            received=f"EXIF orientation {turn}",
            where=where,
            cure="turn its pixels (PIL.ImageOps.exif_transpose and save): labels may be meant for either view",
        )
    return picture.convert("RGB")


def checked(
    array: np.ndarray, where: str, inner: tuple[int, ...], size: tuple[int, int] | None, dtype: type | None = None,
    cure: str = "",
) -> np.ndarray:  # fmt: skip
    """The array, or an error when its axes, size or type are others; any real type without `dtype`."""
    right = array.ndim == 2 + len(inner) and array.shape[2:] == inner and size in (None, array.shape[:2])
    right = right and (array.dtype == dtype if dtype else array.dtype.kind in "fiu")
    if not right:
        shape = ", ".join(str(n) for n in (*(size or ("height", "width")), *inner))
        raise DataError(
            f"{np.dtype(dtype).name if dtype else 'numbers'} of shape ({shape})",
            received=f"{array.dtype.name} of shape {array.shape}",
            where=where,
            cure=cure or "another packaging of this set stores it in another way; see the preset's layout",
        )
    return array


def array(tree: Tree, name: str, inner: tuple[int, ...], *, size: tuple[int, int] | None = None) -> np.ndarray:
    """A `.npy` file of numbers without NaN, (H,W,*inner)."""
    where = tree.where(name)
    try:
        value = np.load(io.BytesIO(tree.read(name)), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError("a readable .npy file", received=str(error), where=where, cure=FETCH_CURE) from error
    value = checked(value, where, inner, size)
    if not np.isfinite(value).all():
        raise DataError("finite numbers", received="NaN or infinity", where=where, cure=FETCH_CURE)
    return value


def within(value: np.ndarray, allowed: Sequence[int] | np.ndarray, where: str, what: str, cure: str = "") -> np.ndarray:
    """The labels, or an error naming the first one that is not allowed."""
    wrong = np.setdiff1d(np.unique(value), np.asarray(allowed))
    if len(wrong):
        raise DataError(
            what,
            received=f"{wrong[0]:g} on {int((value == wrong[0]).sum())} pixels",
            where=where,
            cure=cure or "these labels belong to another packaging of the set",
        )
    return value


def expect_count(received: int, expected: int, what: str, where: str) -> None:
    """Raise `DataError` when a packaging has not the number of images that everybody's copy has."""
    if received != expected:
        raise DataError(
            f"{expected} {what}",
            received=str(received),
            where=where,
            cure="the copy is not whole, or is another packaging: numbers on it could not be compared",
        )


def fingerprint(files: Iterable[Path]) -> dict[str, str]:
    """What identifies the files: hashes of their bytes, or for large sets of names, sizes and times of change.

    Names are relative to the folder that holds them all: the set may be moved.
    """
    paths = sorted(set(files))
    top = os.path.commonpath([path.parent for path in paths])
    stats = {path: path.stat() for path in paths}
    if sum(stat.st_size for stat in stats.values()) <= HASHED_BYTES:
        return {path.relative_to(top).as_posix(): file_hash(path) for path in paths}
    digest = hashlib.sha256()
    for path, stat in stats.items():
        digest.update(f"{path.relative_to(top).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return {"files": digest.hexdigest()}
