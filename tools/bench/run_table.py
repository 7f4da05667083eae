"""The table of one finished run: full, chosen, pruned and int8 network on the report split, and its certificate.

    python -m tools.bench run_table --run runs/demo --name demo

Nothing is measured here: the numbers are those that the run has left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtnas.base.errors import JobError
from mtnas.base.files import read_json
from mtnas.base.journal import Journal
from mtnas.job.read import read_job
from mtnas.job.schema import Job
from mtnas.stages.folder import RunFolder
from tools.bench.record import FEWEST, Claim, Column, Options, Result

#: metrics that the table shows: title and digits; a task with none of them shows its primary metric
SHOWN: dict[str, tuple[str, int]] = {
    "miou": ("mean IoU, % ↑", 2),
    "abs_err": ("abs. error, m ↓", 4),
    "rmse": ("RMSE, m ↓", 4),
    "mean_angle": ("mean angle, ° ↓", 2),
    "edge_f_dt@1px": ("edge F @ 1 px, % ↑", 2),
}
COSTS = (
    Column("mmacs", "MMACs", 1),
    Column("kparams", "parameters, thousand", 0),
    Column("size_mb", "file, MB", 2),
    Column("p50", "latency p50, ms"),
    Column("p95", "latency p95, ms"),
    Column("percent_of_full", "p50, % of full", 1),
)


def run(options: Options) -> Result:
    """Read the run's files."""
    if options.run is None:
        raise JobError("the folder of a finished run", received="none", where="--run", cure="--run runs/demo")
    folder = RunFolder(options.run)
    verify = read_json(folder.stage("verify") / "verify.json", schema="verify/1")
    certificate = read_json(folder.stage("verify") / "certificate.json", schema="certificate/1")
    job = read_job(options.run / "job.resolved.yaml")
    table, delivered = verify["table"], delivered_name(folder)
    scores = score_columns(table)
    return Result(
        seeds=(job.seed,),
        rows=tuple(row_of(row, table[0], delivered) for row in table),
        columns=(Column("network", "network"), *scores, *COSTS),
        claims=claims(job, certificate, table[0]["latency_ms_p50"]),
        note=note(job, verify, certificate),
        details={"seconds": stage_seconds(options.run), "delivered": delivered, "certificate": certificate},
        machine=read_json(options.run / "machine.json", schema="machine/1"),
    )


def delivered_name(folder: RunFolder) -> str:
    """Which row of the table was delivered."""
    if folder.result("quantize", "quantize.json")["delivered"] == "int8":
        return "int8"
    return str(folder.result("prune", "prune.json")["kept"])


def score_columns(table: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """One column for each task and shown metric, tasks in the job's order."""
    columns = []
    for task, metrics in table[0]["scores"].items():
        names = [name for name in metrics if name in SHOWN] or [next(iter(metrics))]
        columns += [
            Column(f"{task}.{name}", f"{task}: {SHOWN.get(name, (name, 3))[0]}", SHOWN.get(name, (name, 3))[1])
            for name in names
        ]
    return tuple(columns)


def row_of(row: Mapping[str, Any], full: Mapping[str, Any], delivered: str) -> dict[str, Any]:
    """One network as a flat row: every metric, counts, latency with its interval as numbers and as text."""
    p50, p95 = row["latency_ms_p50"], row["latency_ms_p95"]
    metrics = {f"{task}.{name}": value for task, found in row["scores"].items() for name, value in found.items()}
    return {
        "network": f"{row['name']} (delivered)" if row["name"] == delivered else row["name"],
        **metrics,
        "mmacs": row["macs"] / 1e6,
        "kparams": row["params"] / 1e3,
        "size_mb": row["size_mb"],
        "p50": shown(p50),
        "p95": shown(p95),
        "percent_of_full": 100.0 * p50["value"] / full["latency_ms_p50"]["value"],
        "latency_ms_p50": p50,
        "latency_ms_p95": p95,
    }


def shown(measured: Mapping[str, Any]) -> str:
    """Value and interval, as text."""
    return f"{measured['value']:.3f} ({measured['low']:.3f}–{measured['high']:.3f})"


def claims(job: Job, certificate: Mapping[str, Any], full_p50: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Each limit as the certificate decided it, and the delivered latency as a part of the full network's.

    The repetitions are the certificate's fresh processes. The interval of the ratio is the widest that the two
    intervals allow.
    """
    count = int(certificate["processes"])
    decided = count >= FEWEST and not certificate.get("refused", False)
    found = [limit_claim(limit, count, decided) for limit in certificate["limits"]]
    percents = [limit.amount for limit in job.budget.limits if limit.name == "latency_ms" and limit.percent]
    latency = next((limit["measured"] for limit in certificate["limits"] if limit["name"] == "latency_ms"), None)
    if latency is not None and percents and job.device.statistic == "p50":
        low, high = 100 * latency["low"] / full_p50["high"], 100 * latency["high"] / full_p50["low"]
        met = high <= percents[0] if decided else None
        value = 100 * latency["value"] / full_p50["value"]
        text = "latency of the delivered file, % of the full network's"
        found.append(Claim(text, f"at most {percents[0]:g}", value, (low, high) if decided else None, met, count))
    return tuple(found)


def limit_claim(limit: Mapping[str, Any], count: int, decided: bool) -> Claim:
    """One limit of the certificate; counted numbers have no interval."""
    measured = limit["measured"]
    interval = (measured["low"], measured["high"]) if decided and "low" in measured else None
    met = bool(limit["met"]) if decided else None
    text = f"certificate: {limit['name']} of the delivered file ({limit['statistic']})"
    return Claim(text, f"at most {limit['bound']:.4g}", measured["value"], interval, met, count)


def note(job: Job, verify: Mapping[str, Any], certificate: Mapping[str, Any]) -> str:
    """What the numbers mean."""
    data = job.data
    return (
        f"Job {job.name}: {data.name}, {data.width}x{data.height}, one training of {job.train.epochs} epochs; metrics "
        f"on the {verify['split']} split, which nothing was chosen by. "
        "`full` and `chosen` are sub-networks of the supernet; "
        f"`pruned` and `int8` had {job.finetune.epochs} further epochs, the full network teaching, so part of their "
        f"gain is training. Latency with 95 % interval, all rows "
        f"interleaved: {certificate['runtime']}, {certificate['threads']} thread; the certificate measured the "
        f"delivered file again in {certificate['processes']} fresh processes. "
        f"Every head of the delivered file verified: {'yes' if verify['passed'] else 'NO'}."
    )


def stage_seconds(folder: Path) -> dict[str, float]:
    """How long each stage took when it last ran."""
    records = Journal(folder / "events.jsonl").records()
    return {record["stage"]: record["seconds"] for record in records if record["event"] == "end"}
