"""The command line: its options are promises, `init`, `plan`, `doctor` and `pick` do what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import typer
from tiny import FinishedRun, assert_told, mtnas

from mtnas import __version__
from mtnas.cli import app
from mtnas.job.read import read_job
from mtnas.search.front import Front
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext

STAGE_VERB = {
    "job": ["job"],
    "out": ["--out", "-o"],
    "set_": ["--set", "-s"],
    "tasks": ["--tasks"],
    "as_json": ["--json"],
}
#: removing or renaming one of these breaks somebody's script
FROZEN = {
    **dict.fromkeys(
        ("run", "train", "profile", "search", "prune", "quantize", "export", "verify", "report"), STAGE_VERB
    ),
    "plan": {"job": ["job"], "set_": ["--set", "-s"], "tasks": ["--tasks"], "as_json": ["--json"]},
    "init": {"path": ["path"]},
    "doctor": {"device": ["--device"], "as_json": ["--json"]},
    "probe": {"device": ["device"], "out": ["--out", "-o"], "as_json": ["--json"]},
    "pick": {
        "run": ["run"],
        "latency_ms": ["--latency-ms"],
        "budget": ["--budget"],
        "prefer": ["--prefer"],
        "floor": ["--floor"],
        "export": ["--export"],
        "tasks": ["--tasks"],
        "as_json": ["--json"],
    },
    "configure": {
        "run": ["run"],
        "latency_ms": ["--latency-ms"],
        "budget": ["--budget"],
        "prefer": ["--prefer"],
        "floor": ["--floor"],
        "strategy": ["--strategy"],
        "tasks": ["--tasks"],
        "export": ["--export"],
        "as_json": ["--json"],
    },
    "control": {
        "run": ["run"],
        "budget": ["--budget"],
        "count": ["--count"],
        "sweep": ["--sweep"],
        "chooser": ["--chooser"],
        "strategy": ["--strategy"],
        "tasks": ["--tasks"],
        "as_json": ["--json"],
    },
    "certify": {
        "target": ["target"],
        "latency_ms": ["--latency-ms"],
        "statistic": ["--statistic"],
        "memory_mb": ["--memory-mb"],
        "size_mb": ["--size-mb"],
        "energy_mj": ["--energy-mj"],
        "device": ["--device"],
        "processes": ["--processes"],
        "as_json": ["--json"],
    },
    "measure": {
        "models": ["models"],
        "device": ["--device"],
        "memory": ["--memory"],
        "as_json": ["--json"],
    },
}


def test_verbs_and_options_are_frozen() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {name: {str(p.name): list(p.opts) for p in command.params} for name, command in commands.items()}
    assert found == FROZEN


@pytest.mark.parametrize("verb", FROZEN)
def test_every_verb_explains_itself(verb: str) -> None:
    done = mtnas(verb, "--help")
    assert done.code == 0
    for options in FROZEN[verb].values():
        assert all(option in done.out for option in options if option.startswith("--"))


def test_help_and_version() -> None:
    done = mtnas("--help")
    assert done.code == 0
    assert all(verb in done.out for verb in FROZEN)
    assert mtnas("--version").out.strip() == f"mtnas {__version__}"


@pytest.mark.parametrize("words", [("runn",), ("run", "--outt", "x"), ("run", "a.yaml", "b.yaml"), ("pick",)])
def test_wrong_arguments(words: tuple[str, ...]) -> None:
    done = mtnas(*words)
    assert_told(done, 2)
    assert done.err.strip()


# --- init, doctor, plan -----------------------------------------------------------------------------------------


def test_init_writes_a_job_that_can_be_read_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert mtnas("init", path).code == 0
    job = read_job(path)
    assert job.tasks
    assert job.budget.limits
    path.write_text(path.read_text() + "# edited\n")
    assert_told(mtnas("init", path), 2, "a file that does not exist yet", "choose another name")
    assert path.read_text().endswith("# edited\n")


def test_doctor() -> None:
    done = mtnas("doctor", "--json")
    assert done.code == 0
    found = done.result
    assert found["schema"] == "doctor/1"
    assert all(found["required"].values())
    assert "local-ort" in found["devices"]
    assert found["noise"]["resolution_percent"] is None or found["noise"]["resolution_percent"] >= 0
    text = mtnas("doctor").out
    for name, row in found["optional"].items():
        assert row["installed"] or f'pip install "mtnas[{row["extra"]}]"' in text, name


def test_plan_says_what_would_be_done_and_writes_nothing(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mtnas("plan", finished.job, "--json", "-s", "budget.macs=1000")
    assert done.code == 3, done.err
    plan = done.result
    assert plan["feasible"] is False
    assert "relax macs: 1000 ->" in plan["infeasible_because"]
    assert plan["choices"] == 9
    assert plan["images"] == {"train": 64, "calibrate": 32, "select": 32, "report": 32}
    assert plan["smallest"]["macs"] < plan["largest"]["macs"]
    assert plan["stages"]["train"].startswith("3 epochs, 16 steps each, one network a step")
    assert plan["seconds"]["train"] > 0
    assert plan["seconds"]["total"] == pytest.approx(
        sum(v for k, v in plan["seconds"].items() if k != "total"), rel=0.1
    )
    assert not [path for path in tmp_path.iterdir() if path.name == "runs" or path.name.startswith("mtnas-plan")]


def test_plan_for_people(finished: FinishedRun) -> None:
    done = mtnas("plan", finished.job)
    assert done.code == 0, done.err
    assert "the limits can be kept" in done.out
    assert "in all about" in done.out


# --- pick -------------------------------------------------------------------------------------------------------


def test_pick_without_wishes_is_what_the_search_chose(finished: FinishedRun) -> None:
    chosen = json.loads((finished.path / "4-search/search.json").read_text())["chosen"]
    done = mtnas("pick", finished.path, "--json")
    assert done.code == 0, done.err
    assert done.result["id"] == chosen["id"]
    assert done.result["costs"]["latency_ms"]["kind"] == "measured"


def test_pick_speaks_of_channels_units_and_directions(finished: FinishedRun) -> None:
    """As the summary of the space and the table of the run do."""
    record, text = mtnas("pick", finished.path, "--json").result, mtnas("pick", finished.path).out
    groups = {
        group["name"]: group for group in json.loads((finished.path / "1-space/space.json").read_text())["groups"]
    }
    assert record["channels"] == {
        name: {"kept": width, "of": groups[name]["size"]} for name, width in record["arch"].items()
    }
    stem = record["channels"]["encoder.stem.0.0"]
    for words in (
        f"encoder.stem.0.0 {stem['kept']} of 16",
        f"segmentation {record['objectives']['segmentation']:.4g} % (+)",
        f"depth {record['objectives']['depth']:.4g} m (-)",
        f"macs {record['costs']['macs']['value']:,.0f} (counted)",
        f"latency_ms {record['costs']['latency_ms']['value']:.4g} ms (measured)",
    ):
        assert words in text, words


def test_pick_by_a_share_of_the_unpruned_network(finished: FinishedRun) -> None:
    front = Front.load(finished.path / "4-search/front.json")
    assert front.full is not None
    full = front.full.outcome.costs["macs"].value
    least = min(trial.outcome.costs["macs"].value for trial in front.trials)
    done = mtnas("pick", finished.path, "--budget", f"macs={100 * least / full + 0.001}%", "--json")
    assert done.result["costs"]["macs"]["value"] == least


def test_pick_by_latency_preference_and_floor(finished: FinishedRun) -> None:
    front = Front.load(finished.path / "4-search/front.json").trials
    fastest = min(front, key=lambda trial: trial.outcome.objectives["latency_ms"])
    limit = fastest.outcome.objectives["latency_ms"] * 1.0001
    done = mtnas("pick", finished.path, "--latency-ms", str(limit), "--json")
    assert done.result["objectives"]["latency_ms"] <= limit
    deepest = min(trial.outcome.objectives["depth"] for trial in front)
    done = mtnas("pick", finished.path, "--floor", f"depth={deepest * 1.0001}", "--json")
    assert done.result["objectives"]["depth"] == deepest
    assert_told(mtnas("pick", finished.path, "--latency-ms", "0.000001"), 3, "latency_ms", "cure: relax")
    assert_told(mtnas("pick", finished.path, "--prefer", "depth"), 2, "--prefer", "task=value")
    assert_told(mtnas("pick", finished.path, "--floor", "dept=3"), 2, "dept")
    assert_told(mtnas("pick", finished.path / "nothing"), 2, "nothing/4-search/front.json")


def test_pick_exports_the_network_that_extract_gives(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    target = tmp_path / "picked.onnx"
    done = mtnas("pick", run, "--export", target, "--json")
    assert done.code == 0, done.err
    assert done.result["onnx"] == str(target)
    context = RunContext(read_job(run / "job.resolved.yaml"), run)
    module = context.trained.extract(Arch.from_json(done.result["arch"]))
    image_BCHW, _targets = context.split("report").batch([0])
    with torch.no_grad():
        expected = module(image_BCHW)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": image_BCHW.numpy()})
    for (name, tensor), found in zip(expected.items(), outputs, strict=True):
        scale = float(tensor.abs().max())
        np.testing.assert_allclose(found, tensor.numpy(), atol=1e-4 * scale, err_msg=name)


def test_pick_does_not_mix_jobs(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    assert mtnas("train", finished.job, "-o", run, "-s", "train.epochs=0").code == 0
    done = mtnas("pick", run, "--export", tmp_path / "picked.onnx")
    assert_told(done, 2, "a search that belongs to the job in this folder", "run the old job again")
    assert not (tmp_path / "picked.onnx").exists()
