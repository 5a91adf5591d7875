"""Keys in addresses, however they are spelt."""

from urllib.parse import quote

import pytest

from api.requests.addresses import holds_key

KEY = "tm_" + "Ab3_-" * 8


def percent(text: str) -> str:
    """Every character of it."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


SPELT = [
    KEY,
    KEY.upper(),
    f"x={KEY}",
    percent(KEY),
    percent(KEY).lower(),
    KEY.replace("tm_", "tm%5F"),
    KEY.replace("tm_", "%74%6D%5f"),
    quote(percent(KEY)),
    quote(quote(percent(KEY))),
    "/v1/files/" + KEY.replace("A", "%41"),
    "api_key=x",
    "api%5Fkey=x",
    "%61pi-key=x",
    "a=1&Api-Key=x",
    "a=1;x-api-key=x",
    "a=1%26token=x",
    "access%255Ftoken=x",
    "authorization=Bearer",
    "bearer=x",
]


@pytest.mark.parametrize("sent", SPELT)
def test_a_key_is_seen_in_every_spelling(sent: str) -> None:
    assert holds_key(sent.encode())


def test_what_is_encoded_too_often_to_be_looked_through_is_taken_for_one() -> None:
    sent = KEY
    for _ in range(8):
        sent = percent(sent) if len(sent) < 1_000 else quote(sent)
    assert holds_key(sent.encode())


@pytest.mark.parametrize(
    "sent", ["", "limit=5&after=file-0123", "/v1/files/file-00/content", "monkey=1", "prefix=a%2Fb", "%", "%zz", "tm_short"]
)
def test_other_addresses_hold_none(sent: str) -> None:
    assert not holds_key(sent.encode())
