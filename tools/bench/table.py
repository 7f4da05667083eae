"""All benchmarks: name -> "module:function", each `run(options: Options) -> Result`."""

BENCHMARKS: dict[str, str] = {
    "certificates": "tools.bench.certificates:run",
    "farm": "tools.bench.farm:run",
    "gate": "tools.bench.gate:run",
    "graph_cut": "tools.bench.graph_cut:run",
    "measure_rate": "tools.bench.measure_rate:run",
    "predictor": "tools.bench.predictor:run",
    "run_table": "tools.bench.run_table:run",
    "search_hv": "tools.bench.search_hv:run",
    "ssh_loopback": "tools.bench.ssh_loopback:run",
    "train_rate": "tools.bench.train_rate:run",
}

#: result files that pages may show before they exist: one of each benchmark, and the tables of two runs
EXPECTED: tuple[str, ...] = (
    "certificates",
    "farm",
    "gate",
    "measure_rate",
    "graph_cut",
    "predictor",
    "search_hv",
    "ssh_loopback",
    "train_rate",
    "demo",
    "nyuv2",
)
