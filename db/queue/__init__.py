"""The queue: what runs next, who holds it, how it ends; and which dispatcher leads. As the dispatcher, who sees no content, or a worker,
who sees a shard's.

What enters: claims, renewals, results under a lease. What leaves: shards to offer, sealed rows opened for their holder, LeaseLost for
whoever is not that any more. The table ``shards`` owns the truth; every move names the epoch, and the database's clock decides.
"""
