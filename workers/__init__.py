"""The machine room: takes shards of sealed rows from the store, runs models over them, writes sealed results back.

What enters: a shard's id and epoch (`shard_task`), never text. What leaves: results in the store, through `db`. Who owns what: `dispatcher`
and `reconciler` own the states of jobs and shards, `lease` the claim on a shard, `runtime` every model of the process (it is the only door
to them), `batcher` the rows that wait for a model; `engines` know how a model runs, `models` what is known about it.

Importing this package loads nothing heavy; torch is imported when a model is first asked for, after `device` has pinned the process.
"""
