"""Uploaded files and their rows.

What enters: rows as they are parsed (`rows.NewRow`). What leaves: file records, and rows page by page, each page on record before it is
opened. `files` owns a file's state, `rows` what is in it, `purge` (as the dispatcher) the end of files that expired or were never finished.
"""
