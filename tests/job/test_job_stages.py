"""A stage depends on its own part of the job and on those of the stages before it, on nothing else."""

from __future__ import annotations

import json

import pytest

from mtnas.base.errors import JobError
from mtnas.job.read import read_job
from mtnas.job.stages import BEFORE, stage_hash, stage_inputs


def changed(override: str) -> set[str]:
    """The stages that are done again after one setting changed."""
    before, after = read_job(None), read_job(None, [override])
    return {stage for stage in BEFORE if stage_hash(before, stage) != stage_hash(after, stage)}


ALL = set(BEFORE)
AFTER_EXPORT = {"verify", "certify", "references", "report"}
AFTER_SEARCH = {"search", "prune", "quantize", "export", *AFTER_EXPORT}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("seed=1", ALL),
        ("model.width=64", ALL),
        ("space.rules=fine", ALL),
        ("tasks=[depth]", ALL),
        ("data.height=32", ALL),
        ("train.epochs=3", ALL - {"space", "profile"}),
        ("tasks=[segmentation, depth, normals, {name: edges, weight: 3}]", ALL - {"space", "profile"}),
        ("data.train=100", ALL - {"space", "profile"}),
        ("device.rounds=13", ALL - {"space", "train"}),
        ("budget.latency_ms=40%", AFTER_SEARCH),
        ("preference.depth=2", AFTER_SEARCH),
        ("search.trials=7", AFTER_SEARCH),
        ("score.select_images=32", AFTER_SEARCH),
        ("prune.target=80%", AFTER_SEARCH - {"search"}),
        ("finetune.epochs=9", AFTER_SEARCH - {"search"}),
        ("quantize.images=64", {"quantize", "export", *AFTER_EXPORT}),
        ("export.opset=21", {"export", *AFTER_EXPORT}),
        ("data.report=100", AFTER_EXPORT),
        ("references.mode=train", {"references", "report"}),
        ("references.epochs=3", {"references", "report"}),
        ("references.cache=/somewhere", set()),
        ("name=other", {"report"}),
        ("out=elsewhere", set()),
        ("train.checkpoint_seconds=5", set()),
        ("train.watch_epochs=0", set()),
        ("data.root=/somewhere", set()),
    ],
)
def test_a_change_touches_exactly_the_stages_that_depend_on_it(override: str, stages: set[str]) -> None:
    if override == "tasks=[depth]":
        before, after = read_job(None), read_job(None, [override, "floors={}"])
        assert all(stage_hash(before, stage) != stage_hash(after, stage) for stage in BEFORE)
        return
    assert changed(override) == stages


def test_inputs_are_plain_json_and_stable() -> None:
    inputs = stage_inputs(read_job(None), "report")
    assert json.loads(json.dumps(inputs)) == inputs
    assert stage_hash(read_job(None), "report") == stage_hash(read_job(None), "report")


def test_unknown_stages_are_refused() -> None:
    with pytest.raises(JobError):
        stage_inputs(read_job(None), "serach")
