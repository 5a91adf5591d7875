"""The hold on shards: what wakes a worker, how many shards it holds, and for how long it may.

What enters: a message, a free slot, a tick. What leaves: a claimed lease, handed to a shard's thread as the stop event that ends its work.
`slots` owns how many run at once, `lease` the one thread that renews them all; a lease that could not be renewed stops its work by itself.
"""
