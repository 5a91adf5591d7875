"""What else embeds and labels the same texts on this machine, each peer in an environment of its own, in turns with the whole of textmill.

`python -m tests.benchmarks.peers` (or `make bench-peers`). The data's path: `texts` makes the workloads; `environments` makes the virtual
environments; `roster` says who the peers are; `children/` holds what runs inside those environments, spoken to by `protocol`; `ours` runs
the same texts through the stack; `turns` lets them take turns; `table` judges the goals and writes the reports.
"""
