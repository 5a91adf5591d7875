"""A tokenizer in which nobody can spell a control token, and the texts that go through a chat template to it.

Its control tokens have random names here, in its list of added tokens as in its vocabulary, so a text that holds "<|im_end|>" has no way to
the token: neither by matching, nor by a merge, nor as a word. A template writes the tokens as they are called; those that it wrote get the
random names, and what a message brought is kept apart from them: where a message spells a token, or its edge could complete one, a
character that nobody uses stands for the first one of it while the template is at work (transformers wraps such spellings in marks).
"""

import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from tokenizers import Tokenizer

_UNUSED: Final = range(0x10FFFD, 0xF0000, -1)  # private use


class CannotGuard(Exception):
    """The file is none that control tokens can be renamed in."""


class Guarded:
    """``tokenizer``: as its file has it; ``control``: tokens of it by their names, of which there may be thousands. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, control: Collection[str]) -> None:
        ids = {token: number for token in control if (number := tokenizer.token_to_id(token)) is not None}
        self._names = {token: f"x{secrets.token_hex(16)}" for token in ids}
        self._lengths = sorted({len(token) for token in ids}, reverse=True)
        self._firsts = re.compile(f"[{''.join(re.escape(first) for first in sorted({token[0] for token in ids}))}]" if ids else "(?!)")
        self._heads = {token[:at] for token in ids for at in range(1, len(token))}
        self._tails = {token[at:] for token in ids for at in range(1, len(token))}
        self._all_tails = "\0".join(["", *self._tails])
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(_renamed(json.loads(tokenizer.to_str()), self._names, ids)))
        except Exception:  # the library raises plain Exception, and its message may quote the file
            raise CannotGuard from None
        if any(self._tokenizer.token_to_id(self._names[token]) != number for token, number in ids.items()):
            raise CannotGuard

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """All of it as text."""
        # In a batch, of one text too: this lets go of the GIL.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        return ids

    def ends(self, text: str) -> list[int]:
        """Where its tokens end, in characters."""
        return [end for _, end in self._tokenizer.encode_batch([text], add_special_tokens=False)[0].offsets]

    def hidden(self, texts: Sequence[str]) -> "Hidden":
        """Texts that go into a template."""
        return Hidden([sorted(self._places(text)) for text in texts], texts)

    def named(self, rendered: str, hidden: "Hidden") -> str:
        """What a template made of them, for `encode`: the control tokens in it are the template's."""
        parts, behind = [], 0
        for at, token in self._control_in(rendered):
            if at >= behind:
                parts += [rendered[behind:at], self._names[token]]
                behind = at + len(token)
        return "".join([*parts, rendered[behind:]]).translate(hidden.back)

    def _control_in(self, text: str) -> Iterator[tuple[int, str]]:
        """Where control tokens begin, and the longest at each place; they may overlap."""
        for found in self._firsts.finditer(text):
            at = found.start()
            token = next((text[at : at + length] for length in self._lengths if text[at : at + length] in self._names), None)
            if token is not None:
                yield at, token

    def _places(self, text: str) -> set[int]:
        """Where a control token begins, and the edges that could be a part of one with what the template writes beside them."""
        places = {at for at, _ in self._control_in(text)}
        stripped = text.strip()
        if not stripped or not self._lengths:
            return places
        first, reach = text.index(stripped[0]), self._lengths[0]
        ends_one = any(stripped[:length] in self._tails for length in range(1, reach))
        if ends_one or (len(stripped) < reach and f"\0{stripped}" in self._all_tails):
            places.add(first)
        if any(stripped[-length:] in self._heads for length in range(1, reach)):
            places.add(first + len(stripped) - 1)
        return places


class Hidden:
    """``texts`` with the characters at their ``places`` replaced; ``back`` tells what stands for what."""

    def __init__(self, places: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
        stands_for: dict[str, str] = {}
        if any(places):
            used = set().union(*texts)
            unused = (chr(number) for number in _UNUSED if chr(number) not in used)
            replaced = {text[at] for text, own in zip(texts, places, strict=True) for at in own}
            stands_for = dict(zip(sorted(replaced), unused, strict=False))
        self.texts = ["".join(_with(text, own, stands_for)) for text, own in zip(texts, places, strict=True)]
        self.back = {ord(sign): character for character, sign in stands_for.items()}


def _with(text: str, places: Sequence[int], stands_for: Mapping[str, str]) -> Iterator[str]:
    behind = 0
    for at in places:
        yield text[behind:at]
        yield stands_for[text[at]]
        behind = at + 1
    yield text[behind:]


def _renamed(file: Any, names: Mapping[str, str], ids: Mapping[str, int]) -> Any:
    """``file``: what tokenizer.json holds. It is changed."""
    listed = {token["content"] for token in file["added_tokens"]}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    file["added_tokens"] += [{"id": number, "content": token, **plain} for token, number in ids.items() if token not in listed]
    for token in file["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = file["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    elif isinstance(vocabulary, list):  # pieces with their scores
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            pair for pair in map(_pair, model["merges"]) if not {*pair, pair[0] + pair[1].removeprefix(prefix)} & names.keys()
        ]
    file["truncation"] = file["padding"] = None
    return file


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """As tokenizer.json has it, in the newer way or the older."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second
