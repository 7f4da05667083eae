"""`python -m tools.bench NAME [--quick]`: run one benchmark, write its file, print its table and its claims.

Exit code 0 when it ran, whether its claims are met or not; 2 for a wrong name or a run that cannot be read.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

from mtnas.base.errors import JobError, UserError
from mtnas.base.files import read_json
from mtnas.base.tables import lookup
from tools.bench.record import SCHEMA, Options, write_result
from tools.bench.table import BENCHMARKS
from tools.tables import claims_table, rows_table

RESULTS = Path("docs") / "results"


def main(arguments: list[str] | None = None) -> int:
    """The whole command; returns the exit code."""
    # As the command line of mtnas: thousands of convolution shapes are met, and none should be compiled twice.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
    asked = parser().parse_args(arguments)
    name, options = asked.name or asked.benchmark, Options(asked.quick, asked.run, asked.seeds)
    started = time.perf_counter()
    try:
        if not re.fullmatch(r"\w+", name):
            raise JobError("letters, digits and underscores", received=repr(name), where="--name")
        result = lookup(asked.benchmark, BENCHMARKS, "benchmark")(options)
        seconds = time.perf_counter() - started
        path = write_result(name, result, asked.out, quick=asked.quick, seconds=seconds, benchmark=asked.benchmark)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    record = read_json(path, schema=SCHEMA)
    print(rows_table(record), claims_table(record), f"written: {path}", sep="\n\n")
    return 0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    options.add_argument("benchmark", help=", ".join(sorted(BENCHMARKS)))
    options.add_argument("--quick", action="store_true", help="smaller and faster; says so in the file")
    options.add_argument("--run", type=Path, help="folder of a run (search_hv, run_table)")
    options.add_argument("--seeds", type=int, help="number of seeds (search_hv)")
    options.add_argument("--name", help="name of the result file, where it is not the benchmark's (run_table)")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
