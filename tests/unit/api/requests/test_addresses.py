"""Keys in addresses, however they are spelt."""

from urllib.parse import quote

import pytest

from api.requests.addresses import path_holds_key, query_holds_key

KEY = "tm_" + "Ab3_-" * 8 + "Zz8"  # 43 characters, as 256 bits have


def percent(text: str) -> str:
    """Every character of it."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


SPELT = [
    KEY,
    f"x={KEY}",
    f"{KEY}&a=1",
    f"Bearer%20{KEY}",
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
    assert query_holds_key(sent.encode())


def test_what_is_encoded_too_often_to_be_looked_through_is_taken_for_one() -> None:
    sent = KEY
    for _ in range(8):
        sent = percent(sent) if len(sent) < 1_000 else quote(sent)
    assert query_holds_key(sent.encode())


@pytest.mark.parametrize(
    "sent", ["", "limit=5&after=file-0123", "/v1/files/file-00/content", "monkey=1", "prefix=a%2Fb", "%", "%zz", "tm_short"]
)
def test_other_addresses_hold_none(sent: str) -> None:
    assert not query_holds_key(sent.encode())


@pytest.mark.parametrize("before", ["", "/v1/files/", "/v1/files/file:", "/v1/x%20", "/v1/a.b/"])
@pytest.mark.parametrize("behind", ["", "/content", ".", "%0A", ";x=1"])
def test_a_key_is_seen_wherever_it_stands_in_a_path(before: str, behind: str) -> None:
    assert path_holds_key(f"{before}{KEY}{behind}".encode())
    assert path_holds_key(f"{before}{percent(KEY)}{behind}".encode())


# Names of heads and label sets stand in paths.
NAMES = [
    "atm_withdrawals_and_card_issues",
    "atm_transactions_of_customers",
    "ATM_WITHDRAWALS_AND_CARD_ISSUES",
    "a" + KEY,
    "tm_trade_marks_and_their_oppositions",
    "tm_" + "x" * 43,
    "tm_" + "Trade-Marks_" * 5,
    KEY[:-1],
    KEY + "x",
    KEY.lower(),
    "sport&token=x",
    "a;key=b",
    "key=x",
    "100%",
    "50%25",
    "ночь_и_день",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_key(name: str) -> None:
    assert not path_holds_key(f"/v1/label_sets/{quote(name)}".encode())
