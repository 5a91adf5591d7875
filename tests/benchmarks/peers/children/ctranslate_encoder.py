"""CTranslate2's encoder, int8, which removes padding itself: two processes of one thread each, because threads of one process gain nothing
here; sorted by length, cut at a budget of tokens."""

import multiprocessing
from typing import Any

from serving import MAX_TOKENS, Arguments, Embedding, serve

BUDGET_TOKENS = 1024
_encoder: Any = None
_tokenizer: Any = None


def _open(folder: str, tokenizer: str) -> None:
    global _encoder, _tokenizer
    import ctranslate2
    from tokenizers import Tokenizer

    _encoder = ctranslate2.Encoder(folder, device="cpu", compute_type="int8", inter_threads=1, intra_threads=1)
    _tokenizer = Tokenizer.from_file(tokenizer)
    _tokenizer.no_padding()
    _tokenizer.enable_truncation(MAX_TOKENS)


def _tokenize(texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in _tokenizer.encode_batch_fast(texts)]


def _embed(batch: list[list[int]]) -> Any:
    """[n, d], unit length."""
    import numpy as np

    hidden = np.array(_encoder.forward_batch(batch).last_hidden_state)  # [n, longest, d]
    lengths = np.array([len(ids) for ids in batch])
    mask = (np.arange(hidden.shape[1])[None, :] < lengths[:, None])[:, :, None]
    pooled = (hidden * mask).sum(1) / lengths[:, None]
    return (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)


def cut(lengths: list[int], budget_tokens: int) -> list[list[int]]:
    """Indices in batches of at most so many padded tokens; the longest first, so that no worker is left with a long one at the end."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def load(arguments: Arguments) -> Embedding:
    import numpy as np

    processes = arguments.threads
    pool = multiprocessing.get_context("spawn").Pool(
        processes, _open, (str(arguments.made / "ctranslate2"), str(arguments.model / "tokenizer.json"))
    )

    def embed(texts: list[str]):
        pieces = [texts[first : first + 256] for first in range(0, len(texts), 256)]
        ids = [one for piece in pool.imap(_tokenize, pieces) for one in piece]
        batches = cut([len(one) for one in ids], BUDGET_TOKENS)
        vectors = pool.imap(_embed, [[ids[index] for index in batch] for batch in batches])
        found = None
        for batch, made in zip(batches, vectors, strict=True):
            if found is None:
                found = np.empty((len(texts), made.shape[1]), np.float32)
            found[batch] = made
        return found

    embed(["one", "two"] * processes)
    return Embedding(embed, compute_type="int8", budget_tokens=BUDGET_TOKENS, processes=processes, sorted=True)


if __name__ == "__main__":
    serve(load)
