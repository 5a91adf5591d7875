"""The dispatcher's process: jobs become shards, shards are offered, lost leases are taken up, jobs end. One leads, others stand by.

What enters: new jobs and ended shards, as it finds them in the store. What leaves: states, through `db.queue`, and claim checks to the
broker, which only wake. It holds no key and reads no ciphertext.
"""
