"""Payment cards: an issuer's prefix and length, and Luhn's digit; in one piece, or in the groups that are printed."""

import re
from collections.abc import Iterator
from typing import Final

from workers.redaction.checksums import luhn
from workers.redaction.span import Span

_WRITTEN: Final = re.compile(
    r"[2-6](?<![0-9A-Za-z].)(?<![0-9][.,].)(?:"
    r"[0-9]{13,18}"
    r"|[0-9]{3}(?P<four>[ .-])[0-9]{4}(?P=four)[0-9]{4}(?P=four)[0-9]{4}(?P<tail>(?P=four)[0-9]{3})?"
    r"|[0-9]{3}(?P<amex>[ .-])[0-9]{6}(?P=amex)[0-9]{4,5}"
    r")(?![0-9A-Za-z])",
    re.DOTALL,
)
# Thirteen digits of Visa are left out: none is issued any more, and bar codes have as many.
_ISSUED: Final = re.compile(
    r"4(?:.{15}|.{18})"  # Visa
    r"|(?:5[1-5]|222[1-9]|22[3-9].|2[3-6]..|27[01].|2720).{12,14}"  # Mastercard
    r"|3[47].{13}"  # American Express
    r"|3(?:0[0-5]|[689].).{11}"  # Diners Club
    r"|(?:6011|64[4-9].|65..|3(?:52[89]|5[3-8].)|62..).{12,15}"  # Discover, JCB, UnionPay
    r"|(?:50(?:18|20|38)|5893|6304|67(?:59|6[1-3])).{12,15}"  # Maestro
)
_LENGTHS_OF_FIVE: Final = 16
_IN_IBAN: Final = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -][0-9A-Za-z]{4}){0,6}[ -]\Z")
_IBAN_HEAD: Final = 36  # characters of one that may stand before its last groups


def find_cards(text: str) -> Iterator[Span]:
    for found in _WRITTEN.finditer(text):
        ends = (found.end(),) if found["tail"] is None else (found.end(), found.start("tail"))
        for end in ends:
            digits = re.sub("[ .-]", "", text[found.start() : end])
            if _is_card(digits) and not _IN_IBAN.search(text[max(0, found.start() - _IBAN_HEAD) : found.start()]):
                yield Span("card", found.start(), end)
                break


def _is_card(digits: str) -> bool:
    if digits[0] == "5" and digits[1] in "12345" and len(digits) != _LENGTHS_OF_FIVE:
        return False
    return _ISSUED.fullmatch(digits) is not None and luhn(digits)
