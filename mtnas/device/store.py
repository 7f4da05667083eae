"""Files of a job: a path, or something kept under its content hash, perhaps still to be cut."""

from __future__ import annotations

import os
from typing import Any, Mapping

from .cut import Base, cut_bytes

Model = Any  # a path, {"blob": sha256}, or {"base": sha256, "recipe": sha256}


class Store:
    """Reads the models of one job.

    Args:
        blobs: folder of the content-addressed files; empty when a job names paths only.
    """

    def __init__(self, blobs: str = "") -> None:
        self._blobs = blobs
        self._bases: dict[str, Base] = {}

    def path(self, sha256: str) -> str:
        return os.path.join(self._blobs, sha256)

    def model(self, entry: Model) -> bytes | str:
        """What a runtime opens: a path, or the bytes of a network that was cut just now."""
        if isinstance(entry, str):
            return entry
        if "blob" in entry:
            return self.path(entry["blob"])
        return self._cut(entry)

    def file(self, entry: Model, folder: str) -> str:
        """A path in any case; a network that was cut is written into the folder."""
        model = self.model(entry)
        if isinstance(model, str):
            return model
        path = os.path.join(folder, entry["recipe"] + ".onnx")
        with open(path, "wb") as stream:
            stream.write(model)
        return path

    def _cut(self, entry: Mapping[str, str]) -> bytes:
        base = entry["base"]
        if base not in self._bases:
            self._bases = {base: Base.read(self.path(base))}
        with open(self.path(entry["recipe"]), "rb") as stream:
            return cut_bytes(self._bases[base], stream.read())
