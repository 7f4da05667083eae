"""Benchmarks, each one command: `python -m tools.bench NAME [--quick]` writes `docs/results/NAME.json`."""
