"""The kinds of labels a user's folder may hold: how each is described, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtnas.base.errors import DataError
from mtnas.base.tables import nearest
from mtnas.data.base import TargetInfo
from mtnas.data.fields import Box, Class, Disparity, Field, Flags, Labels, Mask, Metres, Vectors
from mtnas.data.normals import unit_normals
from mtnas.data.trees import Tree, array, checked, image, within
from mtnas.tasks.spec import IGNORE

DENSE = frozenset({"segmentation", "parts", "depth", "disparity", "normals", "edges", "saliency"})
NAMED = frozenset({"segmentation", "parts", "classification", "presence"})
KINDS = ("segmentation", "parts", "depth", "disparity", "normals", "edges", "saliency", "classification", "presence",
         "attribute", "box")  # fmt: skip
ENDINGS = (".png", ".npy")
CORNERS = ("x0", "y0", "x1", "y1")
OPTIONS = {"depth": "unit_m", "disparity": "unit"}
NOT_SCORED = 128
MASK_CURE = "store numbers in one channel of 8 bits (mode L or P), not colours"


@dataclass(frozen=True)
class Target:
    """One target of a folder. `unit` turns the steps of a 16-bit PNG into metres or pixels."""

    name: str
    kind: str
    classes: tuple[str, ...]
    unit: float
    field: Field

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of `labels.csv` that hold it."""
        if self.kind in DENSE:
            return ()
        return tuple(f"{self.name}_{corner}" for corner in CORNERS) if self.kind == "box" else (self.name,)

    def file(self, tree: Tree, name: str) -> str | None:
        """The label file of an image; None where there is none."""
        if self.kind not in DENSE:
            return None
        return next((file for end in ENDINGS if tree.has(file := f"{self.name}/{name}{end}")), None)

    def labels(self, tree: Tree, name: str, row: Mapping[str, str]) -> bool:
        """Whether an image has a label, by its file or its cells alone."""
        if self.kind in DENSE:
            return self.file(tree, name) is not None
        return any((row.get(column) or "").strip() for column in self.columns)

    def read(self, tree: Tree, name: str, row: Mapping[str, str]) -> Any:
        """The raw label of an image; None where there is none."""
        if self.kind in DENSE:
            file = self.file(tree, name)
            return None if file is None else self._dense(tree, file)
        cells = [(row.get(column) or "").strip() for column in self.columns]
        if not any(cells):
            return None
        try:
            return self._cells(cells)
        except (ValueError, KeyError) as error:
            raise DataError(
                _EXPECTED[self.kind].format(", ".join(self.classes)),
                received=", ".join(cells),
                where=f"{tree.where('labels.csv')}: {name}, {self.name}",
                cure="mend the cell; leave it empty where there is no label",
            ) from error

    def _cells(self, cells: list[str]) -> Any:
        text = cells[0]
        if self.kind == "classification":
            return self._class(text)
        if self.kind == "presence":
            flags = np.zeros(len(self.classes), np.uint8)
            for part in text.split(";") if text != "-" else []:
                flags[self._class(part.strip())] = 1
            return flags
        if self.kind == "attribute":
            return {"0": np.zeros(1, np.uint8), "1": np.ones(1, np.uint8)}[text.removesuffix(".0")]
        x0, y0, x1, y1 = (float(cell) for cell in cells)
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            raise ValueError(cells)
        return np.array([x0, y0, x1, y1], np.float32)

    def _class(self, text: str) -> int:
        # tables with gaps write whole numbers as 1.0
        place = self.classes.index(text) if text in self.classes else int(text.removesuffix(".0"))
        if not 0 <= place < len(self.classes):
            raise ValueError(text)
        return place

    def _dense(self, tree: Tree, file: str) -> np.ndarray:
        where, numbers = tree.where(file), file.endswith(".npy")
        if self.kind in {"segmentation", "parts"}:
            labels = array(tree, file, ()) if numbers else image(tree, file, 1, cure=MASK_CURE)
            allowed, what = [*range(len(self.classes)), IGNORE], f"classes 0 to {len(self.classes) - 1}, or 255"
            cure = f"mend the mask, or name all classes of {self.name} in folder.yaml"
            return within(labels, allowed, where, what, cure).astype(np.uint8)
        if self.kind in {"edges", "saliency"}:
            mask = array(tree, file, ()) if numbers else image(tree, file, 1, cure=MASK_CURE)
            within(mask, [0, 1, NOT_SCORED, 255], where, "0 = no, 1 or 255 = yes, 128 = not scored", MASK_CURE)
            return np.where(mask == NOT_SCORED, IGNORE, (mask == 1) | (mask == 255)).astype(np.uint8)
        if self.kind == "normals":
            if numbers:
                return unit_normals(array(tree, file, (3,)), where)
            return unit_normals(
                (image(tree, file, 3, cure="store 127 n + 128 as RGB").astype(np.float32) - 128) / 127, where
            )
        return self._lengths(tree, file)

    def _lengths(self, tree: Tree, file: str) -> np.ndarray:
        """Depth in metres (0 = invalid) or disparity in pixels (-1 = invalid)."""
        where = tree.where(file)
        if file.endswith(".npy"):
            return checked(array(tree, file, ()), where, (), None).astype(np.float32)
        if not self.unit:
            raise DataError(
                f"{OPTIONS[self.kind]}: what one step of a PNG is worth",
                received="none",
                where=f"folder.yaml: targets.{self.name}",
                cure=f"write {OPTIONS[self.kind]}: 0.001 when steps are thousandths",
            )
        steps = image(tree, file, 1, dtype=np.uint16, cure="store one channel of 16 bits, or metres as .npy")
        values = steps.astype(np.float32) * np.float32(self.unit)
        return np.where(steps == 0, np.float32(-1), values) if self.kind == "disparity" else values


_EXPECTED = {
    "classification": "a class: {}",
    "presence": "classes with ; between them, or - for none: {}",
    "attribute": "0 or 1",
    "box": "x0 < x1 and y0 < y1 in shares of the sides, 0 to 1",
}


def make_target(name: str, raw: Mapping[str, Any], where: str) -> Target:
    """The target of one entry of `folder.yaml`."""
    where = f"{where}: targets.{name}"
    kind = str(raw.get("type"))
    if kind not in KINDS:
        raise DataError("a known type", received=repr(raw.get("type")), where=where, cure=nearest(kind, KINDS))
    if not str(name).isidentifier() or name in {"images", "splits"}:
        raise DataError("a name made of letters, digits and _", received=repr(name), where=where)
    allowed = {"type", *(["classes"] if kind in NAMED else []), *([OPTIONS[kind]] if kind in OPTIONS else [])}
    if unknown := sorted(set(raw) - allowed):
        raise DataError(f"the keys {', '.join(sorted(allowed))}", received=unknown[0], where=where)
    classes = tuple(str(c) for c in raw.get("classes") or ())
    if kind in NAMED and (len(classes) < 2 or len(set(classes)) < len(classes) or len(classes) > IGNORE):
        raise DataError("classes: two to 255 different names", received=str(list(classes)), where=where)
    unit = raw.get(OPTIONS.get(kind, ""), 0)
    if not isinstance(unit, int | float) or unit < 0:
        raise DataError("a number above 0", received=repr(unit), where=f"{where}.{OPTIONS[kind]}")
    return Target(str(name), kind, classes, float(unit), field_of(kind, classes))


def field_of(kind: str, classes: tuple[str, ...]) -> Field:
    """How a kind of target is stored."""
    if kind in {"segmentation", "parts"}:
        return Labels(TargetInfo(kind, len(classes), classes))
    if kind == "presence":
        return Flags(TargetInfo(kind, len(classes), classes))
    if kind == "classification":
        return Class(TargetInfo(kind, len(classes), classes))
    fields: dict[str, Field] = {
        "depth": Metres(TargetInfo("depth", 1)),
        "disparity": Disparity(TargetInfo("disparity", 1), pixels=True),
        "normals": Vectors(TargetInfo("normals", 3)),
        "edges": Mask(TargetInfo("edges", 1), thin_lines=True),
        "saliency": Mask(TargetInfo("saliency", 1)),
        "attribute": Flags(TargetInfo("attribute", 1)),
        "box": Box(TargetInfo("box", 4, CORNERS)),
    }
    return fields[kind]
