from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workers.redaction.generated import SENSITIVE, texts
from workers.redaction.finding import find
from workers.redaction.span import KINDS, Kind

FOUND: tuple[tuple[Kind, str, str], ...] = (
    ("email", "mail to <J.O'Neill+x@sub.example.co.uk>.", "J.O'Neill+x@sub.example.co.uk"),
    ("email", "написать на иван@почта.рф!", "иван@почта.рф"),
    ("email", "ａｎｎａ＠example.com", "ａｎｎａ＠example.com"),
    ("phone", "call +49 (0) 171 / 123 45 67 12.05.2026", "+49 (0) 171 / 123 45 67"),
    ("phone", "٠٠٤٩ ١٧١ ١٢٣٤٥٦٧", "٠٠٤٩ ١٧١ ١٢٣٤٥٦٧"),
    ("phone", "(030) 12345678", "(030) 12345678"),
    ("phone", "+49–171–1234567", "+49–171–1234567"),
    ("phone", "Tel.: 912 345 678", "912 345 678"),
    ("phone", "\u202a+1 212 555 0123\u202c", "+1 212 555 0123"),
    ("phone", "1-800-555-0199", "1-800-555-0199"),
    ("phone", "order 69696 936-922-9985", "936-922-9985"),
    ("iban", "iban de89 3704 0044 0532 0130 00 and more", "de89 3704 0044 0532 0130 00"),
    ("card", "12 4111 1111 1111 1111 12/27", "4111 1111 1111 1111"),
    ("card", "4111\u200b1111\u200e11111111", "4111\u200b1111\u200e11111111"),
    ("card", "カード４１１１１１１１１１１１１１１１です", "４１１１１１１１１１１１１１１１"),
    ("ip", "from 10.0.0.1-x, [2001:db8::1]:443", "10.0.0.1"),
    ("ip", "::ffff:192.168.0.1", "::ffff:192.168.0.1"),
    ("national_id", "SSN 123-45-6789", "123-45-6789"),
    ("national_id", "NINO AB 12 34 56 C", "AB 12 34 56 C"),
    ("national_id", "Steuer-ID 86 095 742 719", "86 095 742 719"),
    ("national_id", "NIR 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
    ("national_id", "DNI 12345678-Z", "12345678-Z"),
    ("national_id", "NIE X-1234567-L", "X-1234567-L"),
    ("national_id", "CF RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("national_id", "BSN: 111222333", "111222333"),
    ("key", 'api_key="q8Zr2LmV0xTd9"', "q8Zr2LmV0xTd9"),
    ("key", "Authorization: Bearer 7f3Ka9Qz1mW8", "7f3Ka9Qz1mW8"),
    ("key", "-----BEGIN PRIVATE KEY-----\nMIIEv", "-----BEGIN PRIVATE KEY-----\nMIIEv"),
    ("url", "see https://u:p4ss@host.example/x?y=1.", "https://u:p4ss@host.example/x?y=1"),
    ("url", "(https://example.com/a?page=1&access_token=abc)", "https://example.com/a?page=1&access_token=abc"),
)
CLEAN = (
    "",
    "no such thing",
    "4111 1111 1111 1112",
    "DE88 3704 0044 0532 0130 00",
    "12:34:56",
    "aa:bb:cc:dd:ee:ff",
    "a::b",
    "::",
    "version 1.2.3.4",
    "256.1.1.1",
    "1.2.3.4.5",
    "01.02.2026 03.04.2026",
    "666-12-3456",
    "900-12-3456",
    "12345678A",
    "111222333",
    "pkg@1.2.3",
    "@anna",
    "user@localhost",
    "the password: please reset it",
    "secret = create_api_key(home.secrets)",
    "GB91 XMVF 0142 9789 7940 86",
    "https://example.com/?page=2#top",
    "123456789012345678901234567890",
    "4111 1111\n1111 1111",  # a value that a line break cuts is not recognised
    "anna@\nexample.com",
)
ADVERSARIAL = (
    *("1", "1 ", "0 1", "+1 ", "+1", "0049", "(030)", "1.", "1.1.", "1:", "::", "a:", "12-", "4111 ", "4111-1111-1111-1111-", "tel 1"),
    *("@", "a@", "a.", "a@a.", "-@", "DE89", "DE89 ", "DE89 3704 0044 ", "eyJ", "eyJaaaaaaaa.", "eyJaaaaaaaaa-", "sk-", "ghp_", "xoxb-1"),
    *("token=", "token = a1", "bearer ", "://", "a://", "a://b:", "a://b:c@", "?token=", "-----BEGIN PRIVATE KEY-----", "-----BEGIN A "),
    *("\u200e", "\u0661", "\uff11", "\u00a0", "é", "A", "X1", "AB 12 34 ", "[EMAIL:", "\0", "\ud800"),
)


@pytest.mark.parametrize(("kind", "text", "value"), FOUND, ids=[f"{kind}-{number}" for number, (kind, _, _) in enumerate(FOUND)])
def test_a_value_is_found_as_far_as_it_goes(kind: Kind, text: str, value: str) -> None:
    assert [(span.kind, text[span.start : span.end]) for span in find(text)][:1] == [(kind, value)]


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_looks_like_one_is_left(text: str) -> None:
    assert find(text) == []


def test_of_the_kinds_recall_and_precision_hold_on_texts_whose_spans_are_known() -> None:
    known: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for generated in texts(2000, seed=17):
        found = {tuple(span) for span in find(generated.text)}
        known.update(kind for kind, _, _ in generated.known)
        told.update(str(span[0]) for span in found)
        hit.update(kind for kind, start, end in generated.known if (kind, start, end) in found)
    for kind in SENSITIVE:
        assert known[kind] > 300
        assert hit[kind] >= 0.995 * known[kind], kind
        assert hit[kind] >= 0.99 * told[kind], kind
    assert set(told) <= set(SENSITIVE)


def test_only_the_kinds_that_are_asked_for_are_looked_for() -> None:
    text = "anna@example.com 4111111111111111"
    assert [span.kind for span in find(text, ["card"])] == ["card"]
    assert find(text, []) == []


def test_of_what_overlaps_one_is_told_of_the_kind_of_the_longest_over_all_of_it() -> None:
    text = "https://anna:t0p@example.com/?to=bob@example.com"
    assert [(span.kind, span.start, span.end) for span in find(text)] == [("url", 0, len(text))]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="0123456789+-. ()@:/aDEe=", max_size=300))
def test_spans_are_in_order_apart_and_within_the_text(text: str) -> None:
    at = 0
    for span in find(text):
        assert span.kind in KINDS
        assert at <= span.start < span.end <= len(text)
        at = span.end


@pytest.mark.timeout(20)  # what is not linear takes minutes for one of them
@pytest.mark.parametrize("piece", ADVERSARIAL, ids=ascii)
def test_a_text_made_to_be_slow_is_read_in_one_go(piece: str) -> None:
    find(piece * (100_000 // len(piece)))


@pytest.mark.timeout(60)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(ADVERSARIAL), min_size=2, max_size=4))
def test_so_is_any_mixture_of_such_pieces(pieces: list[str]) -> None:
    piece = "".join(pieces)
    find(piece * (50_000 // len(piece)))
