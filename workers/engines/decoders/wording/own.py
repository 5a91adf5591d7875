"""How a decoder of an operator's own is spoken to, by the files of its folder: its tokenizer, its chat template, its end tokens."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.generation import Message
from workers.engines.decoders.wording.guarded import CannotGuard, Guarded
from workers.engines.decoders.wording.template import Template
from workers.engines.folders.files import broken
from workers.engines.folders.time_limit import TimeLimit
from workers.models.decoder_folder import chat_template, end_tokens, named_tokens, read_tokenizer_config
from workers.models.folder_config import Unreadable

SPACE: Final = " \n\t\r▁"
ASKED: Final = ({"role": "user", "content": "a"},)
SAID: Final = {"role": "assistant", "content": "xyz"}


class OwnWording:
    """``vocabulary``: how many tokens the model has. Raises TextmillError "model_broken"."""

    chat_stop: tuple[str, ...] = ()
    turn_ids: tuple[int, ...] = ()

    def __init__(self, folder: Path, config: Mapping[str, Any], *, vocabulary: int, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._limit = TimeLimit(folder)
        self.tokenizer = _tokenizer(folder, vocabulary)
        self._longest = max(map(len, self.tokenizer.get_vocab()))
        try:
            template, named = chat_template(folder), named_tokens(read_tokenizer_config(folder))
            self.end_ids = sorted({*end_tokens(folder, config), *_known(self.tokenizer, [named.get("eos_token", "")])})
        except Unreadable as error:
            raise broken(folder, str(error)) from None
        if not self.end_ids:
            raise broken(folder, "no file of it names an end token (eos_token_id).")
        if self.end_ids[-1] >= vocabulary:
            raise broken(folder, "an end token (eos_token_id) is none of the model's tokens.")
        self._template = None if template is None else Template(folder, template, named)
        self.goes_on = template is None
        try:
            self._guarded = Guarded(self.tokenizer, self._control(template or "", named))
        except CannotGuard:
            raise broken(folder, "the control tokens of tokenizer.json cannot be told from text.") from None
        line_end = self._guarded.encode("\n", add_special_tokens=False)
        self.closing_ids = [*self.end_ids, *(line_end if len(line_end) == 1 else ())]
        self._asked = "" if self._template is None else self._template.fill(ASKED) or ""
        between = self._between()
        # A space may be of the first token of what is said; what is more belongs to the question.
        self._space, self._thought = (between, "") if not between.strip() else ("", between)
        self._asked += self._thought

    def _between(self) -> str:
        """What the template puts between the place where the assistant begins to speak and what it says: nothing, a space, or that it has
        thought (nothing), or to whom it speaks."""
        if self._template is None:
            return " "
        whole = self._template.fill([*ASKED, SAID]) or ""
        said = whole.find(SAID["content"], len(self._asked))
        return whole[len(self._asked) : said] if whole.startswith(self._asked) and said >= 0 else ""

    def _control(self, template: str, named: Mapping[str, str]) -> set[str]:
        """What the file calls special, what ends an answer, and those of the added tokens that the template writes."""
        added = {token.content: token.special for token in self.tokenizer.get_added_tokens_decoder().values()}
        written = "\0".join([template, *(() if self._template is None else self._template.samples)])
        found = {token for token, special in added.items() if special or (token in written and not token.strip(SPACE).isalnum())}
        found |= {self.tokenizer.id_to_token(number) or "" for number in self.end_ids} | set(named.values())
        return {token for token in found if token and token.strip(SPACE) and self.tokenizer.token_to_id(token) is not None}

    def chat(self, messages: Sequence[Message]) -> Ids | FailedRow:
        return self._chat(messages)

    def _chat(self, messages: Sequence[Message], behind: str = "") -> Ids | FailedRow:
        """``behind``: what the template would write there."""
        if self._template is None:
            return FailedRow("no_chat_template")
        hidden = self._guarded.hidden([text for message in messages for text in (message.content, message.name or "")])
        told = [_told(message.role, *texts) for message, *texts in zip(messages, hidden.texts[::2], hidden.texts[1::2], strict=True)]
        filled = self._template.fill(told)
        if filled is None:
            return FailedRow("chat_refused")
        return self._encode(self._guarded.named(filled + behind, hidden), add_special_tokens=False)

    def prompt(self, text: str) -> Ids | FailedRow:
        return self._encode(text, add_special_tokens=True)

    def question(self, text: str, lead: str) -> Ids | FailedRow:
        return self.prompt(text + lead) if self._template is None else self._chat([Message("user", text)], self._thought)

    def answer(self, text: str) -> Ids:
        """As it follows a question; where it would melt into that, by itself."""
        hidden = self._guarded.hidden([text])
        before = self._asked or "."
        asked, whole = (
            self._guarded.encode(self._guarded.named(one, hidden), add_special_tokens=False)
            for one in (before, before + self._space + hidden.texts[0])
        )
        alone = self._guarded.encode(self._space + text, add_special_tokens=False)
        return np.array(whole[len(asked) :] if whole[: len(asked)] == asked else alone, dtype=np.int32)

    def token_ends(self, text: str, most: int | None = None) -> Sequence[int]:
        head = text if most is None else text[: most * self._longest + 1]
        return self._limit.run(partial(self._guarded.ends, head), len(head))[:most]

    def _encode(self, text: str, *, add_special_tokens: bool) -> Ids | FailedRow:
        """Where the head of a text is too long for the model, so is all of it; where it is not (spaces, words that are not known), all is
        read."""
        head = text[: self._max_tokens * self._longest + 1]
        for part in (head, text):
            encode = partial(self._guarded.encode, part, add_special_tokens=add_special_tokens)
            ids = self._limit.run(encode, len(part))
            if len(part) == len(text) or len(ids) > self._max_tokens:
                break
        return np.array(ids, dtype=np.int32) if ids else FailedRow("empty_input")


def _told(role: str, content: str, name: str) -> dict[str, str]:
    """A message as templates know it. None knows a developer, who is who the system was."""
    told = {"role": "system" if role == "developer" else role, "content": content}
    return told | {"name": name} if name else told


def _tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the library raises plain Exception, and its message may quote the file
        raise broken(folder, "tokenizer.json is missing or not one of the tokenizers library.") from None
    if max(tokenizer.get_vocab().values(), default=0) >= vocabulary:
        raise broken(folder, "the tokenizer has more tokens than the model has embeddings: they do not belong together.")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _known(tokenizer: Tokenizer, tokens: Sequence[str]) -> list[int]:
    return [number for token in tokens if (number := tokenizer.token_to_id(token)) is not None]
