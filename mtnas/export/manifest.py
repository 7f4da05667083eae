"""The manifest beside an exported file: what goes in, what comes out, and the hash that ties both to the bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx

from mtnas.base.errors import CheckpointError, ModelError, VerificationFailed
from mtnas.base.files import file_hash, read_json, write_json
from mtnas.base.machine import package_versions
from mtnas.quantize.prepare import opset_of

SCHEMA = "manifest/1"
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class InputInfo:
    """The image input: what the device must do to pixels before it calls the network.

    Args:
        name, shape: as in the file; a string names a dynamic axis.
        mean, std: per channel, applied as `(pixel / 255 - mean) / std`.
        layout: order of the axes.
        colours: order of the channels.
        dtype: element type.
    """

    name: str
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str = "BCHW"
    colours: str = "RGB"
    dtype: str = "float32"


@dataclass(frozen=True)
class OutputInfo:
    """One head: the raw output, and the activation the device applies to it.

    Args:
        task: task and output name.
        shape: as in the file; a string names a dynamic axis.
        type: kind of task, such as `segmentation`.
        unit: what a number means after the activation, such as `m`.
        activation: `softmax`, `sigmoid`, `l2_normalise` or `identity`.
        class_names: what the channels stand for, where they stand for classes.
    """

    task: str
    shape: Shape
    type: str = ""
    unit: str = ""
    activation: str = "identity"
    class_names: tuple[str, ...] = ()
    dtype: str = "float32"


@dataclass(frozen=True)
class Companion:
    """A further file made from the ONNX file, such as an engine; `executed` tells whether it ever ran here."""

    file: str
    sha256: str
    kind: str
    executed: bool


@dataclass(frozen=True)
class Manifest:
    """Everything a device needs to know about one exported file."""

    file: str
    sha256: str
    bytes: int
    precision: str
    dialect: str
    opset: int
    ir_version: int
    input: InputInfo
    outputs: tuple[OutputInfo, ...]
    companions: tuple[Companion, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def dynamic_batch(self) -> bool:
        return isinstance(self.input.shape[0], str)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "dynamic_batch": self.dynamic_batch, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str = "manifest") -> Manifest:
        """Read `to_json`; raises `CheckpointError` on missing or unknown keys."""
        try:
            values = {key: value for key, value in data.items() if key not in {"schema", "dynamic_batch"}}
            values["input"] = InputInfo(**_tuples(values["input"]))
            values["outputs"] = tuple(OutputInfo(**_tuples(item)) for item in values["outputs"])
            values["companions"] = tuple(Companion(**item) for item in values.get("companions", ()))
            return Manifest(**values)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                "a complete manifest", received=str(error), where=where, cure="run the export stage again"
            ) from error

    def save(self, path: Path) -> None:
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> Manifest:
        return Manifest.from_json(read_json(path, schema=SCHEMA), str(path))

    def check(self, folder: Path) -> Path:
        """The described file; raises `VerificationFailed` when its bytes, or those of a companion, are others."""
        listed = [(self.file, self.sha256), *((item.file, item.sha256) for item in self.companions)]
        for name, sha256 in listed:
            path = folder / name
            if not path.exists():
                raise VerificationFailed(
                    "the file that the manifest lists",
                    received="no file",
                    where=str(path),
                    cure="run the export stage again",
                )
            found = file_hash(path)
            if found != sha256:
                raise VerificationFailed(
                    f"sha256 {sha256[:16]}... as in the manifest",
                    received=f"{found[:16]}...",
                    where=str(path),
                    cure="the file was changed after it was exported: run the export stage again",
                )
        return folder / self.file


def make_manifest(
    path: Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    outputs: Sequence[OutputInfo],
    dialect: str = "",
    companions: Sequence[Companion] = (),
) -> Manifest:
    """Describe an exported ONNX file; shapes, precision and versions are read from the file itself.

    Args:
        path: the file, already in its place.
        mean, std: the normalisation the network was trained with, per channel.
        outputs: one per task; their `shape` is replaced by the file's.
        dialect: quantization dialect, when the file is int8.
        companions: files made from this one.
    """
    model = onnx.load_model(str(path))
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    image = next(value for value in graph.input if value.name not in stored)
    shapes = {value.name: tensor_shape(value) for value in graph.output}
    if [item.task for item in outputs] != list(shapes):
        raise ModelError(
            f"outputs {list(shapes)}, as in the file", received=str([o.task for o in outputs]), where=str(path)
        )
    quantized = any(node.op_type == "QuantizeLinear" for node in graph.node)
    return Manifest(
        file=path.name,
        sha256=file_hash(path),
        bytes=path.stat().st_size,
        precision="int8" if quantized else "float32",
        dialect=dialect if quantized else "",
        opset=opset_of(model),
        ir_version=model.ir_version,
        input=InputInfo(image.name, tensor_shape(image), tuple(map(float, mean)), tuple(map(float, std))),
        outputs=tuple(OutputInfo(**{**asdict(item), "shape": shapes[item.task]}) for item in outputs),
        companions=tuple(companions),
        versions=package_versions(),
    )


def tensor_shape(value: onnx.ValueInfoProto) -> Shape:
    """A graph input's or output's shape; dynamic axes by their names."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
