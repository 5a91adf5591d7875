"""Whether texts are in the language of a model that knows English only. A stated test and no detector: it is there to warn of a whole job.

A text is foreign where most of its letters are of no Latin script, or where, among eight words or more, fewer than one in ten are function
words of English and more than that are function words of another language that is written in Latin letters. Short texts, names, numbers and
logs hold neither and are not counted. Pure.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from workers.models.card import ModelCard

ENGLISH_ONLY: Final = ("en",)
LOOKED_AT_CHARS: Final = 240  # of a text's beginning: some 10 to 15 µs
MIN_WORDS: Final = 8
LEAST_ENGLISH: Final = 0.10  # English prose has 0.3 to 0.5
LAST_LATIN: Final = "\u024f"

_WORD: Final = re.compile(r"[^\W\d_]+")
# Without those that are words of another language as well (a, i, in, he, me, no, so, was, will).
_ENGLISH_WORDS: Final = """
    about after all also and any are be because been but by can could for from have him his how if into it its just like more my not of one
    our out she some than that the their them then there these they this to up were what when which who with would you your
"""
# German, French, Spanish, Portuguese, Italian, Dutch, Slavic languages, Scandinavian ones, Turkish, Finnish.
_OTHER_WORDS: Final = """
    der das und ist nicht ein eine einen einem einer zu den dem des mit von im für auf sich auch wird sind wie noch bei nach oder aber ich
    le la les et est une du dans que qui pas pour sur au aux ce cette sont avec plus nous vous je il elle
    el los las y en por con del se su para como pero esta este muy más o os um uma não em da dos ao foi mais
    di che non per della delle sono gli una un nel alla anche questo het een van niet dat op te zijn voor met aan ook maar
    w z na nie się jest jak ale po tym v že ve za ki ne pa ali ni tudi zelo och att det som på är inte av till ett
    og er ikke af til jeg bir bu için çok ile de olarak ja ei että oli mutta kun
"""
_ENGLISH: Final = frozenset(_ENGLISH_WORDS.split())
_OTHER: Final = frozenset(_OTHER_WORDS.split())


def foreign_to(card: ModelCard | None, texts: Iterable[str]) -> int:
    """How many of ``texts`` are in another language than the model was trained on. Told of models for English only; else 0."""
    return foreign(texts) if card is not None and card.languages == ENGLISH_ONLY else 0


def foreign(texts: Iterable[str]) -> int:
    """How many of ``texts`` are in another language than English."""
    count = 0
    for text in texts:
        beginning = text[:LOOKED_AT_CHARS]
        words = [word.casefold() for word in _WORD.findall(beginning)]
        if not beginning.isascii() and _is_elsewhere(words):
            count += 1
        elif len(words) >= MIN_WORDS:
            english, other = (sum(map(known.__contains__, words)) for known in (_ENGLISH, _OTHER))
            count += english < LEAST_ENGLISH * len(words) < other
    return count


def _is_elsewhere(words: Sequence[str]) -> bool:
    """Whether most letters are of no Latin script."""
    of_no_latin = sum(len(word) for word in words if word > LAST_LATIN and not unicodedata.name(word[0], "").startswith("LATIN"))
    return 2 * of_no_latin > sum(map(len, words))
