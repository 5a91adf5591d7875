"""What a wording is."""

from collections.abc import Sequence
from typing import Protocol

from tokenizers import Tokenizer

from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.generation import Message


class Wording(Protocol):
    """``tokenizer``: as it decodes an answer; ``end_ids`` end one, and ``turn_ids`` would begin the next turn of a chat."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def end_ids(self) -> Sequence[int]: ...
    @property
    def turn_ids(self) -> Sequence[int]: ...
    @property
    def chat_stop(self) -> tuple[str, ...]: ...

    def chat(self, messages: Sequence[Message]) -> Ids | FailedRow:
        """As an engine's `tokenize_chat`, and `prompt` as its `tokenize_prompt`."""

    def prompt(self, text: str) -> Ids | FailedRow: ...

    # As an engine's Asking.
    @property
    def closing_ids(self) -> Sequence[int]: ...
    @property
    def goes_on(self) -> bool: ...
    def question(self, text: str, lead: str) -> Ids | FailedRow: ...
    def answer(self, text: str) -> Ids: ...
    def token_ends(self, text: str, most: int | None = None) -> Sequence[int]: ...
