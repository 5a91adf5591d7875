"""Jobs as their owner sees them, as the API's role: made, looked at, steered, read.

What enters: a job to be (`creating.NewJob`), an order to pause, resume, retry or delete. What leaves: job records, a job's story in counts
and codes, and its results as a stream of pages. `erasing` is their end, which `purge` (as the dispatcher) completes. What moves a job by
itself is `db.queue`'s; both move states by compare-and-set alone.
"""
