"""What a run depends on that lies in the user's own files: the code and weights of a network, the rules of a space.

A job only names them. An edited file must not go unnoticed: weights trained for one forward would be measured, pruned
and delivered with another.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.errors import ModelError
from mtnas.base.files import content_hash
from mtnas.space.rules import read_rules, shipped_rules
from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    from torch import nn


def own_inputs(context: RunContext, stage: str) -> dict[str, Any]:
    """Further inputs of a stage; empty where nothing is the user's own."""
    inputs: dict[str, Any] = {}
    if stage == "space" and context.job.space.rules not in shipped_rules():
        inputs["rules"] = {**read_rules(context.job.space.rules).to_json(), "description": ""}
    if context.job.model.factory:
        inputs["network"] = context.own_network
    return inputs


def own_network(context: RunContext) -> str:
    """Hash of the network that the job's factory makes.

    Raises `ModelError` when a second call makes other weights: no run of it could be continued.
    """
    from mtnas.stages.parts import make_model

    factory = context.job.model.factory
    first = network_hash(context.plain_model, factory)
    again = make_model(context.job, context.tasks, context.dataset.info, context.seed("init"))
    if network_hash(again, factory) != first:
        raise ModelError(
            "a factory that makes the same weights at every call",
            received="other weights at the second call",
            where=f"model.factory: {factory}",
            cure="draw them from torch's own generator, which is seeded for it, or seed yours inside the factory",
        )
    return first


def network_hash(model: nn.Module, factory: str) -> str:
    """Hash of initial weights and of the code in the files of the factory and of the network's classes.

    Comments and layout of the code do not count. Helpers in further files are not seen.
    """
    from mtnas.train.checkpoint import weights_hash

    names = {factory.partition(":")[0], *(type(module).__module__ for module in model.modules())}
    code = {name: source_hash(name) for name in sorted(names) if name.partition(".")[0] not in {"torch", "mtnas"}}
    return content_hash({"weights": weights_hash(model.state_dict()), "code": code})


def source_hash(module: str) -> str:
    """Hash of a loaded module's syntax; empty where it has no source."""
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if path.suffix != ".py" or not path.is_file():
        return ""
    return content_hash(ast.dump(ast.parse(path.read_bytes())))
