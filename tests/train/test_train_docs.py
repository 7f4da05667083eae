"""The page about training names every option, every form, and the right defaults."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from mtnas.elastic.model import make_elastic
from mtnas.train.build import build_model
from mtnas.train.config import ModelConfig, TrainConfig
from mtnas.train.cost import step_cost
from mtnas.train.features.table import FEATURE_FORMS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()


@pytest.mark.parametrize("name", [field.name for field in fields(TrainConfig)])
def test_every_option_is_told(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", FEATURE_FORMS)
def test_every_form_is_told(name: str) -> None:
    assert f"| `{name}` |" in PAGE


def test_defaults_of_one_option_rows_are_those_of_the_settings() -> None:
    """Rows `| name | default |` with one option each; words stand for what is empty."""
    words = {"": ("none", "found"), (): ("found",)}
    for field in fields(TrainConfig):
        row = next((line for line in PAGE.splitlines() if line.startswith(f"| `{field.name}` | ")), "")
        if row:
            told = row.split("|")[2].strip()
            assert told in (_written(field.default), *words.get(field.default, ())), field.name


def test_the_table_of_costs_is_what_is_counted() -> None:
    """Every row, on the job's default network with three dense tasks, several networks a step."""
    kinds = {"segmentation": ("segmentation", 13), "depth": ("depth", 1), "normals": ("normals", 3)}
    elastic = make_elastic(build_model(ModelConfig(), kinds), torch.zeros(1, 3, 32, 32), prove=False)
    table = PAGE.partition("| options | networks |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert rows[0][0] == "as it is" and len(rows) > 10
    for options, *told in rows:
        settings = {} if options == "as it is" else yaml.safe_load("{" + options.strip("`") + "}")
        cost = step_cost(elastic, TrainConfig(**{"feature_distill": "attention", **settings}))
        counted = (cost.networks, cost.shared_passes, cost.ratio)
        assert [float(cell) for cell in told] == pytest.approx(counted, rel=0.03), options


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
