"""Engines: how a model is run. What enters is token ids, what leaves is vectors or text.

`base` says what an engine is, `plan` how it is run on this machine, `loading` is the only way to get one. Only `torch_encoder` and
`torch_decoder` import torch, and only `loading` imports those, when a model is asked for.
"""
