"""reach: hook with real commands: measured like any device, every wrong answer refused, nothing measured twice."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measure_subject import cut, features, pool, quick_config, selection

from mtnas.base.errors import DeviceMissing, JobError, UserError
from mtnas.measure.anchor import anchor_model
from mtnas.measure.certify import certify
from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import never_slower
from mtnas.measure.memory import peak_memory
from mtnas.measure.profile import build_profile, load_profile
from mtnas.measure.protocol import measure, self_test
from mtnas.measure.reach.open import open_reach

TOY = str(Path(__file__).with_name("hook_toy.py"))
EXAMPLE = str(Path(__file__).resolve().parents[2] / "docs" / "hooks" / "onnxruntime_hook.py")

Make = Callable[..., MeasureConfig]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mtnas" / "hooks"


@pytest.fixture
def device(tmp_path: Path) -> Make:
    """A described device whose command is the toy in one of its modes."""

    def make(
        mode: str, runs: int = 2, timeout_s: float = 30.0, repeats: int = 4, command: list[str] | None = None
    ) -> MeasureConfig:
        words = command or [sys.executable, "-I", "-S", TOY, mode, str(tmp_path), "{model}", "{out}"]
        hook = {"command": words, "timeout_s": timeout_s, "repeats": repeats, "runs": runs}
        (tmp_path / "device.yaml").write_text(
            f"name: pretended\nreach: hook\nruntime: toy\nthreads: 3\nhook: {json.dumps(hook)}\n"
        )
        return quick_config(device=str(tmp_path), runtime="toy", threads=3, certify_rounds=3)

    return make


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_networks_share_their_rounds_with_the_anchor(device: Make, chain: Callable[..., bytes], tmp_path: Path) -> None:
    models = {"small": chain(8), "large": chain(16)}
    records = measure(models, device("plain"))
    sizes = {name: len(model) / 1e3 for name, model in models.items()}
    for name, record in records.items():
        assert record.p50.value == pytest.approx(sizes[name], rel=0.05) and record.p50.device == str(tmp_path)
        assert record.relative.value == pytest.approx(sizes[name] / (len(anchor_model()) / 1e3), rel=0.02)
        assert len(record.runs_ms_RN) == len(record.anchor_ms_R) == 4 and record.p50.count == 4 * 2
        assert record.environment.runtime_version == "1.2" and "pretended phone" in record.environment.cpu
    names = calls(tmp_path)
    rounds = [names[i : i + 3] for i in range(0, len(names), 3)]
    assert [sorted(part) for part in rounds] == [["anchor", "large", "small"]] * 4
    assert len({tuple(part) for part in rounds}) > 1, "the order changes"


def test_the_example_of_the_docs_times_a_real_network(device: Make, chain: Callable[..., bytes]) -> None:
    config = device("", runs=10, repeats=3, command=[sys.executable, EXAMPLE, "{model}", "{out}"])
    record = measure({"small": chain(4)}, config)["small"]
    assert 0 < record.p50.value < 1e3 and record.relative.value < 1.0, "the anchor is larger"
    assert record.environment.runtime_version.startswith("onnxruntime 1.")


def test_answers_may_come_on_standard_output_and_commands_as_one_string(
    device: Make, chain: Callable[..., bytes], tmp_path: Path
) -> None:
    config = device("stdout")
    yaml = tmp_path / "device.yaml"
    line = f"hook: {{command: \"'{sys.executable}' '{TOY}' stdout '{tmp_path}' {{model}} {{out}}\", runs: 2}}"
    yaml.write_text("\n".join(text for text in yaml.read_text().splitlines() if "hook:" not in text) + "\n" + line)
    yaml.write_text(yaml.read_text() + "\nreach: hook\n")
    assert measure({"net": chain(8)}, config)["net"].p50.value > 0


@pytest.mark.parametrize(
    ("mode", "part"),
    [
        ("not-json", "one JSON object"),
        ("nothing", "received: nothing"),
        ("a-list", "a JSON object"),
        ("no-latency", "latency_ms: every timed run"),
        ("wrong-unit", "did you mean 'latency_ms'"),
        ("nan", "nan at place 1"),
        ("negative", "-2.0 at place 1"),
        ("text", "'1.0' at place 0"),
        ("too-few", "2 runs, as the request says"),
        ("empty", "2 runs, as the request says"),
        ("zero-memory", "leave the key out"),
        ("number-as-version", "runtime_version as text"),
        ("fails", "exit status 3: the phone is not plugged in"),
        ("changes-mode", "battery saver"),
    ],
)
def test_wrong_answers_are_refused_with_what_was_wrong(
    device: Make, chain: Callable[..., bytes], mode: str, part: str
) -> None:
    with pytest.raises(DeviceMissing) as caught:
        measure({"net": chain(8)}, device(mode))
    assert part in str(caught.value) and "hook of device 'pretended'" in str(caught.value)


def test_a_command_that_hangs_is_ended_with_all_it_started(
    device: Make, chain: Callable[..., bytes], tmp_path: Path
) -> None:
    with pytest.raises(DeviceMissing, match=r"within 0\.8 s"):
        measure({"net": chain(8)}, device("hangs", timeout_s=0.8))
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    until = time.monotonic() + 5.0
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert len(pids) == 2 and not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_a_missing_command_and_a_missing_hook_say_what_to_do(
    device: Make, chain: Callable[..., bytes], tmp_path: Path
) -> None:
    with pytest.raises(DeviceMissing, match="no-such-command"):
        measure({"net": chain(8)}, device("", command=["no-such-command", "{model}"]))
    (tmp_path / "device.yaml").write_text("name: phone\nreach: hook\nruntime: toy\nthreads: 3\n")
    with pytest.raises(JobError, match=r"hook\.command"):
        measure({"net": chain(8)}, quick_config(device=str(tmp_path), runtime="toy", threads=3))


def test_words_reach_the_command_as_they_are(device: Make, chain: Callable[..., bytes], tmp_path: Path) -> None:
    script = tmp_path / "words.py"
    script.write_text(
        "import json, sys\nopen(sys.argv[1] + '/words', 'w').write(json.dumps(sys.argv[2:-1]))\n"
        "print(json.dumps({'latency_ms': [1.0, 1.1]}))\n"
    )
    words = ["; touch escaped", "$(touch escaped)", "a b", "`x`"]
    measure({"net": chain(8)}, device("", command=[sys.executable, str(script), str(tmp_path), *words, "{model}"]))
    assert json.loads((tmp_path / "words").read_text()) == words and not (tmp_path / "escaped").exists()


def test_rounds_of_another_command_are_not_believed(
    device: Make, chain: Callable[..., bytes], tmp_path: Path, cache: Path
) -> None:
    models = {"a": chain(8), "b": chain(12)}
    with pytest.raises(DeviceMissing, match="exit status 9"):
        measure(models, device("dies-at:8"))  # two rounds of three, and one call of the round that is lost
    assert len(list(cache.glob("*.jsonl"))) == 1
    (tmp_path / "calls").unlink()
    records = measure(models, device("plain"))
    # the command's words changed, and they are part of what two jobs must share: everything is measured again
    assert len(calls(tmp_path)) == 4 * 3 and list(cache.glob("*.jsonl")) == []
    assert all(len(record.runs_ms_RN) == 4 for record in records.values())


def test_an_interrupted_measurement_goes_on_with_the_next_round(
    device: Make, chain: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, models = device("plain"), {"a": chain(8), "b": chain(12)}
    reach_calls: list[str] = []
    from mtnas.measure.reach import hook

    real = hook.call_hook

    def interrupted(*arguments: object) -> object:
        reach_calls.append("")
        if len(reach_calls) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(hook, "call_hook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(models, config)
    done = len(calls(tmp_path))
    records = measure(models, config)
    assert done == 2 * 3 + 1  # two rounds, and one call of the round that was lost
    assert len(calls(tmp_path)) - done == 2 * 3, "only the two rounds that were missing"
    assert all(len(record.runs_ms_RN) == len(record.anchor_ms_R) == 4 for record in records.values())


def test_profile_certificate_gate_and_self_test_work_like_anywhere(device: Make, tmp_path: Path) -> None:
    config = replace(device("plain", repeats=3), samples=6, together=4)
    profile = build_profile(cut, features, pool(20), config, tmp_path / "profile")
    assert len(profile.points) == 6 and profile.environment.runtime_version == "1.2"
    assert load_profile(tmp_path / "profile", config).points == profile.points
    made = len(calls(tmp_path))
    build_profile(cut, features, pool(20), config, tmp_path / "profile")
    assert len(calls(tmp_path)) - made <= 2, "a finished profile asks for the circumstances and measures nothing"

    large, small = cut(selection(32, 32, 64, 64)), cut(selection(8, 8, 16, 16))
    assert never_slower(large, small, config).verdict == "faster"
    assert never_slower(small, large, config).verdict == "slower"
    assert self_test(small, config).resolution_percent < 5.0

    path = tmp_path / "delivered.onnx"
    path.write_bytes(small)
    certificate = certify(path, {"latency_ms": len(small) / 1e3 * 3}, config, processes=2)
    assert certificate.met and certificate.to_json()["runtime"] == "toy 1.2"
    assert not certify(path, {"latency_ms": len(small) / 1e3 / 3}, config, processes=1).met


def test_memory_is_what_the_command_says_and_absent_when_it_says_nothing(
    device: Make, chain: Callable[..., bytes]
) -> None:
    model = chain(8)
    found = peak_memory(model, device("counts-all"))
    assert found.value == pytest.approx(len(model) / 1e4) and found.unit == "mb" and found.statistic == "peak"
    with pytest.raises(DeviceMissing, match="memory_mb"):
        peak_memory(model, device("plain"))


def test_energy_is_what_the_command_says_and_absent_when_it_says_nothing(
    device: Make, chain: Callable[..., bytes]
) -> None:
    model = chain(8)
    job = {"kind": "energy", "repeats": 3, "loop_s": 1.0, "idle_s": 1.0}
    with open_reach(device("counts-all"), "energy") as reach:
        found = list(reach.run(job, {"net": model}))[-1]
    assert [row["net_mj"] for row in found["repeats"]] == [pytest.approx(2 * len(model) / 1e3)] * 3
    with open_reach(device("plain"), "energy") as reach:
        assert list(reach.run(job, {"net": model}))[-1]["event"] == "energy-absent"


def test_jobs_that_need_the_inside_of_a_device_are_refused(device: Make) -> None:
    with open_reach(device("plain"), "layers") as reach, pytest.raises(UserError, match="whole networks"):
        list(reach.run({"kind": "layers"}, {"net": anchor_model()}))
    assert np.isfinite(os.getpid())
