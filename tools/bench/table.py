"""All benchmarks: name -> "module:function", each `run(options: Options) -> Result`."""

BENCHMARKS: dict[str, str] = {
    "farm": "tools.bench.farm:run",
    "certificates": "tools.bench.certificates:run",
    "gate": "tools.bench.gate:run",
    "graph_cut": "tools.bench.graph_cut:run",
    "measure_rate": "tools.bench.measure_rate:run",
    "run_table": "tools.bench.run_table:run",
    "search_hv": "tools.bench.search_hv:run",
    "ssh_loopback": "tools.bench.ssh_loopback:run",
}

#: result files that pages may show before they exist: one of each benchmark, and the tables of two runs
EXPECTED: tuple[str, ...] = ("farm", "graph_cut", "search_hv", "demo", "nyuv2")
