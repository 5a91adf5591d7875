"""Sealing: keys as an envelope, and values that open in one cell only.

What enters: a value in the clear with the cell it is for; a wrapped key. What leaves: the sealed value, or SealError, which tells nothing.
`keys` owns every unwrapped key of the process and keeps it in memory alone; `cells` owns the form. The only I/O is the key file and the
table of wrapped keys.
"""
