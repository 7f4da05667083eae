"""Reading a job: strict keys and types with helpful messages, checks between rooms, overrides, round trip."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mtnas.base.budget import Limit
from mtnas.base.errors import JobError
from mtnas.job.convert import all_keys
from mtnas.job.docs import field_docs
from mtnas.job.read import json_schema, read_job, resolved_yaml, template_text, write_template
from mtnas.job.schema import Job


def write(folder: Path, text: str, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *overrides: str) -> JobError:
    with pytest.raises(JobError) as caught:
        read_job(write(folder, text), overrides)
    return caught.value


def test_the_embedded_default_is_a_complete_demo() -> None:
    job = read_job(None)
    assert job.name == "demo"
    assert [task.name for task in job.tasks] == ["segmentation", "depth", "normals", "edges"]
    assert job.data.targets == ("segmentation", "depth", "normals", "edges")
    assert job.budget.limits == (Limit("latency_ms", 45.0, True),)
    assert job.floors["depth"].percent
    assert job.measure is job.device


def test_a_minimal_job_takes_every_default_and_the_files_name(tmp_path: Path) -> None:
    job = read_job(write(tmp_path, "seed: 3\n", "street.yaml"))
    assert (job.name, job.seed) == ("street", 3)
    assert len(job.tasks) == 6
    assert job.train == Job().train


def test_json_is_accepted(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"tasks": ["depth"], "train": {"lr": 1e-3}}), "job.json")
    assert read_job(path).train.lr == 1e-3


def test_short_forms(tmp_path: Path) -> None:
    job = read_job(write(tmp_path, "tasks: [depth, {name: edges, weight: 3}]\ndevice: local-ort\n"))
    assert [(task.name, task.weight) for task in job.tasks] == [("depth", None), ("edges", 3.0)]
    assert job.device.device == "local-ort"


def test_kernels_are_numbers_or_a_choice_that_the_rules_allow(tmp_path: Path) -> None:
    text = "model: {encoder: mobilenet, kernel: 5}\n"
    assert read_job(write(tmp_path, text)).model.kernel == 5
    chosen = read_job(write(tmp_path, text + "space: {rules: operators}\n"), ["model.kernel=choice"])
    assert chosen.model.kernel == "choice"
    rules = write(tmp_path, "operators: true\n", "own.yaml")
    assert read_job(write(tmp_path, text + f"space: {{rules: {rules.name}}}\n"), ["model.kernel=choice"])
    error = refusal(tmp_path, text, "model.kernel=choice")
    assert error.where == "job.yaml: model.kernel" and "space.rules default" in str(error)
    assert "rules: operators" in str(error)
    assert refusal(tmp_path, text, "model.kernel=4").where == "job.yaml: model.kernel"
    assert refusal(tmp_path, text, "model.kernel=[3]").where == "job.yaml: model.kernel"


# --- strictness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "cure"),
    [
        ("search: {trils: 3}", "job.yaml: search.trils", "did you mean 'trials'?"),
        ("serach: {trials: 3}", "job.yaml: serach", "did you mean 'search'?"),
        ("epochs: 3", "job.yaml: epochs", "did you mean 'train.epochs'?"),
        ("export: {tensorrt: {enable: true}}", "job.yaml: export.tensorrt.enable", "did you mean 'enabled'?"),
        ("tasks: [{nme: depth}]", "job.yaml: tasks[0].nme", "did you mean 'name'?"),
    ],
)
def test_unknown_keys_name_the_nearest(tmp_path: Path, text: str, where: str, cure: str) -> None:
    error = refusal(tmp_path, text)
    assert (error.where, error.expected) == (where, "a known key")
    assert error.cure.startswith(cure)


def test_every_key_at_every_depth_is_checked(tmp_path: Path) -> None:
    for key in all_keys():
        parts = key.split(".")
        if parts[0] in {"tasks", "budget", "floors", "preference"}:
            continue
        value: object = {"no_such_key_at_all": 1} if key in {"data", "export", "export.tensorrt"} else object
        if value is object:
            continue
        for part in reversed(parts):
            value = {part: value}
        error = refusal(tmp_path, json.dumps(value))
        assert error.where == f"job.yaml: {key}.no_such_key_at_all"


@pytest.mark.parametrize(
    ("text", "where", "expected", "received"),
    [
        ("train: {epochs: '3'}", "train.epochs", "a whole number", '"3"'),
        ("train: {epochs: 2.5}", "train.epochs", "a whole number", "2.5"),
        ("train: {epochs: true}", "train.epochs", "a whole number", "true"),
        ("train: {lr: fast}", "train.lr", "a number", '"fast"'),
        ("train: {augment: yes}", "train.augment", "true or false", '"yes"'),
        ("train: [1]", "train", "a mapping of settings", "[1]"),
        ("train: null", "train", "a mapping of settings", "null"),
        ("name: 3", "name", "text", "3"),
        ("tasks: depth", "tasks", "a list", '"depth"'),
        ("tasks: [3]", "tasks[0]", "a mapping of settings", "3"),
        ("tasks: [{name: depth, weight: heavy}]", "tasks[0].weight", "a number", '"heavy"'),
        ("model: {blocks: [2, two]}", "model.blocks[1]", "a whole number", '"two"'),
        ("data: {root: 3}", "data.root", "text", "3"),
    ],
)
def test_wrong_types_show_what_was_expected_and_what_came(
    tmp_path: Path, text: str, where: str, expected: str, received: str
) -> None:
    error = refusal(tmp_path, text)
    assert (error.where, error.received) == (f"job.yaml: {where}", received)
    assert error.expected.startswith(expected)


def test_infinite_numbers_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "train: {lr: .inf}").where.startswith("job.yaml")
    assert refusal(tmp_path, "train: {lr: .nan}").where.startswith("job.yaml")


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    error = refusal(tmp_path, "train: {lr: a}\nsearch: {trils: 3}\nseed: x\n")
    assert error.where == "job.yaml: search.trils"
    assert "seed" in error.cure
    assert "train.lr" in error.cure


def test_a_rooms_own_check_is_given_the_files_name(tmp_path: Path) -> None:
    assert refusal(tmp_path, "train: {lr: -1}").where == "job.yaml: train.lr"
    assert refusal(tmp_path, "finetune: {lr: -1}").where == "job.yaml: finetune.lr"
    assert refusal(tmp_path, "search: {strategy: nsga3}").cure == "did you mean 'nsga2'?"
    assert refusal(tmp_path, "device: {rounds: 0}").where == "job.yaml: device.rounds"


# --- between the rooms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("tasks: [depht]", "tasks"),
        ("tasks: [depth, depth]", "tasks"),
        ("tasks: [depth]\nfloors: {edges: -3%}", "floors"),
        ("tasks: [depth]\npreference: {edges: 2}", "preference"),
        ("preference: {depth: -1}", "preference.depth"),
        ("preference: {depth: heavy}", "preference.depth"),
        ("floors: {depth: 3%}", "floors.depth"),
        ("floors: {depth: three}", "floors.depth"),
        ("floors: [depth]", "floors"),
        ("budget: {latency: 3}", "budget"),
        ("budget: {latency_ms: 120%}", "budget.latency_ms"),
        ("budget: {latency_ms: 0}", "budget.latency_ms"),
        ("budget: {latency_ms: true}", "budget.latency_ms"),
        ("budget: 50%", "budget"),
        ("tasks: [depth]\nquantize: {float_heads: [edges]}", "quantize.float_heads"),
        ("tasks: [depth, edges]\ndata: {targets: [depth]}", "tasks"),
        ("tasks: [{name: depth, weight: 0}]", "tasks.depth.weight"),
        ("name: ../up", "name"),
        ("seed: -1", "seed"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path: Path, text: str, where: str) -> None:
    assert refusal(tmp_path, text).where == f"job.yaml: {where}"


def test_the_nearest_task_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, "tasks: [depht]").cure == "did you mean 'depth'?"


def test_null_takes_a_limit_away() -> None:
    assert read_job(None, ["budget.latency_ms=null"]).budget.limits == ()


def test_known_targets_are_those_of_the_data_sets() -> None:
    from mtnas.data.config import DataConfig
    from mtnas.data.open import open_dataset
    from mtnas.job.check import TARGETS

    assert set(open_dataset(DataConfig()).info.targets) == set(TARGETS["scenes"])


def data_job(folder: Path, text: str) -> Job:
    """A job file that says nothing but its data (and what follows it)."""
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return read_job(path)


def test_every_data_set_gives_its_targets_as_tasks(tmp_path: Path) -> None:
    from mtnas.data.table import DATASETS, TARGETS

    for name in TARGETS:
        job = data_job(tmp_path, f"data: {{name: {name}}}")
        assert tuple(task.name for task in job.tasks) == job.data.targets == TARGETS[name]
        assert all(task.name.isidentifier() for task in job.tasks)
    assert set(DATASETS) - set(TARGETS) == {"folder"}
    with pytest.raises(JobError, match="at least one task"):
        data_job(tmp_path, "data: {name: folder}")
    assert [task.name for task in data_job(tmp_path, "data: {name: folder}\ntasks: [road]").tasks] == ["road"]


def test_classes_are_those_a_set_offers(tmp_path: Path) -> None:
    assert data_job(tmp_path, "data: {name: cityscapes-mtan, classes: 19}").data.classes == 19
    with pytest.raises(JobError, match="7, 19, 2"):
        data_job(tmp_path, "data: {name: cityscapes-mtan, classes: 40}")
    with pytest.raises(JobError, match="remove it"):
        data_job(tmp_path, "data: {name: pets3, classes: 19}")


# --- overrides and paths ------------------------------------------------------------------------------------------


def test_overrides_are_yaml_values_at_dotted_keys() -> None:
    job = read_job(
        None,
        ["train.epochs=3", "train.lr=1e-4", "tasks=[depth, edges]", "tasks.1.weight=2", "floors={depth: -5%}", "out=x"],
    )
    assert (job.train.epochs, job.train.lr, job.tasks[1].weight) == (3, 1e-4, 2.0)
    assert set(job.floors) == {"depth"}
    assert job.out == str(Path.cwd() / "x")


def test_the_last_override_wins() -> None:
    assert read_job(None, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("train.epcohs=3", "did you mean 'epochs'?"),
        ("epochs=3", "did you mean 'train.epochs'?"),
        ("train.epochs", "write train.epochs=3"),
        ("=3", "write train.epochs=3"),
        ("train..epochs=3", "write train.epochs=3"),
        ("tasks.9.weight=3", ""),
    ],
)
def test_bad_overrides_are_refused(text: str, cure: str) -> None:
    with pytest.raises(JobError) as caught:
        read_job(None, [text])
    assert "override" in caught.value.where
    assert caught.value.cure == cure


def test_an_override_does_not_change_what_it_does_not_name() -> None:
    plain, changed = read_job(None), read_job(None, ["train.epochs=3"])
    assert dataclasses.replace(changed, train=plain.train) == plain


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "data: {root: sets/here}\nspace: {rules: mine.yaml}\nout: ../runs/a\ndevice: ./boards/orin\n"
    job = read_job(write(tmp_path, text))
    assert job.data.root == str(tmp_path / "sets" / "here")
    assert job.space.rules == str(tmp_path / "mine.yaml")
    assert job.out == str(tmp_path.parent / "runs" / "a")
    assert job.device.device == str(tmp_path / "boards" / "orin")


def test_shipped_names_stay_names(tmp_path: Path) -> None:
    job = read_job(write(tmp_path, "space: {rules: fine}\ndevice: {device: local-ort}\n"))
    assert (job.space.rules, job.device.device) == ("fine", "local-ort")


# --- what is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [[], ["budget={latency_ms: 8.5, size_mb: 33.3%}", "train.lr=1e-5", "name='1e3'"]])
def test_the_resolved_job_reads_back_equal(tmp_path: Path, overrides: list[str]) -> None:
    job = read_job(None, overrides)
    text = resolved_yaml(job)
    again = read_job(write(tmp_path, text))
    assert again == job
    assert resolved_yaml(again) == text


def test_the_template_is_a_job_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    write_template(path)
    assert read_job(path).name == "my-network"
    with pytest.raises(JobError):
        write_template(path)
    for section in ("data", "tasks", "model", "space", "train", "device", "budget", "floors", "search", "prune"):
        assert f"\n{section}:" in template_text()


def test_every_setting_is_explained() -> None:
    missing = []
    for name, part in [("Job", json_schema()), *json_schema()["$defs"].items()]:
        missing += [f"{name}.{key}" for key, entry in part["properties"].items() if "description" not in entry]
    assert not missing


def test_the_schema_is_closed_at_every_depth_and_json() -> None:
    schema = json_schema()
    json.dumps(schema)
    assert all(part["additionalProperties"] is False for part in (schema, *schema["$defs"].values()))
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(Job)}
    assert {"type": "string"} in schema["properties"]["tasks"]["items"]["anyOf"]


def test_explanations_above_or_below_a_field() -> None:
    docs = field_docs(Above)
    assert docs == {"one": "first", "two": "second, on two lines"}
    assert field_docs(Below) == {"one": "first", "three": "third"}


@dataclasses.dataclass
class Above:
    #: first
    one: int = 1
    #: second,
    #: on two lines
    two: int = 2


@dataclasses.dataclass
class Below:
    one: int = 1
    #: first
    two: int = 2
    three: int = 3
    """third"""
