"""The network behind a resize of the image: one graph for each smaller input size, all with the same weights.

The resizes of image and outputs are nodes of the graph, so a cut file takes and gives what the full one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from mtnas.base.errors import CheckpointError, ModelError
from mtnas.base.files import file_hash, write_bytes
from mtnas.base.groups import Size, size_text
from mtnas.graph.bypass import Bypass, Bypasses
from mtnas.graph.forks import Forks, GraphFork
from mtnas.graph.input_size import at_input_size
from mtnas.graph.network import IMAGE


@dataclass(frozen=True)
class Resized:
    """One graph.

    Args:
        model: nodes, input, outputs, and constants that are no weights.
        bypasses: the blocks that may be left out, by name, where they lie in this graph.
        forks: the forks that may be chosen from, where they lie in this graph.
    """

    model: onnx.ModelProto
    bypasses: Bypasses
    forks: Forks = ()


@contextmanager
def resizing_to(size: Size) -> Iterator[None]:
    """What goes wrong with the graph of a smaller input size is told with that size, and what to do."""
    try:
        yield
    except ModelError as error:
        raise ModelError(
            f"a graph that computes at {size_text(size)} what the network does",
            received=str(error).replace("\n", ";"),
            where="elastic graph",
            cure="leave this size out of `resolution` in the space's rules",
        ) from error


def at_camera_size(
    models: Mapping[Size, onnx.ModelProto], resized: Mapping[Size, Resized], size: Size
) -> dict[Size, Resized]:
    """The graphs for images of another height and width, resized by the same share; those that refuse are left out.

    Args:
        models: by the size they run at, with weights.
        resized: the same graphs.
        size: height and width in pixels of the images.
    """
    found = {}
    for at, model in models.items():
        # A pooling that reads the image is the resize: its windows are a share, not an adaptive size.
        shrinks = [node.name for node in model.graph.node if node.op_type == "AveragePool" and IMAGE in node.input]
        try:
            found[at] = replace(resized[at], model=at_input_size(model, size, fixed=shrinks))
        except ModelError:
            continue
    return found


def write_resized(folder: Path, resized: Mapping[Size, Resized]) -> list[dict[str, Any]]:
    """Write one file without weights for each size; returns what `read_resized` needs."""
    rows = []
    for size, graph in resized.items():
        path = folder / f"elastic-{size_text(size)}.onnx"
        write_bytes(path, graph.model.SerializeToString())
        bypasses = {name: [block.source, block.result] for name, block in graph.bypasses.items()}
        row = {"size": list(size), "file": path.name, "sha256": file_hash(path), "bypasses": bypasses}
        rows.append({**row, "forks": [fork.to_json() for fork in graph.forks]} if graph.forks else row)
    return rows


def read_resized(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[Size, Resized]:
    """Inverse of `write_resized`; raises `CheckpointError` when a file is not the one that was written."""
    found: dict[Size, Resized] = {}
    for row in rows:
        path = folder / row["file"]
        if not path.exists() or file_hash(path) != row["sha256"]:
            raise CheckpointError(
                "the ONNX file that was written with this plan",
                received="another file" if path.exists() else "no file",
                where=str(path),
                cure="write both again: run the space stage into a new folder",
            )
        bypasses = {name: Bypass(*ends) for name, ends in row["bypasses"].items()}
        forks = tuple(GraphFork.from_json(fork) for fork in row.get("forks", ()))
        found[row["size"][0], row["size"][1]] = Resized(onnx.load_model(str(path)), bypasses, forks)
    return found
