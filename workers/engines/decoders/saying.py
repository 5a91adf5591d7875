"""What a row has said so far, and whether its answer ends here. Pure.

An answer may not end before it has said something: until then no stop text counts, and the tokens that would end it are barred.
"""

from collections.abc import Collection

from tokenizers import Tokenizer

from workers.engines.contract.decoding import DecoderRow, Ending, Generation, TokenLogprob
from workers.engines.contract.generation import before_stop
from workers.engines.decoders.detokenizing import Detokenizer, StopSearch


class Saying:
    """``take`` each token until ``ending`` says why there are no more."""

    def __init__(self, row: DecoderRow, tokenizer: Tokenizer, end_ids: Collection[int]) -> None:
        self.row = row
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprob] | None = None if row.sampling.top_logprobs is None else []
        self.blank = True  # nothing but space so far
        self.ending: Ending | None = None
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._said = False  # in settled text something but space
        self._text = Detokenizer(tokenizer)
        self._stops = StopSearch(row.stop)

    def take(self, token: int) -> None:
        if token in self._end_ids:
            self.ending = "stop"
            return
        self.ids.append(token)
        if (self.blank or self.row.stop) and self._stops_here(token):
            self.ending = "stop"
        elif len(self.ids) >= self.row.max_tokens:
            self.ending = "length"

    def _stops_here(self, token: int) -> bool:
        settled, open_text = self._text.add(token), self._text.open_text
        if not self._said:
            settled = settled.lstrip()
            open_text = open_text if settled else open_text.lstrip()
            self._said = bool(settled)
        self.blank = not self._said and not open_text
        return self._stops.found(settled, open_text)

    def answer(self, cached_tokens: int = 0) -> Generation:
        text: str = self._tokenizer.decode(self.ids)
        said = text.lstrip()
        space = text[: len(text) - len(said)]
        return Generation(space + before_stop(said, self.row.stop), self.ids, self.ending or "length", self.logprobs, cached_tokens)
