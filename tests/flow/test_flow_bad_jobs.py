"""Jobs that cannot be done: the right exit code, a message with the cure, no traceback, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import FinishedRun, assert_told, failure, mtnas, records, stages_with

from mtnas.base.files import file_hash
from mtnas.base.optional import available
from mtnas.measure.certify import judge_latency


def tree(run: Path) -> dict[str, str]:
    """Every file of a folder with its hash, but for the lock."""
    return {str(p.relative_to(run)): file_hash(p) for p in sorted(run.rglob("*")) if p.is_file() and p.name != ".lock"}


# --- refused before anything is written -------------------------------------------------------------------------

REFUSED: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "unknown key": (("search.trils=9",), 2, ("search.trils", "did you mean 'trials'")),
    "misspelt task": (("tasks=[segmentation, dpeth]",), 2, ("tasks", "'dpeth'", "did you mean 'depth'")),
    "floor of no task": (("floors.normals=-5%",), 2, ("floors", "'normals'")),
    "unknown limit": (("budget.latency=5",), 2, ("budget", "did you mean 'latency_ms'")),
    "not a number": (("train.epochs=many",), 2, ("train.epochs", '"many"')),
    "unknown device": (("device=local-otr",), 2, ("device.device", "did you mean 'local-ort'")),
    "other threads than the device": (("device.threads=7",), 2, ("device.threads", "set device.threads")),
    "nothing to fit on": (("device.samples=4",), 2, ("device.samples", "at least 5", "4 of 4")),
    "unknown criterion": (("prune.criterion=tailor",), 2, ("prune.criterion", "did you mean 'taylor'")),
    "cost without a counter": (("budget.energy_mj=5",), 4, ("budget.energy_mj", "RAPL", "remove this limit")),
    "rules that do not exist": (("space.rules=corse",), 2, ("corse", "coarse")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_once(finished: FinishedRun, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.measure.limits.find_counter", lambda *_: (None, ["RAPL: no package"]))
    changes, code, words = REFUSED[case]
    run = finished.copy(tmp_path / "run")
    before = tree(run)
    done = mtnas("run", finished.job, "-o", run, "--json", *(word for change in changes for word in ("-s", change)))
    assert_told(done, code, "received: ", *words)
    assert done.out == ""
    assert tree(run) == before


def test_job_file_that_is_not_there(tmp_path: Path) -> None:
    assert_told(mtnas("run", tmp_path / "no.yaml", "-o", tmp_path / "run"), 2, "no.yaml")
    assert not (tmp_path / "run").exists()


def test_job_file_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("train: {epochs: 3\nbudget: [")
    assert_told(mtnas("run", tmp_path / "job.yaml"), 2, "job.yaml")


@pytest.mark.parametrize("package", [p for p in ("tensorrt", "openvino", "nni") if not available(p)])
def test_missing_package_is_noticed_before_training(finished: FinishedRun, tmp_path: Path, package: str) -> None:
    change = {
        "tensorrt": "export.tensorrt.enabled=true",
        "openvino": "export.openvino=true",
        "nni": "search.strategy=nni_tpe",
    }[package]
    run = finished.copy(tmp_path / "run")
    before = tree(run)
    assert_told(mtnas("run", finished.job, "-o", run, "-s", change), 4, f'pip install "mtnas[{package}]"')
    assert tree(run) == before
    assert mtnas("train", finished.job, "-o", run, "-s", change).code == 0  # what does not need it goes on


def test_missing_data(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTNAS_DATA", raising=False)
    job = tmp_path / "real.yaml"
    job.write_text("data: {name: nyuv2, height: 48, width: 64}\n")
    assert_told(mtnas("run", job, "-o", tmp_path / "run"), 2, "nyuv2", "MTNAS_DATA", "data.root")
    assert failure(tmp_path / "run")["kind"] == "DataError"
    monkeypatch.setenv("MTNAS_DATA", str(tmp_path))
    assert_told(mtnas("run", job, "-o", tmp_path / "run"), 2, "train.zip", str(tmp_path))


# --- budgets and floors -----------------------------------------------------------------------------------------


def test_impossible_budget_says_what_binds_and_what_would_do(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="space")
    smallest = json.loads((run / "1-space/space.json").read_text())["smallest"]["macs"]
    done = mtnas("run", finished.job, "-o", run, "-s", "budget.macs=1000")
    assert_told(done, 3, "macs", f"smallest {smallest:,.0f}", "cure: relax macs: 1000 -> ", "smaller networks")
    relaxed = done.err.split("macs: 1000 -> ")[1].split()[0].replace(",", "")
    assert float(relaxed) >= smallest
    assert not (run / "2-train").exists()
    assert mtnas("train", finished.job, "-o", run, "-s", f"budget.macs={relaxed}").code == 0


def test_impossible_latency_names_a_measured_network(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="space")
    done = mtnas("run", finished.job, "-o", run, "-s", "budget.latency_ms=0.0001")
    assert_told(done, 3, "latency_ms <= 0.0001", "(measured)", "relax latency_ms")
    assert not (run / "2-train").exists()


def test_floor_above_reach(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="profile")
    done = mtnas("run", finished.job, "-o", run, "-s", "floors.segmentation=99.5")
    reach = json.loads((run / "2-train/train.json").read_text())["scores"]["largest"]["segmentation"]["miou"]
    assert_told(done, 3, f"segmentation = {reach:.4g}", "99.5", "lower the floor", "train longer")
    assert failure(run)["stage"] == "search"
    assert stages_with(run, "skip") == ["space", "train", "profile"]  # nothing was trained again


def test_a_size_that_the_search_keeps_is_kept_by_the_file(finished: FinishedRun, tmp_path: Path) -> None:
    """Sizes are those of the float file, nodes included: the tightest limit that is let through is met at the end."""
    run = finished.copy(tmp_path / "run", upto="profile")
    smallest = json.loads((run / "1-space/space.json").read_text())["quick_costs"]["smallest"]["size_mb"]["value"]
    changes = ("budget.macs=null", "floors={}", "quantize.enabled=false")
    words = [word for change in (f"budget.size_mb={1.001 * smallest:.6f}", *changes) for word in ("-s", change)]
    done = mtnas("run", finished.job, "-o", run, "--json", *words)
    assert done.code == 0, done.err
    size = next(limit for limit in done.result["result"]["limits"] if limit["name"] == "size_mb")
    assert size["measured"]["value"] == (run / "7-export/model.onnx").stat().st_size / 1e6
    assert size["measured"]["value"] == pytest.approx(smallest, rel=0.005)
    words[1] = f"budget.size_mb={0.99 * smallest:.6f}"
    assert_told(mtnas("run", finished.job, "-o", run, *words), 3, "size_mb <=", "relax size_mb")


def test_budget_that_only_the_delivered_file_misses(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the machine were a million times slower when it counts."""
    run = finished.copy(tmp_path / "run", upto="profile")
    rule = judge_latency
    monkeypatch.setattr("mtnas.measure.certify.judge_latency", lambda bound, *rest: rule(1e-6 * bound, *rest))
    changes = ("floors={}", "quantize.enabled=false")
    words = [word for change in changes for word in ("-s", change)]
    done = mtnas("run", finished.job, "-o", run, "--json", *words)
    assert done.code == 3, done.err
    assert done.result["met"] is False
    assert Path(done.result["report"]).exists()  # a missed budget is reported all the same
    certificate = json.loads((run / "9-certify/certificate.json").read_text())
    assert certificate == json.loads((run / "8-verify/certificate.json").read_text())
    assert {limit["name"]: limit["met"] for limit in certificate["limits"]} == {"latency_ms": False, "macs": True}
    record = failure(run)
    assert (record["kind"], record["exit_code"], record["stage"]) == ("BudgetMissed", 3, "certify")
    assert "missed by" in record["message"]
    assert not (run / "DONE").exists()
    known = len(records(run / "events.jsonl"))
    again = mtnas("run", finished.job, "-o", run, *words)  # judged again, every attempt on record
    assert_told(again, 3)
    assert "MISSED" in again.out
    assert [r["stage"] for r in records(run / "events.jsonl")[known:] if r["event"] == "start"] == ["certify", "report"]
    assert len(records(run / "9-certify/certificates.jsonl")) == 2


def test_diverged_training_keeps_the_state_before(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="space")
    done = mtnas("train", finished.job, "-o", run, "-s", "train.lr=1e30", "-s", "train.warmup_epochs=0")
    assert_told(done, 2, "NaN or infinity", "lower train.lr", "checkpoint.safetensors")
    record = failure(run)
    assert (record["stage"], record["kind"], record["exit_code"]) == ("train", "TrainingDiverged", 2)
    assert (run / "2-train/checkpoint.safetensors").exists()
    assert not (run / "2-train/stage.json").exists()
    assert mtnas("train", finished.job, "-o", run).code == 0
    assert (run / "2-train.superseded-1/checkpoint.safetensors").exists()
    name = "2-train/weights.safetensors"
    assert file_hash(run / name) == file_hash(finished.path / name)
