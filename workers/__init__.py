"""The machine room: takes shards of sealed rows from the store, runs models over them, writes sealed results back.

What enters
    A shard's id and epoch (:mod:`workers.app`), never text.
What leaves
    Results in the store, through ``db``.
Who owns it
    ``dispatch`` the states of jobs and shards on their way; ``claims`` the hold on a shard; ``shard`` its life under that hold; ``tasks``
    what a task is; ``inference`` every model of the process; ``batches`` the rows that wait for a model; ``engines`` how a model runs;
    ``models`` what is known about it; ``training`` heads; ``host`` the process itself.

Importing this package loads nothing heavy; torch is imported when a model is first asked for, after :mod:`workers.host.device` has pinned
the process.
"""
