"""Encoders: one file an engine, over one reading of the weights.

What enters: a batch of token ids. What leaves: a vector, or the logits of the model's own labels, for each sequence. `architecture` reads
BERT-like weights into one shape that torch (packed), OpenVINO and ONNX Runtime (padded) compute; `transformers_encoder` runs any other.
"""
