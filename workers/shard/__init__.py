"""The life of one shard: opened, read, run chunk by chunk, written.

What enters: a lease that was claimed. What leaves: results in the store, or the shard given back. `life` owns a shard while it is held; it
knows no task by name and no model: it asks the task what a row asks for and where it goes, and has the task run it.
"""
