"""Numbers that a state gives a person: US SSN, UK NINO, German Steuer-ID, French NIR, Spanish DNI and NIE, Italian codice fiscale,
and, behind its name alone, Dutch BSN: one number of nine digits in eleven is one."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from workers.redaction.checksums import codice_fiscale, dutch_bsn, french_nir, german_tax_id, spanish_dni
from workers.redaction.span import Span

_ENDS: Final = r"(?![0-9A-Za-z]|-[0-9])"
_BY_DIGIT: Final = re.compile(
    r"[0-9](?<![0-9A-Za-z].)(?<![0-9][-.,/].)(?:"
    r"(?P<ssn>(?<!9)[0-9]{2}(?P<cut>[ -])[0-9]{2}(?P=cut)[0-9]{4})"
    r"|(?P<nir>(?<=[12]) ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9ABab] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2})"
    r"|(?P<dni>[0-9]{7}-?[A-Za-z])"
    r"|(?P<steuer>[0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3})"
    rf"){_ENDS}",
    re.DOTALL,
)
_BY_LETTER: Final = re.compile(
    r"[A-Za-z](?<![0-9A-Za-z].)(?:"
    r"(?P<nie>(?<=[XYZxyz])-?[0-9]{7}-?[A-Za-z])"
    r"|(?P<nino>[A-Za-z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d])"
    r"|(?P<fiscale>[A-Za-z]{5}[0-9]{2}[A-Za-z][0-9]{2}[A-Za-z][0-9]{3}[A-Za-z])"
    rf"){_ENDS}",
    re.DOTALL,
)
_BSN: Final = re.compile(r"(?:bsn|burgerservicenummer|sofinummer)[^0-9A-Za-z\n]{1,4}([0-9]{9})(?![0-9A-Za-z])", re.IGNORECASE)
_NINO_LETTERS: Final = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]")


def _ssn(digits: str) -> bool:
    """No area 000, 666 or from 900 on, no group 00, no serial 0000 (Social Security Administration, since 2011)."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _nino(value: str) -> bool:
    return _NINO_LETTERS.match(value) is not None


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "ssn": _ssn,
    "nir": french_nir,
    "dni": spanish_dni,
    "nie": spanish_dni,
    "steuer": german_tax_id,
    "nino": _nino,
    "fiscale": codice_fiscale,
}


def find_national_ids(text: str) -> Iterator[Span]:
    for pattern in (_BY_DIGIT, _BY_LETTER):
        for found in pattern.finditer(text):
            if _CHECKS[str(found.lastgroup)](found[0].replace(" ", "").replace("-", "").upper()):
                yield Span("national_id", found.start(), found.end())
    for found in _BSN.finditer(text):
        if dutch_bsn(found[1]):
            yield Span("national_id", found.start(1), found.end(1))
