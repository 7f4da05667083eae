"""All benchmarks: name -> "module:function", each `run(quick: bool) -> Result`."""

BENCHMARKS: dict[str, str] = {
    "graph_cut": "tools.bench.graph_cut:run",
}
