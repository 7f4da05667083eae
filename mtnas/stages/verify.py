"""Stage 8: verify the exported file head by head, and measure every network of the run side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mtnas.base.files import write_json
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.stages.context import RunContext
from mtnas.stages.costs import file_costs
from mtnas.stages.network import Network
from mtnas.stages.part_costs import write_parts
from mtnas.stages.pictures import write_pictures
from mtnas.stages.scoring import Scores, score_file

if TYPE_CHECKING:
    from mtnas.verify.verify import VerifyResult

_PICTURES = 4


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `verify.json`, `parts.json` of the delivered file and `pictures/`; raises `VerificationFailed` when a head
    is not as it was trained."""
    (folder / "certificate.json").unlink(missing_ok=True)  # the copy that belongs to an earlier file
    networks = _networks(context)
    delivered = Network.load(context.run.stage("prune"), "delivered")
    models = {name: network.onnx(context.graph).SerializeToString() for name, network in networks.items()}
    quantized = context.run.stage("quantize") / "int8.onnx"
    if quantized.exists():
        models["int8"] = quantized.read_bytes()
    result = _verified(context, delivered)
    scores = {name: score_file(context, model, "report") for name, model in models.items()}
    costs = file_costs(context, models)
    rows = [_row(context, name, networks.get(name, delivered), scores[name], costs[name]) for name in models]
    after = (context.run.stage("export") / "model.onnx").read_bytes()
    record = {
        **result.to_json(),
        "table": rows,
        "branches": context.graph.counts(delivered.selection).branches_json(),
        "branches_full": context.graph.counts(Selection.of({})).branches_json(),
        "pictures": _pictures(context, {"before": models["full"], "after": after}, folder),
    }
    write_json(folder / "verify.json", record)
    result.require()
    write_parts(context, after, folder / "parts.json")
    return {"passed": result.passed, "model": result.model_sha256}


def _networks(context: RunContext) -> dict[str, Network]:
    """Full, chosen and pruned network, in this order."""
    prune = context.run.stage("prune")
    return {
        "full": Network.of_elastic("full", Selection.of({}), context.trained),
        "chosen": Network.load(prune, "chosen"),
        "pruned": Network.load(prune, "pruned"),
    }


def _verified(context: RunContext, delivered: Network) -> VerifyResult:
    """The delivered file against the trained network; the floors were judged on the select split, where they chose."""
    from mtnas.score.score import score
    from mtnas.verify.verify import Primary, Subject, verify

    module = delivered.module(context.trained)
    image_BCHW, _ = context.split("report").batch(np.arange(min(16, len(context.split("report")))))
    subject = Subject(
        folder=context.run.stage("export"),
        float_model=context.run.stage("quantize") / "float.onnx",
        reference=module,
        image_BCHW=image_BCHW,
        primaries={
            name: Primary(task.primary.name, task.primary.higher_is_better) for name, task in context.tasks.items()
        },
    )
    with torch.inference_mode():
        return verify(
            subject, lambda forward: score(forward, context.tasks, context.split("report"), progress=context.progress)
        )


def _row(
    context: RunContext,
    name: str,
    network: Network,
    scores: Scores,
    costs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One network of the table: metrics on the report split, counted and measured costs."""
    counts = context.graph.counts(network.selection)
    primary = {
        task: {**spec.primary.to_json(), "metric": spec.primary.name, "value": scores[task][spec.primary.name]}
        for task, spec in context.tasks.items()
    }
    return {
        "name": name,
        "scores": scores,
        "primary": primary,
        "macs": counts.macs,
        "params": counts.params,
        "size_mb": costs["size_mb"]["value"],
        "latency_ms_p50": costs["latency_ms"],
        "latency_ms_p95": costs["latency_ms_p95"],
    }


def _pictures(context: RunContext, models: Mapping[str, bytes], folder: Path) -> list[dict[str, Any]]:
    """A few images of the report split, drawn by the seed."""
    from mtnas.verify.metrics import onnx_forward

    total = len(context.split("report"))
    indices = generator(context.job.seed, "pictures").choice(total, size=min(_PICTURES, total), replace=False)
    forwards = {name: onnx_forward(model) for name, model in models.items()}
    return write_pictures(context, forwards, sorted(int(i) for i in indices), folder)
