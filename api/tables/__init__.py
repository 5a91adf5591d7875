"""A user's table: its columns noted as it is uploaded, its cells kept as JSON beside each row's text, and put together again with results.

What enters: cells as a format reads them. What leaves: rows of the same columns, as text, as JSON or as Arrow. No I/O of its own.
"""
