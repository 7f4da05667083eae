"""Train one arm with one seed, score its networks, and leave a record; a record that is there is not made again."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from mtnas.base.files import make_folder, read_json, write_json
from mtnas.base.machine import fingerprint
from mtnas.base.progress import Progress, Silent
from mtnas.data.base import Batch, Dataset, Split
from mtnas.data.open import open_dataset
from mtnas.elastic.model import ElasticModel
from mtnas.score.score import score
from mtnas.space.arch import Arch
from mtnas.tasks.base import Task
from mtnas.train.checkpoint import load_weights
from mtnas.train.config import FinetuneConfig
from mtnas.train.finetune import finetune
from mtnas.train.fit import WEIGHTS as WEIGHTS_FILE
from mtnas.train.loop import train
from mtnas.train.result import TrainResult
from tools.bench.supernets.arms import JOINT, Arm, arm_of
from tools.bench.supernets.choosing import Metrics, all_preferences
from tools.bench.supernets.evolve import Pool, evolve
from tools.bench.supernets.networks import (
    Costs,
    candidate_archs,
    elastic_network,
    fixed_arch,
    full_network,
    sliced_statistics,
    step_macs,
    tasks_of,
    uniform_arch,
    with_new_weights,
)
from tools.bench.supernets.settings import Setting

SCHEMA = "supernet/1"
RECORDS = Path("docs") / "results" / "supernets"
WEIGHTS = Path("runs") / "bench" / "supernets"
#: of the supernet's training, for fine-tuning one network
TUNED_SHARE = 0.1

Scores = dict[str, dict[str, float]]


def record_path(setting: Setting, name: str, seed: int, folder: Path = RECORDS) -> Path:
    return folder / setting.name / f"{name}-{seed}.json"


def read_record(setting: Setting, name: str, seed: int, folder: Path = RECORDS) -> dict[str, Any] | None:
    """The record of an arm and seed, if it is there; that of its candidates under the name `answers-ARM`."""
    path = record_path(setting, name, seed, folder)
    return read_json(path, schema=SCHEMA) if path.exists() else None


class Worker:
    """Makes the records of one setting.

    Args:
        setting: data, network, schedule.
        records: folder of the records.
        weights: folder of checkpoints; training that was stopped goes on from there.
        progress: shows a bar.
    """

    def __init__(
        self, setting: Setting, records: Path = RECORDS, weights: Path = WEIGHTS, progress: Progress | None = None
    ) -> None:
        self.setting, self.records, self.weights = setting, records, weights
        self.progress = progress or Silent()
        self.dataset: Dataset = open_dataset(setting.data, progress=self.progress)
        self.tasks = tasks_of(setting, self.dataset)
        self.metrics = Metrics.of(self.tasks)
        torch.set_num_threads(1)

    def make(self, arm: str, seed: int) -> dict[str, Any]:
        """The record of an arm and seed."""
        known = read_record(self.setting, arm, seed, self.records)
        if known is not None:
            return known
        self.progress.note(f"{self.setting.name}: {arm}, seed {seed}")
        out = self._out(arm, seed)
        if arm.startswith("single-"):
            task, _, percent = arm.removeprefix("single-").rpartition("-")
            found = self._single(task, int(percent) / 100, seed, out)
        elif arm.startswith("alone-"):
            found = self._alone(int(arm.removeprefix("alone-")) / 100, seed, out)
        elif arm.startswith("part-"):
            share = 1.0 / len(self.setting.budgets)
            found = self._alone(int(arm.removeprefix("part-")) / 100, seed, out, share)
        elif arm.startswith("tuned-"):
            found = self._tuned(int(arm.removeprefix("tuned-")) / 100, seed, out)
        else:
            found = self._supernet(arm_of(arm), seed, out)
        return self._written(arm, seed, found)

    def answer(self, arm: str, seed: int) -> dict[str, Any]:
        """The record of a supernet's candidates, networks for every budget; trains the supernet where it is missing."""
        name = f"answers-{arm}"
        known = read_record(self.setting, name, seed, self.records)
        if known is not None:
            return known
        self.make(arm, seed)
        self.progress.note(f"{self.setting.name}: candidates of {arm}, seed {seed}")
        elastic = self._learned(arm, seed)
        costs = Costs(elastic)
        found = self._candidates(elastic, costs, arm_of(arm))
        return self._written(name, seed, {"full_macs": costs.full_macs, "candidates": found})

    def _learned(self, name: str, seed: int) -> ElasticModel:
        """The supernet with the weights of its record; trained again where they are gone."""
        arm, out = arm_of(name), self._out(name, seed)
        elastic = self._untrained(arm, seed)
        if (out / WEIGHTS_FILE).exists():
            elastic.load_state(load_weights(out / WEIGHTS_FILE))
        else:
            self._train(elastic, arm, seed, out)
        return elastic

    def _candidates(self, elastic: ElasticModel, costs: Costs, arm: Arm) -> list[dict[str, Any]]:
        """Networks on the select split, those of the search too; on the report split the first ones and the answers."""
        setting, found = self.setting, dict[Arch, dict[str, Any]]()
        first = candidate_archs(elastic, costs, setting, arm)
        budgets = [budget for budget in setting.budgets if costs.share(elastic.space.smallest) <= budget]
        asked = all_preferences(list(self.tasks))
        total = len(first) + arm.chooses * setting.rounds * setting.children * len(budgets)
        with self.progress.task("scoring", total) as bar:

            def losses(arch: Arch) -> dict[str, float]:
                splits = ("select", "report") if arch in first else ("select",)
                scores = self._primary(elastic.extract(arch), splits)
                found[arch] = {"arch": arch.to_json(), "macs": costs.share(arch), **scores}
                bar.advance()
                return self.metrics.losses(scores["select"])

            pool = Pool(costs.share, losses)
            pool.add(first)
            if arm.chooses:
                evolve(pool, elastic.space, budgets, asked, setting.rounds, setting.children)
        for arch in dict.fromkeys(arch for budget in budgets for arch in pool.chosen(asked, budget)):
            if "report" not in found[arch]:
                found[arch] |= self._primary(elastic.extract(arch), ("report",))
        return list(found.values())

    def _out(self, arm: str, seed: int) -> Path:
        return self.weights / self.setting.name / f"{arm}-{seed}"

    def _written(self, name: str, seed: int, found: Mapping[str, Any]) -> dict[str, Any]:
        record = {"schema": SCHEMA, "arm": name, "seed": seed, **self._facts(), **found}
        path = record_path(self.setting, name, seed, self.records)
        make_folder(path.parent)
        write_json(path, record)
        return read_json(path, schema=SCHEMA)

    def _facts(self) -> dict[str, Any]:
        machine = fingerprint()
        return {
            "setting": asdict(replace(self.setting, data=replace(self.setting.data, root=None))),
            "data": self.dataset.info.fingerprint,
            "machine": {key: value for key, value in machine.items() if key not in {"schema", "versions"}},
            "versions": machine["versions"],
            "python": platform.python_version(),
        }

    # --- the kinds of arms ------------------------------------------------------------------------------------

    def _untrained(self, arm: Arm, seed: int) -> ElasticModel:
        elastic = elastic_network(full_network(self.setting, self.dataset, self.tasks, seed), self.setting, arm)
        elastic.calibrate_with(self._calibration)
        return elastic

    def _supernet(self, arm: Arm, seed: int, out: Path) -> dict[str, Any]:
        elastic = self._untrained(arm, seed)
        result = self._train(elastic, arm, seed, out)
        costs = Costs(elastic)
        fixed = [] if arm.ignored else [self._fixed(elastic, costs, budget) for budget in self.setting.budgets]
        return {"training": result.to_json(), "full_macs": costs.full_macs, "fixed": fixed}

    def _train(self, elastic: ElasticModel, arm: Arm, seed: int, out: Path) -> TrainResult:
        config, split = arm.training(self.setting.train), self.dataset.split("train")
        if arm.work_of:
            asked = self._untrained(arm_of(arm.work_of), seed)
            passes = [step_macs(one, Costs(one), self.setting) for one in (asked, elastic)]
            config = replace(config, epochs=max(1, round(config.epochs * passes[0] / passes[1])))
        return train(elastic, self.tasks, split, config, out, seed=seed, progress=self.progress)

    def _fixed(self, elastic: ElasticModel, costs: Costs, budget: float) -> dict[str, Any]:
        arch = fixed_arch(elastic, costs, budget)
        return {
            "budget": budget,
            "arch": arch.to_json(),
            "macs": costs.share(arch),
            "estimated": self._splits(elastic.extract(arch), self.tasks),
            "stale": self._splits(elastic.extract(arch, statistics=sliced_statistics(elastic, arch)), self.tasks),
        }

    def _alone(self, budget: float, seed: int, out: Path, share: float = 1.0) -> dict[str, Any]:
        """One network by itself, for as many multiply-adds as the supernet's training takes, or a share of them."""
        elastic = elastic_network(full_network(self.setting, self.dataset, self.tasks, seed), self.setting)
        costs = Costs(elastic)
        elastic.calibrate_with(self._calibration)
        arch = fixed_arch(elastic, costs, budget)
        epochs = self._epochs(elastic, costs, arch, share)
        network = with_new_weights(elastic.extract(arch), seed)
        found = self._trained(network, self.tasks, self.setting.alone(epochs), seed, out)
        return {**found, "budget": budget, "arch": arch.to_json(), "macs": costs.share(arch), "epochs": epochs}

    def _tuned(self, budget: float, seed: int, out: Path) -> dict[str, Any]:
        """One network out of the supernet, for a tenth of the multiply-adds that the supernet's training took."""
        self.make(JOINT, seed)
        elastic = self._learned(JOINT, seed)
        costs = Costs(elastic)
        arch = fixed_arch(elastic, costs, budget)
        epochs = self._epochs(elastic, costs, arch, TUNED_SHARE)
        found = self._trained(elastic.extract(arch), self.tasks, self.setting.tuned(epochs), seed, out)
        return {**found, "budget": budget, "arch": arch.to_json(), "macs": costs.share(arch), "epochs": epochs}

    def _epochs(self, elastic: ElasticModel, costs: Costs, arch: Arch, share: float = 1.0) -> int:
        """Of one network, for a share of the multiply-adds of the supernet's training."""
        whole = self.setting.train.epochs * step_macs(elastic, costs, self.setting)
        return max(1, round(share * whole / costs.share(arch)))

    def _single(self, task: str, multiplier: float, seed: int, out: Path) -> dict[str, Any]:
        """A network that learns one task, as often as the supernet sees its images."""
        tasks = {task: self.tasks[task]}
        elastic = elastic_network(full_network(self.setting, self.dataset, tasks, seed), self.setting)
        costs = Costs(elastic)
        elastic.calibrate_with(self._calibration)
        arch = uniform_arch(elastic, (multiplier - 0.25) / 0.75)
        network = with_new_weights(elastic.extract(arch), seed)
        found = self._trained(network, tasks, self.setting.alone(self.setting.train.epochs), seed, out)
        return {**found, "task": task, "arch": arch.to_json(), "macs": costs.share(arch), "full_macs": costs.full_macs}

    def _trained(
        self, network: nn.Module, tasks: Mapping[str, Task], config: FinetuneConfig, seed: int, out: Path
    ) -> dict[str, Any]:
        split = labelled(self.dataset.split("train"), tasks)
        result = finetune(network, tasks, split, config, out, teacher=None, seed=seed, progress=self.progress)
        update_bn(self._calibration(), network)
        return {"training": result.to_json(), **self._splits(network, tasks)}

    # --- scores -----------------------------------------------------------------------------------------------------

    def _splits(
        self, network: nn.Module, tasks: Mapping[str, Task], names: Sequence[str] = ("select", "report")
    ) -> dict[str, Scores]:
        network.eval()
        return {name: score(network, tasks, self.dataset.split(name), batch_size=64) for name in names}

    def _primary(self, network: nn.Module, names: Sequence[str]) -> dict[str, Scores]:
        """The tasks' primary metrics alone."""
        found = self._splits(network, self.tasks, names)
        return {split: self.metrics.primary(scores) for split, scores in found.items()}

    def _calibration(self) -> list[torch.Tensor]:
        split = self.dataset.split("calibrate")
        return [image for image, _ in split.batches(32, limit=self.setting.calibrate_images)]


class Labelled(Split):
    """The images of a split that are labelled for at least one of some tasks."""

    def __init__(self, split: Split, indices: np.ndarray) -> None:
        self.name, self.inner, self.indices = split.name, split, indices

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Any, augment: np.random.Generator | None = None) -> Batch:
        return self.inner.batch(self.indices[np.asarray(indices)], augment)


def labelled(split: Split, tasks: Mapping[str, Task]) -> Split:
    """Without the images that teach none of the tasks; only image-level labels can be missing for a whole image."""
    if any(task.spec.type != "classification" for task in tasks.values()):
        return split
    known = []
    for start in range(0, len(split), 256):
        _, targets = split.batch(np.arange(start, min(start + 256, len(split))))
        known.append(np.any([targets[name].numpy() >= 0 for name in tasks], axis=0))
    indices = np.flatnonzero(np.concatenate(known))
    return split if len(indices) == len(split) else Labelled(split, indices)
