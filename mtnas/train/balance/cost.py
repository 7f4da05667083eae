"""What a balancing method adds to a training step. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.train.balance.table import LOOKING_BACK, PER_TASK


@dataclass(frozen=True)
class Passes:
    """Passes of one training step, all sub-networks together.

    Args:
        forward: through whole networks.
        backward: through the shared part; a task's own part sees one for each network, and one more with flat minima.
    """

    forward: int
    backward: int

    @property
    def relative(self) -> float:
        """In units of one forward and one backward pass, a backward pass taking twice as long as a forward one."""
        return (self.forward + 2 * self.backward) / 3


def passes(balance: str, networks: int, tasks: int, flat_radius: float = 0.0) -> Passes:
    """Passes of a step.

    Args:
        balance: a row of the table.
        networks: sub-networks per step, the largest included.
        tasks: outputs.
        flat_radius: 0 without the search for flat minima. With it, `bandit` takes fewer than told.
    """
    flat = flat_radius > 0
    backward = networks * (tasks if flat or balance in PER_TASK else 1) + (tasks if flat else 0)
    return Passes(networks + (tasks if flat else 0) + (balance in LOOKING_BACK), backward)
