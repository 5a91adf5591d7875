"""What a content job adds to a model, or has in its place: cells by column, masks, prompts, checks, rules, writers.

What enters: rows as they are kept, the fields of a job and its tenant's definitions, as they were written, and texts. What leaves: refusals
by field name or line, verdicts, masked texts and texts. Pure: no I/O, no model, no store; importing it loads no numpy. Arrow is loaded for
tables that were written by it, and for no others.
"""
