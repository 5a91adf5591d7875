"""Phone numbers: international ones by country code and length, national ones in the forms of North America and of much of Europe, and any
behind a word for a phone. A number of nine or ten digits in one piece without such a word is none, but for mobile prefixes."""

import re
from collections.abc import Iterator
from typing import Final

from workers.redaction.span import Span

_SEPARATED: Final = r"(?:[ ./()-]{0,3}[0-9])"
_INTERNATIONAL: Final = re.compile(rf"[+0](?<![0-9A-Za-z+.,-].)(?:(?<=\+)|0)[1-9]{_SEPARATED}{{6,14}}(?![0-9])", re.DOTALL)
_NORTH_AMERICAN: Final = re.compile(
    r"[(1-9](?<![0-9A-Za-z+].)(?<![0-9][-./].)"
    r"(?:(?<=1)[ .-]?\(?[2-9][0-9]{2}\)?[ .-]?|(?<=\()[2-9][0-9]{2}\)[ .-]?|(?<=[2-9])[0-9]{2}[ .-])"
    r"[2-9][0-9]{2}[ .-][0-9]{4}(?![0-9A-Za-z]|-[0-9])",
    re.DOTALL,
)
_EUROPEAN: Final = re.compile(
    rf"[(0](?<![0-9A-Za-z+].)(?<![0-9][-./_].)(?:(?<=\()0[1-9][0-9]{{0,3}}\)|(?<=0)[1-9]){_SEPARATED}{{5,10}}(?![0-9A-Za-z]|-[0-9])",
    re.DOTALL,
)
_ANY: Final = re.compile(rf"[0-9(](?<![0-9A-Za-z+].){_SEPARATED}{{6,13}}(?![0-9A-Za-z])", re.DOTALL)
_WORD: Final = re.compile(
    r"(?:t[eé]l[eé]?(?:phone|fono|fon|foon)?|phone|mobile?|mobil(?:nummer)?|m[oó]vil|handy|fax|whatsapp|cellulare|cell|gsm)"
    r"(?:[ -]?(?:nr|no|num|number|nummer|n°))?[.:]?[ :#=]{0,3}\Z",
    re.IGNORECASE,
)
_WORD_CHARS: Final = 24
_DATE: Final = re.compile(r"(?:[0-9]{4}([-./])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([-./])[0-9]{1,2}\2[0-9]{4})")
_TOLD_CODES: Final = """
1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98
211 212 213 216 218 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 379 380 381 382 383
385 386 387 389 420 421 423 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850 852 853 855
856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
"""
_CODES: Final = frozenset(_TOLD_CODES.split()) | {
    str(code) for code in (*range(220, 270), *range(500, 510), *range(590, 600))
}  # ITU-T E.164
_PLANS: Final = {  # least and most digits behind the code, where it is one of those that are met most
    "1": (10, 10), "31": (9, 9), "32": (8, 9), "33": (9, 9), "34": (9, 9), "39": (6, 11), "41": (9, 9), "43": (7, 12), "44": (9, 10),
    "45": (8, 8), "46": (7, 10), "47": (8, 8), "48": (9, 9), "49": (7, 11), "61": (9, 9), "81": (9, 10), "86": (9, 11), "91": (10, 10),
    "351": (9, 9), "353": (7, 10), "420": (9, 9),
}  # fmt: skip
_MOST: Final = 15  # E.164
_LEAST: Final = 7
_MOBILE: Final = re.compile(r"0[67][0-9]{8}|07[0-9]{9}|01[567][0-9]{8,9}")
_FOUR: Final = re.compile(r"[0-9]{4}(?![0-9])")
_IN_CODE: Final = re.compile(r"(?:[A-Za-z0-9]{2}[0-9]{2}|[A-Z]{2}[0-9]{2}[ -][A-Z]{4})[ -]\Z")
_GROUPS: Final = re.compile(r"[0-9]+")
_IN_CODE_CHARS: Final = 10


def find_phones(text: str) -> Iterator[Span]:
    for found in _INTERNATIONAL.finditer(text):
        if not _is_in_code(found) and (end := _international_end(text, found)) is not None:
            yield Span("phone", found.start(), end)
    for found in _NORTH_AMERICAN.finditer(text):
        yield Span("phone", found.start(), found.end())
    for found in _EUROPEAN.finditer(text):
        if not _is_in_code(found) and (end := _european_end(found)) is not None:
            yield Span("phone", found.start(), end)
    for found in _ANY.finditer(text):
        if _WORD.search(text[max(0, found.start() - _WORD_CHARS) : found.start()]) and not _DATE.match(found[0]):
            yield Span("phone", found.start(), found.end())


def _international_end(text: str, found: re.Match[str]) -> int | None:
    """Without what stands behind it: groups beyond what the country's numbers have."""
    groups = list(_GROUPS.finditer(text, found.start(), found.end()))
    while groups:
        written = text[found.start() : groups[-1].end()].replace("(0)", "")
        digits = "".join(_GROUPS.findall(written)).removeprefix("00" if written.startswith("0") else "")
        code = next((digits[:length] for length in (1, 2, 3) if digits[:length] in _CODES), None)
        if code is None or (written.startswith("0") and code not in _PLANS):
            return None
        least, most = _PLANS.get(code, (_LEAST - len(code), _MOST - len(code)))
        if len(digits) - len(code) < least:
            return None
        if len(digits) - len(code) <= most and not _is_apart(text, groups):
            return groups[-1].end()
        groups.pop()
    return None


def _european_end(found: re.Match[str]) -> int | None:
    text = found.string
    groups = list(_GROUPS.finditer(text, found.start(), found.end()))
    if _is_apart(text, groups):
        groups.pop()
    lengths = [len(group[0]) for group in groups]
    digits = sum(lengths)
    if len(lengths) == 1:
        is_phone = _MOBILE.fullmatch(groups[0][0]) is not None
    elif all(length == 2 for length in lengths[1:]):
        is_phone = lengths[0] in (2, 3, 4) and digits in (9, 10)
    else:
        is_phone = lengths[0] in range(2, 6) and lengths[1] > 2 and lengths[-1] > 2 and len(lengths) < 5 and digits in range(9, 13)
    return groups[-1].end() if is_phone else None


def _is_apart(text: str, groups: list[re.Match[str]]) -> bool:
    """Whether the last group is another number: short, and behind a space and a group that is long enough to have been the end."""
    if len(groups) < 3 or len(groups[-1][0]) > 2 or len(groups[-2][0]) < 6:
        return False
    return text[groups[-2].end() : groups[-1].start()].isspace()


def _is_in_code(found: re.Match[str]) -> bool:
    """Whether it is the rest of a number that is written in groups of four: of a card, or of an IBAN."""
    before = found.string[max(0, found.start() - _IN_CODE_CHARS) : found.start()]
    return _FOUR.match(found[0]) is not None and _IN_CODE.search(before) is not None
