"""Preference by capacity: the more a task is preferred, the larger its decoder.

The rule is that of Aich et al., Efficient Controllable Multi-Task Architectures (ICCV 2023), as its abstract states
it; its exact form is not published with code, so ours is one monotone map for every ordered choice that one task
owns:

    d_t = snap(d_min + (d_max - d_min) * level * p_t / max(p))

Numbers (widths, depths, experts) snap to the nearest option, other ordered options by their index. A target midway
between two options leaves both open. What several tasks own, and what has no order (operators), is open: the search
decides. This is not a weight of a loss, which acts in training, and not a weight of an objective, which only ranks
networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mtnas.space.choice import Choice
from mtnas.space.space import Space

#: choices whose neighbouring options need not be alike
UNORDERED_KINDS = frozenset({"operator"})


def decoder_choices(space: Space) -> dict[str, tuple[Choice, ...]]:
    """Task -> the ordered choices that it owns alone, where some choice is shared; a single-task network has none."""
    owners = {owner for choice in space.choices for owner in choice.owners}
    if len(owners) < 2:
        return {}
    found: dict[str, tuple[Choice, ...]] = {}
    for choice in space.choices:
        if len(choice.owners) == 1 and choice.kind not in UNORDERED_KINDS and len(choice.options) > 1:
            found[choice.owners[0]] = (*found.get(choice.owners[0], ()), choice)
    return found


def snapped(choice: Choice, fraction: float) -> tuple[int, ...]:
    """The index of the option nearest to that fraction of the way from smallest to largest; two when both are."""
    places = _places(choice)
    distances = [abs(place - fraction) for place in places]
    return tuple(i for i, distance in enumerate(distances) if distance <= min(distances) + 1e-9)


def _places(choice: Choice) -> list[float]:
    """Where each option lies between the first, 0, and the last, 1."""
    numbers = [float(option) for option in choice.options if isinstance(option, int | float)]
    if len(numbers) < len(choice.options) or numbers != sorted(numbers):
        numbers = [float(index) for index in range(len(choice.options))]
    span = numbers[-1] - numbers[0] or 1.0
    return [(number - numbers[0]) / span for number in numbers]


@dataclass(frozen=True)
class DecoderPlan:
    """Which options each decoder may take. Build it with `DecoderPlan.of`.

    Args:
        choices: task -> its choices.
        targets: choice -> indices of its options, as the preference gives them.
        share: task -> preference; sums to one.
        steps: task -> options up (positive) or down from the target.
        pinned: tasks whose decoder was made larger for a floor, and is not made smaller again.
    """

    choices: Mapping[str, tuple[Choice, ...]]
    targets: Mapping[str, tuple[int, ...]]
    share: Mapping[str, float]
    steps: Mapping[str, int] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()

    @staticmethod
    def of(space: Space, share: Mapping[str, float], level: float = 1.0) -> DecoderPlan:
        """The decoders that a preference asks for.

        Args:
            space: the choices with their owners.
            share: task -> preference.
            level: size of the most preferred task's decoder, 1 being the largest.
        """
        choices = decoder_choices(space)
        highest = max(share.values())
        targets = {c.name: snapped(c, level * share[task] / highest) for task, row in choices.items() for c in row}
        return DecoderPlan(choices, targets, dict(share))

    def allowed(self, task: str, choice: Choice) -> tuple[int, ...]:
        """Indices of the options that are open."""
        step, last = self.steps.get(task, 0), len(choice.options) - 1
        return tuple(sorted({min(last, max(0, index + step)) for index in self.targets[choice.name]}))

    def restrict(self, space: Space) -> Space:
        """The space with the decoders held, all else open."""
        held = {c.name: self.allowed(task, c) for task, row in self.choices.items() for c in row}
        kept = (_kept(choice, held.get(choice.name)) for choice in space.choices)
        return Space(tuple(kept))

    def smaller(self) -> DecoderPlan | None:
        """The least preferred decoder that can shrink, one option smaller; None when none can."""
        for task in sorted(self.choices, key=lambda task: self.share[task]):
            if task not in self.pinned and any(self.allowed(task, c)[-1] > 0 for c in self.choices[task]):
                return self._moved(task, -1)
        return None

    def larger(self, tasks: Sequence[str]) -> DecoderPlan | None:
        """The first of the tasks whose decoder can grow, one option larger and pinned there; None when none can."""
        for task in tasks:
            row = self.choices.get(task, ())
            if any(self.allowed(task, c)[0] < len(c.options) - 1 for c in row):
                return replace(self._moved(task, 1), pinned=self.pinned | {task})
        return None

    def _moved(self, task: str, by: int) -> DecoderPlan:
        return replace(self, steps={**self.steps, task: self.steps.get(task, 0) + by})


def _kept(choice: Choice, indices: Sequence[int] | None) -> Choice:
    return choice if indices is None else replace(choice, options=tuple(choice.options[index] for index in indices))
