"""`mtnas.configure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtnas.api.data import Tasks, make_tasks
from mtnas.api.given import Out
from mtnas.api.known import learn
from mtnas.api.profiling import DeviceProfile
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.elastic.model import ElasticModel
from mtnas.score.config import ScoreConfig
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Bounds, Configured, Wish


def configure(
    elastic: ElasticModel,
    tasks: Tasks,
    data: Dataset,
    profile: DeviceProfile | None = None,
    *,
    budget: Bounds | None = None,
    preference: Mapping[str, float] | None = None,
    floors: Bounds | None = None,
    config: ConfigureConfig | None = None,
    score: ScoreConfig | None = None,
    out: Out = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Configured:
    """Go from a budget and a preference straight to one network of a trained elastic model.

    Preferred tasks get larger decoders; the shared encoder is searched in what is left of the budget, for the best
    preferred score. Nothing is trained. Networks are scored on the data's `select` split with batch-norm statistics
    from `calibrate`; latency is predicted by the profile, the other costs are counted. `elastic.extract(configured)`
    takes the network out, and `elastic.configure(budget=..., preference=...)` asks again.

    Args:
        elastic: trained, or made from a trained network.
        tasks: names of targets, tasks by name, or None for every output that is a target of the data.
        data: its splits `select` and `calibrate` are used.
        profile: from `mtnas.profile` of this elastic model, the last one when not given; without any, only counted
            costs can be limited.
        budget: hard limits, absolute or a percent of the unpruned network: `{"latency_ms": "50%", "size_mb": 2.0}`.
        preference: task -> weight, 1 where silent.
        floors: the worst score of a task, absolute or relative to the unpruned network: `{"depth": "-3%"}`.
        config: how to search the encoder: greedy, or a strategy such as nsga2.
        score: images behind a score.
        out: folder for the scores of networks; no later call, nor the same after an interruption, evaluates one twice.
        seed: of a strategy; the greedy search has no chance in it.
        progress: shows a bar.

    Returns:
        `.arch`, `.costs` (predicted or counted), `.scores`, `.full_scores`, `.evaluations`.

    Raises:
        Infeasible: no network was found that keeps the budget; names the limit and the cheapest way out.
        FloorMissed: even the unpruned network is below a floor.
        JobError: unknown tasks, limits or strategies, or a profile of another model.
    """
    found = make_tasks(tasks, data, elastic.tasks)
    given: dict[str, Any] = {"profile": profile, "score": score}
    known = learn(elastic, tasks=found, data=data, **{name: part for name, part in given.items() if part is not None})
    wish = Wish(budget or {}, preference or {}, floors or {})
    return known.find(elastic, wish, config or ConfigureConfig(), out, seed, progress)
