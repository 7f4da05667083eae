"""A job so small that a whole run takes seconds, and ways to run it: in this process, or in one that may be killed."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mtnas.base.journal import Journal
from mtnas.cli import app, guarded
from mtnas.stages.folder import FOLDERS

JOB = """\
name: tiny
data: {name: scenes, height: 32, width: 32, train: 64, calibrate: 32, select: 32, report: 32}
tasks: [segmentation, depth]
model: {width: 16, blocks: [1, 1], output_stride: 8, head_width: 16, head_convs: 1}
space: {round_to: 8}
train: {epochs: 3, batch_size: 16, precision: float32, channels_last: never, checkpoint_seconds: 0}
score: {calibrate_images: 32}
device: {device: local-ort, samples: 14, rounds: 4, max_rounds: 6, round_ms: 1, round_runs: 4,
  warmup_ms: 5, warmup_cap_ms: 40, retries: 0, processes: 1, certify_rounds: 4}
budget: {latency_ms: 100, macs: 80%}     # a latency that any machine keeps; the multiply-adds are what binds
floors: {segmentation: -90%, depth: -90%}
search: {trials: 8, population: 4, measure_front: 3}
prune: {target: 20%, step: 8, min_units: 8, images: 32, max_steps: 3}
finetune: {epochs: 2, batch_size: 16, checkpoint_seconds: 0}
quantize: {images: 32}
"""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """The JSON on stdout, which must hold nothing else."""
        return json.loads(self.out)


def mtnas(*words: str | Path) -> Done:
    """The command `mtnas ...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = guarded(lambda: app([str(word) for word in words], standalone_mode=False))
    return Done(code, out.getvalue(), err.getvalue())


def environment(scratch: Path) -> Mapping[str, str]:
    """One thread, as the tests have; a measuring lock of our own, so that no other work is waited for."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch), "COLUMNS": "200"}


def start(*words: str | Path, scratch: Path) -> subprocess.Popen[str]:
    """The command `mtnas ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from mtnas.cli import main; main()", *(str(word) for word in words)],
        env=environment(scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 240.0) -> Done:
    out, err = process.communicate(timeout=timeout_s)
    return Done(process.returncode, out, err)


def stop_when(process: subprocess.Popen[str], ready: Callable[[], bool], number: signal.Signals) -> Done:
    """Send a signal as soon as `ready`; the process must still be at work then."""
    deadline = time.monotonic() + 240.0
    while not ready():
        assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "the moment to stop it never came"
        time.sleep(0.001)
    process.send_signal(number)
    return finish(process)


def lines(path: Path) -> int:
    """Complete lines of a journal that another process may be writing."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def write_job(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(JOB, encoding="utf-8")
    return path


@dataclass(frozen=True)
class FinishedRun:
    """A job, the folder of its finished run (never to be changed), and what the command said."""

    job: Path
    path: Path
    done: Done

    def copy(self, target: Path, upto: str = "report") -> Path:
        """A copy that has come as far as `upto`; one that is not complete has no events yet."""
        names = list(FOLDERS)
        later = [FOLDERS[name] for name in names[names.index(upto) + 1 :]]
        stale = ("DONE", "events.jsonl", *later) if later else ()
        shutil.copytree(self.path, target, ignore=shutil.ignore_patterns(*stale))
        return target


@cache
def finished_run(folder: Path) -> FinishedRun:
    """One whole run for all tests of a session: of several workers the first makes it, and the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "done.json"
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not said.exists():
            done = finish(start("run", write_job(folder), "--out", folder / "run", "--json", scratch=folder))
            said.write_text(json.dumps(asdict(done)), encoding="utf-8")
    found = Done(**json.loads(said.read_text(encoding="utf-8")))
    assert found.code == 0, found.err
    return FinishedRun(folder / "tiny.yaml", folder / "run", found)


def records(path: Path) -> list[dict[str, Any]]:
    return Journal(path).records()


def stages_with(run: Path, event: str) -> list[str]:
    """Stages of which the journal of events tells this, in order."""
    return [record["stage"] for record in records(run / "events.jsonl") if record["event"] == event]


def failure(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "FAILED.json").read_text(encoding="utf-8")))


def assert_told(done: Done, code: int, *words: str) -> None:
    """The exit code, a message with these words, and no traceback."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err
