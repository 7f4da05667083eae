"""All benchmarks: name -> "module:function", each `run(options: Options) -> Result`."""

BENCHMARKS: dict[str, str] = {
    "alone_scenes": "tools.bench.supernets.alone:scenes",
    "alone_scenes_long": "tools.bench.supernets.alone:scenes_long",
    "certificates": "tools.bench.certificates:run",
    "control_cifar100": "tools.bench.supernets.control:cifar100",
    "control_nyuv2": "tools.bench.supernets.control:nyuv2",
    "control_scenes": "tools.bench.supernets.control:scenes",
    "distill_scenes": "tools.bench.supernets.distill:scenes",
    "farm": "tools.bench.farm:run",
    "gate": "tools.bench.gate:run",
    "graph_cut": "tools.bench.graph_cut:run",
    "measure_rate": "tools.bench.measure_rate:run",
    "predictor": "tools.bench.predictor:run",
    "routed": "tools.bench.routed:run",
    "routing": "tools.bench.routing:run",
    "run_table": "tools.bench.run_table:run",
    "search_hv": "tools.bench.search_hv:run",
    "ssh_loopback": "tools.bench.ssh_loopback:run",
    "static_scenes": "tools.bench.supernets.static:scenes",
    "train_rate": "tools.bench.train_rate:run",
    "train_rate_turns": "tools.bench.train_rate:run_turns",
}

#: result files that pages may show before they exist: one of each benchmark, and the tables of two runs
EXPECTED: tuple[str, ...] = (*(name for name in BENCHMARKS if name != "run_table"), "demo", "nyuv2")
