"""Decoders: a prompt's token ids in, the ids of the answer out.

`chat` puts messages into a model's own form, so that no message can end another's turn; `sampling` picks the next token, `detokenizing`
finds the text as tokens come; all are pure.
"""
