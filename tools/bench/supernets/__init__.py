"""What supernets learn: arms trained with several seeds on the field's data sets, and the tables made from them.

`python -m tools.bench.supernets DATA` trains what is missing, one record for each arm and seed, and can be stopped and
started at any time; the benchmarks `control_*`, `distill_*`, `alone_*`, `static_*` make their tables from the records.
"""
