"""Build the network a job asks for, and check that it keeps the contract `image (B,C,H,W) -> {task: output}`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.errors import JobError, ModelError, raised_at, said
from mtnas.base.seeds import derive_seed
from mtnas.base.tables import lookup, nearest
from mtnas.encoders.base import Encoder
from mtnas.encoders.make import make_encoder
from mtnas.heads.make import make_head, make_joint_head
from mtnas.heads.model import MultiTaskNet
from mtnas.heads.table import JOINT_HEADS
from mtnas.heads.table import NONE as NO_VECTORS
from mtnas.heads.vectors import WithTaskVectors
from mtnas.tasks.table import TASKS
from mtnas.train.config import ModelConfig


def build_model(
    config: ModelConfig, targets: Mapping[str, tuple[str, int]], *, seed: int = 0, in_channels: int = 3
) -> nn.Module:
    """A new network; equal arguments give equal weights, and torch's default generator is left alone.

    Args:
        config: which network.
        targets: task name -> (task type, output channels), in output order.
        seed: of the initial weights.
        in_channels: channels of the image.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        if config.factory:
            return _from_factory(config)
        for task in targets:
            _check_task_name(task)
        encoder = make_encoder(
            config.encoder,
            width=config.width,
            depth=config.blocks,
            in_channels=in_channels,
            output_stride=config.output_stride,
            options=config.encoder_options,
            tasks=tuple(targets),
        )
        return with_decoders(encoder, config, targets)


def with_decoders(encoder: Encoder, config: ModelConfig, targets: Mapping[str, tuple[str, int]]) -> MultiTaskNet:
    """The network of an encoder and the decoders that a job asks for."""
    levels = [level.channels for level in encoder.levels]
    dense = {task: channels for task, (kind, channels) in targets.items() if is_dense(kind)}
    together = config.dense_head in JOINT_HEADS and bool(dense)
    joint = None
    if together:
        joint = make_joint_head(
            config.dense_head, level_channels=levels, channels=dense, width=config.head_width, convs=config.head_convs
        )
    heads: dict[str, nn.Module] = {}
    for task, (_, channels) in targets.items():
        if task in dense and together:
            continue
        name = config.dense_head if task in dense else config.image_head
        head = make_head(
            name, level_channels=levels, channels=channels, width=config.head_width, convs=config.head_convs
        )
        vectors = config.task_vectors
        heads[task] = head if vectors == NO_VECTORS else WithTaskVectors(head, levels, vectors)
    return MultiTaskNet(encoder, heads, joint, tuple(targets))


def check_outputs(model: nn.Module, image_BCHW: Tensor, targets: Mapping[str, tuple[str, int]]) -> None:
    """Raise `ModelError` unless the model answers every task in the right shape."""
    training = model.training
    try:
        with torch.no_grad():
            outputs = model.eval()(image_BCHW)
    except Exception as error:
        raise ModelError(
            "a model that runs on an image",
            received=said(error),
            where=f"{type(model).__name__} on {tuple(image_BCHW.shape)}, {raised_at(error)}",
            cure="give the factory the data's channels and image size",
        ) from error
    finally:
        model.train(training)
    if not isinstance(outputs, Mapping):
        raise ModelError(
            "a dict of tensors by task name",
            received=type(outputs).__name__,
            where=type(model).__name__,
            cure="return {task: tensor} from forward",
        )
    batch, _, rows, columns = image_BCHW.shape
    for task, (kind, channels) in targets.items():
        if task not in outputs:
            raise ModelError(
                f"an output named {task!r}, as the task",
                received=f"outputs {', '.join(sorted(map(str, outputs)))}",
                where=type(model).__name__,
                cure="name outputs as the targets of the data set, or take the task out of tasks",
            )
        wanted = (batch, channels, rows, columns) if is_dense(kind) else (batch, channels)
        received = tuple(getattr(outputs[task], "shape", ())) or type(outputs[task]).__name__
        if received != wanted:
            raise ModelError(
                f"output {task!r} of shape {wanted}",
                received=str(received),
                where=type(model).__name__,
                cure="dense outputs have the image's resolution; image-level outputs are (B, classes)",
            )


def is_dense(kind: str) -> bool:
    """Whether tasks of this type answer for every pixel."""
    return bool(lookup(kind, TASKS, "task type", "tasks").dense)


def _from_factory(config: ModelConfig) -> nn.Module:
    factory = _imported(config.factory)
    try:
        inspect.signature(factory).bind(**config.arguments)
    except TypeError as error:
        raise JobError(
            "a factory that takes the given arguments",
            received=str(error),
            where="model.arguments",
            cure=f"see the parameters of {config.factory}",
        ) from error
    except ValueError:  # a callable without a signature, from compiled code
        pass
    try:
        model = factory(**config.arguments)
    except Exception as error:
        raise ModelError(
            "a factory that returns an nn.Module",
            received=said(error),
            where=f"model.factory: {config.factory}, {raised_at(error)}",
            cure="mend the factory, or change model.arguments",
        ) from error
    if not isinstance(model, nn.Module):
        raise JobError(
            "a factory that returns an nn.Module", received=type(model).__name__, where="model.factory", cure=""
        )
    return model


def _imported(factory: str) -> Any:
    """The function that `package.module:function` names."""
    name, _, function = factory.partition(":")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise JobError(
                "a function that can be imported",
                received=str(error),
                where="model.factory",
                cure="install its package, or start with PYTHONPATH set to the folder that holds "
                f"{name.partition('.')[0]!r}",
            ) from error
        raise ModelError(
            "a module that can be imported",
            received=said(error),
            where=f"model.factory: {factory}, {raised_at(error)}",
            cure=f"mend it; `python -c 'import {name}'` shows all of the error",
        ) from error
    if not hasattr(module, function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise JobError(
            f"a function of {module.__file__}",
            received=repr(function),
            where="model.factory",
            cure=nearest(function, known),
        )
    return getattr(module, function)


def _check_task_name(task: str) -> None:
    if not task.isidentifier() or hasattr(nn.ModuleDict, task):
        raise JobError(
            "a task name made of letters, digits and _", received=repr(task), where="tasks", cure="rename it"
        )
