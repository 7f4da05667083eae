"""Stage 5: prune the chosen network's channels globally, fine-tune it, keep it only when it is not slower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtnas.base.files import file_hash, write_json
from mtnas.base.groups import Selection, size_text
from mtnas.prune.config import PruneConfig
from mtnas.prune.plan import Judgement, PrunePlan, PruneTools, plan_pruning
from mtnas.stages.context import RunContext
from mtnas.stages.costs import Cost, measured_costs
from mtnas.stages.evaluate import Evaluator
from mtnas.stages.gate import gated
from mtnas.stages.network import Network
from mtnas.stages.scoring import Scores, score_module
from mtnas.stages.search import chosen_selection

if TYPE_CHECKING:
    from torch import Tensor

    from mtnas.train.config import FinetuneConfig


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `chosen`, `pruned` and `delivered` networks and `prune.json`."""
    chosen_at = chosen_selection(context)
    chosen = Network.of_elastic("chosen", chosen_at, context.trained)
    chosen.save(folder)
    plan = _plan(context, chosen_at, folder)
    pruned, curves = _finetuned(context, plan.selection, folder)
    pruned.save(folder)
    networks = {"chosen": chosen, "pruned": pruned}
    costs = measured_costs(context, {name: network.selection for name, network in networks.items()})
    scores = {name: score_module(context, net.module(context.trained), "select") for name, net in networks.items()}
    kept, gate = _keep(context, networks, scores)
    Network("delivered", networks[kept].selection, networks[kept].state).save(folder)
    result = {
        "schema": "prune/1",
        "before": {"scores": scores["chosen"], "costs": _json(costs["chosen"])},
        "after": {"scores": scores["pruned"], "costs": _json(costs["pruned"])},
        "widths": _widths(context, chosen_at, plan.selection),
        "size": size_text(chosen_at.size) if chosen_at.size else None,
        "steps": [step.to_json() for step in plan.steps],
        "reached": plan.reached,
        "stopped_because": plan.stopped_because,
        "gate": gate,
        "kept": kept,
        "finetune": curves,
    }
    write_json(folder / "prune.json", result)
    return {"delivered": file_hash(folder / "delivered.safetensors"), "kept": kept}


def _plan(context: RunContext, start: Selection, folder: Path) -> PrunePlan:
    """Which units go; nothing when pruning is switched off."""
    config = context.job.prune
    if not config.enabled:
        return PrunePlan(start, (), True, "pruning is switched off")
    evaluator = Evaluator(context)
    tools = PruneTools(
        importance=lambda selection: _importance(context, config, selection),
        predict_ms=lambda selection: evaluator.predict(selection).value,
        judge=lambda before, after: _judge(context, before, after),
    )
    return plan_pruning(context.elastic.groups, start, tools, config, folder / "steps.jsonl", context.progress)


def _importance(context: RunContext, config: PruneConfig, selection: Selection) -> Mapping[str, np.ndarray]:
    """The configured criterion, on images of the calibrate split."""
    from mtnas.prune.importance import ImportanceInput, importance_of

    tasks = context.tasks

    def losses(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: task.loss(outputs[name], targets[name]) for name, task in tasks.items()}

    def batches() -> Iterable[tuple[Tensor, Mapping[str, Tensor]]]:
        return context.split("calibrate").batches(config.batch_size, limit=config.images)

    given = ImportanceInput(
        context.trained, selection, losses, batches, dict(context.job.preference), context.seed("prune")
    )
    return importance_of(config.criterion, given)


def _judge(context: RunContext, before: Selection, after: Selection) -> Judgement:
    """Measure both networks interleaved."""
    from mtnas.measure.gate import never_slower

    verdict = never_slower(context.cut(before), context.cut(after), context.job.device)
    return Judgement(verdict.after.value, verdict.ratio, verdict.low, verdict.high, verdict.resolution_percent)


def _finetuned(context: RunContext, selection: Selection, folder: Path) -> tuple[Network, dict[str, Any]]:
    """The cut network after training on, with the full network as its teacher."""
    from mtnas.train.finetune import finetune

    elastic = context.trained
    student = elastic.extract(selection)
    config = as_trained(context)
    if config.epochs == 0:
        return Network.of_module("pruned", selection, student), {"epochs": 0}
    result = finetune(
        student,
        context.tasks,
        context.split("train"),
        config,
        folder / "finetune",
        teacher=elastic.extract(Selection.of({})),
        seed=context.seed("finetune"),
        progress=context.progress,
    )
    return Network.of_module("pruned", selection, student), result.to_json()


def as_trained(context: RunContext) -> FinetuneConfig:
    """The fine-tuning settings; where they leave the arithmetic open, the mode that training found fastest."""
    config = context.job.finetune
    precision, layout = context.run.result("train", "train.json")["mode"].split(", ")
    return replace(
        config,
        precision=precision if config.precision == "auto" else config.precision,
        channels_last=("always" if layout == "channels_last" else "never")
        if config.channels_last == "auto"
        else config.channels_last,
    )


def _keep(
    context: RunContext, networks: Mapping[str, Network], scores: Mapping[str, Scores]
) -> tuple[str, dict[str, Any]]:
    """Pruned unless it is slower or breaks a floor that the chosen network keeps."""
    before, after = (networks[name].onnx(context.graph).SerializeToString() for name in ("chosen", "pruned"))
    gate = gated("prune", before, after, context.job.device, context.progress)
    missed = missed_floors(context, scores["pruned"])
    kept, decision = "pruned", "the pruned network is delivered"
    if gate.slower:
        kept, decision = "chosen", "the pruned network is slower: the chosen one is delivered"
    elif missed and not missed_floors(context, scores["chosen"]):
        kept, decision = "chosen", f"the pruned network misses the floor of {', '.join(missed)}"
    return kept, gate.decided(decision).to_json()


def missed_floors(context: RunContext, scores: Scores) -> list[str]:
    """Tasks below their floor on the select split, such as `depth 0.71 m (floor 0.68)`."""
    floors = context.run.result("search", "search.json")["floors"]
    found = []
    for task, floor in floors.items():
        value, higher = scores[task][floor["metric"]], context.tasks[task].primary.higher_is_better
        if (value < floor["bound"]) if higher else (value > floor["bound"]):
            found.append(f"{task} {value:.4g} (floor {floor['bound']:.4g})")
    return found


def _widths(context: RunContext, chosen: Selection, pruned: Selection) -> dict[str, dict[str, int]]:
    groups = context.elastic.groups
    at_chosen, at_pruned = chosen.widths(groups), pruned.widths(groups)
    return {g.name: {"full": g.size, "chosen": at_chosen[g.name], "pruned": at_pruned[g.name]} for g in groups}


def _json(costs: Mapping[str, Cost]) -> dict[str, Any]:
    return {name: cost.to_json() for name, cost in costs.items()}
