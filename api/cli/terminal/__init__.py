"""The terminal: which server is meant, options that commands share, what a person sees, how far a job is, and how the program ends.

What enters: values that came from data, too. What leaves: lines whose control characters are spelled out; answers on stdout, the rest on
stderr.
"""
