"""What of a text is sensitive by its form, and masks in its place: one file a family of recognisers; what has check digits is held to them.

What enters: texts, and a job's key for masks. What leaves: spans (:func:`workers.redaction.finding.find`), and masked texts with what puts
them back (:mod:`workers.redaction.masking`). Pure: no I/O, no model, no state. A best effort: names, and values without a form, are not
recognised.

Every pattern is linear: repeats are bounded, or of signs that what follows cannot be. `phonenumbers` is left out: it knows more national
forms, but looks at a text for longer than all that is done here, and its metadata are 5 MB to load.
"""
