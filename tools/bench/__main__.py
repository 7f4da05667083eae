"""`python -m tools.bench NAME [--quick]`: run one benchmark, write its file, print its table and its claims."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from mtnas.base.errors import UserError
from mtnas.base.files import read_json
from mtnas.base.tables import lookup
from tools.bench.record import SCHEMA, write_result
from tools.bench.table import BENCHMARKS
from tools.tables import claims_table, rows_table

RESULTS = Path("docs") / "results"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when it ran (claims met or not), 2 for a wrong name."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("name", help=", ".join(sorted(BENCHMARKS)))
    parser.add_argument("--quick", action="store_true", help="smaller and faster; says so in the file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        run = lookup(options.name, BENCHMARKS, "benchmark")
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    result = run(options.quick)
    path = write_result(options.name, result, options.out, quick=options.quick, seconds=time.perf_counter() - started)
    record = read_json(path, schema=SCHEMA)
    print(rows_table(record), claims_table(record), f"written: {path}", sep="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
