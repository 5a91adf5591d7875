"""The stack of one machine: `textmill up` and what it starts, watches, shows and ends.

What enters: options and a home folder. What leaves: an exit code of `home.refusals`. `up` owns the order, `processes` the children,
`servers` the embedded Postgres and Valkey, `home` the folder, `doctor` only looks.
"""
