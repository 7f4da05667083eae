"""Checkpoints: one safetensors file with its facts as JSON in the header, written atomically, checked when read.

One file, not two, so that no crash can leave weights and facts of different steps. The header also holds the
*identity* of the run (settings, space, data, tasks, network, seed), and a hash of the tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mtnas.base.errors import CheckpointError
from mtnas.base.files import canonical_json, content_hash, write_bytes

SCHEMA = "checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps.

    Args:
        step: steps done.
        facts: JSON values beside the tensors, such as the arithmetic mode.
        tensors: weights, optimizer state.
    """

    step: int
    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint, identity: Mapping[str, Any]) -> None:
    """Write it so that either the old file or the new one is there after a crash."""
    tensors = plain(checkpoint.tensors)
    header = {
        "schema": SCHEMA,
        "step": checkpoint.step,
        "facts": checkpoint.facts,
        "identity": {name: content_hash(value) for name, value in identity.items()},
        "digest": _digest(tensors),
    }
    write_bytes(path, save(tensors, metadata={"mtnas": canonical_json(header)}))


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint of exactly this run, or None when there is none yet.

    Raises `CheckpointError` when the file is damaged, or was written by a run with another identity.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as stream:
            header = json.loads((stream.metadata() or {})["mtnas"])
        tensors = load_file(path)
        step, facts, found = int(header["step"]), dict(header["facts"]), dict(header["identity"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, str(error)) from error
    if header.get("schema") != SCHEMA or _digest(tensors) != header.get("digest"):
        raise _damaged(path, "the hash does not fit" if header.get("schema") == SCHEMA else str(header.get("schema")))
    wanted = {name: content_hash(value) for name, value in identity.items()}
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise CheckpointError(
            "a checkpoint of this run",
            received=f"another {', another '.join(other)}",
            where=str(path),
            cure="use the same job, data and network as before to continue, or a new --out to start afresh",
        )
    return Checkpoint(step, facts, tensors)


def save_weights(path: Path, state: Mapping[str, Tensor]) -> str:
    """Write weights atomically; returns the hash of the file's bytes."""
    data = save(plain(state), metadata={"format": "pt"})
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_weights(path: Path) -> dict[str, Tensor]:
    """Inverse of `save_weights`."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "a weights file", received=str(error), where=str(path), cure="run the stage that writes it"
        ) from error


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory, as the format wants them."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names and values."""
    return _digest(plain(tensors))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        "an intact checkpoint",
        received=reason,
        where=str(path),
        cure="delete this file to train from the start, or restore it from a copy",
    )
