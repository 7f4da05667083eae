"""A trained network as the start of a supernet: any checkpoint whose names are the network's.

Files are safetensors, or what `torch.save` wrote, read with `weights_only=True`: tensors alone, never code. State
dicts are unwrapped from the dicts and freed from the prefixes that training loops put around them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mtnas.base.blocks import inside
from mtnas.base.errors import CheckpointError, said
from mtnas.base.files import file_hash
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.task_subset import Dropped
from mtnas.heads.model import MultiTaskNet
from mtnas.train.config import TrainConfig

#: keys under which training loops store a state dict
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
#: what wrappers put before every name
_PREFIXES = ("module.", "model.", "network.", "net.", "_orig_mod.")
#: counters that many files lack, and that nothing reads here
_OPTIONAL = ".num_batches_tracked"
_SHOWN = 6


def start_from(elastic: ElasticModel, config: TrainConfig) -> str:
    """Give the full network the weights of `config.start`, and sort its channels by importance.

    Statistics are void afterwards. Returns one line about what was loaded.

    Raises:
        CheckpointError: the file cannot be read, or its names and shapes are not the network's.
    """
    path = Path(config.start)
    own = elastic.model.state_dict()
    found = renamed(read_state(path), own, partial=config.start_partial)
    others = [name for name in found if name not in own and inside(name, _left_out(elastic.model, found))]
    state = {name: tensor for name, tensor in found.items() if name not in others}
    _check(state, own, str(path), partial=config.start_partial)
    elastic.load_state({**own, **state})
    elastic.sort_channels()
    elastic.weights_changed()
    numbers = sum(state[name].numel() for name in state)
    kept = [name for name in own if name not in state and not name.endswith(_OPTIONAL)]
    left = f"; {len(kept)} tensors keep their initial values, from {kept[0]} on" if kept else ""
    left += f"; {len(others)} tensors of tasks that are left out are not read, from {others[0]} on" if others else ""
    return f"started from {path}: {len(state)} tensors, {numbers / 1e6:.3f} M numbers{left}"


def start_hash(config: TrainConfig) -> str:
    """What tells one start from another: the hash of the file; empty without one."""
    return file_hash(_existing(Path(config.start))) if config.start else ""


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, by the file's own names without what all of them begin with.

    Raises `CheckpointError` when there is none.
    """
    _existing(path)
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            "a safetensors file, or a state dict that torch.save wrote",
            received="code beside tensors" if isinstance(error, UnpicklingError) else said(error),
            where=str(path),
            cure="save model.state_dict(), not the model; or take a copy that is not damaged",
        ) from error
    return {name: tensor for name, tensor in _unwrapped(found, path).items() if isinstance(tensor, Tensor)}


def renamed(state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, partial: bool) -> dict[str, Tensor]:
    """The state under the network's names: prefixes of all names are removed, or one of the network's put before."""
    found = dict(state)
    while found and not set(found) & set(own):
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in found)), "")
        if not prefix:
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if partial and found and not set(found) & set(own):
        for part in dict.fromkeys(name.partition(".")[0] for name in own):
            inner = {f"{part}.{name}": tensor for name, tensor in found.items()}
            if set(inner) <= set(own):
                return inner
    return found


def _left_out(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Modules of the tasks that the network does not answer: those dropped from it, and decoders of further tasks."""
    dropped = [name for name, layer in model.named_modules() if isinstance(layer, Dropped)]
    if isinstance(model, MultiTaskNet):
        heads = {".".join(name.split(".")[:2]) for name in names if name.startswith("heads.")}
        dropped += sorted(heads - {f"heads.{task}" for task in model.heads})
    return dropped


def _unwrapped(found: object, path: Path) -> Mapping[str, object]:
    """The dict of tensors inside the dicts that training loops write."""
    if isinstance(found, Mapping):
        if any(isinstance(value, Tensor) for value in found.values()):
            return found
        for key in _WRAPPERS:
            if isinstance(found.get(key), Mapping):
                return _unwrapped(found[key], path)
    received = f"a dict with {', '.join(map(str, list(found)[:_SHOWN]))}" if isinstance(found, Mapping) else ""
    raise CheckpointError(
        "a state dict: tensors by name",
        received=received or type(found).__name__,
        where=str(path),
        cure="save model.state_dict()",
    )


def _check(state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str, *, partial: bool) -> None:
    """Raise `CheckpointError` unless names and shapes are the network's; with `partial`, some may be missing."""
    missing = [name for name in own if name not in state and not name.endswith(_OPTIONAL)]
    unexpected = [name for name in state if name not in own]
    shaped = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    ]
    spoilt = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    told = [
        _listed("with NaN or infinity", spoilt),
        _listed("missing", [] if partial and state else missing),
        _listed("unexpected", [f"{name}{_nearest(name, missing)}" for name in unexpected]),
        _listed("of another shape", shaped),
    ]
    if any(told):
        raise CheckpointError(
            f"the {len(own)} tensors of this network",
            received="; ".join(text for text in told if text),
            where=where,
            cure="take a checkpoint from before the training diverged"
            if spoilt
            else "build the network that the checkpoint was saved from"
            + ("" if partial or unexpected or shaped else ", or set train.start_partial: true to take what is there"),
        )


def _listed(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}" if names else ""


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f" ({close[0]}?)" if close else ""


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(
            "a checkpoint file", received="no such file", where=f"train.start: {path}", cure="check the path"
        )
    return path
