"""Texts to token ids, the same for every encoder engine: the model's own tokenizer, cut at what the model takes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from workers.arrays import Ids
from workers.engines.encoders.windows import windows
from workers.engines.folders.files import broken
from workers.engines.folders.time_limit import TimeLimit

# Of a text of megabytes only the head is tokenised. Words are tokenised one by one, so where the head fills the model the ids are the same;
# where it does not (a novel's worth of spaces), the whole text is.
HEAD_CHARS_PER_TOKEN = 64


class Encoding:
    """Thread-safe. Raises TextmillError "model_broken" where tokenizer.json cannot be used, its ids exceed the model's vocabulary, or it
    does not come to an end."""

    def __init__(self, folder: Path, *, max_tokens: int, vocabulary: int | None = None) -> None:
        self.max_tokens = max_tokens
        self._limit = TimeLimit(folder)
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception:  # the library raises plain Exception, and its message may quote the file
            raise broken(folder, "tokenizer.json is missing or not one of the tokenizers library.") from None
        if vocabulary is not None and self._tokenizer.get_vocab_size() > vocabulary:
            raise broken(folder, "the tokenizer has more tokens than the model has embeddings: they do not belong together.")
        self._tokenizer.no_padding()
        self._whole = Tokenizer.from_str(self._tokenizer.to_str())
        self._whole.no_truncation()
        (marks,) = self._limit.run(partial(self._whole.encode_batch_fast, ["a"]), 1)
        own = [at for at, special in enumerate(marks.special_tokens_mask) if not special] or [0]
        self._prefix, self._suffix = marks.ids[: own[0]], marks.ids[own[-1] + 1 :]
        unknown = self._whole.model.unk_token if hasattr(self._whole.model, "unk_token") else None
        self.unknown_id: int | None = None if unknown is None else self._whole.token_to_id(unknown)
        # One more than the model takes, so that a cut text is known from one that just fits. The end token is put back below.
        self._tokenizer.enable_truncation(max_tokens + 1)

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Ids], list[bool]]:
        """The ids of each text, special tokens included, and whether it was cut."""
        head_chars = self.max_tokens * HEAD_CHARS_PER_TOKEN
        heads = [text[:head_chars] for text in texts]
        # In batches, of one text too: these let go of the GIL, so that heartbeats go on, however long a text is.
        encodings = self._limit.run(partial(self._tokenizer.encode_batch_fast, heads), sum(map(len, heads)))
        sequences, cut = [], []
        for text, encoding in zip(texts, encodings, strict=True):
            ids = encoding.ids
            if len(text) > head_chars and len(ids) <= self.max_tokens:
                ids = self._limit.run(partial(self._tokenizer.encode_batch_fast, [text]), len(text))[0].ids
            cut.append(len(ids) > self.max_tokens)
            sequences.append(np.array([*ids[: self.max_tokens - 1], ids[-1]] if cut[-1] else ids, dtype=np.int32))
        return sequences, cut

    def own_tokens(self, ids: Sequence[int]) -> Ids | None:
        """Those of another tokenizer would be answered with a vector that means nothing; the marks at both ends tell them apart."""
        marked = list(ids[: len(self._prefix)]) == self._prefix and list(ids[len(ids) - len(self._suffix) :]) == self._suffix
        if not marked or len(ids) < len(self._prefix) + len(self._suffix) or max(ids) >= self._whole.get_vocab_size():
            return None
        return np.array(ids, dtype=np.int32)

    def windows(self, text: str, stride: int) -> list[Ids]:
        """The whole text as sequences that the model takes, special tokens included; each shares ``stride`` tokens with the one before."""
        whole = partial(self._whole.encode_batch_fast, [text], add_special_tokens=False)
        (encoding,) = self._limit.run(whole, len(text))
        return windows(np.array(encoding.ids, dtype=np.int32), self._prefix, self._suffix, self.max_tokens, stride)
