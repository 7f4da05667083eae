"""One concrete network between two stages: which units it keeps, and its own weights and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtnas.base.errors import CheckpointError
from mtnas.base.files import read_json, write_bytes, write_json
from mtnas.base.groups import Selection

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from mtnas.elastic.model import ElasticModel
    from mtnas.graph.elastic_graph import ElasticGraph

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Network:
    """A named sub-network.

    Args:
        name: `full`, `chosen`, `pruned`.
        selection: kept units of every group.
        state: parameters and buffers by name, in the sub-network's own shapes.
    """

    name: str
    selection: Selection
    state: Mapping[str, np.ndarray]

    @staticmethod
    def of_module(name: str, selection: Selection, module: nn.Module) -> Network:
        state = {key: tensor.detach().cpu().numpy().copy() for key, tensor in module.state_dict().items()}
        return Network(name, selection, state)

    @staticmethod
    def of_elastic(name: str, selection: Selection, elastic: ElasticModel) -> Network:
        """Extract from the elastic model, statistics re-estimated."""
        return Network.of_module(name, selection, elastic.extract(selection))

    def module(self, elastic: ElasticModel) -> nn.Module:
        """A plain torch module with exactly these weights, in eval mode."""
        import torch

        statistics = {k: torch.from_numpy(v.copy()) for k, v in self.state.items() if k.endswith(_STATISTICS)}
        module = elastic.extract(self.selection, statistics=statistics)
        module.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in self.state.items()})
        return module.eval()

    def onnx(self, graph: ElasticGraph, *, fold_bn: bool = True) -> onnx.ModelProto:
        """Cut from the elastic graph with these weights; batch-norm is folded unless told otherwise."""
        statistics = {key: value for key, value in self.state.items() if key.endswith(_STATISTICS)}
        return graph.cut(self.selection, state=self.state, statistics=statistics, fold_bn=fold_bn)

    def save(self, folder: Path) -> None:
        """`<name>.safetensors` and `<name>.json`, no pickle."""
        from safetensors.numpy import save

        write_bytes(
            folder / f"{self.name}.safetensors", save({k: np.ascontiguousarray(v) for k, v in self.state.items()})
        )
        write_json(
            folder / f"{self.name}.json",
            {"schema": "network/1", "name": self.name, "selection": self.selection.to_json()},
        )

    @staticmethod
    def load(folder: Path, name: str) -> Network:
        """Inverse of `save`; raises `CheckpointError` when a file is missing or torn."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        record = read_json(folder / f"{name}.json", schema="network/1")
        path = folder / f"{name}.safetensors"
        try:
            state = load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                "the weights of a network",
                received=str(error),
                where=str(path),
                cure="delete this stage's folder; the same command makes it again",
            ) from error
        return Network(name, Selection.from_json(record["selection"]), state)
