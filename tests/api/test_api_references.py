"""`mtnas.references`: a user's own network, one task at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_subject import TRAIN, user_data, user_model

import mtnas
from mtnas.base.errors import JobError


def test_own_network_against_itself(tmp_path: Path) -> None:
    data = user_data()
    found = mtnas.references(user_model, ["edges"], data, config=TRAIN, cache=tmp_path)
    assert set(found.scores("report")) == {"edges"} and found.entries[0].trained
    scores = {"edges": {name: 0.5 * value for name, value in found.scores("select")["edges"].items()}}
    assert found.delta(scores, convention="one_metric", split="select") == pytest.approx(-50.0)
    again = mtnas.references(user_model, ["edges"], data, config=TRAIN, cache=tmp_path)
    assert not again.entries[0].trained and again.scores("report") == found.scores("report")
    assert mtnas.references(user_model, ["edges"], data, config=TRAIN, cache=tmp_path, epochs=2).entries[0].trained


def test_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="edge"):
        mtnas.references(user_model, ["edge"], user_data(), cache=tmp_path)
