"""What is known of an elastic model, told by whoever trained, profiled or searched it; answers `elastic.configure`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.api.given import Out, given_context, identity, settle, tasks_identity
from mtnas.base.errors import JobError
from mtnas.base.groups import Size, size_text
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.task_subset import check_separable
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.forks import forks_of
from mtnas.job.narrow import chosen
from mtnas.job.schema import Job
from mtnas.measure.config import MeasureConfig
from mtnas.score.config import ScoreConfig
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Bounds, Configured, Subject, Wish
from mtnas.search.configure import configure as find
from mtnas.search.evaluations import Evaluations
from mtnas.stages.configure import JOURNAL, evaluations_of, subject_of
from mtnas.stages.context import RunContext
from mtnas.stages.folder import RunFolder
from mtnas.tasks.base import Task

if TYPE_CHECKING:
    from mtnas.api.profiling import DeviceProfile

_PROFILE_AGAIN = "profile this model: mtnas.profile(elastic, device=...)"


@dataclass(frozen=True)
class Known:
    """What is known of an elastic model, and answers its `configure`; the parts come from whoever had them.

    Args:
        tasks: by name.
        data: its splits `select` and `calibrate` are used.
        profile: of a device; without it, costs are counted.
        score: images behind a score.
        alone: costs are those of networks that answer these tasks alone, not all that the elastic model does.
        memory: what earlier calls have found out.
    """

    tasks: Mapping[str, Task] | None = None
    data: Dataset | None = None
    profile: DeviceProfile | None = None
    score: ScoreConfig = field(default_factory=ScoreConfig)
    alone: bool = False
    memory: dict[Any, Any] = field(default_factory=dict)

    def __call__(
        self,
        elastic: ElasticModel,
        budget: Bounds,
        preference: Mapping[str, float],
        floors: Bounds,
        tasks: Sequence[str] | None = None,
    ) -> Configured:
        wish = Wish(budget, preference, floors)
        if tasks is None or self.tasks is None:
            return self.find(elastic, wish, ConfigureConfig())
        names = chosen(self.tasks, tasks, "tasks")
        check_separable(elastic.model, names if len(names) < len(elastic.tasks) else ())
        part = replace(self, tasks={name: self.tasks[name] for name in names}, alone=True)
        return replace(part.find(elastic, wish, ConfigureConfig()), tasks=names)

    def find(
        self,
        elastic: ElasticModel,
        wish: Wish,
        config: ConfigureConfig,
        out: Out = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Configured:
        """One request; with `out`, scores are kept in a journal there."""
        context = self.context(elastic, out, progress)
        if out is None:
            return find(self.subject(context, None), wish, config, seed=seed, progress=progress)
        with context.run.locked():
            return find(self.subject(context, context.run.path / JOURNAL), wish, config, seed=seed, progress=progress)

    def context(self, elastic: ElasticModel, out: Out, progress: Progress | None = None) -> RunContext:
        """The parts as a run has them; raises `JobError` when tasks and data are not known."""
        if self.tasks is None or self.data is None:
            raise JobError(
                "the tasks and the data that networks are scored with",
                received="a profile only" if self.profile else "nothing",
                where="configure",
                cure="call mtnas.configure(elastic, tasks, data, profile, budget=...)",
            )
        if self.profile is not None:
            check_profile(elastic, self.profile, self.tasks)
        profile = self._own_profile(elastic, out, progress)
        job = Job(device=profile.config if profile else MeasureConfig(), score=self.score)
        settle(job, elastic, self.data)
        run = RunFolder(Path(out) if out is not None else Path())  # without `out` nothing is written
        context = given_context(job, run, elastic, self.data, dict(self.tasks), progress)
        context.graph = profile.graph if profile else self._graph(elastic)
        if self.alone:
            context.graph = context.graph.answering(self.tasks)
        if profile is not None:
            context.profile = profile.record
        return context

    def _own_profile(self, elastic: ElasticModel, out: Out, progress: Progress | None) -> DeviceProfile | None:
        """The given one; where it should be of networks for these tasks alone, one that is measured now and kept."""
        if not self.alone or self.profile is None or set(self.profile.graph.outputs) == set(self.tasks or ()):
            return self.profile
        from mtnas.api.profiling import profile

        names = [task for task in elastic.tasks if task in (self.tasks or ())]
        key = ("profile", *names)
        if key not in self.memory:
            folder = None if out is None else Path(out) / "subsets" / "+".join(names)
            config = self.profile.config
            self.memory[key] = profile(elastic, config=config, tasks=names, out=folder, progress=progress)
        found: DeviceProfile = self.memory[key]
        check_profile(elastic, found, names)
        return found

    def subject(self, context: RunContext, journal: Path | None) -> Subject:
        """What is searched; in memory, scores stay known as long as weights, tasks and data are the same."""
        elastic = context.trained
        told = {
            **identity(elastic),
            "tasks": tasks_identity(dict(context.tasks)),
            "data": context.data_fingerprint,
        }
        if journal is not None:
            return self._subject(context, evaluations_of(context, told, journal))
        key = ("scores", *context.tasks)
        if key not in self.memory or self.memory[key][0] != told:
            self.memory[key] = told, evaluations_of(context, told)
        return self._subject(context, self.memory[key][1])

    def _subject(self, context: RunContext, evaluations: Evaluations) -> Subject:
        full = None if self.profile is None else context.profile.extreme("largest").record
        latency = full.statistic(context.job.device.statistic) if full else None
        return subject_of(context, evaluations, full_latency=latency)

    def _graph(self, elastic: ElasticModel) -> ElasticGraph:
        """The exported network that costs are counted on: made once."""
        key = (elastic.space.id, tuple(elastic.example.shape))
        if self.memory.get("graph key") != key:
            graph = graph_of(elastic)
            self.memory.update({"graph key": key, "graph": graph})
        graph = self.memory["graph"]
        assert isinstance(graph, ElasticGraph)
        return graph


def learn(elastic: ElasticModel, **parts: Any) -> Known:
    """Let `elastic.configure` know tasks, data, profile or score settings; what was known before stays."""
    known = elastic.configurer if isinstance(elastic.configurer, Known) else Known()
    known = replace(known, **parts)
    elastic.configure_with(known)
    return known


def check_profile(elastic: ElasticModel, profile: DeviceProfile, tasks: Iterable[str]) -> None:
    """Groups, blocks that may be left out, forks, input size and tasks must be among those that were profiled."""
    missing = [task for task in tasks if task not in profile.graph.outputs]
    if missing:
        raise JobError(
            f"a profile of networks that answer {', '.join(missing)}",
            received=f"one of {', '.join(profile.graph.outputs)} alone",
            where="profile",
            cure=_PROFILE_AGAIN,
        )
    ours = [(group.name, group.size, group.frozen) for group in elastic.groups]
    theirs = [(group.name, group.size, group.frozen) for group in profile.graph.groups]
    sizes = tuple(elastic.example.shape[1:]), tuple(profile.graph.input_shape[1:])
    if ours != theirs or sizes[0] != sizes[1]:
        raise JobError(
            f"a profile of this elastic model, input {sizes[0]}",
            received=f"other channel groups, or input {sizes[1]}",
            where="profile",
            cure=_PROFILE_AGAIN,
        )
    forks = elastic.open_forks, forks_of(profile.graph.forks)
    if forks[0] != forks[1]:
        told = [", ".join(f"{fork.name} ({', '.join(fork.options)})" for fork in found) or "none" for found in forks]
        raise JobError(f"a profile with these forks: {told[0]}", received=told[1], where="profile", cure=_PROFILE_AGAIN)
    if elastic.inputs.sizes != profile.graph.sizes:
        raise JobError(
            f"a profile of the input sizes {_sizes(elastic.inputs.sizes)}",
            received=f"one of {_sizes(profile.graph.sizes)}",
            where="profile",
            cure=_PROFILE_AGAIN,
        )
    depths = tuple(elastic.skippable), tuple(profile.graph.bypasses)
    if depths[0] != depths[1]:
        raise JobError(
            f"a profile that leaves out {', '.join(depths[0]) or 'no block'}",
            received=f"one that leaves out {', '.join(depths[1]) or 'no block'}",
            where="profile",
            cure=_PROFILE_AGAIN,
        )


def _sizes(sizes: Sequence[Size]) -> str:
    return ", ".join([*map(size_text, sizes), "full"])
