"""What a content job adds to a model, or has in its place: checks of what it wrote, rules and template writers.

What enters: the fields of a job and its tenant's definitions, as they were written, rows' cells and texts. What leaves: refusals by field
name or line, verdicts, and texts. Pure: no I/O, no model, no store; importing it loads no numpy.
"""
