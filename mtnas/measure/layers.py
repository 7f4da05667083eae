"""Time of each layer on a configured device, as its runtime executes it; apart from latency, which it would disturb."""

from __future__ import annotations

from mtnas.base.progress import Progress, Silent
from mtnas.measure.config import MeasureConfig
from mtnas.measure.reach.base import Model, events, settings_of
from mtnas.measure.reach.open import open_reach
from mtnas.measure.runtimes.base import LayerTime


def layer_times(
    model: Model, config: MeasureConfig, *, runs: int = 20, progress: Progress | None = None
) -> tuple[LayerTime, ...]:
    """Layers in order of execution, each with the median of `runs` runs in ms; fused layers stay fused.

    Their sum is more than the network's latency: reading the clock around a layer takes time as well.
    """
    progress = progress or Silent()
    job = {"kind": "layers", "measured": ["model"], "runs": runs, **settings_of(config)}
    with open_reach(config, "layers", progress) as reach, progress.task("layers", 1) as bar:
        found = events(list(reach.run(job, {"model": model})), "layers")["model"]
        bar.advance()
    return tuple(LayerTime(item["name"], item["kind"], item["ms"], tuple(item["outputs"])) for item in found["layers"])
