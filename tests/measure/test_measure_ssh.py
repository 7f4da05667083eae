"""A real ssh server on this machine: measuring through it, cut connections, dead runners, wrong keys, odd names."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import signal
import sys
import threading
import time
import venv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from measure_subject import cut, features, pool, quick_config

from mtnas.base.errors import DeviceMissing
from mtnas.base.groups import Selection
from mtnas.base.machine import cpu_info
from mtnas.measure.anchor import anchor_model, empty_model
from mtnas.measure.certify import certify
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import read_device
from mtnas.measure.gate import never_slower
from mtnas.measure.lock import exclusive
from mtnas.measure.memory import peak_memory
from mtnas.measure.profile import build_profile
from mtnas.measure.protocol import Bench, environment_here, measure, self_test
from mtnas.measure.reach.base import Model
from mtnas.measure.reach.check import check_device
from mtnas.measure.record import LatencyRecord

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench import loopback
from tools.bench.loopback import Loopback, make_key, runner_pid


def lacking() -> str:
    """Why no server can be had here, if so."""
    if loopback.find_sshd() is None or shutil.which("ssh") is None or not Path("/proc/self/stat").exists():
        return "needs ssh and sshd (apt-get install openssh-server) on Linux"
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return "ssh serves no user whom this system does not know by name"
    return ""


pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())
NASTY = "a; touch x $(touch y) `touch z` '\" \\ \n -oProxyCommand=false"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    running = Loopback(tmp_path_factory.mktemp("sshd"))
    yield running
    running.stop()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """The folder that stands for the device's disk."""
    return tmp_path / "far" / "cache"


@pytest.fixture
def config(server: Loopback, tmp_path: Path, remote: Path) -> MeasureConfig:
    return replace(quick_config(), device=str(server.device(tmp_path / "board", remote)), together=2, max_rounds=6)


class Notes:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def measured(remote: Path, at_least: int = 0, seconds: float = 60.0) -> list[str]:
    """Names on the device's disk, once there are so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        names = [record["name"] for record in loopback.latencies(remote)]
        if len(names) >= at_least:
            return names
        time.sleep(0.02)
    raise AssertionError("nothing was measured")


def test_measuring_through_ssh_gives_the_records_of_here(config: MeasureConfig, remote: Path, chain: Chain) -> None:
    local = measure({"small": chain(8), "large": chain(48)}, replace(config, device="local-ort"))
    far = measure({"small": chain(8), "large": chain(48)}, config)
    assert list(far) == ["small", "large"] and far["small"].p50.high < far["large"].p50.low
    for name, record in far.items():
        assert record.environment.differences(local[name].environment) == []
        assert len(record.runs_ms_RN) == len(record.anchor_ms_R) >= config.rounds
        assert 0.2 < record.relative.value / local[name].relative.value < 5.0
        assert record.state["before"]["cores"] >= 1
        assert LatencyRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert environment_here(config).differences(far["small"].environment) == []
    assert not remote.parent.exists()  # the folders above were made by us, too


def test_every_way_of_measuring_reaches_the_device(
    config: MeasureConfig, remote: Path, chain: Chain, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(chain(16))
    config = replace(config, processes=1)
    assert self_test(chain(16), config).overhead_ms > 0
    assert never_slower(chain(8), chain(48), config).verdict == "slower"
    assert peak_memory(file, config).unit == "mb"
    certificate = certify(file, {"latency_ms": 1e6}, config, processes=1)
    assert certificate.met and certificate.environment["cpu"] == cpu_info()["model"]
    assert not remote.exists()


def test_names_never_reach_a_shell(config: MeasureConfig, server: Loopback, tmp_path: Path, chain: Chain) -> None:
    remote = tmp_path / "far $(touch w)" / "b; touch v 'x"
    device = server.device(tmp_path / "odd", remote, name=NASTY)
    records = measure({NASTY: chain(8), "$(touch u)": chain(8)}, replace(config, device=str(device)))
    assert list(records) == [NASTY, "$(touch u)"]
    for folder in (Path.home(), Path.cwd(), tmp_path, *remote.parents):
        for name in "uvwxyz":
            assert not (folder / name).exists()
    assert not remote.parent.exists()


def test_a_cut_connection_loses_nothing_and_repeats_nothing(
    config: MeasureConfig, server: Loopback, remote: Path, chain: Chain
) -> None:
    models: dict[str, Model] = {f"net{i}": chain(8 + 8 * (i % 5)) for i in range(10)}
    notes, cuts = Notes(), []

    def cut() -> None:
        for wanted in (1, 4):
            measured(remote, wanted)
            while not server.cut_connections():  # not connected again yet
                time.sleep(0.05)
            cuts.append(wanted)

    thread = threading.Thread(target=cut)
    thread.start()
    seen, once = [], []
    with Bench(config, progress=Both(notes)) as bench:
        for record in bench.measure(models):
            seen.append(record.name)
        once = measured(remote)
    thread.join()
    assert cuts == [1, 4] and sum("connection lost" in text for text in notes.said) >= 2
    assert sorted(seen) == sorted(models) == sorted(once)
    assert not remote.exists()


def test_a_killed_runner_is_started_again_and_skips_what_is_done(
    config: MeasureConfig, remote: Path, chain: Chain
) -> None:
    models: dict[str, Model] = {f"net{i}": chain(8) for i in range(6)}
    notes, killed = Notes(), []

    def kill() -> None:
        measured(remote, 2)
        killed.append(runner_pid(remote))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with Bench(config, progress=Both(notes)) as bench:
        seen = [record.name for record in bench.measure(models)]
        once = measured(remote)
        assert runner_pid(remote) != killed[0]
    thread.join()
    assert sorted(seen) == sorted(models) == sorted(once)
    assert any("started again" in text for text in notes.said)


def test_a_host_that_died_goes_on_where_it_was(config: MeasureConfig, remote: Path, chain: Chain) -> None:
    models: dict[str, Model] = {f"net{i}": chain(8) for i in range(6)}
    bench = Bench(config)
    bench.__enter__()
    first = next(bench.measure(models)).name
    bench._rounds._reach.connection.close()  # no farewell: as if this process had been killed
    bench._rounds._reach._stack.close()
    measured(remote, 3)
    torn = next((remote / "sessions").glob("*/results.jsonl"))
    with Bench(config) as again:
        os.kill(runner_pid(remote), signal.SIGKILL)
        with torn.open("ab") as stream:
            stream.write(b'{"event": "latency", "na')
        seen = [record.name for record in again.measure(models)]
        once = measured(remote)
    assert first in seen and sorted(seen) == sorted(models) == sorted(once)
    assert not remote.exists()


def test_leaving_early_stops_the_runner(config: MeasureConfig, remote: Path, chain: Chain) -> None:
    with Bench(config) as bench:
        next(bench.measure({f"net{i}": chain(8) for i in range(8)}))
        pid = runner_pid(remote)
    assert loopback.command_of(pid) == "" and not remote.exists()


def test_what_is_kept_is_not_sent_again_and_not_believed_again(
    server: Loopback, tmp_path: Path, remote: Path, chain: Chain
) -> None:
    config = replace(quick_config(), device=str(server.device(tmp_path / "board", remote, keep=True)))
    first = measure({"net": chain(8)}, config)["net"]
    blobs = {path.name: path.stat().st_mtime_ns for path in (remote / "blobs").iterdir()}
    second = measure({"net": chain(8)}, config)["net"]
    assert {path.name: path.stat().st_mtime_ns for path in (remote / "blobs").iterdir()} == blobs
    assert first.runs_ms_RN != second.runs_ms_RN


def test_a_profile_sends_the_full_network_once_and_is_cut_on_the_device(
    config: MeasureConfig, remote: Path, tmp_path: Path
) -> None:
    sent: list[set[str]] = []

    class Sliced:
        """A network of the subject, as a slice of the full one; counts how often the full one is on the device."""

        def __init__(self, chosen: Selection) -> None:
            self.chosen = chosen

        def onnx_bytes(self) -> bytes:
            return cut(self.chosen)

        def base(self) -> bytes:
            return b'{"w": ["<f4", [1], 0]}\n' + b"\0" * 4

        def recipe(self) -> bytes:
            blobs = remote / "blobs"
            sent.append({path.name for path in blobs.iterdir()} if blobs.exists() else set())
            data = self.onnx_bytes()
            plan = {"sha256": hashlib.sha256(data).hexdigest(), "parts": [len(data)]}
            return json.dumps(plan).encode() + b"\n" + zlib.compress(data)

    quick = replace(config, samples=10, max_rounds=6)
    profile = build_profile(Sliced, features, pool(), quick, tmp_path / "profile")
    assert len(profile.points) >= 8 and profile.input_shape[1] == 3
    assert hashlib.sha256(Sliced(pool()[0]).base()).hexdigest() in sent[-1]
    assert not remote.exists()


def test_check_tells_what_is_there(config: MeasureConfig, server: Loopback, tmp_path: Path, remote: Path) -> None:
    found = check_device(read_device(config.device))
    assert found["reachable"] and found["details"]["modules"]["onnxruntime"] and "Python" in found["text"]
    away = server.device(tmp_path / "away", remote, port=loopback.free_port())
    found = check_device(read_device(str(away)))
    assert not found["reachable"] and "cure" in found["text"]
    assert not remote.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "no-such-host.invalid"}, "no host of that name"),
        ({"port": 1}, "no ssh server"),
        ({"python": "no-such-python"}, "no no-such-python there"),
        ({"options": ["IdentityFile=no-such-key", "IdentitiesOnly=yes"]}, "not known|refuses every key"),
        ({"remote": Path("/proc/no/such")}, "errand on the device failed"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    change: dict, words: str, config: MeasureConfig, server: Loopback, tmp_path: Path, remote: Path
) -> None:
    device = server.device(tmp_path / "wrong", **{"remote": remote, **change})
    with pytest.raises(DeviceMissing, match=words) as error:
        measure({"net": empty_model()}, replace(config, device=str(device)))
    assert error.value.cure


def test_unknown_and_changed_host_keys_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    server = Loopback(folder)
    try:
        config = replace(quick_config(), device=str(server.device(tmp_path / "board", tmp_path / "far")))
        known = (folder / "known_hosts").read_text()
        (folder / "known_hosts").write_text("")
        with pytest.raises(DeviceMissing, match="is not known here"):
            measure({"net": empty_model()}, config)
        make_key(folder / "host_key")
        (folder / "known_hosts").write_text(known)
        server.stop()
        server.start()
        with pytest.raises(DeviceMissing, match="another one than before"):
            measure({"net": empty_model()}, config)
    finally:
        server.stop()


def test_a_network_that_cannot_be_opened_is_told_and_tidied(config: MeasureConfig, remote: Path) -> None:
    with pytest.raises(DeviceMissing, match="measuring process"):
        measure({"bad": b"nothing"}, config)
    assert not remote.exists()


def test_two_measurements_on_a_device_wait_for_each_other(config: MeasureConfig, remote: Path) -> None:
    lock = Path(f"/tmp/mtnas-measure-{os.getuid()}.lock")  # that of any measurement made there
    with exclusive(60.0, path=lock), pytest.raises(DeviceMissing, match="another measurement"):
        environment_here(replace(config, lock_wait_s=0.3))
    assert not remote.exists()


def test_old_python_missing_packages_and_a_full_disk(server: Loopback, tmp_path: Path, remote: Path) -> None:
    old = tmp_path / "old"
    old.write_text(
        f"#!/bin/sh\nshift\nexec {shutil.which('python3')} -c \"import sys; sys.exit('mtnas-python 3.6')\"\n"
    )
    old.chmod(0o755)
    venv.create(tmp_path / "bare", with_pip=False)
    bare = tmp_path / "bare" / "bin" / "python"
    small = tmp_path / "small"
    small.write_text(f'#!/bin/sh\nulimit -f 8\nexec {sys.executable} "$@"\n')
    small.chmod(0o755)
    for python, words in ((old, "too old"), (bare, "numpy is not installed there"), (small, "disk there is full")):
        device = server.device(tmp_path / f"with-{python.name}", remote, python=str(python))
        with pytest.raises(DeviceMissing, match=words):
            measure({"net": anchor_model()}, replace(quick_config(), device=str(device)))


Chain = Callable[..., bytes]


class Both:
    """Notes, and the rest of a progress."""

    def __init__(self, notes: Notes) -> None:
        self.note = notes.note

    def task(self, *_: object, **__: object) -> object:
        raise AssertionError("a bench opens no task")
