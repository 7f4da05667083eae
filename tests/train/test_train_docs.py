"""The page about training names every option, every form, and the right defaults."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from mtnas.train.config import TrainConfig
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


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
