"""Make the feature distillation of a training: find the features, and check that the form can compare them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from mtnas.base.blocks import inside
from mtnas.base.errors import ModelError
from mtnas.base.groups import Selection
from mtnas.base.tables import lookup
from mtnas.elastic.features import FeatureMap, feature_maps, trace_channels
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.trunk import check_modules, find_trunk, tensors_in, watching
from mtnas.heads.model import MultiTaskNet
from mtnas.train.config import TrainConfig
from mtnas.train.features.base import FeatureForm
from mtnas.train.features.table import AUTO, BEST, FEATURE_FORMS, NONE

_WHERE = "train.features"


class Features:
    """The features of a training, and how they are compared.

    Args:
        elastic: the network.
        modules: whose outputs are the features.
        form: compares them.
    """

    def __init__(self, elastic: ElasticModel, modules: Sequence[str], form: FeatureForm) -> None:
        self.elastic, self.modules, self.form = elastic, tuple(modules), form

    def watching(self) -> AbstractContextManager[dict[str, list[Any]]]:
        """Inside, passes leave their features behind; see `tensors`."""
        return watching(self.elastic.model, self.modules)

    def tensors(self, found: Mapping[str, Sequence[Any]]) -> list[Tensor]:
        """The features of one pass, in the order of the maps."""
        return [tensor for name in self.modules for output in found[name] for tensor in tensors_in(output)]

    def distance(self, students: Sequence[Tensor], teachers: Sequence[Tensor], selection: Selection) -> Tensor:
        """How far a sub-network's features are from the largest one's, which get no gradient."""
        return self.form(students, teachers, [found.kept(selection) for found in self.form.maps])


def make_features(elastic: ElasticModel, config: TrainConfig) -> Features | None:
    """The feature distillation that the settings ask for; None for none, and where `auto` finds nothing to compare.

    Raises `ModelError` when a form is asked for and no shared part is found, or the form cannot compare its features.
    """
    if config.feature_distill == NONE or config.takes_turns:
        return None
    if config.feature_distill != AUTO:
        return _features(elastic, config.features, config.feature_distill)
    try:
        return _features(elastic, config.features, BEST)
    except ModelError:
        if config.features:
            raise
        return None


def _features(elastic: ElasticModel, named: Sequence[str], form: str) -> Features:
    modules = feature_modules(elastic, named)
    kind: type[FeatureForm] = lookup(form, FEATURE_FORMS, "form", "train.feature_distill")
    maps = trace_channels(elastic, modules) if kind.needs_channels else feature_maps(elastic, modules)
    _check(maps, kind, form)
    widths = {
        choice.name: tuple(int(option) for option in choice.options)
        for choice in elastic.space.choices
        if choice.kind == "width"
    }
    return Features(elastic, modules, kind(maps, widths))


def feature_modules(elastic: ElasticModel, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The modules whose outputs the tasks' own parts read: named, our encoder, or found in the network.

    Raises `ModelError` when there are none, or a named one cannot serve.
    """
    if named:
        check_modules(elastic.model, named, _WHERE)
        for name in named:
            if hidden := [block for block in elastic.skippable if name != block and inside(name, [block])]:
                raise ModelError(
                    "modules that run in every sub-network",
                    received=f"{name} lies inside {hidden[0]}, which may be left out",
                    where=_WHERE,
                    cure=f"name {hidden[0]} instead",
                )
        return tuple(named)
    if isinstance(elastic.model, MultiTaskNet):
        return ("encoder",)
    network = copy.deepcopy(elastic.model).requires_grad_(True)
    found = find_trunk(network, elastic.example.to(next(network.parameters()).device), elastic.parameter_owners)
    if not found:
        raise ModelError(
            "a shared part whose end is the output of a module",
            received="none found: no module that runs once, serves several tasks and is read by one task's own part",
            where="train.feature_distill",
            cure="name the modules in train.features, or set train.feature_distill: none",
        )
    return found


def _check(maps: Sequence[FeatureMap], kind: type[FeatureForm], form: str) -> None:
    if not maps:
        raise ModelError("modules that return tensors", received="no tensor", where=_WHERE, cure="name other modules")
    for found in maps:
        if len(found.shape) not in (2, 3, 4):
            raise ModelError(
                "features (B,C,H,W), (B,N,C) or (B,C)",
                received=f"shape {found.shape}",
                where=f"feature {found.name}",
                cure="name other modules in train.features",
            )
        if kind.needs_channels and found.refused:
            raise ModelError(
                f"features whose kept channels are known, for feature_distill: {form}",
                received=found.refused,
                where=f"feature {found.name}",
                cure="use attention or gram, or name other modules in train.features",
            )
        if kind.needs_positions and positions(found) < 2:
            raise ModelError(
                f"features with several positions, for feature_distill: {form}",
                received=f"shape {found.shape}",
                where=f"feature {found.name}",
                cure="use slice or project, or name other modules in train.features",
            )


def positions(found: FeatureMap) -> int:
    """Positions of one image."""
    if len(found.shape) == 4:
        return found.shape[2] * found.shape[3]
    return found.shape[1] if len(found.shape) == 3 else 1
