"""What a decoder may say next under a grammar: masks over the tokens of a model. Brings numpy.

A mask is made from the moment the token before it is known, beside the step that computes the logits that it masks: llguidance lets go of
the interpreter's lock, and takes some hundred microseconds for a vocabulary of 262,144.
"""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Final

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from workers.grammars.compiling import END, Unusable, byte_tokenizer, compiled, matcher_over
from workers.grammars.grammar import Grammar

THREADS: Final = 2
_makers: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="mask")


class Vocabulary:
    """The tokens of a model: ``size`` of them have logits, those of ``end_ids`` end an answer. What it takes to say what they spell is made
    when it is first asked for: 6 s of CPU and 190 MB for a vocabulary of 262,144. Thread-safe."""

    def __init__(self, size: int, end_ids: Collection[int], make: Callable[[], LLTokenizer]) -> None:
        self.size = size
        self.end_ids = frozenset(end_ids)
        self._make = make
        self._lock = threading.Lock()

    @classmethod
    def of(cls, tokenizer_json: Callable[[], str], size: int, end_ids: Collection[int]) -> "Vocabulary":
        """``tokenizer_json``: gives what `tokenizers` writes of a model's own."""
        return cls(size, end_ids, lambda: LLTokenizer(tokenizer_json(), n_vocab=size, eos_token=sorted(end_ids)))

    @classmethod
    def of_bytes(cls) -> "Vocabulary":
        return cls(END + 1, (END,), byte_tokenizer)

    def token_bytes(self, token: int) -> bytes:
        """What it spells; of a token within a character, a part of it."""
        return self._tokenizer.decode_bytes([token])

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """To be copied for each row. Raises Unusable."""
        try:
            tokenizer = self._tokenizer
        except ValueError:
            raise Unusable("the tokenizer of this model does not say what its tokens spell") from None
        return matcher_over(tokenizer, compiled(grammar))

    @property
    def _tokenizer(self) -> LLTokenizer:
        with self._lock:
            return self._made

    @cached_property
    def _made(self) -> LLTokenizer:
        return self._make()


class GrammarMask:
    """:class:`workers.engines.contract.decoding.Mask` of one row."""

    def __init__(self, matcher: LLMatcher, end_ids: Collection[int]) -> None:
        self._matcher = matcher
        self._end_ids = end_ids
        self._next: Future[bytes] = _makers.submit(matcher.compute_bitmask)

    @property
    def failed(self) -> bool:
        """Whether the grammar took more work than it may: the answer ended there."""
        self._next.result()  # a matcher is asked one thing at a time
        return self._matcher.is_error()

    def fill(self, bits: NDArray[np.int32]) -> bool:
        made = np.frombuffer(self._next.result(), dtype=np.int32)
        if self.failed:
            for token in self._end_ids:
                bits[token // 32] |= np.uint32(1 << token % 32).astype(np.int32)
        else:
            least = min(len(bits), len(made))
            bits[:least] = made[:least]
        return True

    def take(self, token: int) -> bool:
        self._next.result()
        if token in self._end_ids or not self._matcher.consume_token(token) or self._matcher.is_stopped():
            return True
        self._next = _makers.submit(self._matcher.compute_bitmask)
        return False
