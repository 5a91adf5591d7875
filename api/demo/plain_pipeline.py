"""What people usually build, for comparison: transformers' own pipeline, fp32, 32 texts a batch, on all cores of this machine.

A process of its own: `python -m api.demo.plain_pipeline FOLDER` reads a JSON list of texts on stdin and writes documents a second on
stdout. It embeds only; labels, sealing, queue and store are not its affair. Loading and a first batch are not counted.
"""

import json
import sys
import time
from typing import Any, Final

BATCH: Final = 32
MAX_TOKENS: Final = 256


def measure(folder: str, texts: list[str]) -> float:
    """Documents a second."""
    import torch
    from transformers import AutoModel, AutoTokenizer, pipeline

    make: Any = pipeline
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    run = make("feature-extraction", model=model, tokenizer=tokenizer, device="cpu", batch_size=BATCH)
    options = {"truncation": True, "max_length": MAX_TOKENS}
    run(texts[:BATCH], tokenize_kwargs=options)
    began = time.perf_counter()
    for _ in run(texts, tokenize_kwargs=options, return_tensors=True):
        pass
    return len(texts) / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], json.load(sys.stdin))) + "\n")
