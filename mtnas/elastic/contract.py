"""The model contract `image (B,C,H,W) -> dict[task, Tensor]`, checked on one example."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtnas.base.errors import ModelError, said

_CURE = 'return raw outputs by task name, such as {"depth": self.depth(x)}'


def check_example(example_inputs: Tensor) -> None:
    """Raise `ModelError` unless the example is a float batch (B,C,H,W)."""
    if not isinstance(example_inputs, Tensor):
        received = type(example_inputs).__name__
    elif example_inputs.ndim != 4 or not example_inputs.is_floating_point() or not example_inputs.shape[0]:
        received = f"{example_inputs.dtype} {tuple(example_inputs.shape)}"
    else:
        return
    raise ModelError(
        "one float image batch (B,C,H,W) as the example input",
        received=received,
        where="make_elastic",
        cure="pass a tensor such as torch.randn(2, 3, 64, 64)",
    )


def check_outputs(outputs: object) -> dict[str, Tensor]:
    """The outputs as a dict; raise `ModelError` unless it is a non-empty dict of float tensors by name."""
    if not isinstance(outputs, dict) or not outputs:
        raise ModelError("a dict of tensors by task name", received=type(outputs).__name__, where="model", cure=_CURE)
    for task, output in outputs.items():
        if not isinstance(task, str):
            raise ModelError("task names as text", received=repr(task), where="model", cure=_CURE)
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 2:
            received = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(
                "a float tensor (B, ...) for every task", received=received, where=f"output {task!r}", cure=_CURE
            )
    return dict(outputs)


def try_model(model: nn.Module, example_inputs: Tensor) -> dict[str, Tensor]:
    """Run the model once with gradients; anything that goes wrong becomes a `ModelError`."""
    try:
        with torch.enable_grad():
            outputs = model(example_inputs)
    except Exception as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            "a model that runs on the example input",
            received=said(error),
            where="make_elastic",
            cure=f"call model(example_inputs) yourself; the example has shape {tuple(example_inputs.shape)}",
        ) from error
    named = check_outputs(outputs)
    for task, output in named.items():
        if not output.requires_grad:
            raise ModelError(
                "outputs that depend on the model's parameters by gradient",
                received="an output without gradient",
                where=f"output {task!r}",
                cure="remove torch.no_grad(), detach() and argmax from the forward; return raw outputs",
            )
    return named
