"""What else labels the same texts and answers the same prompts here, each in an environment of its own, in turns with all of textmill.

`python -m tests.benchmarks.peers` (or `make bench-peers`). The data's path: `texts` makes the workloads; `environments` makes the virtual
environments; `roster` says who the peers are; `children/` holds what runs inside those environments, spoken to by `protocol`; `ours` runs
the same texts through the stack; `turns` lets them take turns; `generation` is all of that for prompts that are answered; `table` judges
the goals and writes the reports.
"""
