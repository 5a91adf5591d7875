"""Prompts as ids and answers as texts, by the model's own tokenizer: each engine reads what textmill reads, and ends where it ends."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

BEGINNING = "<bos>"
ENDS = ("<eos>", "<end_of_turn>")


class Wording:
    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._beginning = self._tokenizer.token_to_id(BEGINNING)
        self.ends = [self._tokenizer.token_to_id(token) for token in ENDS]

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self._beginning, *one.ids] for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def told(self, answers: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """The text of each, and its number of tokens, without the one that ended it."""
        said = [[token for token in answer if token not in self.ends] for answer in answers]
        return list(zip(self._tokenizer.decode_batch(said), map(len, said), strict=True))
