"""Stage 7: write the delivered file with its manifest, and the files for other runtimes that the job asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    from mtnas.export.manifest import OutputInfo, Shape
    from mtnas.tasks.base import Task


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `model.onnx`, `manifest.json` and, where the job asks for them, files for OpenVINO and TensorRT."""
    import onnx

    from mtnas.export.companions import write_companions
    from mtnas.export.manifest import make_manifest, tensor_shape
    from mtnas.export.onnx_file import write_onnx

    source = context.run.stage("quantize")
    record = context.run.result("quantize", "quantize.json")
    model = onnx.load_model(str(source / "delivered.onnx"))
    path = write_onnx(model, folder / "model.onnx")
    shapes = {value.name: tensor_shape(value) for value in model.graph.output}
    outputs = output_infos(context.tasks, shapes)
    info = context.dataset.info
    export = context.job.export
    sample_BCHW, _targets = context.split("calibrate").batch([0])
    companions = write_companions(path, source / "float.onnx", export, sample_BCHW.numpy(), progress=context.progress)
    manifest = make_manifest(
        path,
        mean=info.mean,
        std=info.std,
        outputs=outputs,
        dialect=record["dialect"] if record["delivered"] == "int8" else "",
        companions=companions,
    )
    manifest.save(folder / "manifest.json")
    return {"model": manifest.sha256}


def output_infos(tasks: Mapping[str, Task], shapes: Mapping[str, Shape]) -> list[OutputInfo]:
    """What the manifest says about each head."""
    from mtnas.export.manifest import OutputInfo

    return [
        OutputInfo(name, shapes[name], task.type, _unit(task.spec.type), task.activation, task.spec.class_names)
        for name, task in tasks.items()
    ]


def _unit(kind: str) -> str:
    """Physical unit of a task's output."""
    return {"depth": "m", "normals": "unit vector"}.get(kind, "")
