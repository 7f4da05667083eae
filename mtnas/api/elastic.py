"""`mtnas.make_elastic` and `mtnas.only_tasks`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from mtnas.elastic import model as room
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.task_subset import only_tasks as only_tasks
from mtnas.space.rules import SpaceRules, read_rules


def make_elastic(
    model: nn.Module,
    example_inputs: Tensor,
    *,
    round_to: int = 8,
    ignored_layers: Sequence[str | nn.Module] = (),
    rules: SpaceRules | str | Path | None = None,
    blocks: Sequence[str] = (),
    prove: bool = True,
) -> ElasticModel:
    """Find, prove and offer the channel groups of any network `image (B,C,H,W) -> dict[task, Tensor]`.

    The model is copied; the caller's stays as it is. Channels are sorted by importance (L1), which keeps the function
    at full width and makes a narrower width keep the strongest ones; `elastic.sort_channels(importance)` sorts by
    another importance.

    Args:
        model: any module that keeps the contract.
        example_inputs: normalised images (B,C,H,W), float32, that it can run; their size is the size it is measured at.
        round_to: channels of every width are multiples of this; 16 suits most CPUs, 8 is finer.
        ignored_layers: modules, dotted names or globs whose output channels must stay.
        rules: which widths the groups may have: a name in `search_spaces/`, a YAML file, or `SpaceRules`; by default a
            quarter, a half, three quarters and all. With depth in the rules, blocks that only add to their input may
            be left out as well.
        blocks: dotted names of the blocks that may be left out; by default all that the rules allow.
        prove: test every group by cutting it (a few forward passes); without, links are believed.

    Raises:
        ModelError: the model breaks the contract, or nothing in it may shrink.
        SpaceError: rules that cannot be read.
    """
    known = rules if rules is None or isinstance(rules, SpaceRules) else read_rules(str(rules))
    elastic = room.make_elastic(
        model,
        example_inputs,
        rules=known,
        round_to=round_to,
        ignored_layers=ignored_layers,
        blocks=blocks,
        prove=prove,
    )
    elastic.sort_channels()
    return elastic
