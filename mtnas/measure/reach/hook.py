"""The user's own command as a way to a device: phones, simulators, vendor clouds, boards behind a special cable.

The command times one ONNX file at a time (`hook_call.py`). The rounds are made here: in each round the networks and the
anchor go through the command once, in shuffled order, so that all of them share the device's weather. Every finished
round is written down at once; a job that was cut off goes on with the next round.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from mtnas.base.errors import DeviceMissing
from mtnas.base.files import content_hash
from mtnas.base.progress import Progress
from mtnas.device.rounds import Lane, Rules, finished, finished_together
from mtnas.measure.anchor import anchor_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import DeviceDescription, device_folder
from mtnas.measure.lock import exclusive
from mtnas.measure.reach.base import Model, Reach, Record, model_bytes
from mtnas.measure.reach.hook_call import Answer, call_hook
from mtnas.measure.reach.hook_rounds import HookRounds
from mtnas.measure.reach.hook_settings import HookSettings, read_hook

_ANCHOR = "anchor"


@dataclass
class _Network:
    """A network under the command, with the anchor's rounds beside its own."""

    name: str
    key: str
    folder: Path
    lane: Lane
    anchor: Lane = field(default_factory=lambda: _lane(_ANCHOR))


class HookReach:
    """A device behind a command.

    Args:
        device: its description; `hook` holds the command.
        config: how to measure.
        purpose: what the jobs are for; rounds of an interrupted job are found again under it.
        progress: told when another measurement is waited for.
    """

    def __init__(self, device: DeviceDescription, config: MeasureConfig, purpose: str, progress: Progress) -> None:
        self.settings: HookSettings = read_hook(device.hook, f"device {device.name!r}")
        self.device, self.config, self.purpose, self.progress = device, config, purpose, progress
        self._where = f"hook of device {device.name!r}"
        self._cwd = device_folder(config.device)
        self._stack = ExitStack()
        self._words: dict[str, str] | None = None

    def __enter__(self) -> Reach:
        with ExitStack() as stack:
            lock = Path(tempfile.gettempdir()) / f"mtnas-hook-{os.getuid()}-{self.device.name}.lock"
            stack.enter_context(exclusive(self.config.lock_wait_s, self.progress, lock))
            self._scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mtnas-hook-")))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        """The environment as the first answer tells it, then what the job asks for."""
        kinds = {"latency": self._latency, "memory": self._memory, "energy": self._energy, "opened": self._opened}
        if job["kind"] not in kinds:
            raise DeviceMissing(
                f"a device that can run the job {job['kind']!r}",
                received="a command that times whole networks",
                where=self._where,
                cure="use reach: ssh or local for this",
            )
        told = False
        for record in kinds[job["kind"]](job, models):
            if not told:
                yield self._environment()
                told = True
            yield record

    # --- jobs

    def _opened(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        """One call with the anchor: a network of no size is more than many converters can take."""
        self._call(_ANCHOR, self._written(_ANCHOR, anchor_model()))
        for name in models:
            yield {"event": "opened", "name": name, "version": self._version, "options": self._options}

    def _memory(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        for name in job.get("measured") or list(models)[1:]:
            found = self._call(name, self._written(name, model_bytes(models[name]))).memory_mb
            if found is None:
                raise self._absent("memory_mb", "peak memory")
            yield {"event": "memory", "name": name, "base_mb": 0.0, "peak_mb": found}

    def _energy(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        for name, model in models.items():
            folder, rows = self._written(name, model_bytes(model)), []
            for _ in range(min(job["repeats"], self.settings.repeats)):
                found = self._call(name, folder).energy_mj
                if found is None:
                    yield {"event": "energy-absent", "looked_for": ["the hook's answer: no energy_mj in it"]}
                    return
                rows.append({"runs": self.settings.runs, "gross_mj": found, "net_mj": found})
            yield {"event": "energy", "name": name, "counter": "hook", "rails": [], "repeats": rows}

    def _latency(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        most = min(job["max_rounds"], self.settings.repeats)
        rules = Rules.of({**job, "max_rounds": most, "rounds": min(job["rounds"], most)})
        rng = random.Random(job.get("order", job["seed"]))
        kept = HookRounds.of(self.device.name, self.purpose, {"job": _identity(job), "hook": self.settings.to_json()})
        if job.get("anchor"):
            yield from self._each(job, models, rules, rng, kept)
        else:
            yield from self._together(job, models, rules, rng, kept)
        kept.finish()

    def _each(
        self,
        job: Mapping[str, Any],
        models: Mapping[str, Model],
        rules: Rules,
        rng: random.Random,
        kept: HookRounds,
    ) -> Iterator[Record]:
        """Groups share rounds with the anchor; a network leaves as it settles."""
        anchor = self._written(_ANCHOR, model_bytes(models[job["anchor"]]))
        names = [name for name in models if name != job["anchor"]]
        for start in range(0, len(names), job["together"]):
            waiting = [self._network(name, models[name], kept) for name in names[start : start + job["together"]]]
            while waiting:
                for network in [one for one in waiting if finished(one.lane, one.anchor, rules)]:
                    waiting.remove(network)
                    yield self._found(network)
                if waiting:
                    self._round(waiting, anchor, rng, kept)

    def _together(
        self,
        job: Mapping[str, Any],
        models: Mapping[str, Model],
        rules: Rules,
        rng: random.Random,
        kept: HookRounds,
    ) -> Iterator[Record]:
        """All networks in all rounds, until each of those judged is narrow."""
        networks = [self._network(name, model, kept) for name, model in models.items()]
        judged = [one.lane for one in networks if one.name in set(job.get("judged") or models)]
        rounds = min(len(one.lane.runs_ms) for one in networks)
        for one in networks:  # a round counts when all are in it
            del one.lane.runs_ms[rounds:], one.lane.interrupted[rounds:], one.lane.medians_ms[rounds:]
        while not finished_together(judged, rounds, rules):
            self._round(networks, None, rng, kept)
            rounds += 1
        yield from (self._found(one) for one in networks)

    # --- one round, one call

    def _round(self, networks: Sequence[_Network], anchor: Path | None, rng: random.Random, kept: HookRounds) -> None:
        calls = [(one.key, one.name, one.folder) for one in networks]
        calls += [("", _ANCHOR, anchor)] if anchor is not None else []
        rng.shuffle(calls)
        answers = {key: self._call(name, folder).latency_ms for key, name, folder in calls}
        kept.add(answers, self._words or {})
        for one in networks:
            one.lane.add(list(answers[one.key]), [])
            if anchor is not None:
                one.anchor.add(list(answers[""]), [])

    def _call(self, name: str, folder: Path) -> Answer:
        """One answer; the circumstances must be those of all others."""
        request = {
            "name": name,
            "threads": self.config.threads,
            "precision": self.device.precision,
            "runtime": self.device.runtime,
        }
        answer = call_hook(self.settings, request, folder, self._cwd, self._where)
        self._agree(dict(answer.words))
        return answer

    def _agree(self, words: dict[str, str]) -> None:
        if self._words is not None and words != self._words:
            raise DeviceMissing(
                f"answers from one device under the same circumstances: {self._words}",
                received=str(words),
                where=self._where,
                cure="the runtime, the device or its power mode changed meanwhile: run the command again",
            )
        self._words = words

    # --- words

    def _network(self, name: str, model: Model, kept: HookRounds) -> _Network:
        """A network, with the rounds that an interrupted job has left."""
        data = model_bytes(model)
        key = content_hash({"name": name, "model": hashlib.sha256(data).hexdigest()})[:24]
        network = _Network(name, key, self._written(name, data), _lane(name))
        for answers in kept.rounds_of(key):
            network.lane.add(list(answers[key]), [])
            if "" in answers:
                network.anchor.add(list(answers[""]), [])
        if network.lane.runs_ms and self._words is None:
            self._words = dict(kept.words)
        return network

    def _written(self, name: str, data: bytes) -> Path:
        """The folder of a network's file; its name never comes from the network's."""
        folder = self._scratch / hashlib.sha256(f"{name}\0".encode() + data).hexdigest()[:16]
        folder.mkdir(exist_ok=True)
        path = folder / "model.onnx"
        if not path.exists():
            path.write_bytes(data)
        return folder

    def _found(self, network: _Network) -> Record:
        return {
            "event": "latency",
            "name": network.name,
            "rounds_ms": network.lane.runs_ms,
            "interrupted": network.lane.interrupted,
            "anchor_ms": network.anchor.medians_ms[-len(network.lane.runs_ms) :],
            "note": network.lane.note,
            "options": self._options,
            "state": {},
        }

    @property
    def _version(self) -> str:
        words = self._words or {}
        runtime = words.get("runtime", "") if words.get("runtime") != self.device.runtime else ""
        return " ".join(word for word in (runtime, words.get("runtime_version", "")) if word) or "not told"

    @property
    def _options(self) -> dict[str, Any]:
        return {"reach": "hook", "precision": self.device.precision, **(self._words or {})}

    def _environment(self) -> Record:
        words = self._words or {}
        told = [words[key] for key in ("device", "power_mode") if words.get(key)]
        return {
            "event": "environment",
            "runtime": self.device.runtime,
            "runtime_version": self._version,
            "cpu": ", ".join(told) or self.device.name,
            "features": [],
            "cores": 0,
            "governor": None,
        }

    def _absent(self, key: str, what: str) -> DeviceMissing:
        return DeviceMissing(
            f"a command that answers with {key}",
            received="an answer without it",
            where=self._where,
            cure=f"add {key} to the answer, or remove the limit: {what} is never guessed",
        )


def _lane(name: str) -> Lane:
    return Lane(name, lambda: None, 1)


def _identity(job: Mapping[str, Any]) -> dict[str, Any]:
    """What two jobs must share for their rounds to be of one kind; which networks they hold does not matter."""
    return {key: value for key, value in job.items() if key not in {"measured", "lock_wait_s", "together"}}
