"""`mtnas.export`: a network as an ONNX file with its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import Tensor, nn

from mtnas.api.data import Tasks, make_tasks
from mtnas.api.files import as_onnx
from mtnas.api.measuring import bench_settings
from mtnas.api.profiling import DeviceProfile
from mtnas.api.quantizing import QuantizedFile
from mtnas.base.errors import JobError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.export.companions import write_companions
from mtnas.export.config import ExportConfig
from mtnas.export.manifest import Manifest, OutputInfo, make_manifest, tensor_shape
from mtnas.export.onnx_file import write_onnx
from mtnas.stages.export import output_infos, simplest
from mtnas.tasks.base import Task

FLOAT = "float.onnx"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the delivered ONNX file.
        manifest: what goes in and comes out; `manifest.json` beside the file.
        float_path: the float file that an int8 one was made from; else the delivered file.
    """

    path: Path
    manifest: Manifest
    float_path: Path

    @property
    def folder(self) -> Path:
        return self.path.parent

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


def export(
    model: nn.Module | onnx.ModelProto | QuantizedFile,
    example_inputs: Tensor | None,
    out: str | Path,
    *,
    tasks: Tasks = None,
    data: Dataset | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    profile: DeviceProfile | str | None = None,
    config: ExportConfig | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write an ONNX file (input `image`, one output per task, opset 20 or 21) and `manifest.json` beside it.

    Args:
        model: a plain module, an ONNX network, or what `mtnas.quantize` returned.
        example_inputs: normalised images (B,C,H,W); needed with a module, and for files for other runtimes.
        out: a folder, for `model.onnx` in it, or the path of an `.onnx` file.
        tasks: names of targets, tasks by name, or None: units, activations and class names of the manifest.
        data: its targets, and the mean and deviation its images were normalised with.
        mean, std: per channel, of images in 0..1, when there is no `data`; by default 0 and 1.
        profile: where simplifying must not cost time: from `mtnas.profile`, or a device's name. The graph is simplified
            (`config.simplify`) only when this is given, with `example_inputs`, and the gate lets it through.
        config: opset, open batch, files for OpenVINO and TensorRT.
        progress: shows a bar where an engine is built.

    Raises:
        ModelError: the module breaks the contract or cannot be exported, or the ONNX network is not sound.
        StorageError: the folder cannot be written.
        PackageMissing: a further runtime was asked for and is not installed.
    """
    config = config or ExportConfig()
    path = Path(out) if str(out).endswith(".onnx") else Path(out) / "model.onnx"
    result = model.result if isinstance(model, QuantizedFile) else None
    proto = model.model if isinstance(model, QuantizedFile) else as_onnx(model, example_inputs, config)
    if profile is not None and example_inputs is not None:
        example = example_inputs.detach().cpu().float().numpy()
        proto, _gate = simplest(proto, example, config, bench_settings(profile), progress)
    write_onnx(proto, path)
    float_path = path
    if result is not None and result.delivered == "int8":
        float_path = write_onnx(result.float_model, path.with_name(FLOAT))
    image = example_inputs.detach().cpu().float().numpy() if example_inputs is not None else None
    companions = write_companions(path, float_path, config, image, progress=progress) if image is not None else ()
    manifest = make_manifest(
        path,
        mean=mean if mean is not None else data.info.mean if data else (0.0,) * _channels(proto),
        std=std if std is not None else data.info.std if data else (1.0,) * _channels(proto),
        outputs=_outputs(proto, tasks, data),
        dialect=result.dialect if result is not None else "",
        companions=companions,
    )
    manifest.save(path.with_name("manifest.json"))
    return Exported(path, manifest, float_path)


def _outputs(proto: onnx.ModelProto, tasks: Tasks, data: Dataset | None) -> list[OutputInfo]:
    """One for each output of the file, in its order; those without a task say their shape only."""
    shapes = {value.name: tensor_shape(value) for value in proto.graph.output}
    found: dict[str, Task] = {}
    if data is not None:
        found = make_tasks(tasks, data, tuple(shapes))
    elif isinstance(tasks, dict):
        found = tasks
    elif tasks is not None:
        raise JobError("data= with names of tasks, or tasks by name", received=repr(tasks), where="tasks")
    known = {info.task: info for info in output_infos({n: found[n] for n in shapes if n in found}, shapes)}
    return [known.get(name, OutputInfo(name, shape)) for name, shape in shapes.items()]


def _channels(proto: onnx.ModelProto) -> int:
    channels = tensor_shape(next(value for value in proto.graph.input if value.name == "image"))[1]
    return channels if isinstance(channels, int) else 3
