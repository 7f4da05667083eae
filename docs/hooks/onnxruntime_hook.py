"""A hook that times an ONNX file with onnxruntime: the smallest complete example of `reach: hook`.

    hook: {command: [python3, onnxruntime_hook.py, "{model}", "{out}"]}

Needs python3, numpy and onnxruntime. Take it as a start for your own: everything between "open" and "answer" is yours.
"""

import json
import sys
import time

import numpy as np
import onnxruntime as ort


def main(model: str, out: str) -> None:
    request = json.load(sys.stdin)

    # open
    options = ort.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {}
    for given in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        inputs[given.name] = rng.standard_normal(shape).astype(np.float32)

    # warm up, then time every run by itself
    for _ in range(5):
        session.run(None, inputs)
    latency_ms = []
    for _ in range(request["runs"]):
        start = time.perf_counter()
        session.run(None, inputs)
        latency_ms.append((time.perf_counter() - start) * 1e3)

    # answer: every run, and who ran it; memory_mb and energy_mj only where something really measures them
    answer = {"latency_ms": latency_ms, "runtime": "onnxruntime", "runtime_version": ort.__version__}
    with open(out, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
