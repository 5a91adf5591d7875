"""An answer's text as its tokens come, without decoding all of them again at each. Pure.

A token does not stand for a text by itself: it may be a byte of a character, a space that only shows behind another token, or nothing. So
each step decodes a window: the last tokens whose text is settled, for context, and those behind them. What the window adds settles unless
its last character may still change (as in vLLM and text-generation-inference, which hold back an incomplete character likewise).
"""

import re
from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer

# A byte of a vocabulary with byte fallback. A run of them is undecodable as a whole where one of it is: none settles before it ends.
BYTE_TOKEN: Final = re.compile("<0x[0-9A-Fa-f]{2}>")
UNDECODABLE: Final = "\ufffd"


class Detokenizer:
    """``text_after``: what the whole answer says. At every step settled text and ``open_text`` together are what decoding all ids gives."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.open_text = ""  # of the last tokens: the next one may change it
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._settled = 0  # of the window's tokens: those whose text was given out
        self._context = ""  # what these say

    def add(self, token: int) -> str:
        """The text that has settled with this token: it follows what settled before, and changes no more."""
        self._window.append(token)
        text: str = self._tokenizer.decode(self._window)
        # Of a token that shows nothing (a special one), what was open stays so: the bytes before and behind it may be of one character.
        new = text[len(self._context) :]
        if new in ("", self.open_text) or new.endswith(UNDECODABLE) or BYTE_TOKEN.fullmatch(self._tokenizer.id_to_token(token) or ""):
            self.open_text = new
            return ""
        self._window = self._window[self._settled :]
        self._settled = len(self._window)
        self._context = self._tokenizer.decode(self._window)
        self.open_text = ""
        return new


class StopSearch:
    """Tells when an answer first holds one of ``stops``, looking only at what is new of it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._reach = max(1, *map(len, stops), 1) - 1  # how far back one may begin that ends in new text
        self._behind = ""

    def found(self, settled: str, open_text: str) -> bool:
        """``settled``: what follows the last step's; ``open_text``: what may still change behind it."""
        seen = self._behind + settled
        self._behind = seen[-self._reach :] if self._reach else ""
        return any(stop in seen + open_text for stop in self._stops)
