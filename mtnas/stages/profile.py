"""Stage 3: measure sub-networks on the device and fit the latency predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.files import write_bytes, write_json
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.stages.context import RunContext
from mtnas.stages.costs import Cost, counted_costs, limits_energy, limits_memory, measured_energy, measured_memory
from mtnas.stages.part_costs import write_parts
from mtnas.stages.steps import STAIRS

if TYPE_CHECKING:
    from mtnas.measure.profile import Profile

#: networks offered for each one that is measured, so that the spread over sizes can be even
_POOL_PER_SAMPLE = 8


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `device/` (description, measurements, predictor), `profile.json` and `parts.json` of the full network."""
    profile = context.profile = measured_profile(context, folder)
    result = profile.to_json()
    if limits_memory(context):
        result["memory_mb"] = measured_memory(context, context.cut(Selection.of({}))).to_json()
    if limits_energy(context):
        result["energy_mj"] = measured_energy(context, context.cut(Selection.of({}))).to_json()
    write_json(folder / "profile.json", result)
    write_parts(context, context.cut(Selection.of({})), folder / "parts.json")
    stairs = context.run.stage("space") / STAIRS
    if stairs.exists():
        write_bytes(folder / "device" / STAIRS, stairs.read_bytes())
    if profile.doubt:
        context.progress.note(f"the predictor does not steer: {profile.doubt}; candidates are measured instead")
    return {"created": profile.created, "points": [point.record.p50.value for point in profile.points]}


def measured_profile(context: RunContext, folder: Path) -> Profile:
    """Measurements and predictor of the context's graph, in `device/`; what is there already is not measured again."""
    from mtnas.measure.profile import build_profile

    return build_profile(
        context.timing_model,
        context.graph.features,
        pool(context),
        context.job.device,
        folder / "device",
        names=context.graph.feature_names,
        progress=context.progress,
    )


def pool(context: RunContext) -> list[Selection]:
    """Sub-networks to choose from: the extremes, every uniform width, and random ones whose widths lean one way."""
    space, rng = context.elastic.space, generator(context.job.seed, "profile", "pool")
    archs = [space.largest, space.smallest]
    for _ in range(_POOL_PER_SAMPLE * context.job.device.samples):
        lean = rng.beta(0.8, 0.8)  # uniform draws of every choice alone would crowd in the middle
        indices = [round(float(_leaning(lean, rng)) * (len(c.options) - 1)) for c in space.choices]
        archs.append(type(archs[0])(tuple((c.name, c.options[i]) for c, i in zip(space.choices, indices, strict=True))))
    return [context.elastic.selection(arch) for arch in archs]


def _leaning(lean: float, rng: Any) -> float:
    """A number in 0..1 near `lean`."""
    return min(1.0, max(0.0, lean + 0.3 * float(rng.standard_normal())))


def full_costs(context: RunContext) -> dict[str, Cost]:
    """The unpruned network's costs, as counted and as measured by the profile."""
    from mtnas.search.trial import cost_from_json

    record = context.run.result("profile", "profile.json")
    largest = context.profile.extreme("largest").record
    latency = largest.statistic(context.job.device.statistic)
    costs: dict[str, Cost] = {**counted_costs(context, Selection.of({})), "latency_ms": latency}
    for name in ("memory_mb", "energy_mj"):
        if name in record:
            costs[name] = cost_from_json(record[name])
    return costs
