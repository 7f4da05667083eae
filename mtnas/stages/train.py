"""Stage 2: train the supernet once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas.base.files import file_hash, write_json
from mtnas.base.groups import Selection
from mtnas.stages.context import RunContext
from mtnas.stages.scoring import score_selection


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `weights.safetensors`, `curves.jsonl`, `train.json`."""
    from mtnas.train.loop import train

    elastic = context.elastic
    trained = train(
        elastic,
        context.tasks,
        context.split("train"),
        context.job.train,
        folder,
        seed=context.seed("train"),
        progress=context.progress,
    )
    elastic.weights_changed()
    smallest = elastic.selection(elastic.space.smallest)
    result = {
        **trained.to_json(),
        "scores": {
            "largest": score_selection(context, Selection.of({})),
            "smallest": score_selection(context, smallest),
        },
    }
    result["schema"] = "train/1"
    write_json(folder / "train.json", result)
    return {"weights": file_hash(folder / "weights.safetensors")}
