"""Engines: how a model is run. What enters is token ids, what leaves is vectors or token ids.

`contract` says what an engine is and how it is run on this machine; `encoders` and `decoders` hold one file each; `calibration` finds the
fastest that agrees with fp32; `loading` is the only way to get one, and imports what is heavy when a model is asked for; `trial` finds out
whether an operator's own model is whole.
"""
