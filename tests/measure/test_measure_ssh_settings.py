"""The `ssh:` mapping of a device: what is refused, and what ssh's words mean. No connection is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mtnas.base.errors import DeviceMissing, JobError
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import read_device
from mtnas.measure.reach.ssh import session_name
from mtnas.measure.reach.ssh_errors import ConnectionLost, classify, job_failure, remote_failure
from mtnas.measure.reach.ssh_settings import SshSettings


def settings(**change: object) -> SshSettings:
    return SshSettings.of({"host": "board", **change}, "device.yaml: ssh")


def test_defaults_leave_everything_to_ssh() -> None:
    plain = settings()
    assert plain.words() == [] and plain.title == "board" and plain.python == "python3" and not plain.keep
    full = settings(port=22, user="me", options=["ProxyJump=gate"])
    assert full.words() == ["-o", "ProxyJump=gate", "-p", "22", "-l", "me"] and full.title == "me@board:22"


@pytest.mark.parametrize(
    "change",
    [
        {"host": ""},
        {"host": "-oProxyCommand=sh"},
        {"host": "a; reboot"},
        {"user": "-l"},
        {"user": "a b"},
        {"python": "python3; reboot"},
        {"python": "$(id)"},
        {"python": "-c"},
        {"port": 70000},
        {"port": "22"},
        {"port": True},
        {"keep": 1},
        {"folder": "/"},
        {"folder": "a/../.."},
        {"folder": ""},
        {"folder": "a\nb"},
        {"patience_s": 0},
        {"pasword": "x"},
        {"password": "x"},
        {"options": ["ProxyCommand=nc %h %p"]},
        {"options": ["LocalCommand=id"]},
        {"options": ["-v"]},
        {"options": ["IdentityFile"]},
        {"options": ["StrictHostKeyChecking=no"]},
        {"options": ["stricthostkeychecking=off", "UserKnownHostsFile=mine"]},
        {"options": ["StrictHostKeyChecking=accept-new"]},
        {"options": ["UserKnownHostsFile=/dev/null"]},
        {"options": ["Port=22\nProxyCommand=id"]},
    ],
)
def test_careless_or_dangerous_settings_are_refused(change: dict) -> None:
    with pytest.raises(JobError):
        settings(**change)


def test_accepting_a_new_key_needs_a_file_for_it() -> None:
    assert settings(options=["StrictHostKeyChecking=accept-new", "UserKnownHostsFile=known"])


def test_a_device_file_is_checked_when_read(tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    for ssh, words in (({"port": 22}, "host"), ({"host": "a", "pythn": "b"}, "python")):
        path.write_text(yaml.safe_dump({"name": "far", "reach": "ssh", "ssh": ssh}))
        with pytest.raises(JobError, match=words):
            read_device(str(tmp_path))
    path.write_text(yaml.safe_dump({"name": "far", "reach": "ssh", "ssh": {"host": "board", "keep": True}}))
    device = read_device(str(tmp_path))
    path.write_text(device.to_yaml())
    assert read_device(str(tmp_path)) == device and device.ssh["keep"]


@pytest.mark.parametrize(
    ("text", "words", "first"),
    [
        ("@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@", "ssh-keygen -R", False),
        ("No ED25519 host key is known for x and you have requested strict checking.", "fingerprint", True),
        ("me@x: Permission denied (publickey).", "ssh-copy-id", False),
        ("ssh: Could not resolve hostname x: Name or service not known", "ssh.host", False),
        ("connect to host x port 22: Connection refused", "start sshd", True),
        ("connect to host x port 22: No route to host", "switch it on", True),
        ("something new", "ssh -v", True),
    ],
)
def test_what_cannot_be_helped_by_trying_again_says_its_cure(text: str, words: str, first: bool) -> None:
    error = classify(text, "x", first=first)
    assert isinstance(error, DeviceMissing) and words in str(error)


@pytest.mark.parametrize("text", ["Connection refused", "No route to host", "Connection closed by remote host", ""])
def test_a_host_that_was_there_is_tried_again(text: str) -> None:
    assert isinstance(classify(text, "x", first=False), ConnectionLost)


def test_the_far_ends_failures_say_their_cure() -> None:
    assert "no python3 there" in str(remote_failure(127, "sh: 1: exec: python3: not found", "x", "python3"))
    assert "too old" in str(remote_failure(1, "mtnas-python 3.6", "x", "python3"))
    missing = str(job_failure("ModuleNotFoundError: No module named 'onnxruntime'", "x", "python3"))
    assert "python3 -m pip install onnxruntime" in missing
    assert "disk there is full" in str(job_failure("OSError: [Errno 28] No space left on device", "x", "python3"))


def test_a_session_has_one_name_a_command() -> None:
    config = MeasureConfig()
    assert session_name("board", config, "bench") == session_name("board", config, "bench")
    others = {session_name("board", config, "gate"), session_name("desk", config, "bench")}
    others.add(session_name("board", MeasureConfig(seed=1), "bench"))
    assert len(others | {session_name("board", config, "bench")}) == 4
