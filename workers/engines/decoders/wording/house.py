"""How a model of the registry is spoken to: by a chat form that is written here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from tokenizers import Tokenizer

from db.errors import TextmillError
from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.generation import Message
from workers.engines.decoders.wording import chat

LONGEST_TOKEN_CHARS: Final = 31  # of Gemma's vocabulary; they are runs of spaces, tabs and line ends
END_TOKENS: Final = ("<eos>", chat.END_OF_TURN.token)


class HouseWording:
    """Of a model whose chat form is one of :mod:`workers.engines.decoders.wording.chat`."""

    def __init__(self, folder: Path, style: Literal["plain", "gemma"], max_tokens: int) -> None:
        self._style = style
        self.goes_on = style == "plain"
        self._head_chars = max_tokens * LONGEST_TOKEN_CHARS + 1
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # a control token spelt in a prompt is text, see chat.py
        self.end_ids = [self.control(token) for token in END_TOKENS]
        self.chat_stop = chat.stop_strings(style)
        self.turn_ids = [self._encode(stop.strip())[0] for stop in self.chat_stop]
        self.closing_ids = [*self.end_ids, *self._encode("\n")]

    def chat(self, messages: Sequence[Message]) -> Ids | FailedRow:
        ids: list[int] = []
        for piece in chat.script(messages, self._style):
            ids += [self.control(piece.token)] if isinstance(piece, chat.Control) else self._encode(piece)
        return np.array(ids, dtype=np.int32)

    def prompt(self, text: str) -> Ids:
        return np.array([self.control(chat.BOS.token), *self._encode(text)], dtype=np.int32)

    def question(self, text: str, lead: str) -> Ids | FailedRow:
        return self.prompt(text + lead) if self.goes_on else self.chat([Message("user", text)])

    def answer(self, text: str) -> Ids:
        return np.array(self._encode(f" {text}" if self.goes_on else text), dtype=np.int32)

    def token_ends(self, text: str, most: int | None = None) -> Sequence[int]:
        head = text if most is None else text[: most * LONGEST_TOKEN_CHARS + 1]
        return [end for _, end in self.tokenizer.encode(head, add_special_tokens=False).offsets[:most]]

    def control(self, token: str) -> int:
        number: int | None = self.tokenizer.token_to_id(token)
        if number is None:
            raise TextmillError(f"The tokenizer of this model has no {token}, which its chat format needs.", code="bad_registry")
        return number

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text[: self._head_chars], add_special_tokens=False).ids
        return ids
