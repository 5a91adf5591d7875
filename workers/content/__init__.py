"""What a content job adds to a model: checks of what it wrote.

What enters: the fields of a job, as they were sent, and texts. What leaves: refusals by field name, and verdicts. Pure: no I/O, no model,
no store; importing it loads no numpy.
"""
