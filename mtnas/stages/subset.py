"""The delivered file of a run for some of its tasks: the same nodes and weights, without the other decoders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.files import make_folder, write_json
from mtnas.encoders.settings import inseparable
from mtnas.stages.context import RunContext
from mtnas.stages.costs import file_costs
from mtnas.stages.scoring import score_file

if TYPE_CHECKING:
    import onnx

    from mtnas.base.progress import Progress
    from mtnas.export.manifest import Manifest
    from mtnas.train.config import ModelConfig
    from mtnas.verify.numerics import HeadError

SCHEMA = "subset/1"
#: largest difference from the whole file's output, relative to its largest value
TOLERANCE = 1e-5
_IMAGES = 16


def export_subset(
    path: Path, tasks: Iterable[str], out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write `model.onnx`, `manifest.json` and `subset.json` for some of a run's tasks, checked and measured.

    Every head of the file is compared with the same head of the delivered file, scored on the report split, and both
    files are measured side by side on the run's device. The run itself stays as it is.

    Args:
        path: folder of a run that has exported its file.
        tasks: names of its tasks.
        out: folder of the files; by default `subsets/<tasks>` in the run's.
        progress: where to report.

    Raises:
        JobError: no such task, or none; or a network whose experts are chosen by tokens.
        CheckpointError: no such run, or one that has not exported its file.
        VerificationFailed: the delivered file was changed, or a head answers otherwise than in it.
    """
    import onnx

    from mtnas.export.manifest import Manifest
    from mtnas.export.onnx_file import write_onnx
    from mtnas.graph.subset import keep_outputs
    from mtnas.job.read import read_job
    from mtnas.verify.numerics import require

    if not (path / "job.resolved.yaml").is_file():
        raise CheckpointError("the folder of a run", received="no job.resolved.yaml", where=str(path))
    context = RunContext(read_job(path / "job.resolved.yaml"), path, progress)
    check_routing(context.job.model)
    delivered = Manifest.load(context.run.stage("export") / "manifest.json")
    whole = delivered.check(context.run.stage("export"))
    part = keep_outputs(onnx.load_model(str(whole)), tasks)
    names = [output.name for output in part.graph.output]
    folder = make_folder(out or path / "subsets" / "+".join(names))
    target = write_onnx(part, folder / "model.onnx")
    _manifest(target, delivered, names).save(folder / "manifest.json")
    heads = _compared(context, whole, target)
    record = {
        "schema": SCHEMA,
        "tasks": names,
        "model": str(target),
        "heads": [head.to_json() for head in heads],
        "scores": _scores(context, target, names),
        "costs": _costs(context, whole, part),
    }
    write_json(folder / "subset.json", record)
    require(heads, str(target))
    return record


def check_routing(model: ModelConfig) -> None:
    """Raise `JobError` where every task's file would hold all experts."""
    reason = "" if model.factory else inseparable(model.routing)
    if reason:
        raise JobError(
            "experts that belong to tasks",
            received=reason,
            where="model.routing",
            cure="run a job with model.routing: task; the file of all tasks is in 7-export",
        )


def _manifest(target: Path, delivered: Manifest, tasks: list[str]) -> Manifest:
    """That of the delivered file, for these outputs."""
    from mtnas.export.manifest import make_manifest

    return make_manifest(
        target,
        mean=delivered.input.mean,
        std=delivered.input.std,
        outputs=[info for info in delivered.outputs if info.task in tasks],
        dialect=delivered.dialect,
    )


def _compared(context: RunContext, whole: Path, target: Path) -> tuple[HeadError, ...]:
    from mtnas.quantize.session import open_session, run_images
    from mtnas.verify.numerics import compare

    image_BCHW, _ = context.split("report").batch(np.arange(min(_IMAGES, len(context.split("report")))))
    expected = run_images(open_session(whole), image_BCHW.numpy())
    outputs = [output.name for output in open_session(target).get_outputs()]
    return compare(target, {name: expected[name] for name in outputs}, image_BCHW.numpy(), TOLERANCE)


def _scores(context: RunContext, target: Path, tasks: list[str]) -> dict[str, dict[str, float]]:
    """On the report split, these tasks alone."""
    context.tasks = {name: task for name, task in context.tasks.items() if name in tasks}
    return score_file(context, target, "report")


def _costs(context: RunContext, whole: Path, part: onnx.ModelProto) -> dict[str, Any]:
    """Counted and measured, of the subset and of the delivered file in the same rounds."""
    import onnx

    from mtnas.graph.count_model import count_model

    models = {"subset": part, "delivered": onnx.load_model(str(whole))}
    measured = file_costs(context, {name: model.SerializeToString() for name, model in models.items()})
    return {
        name: {"macs": count_model(model).macs, "nodes": len(model.graph.node), **measured[name]}
        for name, model in models.items()
    }


def subset_text(record: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"tasks: {', '.join(record['tasks'])}"]
    for name, costs in record["costs"].items():
        lines.append(
            f"  {name:<9} {costs['latency_ms']['value']:.3f} ms p50, {costs['macs'] / 1e6:.1f} MMACs, "
            f"{costs['size_mb']['value']:.2f} MB, {costs['nodes']} nodes"
        )
    for head in record["heads"]:
        lines.append(f"  head {head['task']}: differs by {head['largest']:.1e} from the delivered file")
    return "\n".join([*lines, f"wrote {record['model']}; to certify it: mtnas certify FILE --latency-ms ..."])
