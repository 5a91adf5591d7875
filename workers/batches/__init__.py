"""The micro-batcher: rows of all calls in, batches through the lanes, one answer a row out.

What enters: token ids of a call's rows, from any shard, job or tenant. What leaves: what the engine answered to each, or why it did not.
`queue` owns the rows that wait and `batcher` the threads; which rows go together is `policy`, which is pure and knows rows as lengths only.
"""
