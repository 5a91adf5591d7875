"""IBANs: a country's length, and MOD 97-10; in one piece or in groups."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from workers.redaction.checksums import mod_97
from workers.redaction.span import Span

_TOLD: Final = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22
GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20
MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26
UA29 VA22 VG24 XK20 YE30
"""  # the registry of SWIFT, release 99
LENGTHS: Final = {told[:2]: int(told[2:]) for told in _TOLD.split()}
_HEAD: Final = re.compile(r"[A-Za-z](?<![A-Za-z0-9].)[A-Za-z][0-9]{2}(?=[ -]?[A-Za-z0-9])", re.DOTALL)
_HEAD_SIGNS: Final = 4


def find_ibans(text: str) -> Iterator[Span]:
    for head in _HEAD.finditer(text):
        length = LENGTHS.get(head[0][:2].upper())
        if length is None or (rest := _rest(length).match(text, head.end())) is None:
            continue
        if mod_97((head[0] + rest[0]).replace(" ", "").replace("-", "").upper()):
            yield Span("iban", head.start(), rest.end())


@cache
def _rest(length: int) -> re.Pattern[str]:
    return re.compile(rf"(?:[ -]?[A-Za-z0-9]){{{length - _HEAD_SIGNS}}}(?![A-Za-z0-9])")
