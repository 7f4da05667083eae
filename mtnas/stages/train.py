"""Stage 2: train the supernet once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas.base.files import file_hash, write_json
from mtnas.base.groups import Selection
from mtnas.data.config import SPLITS
from mtnas.stages.context import RunContext
from mtnas.stages.scoring import score_selection
from mtnas.stages.together import train_supernet


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `weights.safetensors`, `curves.jsonl`, `train.json`."""
    for split in SPLITS:  # a damaged file shows now: once mended it is other data, and all is trained again
        context.split(split)
    context.before_training()
    trained = train_supernet(context)
    elastic = context.elastic
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
