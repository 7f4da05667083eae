"""The command line: parsing, printing, exit codes; nothing else.

Results go to stdout (as JSON with --json), progress and messages to stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mtnas import __version__
from mtnas.base.errors import ExitCode, MtnasError, UserError
from mtnas.console import ConsoleProgress

app = typer.Typer(
    name="mtnas",
    help="Architecture search and compression for multi-task networks under a hardware budget.\n\n"
    "To begin: mtnas doctor; mtnas init job.yaml; mtnas plan job.yaml; mtnas run job.yaml -o runs/job. "
    "Then pick, configure and export take the folder runs/job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: what typer raises for wrong arguments: click's class in older versions, its own in newer ones
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

#: of the verbs that ask a finished run for another network
Budget = Annotated[list[str] | None, typer.Option(help="Limit, such as latency_ms=50% or macs=2e7; repeat it.")]
Prefer = Annotated[list[str] | None, typer.Option(help="Weight of a task, 1 where silent: segmentation=2; repeat it.")]
Floor = Annotated[
    list[str] | None,
    typer.Option(help="Worst allowed score: depth=0.6, or depth=-3% against the unpruned network; repeat it."),
]
JobFile = Annotated[Path | None, typer.Argument(help="Job file (YAML or JSON); without it the embedded demo job runs.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run; default runs/<job name>.")]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override one value, such as train.epochs=3.")]
Tasks = Annotated[str | None, typer.Option(help="Some of the job's tasks alone, as depth,normals.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def main() -> None:
    """Entry point: every failure ends in a documented exit code, and none the user can mend in a traceback."""
    # Random sub-networks meet thousands of convolution shapes; oneDNN's default of 1,024 cached kernels makes it
    # compile them again and again, which slows training many times over. Read when torch runs its first convolution.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
    # A scheduler's polite end is an interruption like any other: recorded, resumable, exit code 130.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def guarded(call: Callable[[], Any]) -> int:
    """Run `call`, print what went wrong, and return the exit code."""
    console = Console(stderr=True)
    try:
        code = call()
        if code == ExitCode.INTERRUPTED:  # typer has already made a number of the interruption
            raise KeyboardInterrupt
        return code if isinstance(code, int) else int(ExitCode.DONE)
    except UserError as error:
        _print_error(console, str(error))
        return int(error.exit_code)
    except MtnasError as error:
        _print_error(console, f"{error}\n  this is a bug in mtnas {__version__}: please report it with this text")
        return int(error.exit_code)
    except typer.Exit as error:
        return int(error.exit_code)
    except _USAGE_ERROR as error:
        error.show()  # type: ignore[attr-defined]
        return int(ExitCode.JOB)
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted; the same command resumes", markup=False)
        return int(ExitCode.INTERRUPTED)


def _print_error(console: Console, text: str) -> None:
    console.print(f"error: {text}", markup=False, highlight=False, soft_wrap=True)


def _emit(as_json: bool, value: dict[str, Any], text: str) -> None:
    print(json.dumps(value, indent=1) if as_json else text)


def _run_until(
    stage: str,
    job_file: Path | None,
    out: Path | None,
    overrides: list[str] | None,
    as_json: bool,
    tasks: str | None = None,
) -> None:
    from mtnas.flow import run_flow
    from mtnas.job.read import read_job
    from mtnas.stages.context import RunContext
    from mtnas.stages.outcome import outcome, outcome_text
    from mtnas.stages.together import check_stage, processes, run_together

    count = processes(os.environ)
    check_stage(stage, count)
    leads = os.environ.get("RANK", "0") == "0"
    job = read_job(job_file, overrides or (), _names(tasks))
    folder = out or Path(job.out or Path("runs") / job.name)
    context = RunContext(job, folder, ConsoleProgress() if leads else None)
    if count == 1:
        run_flow(context, until=stage)
    elif not run_together(context, lambda: run_flow(context, until=stage)):
        return
    result = outcome(context.run, stage)
    _emit(as_json, result, outcome_text(result))
    if result.get("met") is False:
        raise typer.Exit(int(ExitCode.MISSED))


def _add_stage_verb(name: str, stage: str, text: str) -> None:
    def verb(
        job: JobFile = None, out: Out = None, set_: Set = None, tasks: Tasks = None, as_json: Json = False
    ) -> None:
        _run_until(stage, job, out, set_, as_json, tasks)

    app.command(name, help=text)(verb)


for _name, _stage, _text in (
    ("run", "report", "Run a whole job; run it again to resume."),
    ("train", "train", "Train the supernet (runs the stages before it when needed)."),
    ("profile", "profile", "Measure sub-networks on the device and fit the latency predictor."),
    ("search", "search", "Search under the budget; returns a measured front."),
    ("prune", "prune", "Prune the chosen network's channels globally and fine-tune it."),
    ("quantize", "quantize", "Quantize for the target; keeps the faster of float and int8."),
    ("verify", "verify", "Verify every head on the exported file, and measure every network of the run."),
    ("report", "report", "Write the HTML report."),
):
    _add_stage_verb(_name, _stage, _text)


@app.command()
def export(
    job: JobFile = None,
    out: Out = None,
    set_: Set = None,
    tasks: Tasks = None,
    as_json: Json = False,
) -> None:
    """Write the ONNX file and its manifest; of a run's folder and --tasks, its file for these tasks alone."""
    names = _names(tasks)
    if names is None or (job is not None and job.is_file()):
        _run_until("export", job, out, set_, as_json, tasks)
        return
    from mtnas.stages.subset import export_subset, subset_text

    if job is None or set_:
        raise typer.BadParameter("--tasks takes a job file, or the folder of a run without --set")
    result = export_subset(job, names, out, ConsoleProgress())
    _emit(as_json, result, subset_text(result))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@app.command()
def plan(job: JobFile = None, set_: Set = None, tasks: Tasks = None, as_json: Json = False) -> None:
    """Say in seconds what a job would do: space size, stages, measurements, time, limits that cannot be kept."""
    from mtnas.job.read import read_job
    from mtnas.stages.plan import plan_job, plan_text

    result = plan_job(read_job(job, set_ or (), _names(tasks)), ConsoleProgress())
    _emit(as_json, result, plan_text(result))
    if not result["feasible"]:
        raise typer.Exit(int(ExitCode.MISSED))


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Job file to write.")] = Path("job.yaml")) -> None:
    """Write a commented job file to start from."""
    from mtnas.job.read import write_template

    write_template(path)
    print(f"wrote {path}; next: mtnas plan {path}")


@app.command()
def doctor(
    device: Annotated[list[str] | None, typer.Option(help="A further device: a folder with a device.yaml.")] = None,
    as_json: Json = False,
) -> None:
    """Show machine, runtimes, devices and packages, and what is missing."""
    from mtnas.stages.doctor import examine, examine_text

    result = examine(device or ())
    _emit(as_json, result, examine_text(result))


@app.command()
def probe(
    device: Annotated[str, typer.Argument(help="Name of a device, or a folder with a device.yaml.")] = "local-ort",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for stairs.json and stairs.svg.")] = None,
    as_json: Json = False,
) -> None:
    """Find the channel steps of a device for each precision, from small networks, in seconds."""
    from mtnas.api.where import width_steps
    from mtnas.measure.probe_networks import KINDS
    from mtnas.stages.probe import probe_text, write_probe

    record = width_steps(device=device, kinds=tuple(KINDS), progress=ConsoleProgress()).to_json()
    if out is not None:
        write_probe(record, out)
    _emit(as_json, record, probe_text(record, out))


@app.command()
def pick(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    latency_ms: Annotated[float | None, typer.Option(help="Latency limit in milliseconds.")] = None,
    budget: Budget = None,
    prefer: Prefer = None,
    floor: Floor = None,
    export: Annotated[Path | None, typer.Option(help="Write the picked network as ONNX to this file.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Write it for these tasks alone, as depth,normals.")] = None,
    as_json: Json = False,
) -> None:
    """Pick another of the networks that a finished run's search measured; nothing is trained or searched.

    Without options it is the one that the search chose. `configure` looks beyond them.
    """
    from mtnas.stages.pick import PickRequest, pick_from_run, pick_text

    request = PickRequest.parse(latency_ms, prefer or (), floor or (), budget or ())
    result = pick_from_run(run, request, export, _names(tasks))
    _emit(as_json, result, pick_text(result))


@app.command()
def configure(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    latency_ms: Annotated[float | None, typer.Option(help="Latency limit in milliseconds.")] = None,
    budget: Budget = None,
    prefer: Prefer = None,
    floor: Floor = None,
    strategy: Annotated[str, typer.Option(help="greedy, or a search strategy such as nsga2.")] = "greedy",
    tasks: Annotated[str | None, typer.Option(help="A network for these tasks alone, as depth,normals.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the network as ONNX to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Search a finished run for the network of a budget and a preference, without training.

    Preferred tasks get larger decoders; the shared encoder is searched in what is left of the budget.
    """
    from mtnas.search.config import ConfigureConfig
    from mtnas.search.configure import Wish
    from mtnas.stages.configure import configure_run, configured_text
    from mtnas.stages.pick import PickRequest

    request = PickRequest.parse(latency_ms, prefer or (), floor or (), budget or ())
    wish = Wish(request.budget, request.preference, request.floors)
    config = ConfigureConfig(strategy=strategy)
    result = configure_run(run, wish, config, tasks=_names(tasks), export=export, progress=ConsoleProgress())
    _emit(as_json, result, configured_text(result))


@app.command()
def control(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    budget: Annotated[list[str] | None, typer.Option(help="One budget, such as latency_ms=50%; repeat it.")] = None,
    count: Annotated[int, typer.Option(help="Preferences of the fixed set.", min=1)] = 20,
    sweep: Annotated[int, typer.Option(help="Steps of each task's sweep; 0 for none.", min=0)] = 5,
    chooser: Annotated[str, typer.Option(help="configure, or front: pick from the measured front.")] = "configure",
    strategy: Annotated[str, typer.Option(help="greedy, or a search strategy such as nsga2.")] = "greedy",
    tasks: Annotated[str | None, typer.Option(help="Networks for these tasks alone, as depth,normals.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how far budget and preference control a finished run's network; the report then shows it."""
    from mtnas.search.config import ConfigureConfig
    from mtnas.stages.control import Inquiry, control_run, control_text
    from mtnas.stages.pick import limits_of

    budgets = tuple(limits_of(text.split(",")) for text in budget or ())
    names = _names(tasks)
    only = None if names is None else tuple(names)
    inquiry = Inquiry(budgets, chooser, count, sweep, ConfigureConfig(strategy=strategy), only)
    result = control_run(run, inquiry, progress=ConsoleProgress())
    _emit(as_json, result, control_text(result))


@app.command()
def certify(
    target: Annotated[Path, typer.Argument(help="Folder of a run, or an ONNX file.")],
    latency_ms: Annotated[float | None, typer.Option(help="Latency limit in milliseconds.")] = None,
    statistic: Annotated[str | None, typer.Option(help="What a latency limit bounds: p50, p95 or p99.")] = None,
    memory_mb: Annotated[float | None, typer.Option(help="Limit on peak memory.")] = None,
    size_mb: Annotated[float | None, typer.Option(help="Limit on the file's size.")] = None,
    energy_mj: Annotated[float | None, typer.Option(help="Limit on energy, where the device has a counter.")] = None,
    device: Annotated[str | None, typer.Option(help="Device; the run's own, else local-ort.")] = None,
    processes: Annotated[int | None, typer.Option(help="Number of fresh processes.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Certify a file by measuring it in fresh processes: a run's against its budget, any ONNX file against limits."""
    from mtnas.api.certifying import certify as certify_path
    from mtnas.stages.certify import certificate_text

    limits = {"latency_ms": latency_ms, "memory_mb": memory_mb, "size_mb": size_mb, "energy_mj": energy_mj}
    budget = {name: bound for name, bound in limits.items() if bound is not None}
    progress = ConsoleProgress()
    certificate = certify_path(
        target, budget, device=device, statistic=statistic, processes=processes, progress=progress
    )
    result = certificate.to_json()
    _emit(as_json, result, "\n".join(certificate_text(result)))
    if not result["met"]:
        raise typer.Exit(int(ExitCode.MISSED))


@app.command()
def measure(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the others are compared with the first.")],
    device: Annotated[str, typer.Option(help="Device to measure on.")] = "local-ort",
    memory: Annotated[bool, typer.Option(help="Measure peak memory, too.")] = True,
    as_json: Json = False,
) -> None:
    """Measure ONNX files side by side on a device: latency, memory, size, and whether any is slower than the first."""
    from mtnas.api.side_by_side import measure as measure_files

    result = measure_files(models, device=device, memory=memory, progress=ConsoleProgress())
    _emit(as_json, result.to_json(), str(result))


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Architecture search and compression for multi-task networks under a hardware budget."""
    if show:
        print(f"mtnas {__version__}")
        raise typer.Exit
