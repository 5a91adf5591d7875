"""Uploaded files as streams of rows: each format takes chunks of bytes and gives :class:`db.files.rows.NewRow`, in memory that stays flat.

A defect of one line or record becomes a row with a failure code, and its neighbours go on; a defect of the whole file (UTF-16, a column
that is not there, a Parquet footer that cannot be read) raises :class:`api.errors.Refused`.
"""
