"""Texts with sensitive spans that are known, among what only looks like some, by a seed.

Check digits are worked out here a second time, the long way, so that a recogniser is held against something that is not itself.
"""

import random
import string
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Known = tuple[str, int, int]  # kind, start, end

_SENTENCES: Final = (
    "Please send it to {} as soon as you can.",
    "Customer wrote: I still wait for a reply ({}), thanks!",
    "Bitte melden Sie sich unter {}; wir danken Ihnen für Ihre Geduld.",
    "Kundendaten laut Akte: {}.",
    "Merci de nous répondre à {} avant vendredi, s’il vous plaît.",
    "Le client a indiqué « {} » dans son message.",
    "Por favor, use {} para cualquier consulta.",
    "¿Es correcto {}?",
    "Gelieve {} te gebruiken voor uw vraag.",
    "Abbiamo ricevuto {}, grazie.",
    "Dane klienta: {} – proszę potwierdzić.",
    "お客様の連絡先は「{}」です。",
    "{}",
    "See below:\n{}\nRegards, the team",
)
_FILLERS: Final = (
    "The parcel arrived on Tuesday and the box was open.",
    "Die Lieferung kam zu spät, und ein Teil fehlte.",
    "Le colis est arrivé ouvert, il manque une pièce.",
    "El paquete llegó tarde y estaba abierto.",
    "Het pakket kwam te laat aan.",
    "I have called three times since then, and nobody could help me.",
)
_NAMES: Final = (
    "anna",
    "j.smith",
    "marie-claire",
    "o.müller",
    "luis_perez",
    "info",
    "no-reply",
    "x",
    "first.last+news",
    "K.Nowak",
    "d.o'neill",
)
_DOMAINS: Final = (
    "example.com",
    "mail.example.co.uk",
    "firma-beispiel.de",
    "exemple.fr",
    "sub.domain.example.org",
    "post.museum",
    "Example.NL",
)
_HEX: Final = "0123456789abcdef"
_BASE62: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Generated:
    text: str
    known: list[Known]


def texts(count: int, seed: int) -> Iterator[Generated]:
    """Of some 300 characters each: up to three sensitive values, up to three decoys, and words around them."""
    rng = random.Random(seed)
    kinds = list(SENSITIVE)
    for _ in range(count):
        parts: list[tuple[str | None, str]] = [(None, rng.choice(_FILLERS)) for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(0, 3)):
            kind = rng.choice(kinds)
            parts.append((kind, SENSITIVE[kind](rng)))
        parts += [("decoy", rng.choice(DECOYS)(rng)) for _ in range(rng.randint(0, 3))]
        rng.shuffle(parts)
        yield _joined(parts, rng)


def _joined(parts: list[tuple[str | None, str]], rng: random.Random) -> Generated:
    text, known = "", []
    for kind, value in parts:
        if text:
            text += rng.choice((" ", "\n", " "))
        before, after = ("", "") if kind is None else rng.choice(_SENTENCES).split("{}")
        start = len(text) + len(before)
        text += before + value + after
        if kind not in (None, "decoy"):
            known.append((str(kind), start, start + len(value)))
    return Generated(text, known)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def _email(rng: random.Random) -> str:
    return f"{rng.choice(_NAMES)}@{rng.choice(_DOMAINS)}"


def _phone(rng: random.Random) -> str:
    d: Callable[[int], str] = lambda count: _digits(rng, count)  # noqa: E731 - it stands in every line below
    first = rng.choice("23456789")
    forms = (
        f"+49 {rng.choice(('171', '30', '221', '89'))} {first}{d(6)}",
        f"+49 (0) 30 {first}{d(7)}",
        f"+44 20 {first}{d(3)} {d(4)}",
        f"+44 7{d(3)} {d(6)}",
        f"+1 {first}{d(2)} {first}{d(2)} {d(4)}",
        f"+1-{first}{d(2)}-{first}{d(2)}-{d(4)}",
        f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}",
        f"+34 6{d(2)} {d(3)} {d(3)}",
        f"+31 6 {d(8)}",
        f"+39 0{first} {d(4)} {d(4)}",
        f"+48 {first}{d(2)} {d(3)} {d(3)}",
        f"+81-90-{d(4)}-{d(4)}",
        f"+919{d(9)}",
        f"0049 171 {d(7)}",
        f"({first}{d(2)}) {first}{d(2)}-{d(4)}",
        f"{first}{d(2)}-{first}{d(2)}-{d(4)}",
        f"{first}{d(2)}.{first}{d(2)}.{d(4)}",
        f"030 {first}{d(7)}",
        f"0221/{first}{d(6)}",
        f"0171-{first}{d(6)}",
        f"0176{first}{d(7)}",
        f"020 {first}{d(3)} {d(4)}",
        f"07{d(3)} {d(6)}",
        f"0{rng.choice('123456')} {d(2)} {d(2)} {d(2)} {d(2)}",
        f"0{rng.choice('67')}{d(8)}",
        f"06-{first}{d(7)}",
    )
    return rng.choice(forms)


_IBANS: Final = {"DE": "n" * 18, "GB": "a" * 4 + "n" * 14, "FR": "n" * 10 + "a" * 11 + "n" * 2, "NL": "a" * 4 + "n" * 10, "ES": "n" * 20}
_MORE_IBANS: Final = {"BE": "n" * 12, "IT": "a" + "n" * 10 + "a" * 12, "PL": "n" * 24, "CH": "n" * 5 + "a" * 12, "NO": "n" * 11}


def _iban(rng: random.Random, wrong: int = 0) -> str:
    country, shape = rng.choice(list((_IBANS | _MORE_IBANS).items()))
    account = "".join(rng.choice(string.ascii_uppercase) if kind == "a" else rng.choice(string.digits) for kind in shape)
    number = "".join(str(ord(sign) - 55) if sign.isalpha() else sign for sign in f"{account}{country}00")
    check = (98 - int(number) % 97 + wrong) % 97 or 97
    whole = f"{country}{check:02d}{account}"
    spaced = " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))
    return rng.choice((whole, spaced))


def _luhn_sum(number: str) -> int:
    doubled = [int(digit) * (2 if at % 2 else 1) for at, digit in enumerate(reversed(number))]
    return sum(value // 10 + value % 10 for value in doubled)


def _card(rng: random.Random, wrong: int = 0) -> str:
    prefix, length = rng.choice(
        (("4", 16), ("51", 16), ("55", 16), ("2345", 16), ("34", 15), ("37", 15), ("6011", 16), ("3530", 16), ("36", 14))
    )
    body = prefix + _digits(rng, length - len(prefix) - 1)
    number = body + str((10 - _luhn_sum(body + "0") % 10 + wrong) % 10)
    cuts = (4, 10) if length < 16 else (4, 8, 12)
    parts = [number[start:end] for start, end in zip((0, *cuts), (*cuts, length), strict=True)]
    return rng.choice((number, " ".join(parts), "-".join(parts)))


def _ip(rng: random.Random) -> str:
    four = ".".join(str(rng.randint(1, 254)) for _ in range(4))
    groups = [f"{rng.randint(1, 65535):x}" for _ in range(8)]
    return rng.choice(
        (four, four, ":".join(groups), f"2001:db8::{groups[0]}:{rng.randint(1, 9)}", f"fe80::{rng.randint(1, 9)}:{groups[1]}")
    )


def _key(rng: random.Random) -> str:
    def of(alphabet: str, count: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(count))

    url_safe = _BASE62 + "-_"
    block = "\n".join(of(_BASE62 + "+/", 64) for _ in range(2))
    return rng.choice(
        (
            "AKIA" + of(string.ascii_uppercase + "234567", 16),
            "ghp_" + of(_BASE62, 36),
            f"github_pat_{of(_BASE62, 22)}_{of(_BASE62, 59)}",
            f"xoxb-{_digits(rng, 12)}-{_digits(rng, 12)}-{of(_BASE62, 24)}",
            f"eyJhbGciOiJIUzI1NiJ9.eyJ{of(url_safe, 40)}.{of(_BASE62, 43)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{block}\n-----END RSA PRIVATE KEY-----",
            "sk_live_" + of(_BASE62, 24),
            "AIza" + of(_BASE62, 35),
        )
    )


SENSITIVE: Final[dict[str, Callable[[random.Random], str]]] = {
    "email": _email,
    "phone": _phone,
    "iban": _iban,
    "card": _card,
    "ip": _ip,
    "key": _key,
}


def _ean(rng: random.Random) -> str:
    body = rng.choice(("40", "50", "30", "87")) + _digits(rng, 10)
    return body + str(-sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(body)) % 10)


DECOYS: Final[tuple[Callable[[random.Random], str], ...]] = (
    lambda rng: f"order {rng.randint(10**6, 10**9)}",
    lambda rng: f"Bestellung Nr. {rng.randint(2015, 2026)}-{_digits(rng, 6)}",
    lambda rng: f"commande n° {rng.choice('ABCDEF')}{_digits(rng, 8)}",
    lambda rng: f"#{_digits(rng, 5)}-{_digits(rng, 3)}",
    lambda rng: f"{rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}.{rng.randint(1950, 2030)}",
    lambda rng: f"{rng.randint(1950, 2030)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
    lambda rng: f"{rng.randint(1, 28):02d}/{rng.randint(1, 12):02d}/{rng.randint(1950, 2030)}",
    lambda rng: f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:07.123456Z",
    lambda rng: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}",
    lambda rng: f"version {rng.randint(0, 20)}.{rng.randint(0, 30)}.{rng.randint(0, 99)}",
    lambda rng: f"v{rng.randint(0, 20)}.{rng.randint(0, 30)}.{rng.randint(0, 99)}.{rng.randint(0, 99)}",
    lambda rng: f"build 10.0.{rng.randint(10000, 22631)}.{rng.randint(300, 999)}",
    lambda rng: _card(rng, wrong=rng.randint(1, 9)),
    lambda rng: _iban(rng, wrong=rng.randint(1, 95)),
    lambda rng: "".join(rng.choice(_HEX) for _ in range(rng.choice((7, 32, 40, 64)))),
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    _ean,
    lambda rng: f"ISBN 978-3-{_digits(rng, 5)}-{_digits(rng, 3)}-{_digits(rng, 1)}",
    lambda rng: f"{rng.randint(1, 999)}.{_digits(rng, 3)}.{_digits(rng, 3)},{_digits(rng, 2)} €",
    lambda rng: f"{rng.randint(1, 999)},{_digits(rng, 3)},{_digits(rng, 3)}",
    lambda rng: f"{rng.randint(1, 99)} {_digits(rng, 3)} {_digits(rng, 3)} Kč",
    lambda rng: f"{rng.uniform(-90, 90):.6f}, {rng.uniform(-180, 180):.6f}",
    lambda rng: ":".join("".join(rng.choice(_HEX) for _ in range(2)) for _ in range(6)),
    lambda rng: f"@{rng.choice(('anna', 'textmill', 'luis_perez'))}",
    lambda rng: f"@scope/package@{rng.randint(1, 9)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
    lambda rng: f"https://shop.example.com/items/{_digits(rng, 8)}?page={rng.randint(1, 9)}&sort=price",
    lambda rng: f"std::vector<{rng.choice(('int', 'a::b'))}>",
    lambda rng: f"timestamp {rng.randint(1_500_000_000, 1_799_999_999)}{rng.choice(('', '123'))}",
    lambda rng: f"{rng.randint(10, 99)} x {rng.randint(10, 99)} x {rng.randint(10, 99)} cm",
    lambda rng: f"1Z{_digits(rng, 3)}AA1{_digits(rng, 10)}",
    lambda rng: f"the article {_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 2)}",
    lambda rng: "the api key was changed, and the token is gone",
)
