"""Stage 6: int8 for the device, checked node by node, and delivered only when it is faster and keeps the floors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.files import file_hash, write_bytes, write_json
from mtnas.stages.context import RunContext
from mtnas.stages.costs import file_costs
from mtnas.stages.gate import Gate, gated
from mtnas.stages.int8_profile import measure_int8
from mtnas.stages.network import Network
from mtnas.stages.scoring import score_file

if TYPE_CHECKING:
    import onnx

    from mtnas.measure.gate import Verdict
    from mtnas.quantize.check import Int8Report
    from mtnas.quantize.fallback import Goal, Quantized


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `float.onnx`, `int8.onnx`, `delivered.onnx`, `quantize.json`; `device-int8/` where int8 is delivered."""
    network = Network.load(context.run.stage("prune"), "delivered")
    folded = network.onnx(context.graph)
    float_model, fuse = fused(context, network, folded)
    models = {"float": float_model.SerializeToString()}
    scores = {"float": score_file(context, float_model, "select")}
    details: dict[str, Any] = {
        "dialect": context.job.quantize.dialect,
        "int8_nodes": 0,
        "float_nodes": [],
        "fuse": fuse.to_json(),
    }
    decision = ("float", "quantization is switched off")
    if context.job.quantize.enabled:
        quantized, report = _quantized(context, folded)
        models["int8"] = quantized.model.SerializeToString()
        scores["int8"] = score_file(context, quantized.model, "select")
        gate = gated("quantize", models["float"], models["int8"], context.job.device, context.progress)
        decision = decide(gate, quantized, report)
        if decision[0] == "int8":
            measure_int8(context, quantized.config, folder)
        details |= {**quantized.to_json(), **report.to_json(), "gate": gate.decided(decision[1]).to_json()}
    delivered, reason = decision
    for name, model in models.items():
        write_bytes(folder / f"{name}.onnx", model)
    write_bytes(folder / "delivered.onnx", models[delivered])
    write_json(
        folder / "quantize.json",
        {
            **details,
            "schema": "quantize/1",
            "scores": scores,
            "costs": file_costs(context, models),
            "delivered": delivered,
            "reason": reason,
        },
    )
    return {"delivered": file_hash(folder / "delivered.onnx"), "precision": delivered}


def _quantized(context: RunContext, float_model: onnx.ModelProto) -> tuple[Quantized, Int8Report]:
    """The int8 file; heads that lose too much go back to float one by one."""
    from mtnas.quantize.check import int8_report
    from mtnas.quantize.fallback import quantize_within
    from mtnas.quantize.ptq import float_nodes
    from mtnas.score.score import primary

    config = context.job.quantize
    batches = [image_BCHW.numpy() for image_BCHW in context.images("calibrate", config.images, config.batch_size)()]
    quantized = quantize_within(
        float_model,
        batches,
        config,
        goals=_goals(context),
        score=lambda model: primary(score_file(context, model, "select"), context.tasks),
        progress=context.progress,
    )
    excluded = float_nodes(float_model, quantized.config)
    report = int8_report(quantized.model, excluded)
    report.require_int8((*excluded, *report.without_kernel))
    return quantized, report


def _goals(context: RunContext) -> dict[str, Goal]:
    """Each task's direction, and its floor where the job sets one."""
    from mtnas.quantize.fallback import Goal

    floors = context.run.result("search", "search.json")["floors"]
    return {
        name: Goal(task.primary.higher_is_better, floors[name]["bound"] if name in floors else None)
        for name, task in context.tasks.items()
    }


def fused(context: RunContext, network: Network, folded: onnx.ModelProto) -> tuple[onnx.ModelProto, Gate]:
    """The float network with batch-norm folded into the layers before it, unless that is slower than without."""
    plain = network.onnx(context.graph, fold_bn=False)
    files = (plain.SerializeToString(), folded.SerializeToString())
    gate = gated("fuse", *files, context.job.device, context.progress)
    if gate.slower:
        return plain, gate.decided("batch-norm stays a layer of its own: folded, the network is slower")
    return folded, gate.decided("batch-norm is folded into the layers before it")


def decide(gate: Gate | Verdict, quantized: Quantized, report: Int8Report) -> tuple[str, str]:
    """Which file is delivered, and why in one sentence."""
    if not quantized.kept:
        return "float", f"int8 loses too much: {quantized.reason}"
    if gate.verdict != "faster":
        return "float", f"int8 is not faster here: {gate.text}"
    return "int8", f"int8 is faster: {gate.text}; {report.int8_nodes} nodes run as int8; {quantized.reason}"
