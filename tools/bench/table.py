"""All benchmarks: name -> "module:function", each `run(options: Options) -> Result`."""

BENCHMARKS: dict[str, str] = {
    "farm": "tools.bench.farm:run",
    "graph_cut": "tools.bench.graph_cut:run",
    "run_table": "tools.bench.run_table:run",
    "search_hv": "tools.bench.search_hv:run",
}

#: result files that pages may show before they exist: one of each benchmark, and the tables of two runs
EXPECTED: tuple[str, ...] = ("farm", "graph_cut", "search_hv", "demo", "nyuv2")
