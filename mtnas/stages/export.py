"""Stage 7: write the delivered file with its manifest, and the files for other runtimes that the job asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.files import write_json
from mtnas.stages.context import RunContext
from mtnas.stages.gate import Gate, gated

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from mtnas.base.progress import Progress
    from mtnas.export.config import ExportConfig
    from mtnas.export.manifest import OutputInfo, Shape
    from mtnas.measure.config import MeasureConfig
    from mtnas.tasks.base import Task


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `model.onnx`, `manifest.json`, the gate's record `export.json`, and files for other runtimes if asked."""
    import onnx

    from mtnas.export.companions import write_companions
    from mtnas.export.manifest import make_manifest, tensor_shape
    from mtnas.export.onnx_file import write_onnx

    source = context.run.stage("quantize")
    record = context.run.result("quantize", "quantize.json")
    export = context.job.export
    sample_BCHW, _targets = context.split("calibrate").batch([0])
    given = onnx.load_model(str(source / "delivered.onnx"))
    model, gate = simplest(given, sample_BCHW.numpy(), export, context.job.device, context.progress)
    path = write_onnx(model, folder / "model.onnx")
    write_json(folder / "export.json", {"schema": "export/1", "simplified": model is not given, "gate": gate.to_json()})
    shapes = {value.name: tensor_shape(value) for value in model.graph.output}
    outputs = output_infos(context.tasks, shapes)
    info = context.dataset.info
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


def simplest(
    given: onnx.ModelProto,
    image_BCHW: np.ndarray,
    export: ExportConfig,
    device: MeasureConfig,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, Gate]:
    """The simplified graph, or the given one where simplifying changes outputs or costs time; and the gate's record."""
    from mtnas.export.simplify import simplified
    from mtnas.quantize.prepare import clean

    simple, reason = simplified(given, image_BCHW) if export.simplify else (None, "simplifying is switched off")
    files = [clean(model).SerializeToString(deterministic=True) for model in (given, simple or given)]
    gate = gated("export", files[0], files[1], device, progress)
    if simple is None:
        return given, gate.decided(f"the graph is delivered as it came: {reason}")
    if gate.slower:
        return given, gate.decided("the simplified graph is slower: it is delivered as it came")
    return simple, gate.decided("the simplified graph is delivered")


def output_infos(tasks: Mapping[str, Task], shapes: Mapping[str, Shape]) -> list[OutputInfo]:
    """What the manifest says about each head."""
    from mtnas.export.manifest import OutputInfo

    return [
        OutputInfo(name, shapes[name], task.type, _unit(task.spec.type), task.activation, task.spec.class_names)
        for name, task in tasks.items()
    ]


def _unit(kind: str) -> str:
    """Physical unit of a task's output."""
    return {"depth": "m", "normals": "unit vector", "box": "share of the side"}.get(kind, "")
