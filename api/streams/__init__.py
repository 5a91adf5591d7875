"""Bodies too large to hold: an upload from its first byte to its last row, and rows and results on their way out.

What enters: chunks of a request's body; pages of the store. What leaves: sealed rows; JSON lines. Memory stays flat, and neither a thread
nor a transaction waits for a slow peer on the way out.
"""
