"""A user's command for the tests: a pretended device whose latency is the size of the file, and all ways to fail.

    python hook_toy.py MODE FOLDER MODEL OUT

It appends one line to FOLDER/calls for each call; MODE may be `dies-at:N`, which fails at the N-th call and after it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

MODE, FOLDER, MODEL, OUT = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
BROKEN = {
    "not-json": "warming up ...\n{}",
    "a-list": "[1.0]",
    "nothing": "",
    "no-latency": '{"memory_mb": 3}',
    "wrong-unit": '{"latency_us": [900.0]}',
    "nan": '{"latency_ms": [1.0, NaN]}',
    "negative": '{"latency_ms": [1.0, -2.0]}',
    "text": '{"latency_ms": ["1.0", "1.0"]}',
    "too-few": '{"latency_ms": [1.0]}',
    "empty": '{"latency_ms": []}',
    "zero-memory": '{"latency_ms": [1.0, 1.0], "memory_mb": 0}',
    "number-as-version": '{"latency_ms": [1.0, 1.0], "runtime_version": 2}',
}


def main() -> int:
    request = json.load(sys.stdin)
    with (FOLDER / "calls").open("a") as stream:
        stream.write(request["name"] + "\n")
    calls = len((FOLDER / "calls").read_text().splitlines())
    if MODE in BROKEN:
        print(BROKEN[MODE])
        return 0
    if MODE == "fails":
        print("the phone is not plugged in", file=sys.stderr)
        return 3
    if MODE == "hangs":
        import subprocess

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (FOLDER / "pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(60)
    if MODE.startswith("dies-at:") and calls >= int(MODE.partition(":")[2]):
        return 9
    assert request["schema"] == "hook-request/1" and Path(request["model"]) == MODEL and MODEL.stat().st_size > 0
    size_kb = MODEL.stat().st_size / 1e3
    drift = 1.0 + 0.001 * calls  # the device gets slower all the time; the anchor shares it
    answer: dict[str, object] = {"latency_ms": [drift * size_kb * (1 + 0.001 * i) for i in range(request["runs"])]}
    words = {"runtime": "toy", "runtime_version": "1.2", "device": "pretended phone", "power_mode": "fixed"}
    if MODE == "changes-mode" and calls > 3:
        words["power_mode"] = "battery saver"
    if MODE == "counts-all":
        answer |= {"memory_mb": size_kb / 10, "energy_mj": 2.0 * size_kb}
    print("a log line for people", file=sys.stderr)
    if MODE == "stdout":
        print(json.dumps({**answer, **words}))
    else:
        OUT.write_text(json.dumps({**answer, **words}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
