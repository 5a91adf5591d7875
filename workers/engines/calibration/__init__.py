"""Which way to run a model is the fastest on this machine that agrees with fp32.

What enters: a model's folder and the ways this machine has (`candidates`). What leaves: a finding, kept in the home folder by machine,
model and versions (`findings`). It runs on texts made for it (`held_texts`), never on a user's.
"""
