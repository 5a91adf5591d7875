"""The way of every command that runs a model over rows: send, start, watch, merge what came out, write it.

What enters: a source of rows and what to do with them. What leaves: results in the input's order, as JSONL, CSV or Parquet. The job is the
server's: whoever stops watching loses nothing.
"""
