"""A job for some of its tasks: nothing it says about the others stays, all else does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mtnas.base.errors import JobError
from mtnas.job.read import plain, read_job, resolved_yaml
from mtnas.job.schema import Job

TEXT = """\
data: {name: scenes, height: 32, width: 32}
tasks: [segmentation, {name: depth, weight: 3}, normals, edges]
floors: {segmentation: -3%, depth: 0.5}
preference: {depth: 2, edges: 5}
quantize: {float_heads: [depth, normals], float_branches: [edges]}
"""


def job(folder: Path, text: str = TEXT) -> Path:
    path = folder / "street.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def only(folder: Path, *tasks: str, text: str = TEXT, overrides: tuple[str, ...] = ()) -> Job:
    return read_job(job(folder, text), overrides, tasks)


def test_what_is_said_about_the_others_is_left_out(tmp_path: Path) -> None:
    found = only(tmp_path, "edges", "depth")
    assert [(task.name, task.weight) for task in found.tasks] == [("depth", 3.0), ("edges", None)]  # the job's order
    assert dict(found.preference) == {"depth": 2.0, "edges": 5.0} and set(found.floors) == {"depth"}
    assert (found.quantize.float_heads, found.quantize.float_branches) == (("depth",), ("edges",))
    assert found.data.targets == ("depth", "edges") and found.name == "street-depth+edges"
    whole = read_job(job(tmp_path))
    touched = ("name", "out", "data", "tasks", "floors", "preference", "quantize")
    assert all(
        getattr(found, f.name) == getattr(whole, f.name) for f in dataclasses.fields(Job) if f.name not in touched
    )


def test_it_is_the_job_that_names_no_others(tmp_path: Path) -> None:
    short = "data: {name: scenes, height: 32, width: 32}\ntasks: [{name: depth, weight: 3}]\nfloors: {depth: 0.5}\n"
    written = read_job(job(tmp_path, f"{short}preference: {{depth: 2}}\nquantize: {{float_heads: [depth]}}\n"))
    assert plain(only(tmp_path, "depth")) == {**plain(written), "name": "street-depth"}


def test_all_tasks_are_the_job_itself_and_some_can_be_read_back(tmp_path: Path) -> None:
    assert only(tmp_path, "edges", "normals", "depth", "segmentation") == read_job(job(tmp_path))
    found = only(tmp_path, "normals", overrides=("floors.normals=-1%", "train.epochs=2"))
    assert found.train.epochs == 2 and set(found.floors) == {"normals"}
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(found), encoding="utf-8")
    assert read_job(again) == found


def test_a_folder_of_its_own_and_targets_that_are_no_tasks(tmp_path: Path) -> None:
    text = f"{TEXT}out: here\n".replace("width: 32}", "width: 32, targets: [segmentation, depth, normals, edges]}")
    assert only(tmp_path, "depth", text=text).out == str(tmp_path / "here-depth")
    fewer = text.replace("tasks: [segmentation, ", "tasks: [").replace("segmentation: -3%, ", "")
    assert only(tmp_path, "depth", text=fewer).data.targets == ("segmentation", "depth")


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (("deph",), ("'deph'", "--tasks", "did you mean 'depth'")),
        (("depth", "depth"), ("each task once", "'depth' twice")),
        ((), ("at least one task", "choose from segmentation, depth, normals, edges")),
        (("box",), ("a task of this job", "'box'")),
    ],
)
def test_wrong_names_are_told(tmp_path: Path, tasks: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(JobError) as caught:
        only(tmp_path, *tasks)
    assert all(word in str(caught.value) for word in words)


def test_a_job_of_no_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="at least one task"):
        read_job(job(tmp_path, "tasks: []\n"))
    with pytest.raises(JobError, match="every target is a task"):
        read_job(job(tmp_path, "seed: 1\n"), ["tasks=[]"])
