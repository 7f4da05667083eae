"""What a stage depends on, as one hash: its part of the job, the data, the code's version, earlier results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.files import content_hash, file_hash
from mtnas.job.stages import BEFORE, stage_inputs
from mtnas.stages.context import RunContext
from mtnas.stages.own_inputs import own_inputs
from mtnas.stages.steps import step_inputs


def inputs_hash(context: RunContext, stage: str) -> str:
    """Equal hashes: the stage would do the same work again. The stages before it must be finished."""
    return content_hash(
        {
            "stage": stage,
            "mtnas": __version__,
            "job": stage_inputs(context.job, stage),
            "step": step_inputs(context) if stage == "space" else "",
            **copy_inputs(context, stage),
            **start_inputs(context, stage),
            **own_inputs(context, stage),
            "data": "" if stage in {"space", "profile"} else context.data_fingerprint,
            "before": {earlier: context.run.result_hash(earlier) for earlier in BEFORE[stage]},
        }
    )


def start_inputs(context: RunContext, stage: str) -> dict[str, Any]:
    """The checkpoint that a training starts from; the job holds its path alone."""
    start = context.job.train.start
    return {"start": file_hash(Path(start))} if stage == "train" and start else {}


def copy_inputs(context: RunContext, stage: str) -> dict[str, Any]:
    """What shapes the timing copies of an int8 device, which its profile measures."""
    if stage != "profile" or context.precision != "int8":
        return {}
    settings = context.job.quantize
    names = ("dialect", "float_heads", "float_branches", "float_nodes", "float_upsampling", "seven_bit_weights")
    return {"copies": [context.precision, *(getattr(settings, name) for name in names)]}
