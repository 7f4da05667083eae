"""Opens the way to the device that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtnas.base.progress import Progress, Silent
from mtnas.base.tables import lookup
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import read_device
from mtnas.measure.reach.base import Reach
from mtnas.measure.reach.table import REACHES


def is_local(config: MeasureConfig) -> bool:
    """Whether the device is this machine."""
    return read_device(config.device).reach == "local"


def open_reach(config: MeasureConfig, purpose: str, progress: Progress | None = None) -> Reach:
    """The way to the device.

    Args:
        config: names the device.
        purpose: what the jobs are for; a purpose that was cut off is continued, another one starts anew.
        progress: told about waiting and reconnecting.
    """
    device = read_device(config.device)
    reach: Reach = lookup(device.reach, REACHES, "reach", where="reach")(device, config, purpose, progress or Silent())
    return reach


@contextmanager
def hold(config: MeasureConfig, progress: Progress | None = None) -> Iterator[None]:
    """Keep what was sent to a device until the end of this block, although measurements come and go in it."""
    if read_device(config.device).reach != "ssh":
        yield
        return
    with open_reach(config, "hold", progress) as reach:
        list(reach.run({"kind": "hold"}, {}))
        yield
