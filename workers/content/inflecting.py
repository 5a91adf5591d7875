"""What a slot does with its value. English is inflected by `inflect`; for other languages a template writes its forms out, by condition."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from workers.content.cells import number_of

MAX_WORD_CHARS: Final = 100  # what is longer is no word, and the library's patterns were not made for it
MAX_NUMBER: Final = 10**15
_WORD: Final = re.compile(r"[^\W_]+(?:[ '’.-]{1,2}[^\W_]+)*")


def inflected(done: str, text: str, count: Any = None) -> str:
    """``done``: one of `slots.WORDS`. A text that cannot be inflected (it is empty, no word, no number) stays as it is. ``count``: the cell
    that a plural goes by: of one the singular stays, of all else it is the plural."""
    if done in _BY_CASE:
        return _BY_CASE[done](text)
    if done in ("ordinal", "words"):
        number = number_of(text)
        if number is None or not -MAX_NUMBER <= number <= MAX_NUMBER or (done == "ordinal" and not isinstance(number, int)):
            return text
        written = _engine().ordinal(number) if done == "ordinal" else _engine().number_to_words(text.strip())
        return str(written)
    if len(text) > MAX_WORD_CHARS or _WORD.fullmatch(text) is None:
        return text
    if done == "a":
        return str(_engine().a(text))
    return text if number_of(count) == 1 else str(_engine().plural(text))


_BY_CASE: Final[dict[str, Callable[[str], str]]] = {
    "upper": str.upper,
    "lower": str.lower,
    "capital": lambda text: text[:1].upper() + text[1:],
}


@cache
def _engine() -> Any:
    import inflect  # with what it imports it takes a second, and most definitions inflect nothing

    return inflect.engine()
