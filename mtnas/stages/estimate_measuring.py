"""How long measuring will take: rounds and warm-ups as the protocol sets them, times the networks there will be."""

from __future__ import annotations

from mtnas.job.schema import Job
from mtnas.measure.additive import subsets_to_measure
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import matching_device
from mtnas.measure.energy import IDLE_S, REPEATS
from mtnas.measure.limits import counts_energy
from mtnas.measure.probe_networks import WIDTHS
from mtnas.measure.width_steps import quick_protocol
from mtnas.stages.context import RunContext
from mtnas.stages.part_costs import shortened
from mtnas.stages.steps import delivered_precisions, kinds_of_layers

#: a fresh process until its runtime works
_PROCESS_S = 0.7
#: cutting a network, opening it, and its share of writing and reading
_OPENING_S = 0.2
#: making an int8 copy of a network for timing
_COPY_S = 0.5
#: the same for the small chains of the width-step probe
_CHAIN_S = 0.05
#: latency of such a chain, on the way from narrow to wide
_PROBE_MS = 0.3
#: a subset's latency as a share of the whole, in the middle
_SUBSET = 0.6


def networks_s(config: MeasureConfig, latency_ms: float, count: float = 1.0, opening_s: float = _OPENING_S) -> float:
    """Opening, warming up, rounds, and each network's share of the anchor's."""
    round_ms = max(config.round_ms, config.round_runs * latency_ms)
    return count * (opening_s + (2.0 * config.warmup_ms + 1.5 * config.rounds * round_ms) / 1e3)


def probing_s(context: RunContext) -> float:
    """The width-step probe: every kind of layer in every precision that may be delivered; zero without a probe."""
    if context.job.space.round_to != "probe":
        return 0.0
    quick = quick_protocol(context.job.device, len(WIDTHS))
    curves = len(kinds_of_layers(context)) * len(delivered_precisions(context))
    return curves * (_PROCESS_S + networks_s(quick, _PROBE_MS, len(WIDTHS), _CHAIN_S))


def profiling_s(context: RunContext, full_ms: float, middle_ms: float) -> float:
    """Sub-networks (a profile may stop earlier), their memory and energy where asked, and the full network's parts."""
    device = context.job.device
    copies = device.samples * _COPY_S if context.precision == "int8" else 0.0
    costs = device.cost_samples * (
        memory_s(device) + (energy_s(device) if counts_energy(matching_device(device)) else 0.0)
    )
    return networks_s(device, middle_ms, device.samples) + copies + costs + parts_s(context, full_ms)


def parts_s(context: RunContext, latency_ms: float) -> float:
    """Every subset of the tasks, the shared part and the empty network, and the memory of whole and single tasks."""
    config, tasks = context.job.device, tuple(context.tasks)
    found = networks_s(shortened(config), _SUBSET * latency_ms, len(subsets_to_measure(tasks)) + 2)
    has_memory = "memory_mb" in matching_device(config).limits
    return found + (len(tasks) + 2) * _PROCESS_S * has_memory


def int8_copies_s(context: RunContext, latency_ms: float) -> float:
    """Timing copies measured once int8 is delivered, where the run's profile is of float32."""
    job = context.job
    if not job.quantize.enabled or context.precision == "int8":
        return 0.0
    return networks_s(job.device, latency_ms, job.device.int8_samples) + job.device.int8_samples * _COPY_S


def candidates_s(job: Job, latency_ms: float, count: float) -> float:
    """Networks with all that the budget limits: no predictor tells a candidate's memory or energy in a search."""
    limited = {limit.name for limit in job.budget.limits}
    found = networks_s(job.device, latency_ms)
    found += memory_s(job.device) if "memory_mb" in limited else 0.0
    found += energy_s(job.device) if "energy_mj" in limited else 0.0
    return count * found


def certifying_s(job: Job, latency_ms: float) -> float:
    """Fresh processes, each with two copies of the delivered file; then the full network for limits in percent."""
    device = job.device
    round_ms = max(device.round_ms, device.round_runs * latency_ms)
    process_s = 1.0 + 2.0 * (2.0 * device.warmup_ms + device.certify_rounds * round_ms) / 1e3
    rest = candidates_s(job, latency_ms, 1) - networks_s(device, latency_ms)
    relative = any(limit.percent for limit in job.budget.limits)
    return device.processes * process_s + rest + candidates_s(job, 2.0 * latency_ms, 1) * relative


def memory_s(config: MeasureConfig) -> float:
    """Peak memory of one network."""
    return config.processes * _PROCESS_S


def energy_s(config: MeasureConfig) -> float:
    """Energy of one network: loops between windows of doing nothing."""
    return _PROCESS_S + REPEATS * config.energy_loop_s + (REPEATS + 1) * min(IDLE_S, config.energy_loop_s)
